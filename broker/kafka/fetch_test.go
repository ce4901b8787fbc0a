package kafka

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A fetcher finds each committed record where a reader does, and nothing between: no
// marker, nothing of an aborted transaction, nothing of a topic made anew.
func TestFetcher(t *testing.T) {
	onBoth(t, func(t *testing.T, e *Engine, cfg Config) {
		ctx, draw := bounded(t), testRand(t)
		spec := cfg.DeliveriesSpec()
		spec.Partitions = 2
		ensure(t, e, spec)
		fill(t, e, spec.Name, 2, draw)
		adm := admin(t, e)
		ids, err := TopicIDs(ctx, adm, spec.Name)
		if err != nil {
			t.Fatal(err)
		}
		spans, err := Spans(ctx, adm, spec.Name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := e.Fetcher()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		id, found := ids[spec.Name], 0
		for _, s := range spans {
			there := map[int64]string{}
			if err := e.Each(ctx, s, func(r *kgo.Record) error { there[r.Offset] = told(r); return nil }); err != nil {
				t.Fatal(err)
			}
			for at := s.From; at < s.To+2; at++ {
				r, err := f.Record(ctx, spec.Name, id, s.Partition, at)
				want, ok := there[at]
				_, gone := errors.AsType[*GoneError](err)
				switch {
				case ok && (err != nil || told(r) != want || r.Offset != at || r.Partition != s.Partition):
					t.Errorf("%d/%d: %v %v", s.Partition, at, r, err)
				case !ok && !gone:
					t.Errorf("%d/%d: %v %v, and there is nothing", s.Partition, at, r, err)
				case ok:
					found++
				}
			}
		}
		if found == 0 {
			t.Error("nothing was found")
		}
		if _, err := f.Record(ctx, spec.Name, kadm.TopicID{1}, 0, spans[0].From); err == nil {
			t.Error("a record of another topic of that name")
		}
		if _, err := f.Record(ctx, spec.Name, id, 7, 0); err == nil {
			t.Error("a record of a partition that there is not")
		}
	})
}
