package flow

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// fetchPool lends the client the memory that fetched records stand in, and has
// it back when their transaction is over (kgo.Record.Recycle). The client wipes
// what it gives back, so that nothing of a person's record lies about in it.
type fetchPool struct {
	bytes   sync.Pool // *[]byte
	records sync.Pool // *[]kgo.Record
}

// keptBytes bounds what one slice in the pool may hold on to.
const keptBytes = 4 << 20

// tooLarge reports whether a slice is not to be lent for so little: the client
// wipes all of it when it comes back.
func tooLarge(have, need int) bool { return have > 8*need+64<<10 }

// GetDecompressBytes implements kgo.PoolDecompressBytes.
func (p *fetchPool) GetDecompressBytes(compressed []byte, _ kgo.CompressionCodecType) []byte {
	if b, ok := p.bytes.Get().(*[]byte); ok {
		if !tooLarge(cap(*b), 4*len(compressed)) {
			return *b
		}
		p.bytes.Put(b)
	}
	return make([]byte, 0, min(4*len(compressed), keptBytes))
}

// PutDecompressBytes implements kgo.PoolDecompressBytes.
func (p *fetchPool) PutDecompressBytes(b []byte) {
	if cap(b) <= keptBytes {
		p.bytes.Put(&b)
	}
}

// GetRecords implements kgo.PoolRecords.
func (p *fetchPool) GetRecords(n int) []kgo.Record {
	if r, ok := p.records.Get().(*[]kgo.Record); ok {
		if cap(*r) >= n && !tooLarge(cap(*r), 64*n) {
			return (*r)[:n]
		}
		p.records.Put(r)
	}
	return make([]kgo.Record, n)
}

// PutRecords implements kgo.PoolRecords.
func (p *fetchPool) PutRecords(r []kgo.Record) { p.records.Put(&r) }
