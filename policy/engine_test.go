package policy

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"datafordeler/broker"
)

// The rules answer what the oracle answers, and what they are asked with is of the
// declared shape.
func TestEngineAnswersAsTheOracle(t *testing.T) {
	e := embeddedEngine(t)
	schema := inputSchema(t)
	permits, reasons := 0, map[broker.Reason]int{}
	rapid.Check(t, func(t *rapid.T) {
		terms := drawTerms(t)
		f := drawFacts(t, terms)
		if err := validate(schema, Input(terms, f)); err != nil {
			t.Fatalf("input: %v", err)
		}
		p, err := e.Prepare(terms)
		if err != nil {
			t.Fatal(err)
		}
		have, err := p.Decide(context.Background(), f, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := oracle(terms, f); !same(have, want) {
			t.Fatalf("the rules say %+v\nthe oracle  %+v", *have, *want)
		}
		if have.Permit {
			permits++
		}
		for _, r := range have.Reasons {
			reasons[r]++
		}
	})
	t.Logf("%d permits; denials by reason: %v", permits, reasons)
	if permits == 0 && !testing.Short() {
		t.Error("no permit was drawn; the generators are off")
	}
}

// What Decide evaluates is exactly Input.
func TestValueIsInput(t *testing.T) {
	e := embeddedEngine(t)
	rapid.Check(t, func(t *rapid.T) {
		terms := drawTerms(t)
		f := drawFacts(t, terms)
		p, err := e.Prepare(terms)
		if err != nil {
			t.Fatal(err)
		}
		value, err := p.value(f)
		if err != nil {
			t.Fatal(err)
		}
		have, want := jsonOf(t, value), jsonOf(t, Input(terms, f))
		if have != want {
			t.Fatalf("evaluated: %s\nInput:     %s", have, want)
		}
	})
}

// With a memo the answers are those without, and equal inputs are asked once.
func TestMemoIsSound(t *testing.T) {
	e := embeddedEngine(t)
	rapid.Check(t, func(t *rapid.T) {
		var m Memo
		var prepared []*Prepared
		for range 2 {
			p, err := e.Prepare(drawTerms(t))
			if err != nil {
				t.Fatal(err)
			}
			prepared = append(prepared, p)
		}
		base := drawFacts(t, prepared[0].Terms())
		for range 12 {
			f := *base // few changes, so that keys are near one another
			other := drawFacts(t, prepared[0].Terms())
			switch rapid.IntRange(0, 6).Draw(t, "change") {
			case 0:
				f.Time = other.Time
			case 1:
				f.Kind = other.Kind
			case 2:
				f.Attributes = other.Attributes
			case 3:
				f.Cases = other.Cases
			case 4:
				f.Consents = other.Consents
			case 5:
				f.Usage = other.Usage
			}
			p := rapid.SampledFrom(prepared).Draw(t, "prepared")
			with, err := p.Decide(context.Background(), &f, &m)
			if err != nil {
				t.Fatal(err)
			}
			if want := oracle(p.Terms(), &f); !same(with, want) {
				t.Fatalf("with memo %+v\nwithout   %+v", *with, *want)
			}
			if m.get(p, &f) != with {
				t.Fatal("the same input would be evaluated twice")
			}
			if rapid.IntRange(0, 5).Draw(t, "reset") == 0 {
				m.Reset()
				if m.get(p, &f) != nil {
					t.Fatal("Reset kept an outcome")
				}
			}
		}
	})
}

// Keys are equal exactly when inputs are.
func TestMemoKeyIsTheInput(t *testing.T) {
	e := embeddedEngine(t)
	rapid.Check(t, func(t *rapid.T) {
		terms := drawTerms(t)
		p, err := e.Prepare(terms)
		if err != nil {
			t.Fatal(err)
		}
		f, g := drawFacts(t, terms), drawFacts(t, terms)
		if len(f.Consents) > 0 && rapid.Bool().Draw(t, "near") { // all but one value the same
			near := *f
			near.Consents = slices.Clone(f.Consents)
			switch c := &near.Consents[0]; rapid.IntRange(0, 5).Draw(t, "which") {
			case 0:
				c.Withdrawn = noon.Add(5 * time.Hour)
			case 1:
				c.Valid.To = noon.Add(5 * time.Hour)
			case 2:
				c.Purpose = "tredje"
			case 3:
				c.Dataset = "tredje"
			case 4:
				c.Consumer = provider
			case 5:
				c.ID, c.External = "another", "x" // not in the input
			}
			g = &near
		}
		texts := rapid.StringN(0, 3, -1)
		for _, x := range []*broker.Facts{f, g} {
			if rapid.Bool().Draw(t, "texts") { // texts that run into one another
				x.Attributes = []string{texts.Draw(t, "a"), texts.Draw(t, "b")}
			}
			x.Time = x.Time.Add(time.Duration(rapid.IntRange(0, 2_000_000).Draw(t, "ns")))
		}
		keys := string(p.appendKey(nil, f)) == string(p.appendKey(nil, g))
		inputs := jsonOf(t, Input(terms, f)) == jsonOf(t, Input(terms, g))
		if keys != inputs {
			t.Fatalf("keys equal: %v, inputs equal: %v", keys, inputs)
		}
	})
}

func TestMemoIsBounded(t *testing.T) {
	p := prepare(t, embeddedEngine(t), sample())
	var m Memo
	f := sampleFacts()
	long := strings.Repeat("x", 1<<20)
	for i := range 50 {
		f.Attributes = []string{long, strings.Repeat("y", i)}
		if m.get(p, f) != nil {
			t.Fatal("an outcome from nowhere")
		}
		m.put(&broker.Outcome{})
		if m.bytes > memoLimit || len(m.outcomes) > memoLimit>>20 {
			t.Fatalf("%d bytes in %d outcomes", m.bytes, len(m.outcomes))
		}
	}
	f.Attributes[0] = strings.Repeat("x", memoLimit+1)
	m.get(p, f)
	m.put(&broker.Outcome{})
	if m.get(p, f) != nil {
		t.Error("a key beyond the limit was kept")
	}
}

// One Prepared serves many goroutines, each with its own memo.
func TestConcurrentDecisions(t *testing.T) {
	e := embeddedEngine(t)
	var wg sync.WaitGroup
	for _, terms := range demoLike() {
		p := prepare(t, e, terms)
		for g := range 4 {
			wg.Go(func() {
				var m *Memo
				if g%2 == 0 {
					m = &Memo{}
				}
				for i := range 20 {
					f := sampleFacts()
					f.Time = f.Time.Add(time.Duration(i%5) * time.Second)
					have, err := p.Decide(context.Background(), f, m)
					if err != nil || !same(have, oracle(terms, f)) {
						t.Errorf("%+v, %v", have, err)
					}
				}
			})
		}
	}
	wg.Wait()
}

// Between two milliseconds an interval is narrowed, never widened.
func TestIntervalsNarrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := func(l string) time.Time {
			return noon.Add(time.Duration(rapid.Int64Range(-3_000_000, 3_000_000).Draw(t, l)))
		}
		i := broker.Interval{From: at("from"), To: at("to")}
		now := at("now")
		ms := now.UnixMilli()
		if fromMillis(i.From) <= ms && ms < toMillis(i.To) && !i.Contains(now) {
			t.Fatal("the rules would see it inside")
		}
		whole := func(t time.Time) time.Time { return t.Truncate(time.Millisecond) }
		j := broker.Interval{From: whole(i.From), To: whole(i.To)}
		if in := fromMillis(j.From) <= ms && ms < toMillis(j.To); in != j.Contains(now) {
			t.Fatal("with whole milliseconds the two must agree")
		}
	})
	open := broker.Interval{}
	if fromMillis(open.From) > noon.UnixMilli() || toMillis(open.To) <= noon.UnixMilli() {
		t.Error("an open interval does not contain a day in it")
	}
}

