package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
	"pgregory.net/rapid"

	"datafordeler/broker"
)

var threeSides = []broker.Side{broker.Disclosure, broker.Collection, broker.Confidentiality}

// ofSides is terms of n legal bases, whose sides are those given, in turn.
func ofSides(n int, sides ...[]broker.Side) *broker.Terms {
	t := sample()
	var bases []broker.LegalBasis
	for i := range n {
		bases = append(bases, statute(broker.LegalBasisID(fmt.Sprint("basis-", i)), sides[i%len(sides)]...))
	}
	use(t, bases...)
	return t
}

// manyBases is terms of 13 and of 20 legal bases. Of 20, one side each gives most
// alternatives: 294.
func manyBases() map[string]*broker.Terms {
	d, c, k := broker.Disclosure, broker.Collection, broker.Confidentiality
	all := map[string]*broker.Terms{
		"13 for all sides": ofSides(13, threeSides),
		"20 for all sides": ofSides(20, threeSides),
		"20 for two sides": ofSides(20, []broker.Side{d, c}, []broker.Side{c, k}, []broker.Side{d, k}),
		"20 for one side":  ofSides(20, []broker.Side{d}, []broker.Side{c}, []broker.Side{k}),
		"13 mixed":         ofSides(13, threeSides, []broker.Side{d, c}, []broker.Side{c, k}, []broker.Side{d, k}, []broker.Side{d}, []broker.Side{c}, []broker.Side{k}),
		"20 mixed":         ofSides(20, threeSides, []broker.Side{d, c}, []broker.Side{c, k}, []broker.Side{d, k}, []broker.Side{d}, []broker.Side{c}, []broker.Side{k}),
	}
	for _, t := range all {
		t.Bases[1].RequiresCase = true
		t.Bases[2].About = &broker.AboutBound{Attribute: "period", From: "2026-01", To: "2026-12"}
		t.Bases[len(t.Bases)-1].Type = broker.Samtykke
	}
	return all
}

// steps counts the expressions that evaluation looks at.
type steps int

func (*steps) Enabled() bool               { return true }
func (*steps) Config() topdown.TraceConfig { return topdown.TraceConfig{} }
func (n *steps) TraceEvent(evt topdown.Event) {
	if evt.Op == topdown.EvalOp {
		*n++
	}
}

// alternatives asks the policy for them, in order, and how much work that was.
func alternatives(t testing.TB, e *Engine, terms *broker.Terms) ([][]int, steps) {
	t.Helper()
	known, err := prepare(t, e, terms).static()
	if err != nil {
		t.Fatal(err)
	}
	var n steps
	rs, err := rego.New(
		rego.Query("data.sharing.legalbasis.alternatives"),
		rego.Compiler(e.compiler),
		rego.ParsedInput(ast.NewObject(known.pairs...)),
		rego.QueryTracer(&n),
	).Eval(t.Context())
	if err != nil || len(rs) != 1 {
		t.Fatalf("%v, %v", rs, err)
	}
	text, err := json.Marshal(rs[0].Expressions[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]int
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	for _, places := range out {
		slices.Sort(places)
	}
	slices.SortFunc(out, slices.Compare)
	return out, n
}

// minimalSets tries every set of bases: those that cover all sides, and could spare
// none.
func minimalSets(t *broker.Terms) [][]int {
	covers := func(set int) bool {
		return !slices.ContainsFunc(oracleSides(t), func(side broker.Side) bool {
			for i := range t.Bases {
				if set>>i&1 == 1 && oracleCovers(t, &t.Bases[i], side) {
					return false
				}
			}
			return true
		})
	}
	var out [][]int
	for set := range 1 << len(t.Bases) {
		if !covers(set) {
			continue
		}
		var places []int
		spare := false
		for i := range t.Bases {
			if set>>i&1 == 1 {
				places = append(places, i)
				spare = spare || covers(set&^(1<<i))
			}
		}
		if !spare {
			out = append(out, places)
		}
	}
	slices.SortFunc(out, slices.Compare)
	return out
}

// An alternative is told by its own members; which sets these are is tried here one
// by one.
func TestAlternativesAreMinimal(t *testing.T) {
	e := embeddedEngine(t)
	check := func(fail func(string, ...any), terms *broker.Terms) {
		have, _ := alternatives(t, e, terms)
		if want := minimalSets(terms); !slices.EqualFunc(have, want, slices.Equal) {
			fail("%v, want %v", have, want)
		}
	}
	check(t.Fatalf, manyBases()["13 mixed"])
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(r, "bases")
		var sides [][]broker.Side
		for range n {
			var some []broker.Side
			kind := rapid.SampledFrom([]int{7, 6, 5, 4, 3, 2, 1, 0}).Draw(r, "sides")
			for i, side := range threeSides {
				if kind>>i&1 == 1 {
					some = append(some, side)
				}
			}
			sides = append(sides, some)
		}
		terms := ofSides(n, sides...)
		if rapid.Bool().Draw(r, "public") {
			terms.Dataset.AccessRights = broker.Public
		}
		if rapid.IntRange(0, 3).Draw(r, "one is not for the dataset") == 0 {
			terms.Bases[0].Datasets = nil
		}
		check(r.Fatalf, terms)
	})
}

// Many legal bases cost as many steps as they have alternatives, and a few for each
// basis. Alternatives held against one another would be their square.
func TestManyBasesAreCheap(t *testing.T) {
	e := embeddedEngine(t)
	all := manyBases()
	for _, name := range slices.Sorted(maps.Keys(all)) { // 13 first: should it fail, soon
		found, n := alternatives(t, e, all[name])
		if most := steps(200 + 25*len(all[name].Bases) + 2*len(found)); n > most {
			t.Fatalf("%s: %d alternatives in %d steps, more than %d", name, len(found), n, most)
		}
		t.Logf("%s: %d alternatives, %d steps", name, len(found), n)
	}
}

// Twenty bases are decided, compiled, and decided the same. (When alternatives were
// held against one another, this took minutes.)
func TestManyBasesCompile(t *testing.T) {
	e := embeddedEngine(t)
	for name, terms := range manyBases() {
		if name == "20 for one side" && (testing.Short() || raceDetector) {
			continue
		}
		p := compileNow(t, e, terms)
		for _, at := range []time.Duration{0, 100 * 365 * 24 * time.Hour} {
			for _, period := range []string{"2026-09", "2027-01"} {
				f := sampleFacts()
				f.Time = f.Time.Add(at)
				f.Attributes[0] = period
				for _, cases := range [][]broker.Interval{nil, {between("2020-01-01", "2030-01-01")}} {
					f.Cases = cases
					full, err := p.DecideFull(t.Context(), f)
					have, err2 := p.Decide(t.Context(), f, nil)
					if said(full, err) != said(have, err2) {
						t.Errorf("%s: %s, in full %s", name, said(have, err2), said(full, err))
					}
					if len(terms.Bases) > 13 { // the oracle tries every set of bases
						continue
					}
					if want := oracle(terms, f); err == nil && !same(full, want) {
						t.Errorf("%s: %+v, want %+v", name, *full, *want)
					}
				}
			}
		}
	}
}
