package store

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/store/pgtest"
)

// load makes large logs: 357 municipalities with three services each, records of
// a million people in six partitions, over some months.
type load struct {
	*rand.Rand
	fanout  int
	people  int
	perTx   int
	clock   time.Time
	step    time.Duration
	next    [6]int64
	answers [][]broker.Decision // by subscription, what may be answered
	ids     int64
}

var loadReasons = []broker.Reason{"no_consent", "outside_interval", "no_open_case", "ceiling_reached", "suspended"}

func newLoad(seed uint64, fanout, perTx int) *load {
	l := &load{Rand: rand.New(rand.NewPCG(seed, 3)), fanout: fanout, people: 1_000_000, perTx: perTx, clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), step: 20 * time.Second}
	fields := []broker.Pointer{"/inntektsmottaker", "/periode", "/inntekt/beloep", "/inntekt/type"}
	for i := range 357 {
		for j, service := range []string{"barnehage", "sosialhjelp", "eiendomsskatt"} {
			d := broker.Decision{Subscription: broker.SubscriptionID(fmt.Sprintf("kommune-%04d-%s", i, service)), Agreement: broker.AgreementID(fmt.Sprintf("avtale-%04d-%s", i, service)),
				Package: broker.PackageRef{ID: "inntekt-" + service, Version: 1}}
			d.Outcome.Bases = []broker.LegalBasisID{broker.LegalBasisID("hjemmel-" + service)}
			permit, shielded := d, d
			permit.Outcome.Permit, permit.Fields = true, fields
			shielded.Outcome.Permit, shielded.Fields, shielded.Shielded = true, fields[:1], true
			all := []broker.Decision{permit, shielded}
			for n := range 2 {
				denied := d
				denied.Outcome.Reasons = []broker.Reason{loadReasons[(j+n)%4]}
				if n == 1 && i%50 == 0 {
					denied.Outcome.Reasons = []broker.Reason{"suspended", "no_consent"} // rare
				}
				all = append(all, denied)
			}
			l.answers = append(l.answers, all)
		}
	}
	return l
}

func loadParties(a broker.AgreementID, _ broker.Revision) (Parties, bool) {
	n, err := strconv.Atoi(string(a[7:11]))
	return Parties{Consumer: org(n), Provider: org(900), Supplier: org(500 + n%7)}, err == nil
}

// batch makes one of about perTx decisions.
func (l *load) batch() Batch {
	p := l.IntN(6)
	l.clock = l.clock.Add(l.step)
	h := Head{Kind: broker.StreamDecision, Dataset: broker.DatasetID([]string{"inntekt", "skattegrunnlag"}[p%2]), TopicID: [16]byte{byte(p%2 + 1)}, Partition: int32(p / 2),
		Time: l.clock, Revision: 7, Policy: "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4", Period: period(l.clock), First: l.next[p]}
	rows := l.perTx / l.fanout
	h.Last, h.Records = h.First+int64(rows)-1, int64(rows)
	l.next[p] += int64(rows)
	b := Batch{LogPartition: int32(p), LogOffset: l.ids, LogFrom: 0, Head: h, Decisions: make([]broker.Decision, 0, l.perTx)}
	l.ids++
	for i := range rows {
		home := l.IntN(len(l.answers))
		event := hashOf(2, uint64(p), uint64(h.First)+uint64(i))
		subject := pseudonym(l.IntN(l.people), h.Period)
		for f := range l.fanout {
			all := l.answers[(home+f)%len(l.answers)]
			which := 0
			switch r := l.IntN(1000); {
			case r < 2:
				which = 1
			case r < 80:
				which = 2
			case r < 81:
				which = 3
			}
			d := all[which]
			d.Kind, d.Position = h.Kind, broker.Position{Dataset: h.Dataset, TopicID: h.TopicID, Partition: h.Partition, Offset: h.First + int64(i)}
			d.Event, d.Subject, d.PolicyDigest, d.Revision, d.Time, d.Period = event, subject, h.Policy, h.Revision, h.Time, h.Period
			d.ID, d.Delivery = identify(d.Kind, d.Position, d.Event, d.Request, d.Subscription, d.Outcome.Permit)
			b.Decisions = append(b.Decisions, d)
		}
	}
	return b
}

