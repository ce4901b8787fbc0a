package flow

import (
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

func TestConsentFeedMetrics(t *testing.T) {
	st := registry.New()
	at := time.Unix(1_800_000_000, 0).UTC()
	events, err := st.Link(at, "test", registry.FollowConsents(registry.ConsentFeed{Source: "a", Gap: true}),
		registry.FollowConsents(registry.ConsentFeed{Source: "a", Entries: 1, Digest: broker.Digest{1}, Unknown: "paused"}), registry.FollowConsents(registry.ConsentFeed{Source: "b"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if ok, err := st.Fold(e); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	c := newConsentFeeds("x", func(f func(*registry.State)) { f(st) })
	registered := prometheus.NewRegistry()
	registered.MustRegister(c)
	families, err := registered.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue()
		}
	}
	want := map[string]float64{
		"x_consent_feed_read_timestamp_seconds a": 1_800_000_000, "x_consent_feed_read_timestamp_seconds b": 1_800_000_000,
		"x_consent_feed_troubles a gap": 1, "x_consent_feed_troubles a held": 1,
		"x_consent_feed_troubles b gap": 0, "x_consent_feed_troubles b held": 0,
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
