package providers_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"datafordeler/providers"
)

func TestWatermill(t *testing.T) {
	c := cluster(t)
	pub := publisher(t, config(c)).Watermill()
	m := message.NewMessage("e-1", []byte(`{"a":1}`))
	m.Metadata = message.Metadata{"key": "17", "ce_type": "t", "ce_time": "2026-11-05T12:00:00Z", "ce_supersedes": "e-0", "ce_provisional": "true", "ce_kommune": "0301", "_watermill": "x"}
	if err := pub.Publish("inntekt", m); err != nil {
		t.Fatal(err)
	}
	if err := pub.Publish(topic, message.NewMessage("", []byte(`2`)), message.NewMessage("", []byte(`2`))); err != nil {
		t.Fatal(err)
	}
	ids := map[string]int{}
	for _, r := range read(t, c) {
		ids[header(r, "ce_id")]++
		if header(r, "ce_id") != "e-1" {
			continue
		}
		for name, want := range map[string]string{"ce_type": "t", "ce_time": "2026-11-05T12:00:00Z", "ce_supersedes": "e-0", "ce_provisional": "true", "ce_kommune": "0301", "ce__watermill": ""} {
			if got := header(r, name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if string(r.Key) != string(providers.HashKey("inntekt", "17")) {
			t.Errorf("key %q", r.Key)
		}
	}
	if len(ids) != 2 || ids["e-1"] != 1 {
		t.Errorf("ids %v", ids)
	}
}

func TestWatermillRefuses(t *testing.T) {
	c := cluster(t)
	pub := publisher(t, config(c)).Watermill()
	if err := pub.Publish("skatt", message.NewMessage("1", []byte(`1`))); !errors.Is(err, providers.ErrUnknownDataset) {
		t.Errorf("another topic: %v", err)
	}
	for name, value := range map[string]string{"ce_time": "now", "ce_provisional": "perhaps", "ce_id": "2", "ce_specversion": "0.3", "ce_UPPER": "x", "ce_subject": "x"} {
		m := message.NewMessage("1", []byte(`1`))
		m.Metadata[name] = value
		var pe *providers.Error
		if err := pub.Publish("inntekt", m); !errors.As(err, &pe) || !pe.Refused {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := pub.Publish("inntekt", message.NewMessageWithContext(ctx, "1", []byte(`1`))); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if n := len(read(t, c)); n != 0 {
		t.Errorf("%d records", n)
	}
	if err := pub.Close(); err != nil {
		t.Fatal(err)
	}
	if err := pub.Publish("inntekt", message.NewMessage("1", []byte(`1`))); !errors.Is(err, providers.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
