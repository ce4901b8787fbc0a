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
	"pgregory.net/rapid"

	"datafordeler/broker"
)

// recordFacts are the parts of the input that a record brings.
var recordFacts = []string{"input.time", "input.record", "input.cases", "input.consents", "input.usage"}

// partials asks each requirement by itself, with the terms known and the record's
// facts not.
func partials(t testing.TB, e *Engine) map[broker.Reason]rego.PreparedPartialQuery {
	t.Helper()
	all := map[broker.Reason]rego.PreparedPartialQuery{}
	for code, ref := range e.rules {
		q, err := rego.New(
			rego.Query(ref.String()),
			rego.Compiler(e.compiler),
			rego.Unknowns(recordFacts),
		).PrepareForPartial(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		all[code] = q
	}
	return all
}

func residual(t fataler, q rego.PreparedPartialQuery, p *Prepared) *rego.PartialQueries {
	known, err := p.static()
	if err != nil {
		t.Fatal(err)
	}
	pq, err := q.Partial(context.Background(), rego.EvalParsedInput(ast.NewObject(known.pairs...)))
	if err != nil {
		t.Fatal(err)
	}
	return pq
}

// agreements like those of the demonstration, by name.
func demoLike() map[string]*broker.Terms {
	all := map[string]*broker.Terms{}
	add := func(name string, change func(*broker.Terms)) {
		terms := sample()
		change(terms)
		all[name] = terms
	}
	add("1 one statute", func(*broker.Terms) {})
	add("2 disclosure and collection by statute, per case", func(t *broker.Terms) {
		give := statute("give", broker.Disclosure, broker.Confidentiality)
		ask := statute("ask", broker.Collection)
		ask.RequiresCase = true
		use(t, give, ask)
	})
	add("3 consent", func(t *broker.Terms) {
		c := statute("consent", broker.Disclosure, broker.Collection, broker.Confidentiality)
		c.Type = broker.Samtykke
		use(t, c)
	})
	add("4 period", func(t *broker.Terms) {
		t.Bases[0].About = &broker.AboutBound{Attribute: "period", From: "2026-01", To: "2026-12"}
	})
	add("5 supplier and ceiling", func(t *broker.Terms) {
		t.Agreement.Supplier = supplier
		t.Mailbox.Organisation = supplier
		t.Delegations = []broker.Delegation{{ID: "d", From: consumer, To: supplier, Datasets: []broker.DatasetID{"inntekt"}, Valid: between("2026-01-01", "2028-01-01")}}
		t.Agreement.Cost = broker.Cost{Model: broker.PerRecord, Payer: consumer, Ceiling: 1000}
		t.Agreement.Corrections = broker.RefuseCorrections
	})
	add("6 nothing in order", func(t *broker.Terms) {
		t.Agreement.Status = broker.Suspended
		t.Agreement.Purpose = "annet"
		t.Agreement.Cost = broker.Cost{}
		t.Dataset.AccessRights = ""
	})
	add("7 statute per case, or consent", func(t *broker.Terms) {
		s := statute("statute", broker.Disclosure, broker.Collection, broker.Confidentiality)
		s.RequiresCase = true
		c := statute("consent", broker.Disclosure, broker.Collection, broker.Confidentiality)
		c.Type = broker.Samtykke
		use(t, s, c)
	})
	return all
}

func use(t *broker.Terms, bases ...broker.LegalBasis) {
	t.Bases, t.Agreement.Bases = bases, nil
	for i := range bases {
		t.Agreement.Bases = append(t.Agreement.Bases, bases[i].ID)
	}
}

// plain says why a residual is not a conjunction of comparisons between parts of
// the input and constants, or is empty.
func plain(pq *rego.PartialQueries) string {
	if len(pq.Support) > 0 {
		return fmt.Sprintf("support rules: %v", pq.Support)
	}
	for _, q := range pq.Queries {
		for _, x := range q {
			if x.Negated || len(x.With) > 0 || !x.IsCall() || len(x.Operands()) != 2 {
				return "not a comparison: " + x.String()
			}
			switch x.Operator().String() {
			case "eq", "neq", "lt", "lte", "gt", "gte":
			default:
				return "not a comparison: " + x.String()
			}
			for _, operand := range x.Operands() {
				switch v := operand.Value.(type) {
				case ast.String, ast.Number, ast.Boolean:
				case ast.Ref: // input.time, input.cases[i].from: names, and places in a list
					if !v.HasPrefix(ast.InputRootRef) {
						return "not a part of the input: " + x.String()
					}
				default:
					return "neither constant nor part of the input: " + x.String()
				}
			}
		}
	}
	return ""
}

// With the terms known, each requirement is always met, never met, or met when one
// of some plain conjunctions of comparisons holds. testdata/residuals.txt shows
// what is left of agreements like those of the demonstration.
func TestResidualsArePlain(t *testing.T) {
	e := embeddedEngine(t)
	queries := partials(t, e)
	local := regexp.MustCompile(`__local\d+__\d+`)
	var out strings.Builder
	out.WriteString("# What is left of each requirement once the agreement is known. Alternatives are\n# on lines of their own; what always holds is left out. Written by: go test -update\n")
	all := demoLike()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&out, "\n%s\n", name)
		p := prepare(t, e, all[name])
		for _, info := range e.Reasons()[len(brokerReasons):] {
			pq := residual(t, queries[info.Code], p)
			if why := plain(pq); why != "" {
				t.Errorf("%s: %s: %s", name, info.Code, why)
			}
			if len(pq.Queries) == 0 {
				fmt.Fprintf(&out, "  %s: never\n", info.Code)
			}
			for _, q := range pq.Queries {
				if len(q) > 0 {
					fmt.Fprintf(&out, "  %s: %s\n", info.Code, local.ReplaceAllString(q.String(), "i"))
				}
			}
		}
	}
	if *update {
		if err := os.WriteFile("testdata/residuals.txt", []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, _ := os.ReadFile("testdata/residuals.txt"); string(have) != out.String() {
		t.Error("testdata/residuals.txt is not what is left; look at what changed, then: go test ./policy -run Residuals -update")
	}
}

// Whatever the terms, the residuals are plain.
func TestResidualsOfAnyTermsArePlain(t *testing.T) {
	e := embeddedEngine(t)
	queries := partials(t, e)
	terms := rapid.Custom(drawTerms)
	for seed := range 40 {
		p := prepare(t, e, terms.Example(seed))
		for code, q := range queries {
			if why := plain(residual(t, q, p)); why != "" {
				t.Errorf("terms %d: %s: %s", seed, code, why)
			}
		}
	}
}

// A rule that negates a fact of the record is told from a plain one.
func TestPlainTellsWhatIsNot(t *testing.T) {
	for name, rule := range map[string]string{
		"negation":      `not open`,
		"arithmetic":    `input.time + 1 > 7`,
		"count":         `count(input.cases) > 0`,
		"comprehension": `[c | some c in input.cases] != []`,
		"a whole list":  `input.cases == []`,
	} {
		b := edit(t, "sharing/costs/costs.rego", "if input.agreement.cost.ceiling == 0", "if "+rule)
		b.Modules["sharing/costs/costs.rego"] += "\nopen if {\n\tsome c in input.cases\n\tc.from <= input.time\n}\n"
		e, err := Compile(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if plain(residual(t, partials(t, e)["ceiling_reached"], prepare(t, e, sample()))) == "" {
			t.Errorf("%s passes for plain", name)
		}
	}
}

// BenchmarkResiduals is what partial evaluation of all requirements costs for one
// agreement: once for each, not once for each record.
func BenchmarkResiduals(b *testing.B) {
	e := embeddedEngine(b)
	queries := partials(b, e)
	p := prepare(b, e, demoLike()["3 consent"])
	defer cpu(b)()
	for b.Loop() {
		for _, q := range queries {
			residual(b, q, p)
		}
	}
}
