package deliver

import (
	"fmt"
	"math"
	"slices"
	"time"

	"datafordeler/broker"
)

// view is a record of decisions with its parts found, and its head read.
type view struct {
	head            BatchHeader // without what has a section of its own
	rows            int
	rejected, usage cursor
	lists           table[listRead]
	outcomes        table[outcomeRead]
	subs            table[subRead]
	sets            table[setRead]
	index           cursor
	blocks          []byte
}

func version(value []byte) error {
	switch {
	case len(value) == 0:
		return fmt.Errorf("%w: it is empty", errBatch)
	case value[0] == singlesVersion:
		return ErrSingles
	case value[0] == 0 || value[0] > batchVersion:
		return fmt.Errorf("decisions in format %d: this version reads formats 1 to %d; use a newer datafordeler", value[0], singlesVersion)
	}
	return nil
}

// open finds the parts of a record in format 2.
func open(value []byte) (*view, error) {
	c := cursor{what: "version", b: value[1:]}
	v := &view{}
	head := c.section("head")
	v.rejected = c.section("rejected")
	v.usage = c.section("usage")
	v.lists = newTable(c.section("lists"), 1, (*cursor).list)
	v.outcomes = newTable(c.section("outcomes"), 8, (*cursor).outcome)
	v.subs = newTable(c.section("subscriptions"), 3, (*cursor).sub)
	v.sets = newTable(c.section("sets"), 1, (*cursor).set)
	v.index = c.section("index")
	v.blocks = c.b
	if c.err != nil {
		return nil, c.err
	}
	v.head = readHead(&head)
	if err := head.end(); err != nil {
		return nil, err
	}
	h := &v.head
	v.rows = int(h.Records - h.OutOfScope - h.Repeated - h.Rejected)
	if most := uint64(h.Last - h.First + 1); uint64(h.Records) > most || h.OutOfScope < 0 || h.Repeated < 0 || h.Rejected < 0 || h.Rejected > maxRejected ||
		h.OutOfScope > h.Records || h.Repeated > h.Records || v.rows < 0 {
		return nil, fmt.Errorf("%w: head: the counts do not add up", errBatch)
	}
	return v, nil
}

func readHead(c *cursor) (h BatchHeader) {
	h.Kind = c.string()
	h.Dataset = broker.DatasetID(c.string())
	copy(h.TopicID[:], c.take(16))
	h.Partition = int32(c.below(math.MaxUint32+1, "the partition"))
	h.First = int64(c.uvarint())
	n := c.uvarint()
	if h.First < 0 || n > uint64(math.MaxInt64-h.First) {
		c.fail("the range is out of range")
	}
	h.Last = h.First + int64(n) - 1
	seconds := unzigzag(c.uvarint())
	h.Time = time.Unix(seconds, int64(c.below(1_000_000_000, "a part of a second"))).UTC()
	h.Revision = broker.Revision(c.uvarint())
	h.Policy = c.string()
	h.Period = c.string()
	h.Limits = Limits{RecordBytes: int(c.uvarint()), Depth: int(c.uvarint()), Window: int(c.uvarint()), WindowMillis: int64(c.uvarint()), DeliveryBytes: int(c.uvarint())}
	h.Records, h.OutOfScope, h.Repeated, h.Rejected = int64(c.uvarint()), int64(c.uvarint()), int64(c.uvarint()), int64(c.uvarint())
	return h
}

// The entries of the dictionaries as they are read, one at a time.
type (
	listRead struct {
		last  text
		words []string
	}
	outcomeRead struct {
		permit, shielded       bool
		pack                   text
		version                int
		reasons, bases, fields int
	}
	subRead struct {
		names    namesReader
		ceiling  bool
		outcomes []int
	}
	setRead struct {
		width, sub int
		answers    []answer
	}
)

func (c *cursor) list(e *listRead, first bool) {
	if first {
		e.last.restart()
	}
	e.words = e.words[:0]
	for range c.count(3) {
		e.last.read(c)
		e.words = append(e.words, string(e.last.b))
	}
}

func (c *cursor) outcome(e *outcomeRead, first bool) {
	if first {
		e.pack.restart()
	}
	f := c.byte()
	if f > 3 {
		c.fail("a flag that is not known")
	}
	e.permit, e.shielded = f&1 != 0, f&2 != 0
	e.pack.read(c)
	e.version = int(c.uvarint())
	e.reasons, e.bases, e.fields = c.below(math.MaxInt, "a list"), c.below(math.MaxInt, "a list"), c.below(math.MaxInt, "a list")
}

