package flow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// lostMarkers looks after transactions that Kafka has ended without telling a
// partition (docs/decisions/0007-lost-markers.md). Owned by the goroutine of
// [Broker.mendLoop].
type lostMarkers struct {
	b   *Broker
	cl  *kgo.Client
	adm *kadm.Client // of cl
	// since is how far each unstable partition was readable, and from when on.
	since map[topicPartition]stuck
}

type stuck struct {
	at      int64
	from    time.Time
	looked  time.Time // when it was last asked about
	pause   time.Duration
	problem string // why it cannot be mended, as last logged
}

// longestLook bounds how rarely a partition is looked at that stays unstable.
const longestLook = 5 * time.Minute

// mendLoop runs until ctx ends, with or without a session: a session may be
// waiting for the very partition that is to be mended.
func (b *Broker) mendLoop(ctx context.Context) {
	if b.engine.Embedded() {
		return // it repairs itself at its start
	}
	cl, err := b.engine.NewClient()
	if err != nil {
		b.log.Error("lost markers are not looked for", "err", err)
		return
	}
	defer cl.Close()
	l := &lostMarkers{b: b, cl: cl, adm: kadm.NewClient(cl), since: map[topicPartition]stuck{}}
	for ctx.Err() == nil {
		b.pause(ctx, max(time.Second, b.cfg.TransactionTimeout/5))
		turn, cancel := context.WithTimeout(ctx, time.Minute)
		err := l.look(turn)
		cancel()
		if err != nil && ctx.Err() == nil {
			b.log.Debug("looking for lost markers", "err", err) // Kafka is away: the sessions say so
		}
	}
}

// ownTopics are all that the broker has; what of them does not exist is left out.
func (b *Broker) ownTopics(ctx context.Context, adm *kadm.Client) ([]string, error) {
	names := []string{b.topics.Control(), b.topics.Deliveries(), b.topics.Decisions(), b.topics.Ledger(), b.topics.Checkpoints()}
	b.control.View(func(st *registry.State) {
		for _, d := range st.Datasets() {
			names = append(names, b.topics.Source(string(d.ID)), b.topics.Rejected(string(d.ID)))
		}
		for _, m := range st.Mailboxes() {
			if m.Channel == broker.KafkaChannel {
				names = append(names, b.topics.Mailbox(string(m.ID)))
			}
		}
	})
	have, err := kafka.Describe(ctx, adm, names...)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(n string) bool { _, ok := have[n]; return !ok }), nil
}

// look asks which partitions are unstable, and about those that have been so
// from the same offset on for longer than any transaction of the broker's lasts.
func (l *lostMarkers) look(ctx context.Context) error {
	b := l.b
	names, err := b.ownTopics(ctx, l.adm)
	if err != nil {
		return err
	}
	unstable, err := kafka.Unstable(ctx, l.adm, names...)
	if err != nil {
		return err
	}
	offsets, number, err := kafka.GroupPartition(ctx, l.adm, b.cfg.Group)
	if err != nil {
		return err
	}
	internal, err := kafka.Unstable(ctx, l.adm, offsets)
	if err != nil {
		return err
	}
	if at, ok := internal[offsets][number]; ok {
		unstable[offsets] = map[int32]int64{number: at}
	}
	now := time.Now()
	since := map[topicPartition]stuck{}
	ask := kadm.TopicsSet{}
	for t, ps := range unstable {
		for p, at := range ps {
			tp := topicPartition{t, p}
			s := l.since[tp]
			if s.at != at || s.from.IsZero() {
				s = stuck{at: at, from: now}
			}
			if now.Sub(s.from) > b.cfg.TransactionTimeout && now.Sub(s.looked) > s.pause {
				s.looked, s.pause = now, min(longestLook, max(b.cfg.TransactionTimeout, 2*s.pause))
				ask.Add(t, p)
			}
			since[tp] = s
		}
	}
	l.since = since
	defer l.report()
	if len(ask) == 0 {
		return nil
	}
	open, err := b.engine.OpenTransactions(ctx, l.adm, ask)
	if err != nil {
		for t, ps := range ask {
			for p := range ps {
				l.problem(topicPartition{t, p}, "it could not be found out how it ended", err)
			}
		}
		return err
	}
	for _, o := range open {
		l.mend(ctx, o)
	}
	return nil
}

func (l *lostMarkers) mend(ctx context.Context, o kafka.OpenTransaction) {
	tp := topicPartition{o.Topic, o.Partition}
	switch {
	case o.Why != "":
		l.problem(tp, "the transaction of producer "+fmt.Sprint(o.ProducerID)+" cannot be judged: "+o.Why+
			". Find out whether it was committed; only if it was not, end it with kafka-transactions.sh abort "+
			fmt.Sprintf("--topic %s --partition %d --start-offset %d", o.Topic, o.Partition, o.Start), nil)
	case !o.Lost: // it goes on, or Kafka is about to end it
		s := l.since[tp]
		s.pause = 0
		l.since[tp] = s
	default:
		if err := kafka.Tell(ctx, l.adm, l.cl, o); err != nil {
			remedy := "allow this broker's user ALTER on the cluster"
			if !o.Committed {
				remedy += fmt.Sprintf(", or run kafka-transactions.sh abort --topic %s --partition %d --start-offset %d", o.Topic, o.Partition, o.Start)
			} else {
				remedy += "; do not use kafka-transactions.sh abort, for the transaction was committed"
			}
			l.problem(tp, "Kafka lost the "+outcome(o)+" marker, and it could not be written: "+remedy, err)
			return
		}
		l.b.told(o)
		delete(l.since, tp)
	}
}

func outcome(o kafka.OpenTransaction) string {
	if o.Committed {
		return "commit"
	}
	return "abort"
}

// told counts and logs a marker that was written in Kafka's place.
func (b *Broker) told(o kafka.OpenTransaction) {
	b.metrics.mended.WithLabelValues(outcome(o)).Inc()
	b.log.Warn("Kafka had ended a transaction without telling a partition: it is told now",
		"topic", o.Topic, "partition", o.Partition, "from", o.Start, "outcome", outcome(o),
		"producer", o.ProducerID, "epoch", o.Epoch, "transactional_id", o.TransactionalID)
}

// problem says once what keeps a partition from being mended.
func (l *lostMarkers) problem(tp topicPartition, what string, err error) {
	s := l.since[tp]
	text := fmt.Sprintf("%s/%d is readable to offset %d and no further: %s", tp.topic, tp.partition, s.at, what)
	if err != nil {
		text += ": " + err.Error()
	}
	if s.problem != text && !errors.Is(err, context.Canceled) {
		l.b.log.Error("a transaction has ended for Kafka and not for a partition", "problem", text)
	}
	s.problem = text
	l.since[tp] = s
}

// report shows what stays unmended, for health and metrics.
func (l *lostMarkers) report() {
	var first string
	n := 0
	for _, s := range l.since {
		if s.problem != "" {
			n++
			if first == "" || s.problem < first {
				first = s.problem
			}
		}
	}
	l.b.metrics.unmended.Set(float64(n))
	if first == "" {
		l.b.unmended.Store(nil)
		return
	}
	l.b.unmended.Store(&first)
}
