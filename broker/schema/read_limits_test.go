package schema

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"datafordeler/broker/jsondoc"
	"datafordeler/providers/synthetic"
)

// TestReadLimits goes along the borders of what Read takes upon itself.
func TestReadLimits(t *testing.T) {
	type yes []string
	many := func(n int, format string) string {
		var parts []string
		for i := range n {
			parts = append(parts, fmt.Sprintf(format, i))
		}
		return strings.Join(parts, ",")
	}
	for schema, documents := range map[string]struct{ read, not yes }{
		`{"type":"object","properties":{"a":{"$ref":"#"}}}`: {
			yes{strings.Repeat(`{"a":`, 49) + `{}` + strings.Repeat(`}`, 49), `{}`, ` { } `, `{"a":{},"b":1}`},
			yes{strings.Repeat(`{"a":`, 50) + `{}` + strings.Repeat(`}`, 50), `{"a":{},"a":{}}`, `{"a":{},"b":1,"b":2}`, `{"\u0061":{}}`, `{},`, `{}{}`, `{`, `{"a":`, `{"a":{}`, `{"a":{},}`, `{,"a":{}}`},
		},
		`{"type":"array","items":{"type":"integer","minimum":-3,"exclusiveMaximum":7.5,"multipleOf":0.5}}`: {
			yes{`[-3,0,-0,7,7.0, 1.00 ]`, `[]`, `[ ]`, `[1.0000000000000000]`, `[1e0]`, `[70e-1]`},
			yes{`[-4]`, `[8]`, `[7.5]`, `[1.5]`, `[01]`, `[-]`, `[1.]`, `[.5]`, `[+1]`, `[1e]`, `[1,]`, `[,1]`, `[1 2]`, `[--1]`, `[-01]`, `[00]`, `[1e400]`, `[123456789012345678]`},
		},
		`{"type":"array","items":{"type":"integer","minimum":-999999999999999999,"maximum":99999999999999999}}`: {
			yes{`[-99999999999999999,99999999999999999,12345678,1234567,123456789,-12345678, 1234567 ]`, `[-999999999999999999]`},
			yes{`[-1000000000000000000]`, `[100000000000000000]`, `[9223372036854775808]`, `[18446744073709551616]`},
		},
		`{"type":"array","items":{"type":"number","exclusiveMinimum":-1.5,"maximum":2.25}}`: {
			yes{`[-1,-1.49,2,2.25,2.250]`, `[1e0,2E0]`, `[1.5e0]`},
			yes{`[-1.5]`, `[-2]`, `[3]`, `[2.26]`, `[2.250000000000001]`},
		},
		`{"type":"array","items":{"type":"string","pattern":"^[0-9]{9}[ -a]{2}$"}}`: {
			yes{`["123456789  ","000000000AZ"]`, `["12345678\u0039  "]`, `["123456789\" "]`},
			yes{`["12345678a  "]`, `["123456789\\"]`, `["123456789é"]`, `["123456789 "]`, `["/23456789  "]`, `[":23456789  "]`, "[\"12345678\xb9  \"]", "[\"\xb123456789  \"]"},
		},
		`{"type":"array","items":{"type":"string","pattern":"^(a|b[0-9])c?$","minLength":2}}`: {
			yes{`["ac","b1","b1c"]`}, yes{`["a"]`, `["b"]`, `["bc"]`, `["acc"]`},
		},
		`{"type":"array","items":{"type":["string","null"],"maxLength":3}}`: {
			yes{`["abc",null,"æøå","\u00e6øå","😀😀😀"]`}, yes{`["abcd"]`, `["æøåa"]`, `[nul]`, `[true]`, "[\"\xff\"]", "[\"\x1f\"]", "[\"12345678\xff1234567\"]", "[\"\xed\xa0\x80\"]", `["\ud800"]`},
		},
		`{"type":"array","items":{"enum":["a","bonus","et langt valg 1","et langt valg 2","\"","æ"]}}`: {
			yes{`["a","bonus","et langt valg 2","\"","æ","\u0061"]`}, yes{`["b"]`, `["et langt valg 3"]`, `[""]`, `["\""`, `["A"]`, `[1]`},
		},
		`{"type":"array","items":{"type":"boolean"}}`: {
			yes{`[true,false]`}, yes{`[tru]`, `[tru`, `[null]`, `[True]`, `["true"]`, `[truefalse]`, `[truE]`},
		},
		`{"type":"object","properties":{"a":{"type":"integer"},"b":{},"c":false},"required":["a","d"],"minProperties":3,"maxProperties":20,"dependentRequired":{"b":["e"]}}`: {
			yes{`{"a":1,"d":{"x":[1,{"y":null}]},"b":[],"e":1}`, `{"d":1,"a":1,"x":1}`, `{"a":1,"d":1,` + many(16, `"x%d":1`) + `}`},
			yes{`{"a":1,"d":1}`, `{"a":1,"d":1,"b":1}`, `{"a":1,"x":1,"y":1}`, `{"a":1,"d":1,"c":1}`, `{"a":1,"d":1,` + many(17, `"x%d":1`) + `}`, `{"a":1,"d":1,"x":1,"x":2}`,
				`{"a":1,"d":1,"x":1,"y":{"x":1},"x":2}`, "{\"a\":1,\"d\":1,\"\xff\":1}", `{"a":1,"d":1,` + many(19, `"x%d":1`) + `}`, `{"a":1,"d":1e999,"x":1}`, `{"a":1,"d":[{"q":1,"q":2}],"x":1}`},
		},
		`{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"string"},"allOf":[{"required":["z"]}],"not":{"required":["y"]}}`: {
			yes{`{"a":1,"z":"1"}`, `{"z":"","b":""}`}, yes{`{"a":1}`, `{"a":1,"z":1}`, `{"a":1,"z":"","y":""}`},
		},
		`{"type":"object","properties":{` + many(64, `"n%d":{"type":"integer"}`) + `},"additionalProperties":false}`: {
			yes{`{` + many(64, `"n%d":1`) + `}`}, yes{`{` + many(64, `"n%d":1`) + `,"n63":1}`, `{` + many(65, `"n%d":1`) + `}`},
		},
		`{"type":"array","items":{"type":"object","properties":{` + many(70, `"n%d":{"type":"integer"}`) + `},"required":["n69"],"additionalProperties":false}}`: {
			yes{`[{` + many(70, `"n%d":1`) + `}]`}, yes{`[{` + many(70, `"n%d":1`) + `,"n69":1}]`, `[{"n69":1,"n69":1}]`, `[{"n69":1,"n9":1,"n9":1}]`, `[{"n0":1}]`, `[{"n69":1,"n70":1}]`},
		},
		`{"type":"array","items":{"type":"array","uniqueItems":true}}`:                                           {yes{`[[1,2],[]]`}, yes{`[[1,2],[1,1.0]]`}},
		`{"type":"array","items":{"type":"array","contains":{"const":1}}}`:                                       {yes{`[[1,2],[1.0]]`}, yes{`[[1,2],[]]`}},
		`{"type":"array","items":{"type":"array","prefixItems":[{"const":1}],"items":{"const":2}}}`:              {yes{`[[1,2,2],[],[1]]`}, yes{`[[2]]`, `[[1,1]]`}},
		`{"type":"array","items":{"type":"array","prefixItems":[{"const":1}],"items":false}}`:                    {yes{`[[1],[]]`}, yes{`[[1,2]]`}},
		`{"type":"array","items":{"type":"object","patternProperties":{"^a":{"type":"null"}}}}`:                  {yes{`[{"a":null,"b":1}]`}, yes{`[{"ab":1}]`}},
		`{"type":"array","items":{"type":"object","properties":{"a":{}},"propertyNames":{"maxLength":1}}}`:       {yes{`[{"a":1,"b":1}]`}, yes{`[{"ab":1}]`}},
		`{"type":"array","items":{"type":"object","properties":{"a":{}},"unevaluatedProperties":false}}`:         {yes{`[{"a":1}]`}, yes{`[{"b":1}]`}},
		`{"type":"array","items":{"type":"string","enum":["a","ab"],"maxLength":1}}`:                             {yes{`["a"]`}, yes{`["ab"]`, `["b"]`}},
		`{"type":"array","items":{"type":"string","allOf":[{"enum":["a","b"]},{"enum":["b","c"]}],"const":"b"}}`: {yes{`["b"]`}, yes{`["a"]`, `["c"]`}},
		`{"type":"array","items":{"type":"string","enum":["a","b"],"const":"b"}}`:                                {yes{`["b"]`}, yes{`["a"]`}},
		`{"type":"array","items":{"type":"string","pattern":"^[0-9]{10}$","maxLength":9}}`:                       {nil, yes{`["1234567890"]`}},
		`{"type":"array","items":{"type":"string","pattern":"^[0-9]{10}$","minLength":11}}`:                      {nil, yes{`["1234567890"]`}},
		`{"type":"array","items":{"type":"string","pattern":"^[0-9]{4}-[0-9]{2}-[0-9]{2}$","format":"date"}}`:    {yes{`["2026-02-28"]`}, yes{`["2026-02-30"]`}},
		`{"type":"array","items":{"type":"integer","not":{"const":3}}}`:                                          {yes{`[1,2]`}, yes{`[3]`}},
		`{"type":"array","items":{"type":"integer","maximum":12345678901234567890123}}`:                          {yes{`[1,2]`}, yes{`[12345678901234567890124]`}},
		`{"type":"array","items":{"type":"integer","minimum":12345678901234567890123}}`:                          {yes{`[12345678901234567890123]`}, yes{`[1]`}},
		`{"type":"array","items":{"type":"string","not":{"const":"x"}}}`:                                         {yes{`["y"]`}, yes{`["x"]`}},
		`{"type":"object","properties":{"a\"b":{"type":"integer"},"":{"type":"integer"},"æ":{"type":"integer"}},"additionalProperties":false}`: {
			yes{`{"":1,"æ":2}`}, yes{`{"a\"b":1}`, `{"a":1}`, `{"\u00e6":1}`, `{"a"b":1}`},
		},
	} {
		s := mustCompile(t, schema)
		if s.guide == nil {
			t.Errorf("%s has no guide", schema)
			continue
		}
		var r Run
		var doc jsondoc.Doc
		for range 2 { // the second time it knows the order
			for _, data := range documents.read {
				if !readAgrees(t, s, &r, &doc, []byte(data), 50) {
					t.Errorf("%s: not read: %s", schema, data)
				}
			}
			for _, data := range documents.not {
				if readAgrees(t, s, &r, &doc, []byte(data), 50) {
					t.Errorf("%s: read: %s", schema, data)
				}
			}
		}
	}
}

