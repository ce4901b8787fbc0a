package policy

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	"datafordeler/broker"
)

// program is what is left of a policy for one subscription's terms, made flat. It
// is shared by any number of goroutines, and by all subscriptions for which the same
// is left: see programs.
//
// Each distinct test of the facts has one bit. Tests of an element, a case or a
// consent, are put to each element in turn, and a group of them that one element
// passes at once has a bit as well. A requirement is met when the bits of one of
// its alternatives are all there.
type program struct {
	words    int // of bits in all
	tests    []bitTest
	cases    elements
	consents elements
	settled  uint64 // requirements that always hold
	all      uint64 // every requirement
	open     []choice
	carried  uint64 // bases that always hold
	carrying []choice
	cited    []broker.LegalBasisID
	codes    []broker.Reason
	chains   [][]uint64 // of the policy: chain, step: its requirements
	given    *outcomes  // the one thing that changes
}

// bitTest is a test with its bit.
type bitTest struct {
	test
	bit int
}

// choice is met when the bits of one alternative are all there.
type choice struct {
	at           int      // of a requirement, or of a basis
	alternatives []uint64 // words for each
}

// elements are what is asked of each case or consent.
type elements struct {
	tests  []test  // of one element; test i has bit i of the element
	groups []group // each has a bit of the program
}

type group struct {
	tests uint64
	bit   int
}

type form uint8

const (
	inRange    form = iota // low <= number <= high
	notNumber              // number != low
	ofKinds                // the kind is among low's bits
	textIs                 // text == constant
	textIsNot              //
	textLess               // text < constant
	textMore               // text > constant
	textUpTo               // text <= constant
	textFrom               // text >= constant
	numberPair             // a op b, both of the facts
	textPair               // the same of texts
)

// test is one comparison. Which operands it has depends on its form.
type test struct {
	form      form
	op        op
	a, b      side
	low, high int64
	text      string
}

// side is a fact's place: from, and for an attribute which.
type side struct {
	from source
	at   int
}

// Bounds of a program. What is greater stays with full evaluation.
const (
	maxWords        = 4
	maxElementTests = 64
	maxBases        = 64
	maxAlternatives = 4096
)

// linker makes a program.
type linker struct {
	p      *program
	t      *broker.Terms
	s      *shaper
	bits   int
	byTest map[test]int
	byElem [2]map[test]int
	byMask [2]map[uint64]int
	groups [2][]group
	places map[string]int // of attributes
}

// link puts the terms' own texts and times back into what is left for their shape.
func link(a *analysis, sh *shape, s *shaper, t *broker.Terms) (*program, error) {
	if len(t.Bases) > maxBases {
		return nil, fmt.Errorf("%d legal bases; the compiler takes %d", len(t.Bases), maxBases)
	}
	l := &linker{
		p: &program{codes: a.codes, chains: a.chains, all: a.all, given: &outcomes{}}, t: t, s: s,
		byTest: map[test]int{}, places: make(map[string]int, len(t.Dataset.Attributes)),
		byElem: [2]map[test]int{{}, {}}, byMask: [2]map[uint64]int{{}, {}},
	}
	for i := range t.Dataset.Attributes {
		name := t.Dataset.Attributes[i].Name
		if _, twice := l.places[name]; twice {
			return nil, fmt.Errorf("dataset %s declares attribute %q twice", t.Dataset.ID, name)
		}
		l.places[name] = i
	}
	for i := range t.Bases {
		l.p.cited = append(l.p.cited, t.Bases[i].ID)
	}
	var open, carrying []pending
	for i := range sh.codes {
		switch alternatives, always := l.alternatives(&sh.codes[i]); {
		case always:
			l.p.settled |= 1 << i
		case len(alternatives) > 0:
			open = append(open, pending{i, alternatives})
		}
	}
	for i := range sh.holding {
		switch alternatives, always := l.alternatives(&sh.holding[i]); {
		case always:
			l.p.carried |= 1 << i
		case len(alternatives) > 0:
			carrying = append(carrying, pending{i, alternatives})
		}
	}
	l.p.words = max(1, (l.bits+63)/64)
	l.p.cases.groups, l.p.consents.groups = l.groups[inCases], l.groups[inConsents]
	switch n := max(len(l.p.cases.tests), len(l.p.consents.tests)); {
	case l.p.words > maxWords:
		return nil, fmt.Errorf("%d tests; the compiler takes %d", l.bits, 64*maxWords)
	case n > maxElementTests:
		return nil, fmt.Errorf("%d tests of an element; the compiler takes %d", n, maxElementTests)
	}
	var err error
	if l.p.open, err = l.flat(open); err != nil {
		return nil, err
	}
	if l.p.carrying, err = l.flat(carrying); err != nil {
		return nil, err
	}
	return l.p, nil
}

