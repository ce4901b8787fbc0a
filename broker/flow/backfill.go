package flow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/registry"
)

// Backfill delivers what was published before somebody came to have a right to it:
// to a subscription that begins before it was declared, and on a subject on whom a
// case was opened or who gave consent (docs/decisions/0022-backfill.md).
//
// Every offset of a source partition is decided by the stream at some revision, and
// these never fall. So what a revision brought about begins, in a partition, at the
// first offset that was decided at it or a later one: the stream has decided all
// from there on in its knowledge, and backfill owes what lies before. The session
// that owns the partition does it, between its transactions of the stream, in
// transactions that commit deliveries, decisions and how far it has come.

// Positions knows where in the sources a subject's records lie.
type Positions interface {
	// Current gives the offsets, newest first and most at the most, of the records
	// on a subject in a source partition, below an offset, that were accepted and
	// that no later one below it has corrected or retracted. ok is false where what
	// lies below the offset is not all known yet: to be asked again.
	Current(ctx context.Context, ds broker.DatasetID, topicID broker.Digest, partition int32, below int64,
		subject broker.SubjectKey, most int) (offsets []int64, ok bool, err error)

	// Latest waits until all that was committed before the call is known; its error is
	// ctx's where that takes longer.
	Latest(ctx context.Context) error

	// Earlier goes back from an event that a record on a subject names. ok is false
	// where not all below the offset of the source partition is known yet: to be asked
	// again.
	Earlier(ctx context.Context, ds broker.DatasetID, topicID broker.Digest, partition int32, below int64,
		subject broker.SubjectKey, of broker.EventHash) (chain Chain, ok bool, err error)
}

// step says that a partition's offsets from first on were decided at revision or a
// later one, and those before at earlier ones. Its decisions begin at an offset of
// the decisions partition.
type step struct {
	revision         broker.Revision
	first, decisions int64
}

// backfill is a partition's. Owned by its session.
type backfill struct {
	done    progress        // committed, or what is as good because nothing was decided
	saved   progress        // committed
	pending *progress       // of the transaction under way
	job     *job            // that done names, once it is read
	shown   broker.Revision // by the metrics
}

func (f *backfill) latest() *progress {
	if f.pending != nil {
		return f.pending
	}
	return &f.done
}

// unsaved reports whether progress without decisions is to be committed for its own
// sake: were it lost, it would only be made again.
func (s *session) unsaved(f *backfill, now time.Time) bool {
	return f.done != f.saved && (!s.filler.more || now.Sub(s.filler.saved) > time.Second)
}

func (f *backfill) close() {
	if f.job != nil {
		f.job.close()
		f.job = nil
	}
}

// step takes note of a batch of the stream's.
func (p *partition) step(rev broker.Revision, first, decisions int64) {
	if n := len(p.steps); n == 0 || p.steps[n-1].revision < rev {
		p.steps = append(p.steps, step{rev, first, decisions})
	}
	p.forgetSteps()
}

// forgetSteps lets go of the steps that nothing to come looks back to.
func (p *partition) forgetSteps() {
	d := &p.backfill.done
	low := d.started
	if d.job > 0 {
		low = d.job // where it ends is committed
	}
	low = min(low, d.swept)
	n := 0
	for n < len(p.steps) && p.steps[n].revision <= low {
		n++
	}
	p.steps = p.steps[n:]
}

// begin is the first offset that was, or will be, decided at a revision or a later
// one. The revision must be folded, and the caller's own commit name it.
func (p *partition) begin(rev broker.Revision) int64 {
	for _, s := range p.steps {
		if s.revision >= rev {
			return s.first
		}
	}
	return p.next
}

// beginBackfill is for a partition of which nothing is committed: what was decided
// stands, and what is to come is decided with all that is known now.
func (p *partition) beginBackfill(now broker.Revision) {
	if n := len(p.steps); n > 0 {
		now = p.steps[n-1].revision
	}
	p.backfill.done = progress{swept: now, started: now}
	p.forgetSteps()
}

// readSingles takes the usage of what backfill has delivered from this partition.
func (p *partition) readSingles(value []byte) error {
	h, err := deliver.PeekSingles(value)
	if err != nil {
		return stop(err)
	}
	if h.Kind != broker.BackfillDecision || h.TopicID != p.topicID || h.Partition != p.number {
		return nil
	}
	if h.Time.After(p.last) {
		p.last = h.Time
	}
	_, p.usage, err = deliver.SinglesUsageAfter(value)
	return err
}

// filler is a session's part in backfill.
type filler struct {
	work     work
	last     topicPartition // whose turn it was
	lastTold topicPartition // likewise, of notices
	jobs     bool           // whether it was a job's
	patience time.Duration  // for the index, when it was last asked to be level
	told     bool           // whether the last turn was of notices
	more     bool           // there is something to do
	retry    time.Time      // after an error that may pass
	saved    time.Time      // when progress was last committed for its own sake
	live     time.Time      // when the stream last had records
}

