package flow

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"

	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// Metrics are one instance's. Everything is counted when it has committed.
// Labels are names from the registry and reasons; never a subject or a record.
type Metrics struct {
	recordsIn     *prometheus.CounterVec // dataset
	bytesIn       *prometheus.CounterVec // dataset
	rejected      *prometheus.CounterVec // dataset, reason
	repeated      *prometheus.CounterVec // dataset
	outOfScope    *prometheus.CounterVec // dataset
	decisions     *prometheus.CounterVec // subscription, outcome, reason
	deliveries    *prometheus.CounterVec // subscription
	deliveryBytes *prometheus.CounterVec // subscription
	usage         *prometheus.CounterVec // agreement
	lag           *prometheus.GaugeVec   // dataset, partition
	transaction   prometheus.Histogram
	compute       prometheus.Histogram
	size          prometheus.Histogram
	policy        prometheus.Counter
	restarts      prometheus.Counter
	aborted       prometheus.Counter
	mended        *prometheus.CounterVec // outcome
	unmended      prometheus.Gauge
	revision      prometheus.GaugeFunc
	imaged        prometheus.GaugeFunc
	obligations   *obligationCounts
	consents      *consentFeeds
	registers     *followedRegisters
	held          prometheus.GaugeFunc
	forms         *formCounts
	// Of backfill.
	backfillRecords *prometheus.CounterVec // dataset
	backfillSkipped *prometheus.CounterVec // dataset
	backfillLeft    *prometheus.GaugeVec   // dataset, partition
	backfillWaiting *prometheus.GaugeVec   // dataset, partition
	notices         *prometheus.CounterVec // dataset, outcome, reason

	b *Broker

	mu     sync.Mutex
	owners map[topicPartition]int // sessions that have it
}

func newMetrics(b *Broker) *Metrics {
	const ns = "datafordeler"
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Name: name, Help: help}, labels)
	}
	seconds := []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}
	return &Metrics{
		owners: map[topicPartition]int{},
		forms: &formCounts{b, prometheus.NewDesc(ns+"_policy_subscriptions",
			"Subscriptions by the form in which policy decides for them: compiled; pending, to be compiled yet; or full, because the compiler does not know all that is asked (datafordeler policy explain says what).",
			[]string{"form"}, nil)},
		b:             b,
		recordsIn:     counter("records_total", "Records read from a dataset's source, in committed transactions.", "dataset"),
		bytesIn:       counter("record_bytes_total", "Payload bytes of those records.", "dataset"),
		rejected:      counter("records_rejected_total", "Records that intake refused.", "dataset", "reason"),
		repeated:      counter("records_repeated_total", "Records dropped as repeats of an event seen before.", "dataset"),
		outOfScope:    counter("records_out_of_scope_total", "Records in no subscription's scope.", "dataset"),
		decisions:     counter("decisions_total", "Decisions, by outcome and first reason.", "subscription", "outcome", "reason"),
		deliveries:    counter("deliveries_total", "Deliveries.", "subscription"),
		deliveryBytes: counter("delivery_bytes_total", "Payload bytes of deliveries.", "subscription"),
		usage:         counter("agreement_usage_total", "Deliveries under an agreement.", "agreement"),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: ns, Name: "source_lag_records",
			Help: "Records published and not decided yet, in a partition that this instance owns."}, []string{"dataset", "partition"}),
		transaction: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Name: "transaction_duration_seconds",
			Help: "From the first record's processing to the end of the commit.", Buckets: seconds}),
		compute: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Name: "transaction_compute_seconds",
			Help: "The part of a transaction in intake, match, policy and minimise.", Buckets: seconds}),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Name: "transaction_records",
			Help: "Records in a transaction.", Buckets: []float64{1, 10, 100, 1000, 5000, 10000, 20000, 50000}}),
		policy: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: "policy_seconds_total",
			Help: "Time spent asking policy, over all workers, estimated from one decision in 64; by decisions_total it is the time of one."}),
		backfillRecords: counter("backfill_records_total", "Earlier records, and cases and consents without any, that backfill has looked at.", "dataset"),
		backfillSkipped: counter("backfill_skipped_total", "Earlier records that the dataset's present declaration does not accept, and that backfill passed over.", "dataset"),
		notices:         counter("notices_total", "Decisions whether a consumer is told, without data, of a correction or retraction whose data was denied, by outcome and first reason.", "dataset", "outcome", "reason"),
		backfillLeft: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: ns, Name: "backfill_left_records",
			Help: "Records left for the subscription under way that begins before it was declared, in a partition that this instance owns."}, []string{"dataset", "partition"}),
		backfillWaiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: ns, Name: "backfill_waiting",
			Help: "Cases, consents and subscriptions with a start whose earlier records are still to be looked for, in a partition that this instance owns."}, []string{"dataset", "partition"}),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: "session_restarts_total",
			Help: "Sessions ended in doubt and begun anew from what is committed."}),
		aborted: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: "transactions_aborted_total",
			Help: "Transactions aborted, their records to be read again."}),
		mended: counter("lost_markers_written_total", "Ends of transactions that Kafka had recorded and not told a partition, written by this instance.", "outcome"),
		unmended: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Name: "partitions_stuck",
			Help: "Partitions that are readable no further because of a transaction that a person must end; the log says how."}),
		revision: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Name: "control_revision",
			Help: "Revision of the registry that this instance has folded."}, func() float64 { return float64(b.control.Revision()) }),
		imaged: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Name: "control_image_revision",
			Help: "Revision of the registry that this instance's next start begins from; 0 where it folds the whole log."}, func() float64 { return float64(b.control.Imaged()) }),
		obligations: &obligationCounts{b, prometheus.NewDesc(ns+"_obligations", "What withdrawn consents lay on receivers, without a receipt: within its time (open), and over it (overdue).", []string{"state"}, nil)},
		consents:    newConsentFeeds(ns, func(f func(*registry.State)) { b.control.View(f) }),
		registers:   newFollowedRegisters(ns, func(f func(*registry.State)) { b.control.View(f) }),
		held: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Name: "deliveries_held",
			Help: "1 while deliveries are held (disk, policy or evidence)."}, func() float64 {
			if b.Held() != "" {
				return 1
			}
			return 0
		}),
	}
}

