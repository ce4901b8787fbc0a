package policy

import (
	"encoding/binary"
	"sync"

	"datafordeler/broker"
)

// Memo remembers the outcomes of complete inputs within one transaction, so that
// the policy is evaluated once for each distinct one. It belongs to one goroutine.
// Reset it at each transaction.
//
// It is exact: its key holds all of the facts that are in the input, in the same
// precision, together with what was prepared.
type Memo struct {
	// Shared, where set, is asked for what this memo lacks, and told what it learns.
	Shared *SharedMemo

	outcomes map[memoKey]*broker.Outcome
	bytes    int
	prepared *Prepared // of the key in buf
	buf      []byte
}

type memoKey struct {
	prepared *Prepared
	facts    string
}

// memoLimit bounds the keys that a memo holds, in bytes. A full one is emptied:
// what comes next in a stream resembles what came last.
const memoLimit = 8 << 20

// Reset forgets everything.
func (m *Memo) Reset() {
	clear(m.outcomes)
	m.bytes = 0
	m.prepared = nil
}

// get finds the outcome for these facts, or nil. It leaves the key for put.
func (m *Memo) get(p *Prepared, f *broker.Facts) *broker.Outcome {
	m.prepared, m.buf = p, p.appendKey(m.buf[:0], f)
	if o := m.outcomes[memoKey{p, string(m.buf)}]; o != nil || m.Shared == nil {
		return o
	}
	m.Shared.mu.Lock()
	o := m.Shared.memo.outcomes[memoKey{p, string(m.buf)}]
	m.Shared.mu.Unlock()
	if o != nil {
		m.learn(memoKey{p, string(m.buf)}, o)
	}
	return o
}

// put remembers the outcome for the facts that get was last asked for.
func (m *Memo) put(o *broker.Outcome) {
	key := memoKey{m.prepared, string(m.buf)}
	m.learn(key, o)
	if m.Shared != nil {
		m.Shared.mu.Lock()
		m.Shared.memo.learn(key, o)
		m.Shared.mu.Unlock()
	}
}

func (m *Memo) learn(key memoKey, o *broker.Outcome) {
	if len(key.facts) > memoLimit {
		return
	}
	if m.bytes += len(key.facts); m.bytes > memoLimit {
		clear(m.outcomes)
		m.bytes = len(key.facts)
	}
	if m.outcomes == nil {
		m.outcomes = map[memoKey]*broker.Outcome{}
	}
	m.outcomes[key] = o
}

// SharedMemo is what the memos of one transaction's goroutines have learned, so
// that an input which several of them meet is evaluated about once. It is safe
// for any number of goroutines.
type SharedMemo struct {
	mu   sync.Mutex
	memo Memo
}

// Reset forgets everything.
func (s *SharedMemo) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.memo.Reset()
}

// appendKey writes what value puts into the input, one to one: fixed-width numbers,
// texts and lists after their lengths.
func (p *Prepared) appendKey(b []byte, f *broker.Facts) []byte {
	b = number64(b, f.Time.UnixMilli())
	b = append(b, byte(f.Kind))
	for i := range f.Attributes { // as many as the dataset declares
		b = text(b, f.Attributes[i])
	}
	b = binary.AppendUvarint(b, uint64(len(f.Cases)))
	for i := range f.Cases {
		b = span(b, f.Cases[i])
	}
	b = binary.AppendUvarint(b, uint64(len(f.Consents)))
	for i := range f.Consents {
		c := &f.Consents[i]
		b = text(b, string(c.Consumer))
		b = text(b, string(c.Dataset))
		b = text(b, string(c.Purpose))
		b = span(b, c.Valid)
		b = number64(b, toMillis(c.Withdrawn))
	}
	if p.ceiling {
		b = number64(b, f.Usage.Granted)
		b = number64(b, f.Usage.Delivered)
	}
	return b
}

func number64(b []byte, n int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(n)) }

func text(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func span(b []byte, i broker.Interval) []byte {
	return number64(number64(b, fromMillis(i.From)), toMillis(i.To))
}
