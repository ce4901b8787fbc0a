package truthtable

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
)

const norwegian = "\ufeffSituasjon;Tidspunkt;Sak;Samtykke;Skjermet;Attributt:kommune;Forventet;Grunn;Merknad\r\n" +
	"Åpen sak;2026-10-15 23:59;åpen;;nei;0301;tillatt;;sosialtjenesteloven § 43\r\n" +
	"Lukket sak;2026-10-15;lukket;;;;nektet;no_open_case;\r\n" +
	";;;;;;;;\r\n" +
	"Trukket samtykke;2026-10-15T12:00:00+02:00;;trukket;ja;;avslag;consent_withdrawn, no_open_case;\"to grunner; og semikolon\"\r\n"

func TestParseNorwegian(t *testing.T) {
	got, err := Parse([]byte(norwegian))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Rows) != 3 {
		t.Fatalf("%d rows", len(got.Rows))
	}
	first := got.Rows[0]
	want := Row{Line: 2, Name: "Åpen sak", At: time.Date(2026, 10, 15, 21, 59, 0, 0, time.UTC), Expect: Permit, Note: "sosialtjenesteloven § 43",
		Set: map[Column]string{Case: Open, Protected: No, "attribute:kommune": "0301"}}
	if !reflect.DeepEqual(first, want) {
		t.Errorf("got %+v\nwant %+v", first, want)
	}
	if a := first.Attributes(); a["kommune"] != "0301" || len(a) != 1 {
		t.Errorf("attributes %v", a)
	}
	if r := got.Rows[2].Reasons; !reflect.DeepEqual(r, []broker.Reason{"consent_withdrawn", "no_open_case"}) {
		t.Errorf("reasons %v", r)
	}
	const canonical = `situation,at,case,consent,protected,attribute:kommune,expect,reason,note
Åpen sak,2026-10-15T21:59:00Z,open,,no,0301,permit,,sosialtjenesteloven § 43
Lukket sak,2026-10-14T22:00:00Z,closed,,,,deny,no_open_case,
Trukket samtykke,2026-10-15T10:00:00Z,,withdrawn,yes,,deny,consent_withdrawn no_open_case,to grunner; og semikolon
`
	if s := string(got.Canonical()); s != canonical {
		t.Errorf("canonical form:\n%s\nwant\n%s", s, canonical)
	}
}

func TestFaultsSayWhere(t *testing.T) {
	const head = "situation,at,case,expect,reason\n"
	for name, x := range map[string]struct{ csv, want string }{
		"empty":            {"", "line 1, column 1: the table is empty"},
		"no rows":          {head, "line 1, column 1: the table has no rows"},
		"no such column":   {"situation,at,expect,weather\na,2026-01-01,permit,rain\n", "line 1, column 21: no column is called \"weather\""},
		"twice":            {"situation,at,expect,sak,case\n", "line 1, column 25: column case stands twice"},
		"no expect":        {"situation,at\n", "line 1, column 1: there is no column expect"},
		"no answer":        {head + "a,2026-01-01,maybe,deny,\n", "line 2, column 14: case: \"maybe\" is no answer: want open, closed, none"},
		"no time":          {head + "a,2026-13-01,,deny,\n", "line 2, column 3: at: \"2026-13-01\" is no time"},
		"lacks time":       {head + "a,,,deny,\n", "line 2, column 1: the row has no time"},
		"lacks name":       {head + ",2026-01-01,,deny,\n", "line 2, column 1: the row has no situation"},
		"lacks outcome":    {head + "a,2026-01-01,,,\n", "line 2, column 1: the row expects nothing"},
		"reason of permit": {head + "a,2026-01-01,,permit,no_open_case\n", "only a denial has reasons"},
		"same name":        {head + "a,2026-01-01,,permit,\na,2026-01-01,,permit,\n", "line 3, column 1: the row on line 2 is called the same"},
		"bad code":         {head + "a,2026-01-01,,deny,No-Case\n", "line 2, column 20: reason: \"No-Case\" is no reason"},
		"bare quote":       {head + "a\"b,2026-01-01,,deny,\n", "line 2, column 2: not CSV"},
		"too wide":         {head + "a,2026-01-01,,deny,,x\n", "line 2, column 21: the cell stands in no column"},
		"line break":       {head + "\"a\nb\",2026-01-01,,deny,\n", "line 2, column 1: situation: a line break"},
		"latin-1":          {"situasjon,tidspunkt,form\xe5l\n", "line 1, column 1: the file is not UTF-8"},
		"a person":         {head + "x 01 82 26 12 345,2026-01-01,,deny,\n", "eleven digits in a row"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(x.csv))
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("got %v, want %s", err, x.want)
			}
		})
	}
}

// Every spelling of a column and of a word means one thing.
func TestSpellingsAreDistinct(t *testing.T) {
	heads := map[string]Column{}
	add := func(seen map[string]Column, spelling string, c Column, of string) {
		if other, ok := seen[spelling]; ok && other != c {
			t.Errorf("%s %q means %s and %s", of, spelling, other, c)
		}
		seen[spelling] = c
	}
	for _, c := range columns {
		for _, s := range append([]string{string(c.code)}, c.aliases...) {
			add(heads, s, c.code, "header")
		}
		words := map[string]Column{}
		for _, w := range c.words {
			for _, s := range append([]string{w.code}, w.aliases...) {
				if s != strings.ToLower(s) {
					t.Errorf("%q is never read: cells are compared in lower case", s)
				}
				add(words, s, Column(w.code), string(c.code))
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(norwegian))
	f.Add([]byte("situation,at,expect\na,2026-01-01,permit\n"))
	f.Add([]byte("situation;at;expect;attribute:x;supplier\n\"a;\"\"b\",2026-01-01,nektet,1,ingen\n"))
	f.Add([]byte("situation,at,expect\n\"a\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := Parse(b)
		if err != nil {
			faults, ok := err.(Faults)
			if !ok || len(faults) == 0 {
				t.Fatalf("%T %v", err, err)
			}
			for _, x := range faults {
				if x.Line < 1 || x.Column < 1 {
					t.Errorf("%s stands nowhere", x)
				}
			}
			return
		}
		canonical := table.Canonical()
		again, err := Parse(canonical)
		if err != nil {
			t.Fatalf("the canonical form is refused: %v\n%s", err, canonical)
		}
		if !bytes.Equal(again.Canonical(), canonical) {
			t.Errorf("the canonical form is not stable:\n%s\n%s", canonical, again.Canonical())
		}
		if len(again.Rows) != len(table.Rows) {
			t.Fatalf("%d rows become %d", len(table.Rows), len(again.Rows))
		}
		for i := range again.Rows {
			x, y := again.Rows[i], table.Rows[i]
			x.Line, y.Line = 0, 0
			if !reflect.DeepEqual(x, y) {
				t.Errorf("row %d: %+v became %+v", i, y, x)
			}
		}
	})
}
