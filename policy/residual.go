package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"

	"datafordeler/broker"
)

// source is where a side of a comparison comes from.
type source uint8

const (
	constant     source = iota
	termText            // of the terms, by its stand-in's place
	termNumber          //
	factTime            // numbers of the facts
	granted             //
	delivered           //
	elemFrom            // of an element: a case, or a consent's interval
	elemTo              //
	withdrawn           //
	factKind            // texts of the facts
	attribute           //
	elemConsumer        // of a consent
	elemDataset         //
	elemPurpose         //
)

func (s source) element() bool {
	return s >= elemFrom && s <= withdrawn || s >= elemConsumer
}

// operand is one side of a comparison.
type operand struct {
	from   source
	isText bool
	number int64  // constant
	text   string // constant; an attribute's name, unless at ≥ 0
	at     int    // a stand-in's place, of a term or of an attribute's name; else -1
	elem   int    // which of the alternative's elements
	of     collection
}

// comparison compares two operands of one type as Rego does: numbers by value,
// texts by their bytes.
type comparison struct {
	op   op
	a, b operand
}

type op uint8

const (
	opEq op = iota
	opNe
	opLt
	opLe
	opGt
	opGe
)

var opNames = map[string]op{"eq": opEq, "equal": opEq, "neq": opNe, "lt": opLt, "lte": opLe, "gt": opGt, "gte": opGe}

// conjunction holds when all of its comparisons do, for some choice of elements.
type conjunction struct {
	all   []comparison
	elems []collection // of each element that the comparisons mention
}

type collection uint8

const (
	inCases collection = iota
	inConsents
)

// residue is what is left of one requirement: it is met when any alternative holds.
type residue struct {
	any []conjunction
}

