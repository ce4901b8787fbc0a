package registry

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// A deviation goes from status to status by the ones that may follow, and no other way;
// what is closed may be reported again, what is open may not.
func TestDeviationsGoTheirWay(t *testing.T) {
	next := map[DeviationStatus][]DeviationStatus{
		DeviationReported:  {DeviationReceived, DeviationConfirmed, DeviationRefused, DeviationCorrected, DeviationWithdrawn},
		DeviationReceived:  {DeviationConfirmed, DeviationRefused, DeviationCorrected, DeviationWithdrawn},
		DeviationConfirmed: {DeviationCorrected, DeviationWithdrawn},
	}
	s, _ := everything(t)
	at := time.Date(2026, 1, 20, 0, 0, 0, 0, time.UTC)
	do := func(c Change) error {
		e, err := s.Link(at, "test", c)
		if err != nil {
			return err
		}
		if err := s.Check(e[0]); err != nil {
			return err
		}
		_, err = s.Fold(e[0])
		return err
	}
	rapid.Check(t, func(r *rapid.T) {
		// The state is one: each run draws a decision of its own.
		var decision broker.DecisionID
		copy(decision[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(r, "decision"))
		fields := rapid.SliceOfN(rapid.SampledFrom([]broker.Pointer{"/p", "/q", "/r"}), 0, 5).Draw(r, "fields")
		d := NewDeviation(decision, "s", rapid.SampledFrom(DeviationKinds).Draw(r, "kind"), fields, "")
		if _, known := s.Deviation(d.ID); known || decision.IsZero() {
			r.Skip("drawn before")
		}
		status := DeviationStatus("")
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			at = at.Add(time.Second)
			to := rapid.SampledFrom(DeviationStatuses).Draw(r, "to")
			c, may := AnswerDeviation(DeviationAnswer{ID: d.ID, Status: to}), slices.Contains(next[status], to)
			if to == DeviationReported {
				c, may = ReportDeviation(d), !status.Open()
			}
			if err := do(c); (err == nil) != may {
				r.Fatalf("from %q to %q: %v", status, to, err)
			}
			if may {
				status = to
			}
			if got, _ := s.Deviation(d.ID); got.Status != status {
				r.Fatalf("it stands as %q, want %q", got.Status, status)
			}
		}
		if !slices.IsSortedFunc(s.Deviations(), func(a, b DeviationState) int { return cmp.Compare(b.Revision, a.Revision) }) {
			r.Fatal("the last changed is not first")
		}
	})
}

// What may not stand in the log for ever is refused, and so is what leads nowhere.
func TestDeviationsAreHeldToTheirWords(t *testing.T) {
	s, _ := everything(t)
	good := NewDeviation(broker.Digest{7}, "s", WrongValue, []broker.Pointer{"/p", "/a/0", "/p"}, "gjelder mars")
	if len(good.Fields) != 2 || good.ID != NewDeviation(broker.Digest{7}, "s", WrongValue, []broker.Pointer{"/a/0", "/p"}, "").ID {
		t.Fatalf("the same fields in another order are another deviation: %+v", good)
	}
	if r := s.refuseDeviation(&good); r != "" {
		t.Fatal(r)
	}
	for want, edit := range map[string]func(*Deviation){
		"names the decision":     func(d *Deviation) { d.Decision = broker.DecisionID{} },
		"is not registered":      func(d *Deviation) { d.Subscription = "nobody" },
		"there is no deviation":  func(d *Deviation) { d.Kind = "ugly" },
		"50 fields at the most":  func(d *Deviation) { d.Fields = slices.Repeat([]broker.Pointer{"/p"}, 51) },
		"hash of what it says":   func(d *Deviation) { d.ID[0]++ },
		"stands twice":           func(d *Deviation) { d.Fields = []broker.Pointer{"/p", "/p"} },
		"longer than 500 bytes":  func(d *Deviation) { d.Note = strings.Repeat("x", 501) },
		"eleven digits in a row": func(d *Deviation) { d.Note = "om 01019012345" },
		"a field holds eleven":   func(d *Deviation) { d.Fields = []broker.Pointer{"/01019012345"} },
		"JSON Pointer":           func(d *Deviation) { d.Fields = []broker.Pointer{"p"} },
	} {
		d := good
		if edit(&d); !strings.HasPrefix(want, "hash") {
			d.ID = deviationID(d.Decision, d.Subscription, d.Kind, d.Fields)
		}
		if got := s.refuseDeviation(&d); !strings.Contains(got, want) {
			t.Errorf("want %q, got %q", want, got)
		}
	}
	if got := s.refuseDeviationAnswer(&DeviationAnswer{ID: good.ID, Status: DeviationReceived}); !strings.Contains(got, "is reported") {
		t.Error(got)
	}
	wrong := NewDeviation(broker.Digest{1}, "s", WrongValue, []broker.Pointer{"/p"}, "")
	if got := s.refuseDeviationAnswer(&DeviationAnswer{ID: wrong.ID, Status: DeviationCorrected, Note: "se 01019012345"}); !strings.Contains(got, "eleven digits") {
		t.Error(got)
	}
}
