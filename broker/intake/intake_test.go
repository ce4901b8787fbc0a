package intake

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/keys"
	"datafordeler/broker/schema"
	"datafordeler/providers/synthetic"
)

var hasher Hasher = keys.NewTest(1)

func incomeDataset(t testing.TB) *broker.Dataset {
	t.Helper()
	document, err := os.ReadFile("../../deploy/demo/schemas/income-1.json")
	if err != nil {
		t.Fatal(err)
	}
	return &broker.Dataset{
		ID:      "inntekt",
		Schemas: []broker.Schema{{Version: "1", URI: synthetic.IncomeSchema, Document: document}},
		Current: "1",
		Subject: broker.SubjectRule{Kind: broker.Person, Pointer: "/oppgaveInntektsmottaker/inntektsmottaker/personidentifikator"},
		Attributes: []broker.Attribute{
			{Name: "municipality", Extension: "municipality"},
			{Name: "protected", Extension: "protected"},
			{Name: "period", Pointer: "/oppgaveInntektsmottaker/kalendermaaned"},
		},
	}
}

func compileDataset(t testing.TB, ds *broker.Dataset) *Dataset {
	t.Helper()
	d, err := Compile(ds, Defaults())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// binaryMode is an event in Kafka's binary mode.
func binaryMode(e synthetic.Event) *Message {
	add := func(h []Header, name, value string) []Header {
		if value == "" {
			return h
		}
		return append(h, Header{"ce_" + name, []byte(value)})
	}
	h := []Header{{"content-type", []byte("application/json")}}
	h = add(h, "specversion", "1.0")
	h = add(h, "id", e.ID)
	h = add(h, "source", e.Source)
	h = add(h, "type", e.Type)
	h = add(h, "dataschema", e.DataSchema)
	h = add(h, "time", e.Time.Format(time.RFC3339))
	for name, value := range e.Extensions() {
		h = add(h, name, value)
	}
	h = add(h, "supersedes", e.Supersedes)
	h = add(h, "retracts", e.Retracts)
	if e.Provisional {
		h = add(h, "provisional", "true")
	}
	return &Message{Position: broker.Position{Dataset: "inntekt", Offset: 7}, Headers: h, Value: e.Data}
}

func structuredMode(e synthetic.Event) *Message {
	return &Message{
		Position: broker.Position{Dataset: "inntekt", Offset: 7},
		Headers:  []Header{{"content-type", []byte("application/cloudevents+json; charset=utf-8")}},
		Value:    e.AppendStructured(nil),
	}
}

func TestAccept(t *testing.T) {
	d := compileDataset(t, incomeDataset(t))
	g := synthetic.New(synthetic.Config{People: 200, Seed: 1})
	var rec, other broker.Record
	var doc jsondoc.Doc
	for i := range 200 {
		e := g.Income(nil, i)
		switch i % 3 {
		case 1:
			e = g.Correction(i)
		case 2:
			e = g.Retraction(i)
		}
		if r := d.Accept(binaryMode(e), hasher, &rec, &doc); r != nil {
			t.Fatalf("record %d: %v", i, r)
		}
		want := broker.Record{
			Position: broker.Position{Dataset: "inntekt", Offset: 7},
			Event:    hasher.Event("inntekt", e.Source, e.ID),
			Source:   e.Source, Type: e.Type, Time: e.Time.Truncate(time.Second).UTC(), Schema: "1",
			Kind: broker.RecordKind(i % 3), Provisional: e.Provisional,
			Subject: hasher.Subject(broker.Person, string(e.Key)), HasSubject: true,
			Attributes: []string{e.Municipality, fmt.Sprint(e.Protected), g.Month()},
			Content:    rec.Content, Data: e.Data,
		}
		if of := e.Supersedes + e.Retracts; of != "" {
			want.Of = hasher.Event("inntekt", e.Source, of)
		}
		if !reflect.DeepEqual(rec, want) {
			t.Fatalf("record %d:\n got %+v\nwant %+v", i, rec, want)
		}
		if !bytes.Equal(doc.Data(), e.Data) {
			t.Fatal("the document holds something else than the payload")
		}
		// In structured mode it is the same record, content included.
		msg := structuredMode(e)
		if r := d.Accept(msg, hasher, &other, &doc); r != nil {
			t.Fatalf("record %d, structured: %v", i, r)
		}
		if !reflect.DeepEqual(rec, other) {
			t.Fatalf("record %d:\n structured %+v\n     binary %+v", i, other, rec)
		}
		if at := bytes.Index(msg.Value, rec.Data); &msg.Value[at] != &other.Data[0] {
			t.Fatal("the payload was copied")
		}
		id, content, ok := d.Identify(msg, hasher, &doc)
		if !ok || id != rec.Event || content != rec.Content {
			t.Fatalf("identified as %v %x %v, want %v %x", id, content, ok, rec.Event, rec.Content)
		}
	}
}

// TestContent says what may change between two publications of one event.
func TestContent(t *testing.T) {
	d := compileDataset(t, incomeDataset(t))
	e := synthetic.New(synthetic.Config{People: 1, Seed: 1}).Income(nil, 0)
	content := func(change func(*Message)) uint64 {
		msg := binaryMode(e)
		change(msg)
		var rec broker.Record
		if r := d.Accept(msg, hasher, &rec, new(jsondoc.Doc)); r != nil {
			t.Fatal(r)
		}
		return rec.Content
	}
	set := func(name, value string) func(*Message) {
		return func(m *Message) {
			for i := range m.Headers {
				if m.Headers[i].Key == name {
					m.Headers[i].Value = []byte(value)
					return
				}
			}
			m.Headers = append(m.Headers, Header{name, []byte(value)})
		}
	}
	same := content(func(*Message) {})
	for what, change := range map[string]func(*Message){
		"time":        set("ce_time", "2030-01-01T00:00:00Z"),
		"traceparent": set("ce_traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
		"other":       set("anything", "x"),
		"order":       func(m *Message) { m.Headers[7], m.Headers[8] = m.Headers[8], m.Headers[7] },
	} {
		if content(change) != same {
			t.Errorf("%s: two publications of one event look like two", what)
		}
	}
	for what, change := range map[string]func(*Message){
		"payload":    func(m *Message) { m.Value = append(bytes.Clone(m.Value), ' ') },
		"type":       set("ce_type", "annen"),
		"schema":     set("ce_dataschema", "1"),
		"protection": set("ce_protected", "ja"),
		"undeclared": set("ce_noe", "x"),
		"supersedes": set("ce_supersedes", "x"),
		"retracts":   set("ce_retracts", "x"),
	} {
		if content(change) == same {
			t.Errorf("%s: two records look like one", what)
		}
	}
}

func TestSyntheticFaults(t *testing.T) {
	d := compileDataset(t, incomeDataset(t))
	g := synthetic.New(synthetic.Config{People: 3, Seed: 1})
	want := map[synthetic.Fault]broker.RejectionCode{
		synthetic.MalformedJSON:        broker.RejectMalformedJSON,
		synthetic.NegativeAmount:       broker.RejectSchema,
		synthetic.WrongType:            broker.RejectSchema,
		synthetic.UnknownMember:        broker.RejectSchema,
		synthetic.MissingSubject:       broker.RejectSchema, // it requires the identifier: the schema speaks first
		synthetic.TwoSubjects:          broker.RejectManySubjects,
		synthetic.UnknownSchemaVersion: broker.RejectUnknownSchema,
		synthetic.TooDeep:              broker.RejectTooDeep,
		synthetic.DuplicateMember:      broker.RejectDuplicateName,
		synthetic.Giant:                broker.RejectTooLarge,
	}
	for _, fault := range synthetic.Faults() {
		e := g.Invalid(fault, 1)
		for mode, msg := range map[string]*Message{"binary": binaryMode(e), "structured": structuredMode(e)} {
			var rec broker.Record
			r := d.Accept(msg, hasher, &rec, new(jsondoc.Doc))
			if r == nil || r.Code != want[fault] {
				t.Errorf("%s, %s: %v", fault, mode, r)
				continue
			}
			t.Logf("%s, %s: %v", fault, mode, r)
			if key := string(e.Key); key != "" && strings.Contains(r.Error(), key) {
				t.Errorf("%s: the rejection names a person", fault)
			}
			if mode == "binary" && rec.Event != hasher.Event("inntekt", e.Source, e.ID) {
				t.Errorf("%s: the evidence does not say which event", fault)
			}
		}
	}
}

// small is a dataset on which each way to be rejected can be told in a line.
func small() *broker.Dataset {
	return &broker.Dataset{
		ID: "liten", Current: "2",
		Schemas: []broker.Schema{
			{Version: "1", URI: "https://eksempel.no/1", Document: json.RawMessage(`{"$schema":"http://json-schema.org/draft-04/schema#","properties":{"a":{"minimum":0,"exclusiveMinimum":true}}}`)},
			{Version: "2", URI: "https://eksempel.no/2", Document: json.RawMessage(`{"type":"object","required":["id"],"properties":{"id":{},"kommune":{},"liste":{"items":{"$ref":"#/$defs/e"}},"dato":{"format":"date"}},
				"patternProperties":{"^x":{"type":"string"}},"$defs":{"e":{"type":"object","additionalProperties":false,"properties":{"n":{"type":"integer","minimum":0}, "v":{"enum":["p","q"]}}}}}`)},
		},
		Subject:    broker.SubjectRule{Kind: broker.PropertySubject, Pointer: "/id"},
		Attributes: []broker.Attribute{{Name: "kommune", Pointer: "/kommune", Optional: true}, {Name: "vern", Extension: "vern"}},
	}
}

func TestRejections(t *testing.T) {
	d := compileDataset(t, small())
	const ok = `{"id":"0301-1/2"}`
	const base = "content-type=application/json ce_specversion=1.0 ce_id=e1 ce_source=/s ce_type=t ce_vern=nei"
	const se = "content-type=application/cloudevents+json"
	const envelope = `{"specversion":"1.0","id":"e1","source":"/s","type":"t","vern":false,`
	for _, c := range []struct {
		what, headers, value string
		code                 broker.RejectionCode // "" is accepted
		pointer, detail      string
	}{
		{"good", base, ok, "", "", ""},
		{"another +json", base + " content-type=application/geo+json;charset=utf-8", ok, "", "", ""},
		{"by version", base + " ce_dataschema=2", ok, "", "", ""},
		{"older draft", base + " ce_dataschema=https://eksempel.no/1", `{"id":"1","a":0}`, broker.RejectSchema, "/a", ""},
		{"no headers", "", ok, broker.RejectNotCloudEvent, "", "want headers"},
		{"no content-type", base + " -content-type", ok, broker.RejectContentType, "", "is missing"},
		{"other content-type", base + " content-type=text/xml", ok, broker.RejectContentType, "", "not JSON"},
		{"two content-types", base + " +content-type=application/json", ok, broker.RejectContentType, "", "several"},
		{"batch", "content-type=application/cloudevents-batch+json", `[]`, broker.RejectContentType, "", "one event a record"},
		{"no id", base + " ce_id=", ok, broker.RejectNotCloudEvent, "", "id is missing"},
		{"no source", base + " -ce_source", ok, broker.RejectNotCloudEvent, "", "source is missing"},
		{"twice", base + " +ce_type=u", ok, broker.RejectNotCloudEvent, "", "type stands there twice"},
		{"specversion", base + " ce_specversion=0.3", ok, broker.RejectNotCloudEvent, "", `not "1.0"`},
		{"not UTF-8", base + " ce_type=\xff", ok, broker.RejectNotCloudEvent, "", "UTF-8"},
		{"long", base + " ce_type=" + strings.Repeat("x", 5000), ok, broker.RejectNotCloudEvent, "", "longer than"},
		{"number in source", base + " ce_source=/p/01829413112", ok, broker.RejectAttribute, "", "eleven digits"},
		{"classified", base + " ce_dataclassification=secret", ok, broker.RejectAttribute, "", "dataclassification"},
		{"time", base + " ce_time=i-går", ok, broker.RejectNotCloudEvent, "", "RFC 3339"},
		{"provisional", base + " ce_provisional=yes", ok, broker.RejectAttribute, "", "provisional"},
		{"both", base + " ce_supersedes=a ce_retracts=b", ok, broker.RejectAttribute, "", "both supersedes and retracts"},
		{"corrects itself", base + " ce_supersedes=e1", ok, broker.RejectAttribute, "", "own id"},
		{"unknown schema", base + " ce_dataschema=3", ok, broker.RejectUnknownSchema, "", "https://eksempel.no/2"},
		{"tombstone", base, "", broker.RejectNotCloudEvent, "", "no value"},
		{"malformed", base, `{"id":`, broker.RejectMalformedJSON, "", "byte 6"},
		{"huge number", base, `{"id":"1","kommune":1e999999999}`, broker.RejectMalformedJSON, "/kommune", "1e±308"},
		{"long number", base, `{"id":"1","kommune":` + strings.Repeat("9", 101) + `}`, broker.RejectMalformedJSON, "/kommune", "100 characters"},
		{"duplicate", base, `{"id":"1","liste":[{},{"n":1,"\u006e":2}]}`, broker.RejectDuplicateName, "/liste/1", "has this name already"},
		{"duplicate below a name of the record's", base, `{"id":"1","01829413112":{"n":1,"n":2}}`, broker.RejectDuplicateName, "", ""},
		{"deep", base, strings.Repeat("[", 70), broker.RejectTooDeep, "", "64"},
		{"type", base, `{"id":"1","liste":[{},{"n":"hemmelig"}]}`, broker.RejectSchema, "/liste/1/n", "is string, where the schema wants integer"},
		{"enum", base, `{"id":"1","liste":[{"v":"hemmelig"}]}`, broker.RejectSchema, "/liste/0/v", "none of the values"},
		{"undeclared member", base, `{"id":"1","liste":[{"hemmelig":1}]}`, broker.RejectSchema, "/liste/0", "1 member(s)"},
		{"a name of the record's in the way", base, `{"id":"1","xhemmelig":1}`, broker.RejectSchema, "", "is number"},
		{"format", base, `{"id":"1","dato":"2026-02-30"}`, broker.RejectSchema, "/dato", "format date"},
		{"first of several", base, `{"liste":[{"n":-1},{"n":-1}],"dato":"x"}`, broker.RejectSchema, "", `lacks "id"`},
		{"not an object", base, `[]`, broker.RejectSchema, "", ""},
		{"no subject", base, `{"id":""}`, broker.RejectNoSubject, "/id", ""},
		{"null subject", base, `{"id":null}`, broker.RejectNoSubject, "/id", ""},
		{"object as subject", base, `{"id":{"x":1}}`, broker.RejectNoSubject, "/id", "object"},
		{"one subject twice", base, `{"id":["1","\u0031",null]}`, "", "", ""},
		{"two subjects", base, `{"id":["1",["2"]]}`, broker.RejectManySubjects, "/id", ""},
		{"attributes differ", base, `{"id":"1","kommune":["a","b"]}`, broker.RejectAttribute, "/kommune", "several values"},
		{"attribute missing", base + " -ce_vern", ok, broker.RejectAttribute, "", "extension vern"},
		{"attribute is an object", base, `{"id":"1","kommune":{}}`, broker.RejectAttribute, "/kommune", "object"},

		{"structured", se, envelope + `"data":` + ok + `}`, "", "", ""},
		{"base64", se, envelope + `"data_base64":"` + base64.StdEncoding.EncodeToString([]byte(ok)) + `"}`, "", "", ""},
		{"base64 of something else", se, envelope + `"data_base64":"aGVtbWVsaWc="}`, broker.RejectMalformedJSON, "", ""},
		{"not base64", se, envelope + `"data_base64":"#"}`, broker.RejectNotCloudEvent, "", "base64"},
		{"both kinds of data", se, envelope + `"data":1,"data_base64":"MQ=="}`, broker.RejectNotCloudEvent, "", "both"},
		{"no data", se, envelope + `"data":null}`, broker.RejectNotCloudEvent, "", "no data"},
		{"data is not JSON", se, envelope + `"datacontenttype":"text/plain","data":"x"}`, broker.RejectContentType, "", ""},
		{"not an object, structured", se, `[]`, broker.RejectNotCloudEvent, "", ""},
		{"malformed, structured", se, `{`, broker.RejectMalformedJSON, "", "in the CloudEvent"},
		{"duplicate attribute", se, envelope + `"id":"e2","data":1}`, broker.RejectDuplicateName, "", "in the CloudEvent"},
		{"duplicate in data", se, envelope + `"data":{"liste":{"n":1,"n":2}}}`, broker.RejectDuplicateName, "/liste", ""},
		{"id is a number", se, `{"specversion":"1.0","id":1,"source":"/s","type":"t","data":1}`, broker.RejectNotCloudEvent, "", "id is not a string"},
		{"extension is an object", se, strings.Replace(envelope, "false", "{}", 1) + `"data":1}`, broker.RejectNotCloudEvent, "", "single values"},
		{"null is absent", se, strings.Replace(envelope, "false", "null", 1) + `"data":` + ok + `}`, broker.RejectAttribute, "", "vern"},
		{"nothing", se, "", broker.RejectNotCloudEvent, "", "no value"},
	} {
		t.Run(c.what, func(t *testing.T) {
			msg := &Message{Position: broker.Position{Dataset: "liten"}}
			for _, field := range strings.Fields(c.headers) {
				name, value, given := strings.Cut(field, "=")
				if name[0] == '+' {
					msg.Headers = append(msg.Headers, Header{name[1:], []byte(value)})
					continue
				}
				kept := msg.Headers[:0]
				for _, h := range msg.Headers {
					if h.Key != strings.TrimPrefix(name, "-") {
						kept = append(kept, h)
					}
				}
				if msg.Headers = kept; given {
					msg.Headers = append(msg.Headers, Header{name, []byte(value)})
				}
			}
			if c.value != "" {
				msg.Value = []byte(c.value)
			}
			var rec broker.Record
			r := d.Accept(msg, hasher, &rec, new(jsondoc.Doc))
			switch {
			case r == nil && c.code == "":
			case r == nil || r.Code != c.code || r.Pointer != c.pointer || !strings.Contains(r.Detail, c.detail):
				t.Fatalf("got %v, want %s at %q with %q", r, c.code, c.pointer, c.detail)
			case strings.Contains(r.Error(), "hemmelig") || strings.Contains(r.Error(), "01829413112"):
				t.Fatalf("tells what stands in the record: %v", r)
			default:
				t.Log(r)
			}
		})
	}
}

func TestIdentifiers(t *testing.T) {
	for _, c := range []struct {
		kind  broker.SubjectKind
		value string
		want  broker.RejectionCode
	}{
		{broker.Person, `"01829413112"`, ""}, {broker.Person, `"0182941311"`, broker.RejectNoSubject},
		{broker.Person, `"018294 13112"`, broker.RejectNoSubject}, {broker.Person, `1829413112`, broker.RejectNoSubject},
		{broker.OrganisationSubject, `"974761076"`, ""}, {broker.OrganisationSubject, `"974761077"`, broker.RejectNoSubject},
		{broker.PropertySubject, `42`, ""}, {broker.NoSubject, `{}`, ""},
	} {
		ds := small()
		ds.Subject.Kind = c.kind
		if c.kind == broker.NoSubject {
			ds.Subject.Pointer = ""
		}
		msg := &Message{Headers: []Header{{"content-type", []byte("application/json")}, {"ce_specversion", []byte("1.0")}, {"ce_id", []byte("1")},
			{"ce_source", []byte("/s")}, {"ce_type", []byte("t")}, {"ce_vern", []byte("nei")}}, Value: []byte(`{"id":` + c.value + `}`)}
		var rec broker.Record
		got := broker.RejectionCode("")
		if r := compileDataset(t, ds).Accept(msg, hasher, &rec, new(jsondoc.Doc)); r != nil {
			got = r.Code
		}
		if got != c.want || (got == "" && rec.HasSubject != (c.kind != broker.NoSubject)) {
			t.Errorf("%s %s: %q, has a subject: %v", c.kind, c.value, got, rec.HasSubject)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for want, change := range map[string]func(*broker.Dataset){
		"no schema is declared":     func(d *broker.Dataset) { d.Schemas = nil },
		"which is not declared":     func(d *broker.Dataset) { d.Current = "https://eksempel.no/2" },
		`two schemas go by "1"`:     func(d *broker.Dataset) { d.Schemas[1].Version = "1" },
		"schema 1: byte 0":          func(d *broker.Dataset) { d.Schemas[0].Document = []byte("x") },
		"files and the network":     func(d *broker.Dataset) { d.Schemas[0].Document = []byte(`{"$ref":"file:///etc/passwd"}`) },
		"https://eksempel.no/annet": func(d *broker.Dataset) { d.Schemas[0].Document = []byte(`{"$ref":"https://eksempel.no/annet"}`) },
		"want it to begin with":     func(d *broker.Dataset) { d.Subject.Pointer = "id" },
		"there is no pointer to it": func(d *broker.Dataset) { d.Subject.Pointer = "" },
		`subject kind "hund"`:       func(d *broker.Dataset) { d.Subject.Kind = "hund" },
		"is declared twice":         func(d *broker.Dataset) { d.Attributes[1].Name = "kommune" },
		"give one of pointer":       func(d *broker.Dataset) { d.Attributes[1].Pointer = "/x" },
		"a register is":             func(d *broker.Dataset) { d.Attributes[1].Register = "adresse" },
		"has a meaning of its own":  func(d *broker.Dataset) { d.Attributes[1].Extension = "traceparent" },
		"written with a–z and 0–9":  func(d *broker.Dataset) { d.Attributes[1].Extension = "Vern" },
		"schema 2":                  func(d *broker.Dataset) { d.Schemas[1].Document = []byte(`{"type":"tall"}`) },
	} {
		ds := small()
		change(ds)
		if _, err := Compile(ds, Defaults()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %s, got %v", want, err)
		}
	}
	if _, err := Compile(small(), Limits{}); err == nil || strings.Count(err.Error(), "want") != 4 {
		t.Errorf("limits: %v", err)
	}
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	d := compileDataset(t, incomeDataset(t))
	g := synthetic.New(synthetic.Config{People: 50, Seed: 1})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var rec broker.Record
			var doc jsondoc.Doc
			for i := range 50 {
				if r := d.Accept(binaryMode(g.Income(nil, i)), hasher, &rec, &doc); r != nil {
					t.Error(r)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzAccept: whatever comes, the answer is a record or a rejection, the same
// each time, and says nothing that stood in the record.
func FuzzAccept(f *testing.F) {
	f.Add([]byte(`{"id":"1","liste":[{"n":1,"v":"p"}],"dato":"2026-01-01","xa":"b"}`), "application/json", "2", "nei")
	f.Add([]byte(`{"specversion":"1.0","id":"e","source":"/s","type":"t","vern":true,"data":{"id":"1"}}`), "application/cloudevents+json", "", "")
	f.Add([]byte(`{"id":"1","liste":[{"n":-1.5e300},{"v":"sekretet"}],"sekretet":{"a":1,"a":2}}`), "text/json", "1", "ja")
	ds := small()
	var formats []string
	for _, name := range strings.Fields("date time date-time duration period semver email hostname ipv4 ipv6 uri uri-reference uuid json-pointer relative-json-pointer regex idn-email uri-template") {
		formats = append(formats, `{"format":"`+name+`"}`)
	}
	ds.Schemas = append(ds.Schemas, broker.Schema{Version: "3", Document: json.RawMessage(
		`{"properties":{"id":{"allOf":[` + strings.Join(formats, ",") + `]},"liste":{"uniqueItems":true,"contains":{"multipleOf":0.01},"unevaluatedItems":false}},
		"propertyNames":{"maxLength":9},"dependentRequired":{"a":["b"]},"not":{"required":["c"]},"if":{"required":["d"]},"then":{"oneOf":[{"required":["e"]},{"required":["f"]}]},"unevaluatedProperties":{"type":["string","number"],"minLength":2}}`)})
	d, err := Compile(ds, Defaults())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"id":"2026-01-01T12:00:00Z","liste":[1,0.1,{}],"a":"x","d":1.5,"e":2}`), "application/json", "3", "ja")
	f.Add([]byte(`{"id":"sekretet@[::1]%zz/{x}~1"}`), "application/json", "3", "ja")
	f.Fuzz(func(t *testing.T, value []byte, contentType, schema, protection string) {
		msg := &Message{Headers: []Header{{"content-type", []byte(contentType)}, {"ce_specversion", []byte("1.0")}, {"ce_id", []byte("1")},
			{"ce_source", []byte("/s")}, {"ce_type", []byte("t")}, {"ce_vern", []byte(protection)}, {"ce_dataschema", []byte(schema)}}, Value: value}
		var rec, again broker.Record
		var doc jsondoc.Doc
		r, r2 := d.Accept(msg, hasher, &rec, &doc), d.Accept(msg, hasher, &again, new(jsondoc.Doc))
		if !reflect.DeepEqual(r, r2) || !reflect.DeepEqual(rec, again) {
			t.Fatalf("two answers: %v and %v", r, r2)
		}
		if r != nil {
			if strings.Contains(r.Error(), "sekretet") {
				t.Fatalf("tells what stands in the record: %v", r)
			}
			return
		}
		if !json.Valid(rec.Data) || !bytes.Equal(rec.Data, doc.Data()) || rec.Event.IsZero() || !rec.HasSubject || len(rec.Attributes) != 2 {
			t.Fatalf("accepted as %+v", rec)
		}
		if id, content, ok := d.Identify(msg, hasher, &doc); !ok || id != rec.Event || content != rec.Content {
			t.Fatal("cannot be identified as what it was accepted as")
		}
		sameLocated(t, ds, msg, &rec)
	})
}

// TestValidatorPanics: a record that the library fails on is rejected, and the
// stream goes on.
func TestValidatorPanics(t *testing.T) {
	d := compileDataset(t, small())
	var doc jsondoc.Doc
	if err := doc.Parse([]byte(`{"id":"1"}`), 8); err != nil {
		t.Fatal(err)
	}
	if r := d.validate(&declared{version: "none", Schema: new(schema.Schema)}, new(schema.Run), &doc); r == nil || r.Code != broker.RejectSchema {
		t.Errorf("got %v", r)
	}
}
