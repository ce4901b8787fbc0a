package derive

import (
	"math/bits"
	"strconv"
)

// number is an exact decimal with nine digits behind the point: a 128-bit integer,
// in two's complement, of billionths. What is read has at most 27 digits, so that a
// sum of MaxRows of them stays far within.
type number struct {
	hi int64
	lo uint64
}

const (
	maxWhole    = 18
	maxFraction = 9
	billion     = 1_000_000_000
)

func (a number) add(b number) number {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	return number{a.hi + b.hi + int64(carry), lo}
}

func (a number) neg() number {
	lo, carry := bits.Add64(^a.lo, 1, 0)
	return number{^a.hi + int64(carry), lo}
}

func (a number) less(b number) bool {
	return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo
}

// parse reads a JSON number, or where exponent is false a decimal without one. ok
// is false for what is neither, or has more digits than are taken.
func parse(s []byte, exponent bool) (n number, ok bool) {
	i := 0
	negative := len(s) > 0 && s[0] == '-'
	if negative {
		i++
	}
	first, last := -1, -1 // of the digits that are not zero, counted from 0
	at, whole := 0, -1    // digits so far; how many stand before the point
	from := i
	for ; i < len(s); i++ {
		c := s[i]
		if c == '.' && whole < 0 && at > 0 {
			whole = at
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		if c != '0' {
			last = at
			if first < 0 {
				first = at
			}
		}
		at++
	}
	to := i
	switch {
	case at == 0, whole == at: // no digit, or none behind the point
		return number{}, false
	case whole < 0:
		whole = at
	}
	if whole > 1 && s[from] == '0' {
		return number{}, false
	}
	power := 0
	if i < len(s) {
		if !exponent {
			return number{}, false
		}
		if power, ok = exponentOf(s[i:]); !ok {
			return number{}, false
		}
	}
	if first < 0 {
		return number{}, true
	}
	// The number is its digits from first to last, times ten to the lowest.
	lowest := whole - 1 - last + power
	if whole-1-first+power >= maxWhole || lowest < -maxFraction {
		return number{}, false
	}
	at = 0
	for _, c := range s[from:to] {
		if c == '.' {
			continue
		}
		if at >= first && at <= last {
			n = n.tenfold(uint64(c - '0'))
		}
		at++
	}
	for range lowest + maxFraction {
		n = n.tenfold(0)
	}
	if negative {
		n = n.neg()
	}
	return n, true
}

// tenfold is 10·a + digit; a is not negative.
func (a number) tenfold(digit uint64) number {
	hi, lo := bits.Mul64(a.lo, 10)
	lo, carry := bits.Add64(lo, digit, 0)
	return number{a.hi*10 + int64(hi+carry), lo}
}

// exponentOf reads such as "e+10". What is far outside every number that is taken
// is told from others no more.
func exponentOf(s []byte) (power int, ok bool) {
	const far = 1 << 40
	if len(s) < 2 || s[0] != 'e' && s[0] != 'E' {
		return 0, false
	}
	s = s[1:]
	negative := s[0] == '-'
	if negative || s[0] == '+' {
		s = s[1:]
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		power = min(power*10+int(c-'0'), far)
	}
	if negative {
		power = -power
	}
	return power, len(s) > 0
}

// append writes the digits, without needless zeros.
func (a number) append(dst []byte) []byte {
	if a.hi < 0 {
		dst = append(dst, '-')
		a = a.neg()
	}
	whole, fraction := a.split(billion)
	const chunk = 1_000_000_000_000_000_000
	if whole.hi > 0 || whole.lo >= chunk {
		high, low := whole.split(chunk)
		dst = strconv.AppendUint(dst, high.lo, 10)
		dst = appendPadded(dst, low, 18)
	} else {
		dst = strconv.AppendUint(dst, whole.lo, 10)
	}
	if fraction == 0 {
		return dst
	}
	dst = appendPadded(append(dst, '.'), fraction, maxFraction)
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// split divides what is not negative.
func (a number) split(by uint64) (quotient number, remainder uint64) {
	high, rest := uint64(a.hi)/by, uint64(a.hi)%by
	low, remainder := bits.Div64(rest, a.lo, by)
	return number{int64(high), low}, remainder
}

func appendPadded(dst []byte, n uint64, width int) []byte {
	start := len(dst)
	for range width {
		dst = append(dst, '0')
	}
	for i := len(dst) - 1; i >= start; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}
