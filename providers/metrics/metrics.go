// Package metrics shows a publisher's and a poller's counters to Prometheus. It stands
// apart, so that the SDK itself asks for no metrics library.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/providers"
	"datafordeler/providers/poller"
)

// Publisher collects a publisher's [providers.Stats]. labels tell several publishers of a
// program apart, such as {"dataset": "inntekt"}; never a person or an event.
func Publisher(p *providers.Publisher, labels prometheus.Labels) prometheus.Collector {
	return ofPublisher(p.Stats, labels)
}

func ofPublisher(read func() providers.Stats, labels prometheus.Labels) prometheus.Collector {
	return &collector[providers.Stats]{read: read, series: []series[providers.Stats]{
		{desc("events_published_total", "Events that are durable at the broker.", labels), prometheus.CounterValue, func(s *providers.Stats) int64 { return s.Published }},
		{desc("events_rejected_total", "Events that the broker did not take, or that were refused before they were sent.", labels), prometheus.CounterValue, func(s *providers.Stats) int64 { return s.Rejected }},
		{desc("events_failed_total", "Events that could not be vouched for. Published again, they are counted again.", labels), prometheus.CounterValue, func(s *providers.Stats) int64 { return s.Failed }},
		{desc("bytes_total", "Bytes of records that were handed over.", labels), prometheus.CounterValue, func(s *providers.Stats) int64 { return s.Bytes }},
		{desc("batches_total", "Batches that were sent.", labels), prometheus.CounterValue, func(s *providers.Stats) int64 { return s.Batches }},
		{desc("retries_total", "Attempts that failed.", labels), prometheus.CounterValue, func(s *providers.Stats) int64 { return s.Retries }},
		{desc("pending_bytes", "Bytes under way now.", labels), prometheus.GaugeValue, func(s *providers.Stats) int64 { return s.Pending }},
	}}
}

// Poller collects a poller's [poller.Stats].
func Poller(p *poller.Poller, labels prometheus.Labels) prometheus.Collector {
	return ofPoller(p.Stats, labels)
}

func ofPoller(read func() poller.Stats, labels prometheus.Labels) prometheus.Collector {
	return &collector[poller.Stats]{read: read, series: []series[poller.Stats]{
		{desc("poller_sequence", "The last number of the list that is published.", labels), prometheus.GaugeValue, func(s *poller.Stats) int64 { return s.Seq }},
		{desc("poller_published_total", "Entries whose event was published.", labels), prometheus.CounterValue, func(s *poller.Stats) int64 { return s.Published }},
		{desc("poller_skipped_total", "Entries of which there was nothing to publish.", labels), prometheus.CounterValue, func(s *poller.Stats) int64 { return s.Skipped }},
		{desc("poller_rejected_total", "Entries whose event can never be published.", labels), prometheus.CounterValue, func(s *poller.Stats) int64 { return s.Rejected }},
		{desc("poller_failures_total", "Rounds that failed and were tried again.", labels), prometheus.CounterValue, func(s *poller.Stats) int64 { return s.Failures }},
	}}
}

func desc(name, help string, labels prometheus.Labels) *prometheus.Desc {
	return prometheus.NewDesc("datafordeler_provider_"+name, help, nil, labels)
}

type series[S any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*S) int64
}

// collector reads all counters at once.
type collector[S any] struct {
	read   func() S
	series []series[S]
}

func (c *collector[S]) Describe(out chan<- *prometheus.Desc) {
	for _, s := range c.series {
		out <- s.desc
	}
}

func (c *collector[S]) Collect(out chan<- prometheus.Metric) {
	now := c.read()
	for _, s := range c.series {
		out <- prometheus.MustNewConstMetric(s.desc, s.kind, float64(s.value(&now)))
	}
}
