package intake

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/schema"
	"datafordeler/providers/synthetic"
)

// raceDetector: under it, sync.Pool drops things on purpose.
var raceDetector bool

// TestAcceptAllocates holds an accepted record in binary mode to no allocation
// at all, corrections and records with a trace included.
func TestAcceptAllocates(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes sync.Pool allocate")
	}
	d := compileDataset(t, incomeDataset(t))
	g := synthetic.New(synthetic.Config{People: 64, Seed: 1})
	var messages []*Message
	for i := range 64 {
		e := g.Income(nil, i)
		if i%4 == 1 {
			e = g.Correction(i)
		}
		msg := binaryMode(e)
		msg.Headers = append(msg.Headers, Header{"ce_traceparent", fmt.Appendf(nil, "00-%032x-%016x-01", i+1, i+1)})
		messages = append(messages, msg)
	}
	var rec broker.Record
	var doc jsondoc.Doc
	i := 0
	// In runs of 64 the pieces that traces are cut from are one allocation.
	if n := testing.AllocsPerRun(2000, func() {
		if r := d.Accept(messages[i%64], hasher, &rec, &doc); r != nil {
			t.Fatal(r)
		}
		i++
	}); n > 0 {
		t.Errorf("%v allocations for an accepted record", n)
	}
}

// TestStringsLast: what a record says stays as it was while others are taken.
func TestStringsLast(t *testing.T) {
	ds := incomeDataset(t)
	ds.Attributes = append(ds.Attributes, broker.Attribute{Name: "case", Extension: "casenumber"})
	d := compileDataset(t, ds)
	e := synthetic.New(synthetic.Config{People: 1, Seed: 1}).Income(nil, 0)
	type kept struct{ source, attribute, trace string }
	var records, want []kept
	var rec broker.Record
	var doc jsondoc.Doc
	for i := range 3 * maxKnown / 2 {
		msg := binaryMode(e)
		w := kept{fmt.Sprintf("https://example.no/%d", i%7), fmt.Sprintf("case-%d", i), fmt.Sprintf("00-%032x-%016x-01", i+1, i+1)}
		for j := range msg.Headers {
			if msg.Headers[j].Key == "ce_source" {
				msg.Headers[j].Value = []byte(w.source)
			}
		}
		msg.Headers = append(msg.Headers, Header{"ce_casenumber", []byte(w.attribute)}, Header{"ce_traceparent", []byte(w.trace)})
		if r := d.Accept(msg, hasher, &rec, &doc); r != nil {
			t.Fatal(r)
		}
		records, want = append(records, kept{rec.Source, rec.Attributes[3], rec.Traceparent}), append(want, w)
		for _, h := range msg.Headers { // Kafka's client uses its buffers anew
			clear(h.Value)
		}
	}
	for i := range records {
		if records[i] != want[i] {
			t.Fatalf("record %d says %v, want %v", i, records[i], want[i])
		}
	}
}

// TestSameNamesAgain: that a source and a type were fit before changes nothing
// of what is said of others.
func TestSameNamesAgain(t *testing.T) {
	d := compileDataset(t, incomeDataset(t))
	e := synthetic.New(synthetic.Config{People: 1, Seed: 1}).Income(nil, 0)
	with := func(source, kind string) string {
		msg := binaryMode(e)
		for j := range msg.Headers {
			switch msg.Headers[j].Key {
			case "ce_source":
				msg.Headers[j].Value = []byte(source)
			case "ce_type":
				msg.Headers[j].Value = []byte(kind)
			}
		}
		var rec broker.Record
		r := d.Accept(msg, hasher, &rec, new(jsondoc.Doc))
		if r == nil {
			return rec.Source + " " + rec.Type
		}
		return r.Error()
	}
	cases := [][2]string{{"/a", "no.a"}, {"/a", "no 12345678901"}, {"/12345678901", "no.a"}, {"/a", "no a"}, {"/a", ""}, {"", "no.a"}, {"/b", "no.a"}}
	for _, first := range cases {
		for _, second := range cases {
			d = compileDataset(t, incomeDataset(t))
			alone := with(second[0], second[1])
			d = compileDataset(t, incomeDataset(t))
			with(first[0], first[1])
			if got := with(second[0], second[1]); got != alone {
				t.Errorf("%q after %q: %s; alone: %s", second, first, got, alone)
			}
		}
	}
}

// singleByPath is what single is to give: the path gone through by itself.
func singleByPath(doc *jsondoc.Doc, path jsondoc.Path) (value string, problem valueProblem) {
	path.Scalars(doc, func(i int) bool {
		text := string(doc.Bytes(i))
		if doc.Node(i).Kind == jsondoc.String {
			text = string(doc.AppendText(nil, i))
		}
		switch kind := doc.Node(i).Kind; {
		case kind == jsondoc.Null:
		case kind == jsondoc.Object:
			problem = notScalar
		case value != "" && value != text:
			problem = severalValues
		default:
			value = text
		}
		return problem == noProblem
	})
	return value, problem
}

