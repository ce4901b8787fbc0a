package positions

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	records prometheus.Counter
	errors  prometheus.Counter
	lag     prometheus.GaugeFunc
	behind  prometheus.GaugeFunc
}

func newMetrics(f *Follower) *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "datafordeler", Subsystem: "positions", Name: name, Help: help}
	}
	return &metrics{
		records: prometheus.NewCounter(prometheus.CounterOpts(opts("records_total", "Records whose position this instance wrote to its index of positions."))),
		errors: prometheus.NewCounter(prometheus.CounterOpts(opts("errors_total",
			"Times that filling the index of positions failed and began anew from where it stood."))),
		lag: prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("lag_records",
			"How far behind the log this instance's index of positions is: records of decisions, and markers of transactions.")),
			func() float64 { n, _ := f.lag(); return float64(n) }),
		behind: prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("lag_seconds",
			"How long ago the index of positions last held all that was decided; 0 when it does.")),
			func() float64 { _, d := f.lag(); return d.Seconds() }),
	}
}

// Collectors are what main registers.
func (f *Follower) Collectors() []prometheus.Collector {
	m := f.metrics
	return []prometheus.Collector{m.records, m.errors, m.lag, m.behind}
}
