package derive

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// Household is a rule across several subjects, compiled. It is read-only and may be
// shared.
type Household struct {
	least, most int
	skips       bool // a subject without a record
	each        *Set
	answers     *Set
}

// CompileHousehold prepares one. The error is the first of what [Check] finds in it,
// without its tests.
func CompileHousehold(h *broker.Household) (*Household, error) {
	out, faults := household(h)
	if len(faults) > 0 {
		return nil, faults[0].err()
	}
	return out, nil
}

// Part appends what is worked out of one subject's record, as an object. It is for
// Together, and leaves in no other way.
func (h *Household) Part(dst []byte, record *jsondoc.Doc) ([]byte, error) {
	out, err := h.each.Append(append(dst, '{'), record)
	if err != nil {
		return dst, err
	}
	return append(out, '}'), nil
}

// Together appends the answers on subjects, as an object, from their parts; nil is the
// part of a subject without a record, and there is no answer where none has one. The
// of the subjects does not show in it.
func (h *Household) Together(dst []byte, parts [][]byte) ([]byte, error) {
	if len(parts) < h.least || len(parts) > h.most {
		return dst, &Error{h.answers.rules[0].target, HowMany}
	}
	rows, with := []byte{'['}, 0
	for _, p := range parts {
		switch {
		case p != nil:
			rows = append(append(rows, p...), ',')
			with++
		case !h.skips:
			return dst, &Error{h.answers.rules[0].target, NoRecord}
		}
	}
	if with == 0 { // an answer on nothing says that something is known
		return dst, &Error{h.answers.rules[0].target, NoRecord}
	}
	if h.least > 1 && with < h.least { // or one's own value would stand for the answer of several
		return dst, &Error{h.answers.rules[0].target, HowMany}
	}
	rows = append(bytes.TrimSuffix(rows, []byte{','}), ']')
	var doc jsondoc.Doc
	if err := doc.Parse(rows, maxDepth); err != nil {
		return dst, &Error{h.answers.rules[0].target, WrongType}
	}
	out, err := h.answers.Append(append(dst, '{'), &doc)
	clear(rows)
	if err != nil {
		return dst, err
	}
	return append(out, '}'), nil
}

// Skips reports whether a subject without a record is left out of the answer.
func (h *Household) Skips() bool { return h.skips }

// Targets are where the answers stand, in order.
func (h *Household) Targets() []broker.Pointer { return h.answers.Targets() }

// household compiles a rule, and says all that is wrong with it.
func household(h *broker.Household) (*Household, []Fault) {
	var faults []Fault
	fault := func(path, what, remedy string) {
		faults = append(faults, Fault{"household" + path, what, remedy})
	}
	if h.V != Version {
		fault("/v", fmt.Sprintf("v is %d", h.V), fmt.Sprintf("this program knows version %d of rules across subjects", Version))
	}
	if h.Most < 1 || h.Most > broker.MaxHousehold {
		fault("/most", fmt.Sprintf("most is %d", h.Most), fmt.Sprintf("say how many subjects may be asked about at once: 1 to %d", broker.MaxHousehold))
	}
	if h.Least < 0 || h.Least > h.Most {
		fault("/least", fmt.Sprintf("least is %d", h.Least), "want 1 to most, or leave it out: then it is 1")
	}
	if h.Missing != broker.AbsentFails && h.Missing != broker.AbsentSkips {
		fault("/missing", fmt.Sprintf("missing is %q", string(h.Missing)), "want skip (a subject without a record does not count), or leave it out: then there is no answer")
	}
	set := func(name string, ds []broker.Derivation, others []broker.Derivation) *Set {
		if len(ds) < 1 || len(ds) > MaxDerivations {
			fault("/"+name, fmt.Sprintf("%d derivations", len(ds)), fmt.Sprintf("want 1 to %d", MaxDerivations))
			ds = ds[:min(len(ds), MaxDerivations)]
		}
		s := &Set{}
		for i := range ds {
			d := &ds[i]
			c := compiler{path: fmt.Sprintf("household/%s/%d", name, i)}
			s.rules = append(s.rules, c.rule(d))
			same := func(o broker.Derivation) bool { return o.Target == d.Target }
			if slices.ContainsFunc(ds[:i], same) || slices.ContainsFunc(others, same) {
				c.fault("/target", fmt.Sprintf("two derivations answer in %s", d.Target), "give each a target of its own, in each and in answers")
			}
			if d.Target == mark {
				c.fault("/target", string(mark)+" is the broker's own, set when it shields a record", "give the answer another name")
			}
			faults = append(faults, c.faults...)
		}
		return s
	}
	out := &Household{least: h.AtLeast(), most: h.Most, skips: h.Missing == broker.AbsentSkips}
	out.each = set("each", h.Each, nil)
	out.answers = set("answers", h.Answers, h.Each)
	for i := range h.Answers {
		d := &h.Answers[i]
		path := fmt.Sprintf("/answers/%d", i)
		if d.Rows != "" {
			fault(path+"/rows", fmt.Sprintf("rows is %q", string(d.Rows)), "leave it out: each subject is a row")
		}
		for _, in := range Inputs(d) {
			if in == "" && d.Op == broker.Count {
				continue // it counts subjects
			}
			if !slices.ContainsFunc(h.Each, func(e broker.Derivation) bool { return e.Target == in }) {
				fault(path, fmt.Sprintf("it reads %q, which is no target in each", string(in)), "name a target in each: nothing else is known of a subject here")
			}
		}
		if limited := len(d.Bands) > 0 || d.Below+d.AtMost+d.AtLeast+d.Above != ""; !limited {
			switch d.Op {
			case broker.Min, broker.Max, broker.Latest:
				fault(path+"/op", fmt.Sprintf("op %s without a limit or bands answers with one subject's own value", d.Op), "give below, atMost, atLeast, above or bands")
			default:
				if h.AtLeast() < 2 {
					fault(path, "of one subject alone it answers with that subject's own value", "give below, atMost, atLeast, above or bands; or least: 2")
				}
			}
		}
	}
	return out, faults
}

