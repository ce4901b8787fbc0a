package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"datafordeler/broker"
)

// Query is the one thing that is asked of a policy.
const Query = "data.sharing.decision"

// Engine is a compiled policy. It does not change and is safe for any number of
// goroutines; a new policy is a new engine.
type Engine struct {
	digest   string
	compiler *ast.Compiler
	query    rego.PreparedEvalQuery
	reasons  []ReasonInfo
	byCode   map[broker.Reason]int     // index in reasons
	told     map[broker.Reason]bool    // sharing.told_despite
	chains   [][][]broker.Reason       // sharing.chains: chain, step, code
	rules    map[broker.Reason]ast.Ref // of each requirement
	store    storage.Store             // empty
	parsed   []*ast.Module             // as written

	analysis func() *analysis // made when first asked for
	shapes   shapes
	programs programs
	answers  answers
}

// Compile makes an engine of a policy, or says what is wrong with it: Rego that
// does not parse, what strict mode refuses, a built-in outside capabilities.json,
// a reference that the input cannot have, no sharing.decision, or a requirement
// without its metadata.
func Compile(b Bundle) (*Engine, error) {
	e := &Engine{
		digest: b.Digest(),
		store:  inmem.NewFromObjectWithOpts(map[string]any{}, inmem.OptReturnASTValuesOnRead(true)),
	}
	e.analysis = sync.OnceValue(e.analyse)
	modules, compiler, err := check(b.Modules)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		e.parsed = append(e.parsed, modules[path])
	}
	if compiler.Compile(modules); compiler.Failed() {
		return nil, fmt.Errorf("policy: %w", compiler.Errors)
	}
	e.compiler = compiler
	if len(compiler.GetRulesExact(ast.MustParseRef(Query))) == 0 {
		return nil, fmt.Errorf("policy: no rule decision in package sharing; it is what the broker asks (%s)", Query)
	}
	if e.query, err = e.prepare(Query); err != nil {
		return nil, fmt.Errorf("policy: prepare %s: %w", Query, err)
	}
	if err := e.readReasons(); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return e, nil
}

func (e *Engine) prepare(query string) (rego.PreparedEvalQuery, error) {
	return rego.New(
		rego.Query(query),
		rego.Compiler(e.compiler),
		rego.Store(e.store),
		rego.StrictBuiltinErrors(true),
		// The answer is read as OPA's own terms: a conversion to maps costs more
		// than reading it.
		rego.GenerateJSON(func(t *ast.Term, _ *rego.EvalContext) (any, error) { return t.Value, nil }),
	).PrepareForEval(context.Background())
}

// Digest names the policy: see Bundle.Digest.
func (e *Engine) Digest() string { return e.digest }

// Prepared is a policy applied to one subscription's terms. It is safe for any
// number of goroutines. Its answers do not change; only how fast they come does,
// when it is compiled.
type Prepared struct {
	// What every record asks for is side by side: records come for one subscription
	// after another, each of whose memory has long left the processor's caches.
	compiled   atomic.Pointer[compiled]
	engine     *Engine
	attributes int // that the dataset declares

	terms   *broker.Terms
	ceiling bool
	static  func() (*staticInput, error) // made when first asked for
	mu      sync.Mutex                   // held while compiling
}

// staticInput is what of the input the terms determine, as OPA's own terms.
type staticInput struct {
	pairs      [][2]*ast.Term
	attributes []*ast.Term // names, in the order of Dataset.Attributes
}

// Prepare applies the policy to terms, once for many records. The terms must not
// change afterwards. It fails when they lack their dataset or rights package.
func (e *Engine) Prepare(t *broker.Terms) (*Prepared, error) {
	if err := checkTerms(t); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	// A policy from before there were freezes would permit: it is not asked.
	if _, ok := e.byCode["frozen"]; t.Frozen && !ok {
		return nil, errors.New("policy: what the subscription gets is frozen, and the active policy has no such requirement: activate one that has cleared.frozen")
	}
	p := &Prepared{engine: e, terms: t, attributes: len(t.Dataset.Attributes), ceiling: hasCeiling(t)}
	p.static = sync.OnceValues(p.readStatic)
	return p, nil
}

func (p *Prepared) readStatic() (*staticInput, error) {
	out := &staticInput{}
	in := static(p.terms)
	for _, k := range slices.Sorted(maps.Keys(in)) {
		v, err := ast.InterfaceToValue(in[k])
		if err != nil {
			return nil, fmt.Errorf("input.%s: %w", k, err)
		}
		out.pairs = append(out.pairs, [2]*ast.Term{ast.StringTerm(k), ast.NewTerm(v)})
	}
	for i := range p.terms.Dataset.Attributes {
		out.attributes = append(out.attributes, ast.StringTerm(p.terms.Dataset.Attributes[i].Name))
	}
	return out, nil
}

// Terms are those that p was prepared with.
func (p *Prepared) Terms() *broker.Terms { return p.terms }

