package flow

import (
	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker/registry"
)

// followedRegisters tells when registers were last said to be read to their end, by what
// their followers say in the registry's log: they are processes of their own.
type followedRegisters struct {
	view func(func(*registry.State))
	read *prometheus.Desc
}

func newFollowedRegisters(ns string, view func(func(*registry.State))) *followedRegisters {
	return &followedRegisters{view, prometheus.NewDesc(ns+"_register_read_timestamp_seconds",
		"When a register of protection or of units (organisations) was last said to be followed: at least hourly by a follower that runs. A list without sequence numbers is followed by nobody, and not told of. Seconds since 1970.",
		[]string{"kind", "source"}, nil)}
}

// Describe implements prometheus.Collector.
func (f *followedRegisters) Describe(ch chan<- *prometheus.Desc) { ch <- f.read }

// Collect implements prometheus.Collector.
func (f *followedRegisters) Collect(ch chan<- prometheus.Metric) {
	f.view(func(st *registry.State) {
		if p, ok := st.ProtectionFollowed(); ok && p.Sequence > 0 {
			ch <- prometheus.MustNewConstMetric(f.read, prometheus.GaugeValue, float64(p.At.Unix()), "protection", p.Source)
		}
		if u, ok := st.UnitsFollowed(); ok && u.Sequence > 0 {
			ch <- prometheus.MustNewConstMetric(f.read, prometheus.GaugeValue, float64(u.At.Unix()), "units", u.Source)
		}
	})
}
