package flow

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// While one instance changes the registry, whoever asks another for its latest sees
// all that was acknowledged before the question.
func TestLatestSeesWhatWasAcknowledged(t *testing.T) {
	h := newHarness(t)
	one, other := h.openControl(), h.openControl()
	var acknowledged atomic.Uint64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for ctx.Err() == nil {
				before := acknowledged.Load()
				got, err := other.Latest(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if uint64(got) < before {
					t.Errorf("revision %d, though %d was acknowledged", got, before)
					return
				}
			}
		})
	}
	for i := range 100 {
		org, err := registry.Put(broker.Organisation{Number: "958935420", Name: strconv.Itoa(i)})
		if err != nil {
			t.Fatal(err)
		}
		rev, err := one.Append(t.Context(), func(st *registry.State) ([]registry.Event, error) {
			return st.Link(time.Unix(0, 0), "test", org)
		})
		if err != nil {
			t.Fatal(err)
		}
		acknowledged.Store(uint64(rev))
	}
	stop()
	asking.Wait()
	other.Close()
	if _, err := other.Latest(t.Context()); err == nil {
		t.Error("a closed fold answered")
	}
}
