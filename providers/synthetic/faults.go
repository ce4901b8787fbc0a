package synthetic

import (
	"bytes"
	"fmt"
	"time"
)

// Fault is a way in which a provider's record can be wrong. Every one is to be
// rejected, with a reason that its provider can act on, while the stream goes on.
type Fault int

const (
	// MalformedJSON is a payload cut off before its end.
	MalformedJSON Fault = iota
	// NegativeAmount has an amount below the schema's minimum.
	NegativeAmount
	// WrongType has an amount as text.
	WrongType
	// UnknownMember has a member that the schema does not know.
	UnknownMember
	// MissingSubject names nobody.
	MissingSubject
	// TwoSubjects is one record about two persons. The schema allows several
	// entries, so only the rule of one subject a record stops it.
	TwoSubjects
	// UnknownSchemaVersion is a good payload said to follow a version of the
	// schema that nobody has registered.
	UnknownSchemaVersion
	// TooDeep nests a thousand arrays.
	TooDeep
	// DuplicateMember gives the identity number twice, each time another
	// person's: readers differ on which counts, so a schema sees nothing amiss.
	DuplicateMember
	// Giant is larger than Config.GiantBytes.
	Giant
)

// Faults returns all of them, in order.
func Faults() []Fault {
	all := make([]Fault, 0, Giant+1)
	for f := MalformedJSON; f <= Giant; f++ {
		all = append(all, f)
	}
	return all
}

func (f Fault) String() string {
	switch f {
	case MalformedJSON:
		return "malformed JSON"
	case NegativeAmount:
		return "negative amount"
	case WrongType:
		return "wrong type"
	case UnknownMember:
		return "unknown member"
	case MissingSubject:
		return "missing subject"
	case TwoSubjects:
		return "two subjects"
	case UnknownSchemaVersion:
		return "unknown schema version"
	case TooDeep:
		return "nested too deeply"
	case DuplicateMember:
		return "duplicate member"
	case Giant:
		return "giant record"
	}
	return fmt.Sprintf("Fault(%d)", int(f))
}

// deep is how far TooDeep nests; well above any limit that a record needs.
const deep = 1000

// Invalid returns person i's income record with a fault. Its id is its own, so
// that it is refused for the fault and not as a repeat of Income(i).
func (g *Generator) Invalid(kind Fault, i int) Event {
	e := g.Income(nil, i)
	data, subject := e.Data, string(e.Key)
	switch kind {
	case MalformedJSON:
		data = data[:len(data)*3/4]
	case NegativeAmount:
		data = replace(data, `"beloep":`, `"beloep":-`)
	case WrongType:
		amount := bytes.Index(data, []byte(`"beloep":`)) + len(`"beloep":`)
		digits := len(data[amount:]) - len(bytes.TrimLeft(data[amount:], "0123456789"))
		text := string(data[amount : amount+digits])
		data = replace(data, `"beloep":`+text, `"beloep":"`+text+`"`)
	case UnknownMember:
		data = replace(data, `"inntektsmottaker":{`, `"inntektsmottaker":{"fagforening":"Norsk Syntetisk Forbund",`)
	case MissingSubject:
		data = replace(data, `{"personidentifikator":"`+subject+`"}`, `{}`)
		e.Key = nil
	case TwoSubjects:
		other := bytes.TrimPrefix(g.Income(nil, g.neighbour(i)).Data, []byte(`{"oppgaveInntektsmottaker":[`))
		data = append(bytes.TrimSuffix(data, []byte("]}")), ',')
		data = append(data, other...)
	case UnknownSchemaVersion:
		e.DataSchema = IncomeSchema + "999"
	case TooDeep:
		nest := append(bytes.Repeat([]byte{'['}, deep), bytes.Repeat([]byte{']'}, deep)...)
		data = replace(data, `"inntekt":[`, `"inntekt":[`+string(nest)+`,`)
	case DuplicateMember:
		other := g.person(g.neighbour(i)).id
		data = replace(data, `"personidentifikator":"`, `"personidentifikator":"`+string(other[:])+`","personidentifikator":"`)
	case Giant:
		item := []byte(hourlyPay.before + "1" + hourlyPay.after + "}},")
		head := bytes.Index(data, []byte(`"inntekt":[`)) + len(`"inntekt":[`)
		big := append(make([]byte, 0, g.giantBytes+len(data)+len(item)), data[:head]...)
		for len(big) < g.giantBytes {
			big = append(big, item...)
		}
		data = append(big, data[head:]...)
	default:
		panic(fmt.Sprintf("synthetic: Invalid: no such fault: %v", kind))
	}
	e.Data = data
	if e.Key != nil {
		// Data may have been written over where Key pointed.
		e.Key = []byte(subject)
	}
	e.ID = g.eventID(g.incomeID, streamFault+uint64(kind)<<8, i, "")
	return e
}

// neighbour is another person than i.
func (g *Generator) neighbour(i int) int {
	if i == 0 {
		return 1
	}
	return i - 1
}

// replace changes the first occurrence, in a new slice. That old is missing means
// that the shape of the records changed and this file did not.
func replace(data []byte, old, new string) []byte {
	if !bytes.Contains(data, []byte(old)) {
		panic(fmt.Sprintf("synthetic: an income record without %s", old))
	}
	return bytes.Replace(data, []byte(old), []byte(new), 1)
}

// What follows a record that was published: by mistake again, or on purpose.

// Repeat is Income(i) to the byte: what a provider's client sends when it did not
// hear that the first was received.
func (g *Generator) Repeat(i int) Event { return g.Income(nil, i) }

// SameIDOtherContent has the id of Income(i) and another amount. It is an error of
// the provider, not a correction.
func (g *Generator) SameIDOtherContent(i int) Event { return g.income(nil, i, 1) }

// Correction is a new event that supersedes Income(i): the first amount is 1,500
// kroner higher, and final. It comes ten days later.
func (g *Generator) Correction(i int) Event {
	e := g.income(nil, i, 1500)
	e.Supersedes, e.ID = e.ID, g.eventID(g.incomeID, streamIncomeID, i, "-c1")
	e.Time, e.Provisional = e.Time.Add(10*24*time.Hour), false
	return e
}

// Retraction is a new event that takes Income(i) back. It carries the retracted
// record, so that it finds the way to everyone who was given it. It comes twenty
// days later.
func (g *Generator) Retraction(i int) Event {
	e := g.income(nil, i, 0)
	e.Retracts, e.ID = e.ID, g.eventID(g.incomeID, streamIncomeID, i, "-r1")
	e.Time, e.Provisional = e.Time.Add(20*24*time.Hour), false
	return e
}
