package readmodel

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	filling   prometheus.Gauge
	decisions prometheus.Counter
	errors    prometheus.Counter
	lag       prometheus.GaugeFunc
	behind    prometheus.GaugeFunc
}

func newMetrics(f *Follower) *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "datafordeler", Subsystem: "store", Name: name, Help: help}
	}
	return &metrics{
		filling: prometheus.NewGauge(prometheus.GaugeOpts(opts("filling",
			"1 while this instance fills the read model: of all instances that share one, one does."))),
		decisions: prometheus.NewCounter(prometheus.CounterOpts(opts("decisions_total", "Decisions that this instance wrote to the read model."))),
		errors: prometheus.NewCounter(prometheus.CounterOpts(opts("errors_total",
			"Times that filling the read model failed and began anew from where it stood."))),
		lag: prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("lag_records",
			"How far behind the log the read model is: records of decisions, and markers of transactions. 0 where another instance fills it.")),
			func() float64 { n, _ := f.lag(); return float64(n) }),
		behind: prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("lag_seconds",
			"How long ago the log ended where the read model ends now; 0 when it holds all.")),
			func() float64 { _, d := f.lag(); return d.Seconds() }),
	}
}

// Collectors are what main registers.
func (f *Follower) Collectors() []prometheus.Collector {
	m := f.metrics
	return []prometheus.Collector{m.filling, m.decisions, m.errors, m.lag, m.behind}
}
