package derive

import (
	"fmt"
	"slices"
	"strings"

	"datafordeler/broker"
)

// Inputs are the places in the record that an answer depends on, each once.
func Inputs(d *broker.Derivation) (inputs []broker.Pointer) {
	add := func(p broker.Pointer) {
		for _, have := range inputs {
			if have == p {
				return
			}
		}
		inputs = append(inputs, p)
	}
	if d.Op == broker.Count && len(d.Where) == 0 {
		add(d.Rows)
	}
	if d.Op != broker.Count {
		add(d.Rows + d.Value)
	}
	if d.By != "" {
		add(d.Rows + d.By)
	}
	for i := range d.Where {
		add(d.Rows + d.Where[i].Field)
	}
	return inputs
}

// Touches reports whether an answer depends on something at, above or below p.
func Touches(d *broker.Derivation, p broker.Pointer) bool {
	for _, in := range Inputs(d) {
		if p.Covers(in) || in.Covers(p) || p == "" || in == "" {
			return true
		}
	}
	return false
}

// Rule is a derivation as a formula, the same in every language:
//
//	sum(/inntekt[/fordel in (kontantytelse)]/beloep) < 20000
func Rule(d *broker.Derivation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s(%s", d.Op, d.Rows)
	for i := range d.Where {
		b.WriteString("[" + conditionText(&d.Where[i]) + "]")
	}
	b.WriteString(string(d.Value))
	if d.By != "" {
		b.WriteString(" by " + string(d.By))
	}
	b.WriteString(")")
	for _, l := range []struct{ sign, than string }{{" < ", d.Below}, {" ≤ ", d.AtMost}, {" ≥ ", d.AtLeast}, {" > ", d.Above}} {
		if l.than != "" {
			b.WriteString(l.sign + l.than)
		}
	}
	for i, band := range d.Bands {
		if i == 0 {
			b.WriteString(": ")
		}
		b.WriteString(band.Name)
		if band.Below != "" {
			b.WriteString(" < " + band.Below + " ≤ ")
		}
	}
	if d.Empty != "" {
		b.WriteString("; none: " + d.Empty)
	}
	return b.String()
}

// OfHousehold says of an answer of a rule across subjects what of each subject's record
// it depends on, and how: its own rule, and those of the values that it goes through.
func OfHousehold(h *broker.Household, d *broker.Derivation) (inputs []broker.Pointer, rule string) {
	rule = Rule(d)
	first := true
	for i := range h.Each {
		e := &h.Each[i]
		if len(h.Each) > 1 && !Touches(d, e.Target) && !(d.Op == broker.Count && len(d.Where) == 0) {
			continue
		}
		for _, in := range Inputs(e) {
			if !slices.Contains(inputs, in) {
				inputs = append(inputs, in)
			}
		}
		if first {
			rule += "; ∀:"
			first = false
		}
		rule += " " + string(e.Target) + " = " + Rule(e)
	}
	return inputs, rule
}

// Answer is what an answer is in JSON Schema: its type, and the texts that it may
// be where these are known. Op latest gives what stands there, and has no type.
func Answer(d *broker.Derivation) (kind string, names []string) {
	switch {
	case len(d.Bands) > 0:
		for _, b := range d.Bands {
			names = append(names, b.Name)
		}
		return "string", names
	case d.Below+d.AtMost+d.AtLeast+d.Above != "":
		return "boolean", nil
	case d.Op == broker.Count || d.Op == broker.Distinct:
		return "integer", nil
	case d.Op == broker.Latest:
		return "", nil
	}
	return "string", nil
}

func conditionText(w *broker.RowCondition) string {
	var s []string
	if len(w.In) > 0 {
		s = append(s, fmt.Sprintf("%s in (%s)", w.Field, strings.Join(w.In, ", ")))
	}
	if len(w.NotIn) > 0 {
		s = append(s, fmt.Sprintf("%s not in (%s)", w.Field, strings.Join(w.NotIn, ", ")))
	}
	for _, l := range []struct{ sign, than string }{{"≥", w.AtLeast}, {"<", w.Below}, {"≥", w.From}, {"<", w.Before}} {
		if l.than != "" {
			s = append(s, fmt.Sprintf("%s %s %s", w.Field, l.sign, l.than))
		}
	}
	return strings.Join(s, " and ")
}
