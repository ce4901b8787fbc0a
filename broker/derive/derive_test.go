package derive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// kindergarten is what a kindergarten's fee is set by: a band, and nothing else.
func kindergarten() *broker.RightsPackage {
	return &broker.RightsPackage{ID: "barnehage", Version: 1, Dataset: "inntekt", Fields: []broker.Pointer{"/person"},
		Derivations: []broker.Derivation{
			{V: 1, Target: "/inntektsbaand", Title: "Samlet lønn, i bånd", Rows: "/inntekt", Op: broker.Sum, Value: "/beloep", Empty: "0",
				Where: []broker.RowCondition{{Field: "/fordel", In: []string{"kontantytelse"}}},
				Bands: []broker.Band{{Name: "lav", Below: "20000"}, {Name: "middels", Below: "50000"}, {Name: "høy"}}},
			{V: 1, Target: "/flereGivere", Title: "Mer enn én arbeidsgiver", Rows: "/inntekt", Op: broker.Distinct, Value: "/giver", Absent: broker.AbsentSkips, Above: "1"},
		},
		Tests: []broker.DerivationTest{
			{Name: "lav", Record: []byte(`{"inntekt":[{"fordel":"kontantytelse","beloep":19999.99,"giver":"a"}]}`), Want: []byte(`{"inntektsbaand":"lav","flereGivere":false}`)},
			{Name: "på grensen", Record: []byte(`{"inntekt":[{"fordel":"kontantytelse","beloep":19999.99,"giver":"a"},{"fordel":"kontantytelse","beloep":"0.01","giver":"b"}]}`), Want: []byte(`{"flereGivere":true,"inntektsbaand":"middels"}`)},
			{Name: "høy", Record: []byte(`{"inntekt":[{"fordel":"kontantytelse","beloep":5e4},{"fordel":"naturalytelse"}]}`), Want: []byte(`{"inntektsbaand":"h\u00f8y","flereGivere":false}`)},
			{Name: "uten beløp", Record: []byte(`{"inntekt":[{"fordel":"kontantytelse"}]}`), Fails: "/inntektsbaand"},
		}}
}

func TestPackage(t *testing.T) {
	p := kindergarten()
	if f := append(Check(p), Unshown(p)...); len(f) > 0 {
		t.Fatal(f)
	}
	if got := Rule(&p.Derivations[0]); got != "sum(/inntekt[/fordel in (kontantytelse)]/beloep): lav < 20000 ≤ middels < 50000 ≤ høy; none: 0" {
		t.Error(got)
	}
	if got := Inputs(&p.Derivations[0]); !slices.Equal(got, []broker.Pointer{"/inntekt/beloep", "/inntekt/fordel"}) {
		t.Error(got)
	}
}

