package replay

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"datafordeler/broker"
)

// Report is what a replay found. A person's number stands nowhere in it.
type Report struct {
	// Candidate says that the question was what would have been answered
	// otherwise, and not whether the log is as it should be.
	Candidate bool `json:"candidate"`
	// First and Last are the earliest and the latest batch's time.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
	// Batches, Records and Decisions were computed again.
	Batches   int64 `json:"batches"`
	Records   int64 `json:"records"`
	Decisions int64 `json:"decisions"`
	// Singles are those of the decisions that no range accounts for, by kind:
	// backfill, lookup, door.
	Singles map[string]int64 `json:"singles,omitempty"`
	// Left are the batches that a sample (Options.Every, Options.Latest) left out.
	Left int64 `json:"left_out,omitempty"`

	// Faults are the places where something came out otherwise than recorded;
	// FaultsBy counts them by what; FaultSamples are the first of each.
	Faults       int64            `json:"faults"`
	FaultsBy     map[string]int64 `json:"faults_by,omitempty"`
	FaultSamples []Fault          `json:"fault_samples,omitempty"`

	// Unchecked is what could not be computed again, and why.
	Unchecked []Unchecked `json:"unchecked,omitempty"`

	// Differences are a candidate's, the most frequent first; Won and Lost are
	// the permits that it would have given more, and fewer.
	Differences []Difference `json:"differences,omitempty"`
	Won         int64        `json:"permits_won"`
	Lost        int64        `json:"permits_lost"`

	Took time.Duration `json:"nanoseconds"`
}

// Computed reports whether anything was.
func (r *Report) Computed() bool { return r.Batches > 0 }

// Different is how many decisions a candidate would have made otherwise.
func (r *Report) Different() (n int64) {
	for i := range r.Differences {
		n += r.Differences[i].Count
	}
	return n
}

// Place is where a fault or a sample lies: a source record, and the record of
// decisions that holds what was answered for it.
type Place struct {
	Dataset   broker.DatasetID `json:"dataset"`
	Partition int32            `json:"partition"`
	Offset    int64            `json:"offset"`
	// DecisionsPartition and DecisionsOffset are in the topic decisions.
	DecisionsPartition int32 `json:"decisions_partition"`
	DecisionsOffset    int64 `json:"decisions_offset"`
}

// String is dataset/partition@offset.
func (p Place) String() string { return fmt.Sprintf("%s/%d@%d", p.Dataset, p.Partition, p.Offset) }

func (p Place) compare(o Place) int {
	return cmp.Or(cmp.Compare(p.Dataset, o.Dataset), cmp.Compare(p.Partition, o.Partition), cmp.Compare(p.Offset, o.Offset),
		cmp.Compare(p.DecisionsOffset, o.DecisionsOffset))
}

// Fault is something that came out otherwise than it was recorded.
type Fault struct {
	Place
	// Kind of decision: backfill, lookup or door; empty for the stream's.
	Kind         string                `json:"decision_kind,omitempty"`
	Subscription broker.SubscriptionID `json:"subscription,omitempty"`
	// What differs: outcome, reasons, bases, package, fields, shielded,
	// agreement, decision (there is one too many or too few), event, kind,
	// pseudonym, intake, counts, usage, policy, dataset, source or encoding.
	What     string `json:"what"`
	Recorded string `json:"recorded"`
	Computed string `json:"computed"`
}

// String is for a person to read.
func (f Fault) String() string {
	if f.Kind != "" {
		return fmt.Sprintf("%s (%s) for %q, %s: recorded %q, computed %q", f.Place, f.Kind, f.Subscription, f.What, f.Recorded, f.Computed)
	}
	return fmt.Sprintf("%s for %q, %s: recorded %q, computed %q", f.Place, f.Subscription, f.What, f.Recorded, f.Computed)
}

// Unchecked is something that could not be computed again.
type Unchecked struct {
	What    string `json:"what"` // stable: source, policy, control, candidate, pseudonyms, repeats, rejections, gap, intake, door, household, not in the log
	Why     string `json:"why"`
	Batches int64  `json:"batches"`
	Records int64  `json:"records"` // or rows, for pseudonyms, repeats and rejections
}

// Difference is an answer that a candidate would have changed, as often as Count.
type Difference struct {
	// Kind of decision: backfill, lookup or door; empty for the stream's.
	Kind         string                `json:"kind,omitempty"`
	Consumer     broker.OrgNumber      `json:"consumer"`
	Subscription broker.SubscriptionID `json:"subscription"`
	// Before and After are "permit", the first reason of a denial, or "none":
	// no decision, because the record is not in scope or was rejected.
	Before string `json:"before"`
	After  string `json:"after"`
	// What differs where Before and After are alike: bases, package, fields,
	// shielded or reasons.
	What    string  `json:"what,omitempty"`
	Count   int64   `json:"count"`
	Samples []Place `json:"samples,omitempty"`
}

