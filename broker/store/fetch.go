package store

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"datafordeler/broker"
)

const (
	minInt64 = math.MinInt64
	maxInt64 = math.MaxInt64
)

func compare(a, b int64) int { return cmp.Compare(a, b) }

// storedRecord is a row of record.
type storedRecord struct {
	id, batch, offset int64
	kind              broker.RecordKind
	event             broker.EventHash
	subject           broker.Pseudonym
	answers           []int64
	ids               []byte
	source            int64 // −1: the batch's
	request           broker.Digest
}

// storedBatch is what decisions have of a row of batch.
type storedBatch struct {
	id, source, time, revision, policy, period int64
}

const recordColumns = "id, batch, source_offset, kind, event, subject, answers, ids, coalesce(source, -1), request"

func (s *storedRecord) scan(scan scanner) error {
	var event, subject, request []byte
	var answers string
	err := scan(&s.id, &s.batch, &s.offset, &s.kind, &event, &subject, &answers, &s.ids, &s.source, &request)
	if err == nil {
		s.answers, err = parseAnswers(answers, nil)
	}
	if err == nil && (len(event) != 16 || subject != nil && len(subject) != 16 || request != nil && len(request) != 16 || s.ids != nil && len(s.ids) != 32*len(s.answers)) {
		err = fmt.Errorf("%w: record %d is damaged", ErrRebuild, s.id)
	}
	copy(s.event[:], event)
	copy(s.subject[:], subject)
	copy(s.request[:], request)
	return err
}

// rows reads records and their batches.
func (f *finder) rows(ids []int64) (map[int64]storedRecord, map[int64]storedBatch, error) {
	records, batches := make(map[int64]storedRecord, len(ids)), map[int64]storedBatch{}
	err := f.in("SELECT "+recordColumns+" FROM record WHERE id IN", ids, func(scan func(...any) error) error {
		var s storedRecord
		if err := s.scan(scan); err != nil {
			return err
		}
		records[s.id] = s
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	var of []int64
	for _, r := range records {
		of = append(of, r.batch)
	}
	slices.Sort(of)
	err = f.in("SELECT id, source, time, revision, policy, period FROM batch WHERE id IN", slices.Compact(of), func(scan func(...any) error) error {
		var b storedBatch
		err := scan(&b.id, &b.source, &b.time, &b.revision, &b.policy, &b.period)
		batches[b.id] = b
		return err
	})
	return records, batches, err
}

// in runs a statement that ends with IN on the ids, as many times as it takes.
func (f *finder) in(text string, ids []int64, fn func(scan func(...any) error) error) error {
	for ids := range slices.Chunk(ids, 256) {
		n := 1
		for n < len(ids) {
			n *= 4
		}
		args := make([]any, n)
		for i := range args {
			args[i] = int64(-1) // so that there are few statements
			if i < len(ids) {
				args[i] = ids[i]
			}
		}
		if err := each(f.ctx, f.r, text+" ("+list(1, n)+")", args, fn); err != nil {
			return err
		}
	}
	return nil
}

// fetch reads the decisions of the matches, and says which are not what was asked
// for after all.
func (f *finder) fetch(matches []match) (hits []Hit, wrong []match, err error) {
	if len(matches) == 0 {
		return nil, nil, nil
	}
	ids := make([]int64, len(matches))
	for i := range matches {
		ids[i] = matches[i].record
	}
	slices.Sort(ids)
	records, batches, err := f.rows(slices.Compact(ids))
	if err != nil {
		return nil, nil, err
	}
	hits = make([]Hit, 0, len(matches))
	for i := range matches {
		m := &matches[i]
		rec, ok := records[m.record]
		if !ok || m.nth >= len(rec.answers) || rec.batch != m.batch {
			return nil, nil, fmt.Errorf("%w (record %d is not what its block says)", errBlock, m.record)
		}
		h, err := f.hit(&rec, batches, m.nth)
		if err != nil {
			return nil, nil, err
		}
		if q, d := f.q, &h.Decision; !q.Event.IsZero() && d.Event != q.Event ||
			q.Subjects != nil && !slices.Contains(q.Subjects, d.Subject) ||
			q.Record != nil && d.Position.Offset != q.Record.Offset || !q.Request.IsZero() && d.Request != q.Request {
			wrong = append(wrong, *m)
			continue
		}
		h.Place = LogPlace{m.log.partition, m.log.offset, int(m.index)}
		hits = append(hits, h)
	}
	return hits, wrong, nil
}

// hit puts a decision together.
func (f *finder) hit(r *storedRecord, batches map[int64]storedBatch, nth int) (h Hit, err error) {
	b, ok := batches[r.batch]
	d := f.d
	d.mu.RLock()
	defer d.mu.RUnlock()
	a, from := r.answers[nth], r.source
	if from < 0 {
		from = b.source
	}
	if !ok || a >= int64(len(d.answers)) || from >= int64(len(d.sources)) || b.policy >= int64(len(d.names)) || b.period >= int64(len(d.names)) {
		return h, fmt.Errorf("%w: record %d refers to what is not there", ErrRebuild, r.id)
	}
	w, s := &d.answers[a], &d.sources[from]
	g, o := &d.agreements[w.agreement], &d.outcomes[w.outcome]
	h.Parties = g.Parties
	h.Decision = broker.Decision{
		Kind:     s.kind,
		Request:  r.request,
		Position: broker.Position{Dataset: s.dataset, TopicID: s.topic, Partition: s.partition, Offset: r.offset},
		Event:    r.event, Subject: r.subject, Subscription: w.subscription, Agreement: g.name,
		Outcome: o.Outcome, Package: o.pack, Fields: o.fields, Shielded: o.shielded,
		PolicyDigest: d.names[b.policy], Revision: broker.Revision(b.revision), Time: time.Unix(0, b.time).UTC(), Period: d.names[b.period],
		RecordKind: r.kind,
	}
	c := &h.Decision
	if r.ids == nil {
		c.ID, c.Delivery = identify(c.Kind, c.Position, c.Event, c.Request, c.Subscription, c.Outcome.Permit)
	} else {
		copy(c.ID[:], r.ids[32*nth:])
		copy(c.Delivery[:], r.ids[32*nth+16:])
	}
	return h, nil
}
