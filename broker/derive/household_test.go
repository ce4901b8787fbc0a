package derive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

func jsonTexts(s ...string) (out []json.RawMessage) {
	for _, t := range s {
		out = append(out, json.RawMessage(t))
	}
	return out
}

// together is a household whose income is to be below a limit.
func together() *broker.RightsPackage {
	return &broker.RightsPackage{ID: "husholdning", Version: 1, Dataset: "inntekt", Fields: []broker.Pointer{},
		Household: &broker.Household{V: 1, Most: 4, Missing: broker.AbsentSkips,
			Each: []broker.Derivation{
				{V: 1, Target: "/inntekt", Title: "Lønn", Rows: "/inntekter", Op: broker.Sum, Value: "/beloep", Empty: "0"},
				{V: 1, Target: "/iArbeid", Title: "Har lønn", Rows: "/inntekter", Op: broker.Count, AtLeast: "1"},
			},
			Answers: []broker.Derivation{
				{V: 1, Target: "/underGrensen", Title: "Samlet under grensen", Op: broker.Sum, Value: "/inntekt", Below: "650000"},
				{V: 1, Target: "/flereILoenn", Title: "Minst to med lønn", Op: broker.Count, Where: []broker.RowCondition{{Field: "/iArbeid", In: []string{"true"}}}, AtLeast: "2"},
			},
			Tests: []broker.HouseholdTest{
				{Name: "like under", Records: jsonTexts(`{"inntekter":[{"beloep":649999.98}]}`, `{"inntekter":[{"beloep":"0.01"}]}`), Want: []byte(`{"underGrensen":true,"flereILoenn":true}`)},
				{Name: "på grensen", Records: jsonTexts(`{"inntekter":[{"beloep":649999.99}]}`, `null`, `{"inntekter":[{"beloep":"0.01"}]}`), Want: []byte(`{"underGrensen":false,"flereILoenn":true}`)},
				{Name: "én", Records: jsonTexts(`{}`), Want: []byte(`{"underGrensen":true,"flereILoenn":false}`)},
				{Name: "uten beløp", Records: jsonTexts(`{}`, `{"inntekter":[{}]}`), Fails: "/inntekt"},
				{Name: "ingen kjent", Records: jsonTexts(`null`, `null`), Fails: "/underGrensen"},
			}}}
}

func TestHousehold(t *testing.T) {
	p := together()
	if f := append(Check(p), Unshown(p)...); len(f) > 0 {
		t.Fatal(f)
	}
	inputs, rule := OfHousehold(p.Household, &p.Household.Answers[0])
	if want := "sum(/inntekt) < 650000; ∀: /inntekt = sum(/inntekter/beloep); none: 0"; rule != want || !slices.Equal(inputs, []broker.Pointer{"/inntekter/beloep"}) {
		t.Errorf("%s, of %v", rule, inputs)
	}
	if got := p.Leaving(); !slices.Equal(got, []broker.Pointer{"/underGrensen", "/flereILoenn"}) {
		t.Error(got)
	}
	q := together()
	q.Household.Each[0].Title, q.Household.Tests = "x", nil
	if !p.Derives(q) {
		t.Error("titles and tests are no part of the rule")
	}
	if q.Household.Each[0].Empty = "1"; p.Derives(q) || q.Derives(p) {
		t.Error("another rule was taken for the same")
	}
	if q.Household = nil; p.Derives(q) || q.Derives(p) {
		t.Error("none was taken for one")
	}
}

