package synthetic

import (
	"math/rand/v2"
	"time"
)

// The population is born on the days from firstBirth to 31 December 2010: old
// enough in 2026 to have an income of their own, and within what individual
// numbers 000–499 (born before 2000) and 500–999 (born since) tell apart.
const birthdays = 27_394

var firstBirth = time.Date(1936, 1, 1, 0, 0, 0, 0, time.UTC)

// slotsPerBirthday: 50 values of the individual number's first two digits, and
// three groups of its last digit. Both check digits are linear in that last
// digit modulo 11, with slopes that are not zero, so each can be impossible (10)
// at most once in a group; a group of three always has a number to give. Numbering
// slots rather than drawing numbers makes every number in a population unique.
const slotsPerBirthday = 50 * 3

// MaxPeople is how many distinct identity numbers the population has: above four
// million, more than receive an income in Norway in a month.
const MaxPeople = birthdays * slotsPerBirthday

// identity is a national identity number in ASCII digits.
type identity [11]byte

var (
	weights1 = [9]int{3, 7, 6, 1, 8, 9, 4, 5, 2}
	weights2 = [10]int{5, 4, 3, 2, 7, 6, 5, 4, 3, 2}
	weightsO = [8]int{3, 2, 7, 6, 5, 4, 3, 2}
)

// identityAt returns the number in a slot of [0, MaxPeople), and the birth date.
// With foreign set it is a D-number (40 added to the day), as those have who work
// here without being residents.
func identityAt(slot int, foreign bool) (id identity, born time.Time) {
	born = firstBirth.AddDate(0, 0, slot/slotsPerBirthday)
	slot %= slotsPerBirthday
	y, m, d := born.Date()
	if foreign {
		d += 40
	}
	put2(id[0:], d)
	put2(id[2:], int(m)+80)
	put2(id[4:], y%100)
	tens := slot / 3
	if y >= 2000 {
		tens += 50
	}
	put2(id[6:], tens)
	for last := slot % 3 * 3; ; last++ {
		id[8] = '0' + byte(last)
		if seal(&id) {
			return id, born
		}
	}
}

// seal computes the check digits by the rule in force before 2032; false when
// one of them would be 10.
func seal(id *identity) bool {
	k1 := checkDigit(id[:9], weights1[:])
	if k1 == 10 {
		return false
	}
	id[9] = '0' + byte(k1)
	k2 := checkDigit(id[:10], weights2[:])
	id[10] = '0' + byte(k2)
	return k2 != 10
}

// checkDigit is modulus 11: 0 to 9, or 10 when no digit will do.
func checkDigit(digits []byte, weights []int) int {
	return (11 - weigh(digits, weights)%11) % 11
}

func weigh(digits []byte, weights []int) (sum int) {
	for i, w := range weights {
		sum += w * int(digits[i]-'0')
	}
	return sum
}

func put2(b []byte, n int) { b[0], b[1] = '0'+byte(n/10), '0'+byte(n%10) }

// NationalID returns a synthetic national identity number drawn from r: 80 added
// to the month, check digits as issued until 2032.
func NationalID(r *rand.Rand) string {
	id, _ := identityAt(r.IntN(MaxPeople), false)
	return string(id[:])
}

// ValidNationalID tells whether s has the form and the check digits of a
// Norwegian identity number: national identity number or D-number (day + 40),
// issued or synthetic (month + 80). Until 2032 the weighted sum with the first
// check digit leaves 0 modulo 11; after that it may leave 0 to 3 and the century
// no longer follows from the digits. Both are valid here.
func ValidNationalID(s string) bool {
	if len(s) != 11 || !allDigits(s) {
		return false
	}
	day, month, year := two(s), two(s[2:]), two(s[4:])
	if day > 40 {
		day -= 40
	}
	if month > 80 {
		month -= 80
	}
	if month < 1 || month > 12 || day < 1 || day > longest(month, year) {
		return false
	}
	var id identity
	copy(id[:], s)
	k1, k2 := int(id[9]-'0'), int(id[10]-'0')
	return (weigh(id[:9], weights1[:])+k1)%11 <= 3 &&
		(weigh(id[:10], weights2[:])+k2)%11 == 0
}

// IsSynthetic tells whether s is a valid identity number that no person can
// have: one with 80 added to its month.
func IsSynthetic(s string) bool { return ValidNationalID(s) && two(s[2:]) > 80 }

// longest is the last day of the month in any century whose year ends so: 00 was
// a leap year in 2000.
func longest(month, year int) int {
	switch month {
	case 2:
		if year%4 == 0 {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

func two(s string) int { return int(s[0]-'0')*10 + int(s[1]-'0') }

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// maxOrganisations: half of the ten million numbers that begin with 3, since of
// two neighbours at least one has a check digit.
const maxOrganisations = 5_000_000

// orgNumberAt returns the organisation number in a slot of [0, maxOrganisations).
func orgNumberAt(slot int) (n [9]byte) {
	for v := 30_000_000 + 2*slot; ; v++ {
		rest := v
		for i := 7; i >= 0; i-- {
			n[i] = '0' + byte(rest%10)
			rest /= 10
		}
		if k := checkDigit(n[:8], weightsO[:]); k != 10 {
			n[8] = '0' + byte(k)
			return n
		}
	}
}

// OrgNumber returns a synthetic organisation number drawn from r: it begins with
// 3, as test organisations do, and its check digit is right.
func OrgNumber(r *rand.Rand) string {
	n := orgNumberAt(r.IntN(maxOrganisations))
	return string(n[:])
}

// ValidOrgNumber tells whether s is nine digits with a right check digit,
// whichever register it comes from.
func ValidOrgNumber(s string) bool {
	if len(s) != 9 || !allDigits(s) {
		return false
	}
	var n [9]byte
	copy(n[:], s)
	return checkDigit(n[:8], weightsO[:]) == int(n[8]-'0')
}
