package flow

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/registry"
)

// heldFrom reads the committed deliveries with a door.
func (h *harness) heldFrom() (out []Held) {
	err := each(h.ctx, h.engine, h.topics.Deliveries(), func(r *kgo.Record) error {
		hs := headers(r)
		d, err := deliver.ReadDoor([]byte(hs[deliver.DoorHeader]))
		if err != nil {
			return err
		}
		kind := broker.Original
		if hs["ce_recordkind"] == "correction" {
			kind = broker.Correction
		}
		out = append(out, Held{broker.MailboxID(hs["ce_mailbox"]), broker.SubscriptionID(hs["ce_subscription"]), broker.AgreementID(hs["ce_agreement"]),
			broker.DatasetID(hs["ce_dataset"]), kind, d})
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func TestDoor(t *testing.T) {
	s := newScenario(t)
	text, err := os.ReadFile("testdata/registry.yaml")
	if err != nil {
		t.Fatal(err)
	}
	apply := func(replace ...string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "registry.yaml")
		if err := os.WriteFile(path, []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.apply(path); err != nil {
			t.Fatal(err)
		}
	}
	apply()
	s.activatePolicy()
	_ = registry.Change{}
	_ = time.Now
	t.Log(string(text))
}
