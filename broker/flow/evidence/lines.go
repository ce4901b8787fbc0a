package evidence

import (
	"crypto/sha256"
	"fmt"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/ledger"
)

// headOf is what of a batch's header is evidence: all of it but what every
// decision says for itself.
func headOf(h *deliver.BatchHeader) ledger.Head {
	var rejected []int64
	if len(h.RejectedAt) > 0 {
		rejected = make([]int64, len(h.RejectedAt))
		for i, at := range h.RejectedAt {
			rejected[i] = h.First + at
		}
	}
	return ledger.Head{
		Kind: h.Kind, Dataset: h.Dataset, TopicID: h.TopicID, Partition: h.Partition, First: h.First, Last: h.Last,
		Records: h.Records, OutOfScope: h.OutOfScope, Repeated: h.Repeated, Rejected: h.Rejected, RejectedAt: rejected,
		Limits: ledger.Limits(h.Limits), Usage: h.Usage, Period: h.Period, Policy: h.Policy, Revision: h.Revision, Time: h.Time,
	}
}

// headOfSingles is headOf for single decisions.
func headOfSingles(h *deliver.SinglesHeader) ledger.SinglesHead {
	return ledger.SinglesHead{Kind: h.Kind, TopicID: h.TopicID, Partition: h.Partition, Decisions: h.Decisions, Permits: h.Permits,
		Limits: ledger.Limits(h.Limits), Usage: h.Usage, Period: h.Period, Policy: h.Policy, Revision: h.Revision, Time: h.Time}
}

// decode calls fn for each decision in a record of decisions, of whatever format.
func decode(value []byte, fn func(*broker.Decision) error) (err error) {
	if deliver.IsSingles(value) {
		_, err = deliver.DecodeSingles(value, fn)
	} else {
		_, err = deliver.Decode(value, fn)
	}
	return err
}

// Lines makes the entry and the lines of a record of decisions, as it stands at
// a place of the topic decisions. It calls line for the head and then for each
// decision; the bytes are valid until line returns. Nil for line gives the entry
// alone. Overlap and Skipped are for ledger.Sequence to label.
//
// The sequencer, an export and a proof all make lines here, so they are the same.
func Lines(b *ledger.Builder, at ledger.Place, value []byte, line func([]byte) error) (ledger.Entry, error) {
	if line == nil {
		line = func([]byte) error { return nil }
	}
	fail := func(err error) (ledger.Entry, error) {
		return ledger.Entry{}, fmt.Errorf("decisions, partition %d, offset %d: %w", at.Partition, at.Offset, err)
	}
	first, err := begin(b, at, value)
	if err == nil {
		err = line(first)
	}
	if err == nil {
		err = decode(value, func(d *broker.Decision) error { return line(b.Add(d)) })
	}
	if err != nil {
		return fail(err)
	}
	entry := b.End()
	// What no reader could read must not come into the ledger, and stop all of it.
	if _, err := ledger.ParseEntry(ledger.AppendEntry(nil, &entry)); err != nil {
		return fail(err)
	}
	return entry, nil
}

func begin(b *ledger.Builder, at ledger.Place, value []byte) (line []byte, err error) {
	sum := sha256.Sum256(value)
	if deliver.IsSingles(value) {
		header, err := deliver.PeekSingles(value)
		if err != nil {
			return nil, err
		}
		head := headOfSingles(&header)
		return b.BeginSingles(&head, at, sum), nil
	}
	header, _, err := deliver.DecodeHeader(value)
	if err != nil {
		return nil, err
	}
	head := headOf(&header)
	return b.Begin(&head, at, sum), nil
}
