package policy

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"datafordeler/broker"
	"datafordeler/policy/cases"
)

// Policies that nobody would write, and some that somebody might: rules added to
// requirements, taken apart and turned round. Whatever compiles is answered as by
// full evaluation; the rest stays with it.
func TestRandomPoliciesCompiledIsExactlyFull(t *testing.T) {
	n, seed := casesAndSeed(t, 2_000)
	t.Logf("%d cases, DATAFORDELER_SEED=%d", n, seed)
	const termsEach, factsEach = 3, 10
	refused, why, done, compiledCases, errs, policies := 0, map[string]int{}, 0, 0, 0, 0
	states := map[State]int{}
	for i := 0; done < n; i++ {
		s := cases.New(seed + uint64(i))
		b := randomPolicy(s)
		e, err := Compile(b)
		if err != nil {
			refused++
			continue
		}
		policies++
		parts, err := e.prepare(`{"cleared": data.sharing.cleared, "carrying": data.sharing.legalbasis.carrying}`)
		if err != nil {
			t.Fatal(err)
		}
		for range termsEach {
			p := prepare(t, e, s.Terms())
			_ = p.Compile(t.Context())
			form := p.Form()
			states[form.State]++
			if form.State == Full {
				why[strings.SplitN(form.Why, ":", 3)[0]]++
			} else {
				compiledCases += factsEach
			}
			for range factsEach {
				if done++; done%1000 == 0 {
					fmt.Fprintf(os.Stderr, "%d cases of random policies, seed %d\n", done, seed)
				}
				f := s.Facts(p.Terms())
				want, wantErr := p.DecideFull(context.Background(), f)
				have, haveErr := p.Decide(context.Background(), f, nil)
				if wantErr != nil {
					errs++
				}
				if form.State == Compiled {
					if have, want := compiledParts(p, f), fullParts(t, parts, p, f); have != want {
						t.Fatalf("DATAFORDELER_SEED=%d, policy %d:\ncompiled %s\nfull     %s\n%+v\n%s\n%s", seed, i, have, want, *f, written(form), changed(b))
					}
				}
				if said(have, haveErr) != said(want, wantErr) || have != want {
					t.Fatalf("DATAFORDELER_SEED=%d, policy %d:\ncompiled %s %v\nfull     %s %v\n%+v\n%s\n%s", seed, i,
						said(have, haveErr), haveErr, said(want, wantErr), wantErr, *f, written(form), changed(b))
				}
			}
		}
	}
	t.Logf("%d policies (%d more refused), %d cases, of them %d compiled and %d errors; terms %v; full because of %v",
		policies, refused, done, compiledCases, errs, states, why)
	if n >= 1000 && (compiledCases < done/5 || states[Full] == 0) {
		t.Error("the policies are all alike; the generator is off")
	}
}

// compiledParts and fullParts are each requirement and each basis, also those that
// an outcome does not show because another reason comes first.
func compiledParts(p *Prepared, f *broker.Facts) string {
	program := p.compiled.Load().program
	var held [maxWords]uint64
	program.ask(f, &held)
	cleared, carrying := program.settled|program.met(program.open, &held), program.carried|program.met(program.carrying, &held)
	var codes, bases []string
	for i, code := range program.codes {
		if cleared>>i&1 == 1 {
			codes = append(codes, string(code))
		}
	}
	for i, id := range program.cited {
		if carrying>>i&1 == 1 {
			bases = append(bases, string(id))
		}
	}
	slices.Sort(codes)
	return fmt.Sprint(codes, bases)
}

func fullParts(t fataler, q rego.PreparedEvalQuery, p *Prepared, f *broker.Facts) string {
	input, err := p.value(f)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := q.Eval(context.Background(), rego.EvalParsedInput(input))
	if err != nil {
		return err.Error()
	}
	answer := rs[0].Expressions[0].Value.(ast.Object)
	texts := func(key string) []string {
		var all []string
		v := answer.Get(ast.StringTerm(key)).Value
		switch v := v.(type) {
		case ast.Set:
			v.Foreach(func(t *ast.Term) { all = append(all, string(t.Value.(ast.String))) })
			slices.Sort(all)
		case *ast.Array:
			v.Foreach(func(t *ast.Term) { all = append(all, string(t.Value.(ast.String))) })
		}
		return all
	}
	return fmt.Sprint(texts("cleared"), texts("carrying"))
}

