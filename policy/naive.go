package policy

import (
	"context"
	"fmt"

	"github.com/open-policy-agent/opa/v1/rego"
)

// Generic asks a policy the way OPA's documentation shows: a prepared query, and
// for each decision an input of maps that OPA converts, and an answer converted
// back. The broker does not use it; it is what the benchmark compares with.
type Generic struct{ query rego.PreparedEvalQuery }

// Generic prepares the engine's query for [Generic.Eval].
func (e *Engine) Generic(ctx context.Context) (*Generic, error) {
	q, err := rego.New(rego.Query(Query), rego.Compiler(e.compiler)).PrepareForEval(ctx)
	if err != nil {
		return nil, fmt.Errorf("policy: prepare %s: %w", Query, err)
	}
	return &Generic{q}, nil
}

// Eval answers for an input such as [Input] makes: an object of allow, reasons
// and bases.
func (g *Generic) Eval(ctx context.Context, input map[string]any) (map[string]any, error) {
	rs, err := g.query.Eval(ctx, rego.EvalInput(input))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if len(rs) != 1 || len(rs[0].Expressions) != 1 {
		return nil, fmt.Errorf("policy: %s: %w", Query, errUndefined)
	}
	answer, ok := rs[0].Expressions[0].Value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("policy: %s is not an object", Query)
	}
	return answer, nil
}
