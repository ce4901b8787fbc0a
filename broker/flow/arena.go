package flow

import "github.com/twmb/franz-go/pkg/kgo"

// arena holds the deliveries' bytes of one transaction, and is used again for
// the next: by then Kafka's client has let go of them.
type arena struct {
	chunks [][]byte
	used   int // chunks in use
}

const arenaChunk = 1 << 20

// mark returns an empty slice with room for n bytes.
func (a *arena) mark(n int) []byte {
	if a.used > 0 {
		if c := a.chunks[a.used-1]; cap(c)-len(c) >= n {
			return c[len(c):len(c):cap(c)]
		}
	}
	if a.used == len(a.chunks) || cap(a.chunks[a.used]) < n {
		a.chunks = append(a.chunks[:a.used], make([]byte, 0, max(n, arenaChunk)))
	}
	a.chunks[a.used] = a.chunks[a.used][:0]
	a.used++
	return a.chunks[a.used-1]
}

// take keeps what was appended to a marked slice.
func (a *arena) take(marked, out []byte) []byte {
	if cap(marked) > 0 && cap(out) > 0 && &marked[:1][0] == &out[:1][0] {
		c := &a.chunks[a.used-1]
		*c = (*c)[:len(*c)+len(out)]
	} else { // it outgrew the room, and has memory of its own
		clear(marked[:cap(marked)])
	}
	return out[:len(out):len(out)]
}

// release wipes what was taken, and has the room again.
func (a *arena) release() {
	for i := range a.used {
		clear(a.chunks[i])
		a.chunks[i] = a.chunks[i][:0]
	}
	a.used = 0
}

// slab holds a transaction's outgoing records and their headers, and is used
// again for the next: Kafka's client has answered for each of them by then.
type slab struct {
	records [][]kgo.Record
	heads   [][]kgo.RecordHeader
	nr, nh  int // chunks in use; the last one of each is filled up to its length
}

const slabChunk = 512

// record returns a record with nothing in it.
func (s *slab) record() *kgo.Record {
	if s.nr == 0 || len(s.records[s.nr-1]) == slabChunk {
		if s.nr == len(s.records) {
			s.records = append(s.records, make([]kgo.Record, 0, slabChunk))
		}
		s.nr++
	}
	c := &s.records[s.nr-1]
	*c = (*c)[:len(*c)+1]
	return &(*c)[len(*c)-1]
}

// headers returns an empty slice with room for n ≤ slabChunk headers.
func (s *slab) headers(n int) []kgo.RecordHeader {
	if s.nh == 0 || cap(s.heads[s.nh-1])-len(s.heads[s.nh-1]) < n {
		if s.nh == len(s.heads) {
			s.heads = append(s.heads, make([]kgo.RecordHeader, 0, 16*slabChunk))
		}
		s.nh++
	}
	c := &s.heads[s.nh-1]
	at := len(*c)
	*c = (*c)[:at+n]
	return (*c)[at : at : at+n]
}

// trim gives back the room of the latest headers that they did not take: what is
// not lent is neither fetched into the processor's caches nor wiped.
func (s *slab) trim(h []kgo.RecordHeader) []kgo.RecordHeader {
	c := &s.heads[s.nh-1]
	if at := len(*c) - cap(h); len(h) > 0 && at >= 0 && &(*c)[at] == &h[0] {
		*c = (*c)[:at+len(h)]
	}
	return h[:len(h):len(h)]
}

// release empties everything, so that nothing of what people's records said is
// kept for longer than its transaction.
func (s *slab) release() {
	for i := range s.nr {
		clear(s.records[i])
		s.records[i] = s.records[i][:0]
	}
	for i := range s.nh {
		clear(s.heads[i])
		s.heads[i] = s.heads[i][:0]
	}
	s.nr, s.nh = 0, 0
}