// wait is how long until it may go on.
func (f *filler) wait(b *Broker, now time.Time) time.Duration {
	return max(b.filling.wait(now), f.retry.Sub(now))
}

// backfill gives one partition a turn. Cases and consents take turns with what has
// begun before, so that none waits for a million records.
func (s *session) backfill(ctx context.Context) error {
	b, f := s.broker, &s.filler
	f.more = false
	if b.cfg.Backfill.RecordsPerSecond <= 0 || ctx.Err() != nil {
		return nil
	}
	var swift, long, telling []topicPartition
	b.control.View(func(st *registry.State) {
		for tp, p := range s.loaded {
			d := &p.backfill.done
			if p.notices.waits() {
				telling = append(telling, tp)
			}
			if d.swept < st.Revision() {
				if list, through := st.Triggers(p.dataset, d.swept, 1); len(list) > 0 && b.positions != nil {
					swift = append(swift, tp)
				} else if len(list) == 0 {
					d.swept = through
				} else {
					d.swept = st.Revision()
					b.noPositions()
				}
			}
			if d.job == 0 && d.started < st.Revision() && len(st.Starts(p.dataset, d.started)) == 0 {
				d.started = st.Revision()
			} else if d.started < st.Revision() {
				long = append(long, tp)
			}
			p.forgetSteps()
			if rev := st.Revision(); d.swept < rev || d.started < rev || p.backfill.shown < rev {
				b.metrics.backfill(st, p.partition)
				p.backfill.shown = rev
			}
		}
	})
	if len(swift)+len(long)+len(telling) == 0 {
		return nil
	}
	f.more = true
	now := time.Now()
	if f.wait(b, now) > 0 {
		return nil
	}
	if len(telling) > 0 && (!f.told || len(swift)+len(long) == 0) {
		f.told = true
		tp := next(telling, f.lastTold)
		f.lastTold = tp
		if done, err := s.took(ctx, tp, s.gatherNotices, now); done || err != nil {
			return err
		}
	}
	f.told = false
	for _, jobs := range [...]bool{!f.jobs, f.jobs} {
		turns := swift
		if jobs {
			turns = long
		}
		if len(turns) == 0 {
			continue
		}
		tp := next(turns, f.last)
		f.last, f.jobs = tp, jobs
		gather := s.gatherSubjects
		if jobs {
			gather = s.gatherJob
		}
		if done, err := s.took(ctx, tp, gather, now); done || err != nil {
			return err
		}
	}
	return nil
}

// took gives a partition its turn. It reports whether that is all for now.
func (s *session) took(ctx context.Context, tp topicPartition, gather func(context.Context, *partition, int) (*fill, error), now time.Time) (bool, error) {
	done, err := s.turn(ctx, s.loaded[tp].partition, gather)
	if err != nil && ctx.Err() == nil && errors.Is(err, errLater) {
		s.filler.retry = now.Add(time.Second)
		s.broker.log.Warn("backfill could not go on, and tries again", "topic", tp.topic, "partition", tp.partition, "err", err)
		return true, nil
	}
	return done || err != nil, err
}

// next goes round.
func next(turns []topicPartition, last topicPartition) topicPartition {
	slices.SortFunc(turns, topicPartition.compare)
	for _, tp := range turns {
		if tp.compare(last) > 0 {
			return tp
		}
	}
	return turns[0]
}

func (tp topicPartition) compare(o topicPartition) int {
	if c := strings.Compare(tp.topic, o.topic); c != 0 {
		return c
	}
	return int(tp.partition) - int(o.partition)
}

// errLater is of what could not be read now, and may be later.
var errLater = errors.New("backfill waits")

// turn reads a slice, and decides and commits it. It reports whether it did anything.
//
// The stream's records wait for it meanwhile. So where there are any it rests for
// twice as long as it took: a slow machine, or a slow Kafka, makes backfill slow and
// not the stream.
func (s *session) turn(ctx context.Context, p *partition, gather func(context.Context, *partition, int) (*fill, error)) (bool, error) {
	begun := time.Now()
	defer func() {
		if now := time.Now(); now.Sub(s.filler.live) < time.Second {
			s.filler.retry = now.Add(2 * now.Sub(begun))
		}
	}()
	reading, cancel := context.WithTimeout(ctx, s.broker.cfg.SessionTimeout)
	defer cancel()
	f, err := gather(reading, p, s.broker.filling.slice())
	if err != nil {
		if ctx.Err() != nil {
			return false, nil
		}
		var fatal stopError
		if errors.As(err, &fatal) {
			return false, err
		}
		return false, fmt.Errorf("%w: %w", errLater, err)
	}
	if f == nil {
		return false, nil
	}
	s.broker.filling.spend(max(1, f.looked))
	w := &s.filler.work
	w.part, w.fill, w.high = p, f, 0
	if len(f.list)+len(f.told) == 0 {
		p.settleFill(f)
		if f.notices {
			s.settleNotices(w)
		}
		w.part, w.fill = nil, nil
		return true, nil
	}
	_, err = s.conclude(ctx, []*work{w})
	return true, err
}

