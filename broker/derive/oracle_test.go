package derive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// The oracle works the same answers out in the plainest way: encoding/json's values,
// math/big's fractions, and time's calendar.

var errNaive = errors.New("no answer")

// naiveRows are a pointer's rows; nil stands for null.
func naiveRows(v any, path []string, element bool) (rows []any, err error) {
	switch v := v.(type) {
	case nil:
		if element {
			return nil, errNaive
		}
		return nil, nil
	case []any:
		for _, e := range v {
			more, err := naiveRows(e, path, true)
			if err != nil {
				return nil, err
			}
			rows = append(rows, more...)
		}
		return rows, nil
	case map[string]any:
		if len(path) > 0 {
			return naiveRows(v[path[0]], path[1:], false)
		}
	default:
		if len(path) > 0 {
			return nil, errNaive
		}
	}
	return []any{v}, nil
}

func naiveField(v any, path []string) (any, error) {
	for _, name := range path {
		switch m := v.(type) {
		case map[string]any:
			v = m[name]
		case nil:
			return nil, nil
		default:
			return nil, errNaive
		}
	}
	return v, nil
}

var plainDecimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`)

// naiveNumber reads a number, and holds it to the language's size by its exact value.
func naiveNumber(v any) (*big.Rat, error) {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = string(v)
	case string:
		if !plainDecimal.MatchString(v) {
			return nil, errNaive
		}
		text = v
	default:
		return nil, errNaive
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil, errNaive
	}
	limit := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(18), nil))
	fine := new(big.Rat).Mul(r, new(big.Rat).SetInt64(1_000_000_000))
	if new(big.Rat).Abs(r).Cmp(limit) >= 0 || !fine.IsInt() {
		return nil, errNaive
	}
	return r, nil
}

func naiveDate(v any) (string, error) {
	s, ok := v.(string)
	layout := map[int]string{4: "2006", 7: "2006-01", 10: "2006-01-02"}[len(s)]
	if !ok || layout == "" {
		return "", errNaive
	}
	if _, err := time.Parse(layout, s); err != nil || strings.HasPrefix(s, "0000") {
		return "", errNaive
	}
	return s, nil
}

func naiveHolds(c *broker.RowCondition, row any) (bool, error) {
	tokens, _ := c.Field.Tokens()
	v, err := naiveField(row, tokens)
	if err != nil {
		return false, err
	}
	if v == nil {
		switch c.Absent {
		case broker.AbsentHolds:
			return true, nil
		case broker.AbsentSkips:
			return false, nil
		}
		return false, errNaive
	}
	switch {
	case c.AtLeast != "" || c.Below != "":
		n, err := naiveNumber(v)
		if err != nil {
			return false, err
		}
		rat := func(s string) *big.Rat { r, _ := new(big.Rat).SetString(s); return r }
		return (c.AtLeast == "" || n.Cmp(rat(c.AtLeast)) >= 0) && (c.Below == "" || n.Cmp(rat(c.Below)) < 0), nil
	case c.From != "" || c.Before != "":
		d, err := naiveDate(v)
		if err != nil || len(d) < max(len(c.From), len(c.Before)) {
			return false, errNaive
		}
		return d[:len(c.From)] >= c.From && (c.Before == "" || d[:len(c.Before)] < c.Before), nil
	}
	var text string
	switch v := v.(type) {
	case string:
		text = v
	case bool:
		text = fmt.Sprint(v)
	default:
		return false, errNaive
	}
	if len(c.In) > 0 {
		return slices.Contains(c.In, text), nil
	}
	return !slices.Contains(c.NotIn, text), nil
}

// plainText is a fraction's digits; all fractions here are whole billionths.
func plainText(r *big.Rat) string {
	s := r.FloatString(9)
	s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	if s == "-0" {
		return "0"
	}
	return s
}

// naive is the answer as a value of encoding/json: a text, a truth value, or a count
// as a json.Number.
func naive(d *broker.Derivation, doc any) (any, error) {
	path := func(p broker.Pointer) []string { t, _ := p.Tokens(); return t }
	rows, err := naiveRows(doc, path(d.Rows), false)
	if err != nil {
		return nil, err
	}
	if len(rows) > MaxRows {
		return nil, errNaive
	}
	type valued struct {
		v  any
		by string
	}
	var left []valued
	count := 0
rows:
	for _, row := range rows {
		for i := range d.Where {
			holds, err := naiveHolds(&d.Where[i], row)
			if err != nil {
				return nil, err
			}
			if !holds {
				continue rows
			}
		}
		count++
		if d.Op == broker.Count {
			continue
		}
		v, err := naiveField(row, path(d.Value))
		if err != nil {
			return nil, err
		}
		var by any = "-"
		if d.Op == broker.Latest {
			if by, err = naiveField(row, path(d.By)); err != nil {
				return nil, err
			}
		}
		if v == nil || by == nil {
			if d.Absent == broker.AbsentSkips {
				continue
			}
			return nil, errNaive
		}
		switch v.(type) {
		case map[string]any, []any:
			return nil, errNaive
		}
		one := valued{v: v}
		if d.Op == broker.Latest {
			if one.by, err = naiveDate(by); err != nil {
				return nil, err
			}
		}
		left = append(left, one)
	}
	var n *big.Rat
	switch d.Op {
	case broker.Count:
		n = new(big.Rat).SetInt64(int64(count))
	case broker.Distinct:
		seen := map[string]bool{}
		for _, l := range left {
			key := fmt.Sprintf("%T %v", l.v, l.v)
			if number, ok := l.v.(json.Number); ok {
				r, err := naiveNumber(number)
				if err != nil {
					return nil, err
				}
				key = "number " + r.String()
			}
			seen[key] = true
		}
		n = new(big.Rat).SetInt64(int64(len(seen)))
	case broker.Latest:
		if len(left) == 0 {
			return nil, errNaive
		}
		told := func(v any) (any, error) {
			if number, ok := v.(json.Number); ok {
				r, err := naiveNumber(number)
				if err != nil {
					return nil, err
				}
				return plainText(r), nil
			}
			return v, nil
		}
		best := ""
		for _, l := range left {
			if len(l.by) != len(left[0].by) {
				return nil, errNaive
			}
			best = max(best, l.by)
		}
		var answer, last any
		for _, l := range left {
			this, err := told(l.v)
			if err != nil {
				return nil, err
			}
			if l.by == best && answer != nil && this != answer {
				return nil, errNaive
			}
			if l.by == best && answer == nil {
				answer, last = this, l.v
			}
		}
		if d.Below+d.AtMost+d.AtLeast+d.Above == "" && len(d.Bands) == 0 {
			return answer, nil
		}
		if n, err = naiveNumber(last); err != nil {
			return nil, err
		}
	default:
		for _, l := range left {
			r, err := naiveNumber(l.v)
			if err != nil {
				return nil, err
			}
			switch {
			case n == nil:
				n = new(big.Rat).Set(r)
			case d.Op == broker.Sum:
				n.Add(n, r)
			case d.Op == broker.Min && r.Cmp(n) < 0, d.Op == broker.Max && r.Cmp(n) > 0:
				n = r
			}
		}
		if n == nil {
			if d.Empty == "" {
				return nil, errNaive
			}
			n, _ = new(big.Rat).SetString(d.Empty)
		}
	}
	than := func(s string) int { r, _ := new(big.Rat).SetString(s); return n.Cmp(r) }
	switch {
	case len(d.Bands) > 0:
		for _, b := range d.Bands {
			if b.Below == "" || than(b.Below) < 0 {
				return b.Name, nil
			}
		}
	case d.Below != "":
		return than(d.Below) < 0, nil
	case d.AtMost != "":
		return than(d.AtMost) <= 0, nil
	case d.AtLeast != "":
		return than(d.AtLeast) >= 0, nil
	case d.Above != "":
		return than(d.Above) > 0, nil
	case d.Op == broker.Count || d.Op == broker.Distinct:
		return json.Number(plainText(n)), nil
	}
	return plainText(n), nil
}

// scalars are what may stand anywhere, of every kind and at every edge.
var scalars = []string{
	`0`, `-0`, `1`, `2.5`, `-2.50`, `1e2`, `25e-1`, `0.000000001`, `1e-10`, `1.0000000000`, `999999999999999999`, `999999999999999999.999999999`, `1000000000000000000`,
	`-999999999999999999.999999999`, `0e999999999`, `1e999999999999999999999`, `1E+2`, `100e-2`, `0.1`, `0.2`, `0.3`,
	`"1"`, `"2.5"`, `"-0.5"`, `"01"`, `"1."`, `".5"`, `"1e2"`, `"+1"`, `""`, `"NaN"`, `"Infinity"`, `"\u0031"`, `"0.1"`,
	`"k"`, `"\u006b"`, `"n"`, `"true"`, `true`, `false`, `null`, `{}`, `[]`,
	`"2026"`, `"2026-01"`, `"2026-02"`, `"2026-01-31"`, `"2026-02-30"`, `"2024-02-29"`, `"2026-13"`, `"0000-01"`, `"2026-01-31T10:00:00Z"`,
}

var likely = []string{`1`, `2.5`, `"2.5"`, `100`, `0.1`, `-3`, `7e1`}

func genRow(t *rapid.T) string {
	var members []string
	for _, name := range []string{"b", "f", "d"} {
		pool := scalars
		if rapid.IntRange(0, 7).Draw(t, "tame") > 0 {
			pool = map[string][]string{"b": likely, "f": {`"k"`, `"n"`, `true`, `"\u006b"`}, "d": {`"2026-01"`, `"2026-02"`, `"2026-01-31"`}}[name]
		}
		if rapid.IntRange(0, 9).Draw(t, "there") > 0 {
			members = append(members, fmt.Sprintf(`%q:%s`, name, rapid.SampledFrom(pool).Draw(t, name)))
		}
	}
	if rapid.IntRange(0, 15).Draw(t, "nested") == 0 {
		members = append(members, `"o":{"b":3}`)
	}
	return "{" + strings.Join(members, ",") + "}"
}

func genRecord(t *rapid.T) string {
	var rows []string
	for range rapid.IntRange(0, 5).Draw(t, "rows") {
		row := genRow(t)
		switch rapid.IntRange(0, 19).Draw(t, "shape") {
		case 0:
			row = rapid.SampledFrom(scalars).Draw(t, "scalar")
		case 1:
			row = "[" + row + "]"
		}
		rows = append(rows, row)
	}
	list := "[" + strings.Join(rows, ",") + "]"
	switch rapid.IntRange(0, 19).Draw(t, "outer") {
	case 0:
		return `{"a":` + rapid.SampledFrom(scalars).Draw(t, "a") + `}`
	case 1:
		return `{"a":[{"i":` + list + `},{"i":[` + genRow(t) + `]},{}]}`
	case 2:
		return `{"a":{"i":` + genRow(t) + `}}`
	case 3:
		return rapid.SampledFrom([]string{`{}`, `[]`, `1`, `null`, `{"a":null}`}).Draw(t, "root")
	}
	return `{"a":{"i":` + list + `}}`
}

func genCondition(t *rapid.T) broker.RowCondition {
	c := broker.RowCondition{Absent: rapid.SampledFrom([]broker.WhenAbsent{"", broker.AbsentSkips, broker.AbsentSkips, broker.AbsentHolds}).Draw(t, "absent")}
	switch rapid.IntRange(0, 4).Draw(t, "condition") {
	case 0:
		c.Field, c.In = "/f", []string{"k", "true"}
	case 1:
		c.Field, c.NotIn = "/f", []string{"n"}
	case 2:
		c.Field, c.AtLeast = "/b", "0.1"
	case 3:
		c.Field, c.AtLeast, c.Below = "/b", "-5", "99.9"
	default:
		c.Field, c.From, c.Before = "/d", "2026-01", rapid.SampledFrom([]string{"", "2026-02"}).Draw(t, "before")
	}
	return c
}

func genDerivation(t *rapid.T) broker.Derivation {
	d := broker.Derivation{V: 1, Target: "/svar", Title: "Svar",
		Rows: rapid.SampledFrom([]broker.Pointer{"/a/i", "/a/i", "/a/i", "/a", ""}).Draw(t, "rows"),
		Op:   rapid.SampledFrom([]broker.DerivationOp{broker.Sum, broker.Count, broker.Min, broker.Max, broker.Distinct, broker.Latest}).Draw(t, "op")}
	for range rapid.IntRange(0, 2).Draw(t, "where") {
		d.Where = append(d.Where, genCondition(t))
	}
	if d.Op != broker.Count {
		d.Value = rapid.SampledFrom([]broker.Pointer{"/b", "/b", "/b", "/f", "/o/b", ""}).Draw(t, "value")
		d.Absent = rapid.SampledFrom([]broker.WhenAbsent{"", broker.AbsentSkips}).Draw(t, "skip")
	}
	if d.Op == broker.Latest {
		d.By = "/d"
	}
	if d.Op == broker.Sum || d.Op == broker.Min || d.Op == broker.Max {
		d.Empty = rapid.SampledFrom([]string{"", "0", "-1.50"}).Draw(t, "empty")
	}
	limit := rapid.SampledFrom([]string{"2.5", "0", "3.50", "100"}).Draw(t, "limit")
	switch rapid.IntRange(0, 7).Draw(t, "answer") {
	case 0:
		d.Below = limit
	case 1:
		d.AtMost = limit
	case 2:
		d.AtLeast = limit
	case 3:
		d.Above = limit
	case 4:
		d.Bands = []broker.Band{{Name: "lav", Below: "0.3"}, {Name: "mid\"dels", Below: "5"}, {Name: "høy"}}
	}
	return d
}

// against holds an answer to the oracle's, and reports whether there was one.
func against(t interface{ Fatalf(string, ...any) }, d *broker.Derivation, record []byte) bool {
	s, err := Compile([]broker.Derivation{*d})
	if err != nil {
		t.Fatalf("%+v: %v", d, err)
	}
	var doc jsondoc.Doc
	if doc.Parse(record, maxDepth) != nil {
		return false
	}
	dec := json.NewDecoder(bytes.NewReader(record))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", record, err)
	}
	want, wantErr := naive(d, v)
	got, err := s.Append([]byte("before{"), &doc)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%s of %s: got %s (%v), want %v (%v)", Rule(d), record, got, err, want, wantErr)
	}
	if err != nil {
		if failed := (*Error)(nil); string(got) != "before{" || !errors.As(err, &failed) || failed.Target != d.Target {
			t.Fatalf("%s of %s: left %q, %v", Rule(d), record, got, err)
		}
		return false
	}
	var answer map[string]any
	dec = json.NewDecoder(strings.NewReader(strings.TrimPrefix(string(got), "before") + "}"))
	dec.UseNumber()
	if err := dec.Decode(&answer); err != nil || len(answer) != 1 || answer["svar"] != want {
		t.Fatalf("%s of %s: got %s (%v), want %v", Rule(d), record, got, err, want)
	}
	return true
}

func TestAgainstOracle(t *testing.T) {
	answers, all := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		d := genDerivation(t)
		for range 10 {
			all++
			if against(t, &d, []byte(genRecord(t))) {
				answers++
			}
		}
	})
	if answers*5 < all {
		t.Errorf("%d answers of %d records: the records drawn show little", answers, all)
	}
}

// FuzzNumber holds the reading and writing of numbers to math/big.
func FuzzNumber(f *testing.F) {
	for _, s := range scalars {
		f.Add(strings.Trim(s, `"`))
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, exponent := range []bool{false, true} {
			n, ok := parse([]byte(s), exponent)
			var v any = s
			if exponent {
				if !json.Valid([]byte(s)) || strings.TrimSpace(s) != s || strings.Trim(s, "0123456789+-.eE") != "" || len(s) > 50 || bytes.ContainsAny([]byte(s), "eE") && len(s[strings.IndexAny(s, "eE"):]) > 5 {
					continue // no JSON number, or one that math/big works on for long
				}
				v = json.Number(s)
			}
			want, err := naiveNumber(v)
			if ok != (err == nil) {
				t.Fatalf("%q: %v, want %v", s, ok, err)
			}
			if ok && string(n.append(nil)) != plainText(want) {
				t.Fatalf("%q: %s, want %s", s, n.append(nil), plainText(want))
			}
		}
	})
}