func (c *cursor) sub(e *subRead, first bool) {
	if first {
		e.names.restart()
	}
	e.names.readID(c)
	n := c.uvarint()
	e.ceiling = n&1 != 0
	e.names.readAgreement(c, int(n>>1&3))
	e.outcomes = e.outcomes[:0]
	if n >>= 3; n > uint64(len(c.b)) {
		c.fail("counts more than follows")
		return
	}
	for range n {
		e.outcomes = append(e.outcomes, c.below(math.MaxInt, "an outcome"))
	}
}

func (c *cursor) set(e *setRead, first bool) {
	if first {
		e.width, e.sub = int(c.byte()), -1
		if e.width > 32 {
			c.fail("outcomes of more than 32 bits")
		}
	}
	e.answers = e.answers[:0]
	for range c.count(1) {
		v := c.uvarint()
		e.sub += int(unzigzag(v>>e.width)) + 1
		if e.sub < 0 || e.sub > math.MaxInt32 {
			c.fail("a subscription out of range")
		}
		if c.err != nil {
			return
		}
		e.answers = append(e.answers, answer{e.sub, int(v & (1<<e.width - 1))})
	}
}

// header reads what the head lacks.
func (v *view) header() (h BatchHeader, err error) {
	h = v.head
	if h.Rejected > 0 {
		h.RejectedAt = v.rejected.offsets(nil, int(h.Rejected), h.First, h.Last)
		for i := range h.RejectedAt {
			h.RejectedAt[i] -= h.First
		}
	}
	if err := v.rejected.end(); err != nil {
		return h, err
	}
	if h.Usage, err = v.readUsage(); err != nil {
		return h, err
	}
	h.Outcomes, err = v.readOutcomes()
	if err != nil {
		return h, err
	}
	h.Subscriptions = make([]BatchSubscription, 0, v.subs.n)
	t := v.subs
	for range t.n {
		if err := t.step(); err != nil {
			return h, err
		}
		h.Subscriptions = append(h.Subscriptions, t.entry.subscription())
	}
	return h, t.group.err
}

func (e *subRead) subscription() BatchSubscription {
	return BatchSubscription{ID: broker.SubscriptionID(e.names.id()), Agreement: broker.AgreementID(e.names.agreement), Ceiling: e.ceiling}
}

func (v *view) readUsage() (map[broker.AgreementID]int64, error) {
	c := v.usage
	n := c.count(4)
	var usage map[broker.AgreementID]int64
	if n > 0 {
		usage = make(map[broker.AgreementID]int64, n)
	}
	var a text
	for range n {
		a.read(&c)
		usage[broker.AgreementID(a.b)] = int64(c.uvarint())
		if c.err != nil {
			return nil, c.err
		}
	}
	return usage, c.end()
}

// lists3 are a list as what it may be, each made when first asked for.
type lists3 struct {
	reasons []broker.Reason
	bases   []broker.LegalBasisID
	fields  []broker.Pointer
}

func as[S ~string](have *[]S, words []string) []S {
	if *have == nil {
		*have = make([]S, len(words))
		for i, w := range words {
			(*have)[i] = S(w)
		}
	}
	return *have
}

func (v *view) readOutcomes() ([]BatchOutcome, error) {
	t := v.lists
	words := make([][]string, 0, t.n)
	for range t.n {
		if err := t.step(); err != nil {
			return nil, err
		}
		words = append(words, slices.Clone(t.entry.words))
	}
	if t.group.err != nil {
		return nil, t.group.err
	}
	made := make([]lists3, t.n)
	o := v.outcomes
	outcomes := make([]BatchOutcome, 0, o.n)
	for range o.n {
		if err := o.step(); err != nil {
			return nil, err
		}
		e := &o.entry
		if max(e.reasons, e.bases, e.fields) > t.n {
			o.group.fail("a list out of range")
			return nil, o.group.err
		}
		out := BatchOutcome{Permit: e.permit, Shielded: e.shielded, Package: broker.PackageRef{ID: string(e.pack.b), Version: e.version}}
		if i := e.reasons - 1; i >= 0 {
			out.Reasons = as(&made[i].reasons, words[i])
		}
		if i := e.bases - 1; i >= 0 {
			out.Bases = as(&made[i].bases, words[i])
		}
		if i := e.fields - 1; i >= 0 {
			out.Fields = as(&made[i].fields, words[i])
		}
		outcomes = append(outcomes, out)
	}
	return outcomes, o.group.err
}

// resolved are all sets: answers[from[i]:from[i+1]], each outcome by its number
// among all.
type resolved struct {
	from    []int
	answers []answer
}

