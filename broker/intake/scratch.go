package intake

import (
	"strings"
	"time"
	"unsafe"

	"datafordeler/broker/jsondoc"
	"datafordeler/broker/schema"
)

// scratch is the working memory of one Accept. A dataset keeps those that are
// not in use, so that in steady state nothing is allocated.
type scratch struct {
	run schema.Run
	// source and kind are the source and type of a record before, which were
	// found fit: most records have the same.
	source, kind string
	// text and other hold values that had escapes.
	text, other []byte
	// known are strings that came before: sources, types and attributes are few.
	known map[string]string
	// lasting holds known's strings, passing those that no other record has.
	lasting, passing arena
}

// What known may hold; a dataset whose attributes are never the same twice
// begins it anew each time.
const (
	maxKnown      = 4096
	maxKnownBytes = 64
)

// intern is b as a string, made once for all records that have it.
func (w *scratch) intern(b []byte) string {
	if len(b) > maxKnownBytes {
		return string(b)
	}
	if s, ok := w.known[string(b)]; ok {
		return s
	}
	if w.known == nil {
		w.known = map[string]string{}
	} else if len(w.known) >= maxKnown {
		clear(w.known)
		w.lasting = arena{}
	}
	s := w.lasting.string(b)
	w.known[s] = s
	return s
}

// arena makes small strings out of larger pieces of memory, a piece at a time.
type arena struct{ b strings.Builder }

const arenaPiece = 4096

func (a *arena) string(b []byte) string {
	if a.b.Cap()-a.b.Len() < len(b) {
		a.b = strings.Builder{}
		a.b.Grow(max(arenaPiece, len(b)))
	}
	start := a.b.Len()
	a.b.Write(b)
	return a.b.String()[start:]
}

// borrow is b as a string without a copy, for a call that does not keep it:
// the Hasher's. An identifier is in no other string then, so that none is left
// behind in memory. BenchmarkBorrow has what the copies would cost.
func borrow(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

type valueProblem uint8

const (
	noProblem valueProblem = iota
	severalValues
	notScalar
)

// single is the one value that a watched pointer led to: a string's content, or
// a number, true or false as written; empty when there is none, or only null.
// It is valid until the next call.
func (w *scratch) single(doc *jsondoc.Doc, watch int) (value []byte, problem valueProblem) {
	visit := func(i int) bool {
		switch kind := doc.Node(i).Kind; {
		case kind == jsondoc.Null:
		case kind == jsondoc.Object:
			problem = notScalar
		case len(value) > 0:
			if string(value) != string(scalar(doc, i, &w.other)) {
				problem = severalValues
			}
		default:
			value = scalar(doc, i, &w.text)
		}
		return problem == noProblem
	}
	for _, hit := range w.run.Hits() {
		if hit.Watch == watch && !doc.Scalars(hit.Node, visit) {
			break
		}
	}
	return value, problem
}

// scalar is a node's text; buf takes it where it has to be unescaped.
func scalar(doc *jsondoc.Doc, i int, buf *[]byte) []byte {
	n := doc.Node(i)
	switch {
	case n.Kind != jsondoc.String:
		return doc.Bytes(i)
	case n.Escaped:
		*buf = doc.AppendText((*buf)[:0], i)
		return *buf
	}
	return doc.Data()[n.Start+1 : n.End-1]
}

// parseTime reads RFC 3339 as package time does, and the usual form, whole
// seconds in UTC, without its help.
func parseTime(b []byte) (t time.Time, ok bool) {
	if len(b) == 20 && b[4] == '-' && b[7] == '-' && b[10] == 'T' && b[13] == ':' && b[16] == ':' && b[19] == 'Z' {
		var n [7]int // century, year, month, day, hour, minute, second
		for i, at := range [...]int{0, 2, 5, 8, 11, 14, 17} {
			tens, ones := b[at]-'0', b[at+1]-'0'
			if tens > 9 || ones > 9 {
				n[2] = 0
				break
			}
			n[i] = int(tens)*10 + int(ones)
		}
		// Days above 28, like all else, are for package time to judge.
		if n[2] >= 1 && n[2] <= 12 && n[3] >= 1 && n[3] <= 28 && n[4] <= 23 && n[5] <= 59 && n[6] <= 59 {
			return time.Date(n[0]*100+n[1], time.Month(n[2]), n[3], n[4], n[5], n[6], 0, time.UTC), true
		}
	}
	t, err := time.Parse(time.RFC3339, string(b))
	return t.UTC(), err == nil
}
