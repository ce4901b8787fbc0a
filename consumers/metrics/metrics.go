// Package metrics shows a receiver's counters to Prometheus. It stands apart, so that the
// SDK itself asks for no metrics library.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/consumers"
)

// Receiver collects a receiver's [consumers.Stats]. labels tell several receivers of a
// program apart, such as {"mailbox": "oslo-sosialhjelp"}; never a person or a delivery.
func Receiver(r *consumers.Receiver, labels prometheus.Labels) prometheus.Collector {
	return ofReceiver(r.Stats, labels)
}

func ofReceiver(read func() consumers.Stats, labels prometheus.Labels) prometheus.Collector {
	c := &receiver{read: read}
	for _, s := range []struct {
		name, help string
		value      func(*consumers.Stats) int64
	}{
		{"deliveries_handled_total", "Deliveries that the handler took.", func(s *consumers.Stats) int64 { return s.Handled }},
		{"deliveries_repeated_total", "Deliveries that were dropped: handled before.", func(s *consumers.Stats) int64 { return s.Repeats }},
		{"retries_total", "Attempts after the first.", func(s *consumers.Stats) int64 { return s.Retries }},
		{"dead_letters_total", "Deliveries that were put with the dead letters.", func(s *consumers.Stats) int64 { return s.Dead }},
		{"others_total", "Messages of other mailboxes on a shared topic.", func(s *consumers.Stats) int64 { return s.Others }},
	} {
		c.series = append(c.series, series{prometheus.NewDesc("datafordeler_consumer_"+s.name, s.help, nil, labels), s.value})
	}
	return c
}

type series struct {
	desc  *prometheus.Desc
	value func(*consumers.Stats) int64
}

// receiver reads all counters at once.
type receiver struct {
	read   func() consumers.Stats
	series []series
}

func (c *receiver) Describe(out chan<- *prometheus.Desc) {
	for _, s := range c.series {
		out <- s.desc
	}
}

func (c *receiver) Collect(out chan<- prometheus.Metric) {
	now := c.read()
	for _, s := range c.series {
		out <- prometheus.MustNewConstMetric(s.desc, prometheus.CounterValue, float64(s.value(&now)))
	}
}