// FuzzAppend: whatever the record, it ends, and agrees with the oracle.
func FuzzAppend(f *testing.F) {
	for _, s := range scalars {
		f.Add([]byte(`{"a":{"i":[{"b":`+s+`,"f":"k","d":"2026-01"},{"b":`+s+`}]}}`), uint8(0))
	}
	ops := []broker.Derivation{
		{V: 1, Target: "/svar", Title: "s", Rows: "/a/i", Op: broker.Sum, Value: "/b", Empty: "0"},
		{V: 1, Target: "/svar", Title: "s", Rows: "/a/i", Op: broker.Max, Value: "/b", Absent: broker.AbsentSkips, Above: "2"},
		{V: 1, Target: "/svar", Title: "s", Rows: "/a/i", Op: broker.Count, Where: []broker.RowCondition{{Field: "/d", From: "2026-01", Before: "2026-02", Absent: broker.AbsentHolds}}},
		{V: 1, Target: "/svar", Title: "s", Rows: "/a/i", Op: broker.Distinct, Value: "/b"},
		{V: 1, Target: "/svar", Title: "s", Rows: "/a/i", Op: broker.Latest, Value: "/b", By: "/d", Absent: broker.AbsentSkips},
	}
	f.Fuzz(func(t *testing.T, record []byte, op uint8) {
		if bytes.ContainsAny(record, "eE") && len(record) > 200 {
			return // math/big would work on an exponent for long
		}
		if exponents.Match(record) {
			return
		}
		against(t, &ops[int(op)%len(ops)], record)
	})
}

var exponents = regexp.MustCompile(`[eE][+-]?[0-9]{4,}`)
