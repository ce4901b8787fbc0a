package kafka

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Whoever asks is told of all that was committed before, also where an answer to
// somebody else was on its way.
func TestEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, e *Engine, cfg Config) {
		ctx := bounded(t)
		topic := cfg.Topics().Mailbox("m")
		ensure(t, e, cfg.MailboxSpec("m"))
		ends := NewEnds(e, topic)
		cl, err := e.NewClient(kgo.DefaultProduceTopic(topic))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		var written atomic.Int64
		var asking sync.WaitGroup
		for range 4 {
			asking.Go(func() {
				for written.Load() < 100 {
					before := written.Load()
					got, err := ends.Ask(ctx)
					if err != nil || got[0] < before {
						t.Errorf("it ends at %d, and %d were written: %v", got[0], before, err)
						return
					}
				}
			})
		}
		for range 100 {
			if err := cl.ProduceSync(ctx, kgo.StringRecord("v")).FirstErr(); err != nil {
				t.Fatal(err)
			}
			written.Add(1)
		}
		asking.Wait()
		ends.Close()
		if _, err := ends.Ask(ctx); err == nil {
			t.Error("it answered after it was closed")
		}
	})
}
