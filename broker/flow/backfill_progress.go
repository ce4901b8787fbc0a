package flow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// BackfillProgress is how far backfill of one source partition has come, as its
// group's offset says.
type BackfillProgress struct {
	Dataset   broker.DatasetID `json:"dataset"`
	Partition int32            `json:"partition"`
	// Waiting is how many cases and consents are still to bring what was published
	// before them.
	Waiting int64 `json:"waiting"`
	// Subscription begins before it was declared and is under way, or the next to
	// be; "" for none. Left is how many offsets of the source it has left, −1 before
	// it is under way, and Starts how many there are, it included.
	Subscription broker.SubscriptionID `json:"subscription,omitempty"`
	Left         int64                 `json:"left"`
	Starts       int                   `json:"starts"`
	// Notices is how many offsets of the source are still to be looked at for
	// corrections and retractions that somebody must be told of.
	Notices int64 `json:"notices,omitempty"`
	// Pending: a transaction stands open, so nothing can be said now.
	Pending bool `json:"pending,omitempty"`
}

// Done reports whether nothing is left.
func (p *BackfillProgress) Done() bool {
	return !p.Pending && p.Waiting == 0 && p.Starts == 0 && p.Notices == 0
}

// BackfillLeft tells how far backfill has come in each source partition, in order of
// dataset and partition. A partition that nothing was committed of has nothing left:
// all that it holds is decided as the newest control state has it.
func BackfillLeft(ctx context.Context, engine *kafka.Engine, topics kafka.Topics, group string, control *Control) ([]BackfillProgress, error) {
	adm, err := engine.Admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	names := map[string]broker.DatasetID{}
	control.View(func(st *registry.State) {
		for _, d := range st.Datasets() {
			names[topics.Source(string(d.ID))] = d.ID
		}
	})
	var list []string
	for n := range names {
		list = append(list, n)
	}
	if len(list) == 0 {
		return nil, nil
	}
	slices.Sort(list)
	details, err := kafka.Describe(ctx, adm, list...)
	if err != nil {
		return nil, err
	}
	committed, unstable := committedOffsets(kadm.RequireStable(ctx), adm, group, list...)
	if unstable != nil && !errors.Is(unstable, kerr.UnstableOffsetCommit) {
		return nil, unstable
	}
	var out []BackfillProgress
	for _, t := range list {
		for n := range details[t].Partitions {
			p := BackfillProgress{Dataset: names[t], Partition: n}
			o, ok := committed.Lookup(t, n)
			switch {
			case !ok && unstable != nil, errors.Is(o.Err, kerr.UnstableOffsetCommit):
				p.Pending = true
			case !ok, o.Err == nil && (o.At < 0 || o.Metadata == ""):
			case o.Err != nil:
				return nil, fmt.Errorf("committed offset of %s/%d: %w", t, n, o.Err)
			default:
				m, err := parseMetadata(o.Metadata)
				if err != nil {
					return nil, fmt.Errorf("%s/%d: %w", t, n, err)
				}
				control.View(func(st *registry.State) { p.of(st, &m.backfill) })
				if m.backfill.told >= 0 {
					p.Notices = max(0, o.At-m.backfill.told)
				}
			}
			out = append(out, p)
		}
	}
	return out, nil
}

func (p *BackfillProgress) of(st *registry.State, d *progress) {
	p.Waiting = st.TriggersLeft(p.Dataset, d.swept)
	starts := st.Starts(p.Dataset, d.started)
	if p.Starts = len(starts); p.Starts > 0 {
		p.Subscription, p.Left = starts[0].Subscription, -1
		if d.job == starts[0].Revision {
			p.Left = d.until - d.next
		}
	}
}

// backfill shows how far a partition has come.
func (m *Metrics) backfill(st *registry.State, p *partition) {
	at := BackfillProgress{Dataset: p.dataset}
	at.of(st, &p.backfill.done)
	number := strconv.Itoa(int(p.number))
	m.backfillWaiting.WithLabelValues(string(p.dataset), number).Set(float64(at.Waiting + int64(at.Starts)))
	m.backfillLeft.WithLabelValues(string(p.dataset), number).Set(float64(max(0, at.Left)))
}
