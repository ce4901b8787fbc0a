package webhook

import (
	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// metrics are the sender's collectors.
type metrics struct {
	attempts *prometheus.CounterVec // outcome
	seconds  prometheus.Histogram
	poisoned prometheus.Counter
	withheld prometheus.Counter
	expired  prometheus.Counter
	gauges   *gauges
}

// gauges are counted when they are asked for.
type gauges struct {
	s         *Sender
	waiting   *prometheus.Desc
	poison    *prometheus.Desc
	endpoints *prometheus.Desc
}

func newMetrics(s *Sender) metrics {
	return metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "datafordeler_webhook_attempts_total", Help: "Attempts to send a delivery to an endpoint, by what came of it.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "datafordeler_webhook_attempt_seconds", Help: "Seconds until an endpoint had answered, or had not.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		poisoned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "datafordeler_webhook_poisoned_total", Help: "Deliveries that were put with the poison of their mailbox.",
		}),
		withheld: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "datafordeler_webhook_withheld_total", Help: "Deliveries that were not sent, because what they rested on had ended; the log names each.",
		}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "datafordeler_webhook_expired_total", Help: "Times that deliveries were deleted by retention before their endpoint took them.",
		}),
		gauges: &gauges{
			s:         s,
			waiting:   prometheus.NewDesc("datafordeler_webhook_waiting", "Deliveries that wait on this instance for their turn or their next attempt.", nil, nil),
			poison:    prometheus.NewDesc("datafordeler_webhook_poison", "Deliveries with the poison, of all mailboxes; each instance counts all.", nil, nil),
			endpoints: prometheus.NewDesc("datafordeler_webhook_endpoints", "Mailboxes that receive by webhook, by the state of their endpoint; each instance counts all.", []string{"status"}, nil),
		},
	}
}

// Collectors are for main to register.
func (s *Sender) Collectors() []prometheus.Collector {
	m := &s.metrics
	return []prometheus.Collector{m.attempts, m.seconds, m.poisoned, m.withheld, m.expired, m.gauges}
}

// Describe and Collect are prometheus.Collector's.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- g.waiting
	ch <- g.poison
	ch <- g.endpoints
}

// Collect counts.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	s := g.s
	waiting, poison := 0, 0
	s.mu.Lock()
	for _, n := range s.holding {
		waiting += n
	}
	s.mu.Unlock()
	s.book.mu.Lock()
	for _, p := range s.book.pages {
		poison += len(p.poison)
	}
	s.book.mu.Unlock()
	states := map[string]int{StatusNone: 0, StatusUnproven: 0, StatusStopped: 0, StatusSuspended: 0, StatusFrozen: 0, StatusPaused: 0, StatusInUse: 0}
	var boxes []broker.MailboxID
	s.Control.View(func(st *registry.State) {
		for _, b := range st.Mailboxes() {
			if b.Channel == broker.Webhook {
				boxes = append(boxes, b.ID)
			}
		}
	})
	for _, m := range boxes {
		states[s.status(m)]++
	}
	ch <- prometheus.MustNewConstMetric(g.waiting, prometheus.GaugeValue, float64(waiting))
	ch <- prometheus.MustNewConstMetric(g.poison, prometheus.GaugeValue, float64(poison))
	for status, n := range states {
		ch <- prometheus.MustNewConstMetric(g.endpoints, prometheus.GaugeValue, float64(n), status)
	}
}