// TestFaults: each thing that a package can get wrong is refused, and where.
func TestFaults(t *testing.T) {
	for want, spoil := range map[string]func(p *broker.RightsPackage, d *broker.Derivation){
		"derivations/0/v: v is 2":                                        func(p *broker.RightsPackage, d *broker.Derivation) { d.V = 2 },
		"derivations/0/target: target is \"/a/b\"":                       func(p *broker.RightsPackage, d *broker.Derivation) { d.Target = "/a/b" },
		"derivations/0/target: target is \"/å\"":                         func(p *broker.RightsPackage, d *broker.Derivation) { d.Target = "/å" },
		"derivations/0/target: target is \"\"":                           func(p *broker.RightsPackage, d *broker.Derivation) { d.Target = "" },
		"derivations/0/target: /skjermet is the broker's":                func(p *broker.RightsPackage, d *broker.Derivation) { d.Target = "/skjermet" },
		"derivations/1/target: two derivations answer in /inntektsbaand": func(p *broker.RightsPackage, d *broker.Derivation) { p.Derivations[1].Target = d.Target },
		"derivations/0/target: the answer would stand in /person":        func(p *broker.RightsPackage, d *broker.Derivation) { d.Target = "/person" },
		"derivations/0/title: a derivation has no title":                 func(p *broker.RightsPackage, d *broker.Derivation) { d.Title = "" },
		"derivations/0/rows: JSON Pointer \"inntekt\"":                   func(p *broker.RightsPackage, d *broker.Derivation) { d.Rows = "inntekt" },
		"derivations/0/op: op is \"mean\"":                               func(p *broker.RightsPackage, d *broker.Derivation) { d.Op = "mean" },
		"derivations/0/op: op count takes no value":                      func(p *broker.RightsPackage, d *broker.Derivation) { d.Op, d.Empty = broker.Count, "" },
		"derivations/0/empty: op distinct takes no empty":                func(p *broker.RightsPackage, d *broker.Derivation) { d.Op = broker.Distinct },
		"derivations/0/by: op latest goes by a date":                     func(p *broker.RightsPackage, d *broker.Derivation) { d.By = "/d" },
		"derivations/0/absent: absent is \"hold\"":                       func(p *broker.RightsPackage, d *broker.Derivation) { d.Absent = broker.AbsentHolds },
		"derivations/0/empty: \"1e3\" is not a decimal":                  func(p *broker.RightsPackage, d *broker.Derivation) { d.Empty = "1e3" },
		"derivations/0: more than one of below":                          func(p *broker.RightsPackage, d *broker.Derivation) { d.Below = "1" },
		"derivations/0/bands: 1 bands":                                   func(p *broker.RightsPackage, d *broker.Derivation) { d.Bands = d.Bands[2:] },
		"derivations/0/bands/1/below: band \"middels\" ends at 20000.0":  func(p *broker.RightsPackage, d *broker.Derivation) { d.Bands[1].Below = "20000.0" },
		"derivations/0/bands/2/below: the last band ends":                func(p *broker.RightsPackage, d *broker.Derivation) { d.Bands[2].Below = "90000" },
		"derivations/0/bands/0: only the last band has no end":           func(p *broker.RightsPackage, d *broker.Derivation) { d.Bands[0].Below = "" },
		"derivations/0/bands/1/name: two bands are called \"lav\"":       func(p *broker.RightsPackage, d *broker.Derivation) { d.Bands[1].Name = "lav" },
		"derivations/0/bands/1/name: a band's name is \"a\\n\"":          func(p *broker.RightsPackage, d *broker.Derivation) { d.Bands[1].Name = "a\n" },
		"derivations/0/where/0: a condition compares in one way":         func(p *broker.RightsPackage, d *broker.Derivation) { d.Where[0].Below = "1" },
		"derivations/0/where/0: both in and notIn":                       func(p *broker.RightsPackage, d *broker.Derivation) { d.Where[0].NotIn = []string{"x"} },
		"derivations/0/where/0/absent: absent is \"zero\"":               func(p *broker.RightsPackage, d *broker.Derivation) { d.Where[0].Absent = "zero" },
		"derivations/0/where/0/from: \"2026-1\" is not a year":           func(p *broker.RightsPackage, d *broker.Derivation) { d.Where[0].In, d.Where[0].From = nil, "2026-1" },
		"derivations/0/where/0/before: no date is from from on": func(p *broker.RightsPackage, d *broker.Derivation) {
			d.Where[0].In, d.Where[0].From, d.Where[0].Before = nil, "2026-02", "2026-01"
		},
		"derivations/0/where/0/below: no number is at least": func(p *broker.RightsPackage, d *broker.Derivation) {
			d.Where[0].In, d.Where[0].AtLeast, d.Where[0].Below = nil, "1.50", "1.5"
		},
		"derivations: 33 derivations": func(p *broker.RightsPackage, d *broker.Derivation) {
			p.Derivations = slices.Repeat(p.Derivations[:1], 33)
		},
		"derivations: derivations without a test":                func(p *broker.RightsPackage, d *broker.Derivation) { p.Tests = nil },
		"tests: tests without derivations":                       func(p *broker.RightsPackage, d *broker.Derivation) { p.Derivations = nil },
		"tests/0: test \"\": it has no name":                     func(p *broker.RightsPackage, d *broker.Derivation) { p.Tests[0].Name = "" },
		"tests/0: test \"lav\": it says both want and fails":     func(p *broker.RightsPackage, d *broker.Derivation) { p.Tests[0].Want = nil },
		"tests/0: test \"lav\": the record is not a JSON object": func(p *broker.RightsPackage, d *broker.Derivation) { p.Tests[0].Record = []byte(`{"a":1,"a":2}`) },
		"tests/0: test \"lav\": want is not an object":           func(p *broker.RightsPackage, d *broker.Derivation) { p.Tests[0].Want = []byte(`["lav"]`) },
		"tests/0: test \"lav\": the answers are {\"inntektsbaand\":\"lav\"": func(p *broker.RightsPackage, d *broker.Derivation) {
			p.Tests[0].Want = []byte(`{"inntektsbaand":"lav"}`)
		},
		"tests/3: test \"uten beløp\": /inntektsbaand cannot be": func(p *broker.RightsPackage, d *broker.Derivation) { p.Tests[3].Fails = "/flereGivere" },
		"tests/2: test \"høy\": the answers are": func(p *broker.RightsPackage, d *broker.Derivation) {
			p.Tests[2].Want = []byte(`{"inntektsbaand":"høy","flereGivere":false,"mer":1}`)
		},
		"tests/1: test \"på grensen\": the answers are":                  func(p *broker.RightsPackage, d *broker.Derivation) { d.Bands[0].Below = "20000.01" },
		"tests/3: test \"uten beløp\": nothing fails":                    func(p *broker.RightsPackage, d *broker.Derivation) { d.Absent = broker.AbsentSkips },
		"tests/0: test \"lav\": /inntektsbaand cannot be derived: a row": func(p *broker.RightsPackage, d *broker.Derivation) { d.Value = "/belop" },
	} {
		p := kindergarten()
		spoil(p, &p.Derivations[0])
		if got := Refuse(p); !strings.HasPrefix(got, want) {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}

// TestUnshown: who applies a package is asked to show each answer that it can give.
func TestUnshown(t *testing.T) {
	p := kindergarten()
	p.Tests = p.Tests[:1]
	var got []string
	for _, f := range Unshown(p) {
		got = append(got, f.What)
	}
	want := []string{`no test shows that /inntektsbaand can be "middels", "høy"`, "no test shows that /flereGivere can be true"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Derivations = []broker.Derivation{{V: 1, Target: "/n", Title: "n", Op: broker.Count}}
	if got := Unshown(p); len(got) != 1 {
		t.Error(got)
	}
}

// TestManyRows: the bound is on rows gone through, counted or not.
func TestManyRows(t *testing.T) {
	s, err := Compile([]broker.Derivation{{V: 1, Target: "/n", Title: "n", Rows: "/a", Op: broker.Sum, Value: "", Empty: "0"}})
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]Cause{MaxRows: 0, MaxRows + 1: TooManyRows} {
		var doc jsondoc.Doc
		if err := doc.Parse([]byte(`{"a":[`+strings.Repeat("-999999999999999999.999999999,", n-1)+`0]}`), maxDepth); err != nil {
			t.Fatal(err)
		}
		got, err := s.Append(nil, &doc)
		if want == 0 {
			if sum := `"n":"-9998999999999999999999.999990001"`; string(got) != sum || err != nil {
				t.Errorf("%d rows: %s, %v; want %s", n, got, err, sum)
			}
			continue
		}
		if failed := (*Error)(nil); !errors.As(err, &failed) || failed.Cause != want {
			t.Errorf("%d rows: %s, %v", n, got, err)
		}
	}
}

// TestAsExact: a date that is less exact than the period is not guessed at.
func TestAsExact(t *testing.T) {
	for date, want := range map[string]string{`"2026-01-31"`: `"n":1`, `"2026-01"`: `"n":1`, `"2025-12"`: `"n":0`, `"2026"`: "", `"2026-01-31T00:00:00Z"`: "", `"2026-02-29"`: "", `2026`: "", `""`: ""} {
		s, err := Compile([]broker.Derivation{{V: 1, Target: "/n", Title: "n", Rows: "/a", Op: broker.Count, Where: []broker.RowCondition{{Field: "/d", From: "2026-01"}}}})
		if err != nil {
			t.Fatal(err)
		}
		var doc jsondoc.Doc
		if err := doc.Parse([]byte(`{"a":[{"d":`+date+`}]}`), maxDepth); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Append(nil, &doc); string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%s: %s, %v", date, got, err)
		}
	}
}

// TestTouches: what shielding takes away takes the answers with it that tell of it.
func TestTouches(t *testing.T) {
	d := &kindergarten().Derivations[0]
	for p, want := range map[broker.Pointer]bool{"": true, "/inntekt": true, "/inntekt/beloep": true, "/inntekt/fordel": true, "/inntekt/fordel/kode": true,
		"/inntekt/giver": false, "/person": false, "/inntekter": false} {
		if got := Touches(d, p); got != want {
			t.Errorf("%q: %v", p, got)
		}
	}
	count := &broker.Derivation{V: 1, Rows: "/a/b", Op: broker.Count, Where: []broker.RowCondition{{Field: "/c", In: []string{"x"}}}}
	for p, want := range map[broker.Pointer]bool{"/a": true, "/a/b": true, "/a/b/c": true, "/a/b/d": false} {
		if got := Touches(count, p); got != want {
			t.Errorf("%q: %v", p, got)
		}
	}
}

// TestSameRule: what was derived by another rule is another answer.
func TestSameRule(t *testing.T) {
	p, q := kindergarten(), kindergarten()
	q.Derivations[0].Title = "Andre ord"
	if !p.Derives(q) {
		t.Error("a title is no rule")
	}
	q.Derivations[0].Bands[0].Below = "30000"
	if p.Derives(q) {
		t.Error("another limit is another rule")
	}
	q = kindergarten()
	q.Derivations = q.Derivations[:1]
	if !p.Derives(q) || q.Derives(p) {
		t.Error("one derives less than the other")
	}
}

// TestErrorsAreMute: no error has a word of the record in it.
func TestErrorsAreMute(t *testing.T) {
	s, err := Compile(kindergarten().Derivations)
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range []string{`{"inntekt":"hemmelig"}`, `{"inntekt":["hemmelig"]}`, `{"inntekt":[{"fordel":{"hemmelig":1}}]}`, `{"inntekt":[{"fordel":"kontantytelse","beloep":"hemmelig"}]}`} {
		var doc jsondoc.Doc
		if err := doc.Parse([]byte(record), maxDepth); err != nil {
			t.Fatal(err)
		}
		got, err := s.Append(nil, &doc)
		if err == nil || len(got) > 0 || strings.Contains(fmt.Sprintf("%v %+v", err, err), "hemmelig") {
			t.Errorf("%s: %s, %v", record, got, err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	s, err := Compile(kindergarten().Derivations[:1])
	if err != nil {
		b.Fatal(err)
	}
	var doc jsondoc.Doc
	if err := doc.Parse([]byte(`{"person":"x","inntekt":[{"fordel":"kontantytelse","beloep":19999.99,"giver":"a"},{"fordel":"kontantytelse","beloep":1234.5,"giver":"a"},{"fordel":"naturalytelse","beloep":10,"giver":"b"}]}`), maxDepth); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		if dst, err = s.Append(dst[:0], &doc); err != nil {
			b.Fatal(err)
		}
	}
}
