package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/twmb/franz-go/pkg/kadm"

	"datafordeler/broker/kafka"
	"datafordeler/broker/ledger"
)

// Source reads a broker's ledger from its topics, as far as it stands at the
// start, with the lines made anew of the records that the entries name. It is a
// [ledger.Source], so a verifier that reads it checks the records themselves.
type Source struct {
	ctx       context.Context
	engine    *kafka.Engine
	topics    kafka.Topics
	entries   *tail
	heads     *tail
	control   *tail
	decisions map[int32]*tail
	ends      map[string]map[int32]int64

	unnamed map[partition]int64 // records of decisions that were stepped over, to entries after them

	builder ledger.Builder
	text    []byte // the lines of the entry read last, one after another
	bounds  []int  // where each ends
	read    int    // how many were handed out
}

// OpenSource begins at the beginning. ctx bounds all reading. The caller closes it.
func OpenSource(ctx context.Context, engine *kafka.Engine, topics kafka.Topics) (*Source, error) {
	adm, err := engine.Admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	s := &Source{ctx: ctx, engine: engine, topics: topics, decisions: map[int32]*tail{}, unnamed: map[partition]int64{}}
	// The heads first: entries that come meanwhile are under none of them, while a
	// head that came meanwhile might be over entries that are not read.
	heads, err := kafka.CommittedEnds(ctx, adm, topics.Checkpoints())
	if err != nil {
		return nil, notThere(err, topics.Checkpoints())
	}
	if s.ends, err = ends(ctx, adm, topics.Ledger(), topics.Control(), topics.Decisions()); err != nil {
		return nil, err
	}
	open := func(t **tail, topic string, end int64) {
		if err == nil {
			*t, err = openTail(engine, partition{topic, 0}, 0, end)
		}
	}
	open(&s.heads, topics.Checkpoints(), heads[topics.Checkpoints()][0])
	open(&s.entries, topics.Ledger(), s.ends[topics.Ledger()][0])
	open(&s.control, topics.Control(), s.ends[topics.Control()][0])
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func ends(ctx context.Context, adm *kadm.Client, topics ...string) (map[string]map[int32]int64, error) {
	all := map[string]map[int32]int64{}
	for _, topic := range topics { // one by one: each rests on what the ones after it hold by then
		one, err := kafka.CommittedEnds(ctx, adm, topic)
		if err != nil {
			return nil, notThere(err, topic)
		}
		all[topic] = one[topic]
	}
	return all, nil
}

func notThere(err error, topic string) error {
	return fmt.Errorf("reading where topic %s ends (it is made when the broker first runs): %w", topic, err)
}

// Close lets go of the readers.
func (s *Source) Close() {
	for _, t := range []*tail{s.heads, s.entries, s.control} {
		if t != nil {
			t.close()
		}
	}
	for _, t := range s.decisions {
		t.close()
	}
}

// Skip passes over entries from the beginning, without reading the records that they
// name. What Unnamed counts begins after them. io.EOF: there are fewer.
func (s *Source) Skip(entries int64) error {
	control, decisions := int64(0), map[int32]int64{}
	for range entries {
		r, err := s.entries.read(s.ctx)
		if err != nil {
			return err
		}
		e, err := ledger.ParseEntry(r.Value)
		if err != nil {
			return err
		}
		if e.Type == ledger.ControlEntry {
			control = e.Control.Last + 1
		} else {
			decisions[e.Batch.At.Partition] = e.Batch.At.Offset + 1
		}
	}
	for number, from := range decisions {
		t, err := openTail(s.engine, partition{s.topics.Decisions(), number}, from, s.ends[s.topics.Decisions()][number])
		if err != nil {
			return err
		}
		s.decisions[number] = t
	}
	if control == 0 {
		return nil
	}
	t, err := openTail(s.engine, partition{s.topics.Control(), 0}, control, s.ends[s.topics.Control()][0])
	if err == nil {
		s.control.close()
		s.control = t
	}
	return err
}

// Entry is the next entry's line.
func (s *Source) Entry() ([]byte, error) {
	r, err := s.entries.read(s.ctx)
	if err != nil {
		return nil, err
	}
	s.text, s.bounds, s.read = s.text[:0], s.bounds[:0], 0
	e, err := ledger.ParseEntry(r.Value)
	if err != nil {
		return r.Value, nil // the verifier's to name
	}
	switch e.Type {
	case ledger.ControlEntry:
		err = s.readControl(&e)
	case ledger.BatchEntry, ledger.SinglesEntry:
		err = s.readDecisions(&e)
	}
	if err != nil {
		return nil, err
	}
	return r.Value, nil
}

func (s *Source) keep(line []byte) error {
	s.text = append(s.text, line...)
	s.bounds = append(s.bounds, len(s.text))
	return nil
}

// readControl reads the events that an entry names; those that are gone are
// missing lines, which the verifier names.
func (s *Source) readControl(e *ledger.Entry) error {
	for s.control.next <= e.Control.Last {
		r, err := s.control.read(s.ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if r.Offset < e.Control.First || r.Offset > e.Control.Last {
			continue
		}
		line, err := ledger.ControlLine(r.Value)
		if err != nil {
			line = r.Value
		}
		_ = s.keep(line)
	}
	return nil
}

func (s *Source) readDecisions(e *ledger.Entry) error {
	number, offset := e.Batch.At.Partition, e.Batch.At.Offset
	t := s.decisions[number]
	if t == nil {
		var err error
		if t, err = openTail(s.engine, partition{s.topics.Decisions(), number}, 0, s.ends[s.topics.Decisions()][number]); err != nil {
			return err
		}
		s.decisions[number] = t
	}
	for t.next <= offset {
		r, err := t.read(s.ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if r.Offset != offset {
			s.unnamed[t.partition]++
			continue
		}
		made, err := Lines(&s.builder, ledger.Place{Partition: number, Offset: offset}, r.Value, s.keep)
		if err != nil || made.Batch.Sum != e.Batch.Sum {
			// Other bytes than were entered, whatever they say.
			return &ledger.Fault{Kind: ledger.RowChanged, Entry: -1, Line: -1, Checkpoint: -1,
				Err: fmt.Errorf("the record of decisions at %s, offset %d, is not the one that was entered", t.partition, offset)}
		}
	}
	return nil
}

// Unnamed is how many records of decisions stand in their topic between records
// that entries name, and are named by none: written by somebody else than the
// broker, or left out of the ledger. It counts those that were read.
func (s *Source) Unnamed() (n int64) {
	for _, one := range s.unnamed {
		n += one
	}
	return n
}

// Rest reads on to where the topic of decisions ended when the source was opened,
// and says how many records of decisions are in no entry yet.
func (s *Source) Rest() (records int64, err error) {
	for number, end := range s.ends[s.topics.Decisions()] {
		t := s.decisions[number]
		if t == nil {
			if t, err = openTail(s.engine, partition{s.topics.Decisions(), number}, 0, end); err != nil {
				return 0, err
			}
			s.decisions[number] = t
		}
		for {
			_, err := t.read(s.ctx)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return 0, err
			}
			records++
		}
	}
	return records, nil
}

// Line is the next line of the entry.
func (s *Source) Line() ([]byte, error) {
	if s.read == len(s.bounds) {
		return nil, io.EOF
	}
	from := 0
	if s.read > 0 {
		from = s.bounds[s.read-1]
	}
	s.read++
	return s.text[from:s.bounds[s.read-1]], nil
}

// Checkpoint is the next signed head.
func (s *Source) Checkpoint() ([]byte, error) {
	r, err := s.heads.read(s.ctx)
	if err != nil {
		return nil, err
	}
	return r.Value, nil
}
