package synthetic

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// municipalitiesTSV has a line for each municipality as of 2024: number, name
// in Norwegian, organisation number, inhabitants. The organisation numbers were
// collected in 2020. Haram (1580) left Ålesund in 2024 under a number of its own
// that the list does not know; it is blank rather than guessed.
//
//go:embed municipalities.tsv
var municipalitiesTSV string

// Municipality is one of Norway's municipalities.
type Municipality struct {
	Number      string // four digits; the first two are the county
	Name        string // in Norwegian, also where a Sámi or Kven name is official beside it
	OrgNumber   string // nine digits; empty for Haram, whose number the source lacks
	Inhabitants int
}

// Municipalities returns all 357, by number. The caller owns the slice.
func Municipalities() []Municipality { return slices.Clone(country.all) }

// country holds the municipalities and an alias table (Walker 1977, in Vose's
// integer form) that draws one by inhabitants in constant time: column c is kept
// when a number below people falls under cut[c], else alias[c] is taken.
var country = loadCountry(municipalitiesTSV)

type countryTable struct {
	all    []Municipality
	upper  []string // the name as postal town, in capitals
	people int
	cut    []int
	alias  []int
}

func loadCountry(tsv string) *countryTable {
	t := &countryTable{}
	line := 0
	for text := range strings.Lines(tsv) {
		line++
		text = strings.TrimRight(text, "\n")
		if text == "" || text[0] == '#' {
			continue
		}
		f := strings.Split(text, "\t")
		if len(f) != 4 {
			panic(fmt.Sprintf("synthetic: municipalities.tsv:%d has %d columns; it needs number, name, organisation number, inhabitants", line, len(f)))
		}
		n, err := strconv.Atoi(f[3])
		if err != nil || n < 0 {
			panic(fmt.Sprintf("synthetic: municipalities.tsv:%d: inhabitants %q is not a whole number", line, f[3]))
		}
		t.all = append(t.all, Municipality{f[0], f[1], f[2], n})
		t.upper = append(t.upper, strings.ToUpper(f[1]))
		t.people += n
	}
	t.build()
	return t
}

// build fills the alias table. Weights are scaled by the number of columns, so
// that the average column is exactly people high and no fraction is needed.
func (t *countryTable) build() {
	n := len(t.all)
	t.cut, t.alias = make([]int, n), make([]int, n)
	height := make([]int, n)
	var low, high []int
	for c, m := range t.all {
		height[c] = m.Inhabitants * n
		if height[c] < t.people {
			low = append(low, c)
		} else {
			high = append(high, c)
		}
	}
	for len(low) > 0 && len(high) > 0 {
		l, h := low[len(low)-1], high[len(high)-1]
		low = low[:len(low)-1]
		t.cut[l], t.alias[l] = height[l], h
		height[h] -= t.people - height[l]
		if height[h] < t.people {
			high = high[:len(high)-1]
			low = append(low, h)
		}
	}
	for _, c := range append(low, high...) {
		t.cut[c], t.alias[c] = t.people, c
	}
}

func (t *countryTable) draw(r *rng) int {
	c := r.below(len(t.all))
	if r.below(t.people) < t.cut[c] {
		return c
	}
	return t.alias[c]
}
