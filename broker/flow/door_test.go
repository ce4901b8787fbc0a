package flow

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
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
			broker.DatasetID(hs["ce_dataset"]), kind, d, hs[deliver.DeniedHeader] == "true"})
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// What is withdrawn after a delivery was committed is withheld at the door, on an
// instance that has not heard of it otherwise; what stands is not.
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
	const byKafka, byFeed = "channel: kafka", "channel: feed"
	apply(byKafka, byFeed)
	s.activatePolicy()
	do := func(line string) { s.run(strings.Fields(line), "") }
	do("open case p1")
	do("consent 310149942 loan p2")
	s.start()
	s.run([]string{"publish"}, "id=e1 person=p1 municipality=4601\nid=e2 person=p2 municipality=4601\nid=e3 person=p3\n")
	s.drain(s.ctx)
	held := s.heldFrom()
	keeper := s.newBroker(s.openControl(), "9").Doorkeeper()
	// Another instance, which asks the log and not this one.
	expect := func(when string, want map[broker.SubscriptionID]string) {
		t.Helper()
		outcomes, err := keeper.Judge(t.Context(), held)
		if err != nil {
			t.Fatal(when, err)
		}
		for i, o := range outcomes {
			got := "permit"
			if !o.Permit {
				got = string(o.Reasons[0])
			}
			if got != want[held[i].Subscription] {
				t.Errorf("%s: %s: %s, want %s", when, held[i].Subscription, got, want[held[i].Subscription])
			}
		}
	}
	if len(held) != 3 {
		t.Fatalf("%d deliveries: %+v", len(held), held)
	}
	expect("as decided", map[broker.SubscriptionID]string{"case": "permit", "loan": "permit", "all": "permit"})
	do("withdraw p2")
	expect("a consent withdrawn", map[broker.SubscriptionID]string{"case": "permit", "loan": "consent_withdrawn", "all": "permit"})
	do("end case p1")
	expect("a case ended", map[broker.SubscriptionID]string{"case": "no_open_case", "loan": "consent_withdrawn", "all": "permit"})
	apply(byKafka, byFeed, "corrections: refuse\nstatus: active", "corrections: refuse\nstatus: suspended")
	expect("an agreement suspended", map[broker.SubscriptionID]string{"case": "no_open_case", "loan": "consent_withdrawn", "all": "agreement_not_active"})
	// What does not fit what is declared now, or cannot be read, is withheld.
	apply(byKafka, byFeed)
	for name, spoil := range map[string]func(*Held){
		"another mailbox":   func(h *Held) { h.Mailbox = "banken" },
		"no subscription":   func(h *Held) { h.Subscription = "" },
		"another agreement": func(h *Held) { h.Agreement = "loan" },
		"no attributes":     func(h *Held) { h.Door.Attributes = nil },
		"unknown package":   func(h *Held) { h.Door.Package.Version = 7 },
	} {
		for _, h := range held {
			if h.Subscription != "all" {
				continue
			}
			spoil(&h)
			if o, err := keeper.Judge(t.Context(), []Held{h}); err != nil || o[0].Permit {
				t.Errorf("%s: %v %v", name, o, err)
			}
		}
	}
	// Where control cannot be asked, nothing is handed over.
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if o, err := keeper.Judge(ended, held); err == nil {
		t.Errorf("control could not be asked, and the answer was %v", o)
	}
	s.stop()
}

func TestCovers(t *testing.T) {
	shield := &broker.Shielding{Remove: []broker.Pointer{"/a"}}
	derived := func(limit string) []broker.Derivation {
		return []broker.Derivation{{V: 1, Target: "/svar", Title: "Svar", Op: broker.Sum, Value: "/a", Below: limit}}
	}
	for name, c := range map[string]struct {
		now, then *broker.RightsPackage
		want      bool
	}{
		"none":             {nil, nil, false},
		"gone":             {&broker.RightsPackage{}, nil, false},
		"more fields now":  {&broker.RightsPackage{Fields: []broker.Pointer{"/a", "/b"}}, &broker.RightsPackage{Fields: []broker.Pointer{"/a"}}, true},
		"fewer fields now": {&broker.RightsPackage{Fields: []broker.Pointer{"/a"}}, &broker.RightsPackage{Fields: []broker.Pointer{"/a", "/b"}}, false},
		"derived as then":  {&broker.RightsPackage{Derivations: derived("1")}, &broker.RightsPackage{Derivations: derived("1")}, true},
		"other rule now":   {&broker.RightsPackage{Derivations: derived("2")}, &broker.RightsPackage{Derivations: derived("1")}, false},
		"not derived now":  {&broker.RightsPackage{Fields: []broker.Pointer{"/svar"}}, &broker.RightsPackage{Derivations: derived("1")}, false},
		"shielded now":     {&broker.RightsPackage{Shielding: shield}, &broker.RightsPackage{}, false},
	} {
		if got := covers(c.now, c.then); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
