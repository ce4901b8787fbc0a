package synthetic

import "math/bits"

// rng is SplitMix64 (Steele, Lea and Flood, 2014): eight bytes of state that
// can be set from an index, which is what lets person i be computed without
// persons 0 to i-1. It is not for secrets.
type rng struct{ state uint64 }

const gamma = 0x9e3779b97f4a7c15

// mix is SplitMix64's finaliser, a bijection on 64-bit words.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (r *rng) next() uint64 {
	r.state += gamma
	return mix(r.state)
}

// below returns a number in [0, n). Its bias, below n in 2^64, is of no
// consequence here.
func (r *rng) below(n int) int {
	hi, _ := bits.Mul64(r.next(), uint64(n))
	return int(hi)
}

// between returns a number in [lo, hi].
func (r *rng) between(lo, hi int) int { return lo + r.below(hi-lo+1) }

// chance is true in percent of 100 draws.
func (r *rng) chance(percent int) bool { return r.below(100) < percent }

// Streams of randomness. What stays with a person over the months (where they
// live, what they do) is drawn from another stream than what varies, so that a
// new field in one record does not move everybody to another municipality.
// Their order is part of the golden hash: append only.
const (
	streamPerson uint64 = iota + 1
	streamWork
	streamMonth
	streamProperty
	streamIncomeID
	streamPropertyID
	streamFault
)

// key returns a word that is distinct for each i of one seed and stream.
func key(seed, stream uint64, i int) uint64 {
	return mix(mix(seed+stream*gamma) + uint64(i))
}

func stream(seed, stream uint64, i int) rng { return rng{key(seed, stream, i)} }