// changed shows what of a policy is not the embedded one's.
func changed(b Bundle) string {
	var out strings.Builder
	was := Embedded()
	for _, path := range slices.Sorted(maps.Keys(b.Modules)) {
		old := map[string]bool{}
		for line := range strings.Lines(was.Modules[path]) {
			old[line] = true
		}
		for i, line := range strings.Split(b.Modules[path], "\n") {
			if !old[line+"\n"] {
				fmt.Fprintf(&out, "%s:%d: %s\n", path, i+1, line)
			}
		}
	}
	return out.String()
}

func randomPolicy(s *cases.Source) Bundle {
	b := Embedded()
	g := &gen{s: s}
	for range 1 + s.Intn(2) {
		path := cases.Pick(s, slices.Sorted(maps.Keys(b.Modules))...)
		switch s.Intn(3) {
		case 0:
			b.Modules[path] = mutate(s, b.Modules[path])
		default:
			part := cases.Pick(s, "responsibility", "legalbasis", "legalbasis", "costs")
			path = "sharing/" + part + "/" + part + ".rego"
			code := cases.Pick(s, map[string][]string{
				"responsibility": {"agreement_not_active", "corrections_not_agreed", "supplier_not_delegated", "mailbox_suspended"},
				"legalbasis":     {"consent_missing", "no_open_case", "record_outside_period", "consent_withdrawn", "HOLDING"},
				"costs":          {"ceiling_reached", "payer_missing", "cost_not_agreed"},
			}[part]...)
			head := fmt.Sprintf("cleared[%q]", code)
			if code == "HOLDING" {
				head = "holding contains " + cases.Pick(s, "0", "1", "n", "1.0", `"0"`, "count(input.cases)")
			}
			g.helpers = nil
			body := g.body(2)
			if strings.HasSuffix(head, " n") {
				body = "some n in [0, 1, 2]\n" + body
			}
			text := b.Modules[path]
			if at := strings.Index(text, head+" if"); at >= 0 && s.Intn(2) == 0 {
				// instead of the first clause
				end := at + strings.Index(text[at:], "\n\n")
				if end < at {
					end = len(text)
				}
				text = text[:at] + head + " if {\n" + body + "}\n" + text[end:]
			} else {
				text += "\n" + head + " if {\n" + body + "}\n"
			}
			b.Modules[path] = text + strings.Join(g.helpers, "\n")
		}
	}
	return b
}

var turns = []struct {
	find *regexp.Regexp
	with []string
}{
	{regexp.MustCompile(`<=|>=|==|!=| < | > `), []string{" <= ", " < ", " == ", " != ", " > ", " >= "}},
	{regexp.MustCompile(`(?m)^\t`), []string{"\tnot "}},
	{regexp.MustCompile(`(?m)^\t[^\t\n]+\n`), []string{""}},
	{regexp.MustCompile(`input\.time`), []string{"input.agreement.valid.to", "input.bases[0].valid.to", "1792065600000", "input.usage.granted", "input.cases[_].to"}},
	{regexp.MustCompile(`"(consent|case|period)"`), []string{`"consent"`, `"case"`, `input.record.kind`}},
	{regexp.MustCompile(`input\.consents`), []string{"input.cases", "input.bases", "{c | some c in input.consents}", "input.delegations"}},
	{regexp.MustCompile(`consent\.(withdrawn|valid\.to|valid\.from)`), []string{"consent.withdrawn", "consent.valid.from", "consent.valid.to"}},
	{regexp.MustCompile(`\bevery\b`), []string{"some"}},
	{regexp.MustCompile(`\bsome\b`), []string{"every"}},
	{regexp.MustCompile(`(?m)^default [^\n]*\n`), []string{""}},
	{regexp.MustCompile(`input\.agreement\.(purpose|dataset|consumer)`), []string{"input.agreement.purpose", "input.record.kind", `input.record.attributes.period`, `input.bases[0].id`}},
}

// mutate changes one place in the rules.
func mutate(s *cases.Source, text string) string {
	for range 20 {
		turn := cases.Pick(s, turns...)
		all := turn.find.FindAllStringIndex(text, -1)
		if len(all) == 0 {
			continue
		}
		at := cases.Pick(s, all...)
		line := text[strings.LastIndex(text[:at[0]], "\n")+1:]
		if strings.HasPrefix(line, "#") {
			continue
		}
		return text[:at[0]] + cases.Pick(s, turn.with...) + text[at[1]:]
	}
	return text
}

