package policy

import (
	"context"
	"crypto/sha256"
	"embed"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/version"
)

//go:embed access
var embeddedAccess embed.FS

//go:embed schemas/access.json
var accessSchemaJSON []byte

// AccessQuery is the one thing that is asked of the access policy.
const AccessQuery = "data.access.permit"

// AccessBundle is the access policy: who may knock at which door. It is built into
// the program, is not activated, and is no part of the policy that decides on
// records, nor of its digest.
func AccessBundle() Bundle {
	b, err := FromFS(embeddedAccess)
	if err != nil {
		panic(err) // the files are in the binary, and a test compiles them
	}
	return b
}

// AccessChecker answers by the access policy. Any number of goroutines may ask.
type AccessChecker struct {
	digest string
	query  rego.PreparedEvalQuery
}

// NewAccessChecker compiles the access policy.
func NewAccessChecker() (*AccessChecker, error) {
	b := AccessBundle()
	modules, compiler, err := checkAgainst(b.Modules, accessSchemaJSON)
	if err != nil {
		return nil, fmt.Errorf("access policy: %w", err)
	}
	if compiler.Compile(modules); compiler.Failed() {
		return nil, fmt.Errorf("access policy: %w", compiler.Errors)
	}
	query, err := rego.New(rego.Query(AccessQuery), rego.Compiler(compiler), rego.StrictBuiltinErrors(true)).PrepareForEval(context.Background())
	if err != nil {
		return nil, fmt.Errorf("access policy: %w", err)
	}
	return &AccessChecker{digest: accessDigest(b), query: query}, nil
}

// accessDigest is "sha256:<hex>" over all that an answer depends on beside the input.
func accessDigest(b Bundle) string {
	h := sha256.New()
	part := func(name, text string) {
		fmt.Fprintf(h, "%d %d\n", len(name), len(text))
		io.WriteString(h, name)
		io.WriteString(h, text)
	}
	part("opa", version.Version)
	part("capabilities", string(capabilitiesJSON))
	part("input", string(accessSchemaJSON))
	for _, path := range slices.Sorted(maps.Keys(b.Modules)) {
		part("module "+path, b.Modules[path])
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// Digest names the policy that answers.
func (c *AccessChecker) Digest() string { return c.digest }

// Permits answers for one request. Its input is as schemas/access.json has it. An
// error is no answer: the caller refuses.
func (c *AccessChecker) Permits(input map[string]any) (bool, error) {
	value, err := ast.InterfaceToValue(input)
	if err != nil {
		return false, err
	}
	rs, err := c.query.Eval(context.Background(), rego.EvalParsedInput(value), rego.EvalTime(time.Unix(0, 0)), rego.EvalSeed(zeros{}))
	if err != nil {
		return false, err
	}
	if len(rs) != 1 || len(rs[0].Expressions) != 1 {
		return false, errUndefined
	}
	permit, ok := rs[0].Expressions[0].Value.(bool)
	if !ok {
		return false, errors.New(AccessQuery + " is not true or false")
	}
	return permit, nil
}