// pending is a choice before the number of bits is known.
type pending struct {
	at           int
	alternatives [][]int // bits, in order
}

// alternatives gives the bits of each, without what never holds and without what
// another alternative makes superfluous.
func (l *linker) alternatives(r *residue) (kept [][]int, always bool) {
	kinds := test{form: ofKinds, a: side{from: factKind}} // alternatives that ask for the kind alone, in one
	for i := range r.any {
		if c := &r.any[i]; len(c.all) == 1 {
			if t, ok := l.test(&c.all[0]); ok && t.form == ofKinds {
				kinds.low |= t.low
				continue
			}
		}
		need, possible := l.bitsOf(&r.any[i])
		if !possible {
			continue
		}
		if len(need) == 0 {
			return nil, true
		}
		kept = append(kept, need)
	}
	switch kinds.low &= everyKind; kinds.low {
	case 0:
	case everyKind:
		return nil, true
	default:
		kept = append(kept, []int{l.bit(kinds)})
	}
	slices.SortFunc(kept, func(a, b []int) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return slices.Compare(a, b)
	})
	out := kept[:0]
	for _, need := range kept {
		if !slices.ContainsFunc(out, func(fewer []int) bool { return subset(fewer, need) }) {
			out = append(out, need)
		}
	}
	return out, false
}

// everyKind is a mask of the kinds of record: checkFacts lets no other by.
const everyKind = 1<<broker.Original | 1<<broker.Correction | 1<<broker.Retraction

func subset(fewer, more []int) bool {
	for _, x := range fewer {
		at, ok := slices.BinarySearch(more, x)
		if !ok {
			return false
		}
		more = more[at+1:]
	}
	return true
}

// bitsOf finds or makes the bits of one alternative. It is not possible when a
// comparison names what these facts never have.
func (l *linker) bitsOf(c *conjunction) (need []int, possible bool) {
	ranges := map[side]int{} // tests of one number, joined
	var tests []test
	elems := make([]uint64, len(c.elems))
	byElem := make([]map[side]test, len(c.elems))
	for i := range c.all {
		t, ok := l.test(&c.all[i])
		if !ok {
			return nil, false
		}
		elem := -1
		if o := c.all[i].a; o.from.element() {
			elem = o.elem
		} else if o := c.all[i].b; o.from.element() {
			elem = o.elem
		}
		switch {
		case t.form == inRange && elem < 0:
			if at, ok := ranges[t.a]; ok {
				tests[at].low, tests[at].high = max(tests[at].low, t.low), min(tests[at].high, t.high)
				continue
			}
			ranges[t.a] = len(tests)
			tests = append(tests, t)
		case elem < 0:
			tests = append(tests, t)
		case t.form == inRange:
			if byElem[elem] == nil {
				byElem[elem] = map[side]test{}
			}
			if have, ok := byElem[elem][t.a]; ok {
				t.low, t.high = max(have.low, t.low), min(have.high, t.high)
			}
			byElem[elem][t.a] = t
		default:
			elems[elem] |= l.elementBit(c.elems[elem], t)
		}
	}
	for _, t := range tests {
		if t.form == inRange && t.low > t.high || t.form == ofKinds && t.low == 0 {
			return nil, false
		}
		need = append(need, l.bit(t))
	}
	for elem, joined := range byElem {
		for _, t := range joined {
			if t.low > t.high {
				return nil, false
			}
			elems[elem] |= l.elementBit(c.elems[elem], t)
		}
	}
	for elem, mask := range elems {
		of := c.elems[elem]
		at, ok := l.byMask[of][mask]
		if !ok {
			at = l.next()
			l.byMask[of][mask] = at
			l.groups[of] = append(l.groups[of], group{mask, at})
		}
		need = append(need, at)
	}
	slices.Sort(need)
	return slices.Compact(need), true
}

func (l *linker) next() int {
	l.bits++
	return l.bits - 1
}

func (l *linker) bit(t test) int {
	at, ok := l.byTest[t]
	if !ok {
		at = l.next()
		l.p.tests = append(l.p.tests, bitTest{t, at})
		l.byTest[t] = at
	}
	return at
}

