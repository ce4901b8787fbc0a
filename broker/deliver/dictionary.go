package deliver

import (
	"hash/maphash"
	"slices"

	"datafordeler/broker"
)

// dictionaries number what the rows of one record of decisions refer to, each
// thing once, in the order of first use.
//
//	list          strings: the reasons, bases or fields of an outcome
//	outcome       permit or not, package, and its lists
//	subscription  with its agreement, and the outcomes that it got: an answer is
//	              a subscription and one of those
//	set           the answers that one row got
//
// Who comes again is found by pointer, else by content. size bounds from above
// what the dictionaries take when they are written.
type dictionaries struct {
	size     int
	ceilings bool // some subscription's agreement has one
	words    []string
	lists    []listEntry
	outcomes []outcomeEntry
	subs     []subEntry
	answers  []answer
	sets     []setEntry

	subAt     map[*broker.Terms]int
	answerAt  map[subAnswer]int
	subBy     map[BatchSubscription]int
	outcomeBy map[outcomeEntry]int
	listBy    map[uint64]int // the last list with a hash; others by their link
	setBy     map[uint64]int // likewise

	reasons kept[broker.Reason]
	bases   kept[broker.LegalBasisID]
	fields  kept[broker.Pointer]

	row   []answer // scratch
	last  int      // the set that was used last, or −1
	grown []int    // subscriptions that got an outcome since mark
	was   struct{ size, words, lists, outcomes, subs, answers, sets int }
}

// listEntry is words[from:to].
type listEntry struct{ from, to, link int }

// outcomeEntry has lists by their number and one, so that 0 is the empty list.
type outcomeEntry struct {
	permit, shielded       bool
	pack                   broker.PackageRef
	reasons, bases, fields int
}

type subEntry struct {
	// One answer that it got, by which most that come again are found, and the set
	// of just that answer, by its number and one; 0 for none.
	one      answerKey
	oneAlone int

	BatchSubscription
	outcomes []int
	// alone is the set of just that answer, by its number and one; 0 for none.
	alone []int
	// known are the answers that were found by content, and their numbers; more
	// than maxKnown stand in dictionaries.answerAt.
	known []knownAnswer
}

// maxKnown is how many answers are looked through before a map is.
const maxKnown = 8

type knownAnswer struct {
	answerKey
	n int
}

// setEntry is answers[from:to].
type setEntry struct{ from, to, link int }

// answer is a subscription, and an outcome by its place among those that the
// subscription got (in format 1: among all).
type answer struct{ sub, outcome int }

// answerKey is what an answer is found again by.
type answerKey struct {
	terms    *broker.Terms // for the package
	outcome  *broker.Outcome
	fields   *broker.Pointer
	n        int
	shielded bool
}

func keyOf(x *Decision) answerKey {
	key := answerKey{terms: x.Terms, outcome: x.Outcome, n: len(x.Fields), shielded: x.Shielded}
	if len(x.Fields) > 0 {
		key.fields = &x.Fields[0]
	}
	return key
}

type subAnswer struct {
	sub int
	answerKey
}

// kept finds the list again that was numbered last.
type kept[S ~string] struct {
	first *S
	n     int
	list  int
}

func (d *dictionaries) reset() {
	if d.subAt == nil {
		d.subAt, d.answerAt = map[*broker.Terms]int{}, map[subAnswer]int{}
		d.subBy, d.outcomeBy = map[BatchSubscription]int{}, map[outcomeEntry]int{}
		d.listBy, d.setBy = map[uint64]int{}, map[uint64]int{}
	}
	clear(d.subAt)
	clear(d.answerAt)
	clear(d.subBy)
	clear(d.outcomeBy)
	clear(d.listBy)
	clear(d.setBy)
	clear(d.words)
	clear(d.outcomes)
	for i := range d.subs { // what each has room for is kept
		s := &d.subs[i]
		clear(s.known)
		*s = subEntry{outcomes: s.outcomes[:0], alone: s.alone[:0], known: s.known[:0]}
	}
	d.size, d.ceilings = 0, false
	d.words, d.lists, d.outcomes, d.subs, d.answers, d.sets = d.words[:0], d.lists[:0], d.outcomes[:0], d.subs[:0], d.answers[:0], d.sets[:0]
	d.last, d.grown = -1, d.grown[:0]
	d.reasons, d.bases, d.fields = kept[broker.Reason]{}, kept[broker.LegalBasisID]{}, kept[broker.Pointer]{}
}

// mark remembers how far the dictionaries go, and undo goes back there, to write
// them. They must be reset before they are used again.
func (d *dictionaries) mark() {
	w := &d.was
	w.size, w.words, w.lists, w.outcomes, w.subs, w.answers, w.sets = d.size, len(d.words), len(d.lists), len(d.outcomes), len(d.subs), len(d.answers), len(d.sets)
	d.grown = d.grown[:0]
}

func (d *dictionaries) undo() {
	for _, s := range d.grown {
		sub := &d.subs[s]
		sub.outcomes = sub.outcomes[:len(sub.outcomes)-1]
	}
	w := &d.was
	d.size, d.words, d.lists, d.outcomes = w.size, d.words[:w.words], d.lists[:w.lists], d.outcomes[:w.outcomes]
	d.subs, d.answers, d.sets = d.subs[:w.subs], d.answers[:w.answers], d.sets[:w.sets]
}

