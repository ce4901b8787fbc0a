package schema

import (
	"bytes"
	"math/big"
	"math/bits"
	"strconv"
)

// Reasonable bounds a number: its exact value, which the comparison of numbers
// beyond 18 digits computes, would otherwise take any amount of memory, as
// 1e999999999 shows. At most 100 characters and an exponent of ±408 are taken.
func Reasonable(number []byte) bool {
	if len(number) <= 18 && bytes.IndexByte(number, 'e') < 0 && bytes.IndexByte(number, 'E') < 0 {
		return true
	}
	if len(number) > 100 {
		return false
	}
	if i := bytes.IndexAny(number, "eE"); i >= 0 {
		exponent, err := strconv.Atoi(string(number[i+1:]))
		return err == nil && exponent >= -308-100 && exponent <= 308
	}
	return true
}

// decimal is m / 10^scale, exactly; |m| < 10^18 and scale is 0 to 18.
type decimal struct {
	m     int64
	scale uint8
}

var pow10 = [19]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

// parseDecimal reads a JSON number of at most 18 digits without an exponent,
// which is what nearly all numbers are. The rest go the long way, by big.Rat.
func parseDecimal(b []byte) (d decimal, ok bool) {
	i := 0
	if b[0] == '-' {
		i = 1
	}
	if len(b)-i > 19 { // 18 digits and a point
		return decimal{}, false
	}
	var m uint64
	point := -1
	for j := i; j < len(b); j++ {
		c := b[j] - '0'
		if c > 9 {
			if b[j] != '.' {
				return decimal{}, false // an exponent
			}
			point = j
			continue
		}
		m = m*10 + uint64(c)
	}
	if point >= 0 {
		d.scale = uint8(len(b) - point - 1)
	} else if len(b)-i > 18 {
		return decimal{}, false
	}
	d.m = int64(m)
	if i == 1 {
		d.m = -d.m
	}
	return d, true
}

// integer reports whether nothing but zeros follows the point.
func (d decimal) integer() bool {
	return d.scale == 0 || d.m%int64(pow10[d.scale]) == 0
}

// compact takes zeros off the end of the fraction, so that equal numbers are
// equal as structs.
func (d decimal) compact() decimal {
	for d.scale > 0 && d.m%10 == 0 {
		d.m /= 10
		d.scale--
	}
	return d
}

func magnitude(m int64) uint64 {
	if m < 0 {
		return uint64(-m)
	}
	return uint64(m)
}

// cmp is −1, 0 or 1. Both sides are brought to the same scale in 128 bits.
func (d decimal) cmp(o decimal) int {
	if d.scale == o.scale {
		switch {
		case d.m < o.m:
			return -1
		case d.m > o.m:
			return 1
		}
		return 0
	}
	switch {
	case d.m < 0 && o.m >= 0:
		return -1
	case d.m >= 0 && o.m < 0:
		return 1
	}
	scale := max(d.scale, o.scale)
	h1, l1 := bits.Mul64(magnitude(d.m), pow10[scale-d.scale])
	h2, l2 := bits.Mul64(magnitude(o.m), pow10[scale-o.scale])
	out := 0
	switch {
	case h1 < h2 || h1 == h2 && l1 < l2:
		out = -1
	case h1 > h2 || h1 == h2 && l1 > l2:
		out = 1
	}
	if d.m < 0 {
		return -out
	}
	return out
}

// exact is a number of the schema's: as decimal where it is one, as big.Rat
// always.
type exact struct {
	rat *big.Rat
	dec decimal
	ok  bool // dec is it
}

func newExact(r *big.Rat) exact {
	d, ok := ratDecimal(r)
	return exact{r, d, ok}
}

// ratDecimal is a rational as the compact decimal, where it is one.
func ratDecimal(r *big.Rat) (decimal, bool) {
	if r.Denom().BitLen() > 63 {
		return decimal{}, false
	}
	var scaled big.Rat
	for scale := range uint8(19) {
		scaled.Mul(r, new(big.Rat).SetInt(new(big.Int).SetUint64(pow10[scale])))
		if !scaled.IsInt() {
			continue
		}
		if n := scaled.Num(); n.IsInt64() && magnitude(n.Int64()) < pow10[18] {
			return decimal{n.Int64(), scale}, true
		}
		return decimal{}, false
	}
	return decimal{}, false
}

// number is a number of the record's, made once for all keywords: as decimal
// where it is a short one, else as big.Rat.
type number struct {
	dec decimal
	rat *big.Rat // nil where dec is it
}

// parseNumber reads a JSON number; ok is false where it is not Reasonable.
func parseNumber(b []byte) (n number, ok bool) {
	if d, ok := parseDecimal(b); ok {
		return number{dec: d}, true
	}
	if !Reasonable(b) {
		return number{}, false
	}
	r, ok := new(big.Rat).SetString(string(b))
	return number{rat: r}, ok
}

func (n *number) rational() *big.Rat {
	if n.rat != nil {
		return n.rat
	}
	return new(big.Rat).SetFrac(big.NewInt(n.dec.m), new(big.Int).SetUint64(pow10[n.dec.scale]))
}

func (n *number) integer() bool {
	if n.rat != nil {
		return n.rat.IsInt()
	}
	return n.dec.integer()
}

func (n *number) cmp(e *exact) int {
	if n.rat == nil && e.ok {
		return n.dec.cmp(e.dec)
	}
	return n.rational().Cmp(e.rat)
}

// multipleOf reports whether n divided by e, which is above zero, is whole.
func (n *number) multipleOf(e *exact) bool {
	if n.rat == nil && e.ok {
		scale := max(n.dec.scale, e.dec.scale)
		h1, l1 := bits.Mul64(magnitude(n.dec.m), pow10[scale-n.dec.scale])
		h2, l2 := bits.Mul64(uint64(e.dec.m), pow10[scale-e.dec.scale])
		if h2 == 0 && h1 < l2 {
			_, rem := bits.Div64(h1, l1, l2)
			return rem == 0
		}
	}
	return new(big.Rat).Quo(n.rational(), e.rat).IsInt()
}

// numbers is what a schema asks of a number.
type numbers struct {
	bounds   []bound
	multiple *exact
}

type bound struct {
	exact
	// A number is out of bounds where comparing it with this one gives one of
	// these: −1, 0, 1.
	below, equal, above bool
}

func (t *numbers) holds(n *number) bool {
	for i := range t.bounds {
		b := &t.bounds[i]
		switch n.cmp(&b.exact) {
		case -1:
			if b.below {
				return false
			}
		case 0:
			if b.equal {
				return false
			}
		default:
			if b.above {
				return false
			}
		}
	}
	return t.multiple == nil || n.multipleOf(t.multiple)
}
