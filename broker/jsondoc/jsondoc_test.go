package jsondoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

const testDepth = 50

// oracle says by encoding/json's token reader and our own small checks whether
// the data should be taken.
func oracle(data []byte) error {
	if !json.Valid(data) {
		return errors.New("encoding/json")
	}
	if !utf8.Valid(data) {
		return errors.New("UTF-8")
	}
	if err := oracleSurrogates(data); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return oracleValue(dec, 0)
}

func oracleValue(dec *json.Decoder, depth int) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	open, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	if depth++; depth > testDepth {
		return errors.New("depth")
	}
	seen := map[string]bool{}
	for dec.More() {
		if open == '{' {
			name, err := dec.Token()
			if err != nil {
				return err
			}
			if seen[name.(string)] {
				return errors.New("duplicate")
			}
			seen[name.(string)] = true
		}
		if err := oracleValue(dec, depth); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// oracleSurrogates relies on valid JSON: backslashes stand in strings only.
func oracleSurrogates(data []byte) error {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		i++
		if data[i] != 'u' {
			continue
		}
		var r, low rune
		fmt.Sscanf(string(data[i+1:i+5]), "%x", &r)
		i += 4
		if r < 0xD800 || r > 0xDFFF {
			continue
		}
		if i+7 <= len(data) && data[i+1] == '\\' && data[i+2] == 'u' {
			fmt.Sscanf(string(data[i+3:i+7]), "%x", &low)
		}
		if r >= 0xDC00 || low < 0xDC00 || low > 0xDFFF {
			return errors.New("surrogate")
		}
		i += 6
	}
	return nil
}

// value reads the tape into what encoding/json would give.
func value(d *Doc, i int) any {
	n := d.Node(i)
	switch n.Kind {
	case Object:
		m := map[string]any{}
		for c := i + 1; c < int(n.Next); c = int(d.Node(c).Next) {
			m[string(d.Name(c))] = value(d, c)
		}
		return m
	case Array:
		a := []any{}
		for c := i + 1; c < int(n.Next); c = int(d.Node(c).Next) {
			a = append(a, value(d, c))
		}
		return a
	case String:
		return string(d.AppendText(nil, i))
	case Number:
		return json.Number(d.Bytes(i))
	case True:
		return true
	case False:
		return false
	}
	return nil
}

var samples = []string{
	`{}`, `[]`, `0`, `-0.5e+10`, `""`, `null`, `true`, `false`, ` { "a" : [ 1 , 2 , { } ] } `,
	`{"a":1,"\u0061":2}`, `{"\ud83d\ude00":1,"😀":2}`, `"\ud800"`, `"\udc00\ud800"`, `"\ud83d\u0041"`, `"\ud83d\ue000"`, `"\ud83d\udfff"`, `"\ud7ff\ue000"`, `"\ud83d\n"`, `"\ud83d`,
	`"\u00e6øå"`, "\"\xff\"", "\"\xed\xa0\x80\"", "\"\x01\"", "\"\x7f\"", `"\x"`, `"\u12g4"`, `01`, `1.`, `.5`, `-`, `1e`, `+1`,
	`{"a":1,}`, `[1,]`, `[,1]`, `{"a"}`, `{a:1}`, `{"a":1 "b":2}`, `[1 2]`, `nul`, `truex`, `"abc`, `{"a":`, `[`, ``, ` `, `1 2`, `]`, `}`, "\ufeff{}",
	`"` + strings.Repeat("x", 30) + `\n` + strings.Repeat("æ", 20) + `"`,
	strings.Repeat("[", testDepth) + strings.Repeat("]", testDepth), strings.Repeat("[", testDepth+1) + strings.Repeat("]", testDepth+1),
	`{"":1,"":2}`, `{"":1,"a":{"":2}}`, `{"a":{"b":1},"c":{"b":1}}`, `[{"a":1},{"a":1,"b":[{"a":1,"a":2}]}]`, "{\"a\":1,\t\"b\"\r\n:2}", "[1,\v2]", "\"\\/\\b\\f\\n\\r\\t\\\\\\\"\"",
}

