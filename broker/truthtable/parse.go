package truthtable

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"datafordeler/broker"
)

// Table is a table as it was read.
type Table struct {
	Rows []Row
}

// Row is one situation with what must come out.
type Row struct {
	// Line is where it begins in what was parsed.
	Line int
	Name string
	At   time.Time
	// Set are the cells of the other columns that say something: canonical words.
	// What a row leaves empty is as the agreement has it.
	Set     map[Column]string
	Expect  Outcome
	Reasons []broker.Reason
	Note    string
}

// Attributes are those of the record that the row sets, by name.
func (r *Row) Attributes() map[string]string {
	var out map[string]string
	for c, v := range r.Set {
		if name, ok := strings.CutPrefix(string(c), attribute); ok {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = v
		}
	}
	return out
}

// Fault is one thing wrong: where, what, and what to do. Column counts bytes from 1.
type Fault struct {
	Line, Column int
	What, Remedy string
}

func (f Fault) String() string {
	s := fmt.Sprintf("line %d, column %d: %s", f.Line, f.Column, f.What)
	if f.Remedy != "" {
		s += ": " + f.Remedy
	}
	return s
}

// Faults are all that is wrong with a table, in the order of its lines.
type Faults []Fault

func (fs Faults) Error() string {
	var lines []string
	for _, f := range fs {
		lines = append(lines, f.String())
	}
	return strings.Join(lines, "\n")
}

// Limits of a table. It stands in one control event.
const (
	MaxRows = 2_000
	MaxText = 300 // bytes of a cell
)

var bom = []byte("\ufeff")

// Parse reads a table: CSV by RFC 4180 in UTF-8, with commas or, as Norwegian
// spreadsheets write it, semicolons. The error is Faults.
func Parse(b []byte) (*Table, error) {
	p := &parser{}
	p.parse(b)
	if len(p.faults) > 0 {
		return nil, p.faults
	}
	return &p.table, nil
}

type parser struct {
	table  Table
	faults Faults
	heads  []*column
	names  map[string]int // of rows, by line
}

func (p *parser) fault(line, col int, what, remedy string) {
	if len(p.faults) < 100 { // more would not be read
		p.faults = append(p.faults, Fault{line, col, what, remedy})
	}
}

func (p *parser) parse(b []byte) {
	b = bytes.TrimPrefix(b, bom)
	if !utf8.Valid(b) {
		p.fault(1, 1, "the file is not UTF-8", "save it as CSV UTF-8")
		return
	}
	r := csv.NewReader(bytes.NewReader(b))
	first, _, _ := bytes.Cut(b, []byte("\n"))
	if bytes.Count(first, []byte(";")) > bytes.Count(first, []byte(",")) {
		r.Comma = ';'
	}
	r.FieldsPerRecord = -1
	p.names = map[string]int{}
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		var bad *csv.ParseError
		if errors.As(err, &bad) {
			p.fault(bad.Line, bad.Column, "not CSV: "+bad.Err.Error(), "")
			return
		}
		if err != nil { // reading from memory does not fail
			p.fault(1, 1, err.Error(), "")
			return
		}
		if !slices.ContainsFunc(cells, func(c string) bool { return strings.TrimSpace(c) != "" }) {
			continue // what a spreadsheet leaves at its end
		}
		at := func(i int) (line, col int) {
			return r.FieldPos(min(i, len(cells)-1))
		}
		if p.heads == nil {
			if !p.header(cells, at) {
				return
			}
			continue
		}
		if len(p.table.Rows) == MaxRows {
			line, col := at(0)
			p.fault(line, col, fmt.Sprintf("the table has more than %d rows", MaxRows), "divide it")
			return
		}
		p.row(cells, at)
	}
	if p.heads == nil {
		p.fault(1, 1, "the table is empty", "begin it with a header: situation,at,…,expect,reason")
	} else if len(p.table.Rows) == 0 && len(p.faults) == 0 {
		p.fault(1, 1, "the table has no rows", "a table that says nothing holds nothing")
	}
}