// set numbers the answers of a row.
func (d *dictionaries) set(decisions []Decision) uint32 {
	if len(decisions) == 1 {
		x := &decisions[0]
		key := keyOf(x)
		if at, ok := d.subAt[x.Terms]; ok {
			if s := &d.subs[at]; s.oneAlone > 0 && s.one == key {
				return uint32(s.oneAlone - 1)
			}
		}
		a := d.answer(x)
		s := &d.subs[a.sub]
		if s.alone[a.outcome] == 0 {
			d.row = append(d.row[:0], a)
			s.alone[a.outcome] = d.addSet(0) + 1
		}
		s.one, s.oneAlone = key, s.alone[a.outcome]
		return uint32(s.oneAlone - 1)
	}
	d.row = d.row[:0]
	for i := range decisions {
		d.row = append(d.row, d.answer(&decisions[i]))
	}
	if d.last >= 0 && d.same(d.last) {
		return uint32(d.last)
	}
	h := uint64(len(d.row))
	for _, a := range d.row {
		h = (h ^ uint64(a.sub)<<32 ^ uint64(a.outcome)) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	link := d.setBy[h]
	for at := link; at > 0; at = d.sets[at-1].link {
		if d.same(at - 1) {
			d.last = at - 1
			return uint32(d.last)
		}
	}
	d.last = d.addSet(link)
	d.setBy[h] = d.last + 1
	return uint32(d.last)
}

// same reports whether a set is the row's.
func (d *dictionaries) same(set int) bool {
	return slices.Equal(d.answers[d.sets[set].from:d.sets[set].to], d.row)
}

func (d *dictionaries) addSet(link int) int {
	from := len(d.answers)
	d.answers = append(d.answers, d.row...)
	d.sets = append(d.sets, setEntry{from, len(d.answers), link})
	d.size += 8 + 6*len(d.row)
	return len(d.sets) - 1
}

func (d *dictionaries) answer(x *Decision) answer {
	at, ok := d.subAt[x.Terms]
	if !ok {
		at = d.sub(x.Terms)
	}
	s := &d.subs[at]
	key := keyOf(x)
	for i := range s.known {
		if s.known[i].answerKey == key {
			return answer{at, s.known[i].n}
		}
	}
	if len(s.known) == maxKnown {
		if n, ok := d.answerAt[subAnswer{at, key}]; ok {
			return answer{at, n}
		}
	}
	o := d.outcome(x)
	n := slices.Index(s.outcomes, o)
	if n < 0 {
		n = len(s.outcomes)
		s.outcomes, s.alone = append(s.outcomes, o), append(s.alone[:n], 0)
		d.grown = append(d.grown, at)
		d.size += 4
	}
	if len(s.known) < maxKnown {
		s.known = append(s.known, knownAnswer{key, n})
	} else {
		d.answerAt[subAnswer{at, key}] = n
	}
	return answer{at, n}
}

func (d *dictionaries) sub(t *broker.Terms) int {
	s := BatchSubscription{ID: t.Subscription.ID, Agreement: t.Agreement.ID, Ceiling: t.Agreement.Cost.Ceiling > 0}
	d.ceilings = d.ceilings || s.Ceiling
	at, ok := d.subBy[s]
	if !ok {
		at = len(d.subs)
		if at < cap(d.subs) {
			d.subs = d.subs[:at+1] // what it has room for is used again
		} else {
			d.subs = append(d.subs, subEntry{})
		}
		have := &d.subs[at]
		*have = subEntry{BatchSubscription: s, outcomes: have.outcomes[:0], alone: have.alone[:0], known: have.known[:0]}
		d.subBy[s] = at
		d.size += len(s.ID) + len(s.Agreement) + 30
	}
	d.subAt[t] = at
	return at
}

func (d *dictionaries) outcome(x *Decision) int {
	o := outcomeEntry{
		permit: x.Outcome.Permit, shielded: x.Shielded, pack: x.Terms.Agreement.Package,
		reasons: list(d, &d.reasons, x.Outcome.Reasons), bases: list(d, &d.bases, x.Outcome.Bases),
	}
	if o.permit {
		o.fields = list(d, &d.fields, x.Fields)
	}
	at, ok := d.outcomeBy[o]
	if !ok {
		at = len(d.outcomes)
		d.outcomes = append(d.outcomes, o)
		d.outcomeBy[o] = at
		d.size += len(o.pack.ID) + 40
	}
	return at
}

// hashSeed is this process's own: what it gives finds lists again, and is never
// written.
var hashSeed = maphash.MakeSeed()

// list numbers strings, from 1; 0 is the empty list.
func list[S ~string](d *dictionaries, last *kept[S], words []S) int {
	if len(words) == 0 {
		return 0
	}
	if &words[0] != last.first || len(words) != last.n {
		*last = kept[S]{&words[0], len(words), listOf(d, words)}
	}
	return last.list
}

func listOf[S ~string](d *dictionaries, words []S) int {
	h := uint64(len(words))
	for _, w := range words {
		h = (h ^ maphash.String(hashSeed, string(w))) * 0x9e3779b97f4a7c15
	}
	link := d.listBy[h]
	for at := link; at > 0; at = d.lists[at-1].link {
		l := d.lists[at-1]
		if slices.EqualFunc(d.words[l.from:l.to], words, func(a string, b S) bool { return a == string(b) }) {
			return at
		}
	}
	from := len(d.words)
	d.size += 8
	for _, w := range words {
		d.words = append(d.words, string(w))
		d.size += len(w) + 12
	}
	d.lists = append(d.lists, listEntry{from, len(d.words), link})
	d.listBy[h] = len(d.lists)
	return len(d.lists)
}
