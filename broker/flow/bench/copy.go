package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"datafordeler/broker/kafka"
)

// Copy reads a topic and writes something of it, in transactions with the offsets
// read, until Records have been committed.
type Copy struct {
	Engine *kafka.Engine
	// Options are the broker's own (flow.Config.ClientOptions), made for each session.
	Options  func() []kgo.Opt
	Group    string // a new one, so that it begins at the start
	Source   string
	Sessions int // members of the group, each with transactions of its own
	Records  int64
	// MaxRecords is the most in one transaction; under Time, which is how long one
	// should take, there are as many as fit, as the broker does it. 0: no such time.
	MaxRecords int
	Time       time.Duration
	// Transform makes what to write of a transaction's records. It is called by
	// several sessions at once.
	Transform func(context.Context, []kgo.FetchTopicPartition) ([]*kgo.Record, error)
	// Begun, where set, is called when the first records have been read.
	Begun func()
	// Committed is told how many records have been committed so far. Neither is
	// called by two at once.
	Committed func(int64)
}

// Copied is what a Copy has done.
type Copied struct {
	Read, Written, Transactions int64
}

// run is a Copy under way.
type run struct {
	*Copy
	end context.CancelFunc // when all is copied

	mu    sync.Mutex // guards all below
	done  Copied
	begun bool
}

// Run copies. It fails when a transaction does, rather than trying again: a
// figure with a retry in it is no figure.
func (c *Copy) Run(ctx context.Context) (Copied, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{Copy: c, end: cancel}
	var sessions []*kgo.GroupTransactSession
	defer func() {
		var closing sync.WaitGroup
		for _, s := range sessions {
			closing.Go(s.Close)
		}
		closing.Wait()
	}()
	for i := range max(1, c.Sessions) {
		s, err := kgo.NewGroupTransactSession(c.Engine.Options(append(c.Options(),
			kgo.ConsumerGroup(c.Group), kgo.ConsumeTopics(c.Source), kgo.TransactionalID(c.Group+"/"+strconv.Itoa(i)),
		)...)...)
		if err != nil {
			return r.done, err
		}
		sessions = append(sessions, s)
	}
	if len(sessions) > 1 {
		if err := c.settle(ctx, len(sessions)); err != nil {
			return r.done, err
		}
	}
	var g errgroup.Group
	for _, s := range sessions {
		g.Go(func() error {
			err := r.session(ctx, s)
			if err != nil {
				cancel() // the others have nobody to wait for
			}
			return err
		})
	}
	err := g.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done.Read >= c.Records {
		err = nil // a session that waited for more was ended
	}
	return r.done, err
}

// settle waits until all members have their parts: an abort because somebody
// joined is not what is measured.
func (c *Copy) settle(ctx context.Context, members int) error {
	adm, err := c.Engine.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		groups, err := adm.DescribeGroups(ctx, c.Group)
		if err != nil && !errors.Is(err, kerr.CoordinatorNotAvailable) && !errors.Is(err, kerr.CoordinatorLoadInProgress) && !errors.Is(err, kerr.NotCoordinator) {
			return fmt.Errorf("describing group %s: %w", c.Group, err)
		} // a Kafka that never had a group makes its offsets topic first
		topics, err := adm.ListTopics(ctx, c.Source)
		if err != nil {
			return err
		}
		if g := groups[c.Group]; g.State == "Stable" && len(g.Members) == members {
			assigned := 0
			for _, m := range g.Members {
				if a, ok := m.Assigned.AsConsumer(); ok {
					for _, t := range a.Topics {
						assigned += len(t.Partitions)
					}
				}
			}
			if assigned == len(topics[c.Source].Partitions) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *run) session(ctx context.Context, session *kgo.GroupTransactSession) error {
	limit := r.MaxRecords
	if r.Time > 0 {
		limit = min(limit, 500)
	}
	first := true
	for {
		fetches := session.PollRecords(ctx, limit)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("reading %s: %w", r.Source, err)
		}
		begun := time.Now()
		var parts []kgo.FetchTopicPartition
		n := 0
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) > 0 {
				parts = append(parts, p)
				n += len(p.Records)
			}
		})
		if n == 0 {
			continue
		}
		r.begin()
		out, err := r.Transform(ctx, parts)
		if err != nil {
			return err
		}
		computed := time.Since(begun)
		if err := session.Begin(); err != nil {
			return fmt.Errorf("beginning a transaction: %w", err)
		}
		// One that is begun is ended, also when another session has just copied the last.
		err = produce(context.WithoutCancel(ctx), session, out)
		committed, endErr := session.End(context.WithoutCancel(ctx), kgo.TransactionEndTry(err == nil))
		if err = errors.Join(err, endErr); err != nil {
			return fmt.Errorf("ending a transaction: %w", err)
		}
		if !committed && first {
			// The session does not forget that partitions were taken from it while
			// the others joined. It reads the few records again.
			first = false
			continue
		}
		first = false
		if !committed {
			return errors.New("a transaction was aborted: the group was rebalancing; run again")
		}
		for _, p := range parts {
			for _, rec := range p.Records {
				rec.Recycle() // as the broker does
			}
		}
		if r.commit(int64(n), int64(len(out))) {
			r.end()
			return nil
		}
		limit = r.fit(limit, n, computed, time.Since(begun))
	}
}

