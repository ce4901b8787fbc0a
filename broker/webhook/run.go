package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
)

const (
	readBatch = 200
	readBytes = 4 << 20 // of bodies kept for one mailbox, about
	readWait  = 30 * time.Second
	saveEvery = time.Second
	// imageEvery is how often all that counts is written anew, so that a start reads
	// hours and not weeks.
	imageEvery = 6 * time.Hour
	// breaker is after how many subjects in a row it failed on, with none that it took
	// between them, that an endpoint is asked with one delivery at a time only, and as
	// seldom as with one that keeps failing. One subject that fails stops no other.
	breaker = 5
	// again is the pause where something of the broker's own stood in the way.
	again = 5 * time.Second
)

// Own sends for the mailboxes of one partition until ctx ends. One instance at a time
// should; where two do, what the elder writes down does not count. It first writes an
// image of the partition, and says where that begins.
func (s *Sender) Own(ctx context.Context, partition int32, image func(offset int64)) {
	writer := newWriter()
	nobody := func(broker.MailboxID) bool { return false }
	var begun int64
	for ctx.Err() == nil {
		var err error
		if begun, err = s.claim(ctx, partition, writer, nobody); err == nil {
			image(begun)
			break
		}
		if ctx.Err() == nil {
			s.Log.Warn("sending webhooks could not begin and is tried again", "partition", partition, "err", err)
			sleep(ctx, again)
		}
	}
	var running sync.WaitGroup
	defer running.Wait()
	stops, runs := map[broker.MailboxID]context.CancelFunc{}, map[broker.MailboxID]*run{}
	pokes := map[broker.MailboxID]chan struct{}{}
	anew := time.NewTicker(imageEvery)
	defer anew.Stop()
	for seen := broker.Revision(0); ctx.Err() == nil; {
		changed := s.Control.Changed()
		want := map[broker.MailboxID]bool{}
		same := false
		s.Control.View(func(st *registry.State) {
			if same = st.WebhookRevision() == seen && seen > 0; same {
				return // of the many events, few are of webhooks
			}
			seen = st.WebhookRevision()
			for _, b := range st.Mailboxes() {
				if b.Channel == broker.Webhook && s.Deliveries.Partition(b.ID) == partition {
					want[b.ID] = true
				}
			}
		})
		for m, stop := range stops {
			if !same && !want[m] {
				stop()
				delete(stops, m)
				delete(runs, m)
			}
		}
		for m := range want {
			if stops[m] != nil {
				select {
				case pokes[m] <- struct{}{}:
				default: // it is poked already
				}
				continue
			}
			mine, stop := context.WithCancel(ctx)
			stops[m], pokes[m] = stop, make(chan struct{}, 1)
			r := &run{sender: s, mailbox: m, partition: partition, writer: writer, poked: pokes[m]}
			runs[m] = r
			running.Go(func() { defer stop(); r.loop(mine) })
		}
		select {
		case <-changed:
		case <-anew.C:
			at, err := s.claim(ctx, partition, writer, func(m broker.MailboxID) bool { return runs[m] != nil })
			if err != nil {
				if ctx.Err() == nil {
					s.Log.Warn("the topic of webhooks could not be written anew, and will be later", "partition", partition, "err", err)
				}
				continue
			}
			for _, r := range runs {
				r.rewrite.Store(true)
			}
			// Since the last time, each has written its own.
			image(begun)
			begun = at
		case <-ctx.Done():
		}
	}
}