// gen writes Rego.
type gen struct {
	s       *cases.Source
	helpers []string
	vars    []string // of consents, of cases, in scope
	n       int
}

func (g *gen) name(prefix string) string {
	g.n++
	return fmt.Sprintf("%s%d", prefix, g.n)
}

func (g *gen) body(depth int) string {
	outer := g.vars
	defer func() { g.vars = outer }()
	var b strings.Builder
	for range 1 + g.s.Intn(3) {
		b.WriteString("\t" + g.expr(depth) + "\n")
	}
	return b.String()
}

func (g *gen) elem(prefix string) string {
	for _, v := range g.vars {
		if strings.HasPrefix(v, prefix) && g.s.Intn(4) > 0 {
			return v
		}
	}
	if prefix == "con" {
		return cases.Pick(g.s, "input.consents[_]", "input.consents[0]", "input.consents[_]")
	}
	return cases.Pick(g.s, "input.cases[_]", "input.cases[0]", "input.cases[_]")
}

func (g *gen) number() string {
	switch g.s.Intn(14) {
	case 0, 1, 2, 3:
		return "input.time"
	case 4:
		return g.elem("con") + cases.Pick(g.s, ".valid.from", ".valid.to", ".withdrawn")
	case 5:
		return g.elem("cas") + cases.Pick(g.s, ".from", ".to")
	case 6:
		return cases.Pick(g.s, "input.usage.granted", "input.usage.delivered")
	case 7, 8:
		return cases.Pick(g.s, "input.agreement.valid.from", "input.agreement.valid.to", "input.bases[0].valid.from", "input.bases[_].valid.to", "input.bases[1].review")
	case 9:
		return cases.Pick(g.s, "input.agreement.cost.ceiling", "input.rightsPackage.version", "count(input.bases)")
	case 10:
		return cases.Pick(g.s, "0", "1", "7", "-1", "1.5", "1e3", "10.0", "99999999999999999999", "-99999999999999999999")
	case 11:
		return cases.Pick(g.s, "count(input.cases)", "input.time + 1", "input.time - 3600000", "max([input.time, 5])", "input.agreement.valid.to - input.agreement.valid.from", "count(input.agreement.purpose)")
	}
	return fmt.Sprint(cases.Noon.UnixMilli() + int64(g.s.Intn(5)-2)*3_600_000 + int64(g.s.Intn(3)-1))
}

func (g *gen) text() string {
	switch g.s.Intn(8) {
	case 0, 1:
		return "input.record.kind"
	case 2:
		return cases.Pick(g.s, "input.record.attributes.period", "input.record.attributes.kommune", "input.record.attributes.mangler",
			"input.record.attributes[input.bases[0].about.attribute]", `input.record.attributes[input.agreement.purpose]`, "input.record.attributes[_]")
	case 3:
		return g.elem("con") + cases.Pick(g.s, ".consumer", ".dataset", ".purpose")
	case 4, 5:
		return cases.Pick(g.s, "input.agreement.purpose", "input.agreement.dataset", "input.agreement.id", "input.agreement.consumer", "input.subscription.id",
			"input.bases[0].id", "input.bases[_].type", "input.agreement.supplier", "input.agreement.framework", "input.consumer.types[_]")
	}
	return cases.Pick(g.s, `"original"`, `"correction"`, `""`, `"2026-09"`, `"inntekt"`, `"kommune"`, `"sosialhjelp"`, `"310149942"`, `"sub"`)
}