// add takes an alternative, unless it is there already. Partial evaluation walks
// through one rule from many, and says the same each time.
func (r *residue) add(c conjunction) {
	slices.SortFunc(c.all, func(a, b comparison) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	c.all = slices.Compact(c.all)
	if !slices.ContainsFunc(r.any, func(have conjunction) bool {
		return slices.Equal(have.all, c.all) && slices.Equal(have.elems, c.elems)
	}) {
		r.any = append(r.any, c)
	}
}

// shape is what is left of a policy for all terms of one shape. It is read-only.
type shape struct {
	why     string    // why it cannot be compiled; "" where it can
	codes   []residue // by requirement
	holding []residue // by the place of a legal basis
}

// errOrdered: stand-ins do not do for these terms.
type errOrdered string

func (e errOrdered) Error() string { return "the policy orders texts or times of terms: " + string(e) }

// residues evaluates the policy partially. It fails when the context is done, and
// when stand-ins do not do; whatever else goes wrong is in shape.why.
func (e *Engine) residues(ctx context.Context, a *analysis, s *shaper, t *broker.Terms) (*shape, error) {
	input, err := s.input(t)
	if err != nil {
		return nil, err
	}
	txn, err := e.store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	defer e.store.Abort(ctx, txn)
	cancel := topdown.NewCancel()
	defer context.AfterFunc(ctx, cancel.Cancel)()
	p := partial{e: e, s: s, txn: txn, input: ast.NewTerm(input), cancel: cancel,
		values: topdown.NewVirtualCache()}
	if !s.exact {
		p.watch = &watch{s: s}
	}
	out := &shape{codes: make([]residue, len(a.codes)), holding: make([]residue, len(t.Bases))}
	for i, query := range a.queries {
		if query == nil {
			continue
		}
		bodies, why, err := p.run(ctx, query)
		if err != nil {
			return nil, err
		}
		for _, body := range bodies {
			if why != "" {
				break
			}
			var c conjunction
			if c, why = p.conjunction(body); why == "" {
				out.codes[i].add(c)
			}
		}
		if why != "" {
			return &shape{why: string(a.codes[i]) + ": " + why}, nil
		}
	}
	bodies, why, err := p.run(ctx, a.holding)
	if err != nil {
		return nil, err
	}
	for _, body := range bodies {
		if why != "" {
			break
		}
		place, rest := which(body)
		if place == nil {
			why = "which basis holds is not known: " + p.show(body)
			break
		}
		n, isNumber := place.Value.(ast.Number)
		at, whole := integer(n)
		if place.IsGround() && (!isNumber || whole && (at < 0 || at >= int64(len(t.Bases)))) {
			continue // the place of no basis: carrying does not look there
		}
		if !whole { // unknown, or a number written so that it may yet be a place: 1.0
			why = "which basis holds is not known: " + p.show(body)
			break
		}
		var c conjunction
		if c, why = p.conjunction(rest); why == "" {
			out.holding[at].add(c)
		}
	}
	if why != "" {
		return &shape{why: "legalbasis.holding: " + why}, nil
	}
	return out, nil
}

// partial is one evaluation of several queries with the same input.
type partial struct {
	e      *Engine
	s      *shaper
	txn    storage.Transaction
	input  *ast.Term
	cancel topdown.Cancel
	values topdown.VirtualCache // of rules that the terms settle
	watch  *watch
}

var factRefs = func() []*ast.Term {
	var all []*ast.Term
	for _, part := range factRoots {
		all = append(all, ast.NewTerm(ast.InputRootRef.Append(ast.StringTerm(part))))
	}
	return all
}()

// run gives the alternatives that are left of a query, or why there are others
// things left as well.
func (p *partial) run(ctx context.Context, query ast.Body) (bodies []ast.Body, why string, err error) {
	q := topdown.NewQuery(query).
		WithCompiler(p.e.compiler).
		WithStore(p.e.store).
		WithTransaction(p.txn).
		WithInput(p.input).
		WithUnknowns(factRefs).
		WithCancel(p.cancel).
		WithSeed(zeros{}).
		WithIndexing(true).
		WithEarlyExit(true).
		WithStrictBuiltinErrors(true).
		WithVirtualCache(p.values)
	if p.watch != nil {
		q = q.WithQueryTracer(p.watch)
	}
	bodies, support, err := q.PartialRun(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, "", ctx.Err()
	case p.watch != nil && p.watch.ordered != "":
		return nil, "", errOrdered(p.watch.ordered)
	case err != nil:
		return nil, "partial evaluation failed: " + err.Error(), nil
	case len(support) > 0:
		return nil, "rules are left over: " + oneLine(support[0].Rules[0].String()), nil
	}
	return bodies, "", nil
}

// which takes i = <place> out of what is left of holding[i].
func which(body ast.Body) (place *ast.Term, rest ast.Body) {
	for _, x := range body {
		if x.IsCall() && !x.Negated && len(x.With) == 0 && len(x.Operands()) == 2 && x.Operator().Equal(ast.Equality.Ref()) {
			a, b := x.Operand(0), x.Operand(1)
			if b.Value.Compare(holdingVar) == 0 {
				a, b = b, a
			}
			if a.Value.Compare(holdingVar) == 0 {
				if place != nil {
					return nil, nil
				}
				place = b
				continue
			}
		}
		rest = append(rest, x)
	}
	return place, rest
}

// conjunction reads comparisons, or says which is none that it knows.
func (p *partial) conjunction(body ast.Body) (conjunction, string) {
	var c conjunction
	elems := map[ast.Var]int{}
	for _, x := range body {
		if x.Negated || len(x.With) > 0 || !x.IsCall() || len(x.Operands()) != 2 {
			return c, "not a comparison: " + p.show(x)
		}
		op, ok := opNames[x.Operator().String()]
		if !ok {
			return c, "not a comparison: " + p.show(x)
		}
		a, okA := p.operand(x.Operand(0), &c, elems)
		b, okB := p.operand(x.Operand(1), &c, elems)
		switch {
		case !okA || !okB:
			return c, "neither a constant nor a known part of the input: " + p.show(x)
		case a.isText != b.isText:
			return c, "compares a number with a text: " + p.show(x)
		case !a.fact() && !b.fact():
			return c, "compares constants: " + p.show(x)
		case a.from.element() && b.from.element() && a.elem != b.elem:
			return c, "compares elements with one another: " + p.show(x)
		}
		c.all = append(c.all, comparison{op, a, b})
	}
	return c, ""
}

func (o *operand) fact() bool { return o.from > termNumber }

var factNumbers = map[string]source{
	"time": factTime, "usage.granted": granted, "usage.delivered": delivered,
	"cases.from": elemFrom, "cases.to": elemTo,
	"consents.valid.from": elemFrom, "consents.valid.to": elemTo, "consents.withdrawn": withdrawn,
}

var factTexts = map[string]source{
	"record.kind":       factKind,
	"consents.consumer": elemConsumer, "consents.dataset": elemDataset, "consents.purpose": elemPurpose,
}

func (p *partial) operand(t *ast.Term, c *conjunction, elems map[ast.Var]int) (operand, bool) {
	switch v := t.Value.(type) {
	case ast.String:
		if at := p.s.textOf(string(v)); at >= 0 {
			return operand{from: termText, isText: true, at: at}, true
		}
		return operand{isText: true, text: string(v), at: -1}, true
	case ast.Number:
		n, ok := integer(v)
		if !ok {
			return operand{}, false
		}
		if at := p.s.numberOf(n); at >= 0 {
			return operand{from: termNumber, at: at}, true
		}
		return operand{number: n, at: -1}, true
	case ast.Ref:
		return p.fact(v, c, elems)
	}
	return operand{}, false
}

// fact reads input.time, input.record.attributes.x, input.consents[i].valid.from.
func (p *partial) fact(ref ast.Ref, c *conjunction, elems map[ast.Var]int) (operand, bool) {
	if len(ref) < 2 || !ref.HasPrefix(ast.InputRootRef) {
		return operand{}, false
	}
	o := operand{at: -1}
	if len(ref) == 4 && ref[:3].Equal(attributesRef) {
		name, ok := ref[3].Value.(ast.String)
		o.from, o.isText, o.text, o.at = attribute, true, string(name), p.s.textOf(string(name))
		return o, ok
	}
	var path []string
	for i, part := range ref[1:] {
		switch v := part.Value.(type) {
		case ast.String:
			path = append(path, string(v))
		case ast.Var:
			if i != 1 {
				return o, false
			}
			of := inCases
			if path[0] == "consents" {
				of = inConsents
			} else if path[0] != "cases" {
				return o, false
			}
			if v == holdingVar { // a place in the list is also that of a legal basis
				return o, false
			}
			at, ok := elems[v]
			if !ok {
				at = len(c.elems)
				elems[v], c.elems = at, append(c.elems, of)
			}
			if c.elems[at] != of { // one place in both lists
				return o, false
			}
			o.elem, o.of = at, of
		default:
			return o, false
		}
	}
	name := strings.Join(path, ".")
	listed := len(path) != len(ref)-1
	if listed != (path[0] == "cases" || path[0] == "consents") {
		return o, false
	}
	if from, ok := factNumbers[name]; ok {
		o.from = from
		return o, true
	}
	if from, ok := factTexts[name]; ok {
		o.from, o.isText = from, true
		return o, true
	}
	return o, false
}

var attributesRef = ast.MustParseRef("input.record.attributes")

func (p *partial) show(x fmt.Stringer) string { return oneLine(x.String()) }

// oneLine keeps a piece of Rego short enough to read.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}