// BenchmarkApply is the cost of a decision in transactions of 20,000, into tables
// that grow.
func BenchmarkApply(b *testing.B) {
	for _, fanout := range []int{1, 3} {
		for _, perTx := range []int{20_000, 500} {
			for name, dsn := range map[string]func() string{
				"sqlite": func() string { return dbPath(b.TempDir()) },
				"postgres": func() string {
					return pgtest.Shared(b).DSN()
				},
			} {
				b.Run(fmt.Sprintf("%s/fanout=%d/tx=%d", name, fanout, perTx), func(b *testing.B) {
					s := open1(b, dsn())
					l := newLoad(1, fanout, perTx)
					n := 0
					for b.Loop() {
						b.StopTimer()
						batch := l.batch()
						n += len(batch.Decisions)
						b.StartTimer()
						if err := s.Apply(b.Context(), []Batch{batch}, loadParties); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "decisions/s")
					b.ReportMetric(0, "ns/op")
				})
			}
		}
	}
}

// TestScale fills both databases with many decisions and measures searches:
//
//	DATAFORDELER_STORE_DECISIONS=10000000 go test ./broker/store -run TestScale -v -timeout 2h
//
// DATAFORDELER_STORE_ENGINES names those wanted, DATAFORDELER_STORE_FANOUT how
// many decisions a record has.
func TestScale(t *testing.T) {
	total, _ := strconv.Atoi(os.Getenv("DATAFORDELER_STORE_DECISIONS"))
	if total == 0 {
		total = 60_000
	}
	fanout, _ := strconv.Atoi(os.Getenv("DATAFORDELER_STORE_FANOUT"))
	wanted := os.Getenv("DATAFORDELER_STORE_ENGINES")
	for _, name := range []string{"sqlite", "postgres"} {
		if wanted != "" && !strings.Contains(wanted, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			dsn := dbPath(dir)
			if name == "postgres" {
				if total <= 60_000 {
					dsn = pgtest.Shared(t).DSN()
				} else {
					if why := os.Getenv(pgtest.Without); why != "" {
						t.Skip(why)
					}
					// As it comes, but for a gigabyte of memory.
					server, err := pgtest.Start("shared_buffers=1GB", "max_wal_size=4GB")
					if err != nil {
						t.Fatal(err)
					}
					defer server.Stop()
					dsn, dir = server.DSN(), filepath.Join(server.Dir(), "data", "base")
				}
			}
			scale(t, dsn, dir, total, max(1, fanout))
		})
	}
}

func scale(t *testing.T, dsn, dir string, total, fanout int) {
	s := open1(t, dsn)
	l := newLoad(1, fanout, 20_000)
	var spent, part, worked time.Duration
	var slowest time.Duration
	var known []Batch
	for n := 0; n < total; n += l.perTx {
		b := l.batch()
		if l.IntN(total/l.perTx/20+1) == 0 {
			known = append(known, b)
		}
		began, cpu := time.Now(), processor(t)
		apply2(t, s, b)
		took := time.Since(began)
		worked += processor(t) - cpu
		spent, part, slowest = spent+took, part+took, max(slowest, took)
		if done := n + l.perTx; done%1_000_000 == 0 {
			t.Logf("%2d million: the last at %.0f/s, slowest transaction %v", done/1_000_000, 1e6/part.Seconds(), slowest.Round(time.Millisecond))
			part, slowest = 0, 0
		}
	}
	t.Logf("%d decisions, fan-out %d, in transactions of %d: %.0f/s, %.1f µs of this process's processor each", total, fanout, l.perTx, float64(total)/spent.Seconds(),
		float64(worked.Microseconds())/float64(total))
	if total > 60_000 {
		t.Logf("on disk: %.0f bytes a decision", float64(size(t, dir))/float64(total))
	}
	l.measure(t, s, known, total)
}

func apply2(t testing.TB, s *Store, b Batch) {
	if err := s.Apply(t.Context(), []Batch{b}, loadParties); err != nil {
		t.Fatal(err)
	}
}

