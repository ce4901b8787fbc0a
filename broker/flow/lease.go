package flow

import (
	"bytes"
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// Ceilings are leased to partitions through control, where each event makes
// other writers start again. So leases are few (docs/decisions/0015-leases.md):
// asked for ahead of need, by the use so far, for all partitions of an instance
// in one append.
const (
	// leaseAhead is how long a lease should last.
	leaseAhead = 30 * time.Second
	// leaseMemory is how far back use counts, in an average that fades.
	leaseMemory = 10 * time.Second
	// leaseShare bounds what lies unused at partitions that fall silent: what all
	// of them lease ahead is at the most this part of what was left.
	leaseShare = 8
	// leaseGather is how long what is asked ahead of need waits for others.
	leaseGather = 250 * time.Millisecond
)

// leaseKey is whom a lease is for.
type leaseKey struct {
	agreement broker.AgreementID
	topicID   broker.Digest
	partition int32
}

// shortage is a partition that may need more of a ceiling than it has leased.
type shortage struct {
	leaseKey
	want  int64 // granted in all, to be enough for what is decided now
	ahead int64 // more than that, to last for leaseAhead
	parts int64 // partitions that share the ceiling
}

// spending is the use of one ceiling by one partition, lately.
type spending struct {
	sum float64 // deliveries, each fading over leaseMemory
	at  time.Time
}

func (s spending) add(n int64, now time.Time) spending {
	if gone := now.Sub(s.at); gone > 0 {
		s.sum *= math.Exp(-gone.Seconds() / leaseMemory.Seconds())
		s.at = now
	}
	s.sum += float64(n)
	return s
}

// ahead is what leaseAhead takes at this rate.
func (s spending) ahead() int64 {
	return int64(s.sum * leaseAhead.Seconds() / leaseMemory.Seconds())
}

// piece is the most to lease ahead of need when left is left.
func (s shortage) piece(left int64) int64 { return min(s.ahead, left/(leaseShare*s.parts)) }

// shortages lists what the work needs beyond its leases, where anything is left
// to lease. A denial for the ceiling is final only when nothing is.
func (w *work) shortages(b *Broker, st *registry.State, now time.Time, dst []shortage) []shortage {
	for a, demand := range w.demand {
		p := w.part
		want := p.usage[a] + demand
		if want > st.Granted(a, p.topicID, p.number) && st.Unleased(a) > 0 {
			dst = append(dst, shortage{leaseKey{a, p.topicID, p.number}, want, p.spending[a].add(demand, now).ahead(), b.partitionsOf(st, p.dataset)})
		}
	}
	return dst
}

// spend takes note of what a committed transaction has used, and adds to dst
// the leases of which half or more is gone.
func (p *partition) spend(b *Broker, st *registry.State, now time.Time, usage map[broker.AgreementID]int64, dst []shortage) []shortage {
	for a, n := range usage {
		used := n - p.usage[a]
		if used <= 0 {
			continue
		}
		if p.spending == nil {
			p.spending = map[broker.AgreementID]spending{}
		}
		s := p.spending[a].add(used, now)
		p.spending[a] = s
		short := shortage{leaseKey{a, p.topicID, p.number}, n, s.ahead(), b.partitionsOf(st, p.dataset)}
		piece := short.piece(st.Unleased(a))
		// Pieces that are smaller than a transaction would be asked for at each:
		// so near the ceiling, what is needed is leased when it is.
		if piece > used && st.Granted(a, p.topicID, p.number)-n < piece/2 {
			dst = append(dst, short)
		}
	}
	return dst
}

func (b *Broker) partitionsOf(st *registry.State, id broker.DatasetID) int64 {
	if d := st.Dataset(id); d != nil && d.Partitions > 0 {
		return int64(d.Partitions)
	}
	return max(1, int64(b.kafka.SourcePartitions))
}

// leaser gathers what the sessions of an instance ask for. One goroutine
// appends it, so that no two of them are rivals.
type leaser struct {
	wake   chan struct{} // something is asked for
	urgent chan struct{} // somebody waits

	mu    sync.Mutex
	asked map[leaseKey]shortage
	round *leaseRound // of those who wait; nil: nobody does
}

// leaseRound is one append that sessions wait for. err is set before done closes.
type leaseRound struct {
	done chan struct{}
	err  error
}

func newLeaser() *leaser {
	return &leaser{wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1), asked: map[leaseKey]shortage{}}
}

