package flow

import (
	"errors"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// What every instance would refuse is not written: the writer is told at once why, and
// not after a minute that others kept coming first.
func TestAppendOfWhatCannotBe(t *testing.T) {
	h := newHarness(t)
	c := h.openControl()
	asked := 0
	_, err := c.Append(t.Context(), func(st *registry.State) ([]registry.Event, error) {
		asked++
		return st.Link(time.Unix(0, 0), "test", registry.WithdrawDelegation("nobody", time.Unix(0, 0)))
	})
	var refused *registry.RefusedError
	if !errors.As(err, &refused) || asked != 1 {
		t.Fatalf("asked %d times: %v", asked, err)
	}
	if rev := c.Revision(); rev != 0 {
		t.Fatalf("revision %d", rev)
	}
	n := 0
	if err := c.Log(t.Context(), func(int64, registry.Event, bool) error { n++; return nil }); err != nil || n != 0 {
		t.Fatalf("%d events were written, %v", n, err)
	}
	// It stands in nobody's way.
	org, err := registry.Put(broker.Organisation{Number: "958935420", Name: "Oslo"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Append(t.Context(), func(st *registry.State) ([]registry.Event, error) { return st.Link(time.Unix(0, 0), "test", org) }); err != nil {
		t.Fatal(err)
	}
}
