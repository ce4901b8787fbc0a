package broker

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // dates in law are Norwegian days, also on a machine without a zone database
)

// oslo is where a date without a time of day begins.
var oslo = func() *time.Location {
	l, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		panic(err) // the zone database is linked in
	}
	return l
}()

// Interval is a half-open span of time [From, To). A zero From has always
// been; a zero To has no end yet.
type Interval struct {
	From time.Time
	To   time.Time
}

// Contains reports From ≤ t < To.
func (i Interval) Contains(t time.Time) bool {
	return !t.Before(i.From) && (i.To.IsZero() || t.Before(i.To))
}

// Overlaps reports whether the two share an instant.
func (i Interval) Overlaps(o Interval) bool {
	return (i.To.IsZero() || o.From.Before(i.To)) && (o.To.IsZero() || i.From.Before(o.To))
}

// Check says when the interval ends before, or as, it begins.
func (i Interval) Check() error {
	if !i.To.IsZero() && !i.From.Before(i.To) {
		return fmt.Errorf("the interval ends (%s) before it begins (%s)", i.To.Format(time.RFC3339), i.From.Format(time.RFC3339))
	}
	return nil
}

type intervalJSON struct {
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// MarshalJSON writes {"from": …, "to": …} in RFC 3339, UTC; zero times are left out.
func (i Interval) MarshalJSON() ([]byte, error) {
	return json.Marshal(intervalJSON{From: formatTime(i.From), To: formatTime(i.To)})
}

// UnmarshalJSON reads RFC 3339 times or dates (see ParseTime).
func (i *Interval) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	var j intervalJSON
	if err := dec.Decode(&j); err != nil {
		return err
	}
	var err error
	if i.From, err = ParseTime(j.From); err != nil {
		return fmt.Errorf("from: %w", err)
	}
	if i.To, err = ParseTime(j.To); err != nil {
		return fmt.Errorf("to: %w", err)
	}
	return nil
}

// ParseTime reads RFC 3339, or a date, which begins at midnight in Oslo. The
// empty string is the zero time.
func ParseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, oslo); err == nil {
		return t.UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("time %q: want 2026-01-31 or 2026-01-31T12:00:00Z", s)
	}
	return t.UTC(), nil
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
