package evidence

import "github.com/prometheus/client_golang/prometheus"

// Metrics are one instance's.
type Metrics struct {
	leading  prometheus.Gauge
	restarts prometheus.Counter
	entries  prometheus.Counter
	signed   prometheus.Counter
	witness  *prometheus.CounterVec // witness, outcome
	size     prometheus.GaugeFunc
	covered  prometheus.GaugeFunc
	age      prometheus.GaugeFunc
	misread  prometheus.CounterFunc

	unreadable prometheus.Gauge
}

// NewMetrics are the collectors of a ledger and its sequencer.
func NewMetrics(l *Ledger) *Metrics {
	const ns, sub = "datafordeler", "ledger"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
	}
	gauge := func(name, help string, f func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, f)
	}
	return &Metrics{
		leading: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "leading",
			Help: "1 while this instance sequences the ledger: of all instances one does."}),
		restarts: counter("restarts_total", "Times that sequencing failed and began anew from what is committed."),
		entries:  counter("entries_total", "Entries that this instance appended: records of decisions, and runs of control events."),
		signed:   counter("heads_signed_total", "Heads that this instance signed and published."),
		witness: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "witness_requests_total",
			Help: "Heads that a witness was asked to cosign, by what came of it: cosigned or failed."}, []string{"witness", "outcome"}),
		size:    gauge("entries", "Entries in the ledger.", func() float64 { return float64(l.Size()) }),
		covered: gauge("head_entries", "Entries under the newest head that counts: signed, and cosigned by as many witnesses as are needed.", func() float64 { return float64(l.Head().Size) }),
		unreadable: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "stuck_partitions",
			Help: "Partitions of decisions of which this instance, which leads, can enter no more, since a record in them cannot be read."}),
		misread: prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "misreads_total",
			Help: "Times that this instance read the ledger wrongly, as a second reading proved. It should never happen: the log has both readings."},
			func() float64 { return float64(l.misread.Load()) }),
		age: gauge("wait_seconds", "How long the oldest decision that this instance knows of has waited for a head that counts. At ledger.stop_after deliveries are held.", func() float64 { return l.Age().Seconds() }),
	}
}

// Collectors are what main registers.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.leading, m.restarts, m.entries, m.signed, m.witness, m.size, m.covered, m.age, m.misread, m.unreadable}
}