func check(t interface {
	Helper()
	Fatalf(string, ...any)
}, d *Doc, data []byte) {
	t.Helper()
	want := oracle(data)
	err := d.Parse(data, testDepth)
	if (err == nil) != (want == nil) {
		t.Fatalf("%q: got %v, want %v", data, err, want)
	}
	if err != nil {
		if d.Len() != 0 {
			t.Fatalf("%q: %d nodes after an error", data, d.Len())
		}
		return
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil && err != io.EOF {
		t.Fatalf("%q: %v", data, err)
	}
	if got := value(d, 0); !reflect.DeepEqual(got, v) {
		t.Fatalf("%q: read as %#v, want %#v", data, got, v)
	}
	for i := range d.Nodes() {
		tokens := d.AppendTokens(nil, i)
		at := 0
		for _, token := range tokens { // the way back
			if token.Index >= 0 {
				at++
				for range token.Index {
					at = int(d.Node(at).Next)
				}
			} else {
				at = d.Find(at, token.Name)
			}
		}
		if at != i {
			t.Fatalf("%q: the pointer of node %d, %s, leads to node %d", data, i, d.Pointer(i), at)
		}
	}
}

func TestAgainstEncodingJSON(t *testing.T) {
	var d Doc // one for all: nothing may stay behind
	for _, s := range samples {
		check(t, &d, []byte(s))
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range samples {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d Doc
		check(t, &d, data)
		check(t, &d, data)
	})
}

// genJSON draws text that is mostly JSON, with names that collide.
func genJSON(t *rapid.T, depth int) string {
	space := func() string { return rapid.SampledFrom([]string{"", "", "", " ", "\n\t"}).Draw(t, "space") }
	str := func() string {
		return rapid.SampledFrom([]string{`"a"`, `"b"`, `"\u0061"`, `"c"`, `""`, `"\ud83d\ude00"`, `"😀"`, `"lang tekst med æøå i"`, `"a\nb"`, `"\u000a"`, `"personidentifikator"`, `"\ud800"`}).Draw(t, "string")
	}
	switch kind := rapid.IntRange(0, 7).Draw(t, "kind"); {
	case kind <= 2 && depth > 0:
		var b strings.Builder
		b.WriteString("{")
		for i := range rapid.IntRange(0, 5).Draw(t, "members") {
			if i > 0 {
				b.WriteString(",")
			}
			name := str()
			if rapid.Bool().Draw(t, "fresh") {
				name = fmt.Sprintf(`"n%d"`, i)
			}
			b.WriteString(space() + name + space() + ":" + genJSON(t, depth-1))
		}
		return space() + b.String() + "}" + space()
	case kind <= 4 && depth > 0:
		var b strings.Builder
		b.WriteString("[")
		for i := range rapid.IntRange(0, 4).Draw(t, "elements") {
			if i > 0 {
				b.WriteString(",")
			}
			b.WriteString(genJSON(t, depth-1))
		}
		return space() + b.String() + space() + "]"
	case kind == 5:
		return str()
	}
	return space() + rapid.SampledFrom([]string{"1", "-0", "1.50", "1e9", "true", "false", "null", "12345678901234567890", "01", "nul"}).Draw(t, "scalar")
}

func TestGeneratedAgainstEncodingJSON(t *testing.T) {
	var d Doc
	rapid.Check(t, func(t *rapid.T) { check(t, &d, []byte(genJSON(t, 6))) })
}

// TestManyNames crosses from comparing names one by one to the table, in
// several objects of one document.
func TestManyNames(t *testing.T) {
	var d Doc
	for n := 1; n < 300; n += 7 {
		var b bytes.Buffer
		object := func(extra string) {
			b.WriteString("{")
			for i := range n {
				if i > 0 {
					b.WriteString(",")
				}
				if i%3 == 0 {
					fmt.Fprintf(&b, `"n\u00%02xx%d":%d`, 'a'+i%26, i, i)
				} else {
					fmt.Fprintf(&b, `"n%cx%d":%d`, 'a'+i%26, i, i)
				}
			}
			b.WriteString(extra + "}")
		}
		b.WriteString("[")
		object("")
		b.WriteString(",")
		object(`,"inner":`)
		b.Truncate(b.Len() - 1)
		object("")
		b.WriteString("}]")
		if err := d.Parse(b.Bytes(), 10); err != nil {
			t.Fatalf("%d names: %v", n, err)
		}
		b.Reset()
		object(fmt.Sprintf(`,"n%c\u0078%d":1`, 'a'+(n/2)%26, n/2))
		var duplicate *DuplicateNameError
		if err := d.Parse(b.Bytes(), 10); !errors.As(err, &duplicate) {
			t.Fatalf("%d names and one of them twice: %v", n, err)
		}
	}
}

func TestErrors(t *testing.T) {
	var d Doc
	for _, c := range []struct{ data, want string }{
		{`{"a":[{"x":1},{"b":1,"hemmelig/~":{"q":1,"q":2}}]}`, "*jsondoc.DuplicateNameError byte 41: the object has this name already at /a/1/hemmelig~1~0"},
		{`[[[[`, "*jsondoc.DepthError byte 3: nested deeper than 3 objects and arrays"},
		{`{"a": 01}`, "*jsondoc.SyntaxError byte 7: want ',' or '}' after a member"},
		{`"12345678901`, "*jsondoc.SyntaxError byte 12: the data ends inside a string"},
	} {
		err := d.Parse([]byte(c.data), 3)
		if c.data[0] == '{' {
			err = d.Parse([]byte(c.data), 9)
		}
		got := fmt.Sprintf("%T %v", err, err)
		var duplicate *DuplicateNameError
		if errors.As(err, &duplicate) {
			got += " at " + duplicate.Pointer()
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.data, got, c.want)
		}
	}
}

