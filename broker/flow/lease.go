package flow

import (
	"context"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// shortage is a partition that may need more of a ceiling than it has leased.
type shortage struct {
	agreement broker.AgreementID
	topicID   broker.Digest
	partition int32
	want      int64 // granted in all, to be enough for this transaction
}

// shortages lists what the work would need beyond its leases, where anything
// is left to lease. A denial for the ceiling is final only when nothing is.
func (w *work) shortages(st *registry.State, dst []shortage) []shortage {
	for a, demand := range w.demand {
		granted := st.Granted(a, w.part.topicID, w.part.number)
		want := w.part.usage[a] + demand
		if want > granted && st.Unleased(a) > 0 {
			dst = append(dst, shortage{a, w.part.topicID, w.part.number, want})
		}
	}
	return dst
}

// lease appends budget leases to control: as much as is wanted, or what is
// left. Parts of a ceiling that are large beside the demand are leased in
// larger pieces, so that control is not asked for every transaction; near the
// ceiling, no more than is wanted, so that little is stranded.
func (b *Broker) lease(ctx context.Context, short []shortage) error {
	_, err := b.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		var changes []registry.Change
		taken := map[broker.AgreementID]int64{}
		for _, s := range short {
			left := st.Unleased(s.agreement) - taken[s.agreement]
			missing := s.want - st.Granted(s.agreement, s.topicID, s.partition)
			if left <= 0 || missing <= 0 {
				continue
			}
			amount := min(left, max(missing, left/64))
			taken[s.agreement] += amount
			changes = append(changes, registry.LeaseBudget(s.agreement, s.topicID, s.partition, amount))
		}
		return st.Link(b.now(), b.actor, changes...)
	})
	return err
}