// TestSingle: the value found on validation's way is the one that the pointer
// leads to, with arrays in the way, nothing there, or several.
func TestSingle(t *testing.T) {
	pointers := []broker.Pointer{"/a", "/a/b", "/b/a", "/a/a/b"}
	schemas := []string{
		`{}`, `{"properties":{"a":{"$ref":"#"},"b":true}}`, `{"allOf":[{"properties":{"a":{}}}],"items":{"$ref":"#"}}`,
		`{"$ref":"#/$defs/x","$defs":{"x":{"patternProperties":{"a":{"$ref":"#"}},"additionalProperties":{"type":["object","array","string","number","null","boolean"]}}}}`,
		`{"unevaluatedProperties":{"$dynamicRef":"#n"},"$dynamicAnchor":"n"}`, // falls back
	}
	var compiled []*schema.Schema
	for _, s := range schemas {
		var doc jsondoc.Doc
		if err := doc.Parse([]byte(s), 64); err != nil {
			t.Fatal(err)
		}
		c, err := schema.Compile(&doc, pointers)
		if err != nil {
			t.Fatal(err)
		}
		compiled = append(compiled, c)
	}
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		var value func(depth int) any
		value = func(depth int) any {
			switch k := rapid.IntRange(0, 9).Draw(t, "kind"); {
			case k == 0:
				return nil
			case k <= 3 || depth == 0:
				return rapid.SampledFrom([]any{"x", "x", "y", 1, true, "", "\n"}).Draw(t, "value")
			case k <= 6:
				out := []any{}
				for range rapid.IntRange(0, 3).Draw(t, "n") {
					out = append(out, value(depth-1))
				}
				return out
			}
			return map[string]any{"a": value(depth - 1), "b": value(depth - 1)}
		}
		b, err := json.Marshal(value(5))
		if err != nil {
			t.Fatal(err)
		}
		var doc jsondoc.Doc
		if err := doc.Parse(b, 64); err != nil {
			t.Fatal(err)
		}
		var w scratch
		for i, s := range compiled {
			if s.Validate(&w.run, &doc) != nil {
				t.Fatalf("%s is not as %s wants", b, schemas[i])
			}
			for watch, p := range pointers {
				tokens, _ := p.Tokens()
				want, problem := singleByPath(&doc, tokens)
				got, gotProblem := w.single(&doc, watch)
				if problem != gotProblem || problem == noProblem && string(got) != want {
					t.Fatalf("%s under %s: %s is %q (%d), want %q (%d)", b, schemas[i], p, got, gotProblem, want, problem)
				}
				if want != "" {
					found++
				}
			}
		}
	})
	if found == 0 {
		t.Error("nothing was found")
	}
}

func TestSchemaForms(t *testing.T) {
	ds := small()
	ds.Schemas = append(ds.Schemas, broker.Schema{Version: "dynamic", URI: "https://example.no/dynamic",
		Document: json.RawMessage(`{"properties":{"a":{"$dynamicRef":"#n"}},"$defs":{"n":{"$dynamicAnchor":"n"}}}`)})
	forms := compileDataset(t, ds).SchemaForms()
	last := forms[len(forms)-1]
	if len(forms) != len(ds.Schemas) || forms[0].Fallback != "" || last.URI != "https://example.no/dynamic" || last.Fallback != "$dynamicRef to a $dynamicAnchor at #/properties/a" {
		t.Errorf("got %+v", forms)
	}
}

// TestTangled: a schema that leads to itself in two ways at every level, and a
// payload of forty levels. The library would ask 2^40 times.
func TestTangled(t *testing.T) {
	ds := small()
	ds.Schemas[1].Document = json.RawMessage(`{"properties":{"next":{"anyOf":[{"$ref":"#/$defs/t"},{"$ref":"#/$defs/t"}]}},
		"$defs":{"t":{"oneOf":[{"type":"string","maxLength":1},{"type":"object","properties":{"next":{"anyOf":[{"$ref":"#/$defs/t"},{"$ref":"#/$defs/t"}]}}}]}}}`)
	ds.Subject = broker.SubjectRule{Kind: broker.NoSubject}
	ds.Attributes = nil
	d := compileDataset(t, ds)
	if f := d.SchemaForms()[1].Fallback; f != "" {
		t.Fatal(f)
	}
	for last, code := range map[string]broker.RejectionCode{`"x"`: "", `"xx"`: broker.RejectSchema} {
		payload := strings.Repeat(`{"next":`, 40) + last + strings.Repeat("}", 40)
		var doc jsondoc.Doc
		var rec broker.Record
		msg := &Message{Timestamp: time.Unix(0, 0), Value: []byte(payload)}
		for name, value := range map[string]string{"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/s", "ce_type": "t", "content-type": "application/json"} {
			msg.Headers = append(msg.Headers, Header{name, []byte(value)})
		}
		r := d.Accept(msg, hasher, &rec, &doc)
		switch {
		case code == "" && r != nil, code != "" && (r == nil || r.Code != code):
			t.Errorf("%s at the end: %v", last, r)
		case r != nil && strings.Contains(r.Detail, "xx"):
			t.Errorf("tells the value: %v", r)
		}
	}
}

// TestIsText: eight bytes at a time it is what it is byte by byte.
func TestIsText(t *testing.T) {
	slow := func(s string) bool {
		for _, r := range s {
			if r < ' ' || r >= 0x7F && r <= 0x9F {
				return false
			}
		}
		return utf8.ValidString(s)
	}
	for _, odd := range []string{"", "\x00", "\x1f", " ", "\x7f", "~", "æ", "\u0080", "\u009f", "\u00a0", "\xff", "😀", "\n"} {
		for before := range 20 {
			for after := range 20 {
				s := strings.Repeat("a", before) + odd + strings.Repeat("!", after)
				if got, want := isText([]byte(s)), slow(s); got != want {
					t.Errorf("%q is text: %t, want %t", s, got, want)
				}
			}
		}
	}
}