// TestReadFallback: what the library judges, and what has no guide, is not read.
func TestReadFallback(t *testing.T) {
	var r Run
	var doc jsondoc.Doc
	for _, s := range []*Schema{
		mustCompile(t, `{"$dynamicAnchor":"n","items":{"$dynamicRef":"#n"}}`), mustCompile(t, `{}`), mustCompile(t, `{"type":"string"}`),
		mustCompile(t, `{"patternProperties":{"^a":false}}`), new(Schema),
	} {
		if s.Read(&r, &doc, []byte(`{}`), 50) {
			t.Error("read")
		}
	}
	s := mustCompile(t, `{"type":"object","properties":{"a":{"type":"string","pattern":"^[0-9]$"}}}`)
	s.guide.root.members[0].step = nil // panics
	if s.Read(&r, &doc, []byte(`{"a":"1"}`), 50) || doc.Len() != 0 {
		t.Error("read in spite of a panic")
	}
}

// TestReadSkips: documents that are never as expected are not tried each time,
// and those that are again are read again.
func TestReadSkips(t *testing.T) {
	s := mustCompile(t, `{"type":"object","properties":{"a":{"type":"integer"}}}`)
	var r Run
	var doc jsondoc.Doc
	good, odd := []byte(`{"a":1}`), []byte(`{"\u0061":1}`)
	tried := 0
	for range 1000 {
		l := r.reader.of(s)
		if l.skip == 0 {
			tried++
		}
		if s.Read(&r, &doc, odd, 50) {
			t.Fatal("read")
		}
	}
	if tried > 40 || tried < 15 {
		t.Errorf("of 1000 documents %d were tried", tried)
	}
	waited := 0
	for !s.Read(&r, &doc, good, 50) {
		waited++
	}
	if waited > maxSkip {
		t.Errorf("%d good documents were not read", waited)
	}
	for range trials {
		if s.Read(&r, &doc, odd, 50) || !s.Read(&r, &doc, good, 50) {
			t.Error("skipped after a single miss")
		}
	}
}

