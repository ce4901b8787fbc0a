package access

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the guard's collectors. No label is a caller.
type Metrics struct {
	Tokens        *prometheus.CounterVec // outcome
	Decisions     *prometheus.CounterVec // operation, outcome
	Disagreements prometheus.Counter
	Refreshes     *prometheus.CounterVec // issuer, outcome
	KeysRead      *prometheus.GaugeVec   // issuer
}

func newMetrics() *Metrics {
	return &Metrics{
		Tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "datafordeler_access_tokens_total", Help: "Tokens shown, by outcome: verified, remembered, refused, or unknown where it could not be found out.",
		}, []string{"outcome"}),
		Decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "datafordeler_access_decisions_total", Help: "What callers asked to do, by action and outcome: permit, refuse, or error.",
		}, []string{"operation", "outcome"}),
		Disagreements: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "datafordeler_access_disagreements_total", Help: "Times that the program and the access policy answered differently, which refuses. Anything above 0 is a mistake in one of them.",
		}),
		Refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "datafordeler_access_key_reads_total", Help: "Attempts to read an issuer's keys, by outcome: read or failed.",
		}, []string{"issuer", "outcome"}),
		KeysRead: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "datafordeler_access_keys_read_timestamp_seconds", Help: "When an issuer's keys were read last, in seconds since 1970.",
		}, []string{"issuer"}),
	}
}

// Collectors are for main to register.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.Tokens, m.Decisions, m.Disagreements, m.Refreshes, m.KeysRead}
}

func (m *Metrics) token(outcome string) { m.Tokens.WithLabelValues(outcome).Inc() }

func (m *Metrics) refreshed(issuer string, at time.Time, err error) {
	if err != nil {
		m.Refreshes.WithLabelValues(issuer, "failed").Inc()
		return
	}
	m.Refreshes.WithLabelValues(issuer, "read").Inc()
	m.KeysRead.WithLabelValues(issuer).Set(float64(at.Unix()))
}
