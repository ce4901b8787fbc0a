package schema

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"unicode/utf8"
)

// matcher is a pattern. Where it can be, it is also a table that takes one step
// for each byte of ASCII text; any other text is for the regular expression
// itself, so that the table never has to know of more than 128 characters.
type matcher struct {
	re *regexp.Regexp
	// table has a row of 128 next states for each state, from 0 on. It is nil
	// where the pattern needs more states than maxStates, or word or line
	// boundaries.
	table []uint8
	start uint8
	// atEnd says by state whether text that ends in it matches.
	atEnd []bool
}

// The first two states are final.
const (
	dead    = 0 // no text that goes on from here matches
	matched = 1 // all do
	// maxStates bounds the table to 8 kB.
	maxStates = 64
)

func newMatcher(re *regexp.Regexp) *matcher {
	m := &matcher{re: re}
	parsed, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil {
		return m // nothing that compiled, but then re still says
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return m
	}
	b := tableBuilder{prog: prog, states: map[string]uint8{}}
	if !b.build() {
		return m
	}
	m.table, m.atEnd, m.start = b.table, b.atEnd, b.start
	return m
}

// match reports whether the pattern is found anywhere in the text, as JSON
// Schema has it.
func (m *matcher) match(text []byte) bool {
	if m.table == nil {
		return m.re.Match(text)
	}
	s := m.start
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return m.re.Match(text)
		}
		s = m.table[int(s)<<7|int(c)]
	}
	return m.atEnd[s]
}

// tableBuilder makes the table by the subset construction, from the same
// program that package regexp runs.
type tableBuilder struct {
	prog   *syntax.Prog
	states map[string]uint8
	sets   [][]uint32
	table  []uint8
	atEnd  []bool
	start  uint8
	failed bool
}

func (b *tableBuilder) build() bool {
	b.sets = [][]uint32{nil, nil}
	b.atEnd = []bool{false, true}
	first := b.closure([]uint32{uint32(b.prog.Start)}, syntax.EmptyBeginText)
	// The first state is of its own: only in it may ^ still hold at the end.
	b.start = b.state(first, syntax.EmptyBeginText)
	again := b.closure([]uint32{uint32(b.prog.Start)}, 0) // the search begins anew at each place
	b.table = make([]uint8, 2*128, maxStates*128)
	for c := range 128 {
		b.table[matched<<7|c] = matched
	}
	for i := 2; i < len(b.sets); i++ {
		row := make([]uint8, 128)
		for c := range rune(128) {
			var next []uint32
			for _, pc := range b.sets[i] {
				if inst := &b.prog.Inst[pc]; steps(inst, c) {
					next = append(next, inst.Out)
				}
			}
			next = append(b.closure(next, 0), again...)
			slices.Sort(next)
			row[c] = b.state(slices.Compact(next), 0)
		}
		b.table = append(b.table, row...)
		if b.failed || len(b.sets) > maxStates {
			return false
		}
	}
	return !b.failed
}

func steps(inst *syntax.Inst, c rune) bool {
	switch inst.Op {
	case syntax.InstRune, syntax.InstRune1:
		return inst.MatchRune(c)
	case syntax.InstRuneAny:
		return true
	case syntax.InstRuneAnyNotNL:
		return c != '\n'
	}
	return false
}

// closure is what the program can be at without reading on, given what holds
// at this place. What waits for the text's end stays in it.
func (b *tableBuilder) closure(from []uint32, holds syntax.EmptyOp) []uint32 {
	var out []uint32
	seen := make([]bool, len(b.prog.Inst))
	var walk func(pc uint32)
	walk = func(pc uint32) {
		if seen[pc] {
			return
		}
		seen[pc] = true
		switch inst := &b.prog.Inst[pc]; inst.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			walk(inst.Out)
			walk(inst.Arg)
		case syntax.InstCapture, syntax.InstNop:
			walk(inst.Out)
		case syntax.InstEmptyWidth:
			op := syntax.EmptyOp(inst.Arg)
			switch {
			case op&^(syntax.EmptyBeginText|syntax.EmptyEndText) != 0:
				b.failed = true
			case op&^holds == 0:
				walk(inst.Out)
			case op&syntax.EmptyEndText != 0:
				out = append(out, pc)
			}
		case syntax.InstFail:
		default:
			out = append(out, pc)
		}
	}
	for _, pc := range from {
		walk(pc)
	}
	slices.Sort(out)
	return out
}

// state is the number of a set, which it gets when it is met first.
func (b *tableBuilder) state(set []uint32, holds syntax.EmptyOp) uint8 {
	if len(set) == 0 {
		return dead
	}
	for _, pc := range set {
		if b.prog.Inst[pc].Op == syntax.InstMatch {
			return matched
		}
	}
	key := fmt.Sprint(set, holds)
	if s, ok := b.states[key]; ok {
		return s
	}
	if len(b.sets) > maxStates {
		b.failed = true
		return dead
	}
	s := uint8(len(b.sets))
	b.states[key] = s
	b.sets = append(b.sets, set)
	end := false
	for _, pc := range b.closure(set, holds|syntax.EmptyEndText) {
		end = end || b.prog.Inst[pc].Op == syntax.InstMatch
	}
	b.atEnd = append(b.atEnd, end)
	return s
}
