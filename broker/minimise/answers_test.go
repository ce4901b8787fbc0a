package minimise

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/derive"
	"datafordeler/broker/jsondoc"
)

// band is whether the rows' sum is below, between or above; count how many there are.
var (
	band = broker.Derivation{V: 1, Target: "/svar", Title: "Bånd", Rows: "/rader", Op: broker.Sum, Value: "/n", Absent: broker.AbsentSkips, Empty: "0",
		Where: []broker.RowCondition{{Field: "/ja", In: []string{"true"}}}, Bands: []broker.Band{{Name: "lav", Below: "2"}, {Name: "mid", Below: "4"}, {Name: "høy"}}}
	several = broker.Derivation{V: 1, Target: "/flere", Title: "Flere", Rows: "/andre", Op: broker.Count, Above: "1"}
)

func answering(p *broker.RightsPackage, ds ...broker.Derivation) *broker.RightsPackage {
	p.Derivations = ds
	return p
}

func TestAnswers(t *testing.T) {
	const record = `{"a":1,"b":2,"rader":[{"n":1,"ja":true},{"n":"1.5","ja":true},{"n":9,"ja":false}],"andre":[1,2],"svar":"løgn"}`
	shielding := func(remove ...broker.Pointer) *broker.RightsPackage {
		return protected(answering(rights("/a"), band, several), false, remove...)
	}
	for _, c := range []struct {
		what       string
		pack       *broker.RightsPackage
		protection string
		want       string
		fields     string
	}{
		{"beside fields", answering(rights("/b", "/a"), band, several), "nei", `{"b":2,"a":1,"svar":"mid","flere":true}`, "/b /a /svar /flere"},
		{"alone", answering(rights(), band), "nei", `{"svar":"mid"}`, "/svar"},
		{"beside nothing of the record", answering(rights("/x"), several), "nei", `{"flere":true}`, "/x /flere"},
		{"not shielded", shielding("/b"), "nei", `{"a":1,"svar":"mid","flere":true}`, "/a /svar /flere"},
		{"shielded, of other things", shielding("/b"), "ja", `{"skjermet":true,"a":1,"svar":"mid","flere":true}`, "/skjermet /a /svar /flere"},
		{"shielded, of the value", shielding("/rader/n"), "ja", `{"skjermet":true,"a":1,"flere":true}`, "/skjermet /a /flere"},
		{"shielded, of the condition", shielding("/rader/ja"), "ja", `{"skjermet":true,"a":1,"flere":true}`, "/skjermet /a /flere"},
		{"shielded, of the rows", shielding("/andre", "/a"), "ja", `{"skjermet":true,"svar":"mid"}`, "/skjermet /svar"},
		{"shielded, by the answer's name", shielding("/svar"), "ja", `{"skjermet":true,"a":1,"flere":true}`, "/skjermet /a /flere"},
		{"shielded, of all", shielding("/a", "/rader", "/andre"), "ja", `{"skjermet":true}`, "/skjermet"},
		{"shielded, the body", protected(answering(rights("/a"), band), true), "ja", `{"skjermet":true}`, "/skjermet"},
		{"alone and shielded", protected(answering(rights(), band), false, "/a"), "ja", `{"skjermet":true,"svar":"mid"}`, "/skjermet /svar"},
	} {
		t.Run(c.what, func(t *testing.T) {
			p := compile(t, c.pack)
			if got := project(t, p.OnlyValues(), record, c.protection); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
			var names []string
			for _, f := range p.Fields(c.protection == "ja") {
				names = append(names, string(f))
			}
			if got := strings.Join(names, " "); got != c.fields {
				t.Errorf("fields %s, want %s", got, c.fields)
			}
		})
	}
}

// TestNoAnswerNoRecord: where an answer cannot be worked out nothing leaves, and of a
// shielded record only what would leave is worked out.
func TestNoAnswerNoRecord(t *testing.T) {
	p := compile(t, protected(answering(rights("/a"), band), false, "/rader"))
	var doc jsondoc.Doc
	if err := doc.Parse([]byte(`{"a":"hemmelig","rader":[{"n":"x","ja":true}]}`), 10); err != nil {
		t.Fatal(err)
	}
	var c Cutter
	for _, cut := range []func(dst []byte, attributes []string) ([]byte, bool, error){
		func(dst []byte, attributes []string) ([]byte, bool, error) { return p.Append(dst, &doc, attributes) },
		func(dst []byte, attributes []string) ([]byte, bool, error) { return c.Append(p, dst, &doc, attributes) },
	} {
		out, _, err := cut([]byte("before"), []string{"0301", "nei"})
		if string(out) != "before" || Reason(err) != broker.ReasonDerivation {
			t.Errorf("%q, %v", out, err)
		}
		out, shielded, err := cut(nil, []string{"0301", "ja"})
		if string(out) != `{"skjermet":true,"a":"hemmelig"}` || !shielded || err != nil {
			t.Errorf("%s, %v", out, err)
		}
	}
	if Reason(ErrNotObject) != broker.ReasonNotMinimisable {
		t.Error("all is a derivation")
	}
}

