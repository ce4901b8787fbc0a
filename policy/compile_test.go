package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/policy/cases"
)

func compileNow(t testing.TB, e *Engine, terms *broker.Terms) *Prepared {
	t.Helper()
	p := prepare(t, e, terms)
	if err := p.Compile(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// Two shapes have one key exactly when their inputs, with stand-ins, are one.
func TestShapeKeyIsTheInput(t *testing.T) {
	a := embeddedEngine(t).analysis()
	byKey, byInput := map[string]string{}, map[string]string{}
	shared := 0
	for seed := range uint64(3000) {
		s := cases.New(seed)
		terms := s.Terms()
		// Names that no rule knows, so that only their sameness counts.
		terms.Agreement.Purpose = cases.Pick(s, terms.Agreement.Purpose, "ukjent", broker.Purpose(terms.Agreement.ID))
		terms.Agreement.Framework = cases.Pick[broker.AgreementID](s, "", "x", "y")
		sh := a.shape(terms)
		v, err := sh.input(terms)
		if err != nil {
			t.Fatal(err)
		}
		key, input := string(sh.key), v.String()
		if have, ok := byKey[key]; ok {
			shared++
			if have != input {
				t.Fatalf("seed %d: one key, two inputs:\n%s\n%s", seed, have, input)
			}
		}
		if have, ok := byInput[input]; ok && have != key {
			t.Fatalf("seed %d: one input, two keys: %s", seed, input)
		}
		byKey[key], byInput[input] = input, key
	}
	if shared < 100 {
		t.Errorf("only %d terms had a shape met before", shared)
	}
}

// Ten thousand agreements like one another are evaluated partially once, and each
// keeps its own texts and times.
func TestShapesAreShared(t *testing.T) {
	e := embeddedEngine(t)
	for i := range 200 {
		terms := alike(i)
		p := compileNow(t, e, terms)
		for _, at := range []time.Time{terms.Agreement.Valid.From, terms.Agreement.Valid.From.Add(-time.Millisecond), terms.Agreement.Valid.To} {
			f := sampleFacts()
			f.Time = at
			f.Consents = []broker.Consent{{
				Consumer: terms.Agreement.Consumer, Dataset: terms.Agreement.Dataset, Purpose: terms.Agreement.Purpose,
				Valid: broker.Interval{From: terms.Agreement.Valid.From},
			}}
			have, err := p.Decide(t.Context(), f, nil)
			if err != nil {
				t.Fatal(err)
			}
			if want := oracle(terms, f); !same(have, want) {
				t.Fatalf("agreement %d at %s: %+v, want %+v", i, at, *have, *want)
			}
		}
	}
	if n := len(e.shapes.byKey); n > 4 {
		t.Errorf("%d shapes of agreements that are all alike", n)
	}
}

// alike is agreement i of many: names, parties and times of its own, by consent.
func alike(i int) *broker.Terms {
	t := sample()
	name := func(what string) string { return fmt.Sprintf("%s-%d", what, i) }
	number := broker.OrgNumber(fmt.Sprintf("3%08d", 10_000_000+i))
	a := &t.Agreement
	a.ID, a.Consumer, a.Purpose = broker.AgreementID(name("avtale")), number, broker.Purpose(name("formaal"))
	a.Responsibility.ConsumerController = number
	t.Subscription = broker.Subscription{ID: broker.SubscriptionID(name("abonnement")), Agreement: a.ID, Mailbox: "box"}
	t.Mailbox.Organisation, t.Consumer.Number = number, number
	a.Valid.From = time.Date(2026, 1, 1, 0, i, 0, 0, time.UTC)
	a.Valid.To = a.Valid.From.AddDate(1, 0, 0)
	b := statute(broker.LegalBasisID(name("samtykke")), broker.Disclosure, broker.Collection, broker.Confidentiality)
	b.Type, b.Purposes = broker.Samtykke, []broker.Purpose{a.Purpose}
	b.Valid = broker.Interval{From: time.Date(2020, 1, 1, 0, 0, i, 0, time.UTC)}
	use(t, b)
	return t
}

// Where the policy does more with a text of the terms than compare it, terms that
// differ in it are not of one shape.
func TestShapesSeeWhatThePolicyOrders(t *testing.T) {
	for name, rule := range map[string]string{
		"order of texts":     `input.agreement.purpose < input.agreement.id`,
		"order of times":     `input.agreement.valid.from < input.bases[0].valid.from`,
		"order with a bound": `input.agreement.purpose < "m"`,
		"begins with":        `startswith(input.agreement.purpose, "a")`,
		"length":             `count(input.agreement.purpose) > 6`,
		"arithmetic":         `input.agreement.valid.to - input.agreement.valid.from > 86400000`,
		"least of a set":     `min({input.agreement.purpose, input.agreement.id}) == input.agreement.id`,
		"first of a list":    `set := {p | some p in [input.agreement.purpose, input.agreement.id]}; ps := [p | some p in set]; ps[0] == input.agreement.id`,
		"what nobody reads":  `input[input.agreement.framework].framework == "f"`,
		"any part":           `some k, v in input; k == "agreement"; v.framework == "f"`,
		"a part by a name":   `input.agreement[input.agreement.framework] == "agr"`,
		"number and count":   `input.agreement.cost.ceiling == count(input.bases)`,
		"place":              `input.bases[input.rightsPackage.version].type == "lov"`,
	} {
		t.Run(name, func(t *testing.T) {
			b := edit(t, "sharing/costs/costs.rego", "if input.agreement.cost.ceiling == 0", "if {\n\t"+strings.ReplaceAll(rule, "; ", "\n\t")+"\n}")
			e, err := Compile(b)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 40 {
				s := cases.New(uint64(i))
				terms := sample()
				terms.Agreement.Purpose = cases.Pick[broker.Purpose](s, "a", "abc", "zzz", "sosialhjelp", "aaaaaaaaaaa")
				terms.Agreement.ID = cases.Pick[broker.AgreementID](s, "b", "aa", "agr")
				terms.Agreement.Framework = cases.Pick[broker.AgreementID](s, "id", "f", "agr", "", "agreement")
				terms.Agreement.Cost.Ceiling = cases.Pick[int64](s, 0, 1, 2)
				terms.Agreement.Valid.From = noon.Add(-time.Duration(s.Intn(48)) * time.Hour)
				terms.Agreement.Valid.To = noon.Add(time.Duration(s.Intn(48)) * time.Hour)
				terms.Bases[0].Valid.From = noon.Add(-time.Duration(s.Intn(48)) * time.Hour)
				p := prepare(t, e, terms)
				_ = p.Compile(t.Context())
				f := sampleFacts()
				want, wantErr := p.DecideFull(t.Context(), f)
				if have, haveErr := p.Decide(t.Context(), f, nil); said(have, haveErr) != said(want, wantErr) {
					t.Fatalf("compiled %s, full %s; %s", said(have, haveErr), said(want, wantErr), written(p.Form()))
				}
			}
		})
	}
}

// What would make a compiled form say other than full evaluation keeps all of a
// policy from it, or the subscription.
func TestWhatStaysWithFullEvaluation(t *testing.T) {
	const costs, basis, root = "sharing/costs/costs.rego", "sharing/legalbasis/legalbasis.rego", "sharing/sharing.rego"
	for name, c := range map[string]struct{ path, old, new, why string }{
		"another decision":  {root, `"bases": legalbasis.cited} if not allow`, `"bases": []} if not allow`, "rules other than chains differ"},
		"other bases":       {basis, "some i, basis in input.bases; i in holding", "some i, basis in input.bases; not i in holding", "legalbasis.carrying"},
		"cited":             {basis, "cited := [basis.id | some basis in input.bases]", "cited := [basis.id | some basis in input.bases; input.time > 5]", "legalbasis.cited"},
		"no set":            {basis, "holding contains i if", "holding[i] := i if", "legalbasis.holding is not a set"},
		"two values":        {costs, `if input.agreement.cost.ceiling == 0`, "if x == 1\n\nx := 1 if input.time > 5\n\nx := 2 if input.time > 6", "may have more than one value: data.sharing.costs.x"},
		"a default":         {costs, `if input.agreement.cost.ceiling == 0`, "if not x\n\ndefault x := false\n\nx if input.time > 5", "may have more than one value: data.sharing.costs.x"},
		"a stand-in input":  {costs, `if input.agreement.cost.ceiling == 0`, "if x with input.time as 5\n\nx if input.time > 5", "(with)"},
		"a clause by terms": {costs, `if input.agreement.cost.ceiling == 0`, "if x == 2\n\nx := 1 if input.time > 5\n\nx := 2 if input.agreement.status == \"active\"", "may have more than one value: data.sharing.costs.x"},
		"a key by terms":    {costs, `if input.agreement.cost.ceiling == 0`, "if p.active == 1\n\np[k] := 2 if k := input.agreement.status\n\np.active := 1 if input.time > 5", "may have more than one value: data.sharing.costs.p"},
		"an else":           {costs, `if input.agreement.cost.ceiling == 0`, "if x\n\nx if input.time > 5\n\nelse if input.agreement.status == \"active\"", "may have more than one value: data.sharing.costs.x"},
		"negation":          {costs, `if input.agreement.cost.ceiling == 0`, `if not input.record.kind == "original"`, "ceiling_reached: not a comparison"},
		"arithmetic":        {costs, `if input.agreement.cost.ceiling == 0`, `if input.time + 1 > 7`, "ceiling_reached: neither"},
		"a place":           {costs, `if input.agreement.cost.ceiling == 0`, `if input.cases[0].from < input.time`, "ceiling_reached: neither a constant nor a known part"},
		"places compared":   {costs, `if input.agreement.cost.ceiling == 0`, "if {\n\tsome c in input.cases\n\tsome d in input.consents\n\tc.from < d.valid.from\n}", "ceiling_reached: compares elements"},
		"one place in two":  {costs, `if input.agreement.cost.ceiling == 0`, "if {\n\tsome i\n\tinput.cases[i].from < input.time\n\tinput.consents[i].valid.from < input.time\n}", "ceiling_reached: neither"},
		"not whole":         {costs, `if input.agreement.cost.ceiling == 0`, `if input.time > 1.5`, "ceiling_reached: neither"},
		"a part":            {costs, `if input.agreement.cost.ceiling == 0`, `if input.record.attributes.period`, "ceiling_reached: not a comparison"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := Compile(edit(t, c.path, c.old, c.new))
			if err != nil {
				t.Fatal(err)
			}
			p := prepare(t, e, sample())
			if have := p.Form(); have.State != Pending {
				t.Errorf("before: %s", have)
			}
			for range 2 {
				err = p.Compile(t.Context())
				if err == nil || !strings.Contains(err.Error(), c.why) {
					t.Fatalf("%v, want %q", err, c.why)
				}
			}
			if have := p.Form(); have.State != Full || !strings.Contains(have.Why, c.why) || have.State != p.State() {
				t.Errorf("%+v", have)
			}
			f := sampleFacts()
			want, wantErr := p.DecideFull(t.Context(), f)
			if have, haveErr := p.Decide(t.Context(), f, nil); said(have, haveErr) != said(want, wantErr) || have != want {
				t.Errorf("%s, want %s", said(have, haveErr), said(want, wantErr))
			}
		})
	}
}

// What is greater than the compiler takes stays with full evaluation.
func TestProgramsAreBounded(t *testing.T) {
	e := embeddedEngine(t)
	twice := sample()
	twice.Dataset.Attributes = append(twice.Dataset.Attributes, twice.Dataset.Attributes[0])
	if err := prepare(t, e, twice).Compile(t.Context()); err == nil || !strings.Contains(err.Error(), `declares attribute "period" twice`) {
		t.Error(err)
	}
	for n, want := range map[int]string{5: "", 65: "65 legal bases"} {
		terms := sample()
		var bases []broker.LegalBasis
		for i := range n {
			b := statute(broker.LegalBasisID(fmt.Sprint("b", i)))
			b.Datasets = nil // covers nothing, or it would take long
			bases = append(bases, b)
		}
		use(terms, bases...)
		err := prepare(t, e, terms).Compile(t.Context())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d bases: %v", n, err)
		}
	}
	var err error
	b := Embedded()
	for i := range 300 {
		b.Modules["sharing/costs/costs.rego"] += fmt.Sprintf("\ncleared[\"ceiling_reached\"] if input.time == %d\n", i)
	}
	if e, err = Compile(b); err != nil {
		t.Fatal(err)
	}
	terms := sample()
	terms.Agreement.Cost.Ceiling = 5
	if err := prepare(t, e, terms).Compile(t.Context()); err == nil || !strings.Contains(err.Error(), "tests; the compiler takes 256") {
		t.Error(err)
	}
	delete(b.Modules, "x")
	b.Modules["sharing/costs/costs.rego"] = strings.SplitAfterN(b.Modules["sharing/costs/costs.rego"], "input.time == 99\n", 2)[0]
	if e, err = Compile(b); err != nil { // several words of bits
		t.Fatal(err)
	}
	p := compileNow(t, e, terms)
	for i := range 150 {
		f := sampleFacts()
		f.Time = time.UnixMilli(int64(i))
		want, _ := p.DecideFull(t.Context(), f)
		if have, err := p.Decide(t.Context(), f, nil); have != want {
			t.Fatalf("at %d: %+v, want %+v, %v", i, have, want, err)
		}
	}
}

