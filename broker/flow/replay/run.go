package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// Hasher turns identifiers into hashes and pseudonyms; the keystore is one. It
// must be the one that the decisions were made with.
type Hasher interface {
	intake.Hasher
	Pseudonym(period string, s broker.SubjectKey) (broker.Pseudonym, error)
}

// Options say what to replay. The zero value of a filter leaves nothing out.
type Options struct {
	Engine *kafka.Engine
	Topics kafka.Topics
	Hasher Hasher
	Log    *slog.Logger

	// From and To bound the batches by their time: From ≤ time < To.
	From, To     time.Time
	Dataset      broker.DatasetID
	Subscription broker.SubscriptionID
	// Every is to replay one batch in so many of each source partition; 0 and 1
	// are all. Repeats are then taken from the batches.
	Every int
	// Latest is to replay the latest batches only, as many as hold so many
	// records; their decisions are held in memory.
	Latest int64
	// WindowAge is how far before From batches are read for what is known of
	// repeats (intake.Limits.WindowAge); 0 is a day.
	WindowAge time.Duration

	// Policy and Registry are the candidate: a policy in place of the one that
	// was active, and declarations on top of each revision. With neither, the
	// log is checked.
	Policy   *policy.Engine
	Registry []registry.Document

	// Sample is how many places are named of each difference and kind of fault; 0 is 3.
	Sample int
	// Workers is how many source partitions are computed at once; 0 is one a processor.
	Workers int
	// Progress is told how far it has come; may be nil.
	Progress *Progress

	held int // bytes of decisions held at once; 0 is 64 MiB
}

// Progress is read while Run runs.
type Progress struct {
	Batches, Records, Decisions atomic.Int64
	At                          atomic.Int64 // time of the latest batch, nanoseconds since 1970
}

// run is one replay under way.
type run struct {
	Options
	adm        *kadm.Client
	scanner    *scanner
	past       *past
	rules      *rules
	otherRules *rules
	redeclared map[broker.DatasetID]bool // by the candidate
	parts      map[partKey]*part
	sources    map[broker.DatasetID]*sources
	total      *tally
	singles    *singles
	left       int64
}

// sources are a dataset's topic as it stands now.
type sources struct {
	id           broker.Digest
	starts, ends map[int32]int64
	err          string
}

func (r *run) candidate() bool { return r.Policy != nil || len(r.Registry) > 0 }

func (r *run) wanted(s broker.SubscriptionID) bool {
	return r.Subscription == "" || r.Subscription == s
}

// Run replays. An error says that it could not go on; what could not be computed,
// or came out otherwise, is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	begun := time.Now()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Sample == 0 {
		o.Sample = 3
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.WindowAge == 0 {
		o.WindowAge = intake.Defaults().WindowAge
	}
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	if o.held == 0 {
		o.held = 64 << 20
	}
	r := &run{Options: o, rules: newRules(nil), otherRules: newRules(o.Policy), redeclared: map[broker.DatasetID]bool{},
		parts: map[partKey]*part{}, sources: map[broker.DatasetID]*sources{}, total: newTally(o.Sample)}
	for i := range o.Registry {
		if d, ok := o.Registry[i].Body.(*broker.Dataset); ok {
			r.redeclared[d.ID] = true
		}
	}
	r.singles = &singles{run: r, tally: newTally(o.Sample), tapes: map[partKey]*tape{}, other: judge{candidate: true}}
	defer r.close()
	var err error
	if r.adm, err = o.Engine.Admin(); err != nil {
		return nil, err
	}
	ends, err := kafka.CommittedEnds(ctx, r.adm, o.Topics.Control())
	if err != nil {
		return nil, err
	}
	r.past = &past{tape: &tape{engine: o.Engine, topic: o.Topics.Control(), end: ends[o.Topics.Control()][0]}, docs: o.Registry}
	if r.scanner, err = r.newScanner(ctx); err != nil {
		return nil, err
	}
	for more := true; more; {
		var entries []*entry
		if entries, more, err = r.scan(ctx); err != nil {
			return nil, err
		}
		if err := r.pass(ctx, entries); err != nil {
			return nil, err
		}
	}
	for _, p := range r.parts {
		r.total.add(p.tally)
	}
	r.total.add(r.singles.tally)
	report := r.total.report()
	report.Candidate, report.Left, report.Took = r.candidate(), r.left, time.Since(begun)
	return report, nil
}

func (r *run) close() {
	if r.scanner != nil && r.scanner.reader != nil {
		r.scanner.reader.Close()
	}
	for _, p := range r.parts {
		p.tape.close()
	}
	r.singles.close()
	if r.past != nil {
		r.past.tape.close()
	}
	if r.adm != nil {
		r.adm.Close()
	}
}