func TestCompileRefusesAnswers(t *testing.T) {
	for want, d := range map[string]broker.Derivation{
		"the broker's own":        {V: 1, Target: "/skjermet", Title: "x", Op: broker.Count},
		"leaves there as it is":   {V: 1, Target: "/a", Title: "x", Op: broker.Count},
		"v is 2":                  {V: 2, Target: "/x", Title: "x", Op: broker.Count},
		`the field "" leaves`:     {V: 1, Target: "/x", Title: "x", Op: broker.Count},
		"two derivations answer ": several,
	} {
		p := answering(rights("/a"), d)
		switch {
		case strings.Contains(want, `""`):
			p = answering(rights(""), d)
		case strings.Contains(want, "two"):
			p.Derivations = append(p.Derivations, several)
		}
		if _, err := Compile(p, &dataset); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func drawRows(t *rapid.T) string {
	var rows []string
	for range rapid.IntRange(0, 3).Draw(t, "rows") {
		rows = append(rows, rapid.SampledFrom([]string{`{"n":1,"ja":true}`, `{"n":1.0,"ja":true,"x":"y"}`, `{"ja":true,"n":"2"}`, `{"n":7,"ja":false}`, `{"ja":true}`, `{"n":1e0,"ja":true}`, `{"n":[],"ja":true}`}).Draw(t, "row"))
	}
	return "[" + strings.Join(rows, ",") + "]"
}

// TestOnlyTheAnswerShows: records that differ only outside the fields give the same
// bytes where the answers are the same, and otherwise differ in the answers alone,
// whatever they were worked out of.
func TestOnlyTheAnswerShows(t *testing.T) {
	same, differ := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		o := oracle{fields: drawPaths(t, "fields", 1), remove: [][]string{{Mark}}}
		pack := answering(rights(), band, several)
		for _, f := range o.fields {
			pack.Fields = append(pack.Fields, pointer(f))
		}
		p, plain := compile(t, pack), compile(t, rights(pack.Fields...))
		only, err := derive.Compile(pack.Derivations)
		if err != nil {
			t.Fatal(err)
		}
		twin, _ := twins{t, o}.value(nil, 3)
		var c Cutter
		var out, answers [2][]byte
		for i, record := range []string{twin.a, twin.b} {
			more := []string{`"rader":` + drawRows(t), `"andre":` + drawRows(t)}
			record = strings.TrimSuffix(strings.TrimSpace(record), "}")
			if strings.TrimSpace(record) != "{" {
				record += ","
			}
			record += strings.Join(more, ",") + "}"
			var doc jsondoc.Doc
			if err := doc.Parse([]byte(record), 100); err != nil {
				t.Fatalf("%s: %v", record, err)
			}
			var failed *derive.Error
			if answers[i], err = only.Append(nil, &doc); err != nil && !errors.As(err, &failed) {
				t.Fatal(err)
			}
			numbers(&doc, 1)
			for _, cut := range []func() ([]byte, bool, error){
				func() ([]byte, bool, error) { return p.Append(nil, &doc, nil) },
				func() ([]byte, bool, error) { return c.Append(p, nil, &doc, nil) },
				func() ([]byte, bool, error) { return c.Append(p, nil, &doc, nil) },
				func() ([]byte, bool, error) { return c.Append(p, nil, &doc, nil) },
			} {
				got, _, err := cut()
				if (err == nil) != (failed == nil) {
					t.Fatalf("%s: %v, want %v", record, err, failed)
				}
				if failed != nil {
					return
				}
				if out[i] != nil && !bytes.Equal(out[i], got) {
					t.Fatalf("%s: %s and %s", record, out[i], got)
				}
				out[i] = got
			}
			fields, _, err := plain.Append(nil, &doc, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Concat(fields[:len(fields)-1], []byte(","), answers[i], []byte("}"))
			if len(fields) == 2 {
				want = slices.Concat([]byte("{"), answers[i], []byte("}"))
			}
			if !bytes.Equal(out[i], want) {
				t.Fatalf("%s: %s, want %s", record, out[i], want)
			}
		}
		if bytes.Equal(answers[0], answers[1]) {
			same++
			if !bytes.Equal(out[0], out[1]) {
				t.Fatalf("the answers are the same, and yet %s and %s", out[0], out[1])
			}
		} else {
			differ++
		}
	})
	if same < 5 || differ < 5 {
		t.Errorf("%d pairs with the same answers, %d with others", same, differ)
	}
}
