package registry

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// Until the register has been read to its end nobody is known to be unprotected; then
// everybody is whom it does not name. The last word on each stands.
func TestProtectionIsWhatTheRegisterSays(t *testing.T) {
	people := []broker.SubjectKey{subjectNamed("a"), subjectNamed("b"), subjectNamed("c")}
	rapid.Check(t, func(r *rapid.T) {
		s := New()
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		want, known, sequence := map[broker.SubjectKey]broker.Protection{}, false, int64(0)
		for range rapid.IntRange(1, 20).Draw(r, "events") {
			at = at.Add(time.Second)
			var c Change
			accepted := true
			if rapid.Bool().Draw(r, "set") {
				p := Protect{rapid.SampledFrom(people).Draw(r, "who"), rapid.SampledFrom(broker.Protections).Draw(r, "grade")}
				c, want[p.Subject] = SetProtection(p), p.Grade
			} else {
				p := ProtectionSync{"folkeregisteret", rapid.Int64Range(1, 9).Draw(r, "sequence"), rapid.Bool().Draw(r, "current")}
				if accepted = p.Sequence >= sequence; accepted {
					sequence, known = p.Sequence, known || p.Current
				}
				c = SyncProtection(p)
			}
			e, err := s.Link(at, "test", c)
			if err != nil {
				r.Fatal(err)
			}
			if got, err := s.Fold(e[0]); err != nil || got != accepted {
				r.Fatalf("accepted %v, %v; want %v", got, err, accepted)
			}
			for _, k := range people {
				grade := want[k]
				if grade == "" || grade == broker.Unprotected {
					if grade = ""; known {
						grade = broker.Unprotected
					}
				}
				if got := s.Protection(k); got != grade {
					r.Fatalf("%q, want %q", got, grade)
				}
			}
		}
	})
}

// Only attributes that come from the register are filled, of datasets that have them.
func TestConsult(t *testing.T) {
	s, _ := everything(t)
	rec := broker.Record{Subject: subjectNamed("kari"), HasSubject: true, Attributes: []string{"x"}}
	rec.Dataset = "d"
	if s.Consult(&rec); !slices.Equal(rec.Attributes, []string{"x"}) {
		t.Errorf("%q", rec.Attributes)
	}
	rec.Dataset = "v"
	if s.Consult(&rec); !slices.Equal(rec.Attributes, []string{string(broker.StrictlyConfidential)}) {
		t.Errorf("%q", rec.Attributes)
	}
	rec.Subject = subjectNamed("ola")
	if s.Consult(&rec); !slices.Equal(rec.Attributes, []string{string(broker.Unprotected)}) {
		t.Errorf("%q", rec.Attributes)
	}
	if n := testing.AllocsPerRun(100, func() { s.Consult(&rec) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestProtectionsAreHeldToTheirWords(t *testing.T) {
	s, _ := everything(t) // followed to 17
	for want, p := range map[string]payload{
		"is of a subject":        &Protect{Grade: broker.Confidential},
		"there is no protection": &Protect{Subject: subjectNamed("a"), Grade: "hemmelig"},
		"is named":               &ProtectionSync{},
		"is named, in 200":       &ProtectionSync{Source: strings.Repeat("x", 201)},
		"eleven digits":          &ProtectionSync{Source: "01019012345"},
		"from 1":                 &ProtectionSync{Source: "x", Sequence: -1},
		"does not go back to 16": &ProtectionSync{Source: "folkeregisteret", Sequence: 16},
	} {
		if got := s.refuse(p, ""); !strings.Contains(got, want) {
			t.Errorf("want %q, got %q", want, got)
		}
	}
	for _, p := range []payload{&ProtectionSync{Source: "folkeregisteret", Sequence: 17}, &ProtectionSync{Source: "another", Sequence: 1}, &ProtectionSync{Source: "folkeregisteret"}} {
		if got := s.refuse(p, ""); got != "" {
			t.Errorf("%+v: %s", p, got)
		}
	}
}