func (p *parser) header(cells []string, at func(int) (int, int)) bool {
	seen := map[Column]bool{}
	p.heads = make([]*column, len(cells))
	for i, cell := range cells {
		line, col := at(i)
		if strings.TrimSpace(cell) == "" {
			continue // a column for the lawyer's own; it must stay empty
		}
		c, ok := find(cell)
		switch {
		case !ok:
			p.fault(line, col, fmt.Sprintf("no column is called %q", short(cell)), "there are "+codes())
		case seen[c.code]:
			p.fault(line, col, fmt.Sprintf("column %s stands twice", c.code), "keep one")
		case strings.HasPrefix(string(c.code), attribute) && broker.CheckName(string(c.code[len(attribute):])) != nil && !plainName(string(c.code[len(attribute):])):
			p.fault(line, col, "the attribute's name is none", "write attribute:<name>, as the dataset has it")
		default:
			seen[c.code] = true
			p.heads[i] = c
		}
	}
	for _, must := range []Column{Situation, At, Expect} {
		if !seen[must] {
			line, col := at(0)
			p.fault(line, col, fmt.Sprintf("there is no column %s", must), "every row needs its name, its time and what is expected")
		}
	}
	return len(p.faults) == 0
}

// plainName is how datasets may name attributes: letters, digits, - and _.
func plainName(s string) bool {
	return s != "" && len(s) <= 80 && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_'
	}) && !elevenDigits(s)
}

func (p *parser) row(cells []string, at func(int) (int, int)) {
	line, col := at(0)
	row := Row{Line: line, Set: map[Column]string{}}
	before := len(p.faults)
	for i, cell := range cells {
		cell = strings.TrimSpace(cell)
		if cell == "" {
			continue
		}
		l, c := at(i)
		if i >= len(p.heads) || p.heads[i] == nil {
			p.fault(l, c, "the cell stands in no column", "give its column a header, or empty it")
			continue
		}
		if what, remedy := p.heads[i].cell(cell, &row); what != "" {
			p.fault(l, c, fmt.Sprintf("%s: %s", p.heads[i].code, what), remedy)
		}
	}
	switch first := p.names[row.Name]; {
	case len(p.faults) > before: // one at a time
	case row.Name == "":
		p.fault(line, col, "the row has no situation", "give it a name: reports say it by that")
	case first > 0:
		p.fault(line, col, fmt.Sprintf("the row on line %d is called the same", first), "give each a name of its own")
	case row.At.IsZero():
		p.fault(line, col, "the row has no time (at)", "say when: what holds today is not what holds next year")
	case row.Expect == "":
		p.fault(line, col, "the row expects nothing", "say expect: permit, shielded, notify, deny or outside")
	case len(row.Reasons) > 0 && row.Expect != Deny:
		p.fault(line, col, "only a denial has reasons", "leave reason empty, or expect deny")
	}
	if row.Name != "" {
		p.names[row.Name] = line
	}
	p.table.Rows = append(p.table.Rows, row)
}

var reasonCode = regexp.MustCompile(`^[a-z][a-z0-9_]{0,79}$`)

// cell reads one cell into the row, or says what is wrong with it.
func (c *column) cell(v string, row *Row) (what, remedy string) {
	switch {
	case len(v) > MaxText:
		return fmt.Sprintf("%d bytes; at most %d", len(v), MaxText), "shorten it"
	case strings.ContainsFunc(v, unicode.IsControl):
		return "a line break or another control character", "write it on one line"
	case elevenDigits(v):
		return "eleven digits in a row, which may be a person's number", "a table is about situations, never about anybody"
	}
	if c.words != nil {
		code, ok := c.read(v)
		if !ok {
			return fmt.Sprintf("%q is no answer", short(v)), c.wanted()
		}
		if c.code == Expect {
			row.Expect = Outcome(code)
		} else {
			row.Set[c.code] = code
		}
		return "", ""
	}
	switch c.code {
	case Situation:
		row.Name = v
	case Note:
		row.Note = v
	case At:
		t, err := parseTime(v)
		if err != nil {
			return fmt.Sprintf("%q is no time", short(v)), "want 2026-01-31, 2026-01-31 23:59, or 2026-01-31T23:59:00+01:00"
		}
		row.At = t
	case Reason:
		for code := range strings.FieldsFuncSeq(v, func(r rune) bool { return r == ' ' || r == ',' || r == ';' }) {
			if !reasonCode.MatchString(code) {
				return fmt.Sprintf("%q is no reason", short(code)), "want codes as policy show lists them, with a space between"
			}
			if !slices.Contains(row.Reasons, broker.Reason(code)) {
				row.Reasons = append(row.Reasons, broker.Reason(code))
			}
		}
		slices.Sort(row.Reasons)
	case Purpose:
		if err := broker.CheckName(v); err != nil {
			return err.Error(), "want the code of a purpose"
		}
		row.Set[c.code] = v
	case Supplier, Payer:
		if n, ok := noneColumn.read(v); ok {
			row.Set[c.code] = n
		} else if n, err := broker.ParseOrgNumber(strings.ReplaceAll(v, " ", "")); err != nil {
			return err.Error(), "want an organisation number, or none"
		} else {
			row.Set[c.code] = string(n)
		}
	case Recipient:
		if n, err := broker.ParseOrgNumber(strings.ReplaceAll(v, " ", "")); err == nil {
			row.Set[c.code] = string(n)
		} else if err := broker.CheckName(v); err != nil || '0' <= v[0] && v[0] <= '9' {
			return fmt.Sprintf("%q is no recipient", short(v)), "want an organisation number or a type of organisation, such as kommune"
		} else {
			row.Set[c.code] = v
		}
	default: // about, and attributes: as records have it
		row.Set[c.code] = v
	}
	return "", ""
}