// A context that is done is no verdict on the policy.
func TestCompileCanBeInterrupted(t *testing.T) {
	p := prepare(t, embeddedEngine(t), sample())
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Compile(done); !errors.Is(err, context.Canceled) || p.State() != Pending {
		t.Fatalf("%v, %s", err, p.State())
	}
	if err := p.Compile(t.Context()); err != nil || p.State() != Compiled {
		t.Fatalf("%v, %s", err, p.State())
	}
}

// Decisions go on while forms are compiled, and one shape is shared by many.
func TestCompileBesideDecisions(t *testing.T) {
	e := embeddedEngine(t)
	var all []*Prepared
	for i := range 6 {
		all = append(all, prepare(t, e, alike(i)))
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for _, p := range all {
				if err := p.Compile(t.Context()); err != nil {
					t.Error(err)
				}
				if p.Form().State != Compiled {
					t.Error("not compiled")
				}
			}
		})
		wg.Go(func() {
			var m Memo
			f := sampleFacts()
			for range 10 {
				for _, p := range all {
					first, err := p.Decide(t.Context(), f, &m)
					again, _ := p.Decide(t.Context(), f, nil)
					if err != nil || first != again || !same(first, oracle(p.Terms(), f)) {
						t.Errorf("%+v, %+v, %v", first, again, err)
					}
				}
			}
		})
	}
	wg.Wait()
}

// A mistake inside the compiled form is an error, and so a denial.
func TestCompiledPanicIsAnError(t *testing.T) {
	p := compileNow(t, embeddedEngine(t), demoLike()["4 period"])
	broken := *p.compiled.Load().program
	broken.tests = append(broken.tests[:0:0], bitTest{test: test{form: textIs, a: side{attribute, 99}}})
	p.compiled.Store(&compiled{program: &broken})
	if o, err := p.Decide(t.Context(), sampleFacts(), nil); err == nil || o != nil {
		t.Errorf("%+v, %v", o, err)
	}
}

// The compiled form allocates nothing.
func TestCompiledAllocatesNothing(t *testing.T) {
	e := embeddedEngine(t)
	for name, c := range benchCases() {
		p := compileNow(t, e, c.terms)
		if n := testing.AllocsPerRun(100, func() { _, _ = p.Decide(context.Background(), c.facts, nil) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
