package policy

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"datafordeler/broker"
)

// analysis is what a compiler of residuals must know of a policy before it looks
// at any terms: whether an answer is no more than which requirements are cleared
// and which legal bases hold, and what of the terms can make a difference.
type analysis struct {
	why     string          // why no subscription can be compiled; "" where they can
	codes   []broker.Reason // in order of precedence: bit i of a mask is codes[i]
	queries []ast.Body      // of each code; nil where nothing can clear it
	chains  [][]uint64      // chain, step: its codes, as a mask
	all     uint64          // every code
	holding ast.Body        // asks which bases hold, by their place i

	// Terms that differ only in texts and times that the policy can do no more
	// with than compare have one shape (see shape.go).
	exact    bool                // the policy does more: no two terms are alike
	reserved map[string]struct{} // texts that have a meaning of their own
	least    int64               // of the numbers in the policy's text,
	greatest int64               // with 0
	unread   map[string]struct{} // "agreement.framework": parts that no rule mentions
}

// maxRequirements is how many bits a mask has.
const maxRequirements = 64

// The parts of the input that a record and its time bring.
var factRoots = []string{"time", "record", "cases", "consents", "usage"}

var (
	holdingRef = ast.MustParseRef("data.sharing.legalbasis.holding")
	holdingVar = ast.Var("i")
	frameParts = []string{"responsibility", "legalbasis", "costs"} // whose cleared counts
)

// frame is the part of the policy that a compiled form stands in for: the whole of
// package sharing but its chains, and the two lists of legal bases that it names.
// It is read from the embedded policy, so the two cannot differ.
var frame = sync.OnceValue(func() []*ast.Module {
	modules, _, err := check(Embedded().Modules)
	if err != nil {
		panic(err) // the files are in the binary, and a test compiles them
	}
	var all []*ast.Module
	for _, m := range modules {
		all = append(all, m)
	}
	return all
})

// analyse looks at the policy as parsed and as compiled.
func (e *Engine) analyse() *analysis {
	a := &analysis{}
	if a.why = e.strange(); a.why != "" {
		return a
	}
	var roots []*ast.Rule
	for _, info := range e.reasons[len(brokerReasons):] {
		a.codes = append(a.codes, info.Code)
		ref := e.rules[info.Code]
		part, _ := ref[2].Value.(ast.String)
		if !slices.Contains(frameParts, string(part)) { // sharing.cleared does not ask there
			a.queries = append(a.queries, nil)
			continue
		}
		a.queries = append(a.queries, ast.NewBody(ast.NewExpr(ast.NewTerm(ref))))
		roots = append(roots, e.compiler.GetRules(ref)...)
	}
	if len(a.codes) > maxRequirements {
		a.why = fmt.Sprintf("%d requirements; the compiler takes %d", len(a.codes), maxRequirements)
		return a
	}
	for _, chain := range e.chains {
		steps := make([]uint64, len(chain))
		for i, step := range chain {
			for _, code := range step {
				steps[i] |= 1 << slices.Index(a.codes, code)
			}
			a.all |= steps[i]
		}
		a.chains = append(a.chains, steps)
	}
	a.holding = ast.NewBody(ast.NewExpr(ast.NewTerm(holdingRef.Append(ast.NewTerm(holdingVar)))))
	roots = append(roots, e.compiler.GetRules(holdingRef)...)
	reached := e.reach(roots)
	if a.why = conflicting(reached, e.tainted(reached)); a.why != "" {
		return a
	}
	a.look(reached)
	return a
}

// strange says what of the frame is not as this package knows it.
func (e *Engine) strange() string {
	known, given := inPackage(frame(), "data.sharing"), inPackage(e.parsed, "data.sharing")
	if len(given) != 1 {
		return "package sharing is not in one file"
	}
	const own = "package sharing is not the one that the compiler stands in for"
	if !slices.EqualFunc(known[0].Imports, given[0].Imports, (*ast.Import).Equal) {
		return own + ": its imports differ"
	}
	const chains = "chains"
	isChains := func(r *ast.Rule) bool { return r.Head.Ref().String() == chains }
	others := func(m *ast.Module) []*ast.Rule { return slices.DeleteFunc(slices.Clone(m.Rules), isChains) }
	if !slices.EqualFunc(others(known[0]), others(given[0]), sameRule) {
		return own + ": rules other than chains differ"
	}
	lists := slices.DeleteFunc(slices.Clone(given[0].Rules), func(r *ast.Rule) bool { return !isChains(r) })
	if len(lists) != 1 || !literal(lists[0]) {
		return "sharing.chains is not one literal"
	}
	for _, name := range []string{"carrying", "cited"} {
		want, have := named(frame(), name), named(e.parsed, name)
		if len(have) != 1 || !sameRule(want[0], have[0]) {
			return "legalbasis." + name + " is not the list that the compiler stands in for"
		}
		if slices.ContainsFunc(have[0].Module.Imports, func(i *ast.Import) bool {
			return slices.Contains([]ast.Var{"input", "data", "basis", "i", "holding"}, i.Name())
		}) {
			return "legalbasis." + name + " stands below an import that changes what its words mean"
		}
	}
	holding := e.compiler.GetRules(holdingRef)
	if len(holding) == 0 || slices.ContainsFunc(holding, func(r *ast.Rule) bool {
		return r.Head.RuleKind() != ast.MultiValue || !r.Ref().GroundPrefix().Equal(holdingRef)
	}) {
		return "legalbasis.holding is not a set"
	}
	return ""
}