func (g *gen) expr(depth int) string {
	op := cases.Pick(g.s, "==", "!=", "<", "<=", ">", ">=", "=")
	pair := func() string {
		if g.s.Intn(2) == 0 {
			return g.number() + " " + op + " " + g.number()
		}
		return g.text() + " " + op + " " + g.text()
	}
	if depth == 0 || g.s.Intn(2) == 0 {
		return pair()
	}
	switch g.s.Intn(20) {
	case 0:
		return "not " + pair()
	case 1, 2:
		v := g.name("con")
		g.vars = append(g.vars, v)
		return "some " + v + " in input.consents"
	case 3, 4:
		v := g.name("cas")
		g.vars = append(g.vars, v)
		return cases.Pick(g.s, "some "+v+" in input.cases", "some i"+v+", "+v+" in input.cases\n\ti"+v+" == "+cases.Pick(g.s, "0", "1"))
	case 5:
		v := g.name("con")
		g.vars = append(g.vars, v)
		text := "every " + v + " in input.consents {\n" + g.body(0) + "\t}"
		g.vars = g.vars[:len(g.vars)-1]
		return text
	case 6:
		return g.text() + " in " + cases.Pick(g.s, `{"original", "2026-09", "inntekt"}`, `["correction", ""]`, "input.agreement.bases", "input.consumer.types", "{"+g.text()+"}", "input.record.attributes")
	case 7:
		return cases.Pick(g.s, "startswith", "endswith") + "(" + g.text() + ", " + g.text() + ")"
	case 8:
		v := g.name("x")
		return v + " := " + g.text() + "\n\t" + v + " " + op + " " + g.text()
	case 9:
		v := g.name("y")
		return v + " = " + g.number() + "\n\t" + v + " " + op + " " + v
	case 10:
		return "count({1 | " + pair() + "}) " + op + " " + cases.Pick(g.s, "0", "1")
	case 11:
		h := g.name("helper")
		vars := g.vars
		g.vars = nil
		clauses := []string{h + " if {\n" + g.body(depth-1) + "}\n"}
		switch g.s.Intn(6) {
		case 0:
			clauses = append(clauses, "default "+h+" := "+cases.Pick(g.s, "false", "true")+"\n")
		case 1:
			clauses = append(clauses, h+" if {\n"+g.body(depth-1)+"}\n")
		case 2:
			clauses = append(clauses, h+" := "+cases.Pick(g.s, "false", "7")+" if {\n"+g.body(depth-1)+"}\n")
		case 3:
			clauses = []string{h + " := 1 if {\n" + g.body(depth-1) + "} else := 2 if {\n" + g.body(depth-1) + "}\n"}
		}
		g.vars = vars
		g.helpers = append(g.helpers, clauses...)
		return cases.Pick(g.s, "", "", "not ") + h + cases.Pick(g.s, "", "", " == 1", " with input.time as 5")
	case 12:
		h := g.name("set")
		vars := g.vars
		g.vars = nil
		g.helpers = append(g.helpers, h+" contains "+g.text()+" if {\n"+g.body(depth-1)+"}\n", h+` contains "original" if true`+"\n")
		g.vars = vars
		return cases.Pick(g.s, g.text()+" in "+h, h+"["+g.text()+"]", "count("+h+") > 1", h+` == {"original"}`, "not "+g.text()+" in "+h)
	case 13:
		h := g.name("f")
		vars := g.vars
		g.vars = nil
		g.helpers = append(g.helpers, h+"(a, b) if {\n\ta "+cases.Pick(g.s, "<=", "!=", "==")+" b\n"+g.body(0)+"}\n")
		if g.s.Intn(2) == 0 {
			g.helpers = append(g.helpers, h+"(a, b) "+cases.Pick(g.s, "", ":= 3 ")+"if {\n\ta > b\n}\n")
		}
		g.vars = vars
		return cases.Pick(g.s, "", "not ") + h + "(" + g.number() + ", " + g.number() + ")"
	case 14:
		return cases.Pick(g.s, "input.cases", "input.usage", "input.record.attributes.period", "input.record.attributes.mangler", "input.bases[0].about", "input.bases[0].requiresCase")
	case 15:
		return cases.Pick(g.s, "input.cases != []", "input.cases == input.consents", "input.bases[0].about == null", "input.record.attributes == {}", "input.consents[_].valid == input.cases[_]")
	case 16:
		return "[" + g.text() + ", " + g.number() + "] = [" + g.text() + ", " + g.number() + "]"
	case 17:
		v := g.name("z")
		return v + " := object.get(" + cases.Pick(g.s, "input.record.attributes", "input.agreement") + ", " + g.text() + `, "d")` + "\n\t" + v + " != " + g.text()
	case 18:
		v := g.name("k")
		return "some " + v + ", _ in " + cases.Pick(g.s, "input.agreement", "input.record.attributes", "input.bases[0]", "input") + "\n\t" + v + " " + op + " " + g.text()
	}
	h := g.name("value")
	vars := g.vars
	g.vars = nil
	g.helpers = append(g.helpers, h+" := "+g.number()+"\n")
	if g.s.Intn(2) == 0 {
		g.helpers = append(g.helpers, h+" := "+g.number()+" if {\n"+g.body(0)+"}\n")
	}
	g.vars = vars
	return h + " " + op + " " + g.number()
}
