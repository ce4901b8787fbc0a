package ledger

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker"
)

// Bounds on what is read, so that reading is never unbounded work.
const (
	// MaxLine is the longest line, in bytes, its line break not counted.
	MaxLine = 16 << 20
	// MaxLines is the most lines of one entry.
	MaxLines = 1 << 23
)

// hexPairs are the two digits of each byte.
var hexPairs = func() (t [256][2]byte) {
	for i := range t {
		t[i] = [2]byte([]byte(hex.EncodeToString([]byte{byte(i)})))
	}
	return t
}()

// nibbles are the values of hexadecimal digits, lower case; 0xff for others.
var nibbles = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range []byte("0123456789abcdef") {
		t[c] = byte(i)
	}
	return t
}()

func appendDigest(dst []byte, d *broker.Digest) []byte {
	var text [2 * len(d)]byte
	for i, c := range d {
		*(*[2]byte)(text[2*i:]) = hexPairs[c]
	}
	return append(dst, text[:]...)
}

func appendHash(dst []byte, h [32]byte) []byte { return hex.AppendEncode(dst, h[:]) }

// plain are the bytes that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x80; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendText writes a JSON string, quotes included. There is one way to write
// each: that of RFC 8785 section 3.2.2.2. What is not UTF-8 becomes U+FFFD.
func appendText[S ~string](dst []byte, s S) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		if !plain[s[i]] {
			return append(appendEscaped(append(dst, s[:i]...), string(s[i:])), '"')
		}
	}
	return append(append(dst, s...), '"')
}

func appendEscaped(dst []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r >= 0x20:
			dst = utf8.AppendRune(dst, r)
		case r == '\b':
			dst = append(dst, `\b`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\f':
			dst = append(dst, `\f`...)
		case r == '\r':
			dst = append(dst, `\r`...)
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, hexPairs[r][:]...)
		}
	}
	return dst
}

func appendTexts[S ~string](dst []byte, list []S) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, s)
	}
	return append(dst, ']')
}

// appendTime writes RFC 3339 in UTC, with as many decimals as are needed.
func appendTime(dst []byte, t time.Time) []byte {
	dst = append(dst, '"')
	dst = t.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"')
}

// cursor reads a canonical line: members in their order, no space, numbers and
// strings in the one way that they are written. After the first thing that does
// not fit, bad says so and nothing more is read.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) fail() { c.bad, c.b = true, nil }

// lit wants just s.
func (c *cursor) lit(s string) {
	if !c.has(s) {
		c.fail()
	}
}

// has takes s if it is there.
func (c *cursor) has(s string) bool {
	if len(c.b) < len(s) || string(c.b[:len(s)]) != s {
		return false
	}
	c.b = c.b[len(s):]
	return true
}

// text reads a string. What it returns may share the line's memory.
func (c *cursor) text() []byte {
	if !c.has(`"`) {
		c.fail()
		return nil
	}
	for i, x := range c.b {
		if plain[x] {
			continue
		}
		if x == '"' {
			s := c.b[:i]
			c.b = c.b[i+1:]
			return s
		}
		return c.escaped(i)
	}
	c.fail()
	return nil
}

// escaped reads a string that has more than plain characters, from i on.
func (c *cursor) escaped(i int) []byte {
	for ; i < len(c.b) && c.b[i] != '"'; i++ {
		if c.b[i] == '\\' {
			i++
		}
	}
	if i >= len(c.b) {
		c.fail()
		return nil
	}
	raw := make([]byte, 0, i+2)
	raw = append(append(append(raw, '"'), c.b[:i]...), '"')
	var s string
	if err := json.Unmarshal(raw, &s); err != nil || !bytes.Equal(appendText(nil, s), raw) {
		c.fail()
		return nil
	}
	c.b = c.b[i+1:]
	return []byte(s)
}

// texts reads a list of at least one string, calling fn for each.
func (c *cursor) texts(fn func([]byte)) {
	c.lit("[")
	for {
		s := c.text()
		if c.bad {
			return
		}
		if fn != nil {
			fn(s)
		}
		if c.has("]") {
			return
		}
		c.lit(",")
	}
}

// number reads a whole number from 0 to most, without needless zeros.
func (c *cursor) number(most uint64) uint64 {
	var n uint64
	i := 0
	for ; i < len(c.b) && c.b[i] >= '0' && c.b[i] <= '9' && i < 20; i++ {
		x := uint64(c.b[i] - '0')
		if n > (math.MaxUint64-x)/10 {
			c.fail()
			return 0
		}
		n = n*10 + x
	}
	if i == 0 || i > 1 && c.b[0] == '0' || n > most {
		c.fail()
		return 0
	}
	c.b = c.b[i:]
	return n
}

func (c *cursor) int64() int64 { return int64(c.number(math.MaxInt64)) }

// positive is a number that would have been left out were it 0.
func (c *cursor) positive() int64 {
	n := c.int64()
	if n == 0 {
		c.fail()
	}
	return n
}

func (c *cursor) hex(dst []byte) {
	n := 2 * len(dst)
	if len(c.b) < n+2 || c.b[0] != '"' || c.b[n+1] != '"' {
		c.fail()
		return
	}
	for i := range dst {
		hi, lo := nibbles[c.b[1+2*i]], nibbles[c.b[2+2*i]]
		if hi|lo > 15 {
			c.fail()
			return
		}
		dst[i] = hi<<4 | lo
	}
	c.b = c.b[n+2:]
}

func (c *cursor) digest() (d broker.Digest) { c.hex(d[:]); return d }

func (c *cursor) hash() (h tlog.Hash) { c.hex(h[:]); return h }

func (c *cursor) time() time.Time {
	s := c.text()
	if c.bad {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, string(s))
	if err != nil || string(appendTime(nil, t)) != `"`+string(s)+`"` {
		c.fail()
	}
	return t.UTC()
}

// end wants the line to end.
func (c *cursor) end() {
	if len(c.b) != 0 {
		c.fail()
	}
}

// appendInt writes a member's number; name has its punctuation.
func appendInt(dst []byte, name string, n int64) []byte {
	return strconv.AppendInt(append(dst, name...), n, 10)
}
