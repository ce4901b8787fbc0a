package synthetic

import (
	"math/rand/v2"
	"regexp"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestValidNationalID(t *testing.T) {
	for _, c := range []struct {
		id               string
		valid, synthetic bool
		why              string
	}{
		{"01829413112", true, true, "month 82"},
		{"09848000830", true, true, "month 84"},
		{"01829413113", false, false, "last check digit"},
		{"01829413122", false, false, "first check digit"},
		{"0182941311", false, false, "ten digits"},
		{"018294131122", false, false, "twelve digits"},
		{"0182941311x", false, false, "a letter"},
		{"", false, false, "nothing"},
		{"00829413112", false, false, "day 0"},
		{"01809413112", false, false, "month 80"},
		{"01939413112", false, false, "month 93"},
	} {
		if got := ValidNationalID(c.id); got != c.valid {
			t.Errorf("%s (%s): valid is %v", c.id, c.why, got)
		}
		if got := IsSynthetic(c.id); got != c.synthetic {
			t.Errorf("%s (%s): synthetic is %v", c.id, c.why, got)
		}
	}
}

// From 2032 the first check digit may leave 1, 2 or 3 too.
func TestCheckDigitsFrom2032(t *testing.T) {
	base := []byte("01829413112")
	accepted := 0
	for k1 := byte('0'); k1 <= '9'; k1++ {
		id := append([]byte(nil), base...)
		id[9] = k1
		k2 := checkDigit(id[:10], weights2[:])
		if k2 == 10 {
			continue
		}
		id[10] = '0' + byte(k2)
		rest := (weigh(id[:9], weights1[:]) + int(k1-'0')) % 11
		if got := ValidNationalID(string(id)); got != (rest <= 3) {
			t.Errorf("%s leaves %d, valid is %v", id, rest, got)
		} else if got {
			accepted++
		}
	}
	if accepted < 3 {
		t.Errorf("only %d variants were accepted; the new remainders were not tried", accepted)
	}
}

func TestBirthdays(t *testing.T) {
	if _, last := identityAt(MaxPeople-1, false); last != time.Date(2010, 12, 31, 0, 0, 0, 0, time.UTC) {
		t.Errorf("the last is born on %v", last)
	}
}

func TestNationalID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")))
		id := NationalID(r)
		if !ValidNationalID(id) || !IsSynthetic(id) {
			t.Fatalf("%s is not a valid synthetic number", id)
		}
		if month := two(id[2:]); month < 81 || month > 92 {
			t.Fatalf("%s has month %d: it could be a person's", id, month)
		}
		// Two check digits find any single wrong digit, except that the first check
		// digit's wider rule lets some through that the second must then catch.
		at := rapid.IntRange(0, 10).Draw(t, "at")
		wrong := []byte(id)
		wrong[at] = '0' + (wrong[at]-'0'+byte(rapid.IntRange(1, 9).Draw(t, "by")))%10
		if ValidNationalID(string(wrong)) {
			t.Fatalf("%s is valid, as is %s", wrong, id)
		}
	})
}

func TestOrgNumber(t *testing.T) {
	for _, s := range []string{"313876144", "310149942", "958935420"} {
		if !ValidOrgNumber(s) {
			t.Errorf("%s is a valid organisation number", s)
		}
	}
	for _, s := range []string{"", "31387614", "313876145", "3138761444", "31387614x"} {
		if ValidOrgNumber(s) {
			t.Errorf("%q is no organisation number", s)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "a"), 0))
		if n := OrgNumber(r); !ValidOrgNumber(n) || n[0] != '3' {
			t.Fatalf("%s is not a valid synthetic organisation number", n)
		}
	})
	first, last := orgNumberAt(0), orgNumberAt(maxOrganisations-1)
	if first[0] != '3' || last[0] != '3' {
		t.Errorf("%s to %s leave the numbers that begin with 3", first, last)
	}
}

func TestMunicipalities(t *testing.T) {
	all := Municipalities()
	if len(all) != 357 {
		t.Fatalf("%d municipalities, want 357", len(all))
	}
	people := 0
	for i, m := range all {
		if !regexp.MustCompile(`^[0-9]{4}$`).MatchString(m.Number) || i > 0 && all[i-1].Number >= m.Number {
			t.Errorf("%q after %q: want four digits, rising", m.Number, all[max(i-1, 0)].Number)
		}
		if m.Name == "" || m.Inhabitants <= 0 {
			t.Errorf("%+v lacks a name or inhabitants", m)
		}
		if !ValidOrgNumber(m.OrgNumber) && m.Number != "1580" {
			t.Errorf("%s %s: organisation number %q", m.Number, m.Name, m.OrgNumber)
		}
		people += m.Inhabitants
	}
	if people < 5_400_000 || people > 5_800_000 {
		t.Errorf("%d inhabitants in all", people)
	}
	all[0].Name = "changed"
	if Municipalities()[0].Name == "changed" {
		t.Error("callers share one slice")
	}
}

// The alias table gives each municipality exactly its share.
func TestAliasTable(t *testing.T) {
	share := make([]int, len(country.all))
	for c := range country.all {
		share[c] += country.cut[c]
		share[country.alias[c]] += country.people - country.cut[c]
	}
	for c, m := range country.all {
		if want := m.Inhabitants * len(country.all); share[c] != want {
			t.Errorf("%s: share %d, want %d", m.Name, share[c], want)
		}
	}
}

var exactlyEleven = regexp.MustCompile(`^[0-9]{11}$`)

func FuzzValidNationalID(f *testing.F) {
	for _, s := range []string{"01829413112", "00000000000", "41829413112", "", "0182941311\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if IsSynthetic(s) && !ValidNationalID(s) {
			t.Fatalf("%q is synthetic yet not valid", s)
		}
		if ValidNationalID(s) && !exactlyEleven.MatchString(s) {
			t.Fatalf("%q is valid yet not eleven digits", s)
		}
	})
}