// TestReadKeepsNothing: between documents a Run holds numbers of the schema's
// members, and the same ones whatever the values were.
func TestReadKeepsNothing(t *testing.T) {
	s := mustCompile(t, `{"type":"object","properties":{"a":{"type":"string","pattern":"^[0-9]{11}$"},"b":{"enum":["x","y"]},"c":{"type":["string","null"]}}}`)
	var first []*member
	for i, data := range []string{`{"a":"01829413112","b":"x","c":"0182941311\u0032","d":"01829413112"}`, `{"a":"01829413113","b":"y","c":null,"e":{"f":"01829413112"}}`} {
		var r Run
		var doc jsondoc.Doc
		if !s.Read(&r, &doc, []byte(data), 50) {
			t.Fatal("not read")
		}
		if r.doc != nil || r.data != nil || r.nodes != nil || strings.Contains(string(r.text[:cap(r.text)]), "018") {
			t.Error("the document is still there")
		}
		if i == 0 {
			first = r.reader.learnt[0].next
		} else if !slices.Equal(r.reader.learnt[0].next, first) {
			t.Errorf("learnt %v from one, %v from the other", first, r.reader.learnt[0].next)
		}
	}
}

// TestReadManySchemas: a Run knows a few schemas by heart and is right on all.
func TestReadManySchemas(t *testing.T) {
	var r Run
	var doc jsondoc.Doc
	var schemas []*Schema
	for i := range 3 * maxLearnt {
		schemas = append(schemas, mustCompile(t, fmt.Sprintf(`{"type":"object","properties":{"a":{"type":"integer","minimum":%d},"b%d":{}},"required":["b%d"]}`, i, i, i)))
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		i, j := random.IntN(len(schemas)), random.IntN(len(schemas))
		data := fmt.Appendf(nil, `{"a":%d,"b%d":1}`, j, j)
		if got, want := readAgrees(t, schemas[i], &r, &doc, data, 50), i == j; got != want {
			t.Fatalf("schema %d, %s: %t", i, data, got)
		}
	}
	if len(r.reader.learnt) > maxLearnt {
		t.Errorf("%d schemas are known", len(r.reader.learnt))
	}
}

