package registry

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// What is told of consents that end is what each of them says for itself: those in
// force now, which end, or were withdrawn from a time, within the span.
func TestConsentsEnding(t *testing.T) {
	_, log := base(t)
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		for _, e := range log {
			must(s.Fold(e))
		}
		hour := func(label string) time.Time {
			return now.Add(time.Duration(rapid.IntRange(-4, 12).Draw(t, label)) * time.Hour)
		}
		n := rapid.IntRange(0, 12).Draw(t, "consents")
		for i := range n {
			c := broker.Consent{ID: broker.ConsentID(fmt.Sprint("c", i)), Subject: subjectNamed(fmt.Sprint(i % 5)), Consumer: "964338531", Dataset: "inntekt",
				Purpose: rapid.SampledFrom([]broker.Purpose{"sosialhjelp", "barnehage"}).Draw(t, "purpose")}
			if rapid.Bool().Draw(t, "starts") {
				c.Valid.From = hour("from")
			}
			if rapid.Bool().Draw(t, "ends") {
				c.Valid.To = c.Valid.From.Add(time.Duration(rapid.IntRange(1, 9).Draw(t, "lasts")) * time.Hour)
				if c.Valid.From.IsZero() {
					c.Valid.To = hour("to")
				}
			}
			events, err := s.Link(now, "test", GiveConsent(c))
			if err != nil || s.Check(events[0]) != nil {
				continue // one that the registry does not take
			}
			must(s.Fold(events[0]))
			if rapid.Bool().Draw(t, "withdrawn") {
				events, err := s.Link(now, "test", WithdrawConsent(c.ID, hour("at")))
				if err == nil && s.Check(events[0]) == nil {
					must(s.Fold(events[0]))
				}
			}
		}
		from, to := hour("span from"), hour("span to")
		want := map[broker.Purpose]ConsentsDue{}
		for i := range n {
			c, ok := s.Consent(broker.ConsentID(fmt.Sprint("c", i)))
			if !ok {
				continue
			}
			end := c.Valid.To
			if !c.Withdrawn.IsZero() && (end.IsZero() || c.Withdrawn.Before(end)) {
				end = c.Withdrawn
			}
			begun := c.Valid.From.IsZero() || !from.Before(c.Valid.From)
			if !begun || end.IsZero() || !from.Before(end) || to.Before(end) {
				continue
			}
			w := want[c.Purpose]
			if w.Count++; w.First.IsZero() || end.Before(w.First) {
				w.First = end
			}
			want[c.Purpose] = w
		}
		got := s.ConsentsEnding(from, to)
		if len(got) != len(want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
		for i, g := range got {
			w := want[g.Purpose]
			if g.Count != w.Count || !g.First.Equal(w.First) || g.Consumer != "964338531" || g.Dataset != "inntekt" {
				t.Errorf("%+v, want %+v", g, w)
			}
			if i > 0 && got[i-1].Purpose >= g.Purpose {
				t.Error("out of order")
			}
		}
	})
}
