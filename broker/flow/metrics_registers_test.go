package flow

import (
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker/registry"
)

func TestFollowedRegisterMetrics(t *testing.T) {
	st := registry.New()
	registered := prometheus.NewRegistry()
	registered.MustRegister(newFollowedRegisters("x", func(f func(*registry.State)) { f(st) }))
	told := func(after time.Duration, changes ...registry.Change) map[string]float64 {
		t.Helper()
		events, err := st.Link(time.Unix(1_800_000_000, 0).UTC().Add(after), "test", changes...)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if ok, err := st.Fold(e); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
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
		return got
	}
	if got := told(0, registry.SyncProtection(registry.ProtectionSync{Source: "list", Current: true})); len(got) != 0 {
		t.Errorf("a list that nobody follows: %v", got)
	}
	got := told(time.Second, registry.SyncProtection(registry.ProtectionSync{Source: "freg", Sequence: 7, Current: true}), registry.SyncUnits(registry.UnitSync{Source: "enhetsregisteret", Sequence: 9}))
	if want := map[string]float64{"x_register_read_timestamp_seconds protection freg": 1_800_000_001, "x_register_read_timestamp_seconds units enhetsregisteret": 1_800_000_001}; !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	// The same again is news: somebody still reads.
	got = told(time.Hour, registry.SyncUnits(registry.UnitSync{Source: "enhetsregisteret", Sequence: 9}))
	if got["x_register_read_timestamp_seconds units enhetsregisteret"] != 1_800_003_600 {
		t.Errorf("%v", got)
	}
}