// advance goes on after what was committed, or what needed no commit.
func (s *session) advance(w *work, in *instant) bool {
	w.fill.to.written = w.part.backfill.latest().written
	w.part.settleFill(w.fill)
	if w.fill.notices {
		s.settleNotices(w)
	}
	s.broker.metrics.backfilled(w)
	return true
}

func (p *partition) settleFill(f *fill) {
	b := &p.backfill
	f.to.written = max(f.to.written, b.done.written)
	b.done, b.pending = f.to, nil
	if f.job != nil {
		f.job.window.Commit()
		f.job.records = nil
		if b.done.job == 0 {
			b.close()
		}
	}
	p.forgetSteps()
}

// stampFill commits, in the transaction, how far backfill has come. The client
// commits only the offsets of what it has polled, and here that is nothing: the
// offset stays where it is, and takes the revision along.
//
// What commitIdle says of partitions that were taken away holds here too: the commit
// names the very generation whose assignment has the partition. If the group has
// gone on it refuses; if it does so later, whoever has the partition then waits for
// this transaction to end.
func (s *session) stampFill(ctx context.Context, works []*work, rev broker.Revision, written map[*work]place) (kgo.TransactionEndTry, error) {
	w := works[0]
	p, to := w.part, w.fill.to
	to.written = written[w].last + 1
	p.backfill.pending = &to
	tp := topicPartition{p.topic, p.number}
	s.mu.Lock()
	member, generation := s.member, s.ownedAt
	mine := s.owned[tp] && s.assigned[tp] == s.loaded[tp].gen && s.loaded[tp].partition == p
	s.mu.Unlock()
	if !mine || asMember(member, generation) != nil {
		return kgo.TryAbort, nil
	}
	cl := s.txn.Client()
	id, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		return kgo.TryAbort, fmt.Errorf("asking for the producer's id: %w", err)
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = s.id, id, epoch, s.broker.cfg.Group
	if err := again(ctx, s.broker, func() error {
		resp, err := add.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	}); err != nil {
		return kgo.TryAbort, passing(fmt.Errorf("adding the offset of %s/%d to the transaction: %w", tp.topic, tp.partition, err))
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = s.id, s.broker.cfg.Group, id, epoch
	req.MemberID, req.Generation = member, generation
	part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	part.Partition, part.Offset, part.LeaderEpoch = p.number, p.next, -1
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic, topic.TopicID = p.topic, p.topicID
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	if _, err := s.stamp(req, works, rev, written); err != nil {
		return kgo.TryAbort, err
	}
	err = again(ctx, s.broker, func() error {
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return kgo.TryAbort, passing(fmt.Errorf("committing how far backfill of %s/%d has come: %w", tp.topic, tp.partition, err))
	}
	return kgo.TryCommit, nil
}

// endFill ends a transaction of backfill's. GroupTransactSession.End would hold up the
// session for half a second: it has committed no offset itself, so it takes Kafka for
// one that does not keep a partition's next owner waiting (KIP-447). Nor need it look
// whether the partition was taken away since: see stampFill.
func (s *session) endFill(ctx context.Context, try kgo.TransactionEndTry) (committed bool, err error) {
	if err := s.txn.Client().EndTransaction(ctx, try); err != nil {
		return false, err
	}
	return try == kgo.TryCommit, nil
}

// noPositions says once that cases and consents bring nothing of what was published
// before them.
func (b *Broker) noPositions() {
	b.unindexed.Do(func() {
		b.log.Warn("cases and consents bring no earlier records: this instance has no index of subjects' positions")
	})
}

// used is how many deliveries an agreement with a ceiling has had from the partition.
func (w *work) used(a broker.AgreementID) int64 {
	if w.fill != nil {
		return w.fill.singles.Used(a)
	}
	return w.batch.Used(a)
}

func (w *work) usage() map[broker.AgreementID]int64 {
	if w.fill != nil && w.fill.notices { // they carry nothing that a ceiling counts
		return w.part.usage
	}
	if w.fill != nil {
		return w.fill.singles.Usage()
	}
	return w.batch.Usage()
}

func (w *work) kind() broker.DecisionKind {
	if w.fill != nil && w.fill.notices {
		return broker.NoticeDecision
	}
	if w.fill != nil {
		return broker.BackfillDecision
	}
	return broker.StreamDecision
}

var noData, yes = []byte("null"), []byte("true")

// remark adds what a delivery's headers say only where it is so.
func (w *work) remark(h []kgo.RecordHeader, notice bool) []kgo.RecordHeader {
	switch {
	case w.fill == nil:
	case w.fill.notices:
		h = append(h, kgo.RecordHeader{Key: deliver.DeniedHeader, Value: yes})
	default:
		h = append(h, kgo.RecordHeader{Key: deliver.BackfillHeader, Value: yes})
	}
	if notice {
		h = append(h, kgo.RecordHeader{Key: deliver.NoticeHeader, Value: yes})
	}
	return h
}

// fill is a slice of backfill.
type fill struct {
	list    []candidate // by offset
	to      progress    // once it has committed
	looked  int
	job     *job // whose slice it is; nil for that of cases and consents
	singles deliver.Singles
	skipped int // that intake does not accept any more

	notices bool // it is of notices, and told its questions
	told    []told
	given   int             // how many are told
	refused []broker.Reason // why the others are not
	unread  int             // records that intake does not accept any more, and subscriptions that are to another dataset
}

// candidate is a record, and the subscriptions that may be owed it.
type candidate struct {
	rec  *kgo.Record
	owed map[broker.SubscriptionID]owed
}

// owed is on what conditions.
type owed struct {
	subject broker.SubjectKey // whose record it must be; zero for any
	// unless policy permits it without any case or consent: then the stream has
	// delivered it.
	unless bool
	// listed is the revision by which the subject must have been; 0 where it need not.
	listed broker.Revision
}

// backfill is process for what was published earlier.
func (w *work) backfill(ctx context.Context, b *Broker, in *instant) error {
	p, f := w.part, w.fill
	w.reset(in.world)
	f.skipped = 0
	f.singles.Reset(deliver.SinglesHeader{
		Kind: broker.BackfillDecision, TopicID: p.topicID, Partition: p.number, Time: in.now, Revision: in.revision,
		Policy: in.world.digest, Period: in.period, Limits: b.limitsHeader(), Usage: maps.Clone(p.usage),
	})
	ds := in.world.datasets[p.dataset]
	for i := range f.list {
		c := &f.list[i]
		if rejection := w.accept(b, ds, c.rec); rejection != nil {
			f.skipped++ // its declaration has changed since
			continue
		}
		if f.job != nil && f.job.repeated(&w.rec, c.rec) {
			continue
		}
		in.state.Consult(&w.rec)
		w.found = in.world.index.Match(w.found[:0], &w.rec, in.state)
		w.decisions, w.cuts = w.decisions[:0], w.cuts[:0]
		for _, n := range w.found {
			route := in.world.numbered[n]
			if o, ok := c.owed[route.id]; ok && w.owes(ctx, in, route, &o) {
				w.answer(ctx, b, in, n)
			}
		}
		if len(w.decisions) == 0 {
			continue
		}
		row := deliver.Single{Position: w.rec.Position, Event: w.rec.Event, Kind: w.rec.Kind}
		if w.rec.HasSubject {
			var err error
			if row.Subject, err = b.hasher.Pseudonym(in.period, w.rec.Subject); err != nil {
				return err
			}
		}
		f.singles.Add(row, w.decisions)
	}
	w.batches = f.singles.Finish()
	for _, v := range w.batches {
		if len(v) > largestBatch {
			return fmt.Errorf("%s/%d: the decisions of backfill on one record take %d bytes, of which Kafka takes %d", p.topic, p.number, len(v), largestBatch)
		}
	}
	return nil
}

// owes reports whether a subscription in whose scope the record is is owed it.
func (w *work) owes(ctx context.Context, in *instant, route *route, o *owed) bool {
	rec := &w.rec
	if !o.subject.IsZero() && (!rec.HasSubject || rec.Subject != o.subject) {
		return false
	}
	if o.listed > 0 && (!rec.HasSubject || in.state.ListedSince(route.id, rec.Subject, o.listed+1) == 0) {
		return false
	}
	if !o.unless || route.prepared == nil {
		return true
	}
	facts := broker.Facts{Time: in.now, Kind: rec.Kind, Attributes: rec.Attributes, Usage: broker.Usage{Granted: 1}}
	outcome, err := route.prepared.Decide(ctx, &facts, &w.memo)
	return err != nil || outcome == nil || !outcome.Permit
}

// again asks Kafka until what passes in a moment has passed.
func again(ctx context.Context, b *Broker, ask func() error) error {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := ask()
		if !errors.Is(err, kerr.ConcurrentTransactions) || ctx.Err() != nil {
			return err
		}
		b.pause(ctx, pause)
	}
}

// passing is nil for what comes and goes with a rebalance.
func passing(err error) error {
	if transient(err) || errors.Is(err, kerr.GroupIDNotFound) || errors.Is(err, kerr.TransactionAbortable) {
		return nil
	}
	return err
}