// sameRule compares all but the words about a rule.
func sameRule(a, b *ast.Rule) bool {
	return a.Default == b.Default && a.Head.Equal(b.Head) && a.Body.Equal(b.Body) && a.Else.Equal(b.Else)
}

func inPackage(modules []*ast.Module, path string) []*ast.Module {
	return slices.DeleteFunc(slices.Clone(modules), func(m *ast.Module) bool { return m.Package.Path.String() != path })
}

func named(modules []*ast.Module, name string) []*ast.Rule {
	var all []*ast.Rule
	for _, m := range inPackage(modules, "data.sharing.legalbasis") {
		for _, r := range m.Rules {
			if r.Head.Ref().String() == name {
				all = append(all, r)
			}
		}
	}
	return all
}

// literal: a value without conditions.
func literal(r *ast.Rule) bool {
	return !r.Default && r.Else == nil && len(r.Head.Args) == 0 && r.Head.RuleKind() == ast.SingleValue &&
		r.Head.Value != nil && ast.IsConstant(r.Head.Value.Value) &&
		(len(r.Body) == 0 || r.Body.Equal(ast.NewBody(ast.NewExpr(ast.BooleanTerm(true)))))
}

// reach finds all rules that the given ones stand on, themselves among them.
func (e *Engine) reach(roots []*ast.Rule) map[*ast.Rule]bool {
	seen := map[*ast.Rule]bool{}
	for todo := roots; len(todo) > 0; {
		r := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[r] {
			continue
		}
		seen[r] = true
		if r.Else != nil {
			todo = append(todo, r.Else)
		}
		for d := range e.compiler.Graph.Dependencies(r) {
			if d, ok := d.(*ast.Rule); ok {
				todo = append(todo, d)
			}
		}
	}
	return seen
}

// tainted are the rules whose value may depend on the record: those that mention a
// fact, or that stand on one that does; and every function, which may be handed one.
func (e *Engine) tainted(rules map[*ast.Rule]bool) map[*ast.Rule]bool {
	out := map[*ast.Rule]bool{}
	for r := range rules {
		if len(r.Head.Args) > 0 {
			out[r] = true
			continue
		}
		inputs(r, func(ref ast.Ref) {
			if len(ref) == 1 || mayBeFact(ref[1]) {
				out[r] = true
			}
		})
	}
	for grown := true; grown; {
		grown = false
		for r := range rules {
			if out[r] {
				continue
			}
			if r.Else != nil && out[r.Else] {
				out[r], grown = true, true
			}
			for d := range e.compiler.Graph.Dependencies(r) {
				if d, ok := d.(*ast.Rule); ok && out[d] {
					out[r], grown = true, true
				}
			}
		}
	}
	return out
}

// inputs calls f with each mention of the input; one of its name alone has length 1.
func inputs(x any, f func(ast.Ref)) {
	ast.WalkTerms(x, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Var:
			if v.Equal(ast.InputRootDocument.Value) {
				f(ast.InputRootRef)
			}
		case ast.Ref:
			if v.HasPrefix(ast.InputRootRef) {
				f(v)
			}
			for _, part := range v[1:] {
				inputs(part, f)
			}
			return true
		}
		return false
	})
}

func mayBeFact(t *ast.Term) bool {
	s, ok := t.Value.(ast.String)
	return !ok || slices.Contains(factRoots, string(s))
}

