package store

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
)

// cursorVersion is the first byte of a cursor.
const cursorVersion = 1

// key is where a decision stands in the order of a search: by time, then by its
// place in the log. It follows from the log, so that a cursor holds over a
// rebuild, and on either database.
type key struct {
	time  int64
	log   logAt
	index int64 // among the decisions of its batch
}

func (a key) less(b key) bool {
	switch {
	case a.time != b.time:
		return a.time < b.time
	case a.log.partition != b.log.partition:
		return a.log.partition < b.log.partition
	case a.log.offset != b.log.offset:
		return a.log.offset < b.log.offset
	}
	return a.index < b.index
}

// mark tells queries apart: a cursor is good for the query that it came from. It
// protects nobody but the one who mixes cursors up: whoever makes one up gets
// what the same query gives from there on, and no more.
func (q *Query) mark() [8]byte {
	b := []byte{cursorVersion, byte(q.Verdict), byte(q.Shielded), byte(q.Kind), 0}
	if q.Ascending {
		b[4] = 1
	}
	b = append(b, q.Event[:]...)
	b = append(b, q.Decision[:]...)
	b = append(b, q.Delivery[:]...)
	if p := q.Record; p != nil {
		b = append(appendString(append(b, 1), p.Dataset), 0)
		b = binary.BigEndian.AppendUint32(b, uint32(p.Partition))
		b = binary.BigEndian.AppendUint64(b, uint64(p.Offset))
	} else {
		b = append(b, 0)
	}
	b = appendString(b, q.Subscription)
	b = appendString(b, q.Agreement)
	b = appendString(b, q.Consumer)
	b = appendString(b, q.Provider)
	b = appendString(b, q.Supplier)
	b = appendString(b, q.Dataset)
	b = appendString(b, q.Basis)
	b = appendString(b, q.Reason)
	from, to := q.bounds()
	b = binary.BigEndian.AppendUint64(b, uint64(from))
	b = binary.BigEndian.AppendUint64(b, uint64(to))
	b = appendString(b, q.Period)
	if q.Subjects != nil {
		b = binary.AppendUvarint(append(b, 1), uint64(len(q.Subjects)))
		for _, p := range q.Subjects {
			b = append(b, p[:]...)
		}
	} else {
		b = append(b, 0)
	}
	b = appendString(b, q.Package)
	b = binary.AppendVarint(b, int64(q.Version))
	b = appendString(b, q.Party)
	b = append(b, q.Request[:]...)
	sum := sha256.Sum256(b)
	return [8]byte(sum[:8])
}

// cursor is the text of a place in a query's results.
func (q *Query) cursor(k key) string {
	m := q.mark()
	b := append([]byte{cursorVersion}, m[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(k.time))
	b = binary.AppendUvarint(b, uint64(k.log.partition))
	b = binary.AppendUvarint(b, uint64(k.log.offset))
	b = binary.AppendUvarint(b, uint64(k.index))
	return base64.RawURLEncoding.EncodeToString(b)
}

// place reads the query's cursor.
func (q *Query) place() (key, error) {
	bad := func(why string) (key, error) { return key{}, fmt.Errorf("%w: %s", ErrCursor, why) }
	if len(q.Cursor) > 100 {
		return bad("it is none of this program's")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(q.Cursor)
	switch {
	case err != nil || len(b) < 17:
		return bad("it is none of this program's")
	case b[0] != cursorVersion:
		return key{}, fmt.Errorf("%w: begin again without it", ErrOldCursor)
	case [8]byte(b[1:9]) != q.mark():
		return bad("it is of another query: begin again without it")
	}
	k := key{time: int64(binary.BigEndian.Uint64(b[9:]))}
	u := unpack{b: b[17:]}
	partition, offset, index := u.uint(), u.uint(), u.uint()
	if u.bad || len(u.b) > 0 || partition > math.MaxInt32 || offset > math.MaxInt64 || index > math.MaxInt64 {
		return bad("it is none of this program's")
	}
	k.log, k.index = logAt{int32(partition), int64(offset)}, int64(index)
	if q.cursor(k) != q.Cursor {
		return bad("it is none of this program's")
	}
	return k, nil
}

// bounds are From and To in nanoseconds: from ≤ time < to.
func (q *Query) bounds() (from, to int64) { return bounds(q.From, q.To) }