func TestReadAllocates(t *testing.T) {
	g := synthetic.New(synthetic.Config{People: 100, Seed: 1})
	var r Run
	var doc jsondoc.Doc
	for _, s := range demo(t) {
		var records [][]byte
		for i := range 100 {
			if data := s.record(g, i); len(data) > 0 {
				records = append(records, data)
			}
		}
		i := 0
		if n := testing.AllocsPerRun(500, func() {
			if !s.Read(&r, &doc, records[i%len(records)], 64) {
				t.Fatal("not read")
			}
			i++
		}); n > 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// TestReadOverOlder: nothing of the document before stays on the tape.
func TestReadOverOlder(t *testing.T) {
	s := mustCompile(t, `{"type":"object","properties":{"a":{"type":["string","null"]},"b":{"type":"array","items":{}}}}`)
	var r Run
	var doc jsondoc.Doc
	for _, older := range []string{`{"\u0061":"\u0061","\u0062":[1e1,"\n"]}`, `[{"\u0061":"\u0061"},{"\u0061":"\u0061"},"\n"]`} {
		for _, data := range []string{`{"a":null,"b":[null,1]}`, `{"b":["",2],"a":"x"}`, `{"c":null,"a":"\n"}`} {
			if err := doc.Parse([]byte(older), 50); err != nil {
				t.Fatal(err)
			}
			if !readAgrees(t, s, &r, &doc, []byte(data), 50) {
				t.Errorf("not read: %s", data)
			}
		}
	}
}

// TestReadShared: one schema, read by several goroutines with a Run each.
func TestReadShared(t *testing.T) {
	g := synthetic.New(synthetic.Config{People: 100, Seed: 2})
	s := demo(t)[1]
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			var r Run
			var doc jsondoc.Doc
			for i := range 100 {
				if !s.Read(&r, &doc, s.record(g, (i*7+worker*13)%100), 64) {
					t.Error("not read")
				}
			}
		})
	}
	all.Wait()
}

// TestReadFixed: strings of one length, of all bytes that there are.
func TestReadFixed(t *testing.T) {
	var r Run
	var doc, want jsondoc.Doc
	for _, pattern := range []string{`^[a-c][b-e]$`, `^(ab|ba|[q-s]c)$`, `^[0-9][^0-9]$`, `^[0-9]{2}$`, `^[\x20-\x7e][!-~]$`, `^[^x][a-z]$`, `^a[a-c]$|^[a-c]b$`} {
		re := regexp.MustCompile(pattern)
		s := mustCompile(t, fmt.Sprintf(`{"type":"array","items":{"type":"string","pattern":%q}}`, pattern))
		data := []byte(`["  "]`)
		for a := range 256 {
			for b := range 256 {
				data[2], data[3] = byte(a), byte(b)
				r.reader.of(s).skip = 0
				if s.Read(&r, &doc, data, 9) && (want.Parse(data, 9) != nil || !re.Match(data[2:4])) {
					t.Errorf("%s: read %q", pattern, data)
				}
			}
		}
	}
}
