package intake

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// A record in which nearly every value is a violation must cost about what a
// valid one costs: it is met again at each restart, by each instance in turn.
// Were the place of each violation looked up in the document, these would take
// minutes, and the test its time limit.
func TestManyViolations(t *testing.T) {
	var members strings.Builder
	for i := range 70_000 {
		members.WriteString(`"x` + strconv.Itoa(i) + `":0,`)
	}
	for _, c := range []struct{ name, schema, data, pointer string }{
		{"elements",
			`{"properties":{"a":{"type":"array","items":{"type":"object"}}}}`,
			`{"a":[{},` + strings.Repeat("0,", 430_000) + `0]}`, "/a/1"},
		{"members",
			`{"additionalProperties":{"type":"object"}}`,
			`{` + members.String() + `"z":1}`, ""},
	} {
		d := compileDataset(t, &broker.Dataset{
			ID: "d", Current: "1", Schemas: []broker.Schema{{Version: "1", Document: json.RawMessage(c.schema)}},
			Subject: broker.SubjectRule{Kind: broker.NoSubject},
		})
		msg := &Message{Value: []byte(c.data)}
		for name, value := range map[string]string{"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/s", "ce_type": "t", "content-type": "application/json"} {
			msg.Headers = append(msg.Headers, Header{name, []byte(value)})
		}
		var rec broker.Record
		var doc jsondoc.Doc
		r := d.Accept(msg, hasher, &rec, &doc)
		if r == nil || r.Code != broker.RejectSchema || r.Pointer != c.pointer {
			t.Errorf("%s: %v, want %s at %q", c.name, r, broker.RejectSchema, c.pointer)
		}
	}
}

// The first violation by place is told, elements in the order of their numbers.
func TestFirstViolation(t *testing.T) {
	for _, c := range []struct {
		a, b []string
		want int
	}{
		{[]string{"a"}, []string{"a", "0"}, -1},
		{[]string{"a", "9"}, []string{"a", "10"}, -1},
		{[]string{"a", "2"}, []string{"a", "2"}, 0},
		{[]string{"b"}, []string{"a", "2"}, 1},
	} {
		if got := comparePlaces(c.a, c.b); got != c.want {
			t.Errorf("%v and %v: %d, want %d", c.a, c.b, got, c.want)
		}
		if got := comparePlaces(c.b, c.a); got != -c.want {
			t.Errorf("%v and %v: %d, want %d", c.b, c.a, got, -c.want)
		}
	}
}

// A type goes to every consumer as it is, so no person's number fits into one,
// however it is broken up, and no sentence.
func TestTypeIsAName(t *testing.T) {
	for _, name := range []string{"t", "no.skatteetaten.inntekt.v1", "no.example.2026-10-01.v2", "https://example.no/typer/årlig#endret", "urn:x:974761076"} {
		if !isTypeName([]byte(name)) {
			t.Errorf("%q is not taken", name)
		}
	}
	for _, name := range []string{
		"15910095789", "no.p.159100-95789", "1.5.9.1.0.0.9.5.7.8.9", "159100 95789", "Ola Nordmann", "١٥٩١٠٠٩٥٧٨٩",
		"no.example/159100:95789/x", "x%31", strings.Repeat("x", 257),
	} {
		if isTypeName([]byte(name)) {
			t.Errorf("%q is taken", name)
		}
	}
}