// TestHouseholdFaults: each thing that a rule can get wrong is refused, and where.
func TestHouseholdFaults(t *testing.T) {
	for want, spoil := range map[string]func(p *broker.RightsPackage, h *broker.Household){
		"household/v: v is 2":                                        func(_ *broker.RightsPackage, h *broker.Household) { h.V = 2 },
		"household/most: most is 0":                                  func(_ *broker.RightsPackage, h *broker.Household) { h.Most = 0 },
		"household/most: most is 21":                                 func(_ *broker.RightsPackage, h *broker.Household) { h.Most = 21 },
		"household/least: least is 5":                                func(_ *broker.RightsPackage, h *broker.Household) { h.Least = 5 },
		"household/least: least is -1":                               func(_ *broker.RightsPackage, h *broker.Household) { h.Least = -1 },
		"household/missing: missing is \"hold\"":                     func(_ *broker.RightsPackage, h *broker.Household) { h.Missing = broker.AbsentHolds },
		"household/each: 0 derivations":                              func(_ *broker.RightsPackage, h *broker.Household) { h.Each = nil },
		"household/answers: 0 derivations":                           func(_ *broker.RightsPackage, h *broker.Household) { h.Answers = nil },
		"household/each/0/title":                                     func(_ *broker.RightsPackage, h *broker.Household) { h.Each[0].Title = "" },
		"household/answers/0/target: two derivations answer in /inn": func(_ *broker.RightsPackage, h *broker.Household) { h.Answers[0].Target = "/inntekt" },
		"household/answers/1/target: two derivations answer in /und": func(_ *broker.RightsPackage, h *broker.Household) { h.Answers[1].Target = "/underGrensen" },
		"household/answers/0/target: /skjermet":                      func(_ *broker.RightsPackage, h *broker.Household) { h.Answers[0].Target = "/skjermet" },
		"household/answers/0/rows":                                   func(_ *broker.RightsPackage, h *broker.Household) { h.Answers[0].Rows = "/inntekt" },
		"household/answers/0: it reads \"/beloep\"":                  func(_ *broker.RightsPackage, h *broker.Household) { h.Answers[0].Value = "/beloep" },
		"household/answers/1: it reads \"/x\"":                       func(_ *broker.RightsPackage, h *broker.Household) { h.Answers[1].Where[0].Field = "/x" },
		"household/answers/0: of one subject alone":                  func(_ *broker.RightsPackage, h *broker.Household) { h.Answers[0].Below = "" },
		"household/answers/0/op: op max": func(_ *broker.RightsPackage, h *broker.Household) {
			h.Least, h.Answers[0].Op, h.Answers[0].Below = 2, broker.Max, ""
		},
		"household: a package with a rule across subjects has fields": func(p *broker.RightsPackage, _ *broker.Household) { p.Fields = []broker.Pointer{"/p"} },
		"household/tests: 0 tests":                                    func(_ *broker.RightsPackage, h *broker.Household) { h.Tests = nil },
		"household/tests/0: test \"\": it has no name":                func(_ *broker.RightsPackage, h *broker.Household) { h.Tests[0].Name = "" },
		"record 2 is neither":                                         func(_ *broker.RightsPackage, h *broker.Household) { h.Tests[0].Records[1] = []byte("1") },
		"it says both want and fails, or neither":                     func(_ *broker.RightsPackage, h *broker.Household) { h.Tests[0].Fails = "/inntekt" },
		"the answers are {\"underGrensen\":true,\"flereILoenn\":true}": func(_ *broker.RightsPackage, h *broker.Household) {
			h.Tests[0].Want = []byte(`{"underGrensen":false,"flereILoenn":true}`)
		},
		"nothing fails":        func(_ *broker.RightsPackage, h *broker.Household) { h.Tests[3].Records = jsonTexts(`{}`) },
		"say fails: /inntekt":  func(_ *broker.RightsPackage, h *broker.Household) { h.Tests[3].Fails = "/underGrensen" },
		"a subject has no rec": func(_ *broker.RightsPackage, h *broker.Household) { h.Missing = broker.AbsentFails },
		"fewer subjects":       func(_ *broker.RightsPackage, h *broker.Household) { h.Least = 2 },
	} {
		p := together()
		spoil(p, p.Household)
		if !slices.ContainsFunc(Check(p), func(f Fault) bool { return strings.Contains(f.err().Error(), want) }) {
			t.Errorf("want %s\nhave %v", want, Check(p))
		}
	}
	for want, spoil := range map[string]func(h *broker.Household){
		"/flereILoenn can be true":  func(h *broker.Household) { h.Tests = h.Tests[2:] },
		"/iArbeid is never \"ja\"":  func(h *broker.Household) { h.Answers[1].Where[0].In = []string{"ja"} },
		"/underGrensen can be fals": func(h *broker.Household) { h.Tests = slices.Delete(h.Tests, 1, 2) },
	} {
		p := together()
		spoil(p.Household)
		if !slices.ContainsFunc(Unshown(p), func(f Fault) bool { return strings.Contains(f.err().Error(), want) }) {
			t.Errorf("want %s\nhave %v", want, Unshown(p))
		}
	}
}

// TestHouseholdOracle holds answers to sums in whole hundredths, whoever is named
// first, and shows nothing of anybody: the same sum gives the same bytes.
func TestHouseholdOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := together().Household
		p.Least = rapid.IntRange(0, 4).Draw(t, "least")
		if !rapid.Bool().Draw(t, "skips") {
			p.Missing = broker.AbsentFails
		}
		limit := rapid.Int64Range(0, 10_000).Draw(t, "limit")
		p.Answers[0].Below = fmt.Sprintf("%d.%02d", limit/100, limit%100)
		exact := p.Least > 1 && rapid.Bool().Draw(t, "exact")
		if exact {
			p.Answers[0].Below = ""
		}
		h, err := CompileHousehold(p)
		if err != nil {
			t.Fatal(err)
		}
		n := rapid.IntRange(1, 6).Draw(t, "subjects")
		var parts [][]byte
		var sum int64
		with, working := 0, 0
		for i := range n {
			if rapid.IntRange(0, 4).Draw(t, "missing") == 0 {
				parts = append(parts, nil)
				continue
			}
			with++
			cents := rapid.SliceOfN(rapid.Int64Range(-3000, 5000), 0, 3).Draw(t, fmt.Sprint("cents", i))
			var rows []string
			for _, c := range cents {
				sum += c
				rows = append(rows, fmt.Sprintf(`{"beloep":%s}`, new(big.Rat).SetFrac64(c, 100).FloatString(2)))
			}
			if len(cents) > 0 {
				working++
			}
			var doc jsondoc.Doc
			if err := doc.Parse([]byte(`{"inntekter":[`+strings.Join(rows, ",")+`]}`), 9); err != nil {
				t.Fatal(err)
			}
			part, err := h.Part(nil, &doc)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, part)
		}
		got, err := h.Together([]byte("x"), parts)
		if n > 4 || n < p.AtLeast() || with == 0 || with < n && p.Missing == "" || p.Least > 1 && with < p.Least {
			if failed := (*Error)(nil); !errors.As(err, &failed) || string(got) != "x" {
				t.Fatalf("%s, %v", got, err)
			}
			return
		}
		first := fmt.Sprint(sum < limit)
		if exact {
			text := new(big.Rat).SetFrac64(sum, 100).FloatString(2)
			first = fmt.Sprintf("%q", strings.TrimSuffix(strings.TrimRight(text, "0"), "."))
			if sum == 0 {
				first = `"0"`
			}
		}
		want := fmt.Sprintf(`x{"underGrensen":%s,"flereILoenn":%v}`, first, working >= 2)
		if err != nil || string(got) != want {
			t.Fatalf("%s, %v, want %s", got, err, want)
		}
		slices.Reverse(parts)
		if again, _ := h.Together([]byte("x"), parts); !bytes.Equal(again, got) {
			t.Fatal("the order shows")
		}
	})
}