// fit is how many records the next transaction may have, by the broker's own rule
// (flow.pace): what grows with the records is held to Time, or to as long as the
// rest takes.
func (r *run) fit(limit, n int, computed, took time.Duration) int {
	if r.Time == 0 || computed <= 0 {
		return limit
	}
	room := max(r.Time-(took-computed), took-computed)
	fits := int(min(float64(n)*float64(room)/float64(computed), float64(r.MaxRecords)))
	switch {
	case computed > room:
		limit = min(limit, (limit+fits)/2)
	case n >= limit:
		limit = min(2*limit, fits)
	}
	return min(max(limit, 100), r.MaxRecords)
}

func (r *run) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.begun && r.Begun != nil {
		r.Begun()
	}
	r.begun = true
}

// commit counts a transaction, and says whether it was the last.
func (r *run) commit(read, written int64) (all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done.Read += read
	r.done.Written += written
	r.done.Transactions++
	r.Committed(r.done.Read)
	return r.done.Read >= r.Records
}

func produce(ctx context.Context, session *kgo.GroupTransactSession, out []*kgo.Record) error {
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	wg.Add(len(out))
	promise := func(_ *kgo.Record, err error) {
		if err != nil {
			mu.Lock()
			failed = errors.Join(failed, err)
			mu.Unlock()
		}
		wg.Done()
	}
	for _, r := range out {
		session.Produce(ctx, r, promise)
	}
	wg.Wait()
	return failed
}

// Raw copies each record as it is, fanout times, over the target's partitions.
func Raw(target string, partitions int32, fanout int) func(context.Context, []kgo.FetchTopicPartition) ([]*kgo.Record, error) {
	return func(_ context.Context, parts []kgo.FetchTopicPartition) ([]*kgo.Record, error) {
		var out []*kgo.Record
		for _, p := range parts {
			for _, r := range p.Records {
				for i := range fanout {
					out = append(out, &kgo.Record{Topic: target, Partition: int32((r.Offset + int64(i)) % int64(partitions)),
						Key: r.Key, Value: r.Value, Headers: r.Headers})
				}
			}
		}
		return out, nil
	}
}

// Progress is when the first and the last transaction of a run were committed.
// What counts are the records between the two: joining a group and warming up
// are not throughput.
type Progress struct {
	// Processor, where set, is what this process has used of the processors.
	Processor func() time.Duration

	first, last         time.Time
	usedFirst, usedLast time.Duration
	begun, done         int64
}

// Begin counts from now, instead of from the first commit, unless it has begun:
// for a way so slow that joining and warming up are nothing beside it.
func (p *Progress) Begin() {
	if p.first.IsZero() {
		p.first, p.usedFirst = time.Now(), p.used()
	}
}

func (p *Progress) used() time.Duration {
	if p.Processor == nil {
		return 0
	}
	return p.Processor()
}

// Committed notes that n records have been committed by now.
func (p *Progress) Committed(n int64) {
	if n == p.done {
		return
	}
	p.last, p.usedLast = time.Now(), p.used()
	if p.first.IsZero() {
		p.first, p.usedFirst, p.begun = p.last, p.usedLast, n
	}
	p.done = n
}

// Rate is in records a second; 0 where a single transaction took them all.
func (p *Progress) Rate() float64 {
	if d := p.last.Sub(p.first).Seconds(); d > 0 {
		return float64(p.done-p.begun) / d
	}
	return 0
}

// Cost is the processor time of a record, in microseconds, by all that this
// process does; 0 where it was not to be known.
func (p *Progress) Cost() float64 {
	if n := p.done - p.begun; n > 0 {
		return float64((p.usedLast - p.usedFirst).Nanoseconds()) / 1e3 / float64(n)
	}
	return 0
}

// Busy is how many processors were at work, on average.
func (p *Progress) Busy() float64 {
	if d := p.last.Sub(p.first); d > 0 {
		return float64(p.usedLast-p.usedFirst) / float64(d)
	}
	return 0
}