// ask takes note of shortages; wait says that the caller cannot go on before
// they are seen to, and gives what to wait for.
func (l *leaser) ask(short []shortage, wait bool) (round *leaseRound) {
	l.mu.Lock()
	for _, s := range short {
		s.want = max(s.want, l.asked[s.leaseKey].want)
		l.asked[s.leaseKey] = s
	}
	if wait && l.round == nil {
		l.round = &leaseRound{done: make(chan struct{})}
	}
	round = l.round
	l.mu.Unlock()
	signal(l.wake)
	if wait {
		signal(l.urgent)
	}
	return round
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// take empties what is asked for.
func (l *leaser) take() ([]shortage, *leaseRound) {
	l.mu.Lock()
	defer l.mu.Unlock()
	short := make([]shortage, 0, len(l.asked))
	for _, s := range l.asked {
		short = append(short, s)
	}
	clear(l.asked)
	round := l.round
	l.round = nil
	slices.SortFunc(short, func(a, b shortage) int {
		return cmp.Or(cmp.Compare(a.agreement, b.agreement), bytes.Compare(a.topicID[:], b.topicID[:]), cmp.Compare(a.partition, b.partition))
	})
	return short, round
}

// lease returns when what is short has been leased, as far as anything was left.
func (b *Broker) lease(ctx context.Context, short []shortage) error {
	round := b.leases.ask(short, true)
	select {
	case <-round.done:
		return round.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leaseLoop appends what is asked for until ctx ends. Whoever waits then waits
// on a context that has ended too.
func (b *Broker) leaseLoop(ctx context.Context) {
	l := b.leases
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			return
		}
		gather := time.NewTimer(leaseGather)
		select {
		case <-l.urgent:
		case <-gather.C:
		case <-ctx.Done():
		}
		gather.Stop()
		short, round := l.take()
		if len(short) == 0 {
			continue // a signal of what went with an earlier round
		}
		_, err := b.control.appendLease(ctx, func(st *registry.State) ([]registry.Event, error) {
			return st.Link(b.now(), b.actor, grants(st, short)...)
		})
		if round != nil {
			round.err = err
			close(round.done)
		} else if err != nil && ctx.Err() == nil {
			b.log.Debug("leasing ahead of need; it is asked for again", "err", err)
		}
	}
}

// grants are the leases that make up for what is short: all that is needed now,
// as far as there is, and then what is asked ahead of need. Nobody stands in
// short twice.
func grants(st *registry.State, short []shortage) []registry.Change {
	amounts, left := make([]int64, len(short)), map[broker.AgreementID]int64{}
	for i, s := range short {
		if _, ok := left[s.agreement]; !ok {
			left[s.agreement] = st.Unleased(s.agreement)
		}
		missing := s.want - st.Granted(s.agreement, s.topicID, s.partition)
		amounts[i] = max(0, min(left[s.agreement], missing))
		left[s.agreement] -= amounts[i]
	}
	var changes []registry.Change
	for i, s := range short {
		// Measured by what was left to begin with, whoever is first in the list.
		enough := s.want + s.piece(st.Unleased(s.agreement))
		more := min(enough-st.Granted(s.agreement, s.topicID, s.partition)-amounts[i], left[s.agreement])
		if more > 0 {
			amounts[i] += more
			left[s.agreement] -= more
		}
		if amounts[i] > 0 {
			changes = append(changes, registry.LeaseBudget(s.agreement, s.topicID, s.partition, amounts[i]))
		}
	}
	return changes
}