func (l *linker) elementBit(of collection, t test) uint64 {
	e := &l.p.cases
	if of == inConsents {
		e = &l.p.consents
	}
	at, ok := l.byElem[of][t]
	if !ok {
		at = len(e.tests)
		e.tests = append(e.tests, t)
		l.byElem[of][t] = at
	}
	return 1 << (at & 63) // more than 64 are refused before any is used
}

// test makes one comparison flat. It is false when a fact that it names is not
// there: what is undefined holds in no comparison.
func (l *linker) test(c *comparison) (test, bool) {
	a, okA := l.side(&c.a)
	b, okB := l.side(&c.b)
	if !okA || !okB {
		return test{}, false
	}
	op := c.op
	ca, cb := c.a, c.b
	if !ca.fact() { // the fact first
		a, b, ca, cb, op = b, a, cb, ca, turned[op]
	}
	if cb.fact() {
		if ca.isText {
			return test{form: textPair, op: op, a: a, b: b}, true
		}
		return test{form: numberPair, op: op, a: a, b: b}, true
	}
	if !ca.isText {
		return rangeOf(op, a, l.number(&cb)), true
	}
	v := l.text(&cb)
	if ca.from == factKind {
		t := test{form: ofKinds, a: a}
		for kind := range kinds {
			if holds(op, broker.RecordKind(kind).String(), v) {
				t.low |= 1 << kind
			}
		}
		return t, true
	}
	return test{form: [...]form{opEq: textIs, opNe: textIsNot, opLt: textLess, opLe: textUpTo, opGt: textMore, opGe: textFrom}[op], a: a, text: v}, true
}

// turned is the operator with its sides exchanged.
var turned = [...]op{opEq: opEq, opNe: opNe, opLt: opGt, opLe: opGe, opGt: opLt, opGe: opLe}

// rangeOf is a comparison with a constant as the range of what passes.
func rangeOf(op op, a side, n int64) test {
	t := test{form: inRange, a: a, low: math.MinInt64, high: math.MaxInt64}
	switch op {
	case opEq:
		t.low, t.high = n, n
	case opNe:
		t.form, t.low, t.high = notNumber, n, 0
	case opLt:
		if t.high = n - 1; n == math.MinInt64 {
			t.low, t.high = 1, 0
		}
	case opLe:
		t.high = n
	case opGt:
		if t.low = n + 1; n == math.MaxInt64 {
			t.low, t.high = 1, 0
		}
	case opGe:
		t.low = n
	}
	return t
}

// side finds a fact, or that there is none such.
func (l *linker) side(o *operand) (side, bool) {
	switch o.from {
	case attribute:
		name := o.text
		if o.at >= 0 {
			name = l.s.texts[o.at]
		}
		at, ok := l.places[name]
		return side{attribute, at}, ok
	case granted, delivered:
		return side{from: o.from}, hasCeiling(l.t)
	}
	return side{from: o.from}, true
}

func (l *linker) number(o *operand) int64 {
	if o.from == termNumber {
		return l.s.times[o.at]
	}
	return o.number
}

func (l *linker) text(o *operand) string {
	if o.from == termText {
		return l.s.texts[o.at]
	}
	return o.text
}

// flat writes bits as words.
func (l *linker) flat(all []pending) ([]choice, error) {
	out := make([]choice, len(all))
	for i, p := range all {
		if len(p.alternatives) > maxAlternatives {
			return nil, fmt.Errorf("%d alternatives; the compiler takes %d", len(p.alternatives), maxAlternatives)
		}
		words := make([]uint64, l.p.words*len(p.alternatives))
		for j, need := range p.alternatives {
			for _, bit := range need {
				words[j*l.p.words+bit/64] |= 1 << (bit % 64)
			}
		}
		out[i] = choice{p.at, words}
	}
	return out, nil
}

// answer makes the outcome of which requirements and bases hold. A permit that no
// basis carries is an error, as it is in full evaluation.
func (p *program) answer(cleared, holding uint64) (*broker.Outcome, error) {
	if cleared == p.all {
		if holding == 0 {
			return nil, errNoBasis
		}
		o := &broker.Outcome{Permit: true}
		for i, id := range p.cited {
			if holding>>i&1 == 1 {
				o.Bases = append(o.Bases, id)
			}
		}
		return o, nil
	}
	o := &broker.Outcome{Bases: p.cited}
	for _, chain := range p.chains {
		for _, step := range chain {
			if failing := step &^ cleared; failing != 0 {
				for ; failing != 0; failing &= failing - 1 {
					o.Reasons = append(o.Reasons, p.codes[bits.TrailingZeros64(failing)])
				}
				break
			}
		}
	}
	return o, nil
}