func size(t testing.TB, dir string) (n int64) {
	if err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if i, err := d.Info(); err == nil {
				n += i.Size()
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// measure times searches of each kind, each with a random span of time.
func (l *load) measure(t *testing.T, s *Store, known []Batch, total int) {
	first, last := known[0].Head.Time, l.clock
	some := func() *broker.Decision {
		b := &known[l.IntN(len(known))]
		return &b.Decisions[l.IntN(len(b.Decisions))]
	}
	var periods []string
	for at := first; !at.After(last); at = at.AddDate(0, 0, 27) {
		periods = append(periods, period(at))
	}
	periods = slices.Compact(periods)
	kinds := []struct {
		name string
		keep bool // no span of time
		set  func(*Query)
	}{
		{"time alone", false, func(q *Query) {}},
		{"subscription", false, func(q *Query) { q.Subscription = some().Subscription }},
		{"agreement", false, func(q *Query) { q.Agreement = some().Agreement }},
		{"consumer", false, func(q *Query) { q.Consumer = org(l.IntN(357)) }},
		{"consumer's denials", false, func(q *Query) { q.Consumer, q.Verdict = org(l.IntN(357)), Denials }},
		{"consumer and rare reason", false, func(q *Query) { q.Consumer, q.Reason = org(l.IntN(357)), "suspended" }},
		{"provider", false, func(q *Query) { q.Provider = org(900) }},
		{"dataset", false, func(q *Query) { q.Dataset = "skattegrunnlag" }},
		{"legal basis", false, func(q *Query) { q.Basis = "hjemmel-sosialhjelp" }},
		{"denials", false, func(q *Query) { q.Verdict = Denials }},
		{"reason", false, func(q *Query) { q.Reason = loadReasons[l.IntN(4)] }},
		{"rare reason", false, func(q *Query) { q.Reason = "suspended" }},
		{"shielded, one subscription", false, func(q *Query) { q.Shielded, q.Subscription = Only, some().Subscription }},
		{"never happened", false, func(q *Query) { q.Shielded, q.Verdict = Only, Denials }},
		{"subject, all periods", false, func(q *Query) {
			person := l.IntN(l.people)
			for _, p := range periods {
				q.Subjects = append(q.Subjects, pseudonym(person, p))
			}
		}},
		{"event", true, func(q *Query) { q.Event = some().Event }},
		{"record", true, func(q *Query) {
			p := some().Position
			q.Record = &RecordPlace{p.Dataset, p.Partition, p.Offset}
		}},
		{"decision", true, func(q *Query) { q.Decision = some().ID }},
		{"delivery", true, func(q *Query) {
			for q.Delivery.IsZero() {
				q.Delivery = some().Delivery
			}
		}},
	}
	runs := 300
	if total <= 60_000 {
		runs = 5
	}
	var all, worked []time.Duration
	for _, k := range kinds {
		var took, used []time.Duration
		hits, pages := 0, 0
		for range runs {
			var q Query
			k.set(&q)
			q.Ascending = l.IntN(2) == 0
			if !k.keep {
				// From minutes to all of it.
				span := time.Duration(float64(last.Sub(first)) * []float64{0.001, 0.01, 0.1, 0.5, 1}[l.IntN(5)])
				q.From = first.Add(time.Duration(l.Int64N(int64(last.Sub(first)-span) + 1)))
				q.To = q.From.Add(span + 1)
			}
			for range 2 { // the first page, and another
				began, cpu := time.Now(), processor(t)
				p, err := s.Search(t.Context(), q)
				took, used = append(took, time.Since(began)), append(used, processor(t)-cpu)
				if err != nil {
					t.Fatalf("%s: %v", k.name, err)
				}
				hits += len(p.Hits)
				pages++
				if q.Cursor = p.Next; q.Cursor == "" {
					break
				}
			}
		}
		slices.Sort(took)
		slices.Sort(used)
		all, worked = append(all, took...), append(worked, used...)
		t.Logf("%-28s p50 %7.2f  p99 %7.2f  most %7.2f ms; this process's processor p50 %6.2f  p99 %6.2f ms; %5.1f hits a page",
			k.name, ms(took, 0.5), ms(took, 0.99), ms(took, 1), ms(used, 0.5), ms(used, 0.99), float64(hits)/float64(pages))
		if k.keep && hits == 0 {
			t.Errorf("%s: nothing found", k.name)
		}
	}
	slices.Sort(all)
	slices.Sort(worked)
	t.Logf("%-28s p50 %7.2f  p99 %7.2f  most %7.2f ms; this process's processor p50 %6.2f  p99 %6.2f ms",
		"all", ms(all, 0.5), ms(all, 0.99), ms(all, 1), ms(worked, 0.5), ms(worked, 0.99))
}

// processor is the time that this process had a processor, which does not depend
// on what else the machine does.
func processor(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func ms(sorted []time.Duration, q float64) float64 {
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Microseconds()) / 1000
}
