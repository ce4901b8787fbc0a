package broker

import (
	"bytes"
	"encoding/json"
)

// Household is a rule across several subjects, so that one answer on all of them can
// leave, and nothing of any one: "the household's income is below the limit". It is
// worked out in two steps, each by derivations as they are written for one record:
// Each makes values of a subject's newest record, and these stay; Answers makes one
// answer of the subjects' values, and that is all that leaves.
//
// A package that has one is for lookups of several subjects only. Each subject gets a
// decision of its own, and there is an answer only where every one is a permit.
type Household struct {
	// V is the version of what is written here and in package derive: 1.
	V int `json:"v"`
	// Least and Most are how many subjects may be asked about at once. Least 0 is 1;
	// where it is more, so many must have a record. MaxHousehold is the most that Most
	// may be.
	Least int `json:"least,omitempty"`
	Most  int `json:"most"`
	// Missing is what a subject without a record does: skip (it does not count), or ""
	// (there is no answer).
	Missing WhenAbsent `json:"missing,omitempty"`
	// Each is what is worked out of a subject's record. It never leaves.
	Each []Derivation `json:"each"`
	// Answers go through the subjects: each is a row, and has the targets of Each.
	Answers []Derivation `json:"answers"`
	// Tests are what the rule is held to before the package is registered.
	Tests []HouseholdTest `json:"tests"`
}

// MaxHousehold is how many subjects can be asked about at once.
const MaxHousehold = 20

// HouseholdTest is the records of some subjects, and what must be answered of them
// together.
type HouseholdTest struct {
	Name string `json:"name"`
	// Records are one for each subject; null is a subject without a record.
	Records []json.RawMessage `json:"records"`
	// Want is an object of all answers, without the targets' leading '/'.
	Want json.RawMessage `json:"want,omitempty"`
	// Fails is the target, of Each or of Answers, that nothing can be answered for, in
	// place of Want. Where a subject has no record it is the first of Answers.
	Fails Pointer `json:"fails,omitempty"`
}

// AtLeast is Least with its default.
func (h *Household) AtLeast() int { return max(1, h.Least) }

// Alike reports whether two make the same answers of the same records. Titles and
// tests are no part of the rule.
func (h *Household) Alike(o *Household) bool {
	if h == nil || o == nil {
		return h == o
	}
	x, err := json.Marshal(h.rule())
	y, err2 := json.Marshal(o.rule())
	return err == nil && err2 == nil && bytes.Equal(x, y)
}

func (h *Household) rule() Household {
	c := *h
	c.Tests = nil
	c.Each, c.Answers = untitled(h.Each), untitled(h.Answers)
	return c
}

func untitled(ds []Derivation) []Derivation {
	out := make([]Derivation, len(ds))
	for i, d := range ds {
		d.Title = ""
		out[i] = d
	}
	return out
}

// HouseholdRequest is the request under which one subject of a household stands in the
// log. Requests of a household differ in their last byte, which is the subject's place
// in the question, counted from 1: so each decision has an id of its own, also where
// nothing was found on two of them, and it shows which belong together.
func HouseholdRequest(household Digest, place int) Digest {
	household[len(household)-1] = byte(place)
	return household
}

// HouseholdOf undoes HouseholdRequest: the household ends in 0.
func HouseholdOf(request Digest) (household Digest, place int) {
	place = int(request[len(request)-1])
	request[len(request)-1] = 0
	return request, place
}
