package keys

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"

	"datafordeler/broker"
)

// macs hands out HMAC-SHA-256 states of one key, with the key's two blocks
// already hashed in, so that a short message costs two compressions, not four.
type macs struct{ pool *sync.Pool }

// mac computes HMACs (RFC 2104) of one key. Each record takes three, and of each
// a third goes into compressing: what crypto/hmac does about it, copies and
// clearing for messages that come piece by piece, costs more. So a message, which
// is whole here, is padded here (FIPS 180-4, 5.1.1); the hash is given nothing but
// whole blocks, and what it has then become is read from its encoding, which is
// what a hash offers for being put away and taken up again. BenchmarkMac has both.
type mac struct {
	hash         state
	inner, outer []byte // encoded states: the key's block with its inner and outer pad
	in           []byte // the message
	out          []byte // an encoded state
	last         [sha256.BlockSize]byte
}

// state is what sha256.New returns.
type state interface {
	hash.Hash
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

const (
	// An encoded SHA-256 begins with its name, and its eight words.
	stateAt = 4
	padding = 1 + 8 // at the least: a bit, and the length
)

func newMacs(key []byte) macs {
	checked()
	return macs{&sync.Pool{New: func() any { return newMac(key) }}}
}

func newMac(key []byte) *mac {
	m := &mac{hash: sha256.New().(state), in: make([]byte, 0, 192)}
	if len(key) > sha256.BlockSize {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	begin := func(pad byte) []byte {
		var block [sha256.BlockSize]byte
		copy(block[:], key)
		for i := range block {
			block[i] ^= pad
		}
		m.hash.Reset()
		m.hash.Write(block[:])
		return m.append(nil)
	}
	m.inner, m.outer = begin(0x36), begin(0x5c)
	m.last[sha256.Size] = 0x80
	binary.BigEndian.PutUint64(m.last[len(m.last)-8:], 8*(sha256.BlockSize+sha256.Size))

	return m
}

// checked sees that the encoding is what it is taken for, once, rather than
// believing it: keys that made other hashes than before would find nobody's
// consent.
var checked = sync.OnceFunc(func() {
	key := []byte("any")
	m := newMac(key)
	for n := range 130 {
		message := bytes.Repeat([]byte{0xa5}, n)
		h := hmac.New(sha256.New, key)
		h.Write(message)
		m.in = append(m.in[:0], message...)
		if want := broker.Digest(h.Sum(nil)[:len(broker.Digest{})]); m.sum() != want {
			panic(fmt.Sprintf("keys: an HMAC of %d bytes differs from crypto/hmac's: this version of Go encodes the state of SHA-256 otherwise", n))
		}
	}
})

// sum is the first half of the HMAC of m.in, which must not be used after it.
func (m *mac) sum() broker.Digest {
	n := len(m.in)
	size := (n + padding + sha256.BlockSize - 1) &^ (sha256.BlockSize - 1)
	if cap(m.in) < size {
		larger := make([]byte, n, 2*size)
		copy(larger, m.in)
		clear(m.in)
		m.in = larger
	}
	b := m.in[:size]
	b[n] = 0x80
	clear(b[n+1 : size-8])
	binary.BigEndian.PutUint64(b[size-8:], 8*uint64(sha256.BlockSize+n))
	m.in = b

	copy(m.last[:sha256.Size], m.run(m.inner, b))
	return broker.Digest(m.run(m.outer, m.last[:])[:len(broker.Digest{})])
}

// run is what whole blocks make of a state.
func (m *mac) run(from, blocks []byte) []byte {
	if err := m.hash.UnmarshalBinary(from); err != nil {
		panic("keys: " + err.Error()) // it encoded that itself
	}
	m.hash.Write(blocks)
	m.out = m.append(m.out[:0])
	return m.out[stateAt:][:sha256.Size]
}

func (m *mac) append(dst []byte) []byte {
	dst, err := m.hash.AppendBinary(dst)
	if err != nil {
		panic("keys: " + err.Error()) // it has no reason to
	}
	return dst
}
