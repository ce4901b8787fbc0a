package flow

import (
	"context"
	"errors"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// A change whose fate is not seen is in doubt, and no conflict: it may stand.
func TestAppendInDoubt(t *testing.T) {
	h := newHarness(t)
	ctx, cancel := context.WithCancel(t.Context())
	blind, err := OpenControl(ctx, h.engine, h.topics, h.log)
	if err != nil {
		t.Fatal(err)
	}
	defer blind.Close()
	cancel()
	if err := blind.await(t.Context(), func() bool { return false }); err == nil { // the fold has ended
		t.Fatal("it folds on")
	}
	org, err := registry.Put(broker.Organisation{Number: "958935420", Name: "Oslo"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = blind.Append(t.Context(), func(st *registry.State) ([]registry.Event, error) { return st.Link(time.Unix(0, 0), "test", org) })
	if !errors.Is(err, ErrMaybeRecorded) || errors.Is(err, ErrConflict) {
		t.Errorf("%v", err)
	}
	if rev, err := h.control.Latest(t.Context()); err != nil || rev != 1 {
		t.Errorf("revision %d, %v: it stands", rev, err)
	}
}
