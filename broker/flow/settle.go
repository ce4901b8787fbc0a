package flow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"datafordeler/broker/kafka"
)

// errUnended is a transaction of this slot's that some partition does not know
// the end of.
var errUnended = errors.New("this slot's last transaction has not ended everywhere")

// settle returns when every partition that this slot's transactions have written
// to knows how they ended. No transaction may begin before.
//
// A partition does not keep a producer's transactions apart: a marker ends all
// that is open. If Kafka lost the marker of an aborted transaction (see
// kafka.OpenTransactions), the commit of the next one would commit what was
// aborted: deliveries twice, and decisions nobody took. And the other way round
// an abort would take back what was committed.
//
// A new session asks about all topics; after that it is enough to ask about
// what the last transaction wrote to. Kafka has usually written the markers
// while the next transaction was computed, so it costs one request.
func (s *session) settle(ctx context.Context) error {
	if s.broker.engine.Embedded() {
		return nil // one process; it repairs itself at its start
	}
	ctx, cancel := context.WithTimeout(ctx, s.broker.cfg.TransactionTimeout+s.broker.cfg.SessionTimeout)
	defer cancel()
	if s.unsettled == nil {
		all, err := s.everything(ctx)
		if err != nil {
			return err
		}
		s.unsettled = all
	}
	if len(s.unsettled) == 0 {
		return nil
	}
	producer, _, err := s.txn.Client().ProducerID(ctx)
	if err != nil {
		return fmt.Errorf("asking for the producer's id: %w", err)
	}
	for pause := time.Millisecond; ; pause = min(2*pause, time.Second) {
		open, err := kafka.OpenOf(ctx, s.adm, producer, s.unsettled)
		if err == nil && len(open) == 0 {
			s.unsettled = kadm.TopicsSet{}
			return nil
		}
		if err == nil && pause > 500*time.Millisecond { // it takes longer than Kafka needs
			err = s.end(ctx, open)
		}
		s.broker.pause(ctx, pause)
		if ctx.Err() != nil {
			if err == nil {
				err = fmt.Errorf("%v", open)
			}
			return fmt.Errorf("%w: %w", errUnended, err)
		}
	}
}

// end writes those ends that Kafka has lost.
func (s *session) end(ctx context.Context, open []kafka.OpenTransaction) error {
	partitions := kadm.TopicsSet{}
	for _, o := range open {
		partitions.Add(o.Topic, o.Partition)
	}
	judged, err := s.broker.engine.OpenTransactions(ctx, s.adm, partitions)
	if err != nil {
		return err
	}
	for _, o := range judged {
		if o.ProducerID != open[0].ProducerID {
			continue // the mending loop's
		}
		if o.Why != "" {
			return fmt.Errorf("%v: %s", o, o.Why)
		}
		if !o.Lost {
			continue
		}
		if err := kafka.Tell(ctx, s.adm, s.txn.Client(), o); err != nil {
			return fmt.Errorf("%v: %w", o, err)
		}
		s.broker.told(o)
	}
	return nil
}

// everything is what a slot's transactions may have written to.
func (s *session) everything(ctx context.Context) (kadm.TopicsSet, error) {
	names, err := s.broker.ownTopics(ctx, s.adm)
	if err != nil {
		return nil, err
	}
	have, err := kafka.Describe(ctx, s.adm, names...)
	if err != nil {
		return nil, err
	}
	all := kadm.TopicsSet{}
	for name, d := range have {
		if _, source := s.broker.topics.SourceDataset(name); source {
			continue // only providers write there
		}
		for p := range d.Partitions {
			all.Add(name, p)
		}
	}
	offsets, number, err := kafka.GroupPartition(ctx, s.adm, s.broker.cfg.Group)
	if err != nil {
		return nil, err
	}
	all.Add(offsets, number)
	s.offsets = topicPartition{offsets, number}
	return all, nil
}

// wrote notes what the transaction under way writes to, before it is ended.
func (s *session) wrote(works []*work) {
	if s.unsettled == nil {
		return // embedded
	}
	s.unsettled.Add(s.offsets.topic, s.offsets.partition)
	for _, w := range works {
		s.unsettled.Add(s.broker.topics.Decisions(), w.part.number%s.broker.decisionPartitions.Load())
		var last topicPartition
		for _, r := range w.out {
			if tp := (topicPartition{r.Topic, r.Partition}); tp != last {
				s.unsettled.Add(tp.topic, tp.partition)
				last = tp
			}
		}
	}
}
