package minimise

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

var dataset = broker.Dataset{ID: "inntekt", Attributes: []broker.Attribute{{Name: "kommune"}, {Name: "gradering"}}}

func rights(fields ...broker.Pointer) *broker.RightsPackage {
	return &broker.RightsPackage{ID: "p", Version: 1, Dataset: "inntekt", Fields: fields}
}

// protected shields when the second attribute is "ja".
func protected(p *broker.RightsPackage, body bool, remove ...broker.Pointer) *broker.RightsPackage {
	p.Shielding = &broker.Shielding{When: broker.Condition{Attribute: "gradering", In: []string{"ja"}}, Remove: remove, Body: body}
	return p
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func project(t fataler, p *Projection, data, protection string) string {
	t.Helper()
	var doc jsondoc.Doc
	if err := doc.Parse([]byte(data), 100); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	out, _, err := p.Append([]byte("before"), &doc, []string{"0301", protection})
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	rest, ok := strings.CutPrefix(string(out), "before")
	if !ok {
		t.Fatalf("what was in dst is gone: %s", out)
	}
	return rest
}

func compile(t fataler, p *broker.RightsPackage) *Projection {
	t.Helper()
	out, err := Compile(p, &dataset)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return out
}

func TestAppend(t *testing.T) {
	all := []broker.Pointer{""}
	for _, c := range []struct {
		what   string
		fields []broker.Pointer
		remove []broker.Pointer // shielded where there are any
		in     string
		want   string
	}{
		{"numbers, escapes and inner white space stay as written", []broker.Pointer{"/a", "/b", "/c"}, nil,
			` { "a" : 1.50e+2 , "b":"\u00e6\/", "c" : { "d" : [ 1,  2 ] , "\u0061":null } } `, `{"a":1.50e+2,"b":"\u00e6\/","c":{ "d" : [ 1,  2 ] , "\u0061":null }}`},
		{"through arrays, also nested ones", []broker.Pointer{"/inntekt/beloep"}, nil,
			`{"inntekt":[{"beloep":1,"x":2},[{"x":3},{"beloep":[4]}]]}`, `{"inntekt":[{"beloep":1},[{"beloep":[4]}]]}`},
		{"what holds nothing allowed does not show", []broker.Pointer{"/a/b/c", "/l/m"}, nil,
			`{"a":{"b":{"x":1}},"l":[{"x":1},{},[],3,{"m":null},[[{"y":2}]]]}`, `{"l":[{"m":null}]}`},
		{"an empty list on the way does not show, one allowed does", []broker.Pointer{"/a/b", "/c"}, nil, `{"a":[],"c":[]}`, `{"c":[]}`},
		{"a value where an object should be", []broker.Pointer{"/a/b"}, nil, `{"a":"01829413112"}`, `{}`},
		{"names are compared unescaped and written in one spelling", []broker.Pointer{"/a~1b/~0", "/æ"}, nil,
			`{"\u00e6":1,"a\/b":{"\u007e":2}}`, `{"a/b":{"~":2},"æ":1}`},
		{"members come in the package's order", []broker.Pointer{"/b", "/a/y", "/c", "/a/x"}, nil,
			`{"c":1,"a":{"x":2,"y":3},"b":4}`, `{"b":4,"a":{"y":3,"x":2},"c":1}`},
		{"neighbours, and white space between some", []broker.Pointer{"/a", "/b", "/c", "/d", "/e", "/f"}, nil,
			`{"x":0,"a":1,"b":[2, 2], "c":3 ,"d":4,"e" :5,"y":{"a":9},"f":6,"z":7}`, `{"a":1,"b":[2, 2],"c":3,"d":4,"e":5,"f":6}`},
		{"neighbours in turn, and one that comes too late", []broker.Pointer{"/a", "/b", "/c", "/d"}, nil,
			`{"b":2,"c":3,"a":1,"d":4}`, `{"a":1,"b":2,"c":3,"d":4}`},
		{"a neighbour of which nothing is left", []broker.Pointer{"/a", "/b/x", "/c", "/d/y"}, nil,
			`{"a":1,"b":{"y":2},"c":3,"d":{"y":4}}`, `{"a":1,"c":3,"d":{"y":4}}`},
		{"a name that is only a part of another", []broker.Pointer{"/ab"}, nil, `{"a":1,"abc":2,"":3}`, `{}`},
		{"the empty name", []broker.Pointer{"/", "/a/"}, nil, `{"":1,"a":{"":2,"b":3}}`, `{"":1,"a":{"":2}}`},
		{"no fields", nil, nil, `{"a":1}`, `{}`},
		{"the whole", all, nil, ` {"b": 1 , "\u0061":[ 1 ]} `, `{"b":1,"a":[ 1 ]}`},
		{"the whole, without a mark of the payload's own", all, nil, `{"\u0073kjermet":true,"a":{"skjermet":1}}`, `{"a":{"skjermet":1}}`},
		{"shielded field", []broker.Pointer{"/a", "/b"}, []broker.Pointer{"/b"}, `{"a":1,"b":2}`, `{"skjermet":true,"a":1}`},
		{"shielded within what is allowed whole", []broker.Pointer{"/a"}, []broker.Pointer{"/a/b/c"},
			`{"a":{"x": [ 1 ],"b":[{"c":1,"d\u0061":2},{"c":3},4,[]] } }`, `{"skjermet":true,"a":{"x":[ 1 ],"b":[{"da":2},{},4,[]]}}`},
		{"shielded above what is allowed", []broker.Pointer{"/a/b", "/c"}, []broker.Pointer{"/a"}, `{"a":{"b":1},"c":2}`, `{"skjermet":true,"c":2}`},
		{"shielded and outside", []broker.Pointer{"/c"}, []broker.Pointer{"/a"}, `{"a":{"b":1},"c":2}`, `{"skjermet":true,"c":2}`},
		{"shielded of the whole", all, []broker.Pointer{"/a/b"}, `{"skjermet":"nei","a":{"b":1},"c":2}`, `{"skjermet":true,"a":{},"c":2}`},
		{"shielded, nothing left", []broker.Pointer{"/a"}, []broker.Pointer{"/a"}, `{"a":1}`, `{"skjermet":true}`},
		{"shielded, all of it", all, []broker.Pointer{""}, `{"a":1}`, `{"skjermet":true}`},
		{"one below the other", all, []broker.Pointer{"/a/b", "/a", "/a/c"}, `{"a":{"b":1},"x":1}`, `{"skjermet":true,"x":1}`},
	} {
		t.Run(c.what, func(t *testing.T) {
			p, protection := rights(c.fields...), "nei"
			if c.remove != nil {
				p, protection = protected(p, false, c.remove...), "ja"
			}
			if got := project(t, compile(t, p), c.in, protection); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestShieldingFailsClosed(t *testing.T) {
	p := compile(t, protected(rights("/a"), true))
	for _, c := range []struct {
		attributes []string
		want       bool
	}{
		{nil, true}, {[]string{"0301"}, true}, {[]string{"0301", ""}, true},
		{[]string{"0301", "ja"}, true}, {[]string{"0301", "nei"}, false}, {[]string{"0301", "nei", "x"}, false},
	} {
		if got := p.Shields(c.attributes); got != c.want {
			t.Errorf("%q: %v", c.attributes, got)
		}
	}
	// Whoever names the empty string has decided about it.
	absent := protected(rights("/a"), true)
	absent.Shielding.When = broker.Condition{Attribute: "gradering", NotIn: []string{"", "nei"}}
	if compile(t, absent).Shields([]string{"0301", ""}) {
		t.Error("shielded although the condition excepts the empty value")
	}
	if compile(t, rights("/a")).Shields(nil) {
		t.Error("shielded by a package without shielding")
	}
}

func TestNotAnObject(t *testing.T) {
	p := compile(t, rights(""))
	var doc jsondoc.Doc
	for _, data := range []string{`[{"a":1}]`, `"a"`, `null`, ``} {
		_ = doc.Parse([]byte(data), 10)
		if out, _, err := p.Append([]byte("x"), &doc, nil); err != ErrNotObject || string(out) != "x" {
			t.Errorf("%s: %s, %v", data, out, err)
		}
	}
}

// What a package names is delivered as a value, or the record is not: nothing
// that it does not name leaves within an object that an open schema let in.
func TestOnlyValues(t *testing.T) {
	plain := compile(t, rights("/a", "/b/c"))
	p := plain.OnlyValues()
	for _, c := range []struct {
		data string
		ok   bool
	}{
		{`{"a":1,"b":{"c":"x"}}`, true},
		{`{"a":[1,"x",null],"b":[{"c":1},{"c":2}]}`, true},
		{`{"a":[[1],[]],"secret":{"x":1}}`, true},
		{`{"b":{"d":{"x":1}}}`, true}, // beside the field
		{`{"a":{"new":1}}`, false},
		{`{"a":{}}`, false},
		{`{"a":[1,{"new":1}]}`, false},
		{`{"a":[[{"new":1}]]}`, false},
		{`{"b":[{"c":1},{"c":{"new":1}}]}`, false},
	} {
		var doc jsondoc.Doc
		if err := doc.Parse([]byte(c.data), 64); err != nil {
			t.Fatal(err)
		}
		want, _, err := plain.Append(nil, &doc, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := p.Append([]byte("x"), &doc, nil)
		switch {
		case c.ok && (err != nil || string(got) != "x"+string(want)):
			t.Errorf("%s: %s, %v; want %s", c.data, got, err, want)
		case !c.ok && (err != ErrObject || string(got) != "x"):
			t.Errorf("%s: %s, %v; want it refused and dst as it was", c.data, got, err)
		}
	}
	var doc jsondoc.Doc
	if err := doc.Parse([]byte(`{"a":1}`), 64); err != nil {
		t.Fatal(err)
	}
	if _, _, err := compile(t, rights("")).OnlyValues().Append(nil, &doc, nil); err != ErrObject {
		t.Errorf("a package of everything: %v", err)
	}
}

func TestFields(t *testing.T) {
	p := compile(t, protected(rights("/a/b", "/c", "/a", "/ab", "/c"), false, "/c", "/a/x"))
	if got := p.Fields(false); !slices.Equal(got, []broker.Pointer{"/c", "/a", "/ab"}) {
		t.Errorf("open: %q", got)
	}
	if got := p.Fields(true); !slices.Equal(got, []broker.Pointer{"/skjermet", "/a", "/ab"}) {
		t.Errorf("shielded: %q", got)
	}
	if got := compile(t, protected(rights("/a"), true)).Fields(true); !slices.Equal(got, []broker.Pointer{"/skjermet"}) {
		t.Errorf("body: %q", got)
	}
}

func TestCompileRefuses(t *testing.T) {
	other := rights("/a")
	other.Dataset = "annet"
	unknown := protected(rights("/a"), true)
	unknown.Shielding.When.Attribute = "finnesikke"
	empty := protected(rights("/a"), true)
	empty.Shielding.When.In = nil
	for want, p := range map[string]*broker.RightsPackage{
		`it is for dataset "annet"`:         other,
		`want it to begin with '/'`:         rights("a"),
		`'~' is written ~0`:                 protected(rights("/a"), false, "/~2"),
		`the broker's own`:                  rights("/skjermet/x"),
		`shielding removes nothing`:         protected(rights("/a"), false),
		`does not declare`:                  unknown,
		`the condition on "gradering"`:      empty,
		`rights package p version 1: field`: rights("//~"),
	} {
		if _, err := Compile(p, &dataset); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %s, got %v", want, err)
		}
	}
}

// The oracle projects with encoding/json's maps and one rule on paths.

type oracle struct{ fields, remove [][]string }

func (o oracle) covers(set [][]string, path []string) bool {
	return slices.ContainsFunc(set, func(f []string) bool { return len(f) <= len(path) && slices.Equal(f, path[:len(f)]) })
}

func (o oracle) below(set [][]string, path []string) bool {
	return slices.ContainsFunc(set, func(f []string) bool { return len(f) > len(path) && slices.Equal(f[:len(path)], path) })
}

func (o oracle) value(raw json.RawMessage, path []string) (string, bool) {
	kept := o.covers(o.fields, path)
	switch {
	case o.covers(o.remove, path), !kept && !o.below(o.fields, path):
		return "", false
	case kept && !o.below(o.remove, path):
		return string(raw), true
	}
	var parts []string
	open := raw[:1]
	switch string(open) {
	case "{":
		names, values := ordered(raw)
		if !kept {
			var order []string
			for _, f := range o.fields {
				if o.below([][]string{f}, path) {
					order = append(order, f[len(path)])
				}
			}
			slices.SortStableFunc(names, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
		}
		for _, name := range names {
			if v, ok := o.value(values[name], append(slices.Clone(path), name)); ok {
				parts = append(parts, quote(name)+":"+v)
			}
		}
	case "[":
		var elements []json.RawMessage
		if err := json.Unmarshal(raw, &elements); err != nil {
			panic(err)
		}
		for _, e := range elements {
			if v, ok := o.value(e, path); ok {
				parts = append(parts, v)
			}
		}
	default:
		return string(raw), kept
	}
	if len(parts) == 0 && !kept {
		return "", false
	}
	return string(open) + strings.Join(parts, ",") + map[string]string{"{": "}", "[": "]"}[string(open)], true
}

func (o oracle) project(raw string, shielded, body bool) string {
	o.remove = append([][]string{{Mark}}, o.remove...)
	inner, _ := o.value(json.RawMessage(strings.TrimSpace(raw)), nil)
	inner = strings.TrimSuffix(strings.TrimPrefix(inner, "{"), "}")
	switch {
	case !shielded:
		return "{" + inner + "}"
	case body || inner == "":
		return `{"skjermet":true}`
	}
	return `{"skjermet":true,` + inner + "}"
}

func ordered(raw json.RawMessage) (names []string, values map[string]json.RawMessage) {
	values = map[string]json.RawMessage{}
	dec := json.NewDecoder(bytes.NewReader(raw))
	_, _ = dec.Token()
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			panic(err)
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			panic(err)
		}
		names = append(names, name.(string))
		values[name.(string)] = v
	}
	return names, values
}

// quote writes a name by encoding/json, rune by rune, since that would write
// two of them with escapes that JSON does not ask for.
func quote(name string) string {
	out := `"`
	for _, r := range name {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(string(r))
		if r == 0x2028 || r == 0x2029 {
			out += string(r)
		} else {
			out += strings.TrimSuffix(strings.TrimPrefix(b.String(), `"`), "\"\n")
		}
	}
	return out + `"`
}

// twins draws two records that are the same inside a package and differ
// outside it: in values, in what is there at all, in the order of members on
// the way, in spelling and in white space.
type twins struct {
	t *rapid.T
	o oracle
}

var pool = []string{"a", "b", "ab", "æ", "", `q"\`, "\n\x01", "skjermet"}

func (g twins) pick(n int) int { return rapid.IntRange(0, n-1).Draw(g.t, "pick") }

func (g twins) space() string {
	return rapid.SampledFrom([]string{"", "", " ", "\n  ", "\t"}).Draw(g.t, "space")
}

func (g twins) spell(name string) string {
	if g.pick(3) == 0 {
		var b strings.Builder
		for _, r := range name {
			b.WriteString(`\u` + string("0123456789abcdef"[r>>12&15]) + string("0123456789ABCDEF"[r>>8&15]) + string("0123456789abcdef"[r>>4&15]) + string("0123456789abcdef"[r&15]))
		}
		return `"` + b.String() + `"`
	}
	return quote(name)
}

// any draws a value with anything in it.
func (g twins) any(depth int) string {
	switch k := g.pick(7); {
	case k == 0 && depth > 0:
		var members []string
		for _, name := range pool {
			if g.pick(4) == 0 {
				members = append(members, g.space()+g.spell(name)+g.space()+":"+g.space()+g.any(depth-1))
			}
		}
		return "{" + strings.Join(members, ",") + g.space() + "}"
	case k == 1 && depth > 0:
		var elements []string
		for range g.pick(3) {
			elements = append(elements, g.space()+g.any(depth-1))
		}
		return "[" + strings.Join(elements, ",") + g.space() + "]"
	}
	return rapid.SampledFrom([]string{"1", "-1.50E+3", `"tekst"`, `"\u00e6\/"`, "true", "null", `""`, "{}", "[]", "1e-7"}).Draw(g.t, "scalar")
}

type pair struct{ a, b string }

// value draws what the two have at a path. inside is false when nothing of it
// may show, so that it may as well be missing in one of them.
func (g twins) value(path []string, depth int) (v pair, inside bool) {
	kept := g.o.covers(g.o.fields, path)
	switch {
	case len(path) == 0: // a record is an object
	case g.o.covers(g.o.remove, path), !kept && !g.o.below(g.o.fields, path):
		return pair{g.any(depth), g.any(depth)}, false
	case kept && !g.o.below(g.o.remove, path):
		same := g.any(depth)
		return pair{same, same}, true
	}
	k := g.pick(4)
	if depth == 0 {
		k = 3
	}
	if len(path) == 0 {
		k = 0
	}
	switch k {
	case 0, 1:
		var a, b []string
		for _, name := range pool {
			child, in := g.value(append(slices.Clone(path), name), depth-1)
			inside = inside || in
			present := g.pick(2) == 0
			if in && !present {
				continue
			}
			if in || g.pick(2) == 0 {
				a = append(a, g.space()+g.spell(name)+g.space()+":"+child.a+g.space())
			}
			if in || g.pick(2) == 0 {
				b = append(b, g.space()+g.spell(name)+g.space()+":"+child.b+g.space())
			}
		}
		if !kept { // on the way the order of members is nobody's business
			a, b = rapid.Permutation(a).Draw(g.t, "order"), rapid.Permutation(b).Draw(g.t, "order")
		}
		return pair{"{" + strings.Join(a, ",") + "}", "{" + strings.Join(b, ",") + "}"}, inside || kept
	case 2:
		var a, b []string
		for range g.pick(4) {
			child, in := g.value(path, depth-1)
			inside = inside || in
			if in || g.pick(2) == 0 {
				a = append(a, child.a)
			}
			if in || g.pick(2) == 0 {
				b = append(b, child.b)
			}
		}
		return pair{"[" + strings.Join(a, ", ") + "]", "[" + strings.Join(b, ",") + "]"}, inside || kept
	}
	scalar := func() string {
		return rapid.SampledFrom([]string{"1", "2", `"x"`, "null", "false"}).Draw(g.t, "scalar")
	}
	if kept {
		same := scalar()
		return pair{same, same}, true
	}
	return pair{scalar(), scalar()}, false
}

func drawPaths(t *rapid.T, label string, least int) [][]string {
	var out [][]string
	for range rapid.IntRange(least, 5).Draw(t, label) {
		path := rapid.SliceOfN(rapid.SampledFrom(pool), least, 3).Draw(t, "path")
		if len(path) == 0 || path[0] != Mark {
			out = append(out, path)
		}
	}
	return out
}

func pointer(path []string) broker.Pointer {
	var b strings.Builder
	for _, name := range path {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
	}
	return broker.Pointer(b.String())
}

func drawProjection(t *rapid.T) (p *Projection, o oracle, protection string) {
	o.fields = drawPaths(t, "fields", 0)
	pack := rights()
	for _, f := range o.fields {
		pack.Fields = append(pack.Fields, pointer(f))
	}
	protection = "nei"
	if rapid.Bool().Draw(t, "shielded") {
		protection = "ja"
		o.remove = drawPaths(t, "remove", 1)
		remove := []broker.Pointer{"/finnes-ikke"}
		for _, f := range o.remove {
			remove = append(remove, pointer(f))
		}
		pack = protected(pack, false, remove...)
	}
	return compile(t, pack), o, protection
}

// TestOnlyTheAllowed holds the projection to the oracle, byte for byte, to
// valid JSON, and to doing nothing the second time.
func TestOnlyTheAllowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, o, protection := drawProjection(t)
		record, _ := twins{t, o}.value(nil, 4)
		out := project(t, p, record.a, protection)
		if want := o.project(record.a, protection == "ja", false); out != want {
			t.Fatalf("fields %q, removed %q\nfrom %s\n got %s\nwant %s", o.fields, o.remove, record.a, out, want)
		}
		if again := project(t, p, out, protection); again != out {
			t.Fatalf("projected again %s\n     from %s", again, out)
		}
	})
}

// TestWhatIsOutsideDoesNotShow: records that differ only outside the package
// give the same bytes.
func TestWhatIsOutsideDoesNotShow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, o, protection := drawProjection(t)
		o.remove = append(o.remove, []string{Mark})
		record, _ := twins{t, o}.value(nil, 4)
		a, b := project(t, p, record.a, protection), project(t, p, record.b, protection)
		if a != b {
			t.Fatalf("fields %q, removed %q\nfrom %s\n and %s\n got %s\n and %s", o.fields, o.remove, record.a, record.b, a, b)
		}
	})
}

// FuzzAppend compares with the oracle on any bytes that are a JSON object.
func FuzzAppend(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":1,"x":2},[],{"a":{}}],"\u0062":{"skjermet":1},"skjermet":true}`), "/a/b /b", "/b/skjermet")
	f.Add([]byte(`{"\u2028\u007f":1,"a":{"x\u2029":2020}}`), "/a", "/a/b")
	f.Add([]byte(` {"a" : { "b" : [ {"c":1 } ] } } `), "/a", "/a/b/c")
	f.Fuzz(func(t *testing.T, data []byte, fields, remove string) {
		var doc jsondoc.Doc
		if doc.Parse(data, 100) != nil || doc.Node(0).Kind != jsondoc.Object {
			return
		}
		var o oracle
		pack := protected(rights(), false, "/finnes-ikke")
		for _, f := range strings.Fields(fields) {
			tokens, err := broker.Pointer(f).Tokens()
			if err != nil || tokens[0] == Mark {
				return
			}
			o.fields, pack.Fields = append(o.fields, tokens), append(pack.Fields, broker.Pointer(f))
		}
		for _, f := range strings.Fields(remove) {
			tokens, err := broker.Pointer(f).Tokens()
			if err != nil {
				return
			}
			o.remove, pack.Shielding.Remove = append(o.remove, tokens), append(pack.Shielding.Remove, broker.Pointer(f))
		}
		p := compile(t, pack)
		if got, want := project(t, p, string(data), "ja"), o.project(string(data), true, false); got != want {
			t.Fatalf("\n got %s\nwant %s", got, want)
		}
		o.remove = nil
		if got, want := project(t, p, string(data), "nei"), o.project(string(data), false, false); got != want {
			t.Fatalf("\n got %s\nwant %s", got, want)
		}
	})
}