// Collectors are what main registers.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.forms, m.recordsIn, m.bytesIn, m.rejected, m.repeated, m.outOfScope, m.decisions, m.deliveries,
		m.deliveryBytes, m.usage, m.lag, m.transaction, m.compute, m.size, m.policy, m.restarts, m.aborted, m.mended, m.unmended, m.revision, m.imaged, m.held, m.obligations, m.consents, m.registers,
		m.backfillRecords, m.backfillSkipped, m.backfillLeft, m.backfillWaiting, m.notices}
}

// formCounts counts subscriptions by the form of their policy, when it is asked.
type formCounts struct {
	b    *Broker
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (f *formCounts) Describe(ch chan<- *prometheus.Desc) { ch <- f.desc }

// Collect implements prometheus.Collector.
func (f *formCounts) Collect(ch chan<- prometheus.Metric) {
	for state, n := range f.b.worlds.forms() {
		ch <- prometheus.MustNewConstMetric(f.desc, prometheus.GaugeValue, float64(n), state.String())
	}
}

// obligationCounts counts obligations when it is asked.
type obligationCounts struct {
	b    *Broker
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *obligationCounts) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *obligationCounts) Collect(ch chan<- prometheus.Metric) {
	var open, overdue int
	c.b.control.View(func(st *registry.State) { open, overdue = st.ObligationsOpen(time.Now()) })
	ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(open-overdue), "open")
	ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(overdue), "overdue")
}

// series are a subscription's counters, looked up once.
type series struct {
	permits, deliveries, bytes, usage prometheus.Counter
}

func (m *Metrics) series(r *route) *series {
	if s := r.series.Load(); s != nil {
		return s
	}
	sub := string(r.terms.Subscription.ID)
	s := &series{
		permits:    m.decisions.WithLabelValues(sub, "permit", ""),
		deliveries: m.deliveries.WithLabelValues(sub),
		bytes:      m.deliveryBytes.WithLabelValues(sub),
		usage:      m.usage.WithLabelValues(string(r.terms.Agreement.ID)),
	}
	r.series.Store(s)
	return s
}

