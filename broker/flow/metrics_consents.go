package flow

import (
	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker/registry"
)

// consentFeeds tells how the feeds of consents are followed, by what their followers say
// in the registry's log: they are processes of their own.
type consentFeeds struct {
	view          func(func(*registry.State))
	read, trouble *prometheus.Desc
}

func newConsentFeeds(ns string, view func(func(*registry.State))) *consentFeeds {
	return &consentFeeds{view,
		prometheus.NewDesc(ns+"_consent_feed_read_timestamp_seconds", "When a feed of consents given elsewhere was last said to be read to its end: at least hourly by a follower that runs. Seconds since 1970.", []string{"source"}, nil),
		prometheus.NewDesc(ns+"_consent_feed_troubles", "Of a feed of consents given elsewhere: held, 1 while an event of an unknown type stands in its way; gap, the times that it did not go on where it had been read to.", []string{"source", "state"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *consentFeeds) Describe(ch chan<- *prometheus.Desc) { ch <- c.read; ch <- c.trouble }

// Collect implements prometheus.Collector.
func (c *consentFeeds) Collect(ch chan<- prometheus.Metric) {
	var all []registry.ConsentFeedState
	c.view(func(st *registry.State) { all = st.ConsentFeeds() })
	for _, f := range all {
		held := 0.0
		if f.Unknown != "" {
			held = 1
		}
		ch <- prometheus.MustNewConstMetric(c.read, prometheus.GaugeValue, float64(f.At.Unix()), f.Source)
		ch <- prometheus.MustNewConstMetric(c.trouble, prometheus.GaugeValue, held, f.Source, "held")
		ch <- prometheus.MustNewConstMetric(c.trouble, prometheus.GaugeValue, float64(f.Gaps), f.Source, "gap")
	}
}
