package audit

import (
	"encoding/csv"
	"strings"
	"testing"
)

func TestFormula(t *testing.T) {
	for cell, want := range map[string]bool{
		"":                         false,
		"a":                        false,
		"12":                       false,
		"-3":                       false, // days past
		"-":                        false,
		"2026-11-22":               false,
		"a=b":                      false,
		"sha256:00":                false,
		"=1+1":                     true,
		"=HYPERLINK(\"http://x\")": true,
		"+1":                       true,
		"-1+1":                     true,
		"-cmd|' /C calc'!A0":       true,
		"@SUM(A1)":                 true,
		"\t=1":                     true,
		"\r=1":                     true,
		"\n=1":                     true,
		"|calc":                    true,
		"%0":                       true,
		"  =1":                     true, // stripped on import
		"\"=1":                     true,
		"\u00a0=1":                 true,
		"\ufeff=1":                 true,
		"\ufeff \"\u00a0 =1":       true,
		"＝1":                       true, // wide
		"＋1":                       true,
		"－1":                       true,
		"＠x":                       true,
		"Ås kommune":               false,
		"'=1":                      false, // marked already
	} {
		if got := formula(cell); got != want {
			t.Errorf("%q: %t", cell, got)
		}
	}
}

// A table reads back as it was, but for the marks; and what is written to it is not
// changed.
func TestTable(t *testing.T) {
	var out strings.Builder
	table := NewTable(&out, []string{"a", "b"})
	row := []string{"=1", "x, \"y\"\nz"}
	table.Row(row)
	table.Row([]string{"-3", "å"})
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	if row[0] != "=1" {
		t.Error("the caller's row was changed")
	}
	all, err := csv.NewReader(strings.NewReader(out.String())).ReadAll()
	if err != nil || len(all) != 3 || all[1][0] != "'=1" || all[1][1] != row[1] || all[2][0] != "-3" || all[2][1] != "å" {
		t.Errorf("%q %v", all, err)
	}
	if got := Cell([]string{"a", "b"}); got != "a b" {
		t.Errorf("%q", got)
	}
}

// FuzzTable: whatever a cell holds, no cell that is read back is a formula.
func FuzzTable(f *testing.F) {
	for _, s := range []string{"=1", " \"+1", "-3", "＝", "a,b\n=c", "\r\n=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, cell string) {
		var out strings.Builder
		table := NewTable(&out, []string{"x"})
		table.Row([]string{"first", cell})
		if err := table.Flush(); err != nil {
			t.Fatal(err)
		}
		r := csv.NewReader(strings.NewReader(out.String()))
		r.FieldsPerRecord = -1
		all, err := r.ReadAll()
		if err != nil {
			t.Fatalf("%q: %v", cell, err)
		}
		for _, row := range all {
			for _, c := range row {
				if formula(c) {
					t.Errorf("%q comes back as %q", cell, c)
				}
			}
		}
	})
}