// committed counts a transaction, once it is one. sum is the caller's, to reuse.
func (m *Metrics) committed(works []*work, sum *tally, now *world, compute, total time.Duration) {
	m.compute.Observe(compute.Seconds())
	m.transaction.Observe(total.Seconds())
	sum.reset(now)
	for _, w := range works {
		t, n := &w.tally, len(w.records)
		t.records = int64(n)
		ds := string(w.part.dataset)
		m.recordsIn.WithLabelValues(ds).Add(float64(n))
		m.bytesIn.WithLabelValues(ds).Add(float64(t.bytesIn))
		m.repeated.WithLabelValues(ds).Add(float64(t.repeated))
		m.outOfScope.WithLabelValues(ds).Add(float64(t.outOfScope))
		for code, n := range t.rejected {
			m.rejected.WithLabelValues(ds, string(code)).Add(float64(n))
		}
		if w.fill == nil {
			m.lag.WithLabelValues(ds, strconv.Itoa(int(w.part.number))).Set(float64(max(0, w.high-w.end())))
		}
		sum.add(t)
	}
	m.policy.Add(sum.policy.Seconds())
	for i := range sum.touched {
		s := &sum.touched[i]
		if s.permitted > 0 {
			c := m.series(s.route)
			c.permits.Add(float64(s.permitted))
			c.deliveries.Add(float64(s.permitted))
			c.bytes.Add(float64(s.bytesOut))
			c.usage.Add(float64(s.permitted))
		}
		for _, d := range s.denied {
			m.decisions.WithLabelValues(string(s.route.terms.Subscription.ID), "deny", string(d.reason)).Add(float64(d.n))
		}
	}
	if works[0].fill == nil {
		m.size.Observe(float64(sum.records))
	}
	m.b.totals.add(sum)
}

// own notes that a session has taken a partition over.
func (m *Metrics) own(tp topicPartition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owners[tp]++
}

// forget drops the lag of a partition that no session of this instance has any
// more. One may learn that it lost a partition after another has taken it over.
func (m *Metrics) forget(tp topicPartition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.owners[tp]--; m.owners[tp] > 0 {
		return
	}
	delete(m.owners, tp)
	if ds, ok := m.b.topics.SourceDataset(tp.topic); ok {
		for _, g := range [...]*prometheus.GaugeVec{m.lag, m.backfillLeft, m.backfillWaiting} {
			g.DeleteLabelValues(ds, strconv.Itoa(int(tp.partition)))
		}
	}
}

// Lag is how many records of all sources the group has not decided yet.
func (b *Broker) Lag(ctx context.Context, adm *kadm.Client) (int64, error) {
	var topics []string
	b.control.View(func(st *registry.State) {
		for _, d := range st.Datasets() {
			topics = append(topics, b.topics.Source(string(d.ID)))
		}
	})
	if len(topics) == 0 {
		return 0, nil
	}
	starts, err := kafka.Starts(ctx, adm, topics...)
	if err != nil {
		return 0, err
	}
	ends, err := kafka.CommittedEnds(ctx, adm, topics...)
	if err != nil {
		return 0, err
	}
	committed, err := committedOffsets(ctx, adm, b.cfg.Group, topics...)
	if err != nil {
		return 0, err
	}
	var lag int64
	for t, ps := range ends {
		for p, end := range ps {
			at := starts[t][p]
			if o, ok := committed.Lookup(t, p); ok && o.Err == nil && o.At >= 0 {
				at = o.At
			}
			lag += max(0, end-at)
		}
	}
	return lag, nil
}

// backfilled counts a slice of backfill, once it is done.
func (m *Metrics) backfilled(w *work) {
	m.backfillRecords.WithLabelValues(string(w.part.dataset)).Add(float64(w.fill.looked))
	m.backfillSkipped.WithLabelValues(string(w.part.dataset)).Add(float64(w.fill.skipped))
}
