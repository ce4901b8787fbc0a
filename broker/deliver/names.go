package deliver

import (
	"encoding/binary"
	"strings"
)

// Subscriptions are most of what dictionaries hold, and are named with a system:
// by municipality and service, say, and their agreements like them. So a name is
// written by what it does not share with one of the group before it, and an
// agreement by how its name differs from its subscription's, which is mostly as
// it was the last time.

// How an agreement's name follows from its subscription's.
const (
	edited    = iota // by an edit that is written out
	unchanged        // the same agreement as the entry before
	fromEnd          // by the last edit that was written out, as far from the end
	fromStart        // and as far from the start
)

// edit keeps the head and tail of a name, and puts middle between them.
type edit struct {
	head, tail, cut int // cut: how much lay between
	middle          string
}

// editOf is what makes s of before: the longest head, then the longest tail.
func editOf(before, s string) edit {
	most := min(len(before), len(s))
	head := 0
	for head < most && before[head] == s[head] {
		head++
	}
	tail := 0
	for tail < most-head && before[len(before)-1-tail] == s[len(s)-1-tail] {
		tail++
	}
	return edit{head, tail, len(before) - head - tail, s[head : len(s)-tail]}
}

func (e edit) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(e.head))
	dst = binary.AppendUvarint(dst, uint64(e.tail))
	return appendString(dst, e.middle)
}

// gives reports whether the edit with that head and tail makes s of before.
func (e edit) gives(head, tail int, before, s string) bool {
	return head >= 0 && tail >= 0 && head+tail <= len(before) && len(s) == head+len(e.middle)+tail &&
		s[:head] == before[:head] && strings.HasPrefix(s[head:], e.middle) && s[len(s)-tail:] == before[len(before)-tail:]
}

// appendShared writes a string by its edit of the one before.
func appendShared(dst []byte, before, s string) []byte { return editOf(before, s).append(dst) }

// namesWriter writes the names of a group.
type namesWriter struct {
	ids       [groupSize]string
	tails     [groupSize]uint32
	n         int
	agreement string
	last      edit
}

func (w *namesWriter) restart() { w.n, w.agreement, w.last = 0, "", edit{} }

// id writes a name: how far back the one stands that it shares most with, of the
// one before and the nearest that ends alike; and its edit of that.
func (w *namesWriter) id(dst []byte, s string) []byte {
	var tail uint32
	if len(s) >= 4 {
		tail = binary.LittleEndian.Uint32([]byte(s[len(s)-4:]))
	}
	back, best := 0, edit{middle: s}
	if w.n > 0 {
		back, best = 1, editOf(w.ids[w.n-1], s)
		for i := w.n - 2; i >= 0; i-- {
			if w.tails[i] == tail {
				if e := editOf(w.ids[i], s); len(e.middle) < len(best.middle) {
					back, best = w.n-i, e
				}
				break
			}
		}
	}
	w.ids[w.n], w.tails[w.n] = s, tail
	w.n++
	dst = binary.AppendUvarint(dst, uint64(back))
	if back == 0 {
		return appendString(dst, s)
	}
	return best.append(dst)
}

// how says how to write an agreement's name beside its subscription's.
func (w *namesWriter) how(id, agreement string) int {
	switch e := w.last; {
	case agreement == w.agreement && w.n > 1:
		return unchanged
	case e.gives(len(id)-e.tail-e.cut, e.tail, id, agreement):
		w.agreement = agreement
		return fromEnd
	case e.gives(e.head, len(id)-e.head-e.cut, id, agreement):
		w.agreement = agreement
		return fromStart
	}
	w.agreement, w.last = agreement, editOf(id, agreement)
	return edited
}

// maxText bounds what a reader makes of strings that share: a few bytes can ask
// for the same long string again and again. No honest record comes near.
const maxText = 16 << 20

// made counts the text that was made.
func (c *cursor) made(total *int, n int) {
	if *total += n; *total > maxText {
		c.fail("strings of more than 16 MiB")
	}
}

// edit reads an edit of a string of n bytes.
func (c *cursor) edit(n int) (head, tail int, middle []byte) {
	h, t, m := c.uvarint(), c.uvarint(), c.take(c.uvarint())
	if c.err == nil && (h > uint64(n) || t > uint64(n)-h) {
		c.fail("a string shares more than there is")
	}
	if c.err != nil {
		return 0, 0, nil
	}
	return int(h), int(t), m
}

// text is the string that was read last, which the next one shares with.
type text struct {
	b, spare []byte
	made     int
}

func (t *text) restart() { t.b = t.b[:0] }

func (t *text) read(c *cursor) {
	head, tail, middle := c.edit(len(t.b))
	if c.err != nil {
		return
	}
	t.spare = append(append(append(t.spare[:0], t.b[:head]...), middle...), t.b[len(t.b)-tail:]...)
	t.b, t.spare = t.spare, t.b
	c.made(&t.made, len(t.b))
}

// namesReader reads the names of a group.
type namesReader struct {
	ids             []byte // one after another
	ends            []int
	agreement       []byte
	head, tail, cut int
	middle          []byte
	made            int
}

func (r *namesReader) restart() {
	r.ids, r.ends, r.agreement = r.ids[:0], r.ends[:0], r.agreement[:0]
	r.head, r.tail, r.cut, r.middle = 0, 0, 0, nil
}

// id is the name that was read last.
func (r *namesReader) id() []byte { return r.at(len(r.ends) - 1) }

func (r *namesReader) at(i int) []byte {
	if i == 0 {
		return r.ids[:r.ends[0]]
	}
	return r.ids[r.ends[i-1]:r.ends[i]]
}

func (r *namesReader) readID(c *cursor) {
	var before []byte
	head, tail, middle := 0, 0, []byte(nil)
	if back := c.below(len(r.ends)+1, "a name that others share with"); back > 0 {
		before = r.at(len(r.ends) - back)
		head, tail, middle = c.edit(len(before))
	} else {
		middle = c.take(c.uvarint())
	}
	if c.err == nil {
		r.ids = append(append(append(r.ids, before[:head]...), middle...), before[len(before)-tail:]...)
		c.made(&r.made, head+len(middle)+tail)
	}
	r.ends = append(r.ends, len(r.ids))
}

func (r *namesReader) readAgreement(c *cursor, how int) {
	id := r.id()
	head, tail := 0, 0
	switch how {
	case unchanged:
		if len(r.ends) < 2 {
			c.fail("an agreement like one before that is not there")
		}
		c.made(&r.made, len(r.agreement))
		return
	case fromEnd:
		head, tail = len(id)-r.tail-r.cut, r.tail
	case fromStart:
		head, tail = r.head, len(id)-r.head-r.cut
	default:
		r.head, r.tail, r.middle = c.edit(len(id))
		head, tail, r.cut = r.head, r.tail, len(id)-r.head-r.tail
	}
	if head < 0 || tail < 0 || head+tail > len(id) {
		c.fail("a string shares more than there is")
	}
	if c.err == nil {
		r.agreement = append(append(append(r.agreement[:0], id[:head]...), r.middle...), id[len(id)-tail:]...)
		c.made(&r.made, len(r.agreement))
	}
}