func (r *resolved) set(i uint32) []answer { return r.answers[r.from[i]:r.from[i+1]] }

func (v *view) readSets(outcomes int) (*resolved, error) {
	s := v.subs
	var of [][]int
	for range s.n {
		if err := s.step(); err != nil {
			return nil, err
		}
		for _, o := range s.entry.outcomes {
			if o >= outcomes {
				s.group.fail("an outcome out of range")
				return nil, s.group.err
			}
		}
		of = append(of, slices.Clone(s.entry.outcomes))
	}
	t := v.sets
	r := &resolved{from: make([]int, 1, t.n+1)}
	for range t.n {
		if err := t.step(); err != nil {
			return nil, err
		}
		for _, a := range t.entry.answers {
			if a.sub >= len(of) || a.outcome >= len(of[a.sub]) {
				t.group.fail("an answer out of range")
				return nil, t.group.err
			}
			r.answers = append(r.answers, answer{a.sub, of[a.sub][a.outcome]})
		}
		r.from = append(r.from, len(r.answers))
	}
	return r, t.group.err
}

// rowBlock is one block's columns.
type rowBlock struct {
	offsets          []int64
	kinds            [blockRows]broker.RecordKind
	sets             [blockRows]uint32
	events, subjects []byte // subjects: none when no row has one
	room             [blockRows]int64
}

func (k *rowBlock) row(i int) Row {
	r := Row{Offset: k.offsets[i], Kind: k.kinds[i], Event: broker.EventHash(k.events[16*i:])}
	if k.subjects != nil {
		r.Subject = broker.Pseudonym(k.subjects[16*i:])
	}
	return r
}

// read reads a block of n rows from first on.
func (k *rowBlock) read(b []byte, n int, first, last int64, sets int) error {
	c := cursor{what: "block", b: b}
	k.offsets = c.offsets(k.room[:0], n, first, last)
	if c.err == nil && k.offsets[0] != first {
		c.fail("it begins at another offset than the index says")
	}
	for at := 0; at < n && c.err == nil; {
		v := c.uvarint()
		m := v >> 2
		if c.err == nil && (m == 0 || m > uint64(n-at) || broker.RecordKind(v&3) > broker.Retraction) {
			c.fail("kinds of record out of range")
			break
		}
		for range m {
			k.kinds[at] = broker.RecordKind(v & 3)
			at++
		}
	}
	c.refs(k.sets[:n], sets)
	people := c.byte()
	if people > 1 {
		c.fail("a flag that is not known")
	}
	k.events, k.subjects = c.take(uint64(16*n)), nil
	if people == 1 {
		k.subjects = c.take(uint64(16 * n))
	}
	return c.end()
}

// eachBlock calls fn for the blocks until it returns false: where one begins and
// how far it may reach, how many rows it has, and its bytes.
func (v *view) eachBlock(fn func(first, last int64, rows int, b []byte) (bool, error)) error {
	c, rest := v.index, v.blocks
	n := c.count(3)
	first, left := v.head.First, v.rows
	for i := range n {
		skip := c.uvarint()
		if c.err == nil && (skip > uint64(v.head.Last-first) || i > 0 && skip == 0) {
			c.fail("a block out of its range")
		}
		rows, length := c.below(blockRows+1, "the rows of a block"), c.uvarint()
		if c.err == nil && (rows == 0 || rows > left || length > uint64(len(rest))) {
			c.fail("a block of more than there is")
		}
		if c.err != nil {
			return c.err
		}
		first += int64(skip)
		left -= rows
		more, err := fn(first, v.head.Last, rows, rest[:length])
		if !more || err != nil {
			return err
		}
		rest = rest[length:]
	}
	if left > 0 && c.err == nil {
		c.fail("fewer rows than the head counts")
	}
	if len(rest) > 0 && c.err == nil {
		c.fail("something follows the last block")
	}
	return c.end()
}

// eachRow calls fn for each row with its set, and holds the blocks to each other.
func (v *view) eachRow(sets int, fn func(row *Row, set uint32) error) error {
	var k rowBlock
	next := v.head.First
	return v.eachBlock(func(first, last int64, rows int, b []byte) (bool, error) {
		if first < next {
			return false, fmt.Errorf("%w: index: a block begins before the one before it ends", errBatch)
		}
		if err := k.read(b, rows, first, last, sets); err != nil {
			return false, err
		}
		next = k.offsets[rows-1] + 1
		for i := range rows {
			row := k.row(i)
			if err := fn(&row, k.sets[i]); err != nil {
				return false, err
			}
		}
		return true, nil
	})
}