// openParts is how many source partitions keep a connection from pass to pass.
const openParts = 64

// pass replays the entries in the order of their revisions, and those of one
// source partition in the order of the log: its revisions never fall, so both can
// be had. Control is folded forward once.
func (r *run) pass(ctx context.Context, entries []*entry) error {
	slices.SortStableFunc(entries, func(a, b *entry) int {
		switch {
		case a.revision < b.revision:
			return -1
		case a.revision > b.revision:
			return 1
		}
		return 0
	})
	for len(entries) > 0 {
		n := 1
		for n < len(entries) && entries[n].revision == entries[0].revision {
			n++
		}
		if err := r.group(ctx, entries[:n]); err != nil {
			return err
		}
		clear(entries[:n]) // its decisions are not needed any more
		entries = entries[n:]
	}
	if len(r.parts) > openParts {
		for _, p := range r.parts {
			p.tape.close()
		}
	}
	return nil
}

// group replays the entries of one revision, source partitions side by side.
func (r *run) group(ctx context.Context, entries []*entry) error {
	revision := entries[0].revision
	err := r.past.to(ctx, revision)
	if errors.Is(err, errBeyond) {
		for _, e := range entries {
			if e.part == nil {
				r.singles.tally.unable("control", fmt.Sprintf("control does not reach revision %d", revision), 1, e.records)
				continue
			}
			e.part.tally.unable("control", fmt.Sprintf("control does not reach revision %d", revision), 1, e.records)
			e.part.lose(-1)
		}
		return nil
	}
	if err != nil {
		return err
	}
	at := &moment{past: r.past, own: r.rules.at(r.past.state)}
	if r.candidate() {
		st := r.past.state
		if o := r.past.other; o != nil {
			if at.otherErr = o.err(); at.otherErr == nil {
				st = o.state
			}
		}
		if at.otherErr == nil {
			at.other = r.otherRules.at(st)
			if at.other.engine == nil {
				at.otherErr = errors.New(at.other.unable)
			}
		}
	}
	byPart := map[*part][]*entry{}
	var order []*part
	var single []*entry
	for _, e := range entries {
		if e.part == nil {
			single = append(single, e)
			continue
		}
		if byPart[e.part] == nil {
			order = append(order, e.part)
		}
		byPart[e.part] = append(byPart[e.part], e)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.Workers)
	if len(single) > 0 {
		g.Go(func() error {
			t := r.singles.tally
			for _, e := range single {
				records, decisions := t.records, t.answered
				if err := r.singles.replay(ctx, e, at); err != nil {
					return fmt.Errorf("replaying the single decisions at offset %d of partition %d: %w", e.offset, e.partition, err)
				}
				r.Progress.Batches.Add(1)
				r.Progress.Records.Add(t.records - records)
				r.Progress.Decisions.Add(t.answered - decisions)
				r.Progress.At.Store(e.nanos)
			}
			return nil
		})
	}
	for _, p := range order {
		g.Go(func() error {
			for _, e := range byPart[p] {
				records, decisions := p.tally.records, p.tally.answered
				if err := r.replayBatch(ctx, e, at); err != nil {
					return fmt.Errorf("replaying %s/%d from offset %d: %w", p.key.dataset, p.key.partition, e.first, err)
				}
				r.Progress.Batches.Add(1)
				r.Progress.Records.Add(p.tally.records - records)
				r.Progress.Decisions.Add(p.tally.answered - decisions)
				r.Progress.At.Store(e.nanos)
			}
			return nil
		})
	}
	return g.Wait()
}

// scanner reads the topic decisions, all partitions at once.
type scanner struct {
	reader   *kafka.Reader
	leftover []*kgo.Record // read, and not taken yet
}

// margin is by how much a message's timestamp and its batch's time may differ:
// the time is read when a transaction begins, and two clocks may disagree.
const margin = 10 * time.Minute

func (r *run) newScanner(ctx context.Context) (*scanner, error) {
	topic := r.Topics.Decisions()
	s := &scanner{}
	spans, err := kafka.Spans(ctx, r.adm, topic)
	if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) { // nothing was ever decided
		return nil, err
	}
	if since := r.since(); !since.IsZero() && len(spans) > 0 {
		listed, err := r.adm.ListOffsetsAfterMilli(ctx, since.Add(-margin).UnixMilli(), topic)
		if err == nil {
			err = listed.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("finding where the decisions of %s begin: %w", since.Format(time.RFC3339), err)
		}
		listed.Each(func(o kadm.ListedOffset) {
			spans[o.Partition].From = max(spans[o.Partition].From, o.Offset)
		})
	}
	s.reader, err = r.Engine.Reader(spans, kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(2<<20))
	return s, err
}

