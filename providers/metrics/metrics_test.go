package metrics

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/providers"
	"datafordeler/providers/poller"
)

// counted fills each counter with a number of its own.
func counted[S any]() func() S {
	var s S
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		v.Field(i).SetInt(int64(i) + 1)
	}
	return func() S { return s }
}

// Each counter is shown, once.
func shows[S any](t *testing.T, c prometheus.Collector) {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[float64]string{}
	for _, f := range families {
		m := f.Metric[0]
		seen[m.GetCounter().GetValue()+m.GetGauge().GetValue()] = f.GetName()
		if len(m.Label) != 1 || m.Label[0].GetValue() != "inntekt" {
			t.Errorf("%s has the labels %v", f.GetName(), m.Label)
		}
	}
	want := []float64{}
	for i := range reflect.TypeFor[S]().NumField() {
		want = append(want, float64(i+1))
	}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
		t.Errorf("shown are %v", seen)
	}
}

func TestMetrics(t *testing.T) {
	labels := prometheus.Labels{"dataset": "inntekt"}
	shows[providers.Stats](t, ofPublisher(counted[providers.Stats](), labels))
	shows[poller.Stats](t, ofPoller(counted[poller.Stats](), labels))
}
