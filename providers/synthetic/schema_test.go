package synthetic

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"
)

const schemas = "../../deploy/demo/schemas"

func compile(t testing.TB, file, id string) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open(filepath.Join(schemas, file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if got := doc.(map[string]any)["$id"]; got != id {
		t.Fatalf("%s has $id %v, records say %s", file, got, id)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(id, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(id)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return s
}

func check(s *jsonschema.Schema, data []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

func TestRecordsFollowTheirSchemas(t *testing.T) {
	income := compile(t, "income-1.json", IncomeSchema)
	property := compile(t, "property-1.json", PropertySchema)
	rapid.Check(t, func(t *rapid.T) {
		month := rapid.SampledFrom([]string{"2026-01", "2026-06", "2026-10", "2027-12"}).Draw(t, "month")
		g := New(Config{Seed: rapid.Uint64().Draw(t, "seed"), Month: month})
		from := rapid.IntRange(0, MaxPeople-8).Draw(t, "from")
		for i := from; i < from+8; i++ {
			for _, e := range []Event{g.Income(nil, i), g.Correction(i), g.Retraction(i), g.SameIDOtherContent(i)} {
				if err := check(income, e.Data); err != nil {
					t.Fatalf("person %d: %v\n%s", i, err, e.Data)
				}
			}
			if e := g.Property(nil, i); e.ID != "" {
				if err := check(property, e.Data); err != nil {
					t.Fatalf("person %d: %v\n%s", i, err, e.Data)
				}
			}
		}
	})
}

// compactJSON tells whether data is what json.Compact would leave: valid, and no space.
func compactJSON(data []byte) bool {
	var b bytes.Buffer
	return json.Compact(&b, data) == nil && bytes.Equal(b.Bytes(), data)
}

func TestRecordsAreCompactJSONWithoutDuplicates(t *testing.T) {
	g := New(Config{People: 3000, Seed: 77, Month: "2026-06"})
	for i := range g.People() {
		for _, e := range []Event{g.Income(nil, i), g.Property(nil, i)} {
			if e.ID == "" {
				continue
			}
			if !compactJSON(e.Data) {
				t.Fatalf("person %d: not compact JSON: %s", i, e.Data)
			}
			if name := duplicate(e.Data); name != "" {
				t.Fatalf("person %d: member %q twice in %s", i, name, e.Data)
			}
		}
	}
}

// duplicate returns a member name that some object has twice.
func duplicate(data []byte) string {
	d := json.NewDecoder(bytes.NewReader(data))
	type level struct {
		object, value bool
		names         map[string]bool
	}
	var stack []*level
	for {
		token, err := d.Token()
		if err != nil {
			return ""
		}
		var top *level
		if len(stack) > 0 {
			top = stack[len(stack)-1]
		}
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			stack = stack[:len(stack)-1]
			continue
		}
		if top != nil && top.object {
			if !top.value {
				name := token.(string)
				if top.names[name] {
					return name
				}
				top.names[name], top.value = true, true
				continue
			}
			top.value = false
		}
		if delim, ok := token.(json.Delim); ok {
			stack = append(stack, &level{object: delim == '{', names: map[string]bool{}})
		}
	}
}

// At every level, a member that nobody declared is refused: what the schema does
// not know, no rights package can have weighed.
func TestUnknownMembersAreRefusedEverywhere(t *testing.T) {
	income := compile(t, "income-1.json", IncomeSchema)
	property := compile(t, "property-1.json", PropertySchema)
	g := New(Config{People: 60, Seed: 4})
	for i := range g.People() {
		for s, e := range map[*jsonschema.Schema]Event{income: g.Income(nil, i), property: g.Property(nil, i)} {
			for at := range e.Data {
				// No string in these records holds a brace.
				if e.Data[at] != '{' {
					continue
				}
				with := append(append(append([]byte{}, e.Data[:at+1]...), `"ukjent":1,`...), e.Data[at+1:]...)
				if check(s, with) == nil {
					t.Fatalf("accepted: %s", with)
				}
			}
		}
	}
}

// An item of income is of exactly one kind.
func TestOneKindOfIncome(t *testing.T) {
	income := compile(t, "income-1.json", IncomeSchema)
	const record = `{"oppgaveInntektsmottaker":[{"opplysningspliktigId":"313876144","virksomhetId":"310149942","kalendermaaned":"2026-10","inntektsmottaker":{"personidentifikator":"01829413112"},"inntekt":[{"fordel":"kontantytelse","utloeserArbeidsgiveravgift":true,"inngaarIGrunnlagForTrekk":true,"beloep":1%s}]}]}`
	for kinds, want := range map[string]bool{
		``: false,
		`,"loennsinntekt":{"beskrivelse":"bonus"}`:                                                   true,
		`,"loennsinntekt":{"beskrivelse":"bonus"},"pensjonEllerTrygd":{"beskrivelse":"ufoeretrygd"}`: false,
		`,"loennsinntekt":{"beskrivelse":"ufoeretrygd"}`:                                             false,
	} {
		if err := check(income, fmt.Appendf(nil, record, kinds)); (err == nil) != want {
			t.Errorf("kinds %q: %v", kinds, err)
		}
	}
}

// Each fault is that fault: caught by the schema where a schema can, and otherwise
// a record that the schema accepts and something else must stop.
func TestFaults(t *testing.T) {
	income := compile(t, "income-1.json", IncomeSchema)
	rapid.Check(t, func(t *rapid.T) {
		g := New(Config{Seed: rapid.Uint64().Draw(t, "seed"), GiantBytes: 100_000})
		i := rapid.IntRange(0, 10_000).Draw(t, "person")
		good := g.Income(nil, i)
		for _, f := range Faults() {
			e := g.Invalid(f, i)
			err := check(income, e.Data)
			says := func(want string) {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("%v: the schema says %v, want it to name %q", f, err, want)
				}
			}
			if e.ID == good.ID {
				t.Fatalf("%v: has the id of the good record", f)
			}
			if (f == MissingSubject) != (e.Key == nil) {
				t.Fatalf("%v: key %q", f, e.Key)
			}
			switch f {
			case MalformedJSON:
				if json.Valid(e.Data) {
					t.Fatalf("%v: is valid JSON", f)
				}
			case NegativeAmount:
				says("minimum")
			case WrongType:
				says("got string, want integer")
				if duplicate(e.Data) != "" {
					t.Fatalf("%v: also has a duplicate member", f)
				}
			case UnknownMember:
				says("additional properties 'fagforening' not allowed")
			case MissingSubject:
				says("missing property 'personidentifikator'")
			case TooDeep:
				if !json.Valid(e.Data) || bytes.Count(e.Data, []byte("[")) < deep {
					t.Fatalf("%v: not valid JSON %d deep", f, deep)
				}
				says("want object")
			case Giant:
				if len(e.Data) < 100_000 || !json.Valid(e.Data) {
					t.Fatalf("%v: %d bytes", f, len(e.Data))
				}
				says("maxItems")
			case UnknownSchemaVersion:
				if err != nil || e.DataSchema == good.DataSchema {
					t.Fatalf("%v: %v, %s", f, err, e.DataSchema)
				}
			case DuplicateMember:
				if err != nil || duplicate(e.Data) != "personidentifikator" {
					t.Fatalf("%v: %v in %s", f, err, e.Data)
				}
			case TwoSubjects:
				other := g.Person(g.neighbour(i)).ID
				if err != nil || !bytes.Contains(e.Data, []byte(other)) || !bytes.Contains(e.Data, e.Key) {
					t.Fatalf("%v: %v in %s", f, err, e.Data)
				}
			default:
				t.Fatalf("%v is not tested", f)
			}
		}
	})
}

// The schema names each description that the generator may use, and the
// generator uses each that the schema names: a fast path tested on these records
// is tested on the whole schema.
func TestVariety(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(schemas, "income-1.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Defs map[string]struct {
			Properties struct{ Beskrivelse struct{ Enum []string } }
		} `json:"$defs"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	g := New(Config{People: 5000, Seed: 1})
	for i := range g.People() {
		all.Write(g.Income(nil, i).Data)
	}
	for _, kind := range []string{pay, benefit, pension} {
		descriptions := doc.Defs[kind].Properties.Beskrivelse.Enum
		if len(descriptions) == 0 {
			t.Errorf("the schema has no descriptions for %s", kind)
		}
		for _, d := range descriptions {
			if !bytes.Contains(all.Bytes(), []byte(`"`+kind+`":{"beskrivelse":"`+d+`"`)) {
				t.Errorf("nobody of 5,000 has %s %s", kind, d)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	g := New(Config{People: 20_000, Seed: 1})
	var sum int
	sizes := map[int]int{}
	for i := range g.People() {
		n := len(g.Income(nil, i).Data)
		sum += n
		sizes[n/200*200]++
	}
	if mean := sum / 20_000; mean < 700 || mean > 820 {
		t.Errorf("an income record has %d bytes on average, want about 760", mean)
	}
	t.Log("income records by size, in steps of 200 bytes:", sizes)
}