// checkHousehold is what [Check] says of a package with a rule across subjects.
func checkHousehold(p *broker.RightsPackage) (faults []Fault) {
	h, faults := household(p.Household)
	if len(p.Fields)+len(p.Derivations)+len(p.Tests) > 0 {
		faults = append(faults, Fault{"household", "a package with a rule across subjects has fields, derivations or tests as well", "leave them out: what is worked out of one record stands in household/each, and nothing else may leave; or make two packages"})
	}
	if n := len(p.Household.Tests); n == 0 || n > MaxTests {
		faults = append(faults, Fault{"household/tests", fmt.Sprintf("%d tests", n), fmt.Sprintf("say in tests what is answered on some records together: 1 to %d", MaxTests)})
	}
	if len(faults) > 0 {
		return faults
	}
	for i := range p.Household.Tests {
		t := &p.Household.Tests[i]
		if what, remedy := h.test(t); what != "" {
			faults = append(faults, Fault{fmt.Sprintf("household/tests/%d", i), fmt.Sprintf("test %q: %s", t.Name, what), remedy})
		}
	}
	return faults
}

// test runs one test, and says what is wrong.
func (h *Household) test(t *broker.HouseholdTest) (what, remedy string) {
	switch {
	case t.Name == "":
		return "it has no name", "say in words what it shows"
	case len(t.Want) > 0 == (t.Fails != ""):
		return "it says both want and fails, or neither", "say want, an object of all answers; or fails, the target that nothing can be answered for"
	}
	got, what := h.ofRecords(t.Records)
	if what != "" {
		return what, ""
	}
	return held(got.answers, got.err, t.Want, t.Fails)
}

type attempt struct {
	answers []byte
	err     error
}

func (h *Household) ofRecords(records []jsonText) (a attempt, fault string) {
	parts := make([][]byte, len(records))
	for i, text := range records {
		var record jsondoc.Doc
		switch err := record.Parse(text, maxDepth); {
		case err == nil && record.Node(0).Kind == jsondoc.Null:
			continue
		case err != nil || record.Node(0).Kind != jsondoc.Object:
			return a, fmt.Sprintf("record %d is neither a JSON object nor null", i+1)
		}
		if parts[i], a.err = h.Part(nil, &record); a.err != nil {
			return a, ""
		}
	}
	a.answers, a.err = h.Together(nil, parts)
	return a, ""
}

// held compares what came of a test's records with what was wanted.
func held(got []byte, err error, wanted jsonText, fails broker.Pointer) (what, remedy string) {
	if failed := (*Error)(nil); errors.As(err, &failed) {
		if fails == failed.Target {
			return "", ""
		}
		return err.Error(), "correct the rule, or the record; or say fails: " + string(failed.Target)
	}
	if fails != "" {
		return fmt.Sprintf("nothing fails, and the answers are %s", got), "correct the rule, or say want"
	}
	var have, want jsondoc.Doc
	if have.Parse(got, maxDepth) != nil || want.Parse(wanted, maxDepth) != nil || want.Node(0).Kind != jsondoc.Object {
		return "want is not an object of the answers", "write it as {inntektsbaand: lav}"
	}
	if !sameMembers(&have, &want) {
		return fmt.Sprintf("the answers are %s, and not %s", got, wanted), "correct the rule, or what is wanted"
	}
	return "", ""
}

// neverSo are conditions of answers on what a value in each can never be. That is
// asked of whoever applies a package, and is no part of the format.
func neverSo(h *broker.Household) (faults []Fault) {
	for i := range h.Answers {
		for j := range h.Answers[i].Where {
			w := &h.Answers[i].Where[j]
			at := slices.IndexFunc(h.Each, func(e broker.Derivation) bool { return e.Target == w.Field })
			kind, names := Answer(&h.Each[at])
			if kind == "boolean" {
				names = []string{"true", "false"}
			}
			for _, text := range slices.Concat(w.In, w.NotIn) {
				if len(names) > 0 && !slices.Contains(names, text) {
					faults = append(faults, Fault{fmt.Sprintf("household/answers/%d/where/%d", i, j), fmt.Sprintf("%s is never %q", w.Field, text), "correct the value: a condition that nothing fulfils would answer wrongly"})
				}
			}
		}
	}
	return faults
}
