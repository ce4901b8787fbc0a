package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/util"
)

// check parses modules and makes the compiler that holds them to what
// `opa check --strict` does with our capabilities and our schema of the input.
func check(modules map[string]string) (map[string]*ast.Module, *ast.Compiler, error) {
	return checkAgainst(modules, inputSchemaJSON)
}

// checkAgainst is check with another schema of the input.
func checkAgainst(modules map[string]string, inputSchema []byte) (map[string]*ast.Module, *ast.Compiler, error) {
	caps, err := ast.LoadCapabilitiesJSON(bytes.NewReader(capabilitiesJSON))
	if err != nil {
		return nil, nil, fmt.Errorf("capabilities.json: %w", err)
	}
	var schema any
	if err := util.UnmarshalJSON(inputSchema, &schema); err != nil {
		return nil, nil, fmt.Errorf("the schema of the input: %w", err)
	}
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, schema)
	parsed := make(map[string]*ast.Module, len(modules))
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		m, err := ast.ParseModuleWithOpts(path, modules[path], ast.ParserOptions{
			ProcessAnnotation: true,
			RegoVersion:       ast.RegoV1,
			Capabilities:      caps,
		})
		if err != nil {
			return nil, nil, err
		}
		parsed[path] = m
	}
	return parsed, ast.NewCompiler().
		WithCapabilities(caps).
		WithDefaultRegoVersion(ast.RegoV1).
		WithStrict(true).
		WithEnablePrintStatements(true). // else they vanish unseen; so they are refused
		WithSchemas(schemas).
		WithUseTypeCheckAnnotations(true), nil
}

// TestReport is what a policy's own tests said.
type TestReport struct {
	Passed   int      `json:"passed"`
	Failed   []string `json:"failed"`   // file:line: name, with the error if it was one
	Coverage float64  `json:"coverage"` // per cent of the lines of Modules, 0 to 100
	// Uncovered are the places in Modules, file:line, that no test reached.
	Uncovered []string `json:"uncovered"`
}

// OK reports whether there were tests, all passed, and they reached every line.
func (r *TestReport) OK() bool {
	return r.Passed > 0 && len(r.Failed) == 0 && len(r.Uncovered) == 0
}

// Test runs the policy's own tests as `opa test --coverage` does, under the same
// capabilities and schema as the policy. A failing test is in the report; the
// error says that the tests could not be run.
func (b Bundle) Test(ctx context.Context) (*TestReport, error) {
	return b.testAgainst(ctx, inputSchemaJSON)
}

func (b Bundle) testAgainst(ctx context.Context, inputSchema []byte) (*TestReport, error) {
	all := maps.Clone(b.Modules)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b.TestModules)
	modules, compiler, err := checkAgainst(all, inputSchema)
	if err != nil {
		return nil, fmt.Errorf("policy tests: %w", err)
	}
	coverage := cover.New()
	results, err := tester.NewRunner().
		SetCompiler(compiler).
		RaiseBuiltinErrors(true).
		SetCoverageQueryTracer(coverage).
		Run(ctx, modules)
	if err != nil {
		return nil, fmt.Errorf("policy tests: %w", err)
	}
	report := &TestReport{}
	for r := range results {
		switch {
		case r == nil:
		case r.Pass():
			report.Passed++
		case r.Error != nil:
			report.Failed = append(report.Failed, fmt.Sprintf("%s: %s: %v", r.Location, r.Name, r.Error))
		default:
			report.Failed = append(report.Failed, fmt.Sprintf("%s: %s", r.Location, r.Name))
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("policy tests: %w", err)
	}
	lines, missed := 0, 0
	files := coverage.Report(modules).Files
	for _, path := range slices.Sorted(maps.Keys(b.Modules)) {
		f := files[path]
		if f == nil {
			return nil, errors.New("policy tests: no coverage of " + path)
		}
		lines += f.CoveredLines + f.NotCoveredLines
		missed += f.NotCoveredLines
		row := 0
		for _, r := range f.NotCovered {
			if r.Start.Row != row {
				row = r.Start.Row
				report.Uncovered = append(report.Uncovered, fmt.Sprintf("%s:%d", path, row))
			}
		}
	}
	if lines > 0 {
		report.Coverage = 100 * float64(lines-missed) / float64(lines)
	}
	slices.Sort(report.Failed)
	return report, nil
}
