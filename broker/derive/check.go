package derive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// jsonText is JSON as it was declared.
type jsonText = json.RawMessage

// mark is the member by which the broker says that it shielded a record: no answer
// may stand there.
const mark broker.Pointer = "/skjermet"

// Check is all that is wrong with a package's derivations by themselves, and with
// what they give in its tests. The registry takes no package that has a fault, so
// what is asked here is a part of the format, and never gets stricter.
func Check(p *broker.RightsPackage) (faults []Fault) {
	if p.Household != nil {
		return checkHousehold(p)
	}
	if len(p.Derivations) == 0 {
		if len(p.Tests) > 0 {
			faults = append(faults, Fault{"tests", "tests without derivations", "leave them out, or say what is derived"})
		}
		return faults
	}
	if len(p.Derivations) > MaxDerivations {
		return []Fault{{"derivations", fmt.Sprintf("%d derivations", len(p.Derivations)), fmt.Sprintf("want at most %d", MaxDerivations)}}
	}
	s := &Set{}
	for i := range p.Derivations {
		c := compiler{path: fmt.Sprintf("derivations/%d", i)}
		d := &p.Derivations[i]
		s.rules = append(s.rules, c.rule(d))
		for j := range p.Derivations[:i] {
			if p.Derivations[j].Target == d.Target {
				c.fault("/target", fmt.Sprintf("two derivations answer in %s", d.Target), "give each a target of its own")
			}
		}
		for _, f := range p.Fields {
			if d.Target.Covers(f) || f.Covers(d.Target) {
				c.fault("/target", fmt.Sprintf("the answer would stand in %s, where the field %s leaves as it is", d.Target, f), "give the answer another name, or leave the field out")
			}
		}
		if d.Target == mark {
			c.fault("/target", string(mark)+" is the broker's own, set when it shields a record", "give the answer another name")
		}
		faults = append(faults, c.faults...)
	}
	if len(p.Tests) == 0 {
		faults = append(faults, Fault{"derivations", "derivations without a test", "say in tests what they give for a record, at the least one each"})
	}
	if len(p.Tests) > MaxTests {
		faults = append(faults, Fault{"tests", fmt.Sprintf("%d tests", len(p.Tests)), fmt.Sprintf("want at most %d", MaxTests)})
	}
	if len(faults) > 0 {
		return faults
	}
	for i := range p.Tests {
		t := &p.Tests[i]
		if what, remedy := s.test(t); what != "" {
			faults = append(faults, Fault{fmt.Sprintf("tests/%d", i), fmt.Sprintf("test %q: %s", t.Name, what), remedy})
		}
	}
	return faults
}

// Refuse is the first fault of a package in words, or "".
func Refuse(p *broker.RightsPackage) string {
	if faults := Check(p); len(faults) > 0 {
		return faults[0].err().Error()
	}
	return ""
}

// test runs one test, and says what is wrong.
func (s *Set) test(t *broker.DerivationTest) (what, remedy string) {
	var record jsondoc.Doc
	switch {
	case t.Name == "":
		return "it has no name", "say in words what it shows"
	case len(t.Want) > 0 == (t.Fails != ""):
		return "it says both want and fails, or neither", "say want, an object of all answers; or fails, the target that nothing can be answered for"
	case record.Parse(t.Record, maxDepth) != nil || record.Node(0).Kind != jsondoc.Object:
		return "the record is not a JSON object", ""
	}
	got, err := s.Append([]byte{'{'}, &record)
	if err == nil {
		got = append(got, '}')
	}
	return held(got, err, t.Want, t.Fails)
}

// sameMembers compares two objects of texts, truth values and whole numbers.
func sameMembers(a, b *jsondoc.Doc) bool {
	members := 0
	for i := 1; i < a.Len(); i++ {
		j := b.Find(0, string(a.Name(i)))
		if j < 0 || a.Node(i).Kind != b.Node(j).Kind {
			return false
		}
		if text, ok := a.Text(i, nil); ok {
			if other, _ := b.Text(j, nil); !bytes.Equal(text, other) {
				return false
			}
		} else if !bytes.Equal(a.Bytes(i), b.Bytes(j)) {
			return false
		}
		members++
	}
	return b.Len() == members+1
}

// Unshown are the answers that a derivation can give and that no test shows: each
// band, and both yes and no. That a lawyer has seen each is asked of whoever applies
// a package, and is no part of the format.
func Unshown(p *broker.RightsPackage) (faults []Fault) {
	wants := make([]jsonText, len(p.Tests))
	for i := range p.Tests {
		wants[i] = p.Tests[i].Want
	}
	if h := p.Household; h != nil {
		wants = nil
		for i := range h.Tests {
			wants = append(wants, h.Tests[i].Want)
		}
		return append(unshown("household/answers", h.Answers, wants), neverSo(h)...)
	}
	return unshown("derivations", p.Derivations, wants)
}

func unshown(path string, ds []broker.Derivation, wants []jsonText) (faults []Fault) {
	for i := range ds {
		d := &ds[i]
		path := fmt.Sprintf("%s/%d", path, i)
		name, _ := nameOf(d.Target)
		var answers []string
		switch {
		case len(d.Bands) > 0:
			for _, b := range d.Bands {
				answers = append(answers, string(quoted(nil, b.Name)))
			}
		case d.Below+d.AtMost+d.AtLeast+d.Above != "":
			answers = []string{"true", "false"}
		}
		shown := map[string]bool{}
		for _, w := range wants {
			var want jsondoc.Doc
			if want.Parse(w, maxDepth) != nil {
				continue
			}
			if at := want.Find(0, name); at >= 0 {
				answer := string(want.Bytes(at))
				if text, ok := want.Text(at, nil); ok {
					answer = string(quoted(nil, text))
				}
				shown[answer] = true
			}
		}
		if len(answers) == 0 && len(shown) == 0 {
			faults = append(faults, Fault{path, fmt.Sprintf("no test shows an answer in %s", d.Target), "add a test with want"})
		}
		if missing := slices.DeleteFunc(answers, func(a string) bool { return shown[a] }); len(missing) > 0 {
			faults = append(faults, Fault{path, fmt.Sprintf("no test shows that %s can be %s", d.Target, strings.Join(missing, ", ")), "add a record for each answer to tests"})
		}
	}
	return faults
}
