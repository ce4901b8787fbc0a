package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"datafordeler/broker"
)

// State is how a Prepared decides.
type State uint8

// The states. Pending is full evaluation until Compile has been called.
const (
	Pending State = iota
	Compiled
	Full
)

// String is the word in outputs.
func (s State) String() string {
	switch s {
	case Pending:
		return "pending"
	case Compiled:
		return "compiled"
	case Full:
		return "full"
	}
	return "unknown"
}

// MarshalText writes the word.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Form tells how a Prepared decides, and what it still asks of a record.
type Form struct {
	State State `json:"state"`
	// Why it stays with full evaluation.
	Why string `json:"why,omitempty"`
	// Requirements in order of precedence, and which legal bases carry a permit, in
	// the agreement's order; of a compiled form only.
	Requirements []Remainder `json:"requirements,omitempty"`
	Bases        []Remainder `json:"bases,omitempty"`
}

// Settled tells whether the terms alone answer a question.
type Settled string

// The answers: always, never, or that it is left open.
const (
	Always Settled = "always"
	Never  Settled = "never"
	Open   Settled = "open"
)

// Remainder is what is left of one requirement, or of whether one legal basis
// carries, with the terms known: where it is open, one of the alternatives must
// hold, and in it every comparison.
type Remainder struct {
	Of           string     `json:"of"`
	Holds        Settled    `json:"holds"`
	Alternatives [][]string `json:"alternatives,omitempty"`
}

// Form tells how p decides now. It is for people and metrics: it costs some
// microseconds.
func (p *Prepared) Form() Form {
	c := p.compiled.Load()
	switch {
	case c == nil:
		return Form{State: Pending}
	case c.program == nil:
		return Form{State: Full, Why: c.why}
	}
	a := p.engine.analysis()
	s := &shaper{a: a, exact: true}
	if !c.exact {
		s = a.shape(p.terms)
	}
	out := Form{State: Compiled}
	w := writer{s: s, t: p.terms}
	for i, code := range a.codes {
		out.Requirements = append(out.Requirements, w.remainder(string(code), &c.shape.codes[i], c.program.settled>>i&1 == 1, at(c.program.open, i)))
	}
	for i := range p.terms.Bases {
		out.Bases = append(out.Bases, w.remainder(string(p.terms.Bases[i].ID), &c.shape.holding[i], c.program.carried>>i&1 == 1, at(c.program.carrying, i)))
	}
	return out
}

// State is Form's alone, and costs nothing.
func (p *Prepared) State() State {
	switch c := p.compiled.Load(); {
	case c == nil:
		return Pending
	case c.program == nil:
		return Full
	}
	return Compiled
}

func at(choices []choice, i int) bool {
	return slices.ContainsFunc(choices, func(c choice) bool { return c.at == i })
}

// writer writes what is left in the words of the policy.
type writer struct {
	s *shaper
	t *broker.Terms
}

func (w *writer) remainder(of string, r *residue, always, open bool) Remainder {
	out := Remainder{Of: of, Holds: Never}
	switch {
	case always:
		out.Holds = Always
	case open:
		out.Holds = Open
		for i := range r.any {
			out.Alternatives = append(out.Alternatives, w.conjunction(&r.any[i]))
		}
		slices.SortFunc(out.Alternatives, slices.Compare)
		out.Alternatives = slices.CompactFunc(out.Alternatives, slices.Equal)
	}
	return out
}

func (w *writer) conjunction(c *conjunction) []string {
	var out []string
	for i := range c.all {
		x := &c.all[i]
		a, b, op := &x.a, &x.b, x.op
		if !a.fact() || !a.from.element() && b.from.element() {
			a, b, op = b, a, turned[op]
		}
		line := w.operand(a, b) + " " + [...]string{opEq: "==", opNe: "!=", opLt: "<", opLe: "<=", opGt: ">", opGe: ">="}[op] + " " + w.operand(b, a)
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

// operand writes one side; beside is the other, which tells a time from a number.
func (w *writer) operand(o, beside *operand) string {
	elem := ""
	if o.from.element() { // of which element: one letter for each
		elem = "[" + string(rune('i'+o.elem%8)) + "]"
	}
	switch o.from {
	case constant, termText, termNumber:
		if o.isText {
			v := o.text
			if o.from == termText {
				v = w.s.texts[o.at]
			}
			return strconv.Quote(v)
		}
		v := o.number
		if o.from == termNumber {
			v = w.s.times[o.at]
		}
		if beside.from == granted || beside.from == delivered {
			return strconv.FormatInt(v, 10)
		}
		return moment(v)
	case attribute:
		name := o.text
		if o.at >= 0 {
			name = w.s.texts[o.at]
		}
		return "record.attributes." + name
	case factTime:
		return "time"
	case granted:
		return "usage.granted"
	case delivered:
		return "usage.delivered"
	case factKind:
		return "record.kind"
	case elemFrom, elemTo:
		name := map[source]string{elemFrom: "from", elemTo: "to"}[o.from]
		if o.of == inConsents {
			return "consents" + elem + ".valid." + name
		}
		return "cases" + elem + "." + name
	case withdrawn:
		return "consents" + elem + ".withdrawn"
	case elemConsumer:
		return "consents" + elem + ".consumer"
	case elemDataset:
		return "consents" + elem + ".dataset"
	case elemPurpose:
		return "consents" + elem + ".purpose"
	}
	return "?"
}

// moment writes a time of the input.
func moment(ms int64) string {
	switch ms {
	case openEnd:
		return "(no end)"
	case fromMillis(time.Time{}):
		return "(no beginning)"
	}
	return time.UnixMilli(ms).UTC().Format(time.RFC3339Nano)
}

// String is the form in one line.
func (f Form) String() string {
	if f.Why == "" {
		return f.State.String()
	}
	return fmt.Sprintf("%s: %s", f.State, strings.TrimSpace(f.Why))
}
