package policy

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"datafordeler/broker"
)

// recordFacts are the parts of the input that a record brings.
var recordFacts = []string{"input.time", "input.record", "input.cases", "input.consents", "input.usage"}

// residual asks one requirement with the terms known and the record's facts not.
func residual(t testing.TB, e *Engine, terms *broker.Terms, ref ast.Ref) *rego.PartialQueries {
	t.Helper()
	v, err := ast.InterfaceToValue(static(terms))
	if err != nil {
		t.Fatal(err)
	}
	pq, err := rego.New(
		rego.Query(ref.String()),
		rego.Compiler(e.compiler),
		rego.ParsedInput(v),
		rego.Unknowns(recordFacts),
	).Partial(context.Background())
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

func describeResiduals(t *testing.T, e *Engine) string {
	var out strings.Builder
	all := demoLike()
	names := make([]string, 0, len(all))
	for n := range all {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&out, "== %s\n", name)
		for _, info := range e.Reasons()[len(brokerReasons):] {
			pq := residual(t, e, all[name], e.rules[info.Code])
			for _, m := range pq.Support {
				fmt.Fprintf(&out, "%s SUPPORT %s\n", info.Code, m)
			}
			switch {
			case len(pq.Queries) == 0:
				fmt.Fprintf(&out, "%s: never\n", info.Code)
			case len(pq.Queries) == 1 && len(pq.Queries[0]) == 0:
				fmt.Fprintf(&out, "%s: always\n", info.Code)
			default:
				for _, q := range pq.Queries {
					fmt.Fprintf(&out, "%s: %s\n", info.Code, q)
				}
			}
		}
	}
	return out.String()
}

func TestResiduals(t *testing.T) {
	e := embeddedEngine(t)
	os.WriteFile("/tmp/residuals.txt", []byte(describeResiduals(t, e)), 0o644)
}