// conflicting names a rule that could have two values at once for some record.
// Evaluation then fails, and the answer is a denial; partial evaluation does not
// see it. So what depends on the record has one value, whichever clause gives it.
func conflicting(rules, tainted map[*ast.Rule]bool) string {
	var faults []string
	byPath := map[string][]*ast.Rule{} // clauses of one rule; of p[x] := y, all below p
	for r := range rules {
		ast.WalkWiths(r, func(*ast.With) bool {
			faults = append(faults, "a rule replaces what another sees (with): "+r.Ref().String())
			return true
		})
		if r.Head.RuleKind() == ast.MultiValue {
			continue
		}
		path := r.Ref().GroundPrefix()
		byPath[path.String()] = append(byPath[path.String()], r)
		if r.Ref().IsGround() {
			continue
		}
		for other := range rules {
			if other != r && other.Ref().HasPrefix(path) {
				byPath[path.String()] = append(byPath[path.String()], other)
			}
		}
	}
	for path, clauses := range byPath {
		if !slices.ContainsFunc(clauses, func(r *ast.Rule) bool { return tainted[r] }) {
			continue
		}
		for _, r := range clauses {
			v := r.Head.Value
			if r.Default || r.Else != nil || v == nil || !ast.IsConstant(v.Value) || !v.Equal(clauses[0].Head.Value) || !r.Ref().IsGround() {
				faults = append(faults, "a rule that may depend on the record may have more than one value: "+path)
			}
		}
	}
	slices.Sort(faults)
	if len(faults) == 0 {
		return ""
	}
	return faults[0]
}

// Built-ins that can do no more with texts and times than tell equal from unequal.
// The four that order are watched: see watch.
var compareOnly = map[string]bool{
	"eq": true, "equal": true, "assign": true, "neq": true, "lt": true, "lte": true, "gt": true, "gte": true,
	"internal.member_2": true, "internal.member_3": true, "count": true, "and": true, "or": true, "union": true,
	"intersection": true, "array.concat": true, "array.slice": true, "object.get": true, "object.keys": true,
	"object.union": true, "object.union_n": true,
}

// look finds what of the terms can make a difference to rules.
func (a *analysis) look(rules map[*ast.Rule]bool) {
	a.reserved = map[string]struct{}{"": {}}
	read := map[string]bool{} // "agreement", "agreement.status"
	whole := false            // some rule may read any part
	for r := range rules {
		for _, t := range append(r.Ref(), r.Module.Package.Path...) {
			if s, ok := t.Value.(ast.String); ok {
				a.reserved[string(s)] = struct{}{}
			}
		}
		ast.WalkTerms(r, func(t *ast.Term) bool {
			switch v := t.Value.(type) {
			case ast.String:
				a.reserved[string(v)] = struct{}{}
			case ast.Number:
				n, ok := integer(v)
				a.exact = a.exact || !ok
				a.least, a.greatest = min(a.least, n), max(a.greatest, n)
			case *ast.ArrayComprehension: // may list a set, and sets are in order of their texts
				a.exact = true
			}
			return false
		})
		inputs(r, func(ref ast.Ref) {
			if len(ref) == 1 || !isText(ref[1]) {
				whole = true
				return
			}
			part := string(ref[1].Value.(ast.String))
			if len(ref) > 2 && isText(ref[2]) {
				part += "." + string(ref[2].Value.(ast.String))
			}
			read[part] = true
		})
		ast.WalkExprs(r, func(x *ast.Expr) bool {
			if x.IsCall() {
				op := x.Operator()
				a.exact = a.exact || !op.HasPrefix(ast.DefaultRootRef) && !compareOnly[op.String()]
			}
			return false
		})
	}
	a.exact = a.exact || a.least < -bigNumber || a.greatest > bigNumber
	for s := range a.reserved {
		a.exact = a.exact || strings.HasPrefix(s, placeholder)
	}
	// The names of the input's parts: rules may list them, or look one up.
	names := static(&broker.Terms{
		Dataset: &broker.Dataset{}, Package: &broker.RightsPackage{},
		Bases: []broker.LegalBasis{{About: &broker.AboutBound{}}}, Delegations: []broker.Delegation{{}},
	})
	a.reserve(names)
	a.unread = map[string]struct{}{}
	for part, v := range names {
		object, _ := v.(map[string]any) // bases and delegations are lists: read through variables
		for key := range object {
			if !whole && !read[part] && !read[part+"."+key] {
				a.unread[part+"."+key] = struct{}{}
			}
		}
	}
}

// reserve keeps the names of a value's parts.
func (a *analysis) reserve(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			a.reserved[k] = struct{}{}
			a.reserve(v[k])
		}
	case []any:
		for i := range v {
			a.reserve(v[i])
		}
	}
}

func isText(t *ast.Term) bool {
	_, ok := t.Value.(ast.String)
	return ok
}

// integer is a number that an int64 holds, written as an int64 is.
func integer(n ast.Number) (int64, bool) {
	i, ok := n.Int64()
	if !ok || string(n) != fmt.Sprint(i) {
		return 0, false
	}
	return i, true
}

const (
	// bigNumber: greater ones than this are neither counts nor places in a list.
	bigNumber = int64(1) << 30
	// Stand-ins for numbers begin here: beyond every time, and where a float64 still
	// tells one from the next.
	standIns = int64(1) << 52
	// placeholder begins the stand-in of a text.
	placeholder = "⟦"
)