// claim makes this writer the partition's, and waits until all that its forerunner
// wrote is folded here.
func (s *Sender) claim(ctx context.Context, partition int32, writer string, runs func(broker.MailboxID) bool) (begun int64, err error) {
	// Orders may come to stand between the claim and the image: who reads from the
	// claim on has them too.
	if begun, err = s.appendAt(ctx, partition, record{Kind: kindClaim, Writer: writer}); err != nil {
		return 0, err
	}
	if err := s.awaitFold(ctx, partition, begun); err != nil {
		return 0, err
	}
	records := s.book.image(partition, writer, func(m broker.MailboxID) bool { return s.Deliveries.Partition(m) == partition }, runs)
	last := begun
	for len(records) > 0 {
		n := min(len(records), 100)
		if last, err = s.appendAt(ctx, partition, records[:n]...); err != nil {
			return 0, err
		}
		records = records[n:]
	}
	return begun, s.awaitFold(ctx, partition, last)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// run is one mailbox's turn on one instance. All below belongs to loop.
type run struct {
	sender    *Sender
	mailbox   broker.MailboxID
	partition int32
	writer    string

	q         *queue
	next      int64
	known     bool          // next is
	failing   map[lane]bool // since it last took one
	failures  int           // as many; from breaker on, all that fail
	until     time.Time
	last      string
	lastAt    time.Time
	flying    int
	reading   bool
	pauseRead time.Time
	dirty     bool
	saved     time.Time
	proven    time.Time // the endpoint was, that failures and until are of
	replays   map[broker.DeliveryID]*item
	poked     <-chan struct{} // the registry changed
	rewrite   atomic.Bool     // progress is to be written again: set by Own

	results chan result
	batches chan batch
}

type result struct {
	f    *flight
	good bool
}

type batch struct {
	ds   []web.Delivery
	next int64
	err  error
}

// resume takes up what was written down.
func (r *run) resume() {
	r.q, r.replays, r.failing = newQueue(), map[broker.DeliveryID]*item{}, map[lane]bool{}
	r.results, r.batches = make(chan result), make(chan batch)
	p := r.sender.book.progressOf(r.mailbox)
	if p == nil || p.Topic != broker.Digest(r.sender.Deliveries.Topic()) {
		return
	}
	r.next, r.known, r.failures, r.until, r.last, r.lastAt = p.Next, true, p.Failures, p.Until, p.Last, p.LastAt
	if r.failures < breaker {
		r.failures = 0 // on whom, is forgotten
	}
	for _, w := range p.Waiting {
		if r.sender.book.poisoned(r.mailbox, w.ID) != nil {
			continue // it was put there before the end came
		}
		r.q.add(&item{Offset: w.Offset, ID: w.ID, Lane: lane(w.Lane), Tries: w.Tries, Due: w.Due, First: w.First, Last: w.Last})
	}
}

// loop reads, sends and writes down until ctx ends.
func (r *run) loop(ctx context.Context) {
	s := r.sender
	r.resume()
	r.saved = s.now()
	for {
		ordered := s.book.poisonChanged(r.mailbox)
		now := s.now()
		to, why := s.endpoint(r.mailbox)
		r.orders()
		if why == "" {
			if !r.proven.IsZero() && !r.proven.Equal(to.proven) { // what failed was another, or was mended
				r.answers()
				r.q.hasten(now)
			}
			r.proven = to.proven
			r.launch(ctx, now, to)
			r.read(ctx, now)
		}
		s.hold(r.mailbox, r.q.n)
		if r.rewrite.Swap(false) {
			r.dirty = true
		}
		if r.dirty && !now.Before(r.saved.Add(saveEvery)) {
			r.save(ctx)
		}
		var timer *time.Timer
		var wake <-chan time.Time
		if at, ok := r.wake(now, why == ""); ok {
			timer = time.NewTimer(at.Sub(now))
			wake = timer.C
		}
		select {
		case res := <-r.results:
			r.landed(res)
		case b := <-r.batches:
			r.reading = false
			r.take(b)
		case <-wake:
		case <-ordered:
		case <-r.poked:
		case <-ctx.Done():
			r.finish()
			return
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// wake is when the loop has something to do by the clock.
func (r *run) wake(now time.Time, usable bool) (at time.Time, ok bool) {
	sooner := func(t time.Time) {
		if t.Before(now) {
			t = now
		}
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	if r.dirty {
		sooner(r.saved.Add(saveEvery))
	}
	if !usable {
		return at, ok
	}
	if due, some := r.q.due(); some && r.flying < r.limit() {
		if due.Before(r.until) {
			due = r.until
		}
		sooner(due)
	}
	if !r.reading && r.room() && now.Before(r.pauseRead) {
		sooner(r.pauseRead)
	}
	return at, ok
}

// limit is how many may be under way.
func (r *run) limit() int {
	if r.failures >= breaker {
		return 1
	}
	return r.sender.Config.Concurrency
}

func (r *run) room() bool {
	return r.q.n < r.sender.Config.Waiting && r.q.bytes < readBytes
}

// launch sends what may be sent now.
func (r *run) launch(ctx context.Context, now time.Time, to endpoint) {
	if now.Before(r.until) {
		return
	}
	for r.flying < r.limit() {
		it := r.q.take(now)
		if it == nil {
			return
		}
		r.flying++
		f := &flight{run: r, it: it, now: to}
		m := message.NewMessage(it.ID.String(), nil)
		m.SetContext(context.WithValue(ctx, flightKey{}, f))
		go func() {
			good := false
			select {
			case r.sender.out <- m:
				select {
				case <-m.Acked():
					good = true
				case <-m.Nacked():
				}
			case <-ctx.Done():
			}
			r.results <- result{f, good}
		}()
	}
}

// answers forgets what the endpoint failed on.
func (r *run) answers() {
	r.failures, r.until = 0, time.Time{}
	clear(r.failing)
}

// landed notes what came of an attempt.
func (r *run) landed(res result) {
	s, f, it := r.sender, res.f, res.f.it
	r.flying--
	r.dirty, it.flying = true, false
	now := s.now()
	if f.tried {
		r.last, r.lastAt = string(f.result.outcome), now
		switch {
		case f.result.outcome.endpointsOwn():
			if r.failing[it.Lane] = true; r.failures < breaker {
				r.failures = len(r.failing)
			} else {
				r.failures++
			}
			if r.failures >= breaker || f.result.after > 0 && f.result.outcome == Busy {
				r.until = now.Add(s.Config.pause(max(1, r.failures-breaker+1), f.result.after, s.lot()))
			}
		default:
			if r.failures >= breaker {
				r.q.hasten(now)
			}
			r.answers()
		}
	}
	switch {
	case it.removed: // dropped meanwhile
	case res.good:
		r.q.done(it)
	case !f.tried:
		r.q.failed(it, now.Add(again))
	case f.result.outcome == Gone:
		r.q.failed(it, now.Add(again)) // the endpoint is out of use by then
	default:
		it.Tries++
		it.Last = f.result.why
		if it.First.IsZero() {
			it.First = now
		}
		r.q.failed(it, now.Add(s.Config.pause(it.Tries, f.result.after, s.lot())))
	}
	if it.replay && res.good && (f.result.outcome == Accepted || f.door || f.lost) {
		ctx, cancel := context.WithTimeout(context.Background(), again)
		defer cancel()
		if err := s.append(ctx, r.partition, record{Kind: kindDone, Writer: r.writer, Mailbox: r.mailbox, ID: it.ID}); err != nil {
			s.Log.Warn("that a replayed delivery is through could not be written down: after a restart it will come again", "mailbox", r.mailbox, "delivery", it.ID, "err", err)
		}
	}
}

// orders carries out what the owner ordered of the poison. One that is through stays
// in replays until the book shows it.
func (r *run) orders() {
	ordered := map[broker.DeliveryID]bool{}
	for _, e := range r.sender.book.replaying(r.mailbox) {
		ordered[e.ID] = true
		if it := r.replays[e.ID]; it == nil || it.removed && !it.ordered.Equal(e.Replaying) {
			it := &item{Offset: e.Offset, ID: e.ID, Lane: lane(e.Lane), First: e.First, replay: true, ordered: e.Replaying}
			r.replays[e.ID] = it
			r.q.add(it)
		}
	}
	for id, it := range r.replays {
		if !ordered[id] && !it.flying {
			r.q.remove(it)
			delete(r.replays, id)
		}
	}
}

// read asks for more of the log, if there is room.
func (r *run) read(ctx context.Context, now time.Time) {
	if r.reading || !r.room() || now.Before(r.pauseRead) {
		return
	}
	r.reading = true
	known, from, most := r.known, r.next, min(readBatch, r.sender.Config.Waiting-r.q.n)
	go func() {
		var b batch
		if !known {
			from, _, b.err = r.sender.Deliveries.Bounds(ctx, r.mailbox)
		}
		if b.err == nil {
			b.ds, b.next, _, b.err = r.sender.Deliveries.Read(ctx, r.mailbox, from, most, readBytes, readWait)
		}
		select {
		case r.batches <- b:
		case <-ctx.Done():
		}
	}()
}

// take puts what was read in the queue.
func (r *run) take(b batch) {
	s := r.sender
	var at *web.OffsetError
	switch {
	case errors.As(b.err, &at):
		// What was not sent in time is deleted, or the log was set back: begin with the
		// oldest that there is. What the endpoint has had it knows by its id.
		s.metrics.expired.Inc()
		s.Log.Error("a mailbox's place in the log is not there any more: sending goes on from the oldest delivery that is kept", "mailbox", r.mailbox, "err", b.err)
		r.known, r.dirty = false, true
		return
	case b.err != nil:
		s.Log.Warn("deliveries could not be read, and will be again", "mailbox", r.mailbox, "err", b.err)
		r.pauseRead = s.now().Add(again)
		return
	}
	if !r.known || b.next != r.next {
		r.dirty = r.dirty || len(b.ds) > 0
	}
	r.known, r.next = true, b.next
	for i := range b.ds {
		d := &b.ds[i]
		id, l := identify(d)
		r.q.add(&item{Offset: d.Offset, ID: id, Lane: l, body: d})
	}
}

// identify reads a delivery's id and what keeps its order: the subject, under the
// stable key, within its dataset; where there is none, the dataset.
func identify(d *web.Delivery) (id broker.DeliveryID, l lane) {
	var dataset []byte
	var subject broker.SubjectKey
	for _, h := range d.Headers {
		switch h.Key {
		case "ce_id":
			_ = id.UnmarshalText(h.Value)
		case "ce_dataset":
			dataset = h.Value
		case deliver.DoorHeader:
			if door, err := deliver.ReadDoor(h.Value); err == nil {
				subject = door.Subject
			}
		}
	}
	return id, laneOf(dataset, subject)
}

// save writes down how far the mailbox has come.
func (r *run) save(ctx context.Context) {
	s := r.sender
	p := &progress{Topic: broker.Digest(s.Deliveries.Topic()), Next: r.next, Failures: r.failures, Until: r.until.UTC(), Last: r.last, LastAt: r.lastAt.UTC()}
	if !r.known && r.q.n == 0 {
		return
	}
	for _, it := range r.q.items() {
		if !it.replay {
			p.Waiting = append(p.Waiting, waiting{Offset: it.Offset, ID: it.ID, Lane: broker.Digest(it.Lane), Tries: it.Tries, Due: it.Due.UTC(), First: it.First.UTC(), Last: it.Last})
		}
	}
	r.saved = s.now() // also where it fails: not at once again
	if err := s.append(ctx, r.partition, record{Kind: kindProgress, Writer: r.writer, Mailbox: r.mailbox, Progress: p}); err != nil {
		if ctx.Err() == nil {
			s.Log.Warn("how far a mailbox was sent could not be written down: after a restart more would come again", "mailbox", r.mailbox, "err", err)
		}
		return
	}
	r.dirty = false
}

// finish waits for what is under way, which ctx has ended, and writes down the rest.
func (r *run) finish() {
	for r.flying > 0 {
		r.landed(<-r.results)
	}
	if r.dirty {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		r.save(ctx)
	}
	r.sender.hold(r.mailbox, -1)
}

// hold notes how many deliveries of a mailbox wait here, for metrics; −1 is that it is
// another's now.
func (s *Sender) hold(m broker.MailboxID, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n < 0 {
		delete(s.holding, m)
		return
	}
	s.holding[m] = n
}

// laneOf is what keeps its order. A subject means nothing without its dataset.
func laneOf(dataset []byte, subject broker.SubjectKey) (l lane) {
	h := sha256.New()
	h.Write(binary.AppendUvarint(nil, uint64(len(dataset))))
	h.Write(dataset)
	h.Write(subject[:])
	copy(l[:], h.Sum(nil))
	return l
}