// since is the time of the first batch that is read, were it only for what it
// rejected; zero for all.
func (r *run) since() time.Time {
	if r.From.IsZero() || r.candidate() || r.Every > 1 {
		return r.From // what a repeat was, the batches say
	}
	return r.From.Add(-r.WindowAge)
}

// scan reads on until it holds as much as it may, or all. more says that there is
// something left.
func (r *run) scan(ctx context.Context) (entries []*entry, more bool, err error) {
	s := r.scanner
	held, records := 0, int64(0)
	for {
		for i, m := range s.leftover {
			if held >= r.held && r.Latest == 0 {
				s.leftover = s.leftover[i:]
				return entries, true, nil
			}
			e, err := r.entry(ctx, m)
			if err != nil {
				return nil, false, err
			}
			if e != nil {
				entries = append(entries, e)
				held += len(e.value)
				records += e.records
			}
		}
		if r.Latest > 0 && records > 2*r.Latest {
			entries, records = r.latest(entries)
		}
		if s.leftover, err = s.reader.Poll(ctx, 0); err == io.EOF {
			if r.Latest > 0 {
				entries, _ = r.latest(entries)
			}
			return entries, false, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
}

// latest keeps the latest entries that hold Latest records.
func (r *run) latest(entries []*entry) ([]*entry, int64) {
	byTime := slices.Clone(entries)
	slices.SortStableFunc(byTime, func(a, b *entry) int { return int(max(-1, min(1, b.nanos-a.nanos))) })
	var records int64
	keep := map[*entry]bool{}
	for _, e := range byTime {
		if records >= r.Latest {
			r.left++
			continue
		}
		records += e.records
		keep[e] = true
	}
	return slices.DeleteFunc(entries, func(e *entry) bool { return !keep[e] }), records
}

// entry reads a record of decisions' head, and says whether it is to be replayed:
// nil if not.
func (r *run) entry(ctx context.Context, m *kgo.Record) (*entry, error) {
	if deliver.IsSingles(m.Value) {
		return r.singleEntry(m), nil
	}
	h, err := deliver.Peek(m.Value)
	if err != nil {
		place := Place{DecisionsPartition: m.Partition, DecisionsOffset: m.Offset, Offset: -1}
		r.total.fault(Fault{place, "", "", "encoding", "a record of decisions", err.Error()})
		return nil, nil
	}
	if r.Dataset != "" && h.Dataset != r.Dataset {
		return nil, nil
	}
	if !r.To.IsZero() && !h.Time.Before(r.To) {
		if h.Time.After(r.To.Add(margin)) { // and so are all that follow
			r.scanner.reader.Leave(m.Topic, m.Partition)
		}
		return nil, nil
	}
	p, err := r.part(ctx, partKey{h.Dataset, h.TopicID, h.Partition})
	if err != nil {
		return nil, err
	}
	if h.Time.Before(r.From) {
		if h.Time.Before(r.since()) {
			return nil, nil
		}
		full, _, err := deliver.DecodeHeader(m.Value)
		if err == nil {
			p.mark(&full)
		}
		return nil, nil
	}
	if r.Every > 1 {
		p.every++
		if p.every%r.Every != 1 {
			r.left++
			return nil, nil
		}
	}
	return &entry{part: p, revision: h.Revision, first: h.First, records: h.Records, nanos: h.Time.UnixNano(),
		partition: m.Partition, offset: m.Offset, value: m.Value}, nil
}

func (r *run) part(ctx context.Context, k partKey) (*part, error) {
	if p := r.parts[k]; p != nil {
		return p, nil
	}
	s, err := r.source(ctx, k.dataset)
	if err != nil {
		return nil, err
	}
	p := &part{key: k, next: -1, marksFrom: -1, tally: newTally(r.Sample), other: judge{candidate: true},
		source: source{topicID: s.id, start: s.starts[k.partition], end: s.ends[k.partition], err: s.err}}
	p.tape = &tape{engine: r.Engine, topic: r.Topics.Source(string(k.dataset)), partition: k.partition, end: p.source.end}
	r.parts[k] = p
	return p, nil
}

func (r *run) source(ctx context.Context, d broker.DatasetID) (*sources, error) {
	if s := r.sources[d]; s != nil {
		return s, nil
	}
	topic := r.Topics.Source(string(d))
	s := &sources{}
	ids, err := kafka.TopicIDs(ctx, r.adm, topic)
	if err == nil {
		s.id = broker.Digest(ids[topic])
		var starts, ends map[string]map[int32]int64
		if starts, err = kafka.Starts(ctx, r.adm, topic); err == nil {
			ends, err = kafka.CommittedEnds(ctx, r.adm, topic)
		}
		s.starts, s.ends = starts[topic], ends[topic]
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		s.err, err = "the topic "+topic+" is gone", nil
	}
	r.sources[d] = s
	return s, err
}
