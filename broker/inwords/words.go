package inwords

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"datafordeler/broker"
)

var months = [3][12]string{
	{"januar", "februar", "mars", "april", "mai", "juni", "juli", "august", "september", "oktober", "november", "desember"},
	{"januar", "februar", "mars", "april", "mai", "juni", "juli", "august", "september", "oktober", "november", "desember"},
	{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"},
}

// oslo is where a date in law begins.
var oslo = func() *time.Location {
	l, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		panic(err) // package broker links the zone database in
	}
	return l
}()

// midnight reports whether a moment is the beginning of a day in Oslo.
func midnight(t time.Time) bool {
	t = t.In(oslo)
	return t.Hour()|t.Minute()|t.Second()|t.Nanosecond() == 0
}

// day is a date, with the time of day where it is not its beginning.
func (w *writer) day(t time.Time) string {
	l := t.In(oslo)
	s := fmt.Sprintf("%d. %s %d", l.Day(), months[w.language][l.Month()-1], l.Year())
	clock := " kl. " + l.Format("15.04")
	if w.code == "en" {
		s = fmt.Sprintf("%d %s %d", l.Day(), months[w.language][l.Month()-1], l.Year())
		clock = " at " + l.Format("15:04")
	}
	if midnight(t) {
		return s
	}
	return s + clock
}

// span is an interval in words. Its end is the last day that is in it.
func (w *writer) span(i broker.Interval) string {
	from := ""
	if !i.From.IsZero() {
		from = w.f(pFrom, w.day(i.From))
	}
	to := w.f(pNoEnd)
	switch {
	case i.To.IsZero():
	case midnight(i.To):
		to = w.f(pThrough, w.day(i.To.In(oslo).AddDate(0, 0, -1)))
	default:
		to = w.f(pUntil, w.day(i.To))
	}
	return strings.TrimSpace(from + " " + to)
}

// inForce says of an interval whether it has begun, holds, or is over; "" where it holds.
func (w *writer) inForce(i broker.Interval) string {
	switch at := w.in.At; {
	case i.Contains(at):
		return ""
	case at.Before(i.From):
		return w.f(pNotYet)
	}
	return w.f(pOver)
}

// org is an organisation by name and number.
func (w *writer) org(n broker.OrgNumber) string {
	if o := w.st.Organisation(n); o != nil && o.Name != "" {
		return fmt.Sprintf("%s (%s)", o.Name, n)
	}
	return string(n)
}

// name is an organisation by its name alone, where the number was said.
func (w *writer) name(n broker.OrgNumber) string {
	if o := w.st.Organisation(n); o != nil && o.Name != "" {
		return o.Name
	}
	return string(n)
}

// or is a list in words: a, b or c.
func (w *writer) or(all []string) string { return w.join(all, pOr) }

// and is a list in words: a, b and c.
func (w *writer) and(all []string) string { return w.join(all, pAnd) }

func (w *writer) join(all []string, last phrase) string {
	switch n := len(all); n {
	case 0:
		return w.f(pNone)
	case 1:
		return all[0]
	default:
		return strings.Join(all[:n-1], ", ") + " " + w.f(last) + " " + all[n-1]
	}
}

var article = regexp.MustCompile(`^A(\d+)(?:-(\d+))?(?:-([a-z]))?$`)

// gdpr is an article in words, of DPV's notation: A6-1-e.
func (w *writer) gdpr(code string) string {
	m := article.FindStringSubmatch(code)
	if m == nil {
		return "GDPR " + code
	}
	if w.code == "en" {
		s := "GDPR article " + m[1]
		for _, part := range m[2:] {
			if part != "" {
				s += "(" + part + ")"
			}
		}
		return s
	}
	s := w.f(pGDPR) + " artikkel " + m[1]
	if m[2] != "" {
		s += " nr. " + m[2]
	}
	if m[3] != "" {
		s += " bokstav " + m[3]
	}
	return s
}

// leaf is the last name of a pointer, as words: opplysningspliktigId is
// «opplysningspliktig id».
func leaf(p broker.Pointer) string {
	tokens, err := p.Tokens()
	if err != nil || len(tokens) == 0 {
		return string(p)
	}
	var b strings.Builder
	for i, r := range tokens[len(tokens)-1] {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}