type diffKey struct {
	kind                string
	consumer            broker.OrgNumber
	subscription        broker.SubscriptionID
	before, after, what string
}

type uncheckedKey struct{ what, why string }

// tally is one source partition's part of a report. It belongs to the worker
// that has the partition.
type tally struct {
	sample                     int
	batches, records, answered int64
	kinds                      map[string]int64 // single decisions answered
	first, last                time.Time
	faults                     map[string]int64
	samples                    map[string][]Fault
	unchecked                  map[uncheckedKey]*Unchecked
	differences                map[diffKey]*Difference
	won, lost                  int64
}

func newTally(sample int) *tally {
	return &tally{sample: sample, kinds: map[string]int64{}, faults: map[string]int64{}, samples: map[string][]Fault{},
		unchecked: map[uncheckedKey]*Unchecked{}, differences: map[diffKey]*Difference{}}
}

func (t *tally) fault(f Fault) {
	t.faults[f.What]++
	if len(t.samples[f.What]) < t.sample {
		t.samples[f.What] = append(t.samples[f.What], f)
	}
}

func (t *tally) unable(what, why string, batches, records int64) {
	k := uncheckedKey{what, why}
	u := t.unchecked[k]
	if u == nil {
		u = &Unchecked{What: what, Why: why}
		t.unchecked[k] = u
	}
	u.Batches += batches
	u.Records += records
}

const permitWord, noneWord = "permit", "none"

func (t *tally) differ(k diffKey, at Place) {
	d := t.differences[k]
	if d == nil {
		d = &Difference{Kind: k.kind, Consumer: k.consumer, Subscription: k.subscription, Before: k.before, After: k.after, What: k.what}
		t.differences[k] = d
	}
	d.Count++
	if len(d.Samples) < t.sample {
		d.Samples = append(d.Samples, at)
	}
	switch {
	case k.before != permitWord && k.after == permitWord:
		t.won++
	case k.before == permitWord && k.after != permitWord:
		t.lost++
	}
}

// add takes another's counts into t.
func (t *tally) add(o *tally) {
	t.batches += o.batches
	t.records += o.records
	t.answered += o.answered
	t.won += o.won
	for k, n := range o.kinds {
		t.kinds[k] += n
	}
	t.lost += o.lost
	if t.first.IsZero() || !o.first.IsZero() && o.first.Before(t.first) {
		t.first = o.first
	}
	if o.last.After(t.last) {
		t.last = o.last
	}
	for what, n := range o.faults {
		t.faults[what] += n
		t.samples[what] = append(t.samples[what], o.samples[what]...)
	}
	for k, u := range o.unchecked {
		t.unable(k.what, k.why, u.Batches, u.Records)
	}
	for k, d := range o.differences {
		have := t.differences[k]
		if have == nil {
			c := *d
			c.Samples = slices.Clone(d.Samples)
			t.differences[k] = &c
			continue
		}
		have.Count += d.Count
		have.Samples = append(have.Samples, d.Samples...)
	}
}

// report puts everything in one order, whichever worker came first.
func (t *tally) report() *Report {
	r := &Report{First: t.first, Last: t.last, Batches: t.batches, Records: t.records, Decisions: t.answered, Won: t.won, Lost: t.lost}
	if len(t.kinds) > 0 {
		r.Singles = t.kinds
	}
	if len(t.faults) > 0 {
		r.FaultsBy = t.faults
	}
	for _, what := range slices.Sorted(maps.Keys(t.samples)) {
		r.Faults += t.faults[what]
		s := t.samples[what]
		slices.SortStableFunc(s, func(a, b Fault) int {
			return cmp.Or(a.compare(b.Place), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Subscription, b.Subscription))
		})
		r.FaultSamples = append(r.FaultSamples, s[:min(len(s), t.sample)]...)
	}
	for _, u := range t.unchecked {
		r.Unchecked = append(r.Unchecked, *u)
	}
	slices.SortFunc(r.Unchecked, func(a, b Unchecked) int { return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.Why, b.Why)) })
	for _, d := range t.differences {
		slices.SortFunc(d.Samples, Place.compare)
		d.Samples = d.Samples[:min(len(d.Samples), t.sample)]
		r.Differences = append(r.Differences, *d)
	}
	slices.SortFunc(r.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Consumer, b.Consumer), cmp.Compare(a.Subscription, b.Subscription),
			cmp.Compare(a.Before, b.Before), cmp.Compare(a.After, b.After), cmp.Compare(a.What, b.What))
	})
	return r
}
