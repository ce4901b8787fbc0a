package derive

import (
	"fmt"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// Version is the newest version of the language that this program knows.
const Version = 1

// Bounds. They are a part of the language: what one instance takes, all take.
const (
	MaxRows        = 10_000 // gone through for one answer
	MaxDerivations = 32     // in a package
	MaxConditions  = 16     // of a derivation
	MaxValues      = 1_000  // listed in a condition
	MaxBands       = 64
	MaxTests       = 256 // of a package
	maxDepth       = 64  // of a test's record
	maxName        = 80  // bytes of a target or a band's name
)

// Set is derivations, compiled. It is read-only and may be shared.
type Set struct{ rules []rule }

type rule struct {
	target broker.Pointer
	prefix []byte // the target's name as a member, with the colon

	rows  jsondoc.Path
	where []condition

	op           broker.DerivationOp
	value, by    jsondoc.Path
	skips        bool // a row without the value
	empty        number
	hasEmpty     bool
	limit        limit
	than         number
	bands        []band
	bandsOrLimit bool
}

type limit uint8

const (
	noLimit limit = iota
	below
	atMost
	atLeast
	above
)

type band struct {
	answer []byte // the name, in quotes
	below  number
}

type kind uint8

const (
	texts kind = iota + 1
	numbers
	dates
)

type condition struct {
	field  jsondoc.Path
	absent broker.WhenAbsent
	kind   kind

	in, notIn []string

	atLeast, below       number
	hasAtLeast, hasBelow bool

	from, before string
}

// Compile prepares derivations; of none it is nil. The error is the first of what
// [Check] finds in them, without their tests.
func Compile(ds []broker.Derivation) (*Set, error) {
	if len(ds) == 0 {
		return nil, nil
	}
	var faults []Fault
	if len(ds) > MaxDerivations {
		faults = append(faults, Fault{"derivations", fmt.Sprintf("%d derivations", len(ds)), fmt.Sprintf("want at most %d", MaxDerivations)})
	}
	s := &Set{rules: make([]rule, 0, len(ds))}
	for i := range ds {
		c := compiler{path: fmt.Sprintf("derivations/%d", i)}
		s.rules = append(s.rules, c.rule(&ds[i]))
		for j := range ds[:i] {
			if ds[j].Target == ds[i].Target {
				c.fault("/target", fmt.Sprintf("two derivations answer in %s", ds[i].Target), "give each a target of its own")
			}
		}
		faults = append(faults, c.faults...)
	}
	if len(faults) > 0 {
		return nil, faults[0].err()
	}
	return s, nil
}

// Targets are where the answers stand, in order.
func (s *Set) Targets() []broker.Pointer {
	var out []broker.Pointer
	for i := range s.rules {
		out = append(out, s.rules[i].target)
	}
	return out
}

// Fault is something wrong with a package's derivations or tests.
type Fault struct {
	Path   string // from the package on: "derivations/0/where/1/in"
	What   string
	Remedy string // may be empty
}

func (f *Fault) err() error {
	if f.Remedy == "" {
		return fmt.Errorf("%s: %s", f.Path, f.What)
	}
	return fmt.Errorf("%s: %s: %s", f.Path, f.What, f.Remedy)
}

type compiler struct {
	path   string
	faults []Fault
}

func (c *compiler) fault(path, what, remedy string) {
	c.faults = append(c.faults, Fault{c.path + path, what, remedy})
}

func (c *compiler) rule(d *broker.Derivation) rule {
	r := rule{target: d.Target, op: d.Op}
	if d.V != Version {
		c.fault("/v", fmt.Sprintf("v is %d", d.V), fmt.Sprintf("this program knows version %d of the language of derivations", Version))
	}
	if name, ok := nameOf(d.Target); ok {
		r.prefix = append(quoted(nil, name), ':')
	} else {
		c.fault("/target", fmt.Sprintf("target is %q", string(d.Target)), "want one member of the delivered record, as /inntektsbaand: a letter, and then letters, digits and _")
	}
	if d.Title == "" {
		c.fault("/title", "a derivation has no title", "say in words what is answered")
	}
	r.rows = c.pointer("/rows", d.Rows)
	if len(d.Where) > MaxConditions {
		c.fault("/where", fmt.Sprintf("%d conditions", len(d.Where)), fmt.Sprintf("want at most %d", MaxConditions))
	}
	for i := range d.Where {
		r.where = append(r.where, c.condition(fmt.Sprintf("/where/%d", i), &d.Where[i]))
	}
	r.value, r.by = c.pointer("/value", d.Value), c.pointer("/by", d.By)
	c.op(d)
	r.skips = c.absent("/absent", d.Absent, false) == broker.AbsentSkips
	r.empty, r.hasEmpty = c.number("/empty", d.Empty)
	c.answer(d, &r)
	return r
}

func (c *compiler) op(d *broker.Derivation) {
	switch d.Op {
	case broker.Sum, broker.Min, broker.Max, broker.Distinct, broker.Latest:
	case broker.Count:
		if d.Value != "" || d.Absent != "" {
			c.fault("/op", "op count takes no value, and no absent", "leave them out; a condition may ask for a field of the row")
		}
	default:
		c.fault("/op", fmt.Sprintf("op is %q", string(d.Op)), "want sum, count, min, max, distinct or latest")
	}
	if (d.Op == broker.Latest) != (d.By != "") {
		c.fault("/by", "op latest goes by a date, and no other does", "give by with op latest, and only then")
	}
	switch d.Op {
	case broker.Sum, broker.Min, broker.Max:
	default:
		if d.Empty != "" {
			c.fault("/empty", fmt.Sprintf("op %s takes no empty", d.Op), "leave it out: without rows count and distinct are 0, and latest has no answer")
		}
	}
}

// answer compiles the limit or the bands.
func (c *compiler) answer(d *broker.Derivation, r *rule) {
	said := 0
	for _, l := range []struct {
		limit limit
		path  string
		text  string
	}{{below, "/below", d.Below}, {atMost, "/atMost", d.AtMost}, {atLeast, "/atLeast", d.AtLeast}, {above, "/above", d.Above}} {
		if n, ok := c.number(l.path, l.text); ok {
			r.limit, r.than = l.limit, n
		}
		if l.text != "" {
			said++
		}
	}
	if len(d.Bands) > 0 {
		said++
		c.bands(d.Bands, r)
	}
	r.bandsOrLimit = said > 0
	if said > 1 {
		c.fault("", "more than one of below, atMost, atLeast, above and bands", "keep one; give each answer a derivation of its own")
	}
}

func (c *compiler) bands(bands []broker.Band, r *rule) {
	if len(bands) < 2 || len(bands) > MaxBands {
		c.fault("/bands", fmt.Sprintf("%d bands", len(bands)), fmt.Sprintf("want 2 to %d", MaxBands))
	}
	names := map[string]bool{}
	for i, b := range bands {
		path := fmt.Sprintf("/bands/%d", i)
		if !plain(b.Name) {
			c.fault(path+"/name", fmt.Sprintf("a band's name is %q", b.Name), fmt.Sprintf("want 1 to %d bytes of plain text", maxName))
		} else if names[b.Name] {
			c.fault(path+"/name", fmt.Sprintf("two bands are called %q", b.Name), "give each a name of its own")
		}
		names[b.Name] = true
		n, ok := c.number(path+"/below", b.Below)
		switch last := i == len(bands)-1; {
		case last && b.Below != "":
			c.fault(path+"/below", "the last band ends, so that a number may fall in none", "leave below out of the last")
		case !last && b.Below == "":
			c.fault(path, "only the last band has no end", "say below")
		case !last && i > 0 && ok && !r.bands[i-1].below.less(n):
			c.fault(path+"/below", fmt.Sprintf("band %q ends at %s, which is not above the end of the one before it", b.Name, b.Below), "order the bands from the lowest to the highest")
		}
		r.bands = append(r.bands, band{quoted(nil, b.Name), n})
	}
}

func (c *compiler) condition(path string, w *broker.RowCondition) condition {
	to := condition{field: c.pointer(path+"/field", w.Field), absent: c.absent(path+"/absent", w.Absent, true), in: w.In, notIn: w.NotIn, from: w.From, before: w.Before}
	said := 0
	if len(w.In)+len(w.NotIn) > 0 {
		to.kind = texts
		said++
		if len(w.In) > 0 && len(w.NotIn) > 0 {
			c.fault(path, "both in and notIn", "keep one")
		}
		if len(w.In)+len(w.NotIn) > MaxValues {
			c.fault(path, fmt.Sprintf("%d values", len(w.In)+len(w.NotIn)), fmt.Sprintf("want at most %d", MaxValues))
		}
	}
	if w.AtLeast != "" || w.Below != "" {
		to.kind = numbers
		said++
		to.atLeast, to.hasAtLeast = c.number(path+"/atLeast", w.AtLeast)
		to.below, to.hasBelow = c.number(path+"/below", w.Below)
		if to.hasAtLeast && to.hasBelow && !to.atLeast.less(to.below) {
			c.fault(path+"/below", "no number is at least atLeast and below below", "let below be the greater")
		}
	}
	if w.From != "" || w.Before != "" {
		to.kind = dates
		said++
		c.date(path+"/from", w.From)
		c.date(path+"/before", w.Before)
		if w.From != "" && w.Before != "" && (len(w.From) != len(w.Before) || w.From >= w.Before) {
			c.fault(path+"/before", "no date is from from on and before before, or they are not equally exact", "write both as years, months or dates, the earlier first")
		}
	}
	if said != 1 {
		c.fault(path, "a condition compares in one way", "give in, notIn, a number (atLeast, below) or a period (from, before)")
	}
	return to
}

func (c *compiler) pointer(path string, p broker.Pointer) jsondoc.Path {
	tokens, err := p.Tokens()
	if err != nil {
		c.fault(path, err.Error(), "")
	}
	return tokens
}

func (c *compiler) absent(path string, a broker.WhenAbsent, condition bool) broker.WhenAbsent {
	switch {
	case a == broker.AbsentFails, a == broker.AbsentSkips, a == broker.AbsentHolds && condition:
	case condition:
		c.fault(path, fmt.Sprintf("absent is %q", string(a)), "want skip (the row does not count) or hold (the condition holds), or leave it out: then there is no answer")
	default:
		c.fault(path, fmt.Sprintf("absent is %q", string(a)), "want skip (the row does not count), or leave it out: then there is no answer")
	}
	return a
}

func (c *compiler) number(path, text string) (n number, said bool) {
	if text == "" {
		return number{}, false
	}
	n, ok := parse([]byte(text), false)
	if !ok {
		c.fault(path, fmt.Sprintf("%q is not a decimal", text), `want such as "400000" or "0.25", of at most 18 digits before the point and 9 behind it`)
	}
	return n, ok
}

func (c *compiler) date(path, text string) {
	if text != "" && !isDate([]byte(text)) {
		c.fault(path, fmt.Sprintf("%q is not a year, month or date", text), "want such as 2026, 2026-01 or 2026-01-31")
	}
}

// nameOf is the member that a target names.
func nameOf(p broker.Pointer) (name string, ok bool) {
	if len(p) < 2 || len(p) > 1+maxName || p[0] != '/' {
		return "", false
	}
	for i, c := range []byte(p[1:]) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return "", false
		}
	}
	return string(p[1:]), true
}