// Decide answers for one record, by the compiled form where there is one. Equal
// outcomes are one pointer, as far as that is feasible; do not change them.
//
// m may be nil; with it, an input seen before in the same transaction is not
// evaluated in full again. A compiled form has no use for it.
//
// Any error means that there is no answer, and the caller denies: facts that do
// not fit the terms, a context that is done (a compiled form does not look at it),
// an evaluation that fails, an answer that is undefined or not of the agreed form.
func (p *Prepared) Decide(ctx context.Context, f *broker.Facts, m *Memo) (*broker.Outcome, error) {
	if err := p.checkFacts(f); err != nil {
		return nil, p.wrap(err)
	}
	if c := p.compiled.Load(); c != nil && c.program != nil {
		o, err := c.program.decide(f, &p.engine.answers)
		if err != nil {
			return nil, p.wrap(err)
		}
		return o, nil
	}
	if m != nil {
		if o := m.get(p, f); o != nil {
			return o, nil
		}
	}
	o, err := p.full(ctx, f)
	if err != nil {
		return nil, p.wrap(err)
	}
	if m != nil {
		m.put(o)
	}
	return o, nil
}

// DecideFull answers as Decide does, always by full evaluation: the reference that
// a compiled form is held to. Its errors are Decide's.
func (p *Prepared) DecideFull(ctx context.Context, f *broker.Facts) (*broker.Outcome, error) {
	if err := p.checkFacts(f); err != nil {
		return nil, p.wrap(err)
	}
	o, err := p.full(ctx, f)
	if err != nil {
		return nil, p.wrap(err)
	}
	return o, nil
}

// full evaluates the policy. The facts are such as checkFacts accepts.
func (p *Prepared) full(ctx context.Context, f *broker.Facts) (*broker.Outcome, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	input, err := p.value(f)
	if err != nil {
		return nil, err
	}
	// A cancel of our own saves the goroutine that OPA would start in each call to
	// watch the context.
	cancel := topdown.NewCancel()
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, cancel.Cancel)()
	}
	rs, err := p.engine.query.Eval(ctx,
		rego.EvalParsedInput(input),
		rego.EvalTime(f.Time),
		rego.EvalSeed(zeros{}),
		rego.EvalExternalCancel(cancel),
	)
	if err != nil {
		return nil, err
	}
	o, err := p.outcome(rs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Query, err)
	}
	return p.engine.answers.same(o), nil
}

func (p *Prepared) wrap(err error) error {
	return fmt.Errorf("policy: subscription %s: %w", p.terms.Subscription.ID, err)
}

// zeros is a seed without chance.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

var (
	kAllow, kReasons, kBases = key("allow"), key("reasons"), key("bases")

	errUndefined = errors.New("undefined; the policy gave no answer")
)

// outcome reads an answer and holds it to its form: a permit names its bases and
// no reasons; a denial names its reasons, in order of precedence.
func (p *Prepared) outcome(rs rego.ResultSet) (*broker.Outcome, error) {
	if len(rs) == 0 {
		return nil, errUndefined
	}
	if len(rs) != 1 || len(rs[0].Expressions) != 1 {
		return nil, errors.New("several answers")
	}
	obj, ok := rs[0].Expressions[0].Value.(ast.Object)
	if !ok || obj.Len() != 3 {
		return nil, errors.New("want an object of exactly allow, reasons and bases")
	}
	allow, ok := valueAt[ast.Boolean](obj, kAllow)
	if !ok {
		return nil, errors.New("allow is not true or false")
	}
	reasons, ok := valueAt[*ast.Array](obj, kReasons)
	if !ok {
		return nil, errors.New("reasons is not an array")
	}
	bases, ok := valueAt[*ast.Array](obj, kBases)
	if !ok {
		return nil, errors.New("bases is not an array")
	}
	o := &broker.Outcome{Permit: bool(allow)}
	last := -1
	for i := range reasons.Len() {
		code, _ := reasons.Elem(i).Value.(ast.String)
		at, ok := p.engine.byCode[broker.Reason(code)]
		if !ok || at < len(brokerReasons) {
			return nil, fmt.Errorf("reason %v is no code of this policy", reasons.Elem(i))
		}
		if at <= last {
			return nil, fmt.Errorf("reason %s is repeated or out of the order of precedence", code)
		}
		last = at
		o.Reasons = append(o.Reasons, p.engine.reasons[at].Code)
	}
	for i := range bases.Len() {
		id, _ := bases.Elem(i).Value.(ast.String)
		at := slices.IndexFunc(p.terms.Bases, func(b broker.LegalBasis) bool { return string(b.ID) == string(id) })
		if at < 0 {
			return nil, fmt.Errorf("basis %v is not among the agreement's", bases.Elem(i))
		}
		o.Bases = append(o.Bases, p.terms.Bases[at].ID)
	}
	switch {
	case o.Permit && len(o.Reasons) > 0:
		return nil, errors.New("a permit with reasons for denial")
	case o.Permit && len(o.Bases) == 0:
		return nil, errors.New("a permit without a legal basis")
	case !o.Permit && len(o.Reasons) == 0:
		return nil, errors.New("a denial without a reason")
	}
	return o, nil
}

func valueAt[T ast.Value](obj ast.Object, k *ast.Term) (T, bool) {
	if t := obj.Get(k); t != nil {
		v, ok := t.Value.(T)
		return v, ok
	}
	var zero T
	return zero, false
}