func TestPath(t *testing.T) {
	var d Doc
	data := `{"a":[{"b":1},[{"b":[2,[3]]}],{"c":4},"x",{"\u0062":{"z":5}}],"":{"b":6}}`
	if err := d.Parse([]byte(data), 10); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path          Path
		each, scalars string
	}{
		{nil, data, data},
		{Path{"a", "b"}, `1 [2,[3]] {"z":5}`, `1 2 3 {"z":5}`},
		{Path{"a", "b", "z"}, `5`, `5`},
		{Path{"", "b"}, `6`, `6`},
		{Path{"a", "b", "c"}, ``, ``},
		{Path{"nothing"}, ``, ``},
	} {
		read := func(walk func(*Doc, func(int) bool)) string {
			var got []string
			walk(&d, func(i int) bool { got = append(got, string(d.Bytes(i))); return true })
			return strings.Join(got, " ")
		}
		if got := read(c.path.Each); got != c.each {
			t.Errorf("%q: got %s, want %s", c.path, got, c.each)
		}
		if got := read(c.path.Scalars); got != c.scalars {
			t.Errorf("%q, scalars: got %s, want %s", c.path, got, c.scalars)
		}
		calls := 0
		c.path.Scalars(&d, func(int) bool { calls++; return false })
		if calls > 1 {
			t.Errorf("%q: went on after being told to stop", c.path)
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	var d Doc
	data := []byte(income)
	if n := testing.AllocsPerRun(100, func() {
		if err := d.Parse(data, 64); err != nil {
			t.Fatal(err)
		}
		Path{"oppgaveInntektsmottaker", "inntektsmottaker", "personidentifikator"}.Scalars(&d, func(int) bool { return true })
	}); n != 0 {
		t.Errorf("%v allocations a document", n)
	}
}

// income has the shape and size of a month's income record.
const income = `{"oppgaveInntektsmottaker":[{"opplysningspliktigId":"310149942","virksomhetId":"313876144","kalendermaaned":"2026-10","inntektsmottaker":{"personidentifikator":"01829413112"},"inntekt":[{"fordel":"kontantytelse","utloeserArbeidsgiveravgift":true,"inngaarIGrunnlagForTrekk":true,"beloep":48250,"loennsinntekt":{"beskrivelse":"fastloenn","antall":150}},{"fordel":"naturalytelse","utloeserArbeidsgiveravgift":true,"inngaarIGrunnlagForTrekk":true,"beloep":6000,"loennsinntekt":{"beskrivelse":"bil","tilleggsinformasjon":{"bilOgBaat":{"antallKilometer":600,"heravAntallKilometerMellomHjemOgArbeid":600,"listeprisForBil":600000,"bilregistreringsnummer":"øæ12345"}}}}],"forskuddstrekk":[{"beskrivelse":"forskuddstrekk","beloep":-14120.50}]}]}`

func BenchmarkParse(b *testing.B) {
	var d Doc
	data := []byte(income)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Parse(data, 64); err != nil {
			b.Fatal(err)
		}
	}
}

// TestExponent: a number's node says whether it has an exponent.
func TestExponent(t *testing.T) {
	var d Doc
	if err := d.Parse([]byte(`[1,-0.5,1e3,2E+1,-1.5e-7,{"e":12},"1e3"]`), 8); err != nil {
		t.Fatal(err)
	}
	for i, n := range d.Nodes() {
		if want := bytes.ContainsAny(d.Bytes(i), "eE"); n.Kind == Number && n.Escaped != want {
			t.Errorf("%s has an exponent: %t", d.Bytes(i), n.Escaped)
		}
	}
}
