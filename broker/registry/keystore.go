package registry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"datafordeler/broker"
)

// Destroyed is a period whose key is gone, with who said so, when and at which
// revision.
type Destroyed struct {
	Destruction
	At       time.Time       `json:"at"`
	Actor    string          `json:"actor"`
	Revision broker.Revision `json:"revision"`
}

// DestroyedPeriods are all of them, by period, in a fresh slice.
func (s *State) DestroyedPeriods() []Destroyed {
	out := make([]Destroyed, 0, len(s.destroyed))
	for _, p := range slices.Sorted(maps.Keys(s.destroyed)) {
		out = append(out, s.destroyed[p])
	}
	return out
}

// PeriodDestroyed says whether a period's key is gone.
func (s *State) PeriodDestroyed(period string) (Destroyed, bool) {
	d, ok := s.destroyed[period]
	return d, ok
}

// KeystoreRegisteredAt says when a fingerprint was registered, last; ok is false
// for one that never was. A copy of the keystore with an older one lacks keys.
func (s *State) KeystoreRegisteredAt(check string) (at time.Time, ok bool) {
	at, ok = s.keystores[check]
	return at, ok
}

const maxReason = 500 // bytes

func (s *State) refuseDestruction(v *Destruction) string {
	switch {
	case s.keystore == "" || v.Check != s.keystore:
		return fmt.Sprintf("the keystore registered is %q, not %q", s.keystore, v.Check)
	case !isMonth(v.Period):
		return fmt.Sprintf("a period is a month such as 2026-01, not %q", v.Period)
	case strings.TrimSpace(v.Reason) == "":
		return "a period's key is destroyed for a reason"
	}
	if r := faultyReason(v.Reason); r != "" {
		return r
	}
	if d, ok := s.destroyed[v.Period]; ok {
		return fmt.Sprintf("the key of %s was destroyed before, by %s", v.Period, d.Actor)
	}
	return ""
}

// faultyReason says what is wrong with a reason that is kept for ever, or "".
func faultyReason(reason string) string {
	switch {
	case len(reason) > maxReason || strings.ContainsFunc(reason, unicode.IsControl):
		return fmt.Sprintf("a reason is one line of at most %d bytes", maxReason)
	case elevenDigits(reason):
		return "the reason holds eleven digits in a row: it could be a person's number"
	}
	return ""
}

// tooEarly refuses to end a month that was not over by the writer's clock. An
// instance judges at no time before the latest that an accepted event names, so
// once it has folded a destruction it never needs the key again.
func tooEarly(v *Destruction, at time.Time) string {
	if now := at.UTC().Format(monthFormat); v.Period >= now {
		return fmt.Sprintf("%s was not over on %s: decisions of that month need its key", v.Period, at.UTC().Format(time.DateOnly))
	}
	return ""
}

const monthFormat = "2006-01"

func isMonth(s string) bool {
	t, err := time.Parse(monthFormat, s)
	return err == nil && t.Format(monthFormat) == s
}
