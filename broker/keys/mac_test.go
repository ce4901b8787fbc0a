package keys

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

func reference(key, message []byte) broker.Digest {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return broker.Digest(h.Sum(nil)[:16])
}

// One mac, used again and again, says what crypto/hmac says.
func TestMacIsHMAC(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 0, 150).Draw(t, "key")
		m := newMac(key)
		for range 5 {
			message := rapid.SliceOfN(rapid.Byte(), 0, 700).Draw(t, "message")
			m.in = append(m.in[:0], message...)
			if have, want := m.sum(), reference(key, message); have != want {
				t.Fatalf("%v, want %v", have, want)
			}
		}
	})
}

// A mac keeps nothing of a message but what its caller clears.
func TestMacKeepsNoMessage(t *testing.T) {
	m := newMac([]byte("key"))
	message := bytes.Repeat([]byte("12345678901"), 30)
	small := m.in[:cap(m.in)]
	m.in = append(m.in[:0], message[:len(small)]...)
	m.sum()
	m.in = append(m.in[:0], message...)
	m.sum()
	clear(m.in)
	state := fmt.Appendf(nil, "%s %s %s %s", small, m.in[:cap(m.in)], m.out, m.append(nil))
	if bytes.Contains(state, message[:11]) || bytes.Contains(state, []byte("5678901")) {
		t.Errorf("%q", state)
	}
}

func BenchmarkMac(b *testing.B) {
	key := make([]byte, 32)
	for _, n := range []int{11, 16, 100} {
		message := make([]byte, n)
		b.Run(fmt.Sprint("ours/", n), func(b *testing.B) {
			m := newMac(key)
			for b.Loop() {
				m.in = append(m.in[:0], message...)
				m.sum()
			}
		})
		b.Run(fmt.Sprint("crypto/", n), func(b *testing.B) {
			h, out := hmac.New(sha256.New, key), make([]byte, 0, 32)
			h.Reset() // saves the two states to start from
			for b.Loop() {
				h.Reset()
				h.Write(message)
				out = h.Sum(out[:0])
			}
		})
	}
}