func TestFactsThatDoNotFit(t *testing.T) {
	e := embeddedEngine(t)
	p := prepare(t, e, sample())
	for name, f := range map[string]*broker.Facts{
		"no facts":   nil,
		"no time":    {Attributes: []string{"", ""}},
		"attributes": {Time: noon, Attributes: []string{""}},
		"kind":       {Time: noon, Attributes: []string{"", ""}, Kind: 7},
		"UTF-8":      {Time: noon, Attributes: []string{"\xff", ""}},
	} {
		if o, err := p.Decide(context.Background(), f, &Memo{}); err == nil || o != nil {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
	for _, terms := range []*broker.Terms{nil, {}, {Dataset: &broker.Dataset{}}, {Package: &broker.RightsPackage{}}} {
		if _, err := e.Prepare(terms); err == nil {
			t.Errorf("Prepare took %+v", terms)
		}
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if o, err := p.Decide(done, sampleFacts(), nil); err == nil || o != nil {
		t.Errorf("a context that is done: %+v, %v", o, err)
	}
}

func FuzzDecide(f *testing.F) {
	e, err := Compile(Embedded())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("0"))
	f.Add([]byte(strings.Repeat("permit and deny ", 40)))
	f.Add(slices.Repeat([]byte{0xff, 0, 7}, 300))
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		terms := drawTerms(t)
		facts := drawFacts(t, terms)
		facts.Attributes = []string{rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")}
		p, err := e.Prepare(terms)
		if err != nil {
			t.Fatal(err)
		}
		have, err := p.Decide(context.Background(), facts, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := oracle(terms, facts); !same(have, want) {
			t.Fatalf("the rules say %+v\nthe oracle  %+v", *have, *want)
		}
	}))
}

func inputSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(inputSchemaJSON)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("input.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("input.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(s *jsonschema.Schema, in map[string]any) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}
