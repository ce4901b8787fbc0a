package policy

import (
	"errors"
	"fmt"

	"datafordeler/broker"
)

var errNoBasis = errors.New("a denial without a reason: every requirement is cleared, and no legal basis carries a permit")

// facts are what tests read, each number worked out once.
type facts struct {
	f       *broker.Facts
	consent *broker.Consent      // the element at hand, where it is a consent
	numbers [withdrawn + 1]int64 // by source, of the facts and of the element at hand
}

// evaluate says which requirements are cleared, and, where all are, which bases
// hold. It allocates nothing.
func (p *program) evaluate(f *broker.Facts) (cleared, holding uint64) {
	var held [maxWords]uint64
	p.ask(f, &held)
	cleared = p.settled | p.met(p.open, &held)
	if cleared == p.all {
		holding = p.carried | p.met(p.carrying, &held)
	}
	return cleared, holding
}

// ask sets the bits of what the facts pass.
func (p *program) ask(f *broker.Facts, held *[maxWords]uint64) {
	in := facts{f: f}
	in.numbers[factTime] = f.Time.UnixMilli()
	in.numbers[granted], in.numbers[delivered] = f.Usage.Granted, f.Usage.Delivered
	for i := range p.tests {
		if t := &p.tests[i]; in.passes(&t.test) {
			held[t.bit/64&(maxWords-1)] |= 1 << (t.bit & 63)
		}
	}
	if len(p.cases.groups) > 0 {
		for i := range f.Cases {
			in.span(f.Cases[i])
			in.each(&p.cases, held)
		}
	}
	if len(p.consents.groups) > 0 {
		for i := range f.Consents {
			c := &f.Consents[i]
			in.span(c.Valid)
			in.numbers[withdrawn] = toMillis(c.Withdrawn)
			in.consent = c
			in.each(&p.consents, held)
		}
	}
}

func (in *facts) span(i broker.Interval) {
	in.numbers[elemFrom], in.numbers[elemTo] = fromMillis(i.From), toMillis(i.To)
}

// each puts an element's tests to the element at hand, and sets the bits of the
// groups that it passes.
func (in *facts) each(e *elements, held *[maxWords]uint64) {
	var passed uint64
	for i := range e.tests {
		if in.passes(&e.tests[i]) {
			passed |= 1 << i
		}
	}
	for _, g := range e.groups {
		if passed&g.tests == g.tests {
			held[g.bit/64&(maxWords-1)] |= 1 << (g.bit & 63)
		}
	}
}

// met is the bits of the choices that have an alternative whose bits are all held.
func (p *program) met(choices []choice, held *[maxWords]uint64) (out uint64) {
	if p.words == 1 {
		have := held[0]
		for i := range choices {
			for _, need := range choices[i].alternatives {
				if have&need == need {
					out |= 1 << choices[i].at
					break
				}
			}
		}
		return out
	}
	for i := range choices {
	next:
		for all := choices[i].alternatives; len(all) >= p.words; all = all[p.words:] {
			for w, need := range all[:p.words] {
				if held[w]&need != need {
					continue next
				}
			}
			out |= 1 << choices[i].at
			break
		}
	}
	return out
}

func (in *facts) passes(t *test) bool {
	switch t.form {
	case inRange:
		n := in.numbers[t.a.from]
		return t.low <= n && n <= t.high
	case notNumber:
		return in.numbers[t.a.from] != t.low
	case ofKinds:
		return t.low>>in.f.Kind&1 == 1
	case textIs:
		return in.text(t.a) == t.text
	case textIsNot:
		return in.text(t.a) != t.text
	case textLess:
		return in.text(t.a) < t.text
	case textMore:
		return in.text(t.a) > t.text
	case textUpTo:
		return in.text(t.a) <= t.text
	case textFrom:
		return in.text(t.a) >= t.text
	case numberPair:
		return holds(t.op, in.numbers[t.a.from], in.numbers[t.b.from])
	case textPair:
		return holds(t.op, in.text(t.a), in.text(t.b))
	}
	return false
}

func (in *facts) text(s side) string {
	switch s.from {
	case attribute:
		return in.f.Attributes[s.at] // as many as the dataset declares: checkFacts
	case factKind:
		return in.f.Kind.String()
	case elemConsumer:
		return string(in.consent.Consumer)
	case elemDataset:
		return string(in.consent.Dataset)
	case elemPurpose:
		return string(in.consent.Purpose)
	}
	return ""
}

func holds[T int64 | string](op op, a, b T) bool {
	switch op {
	case opEq:
		return a == b
	case opNe:
		return a != b
	case opLt:
		return a < b
	case opLe:
		return a <= b
	case opGt:
		return a > b
	case opGe:
		return a >= b
	}
	return false
}

// decide answers by the compiled form. What goes wrong here, even a mistake of this
// package's own, is an error, and the caller denies.
func (p *program) decide(f *broker.Facts, all *answers) (o *broker.Outcome, err error) {
	defer func() {
		if r := recover(); r != nil {
			o, err = nil, fmt.Errorf("the compiled form failed: %v", r)
		}
	}()
	cleared, holding := p.evaluate(f)
	if o := p.given.find(cleared, holding, p.all); o != nil {
		return o, nil
	}
	if o, err = p.answer(cleared, holding); err != nil {
		return nil, err
	}
	return p.given.keep(cleared, holding, p.all, all.same(o)), nil
}