var noneColumn = column{words: []word{noneWord}}

var oslo = sync.OnceValues(func() (*time.Location, error) { return time.LoadLocation("Europe/Oslo") })

// parseTime reads what ParseTime does, and a time of day in Oslo.
func parseTime(v string) (t time.Time, err error) {
	if len(v) == len("2006-01-02 15:04") {
		var where *time.Location
		if where, err = oslo(); err == nil {
			t, err = time.ParseInLocation("2006-01-02 15:04", v, where)
			t = t.UTC()
		}
	} else {
		t, err = broker.ParseTime(v)
	}
	if err == nil && (t.Year() < 1900 || t.Year() > 2200) {
		err = errors.New("out of reach")
	}
	return t, err
}

// Canonical writes the table as it is kept: commas, English codes, times in UTC,
// columns in their order and none that is empty throughout. What it writes parses
// to the same table.
func (t *Table) Canonical() []byte {
	used := map[Column]bool{Situation: true, At: true, Expect: true}
	for i := range t.Rows {
		r := &t.Rows[i]
		for c := range r.Set {
			used[c] = true
		}
		used[Reason] = used[Reason] || len(r.Reasons) > 0
		used[Note] = used[Note] || r.Note != ""
	}
	var heads []Column
	var last []Column // expect, reason and note stand after attributes
	for _, c := range columns {
		switch {
		case !used[c.code]:
		case c.code == Expect, c.code == Reason, c.code == Note:
			last = append(last, c.code)
		default:
			heads = append(heads, c.code)
		}
		delete(used, c.code)
	}
	heads = append(append(heads, slices.Sorted(maps.Keys(used))...), last...)
	var b bytes.Buffer
	out := csv.NewWriter(&b)
	line := make([]string, len(heads))
	for i, c := range heads {
		line[i] = string(c)
	}
	_ = out.Write(line) // into memory
	for i := range t.Rows {
		for j, c := range heads {
			line[j] = t.Rows[i].Cell(c)
		}
		_ = out.Write(line)
	}
	out.Flush()
	return b.Bytes()
}

// Cell is what the row says in a column, in its canonical form; "" for nothing.
func (r *Row) Cell(c Column) string {
	switch c {
	case Situation:
		return r.Name
	case At:
		return r.At.UTC().Format(time.RFC3339Nano)
	case Expect:
		return string(r.Expect)
	case Reason:
		codes := make([]string, len(r.Reasons))
		for i, code := range r.Reasons {
			codes[i] = string(code)
		}
		return strings.Join(codes, " ")
	case Note:
		return r.Note
	}
	return r.Set[c]
}

func codes() string {
	var out []string
	for _, c := range columns {
		out = append(out, string(c.code))
	}
	return strings.Join(out, ", ") + ", attribute:<name>"
}

// short is what of a cell is said in a fault: never what may be somebody's number.
func short(s string) string {
	if elevenDigits(s) {
		return "…"
	}
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

// elevenDigits is how a person is numbered, with or without the spaces that
// people write in it.
func elevenDigits(s string) bool {
	run := 0
	for _, r := range s {
		switch {
		case r >= '0' && r <= '9':
			if run++; run == 11 {
				return true
			}
		case r == ' ' || r == '\u00a0':
		default:
			run = 0
		}
	}
	return false
}
