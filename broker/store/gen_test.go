package store

import (
	"cmp"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/store/pgtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimVar) != "" {
		victim()
		return
	}
	// Each of rapid's checks fills two databases; `-rapid.checks` asks for more.
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		flag.Set("rapid.checks", "15")
	}
	code := m.Run()
	if err := pgtest.StopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// engines runs a test on both databases; dsn gives an empty one each time.
func engines(t *testing.T, test func(t *testing.T, dsn func() string)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		n := 0
		dir := t.TempDir()
		test(t, func() string { n++; return fmt.Sprintf("sqlite:%s/%d.db", dir, n) })
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, pgtest.Shared(t).DSN)
	})
}

func open1(t testing.TB, dsn string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// gen makes logs of decisions from a seed.
type gen struct {
	*rand.Rand
	sources    []*genSource
	subs       []genSub
	reasons    []broker.Reason
	bases      []broker.LegalBasisID
	people     int
	clock      time.Time
	positions  map[int32]int64
	history    []Batch
	mostRows   int
	wideFields bool
}

type genSource struct {
	kind      broker.DecisionKind
	dataset   broker.DatasetID
	topic     [16]byte
	partition int32
	log       int32
	next      int64
}

type genSub struct {
	id        broker.SubscriptionID
	agreement broker.AgreementID
	pack      broker.PackageRef
	outcomes  []outcome
}

func newGen(seed uint64) *gen {
	g := &gen{
		Rand: rand.New(rand.NewPCG(seed, 7)), people: 12, positions: map[int32]int64{}, mostRows: 12,
		clock:   time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		reasons: []broker.Reason{"no_legal_basis", "no_consent", "outside_interval", "agreement_not_active", broker.ReasonTooLarge},
		bases:   []broker.LegalBasisID{"bhl-19", "skl-3", "samtykke-lån", "sosl-43"},
	}
	for i := range 6 {
		s := &genSource{kind: broker.StreamDecision, dataset: broker.DatasetID([]string{"inntekt", "eiendom"}[i%2]), partition: int32(i / 2), log: int32(i % 3)}
		s.topic[0], s.topic[15] = byte(i%2+1), 9
		s.next = int64(g.IntN(3) * 1000)
		g.sources = append(g.sources, s)
	}
	for i := range 24 {
		sub := genSub{id: broker.SubscriptionID(fmt.Sprintf("sub-%d", i)), agreement: broker.AgreementID(fmt.Sprintf("agreement-%d", i/2)), pack: broker.PackageRef{ID: fmt.Sprintf("pakke-%d", i%3), Version: 1 + i%2}}
		for range 1 + g.IntN(4) {
			o := outcome{pack: sub.pack}
			o.Bases = some(g, g.bases)
			if o.Permit = g.IntN(2) == 0; o.Permit {
				o.fields = some(g, []broker.Pointer{"/inntekt/beloep", "/periode", "/eier \"x\"", "/æøå"})
				o.shielded = g.IntN(4) == 0
			} else {
				o.Reasons = some(g, g.reasons)
			}
			sub.outcomes = append(sub.outcomes, o)
		}
		g.subs = append(g.subs, sub)
	}
	return g
}

// some are some of a list, in order; nil if none.
func some[T any](g *gen, list []T) (out []T) {
	for _, v := range list {
		if g.IntN(2) == 0 {
			out = append(out, v)
		}
	}
	return out
}

func hashOf(parts ...uint64) (d broker.Digest) {
	x := uint64(0)
	for i := range 2 {
		for _, p := range parts {
			x = mix(x ^ p)
		}
		x = mix(x + uint64(i))
		binary.BigEndian.PutUint64(d[8*i:], x)
	}
	return d
}

func org(n int) broker.OrgNumber { return broker.OrgNumber(fmt.Sprintf("%09d", 910000000+n)) }

// partiesOf is what the registry would say: the supplier changes at revision 20.
func partiesOf(a broker.AgreementID, rev broker.Revision) (Parties, bool) {
	n := 0
	if _, err := fmt.Sscanf(string(a), "agreement-%d", &n); err != nil {
		return Parties{}, false
	}
	p := Parties{Consumer: org(n), Provider: org(100 + n%2)}
	if n%2 == 0 {
		p.Supplier = org(200)
		if rev >= 20 {
			p.Supplier = org(201)
		}
	}
	return p, true
}

func period(t time.Time) string { return t.Format("2006-01") }

// pseudonym of a person in a period.
func pseudonym(person int, period string) broker.Pseudonym {
	h := uint64(0)
	for _, c := range []byte(period) {
		h = h*31 + uint64(c)
	}
	return hashOf(5, uint64(person), h)
}

// batch makes the next batch of some source.
func (g *gen) batch() Batch {
	src := g.sources[g.IntN(len(g.sources))]
	if g.IntN(4) == 0 {
		return g.singles(src)
	}
	// Mostly later, sometimes not: partitions have readings of their own.
	if g.IntN(3) > 0 {
		g.clock = g.clock.Add(time.Duration(g.IntN(int(40 * time.Hour))))
	}
	at := g.clock.Add(time.Duration(g.IntN(4)-3) * time.Hour)
	from := g.positions[src.log]
	b := Batch{LogPartition: src.log, LogFrom: from, LogOffset: from + int64(g.IntN(3))}
	g.positions[src.log] = b.LogOffset + 1
	h := Head{Kind: src.kind, Dataset: src.dataset, TopicID: src.topic, Partition: src.partition, First: src.next, Time: at,
		Revision: broker.Revision(10 + g.IntN(20)), Policy: fmt.Sprintf("policy-%d", g.IntN(2)), Period: period(at)}
	next := src.next
	for range g.IntN(g.mostRows) {
		h.Records++
		offset := next
		next += 1 + int64(g.IntN(2))
		switch g.IntN(8) {
		case 0:
			h.OutOfScope++
			continue
		case 1:
			h.Rejected++
			continue
		case 2:
			h.Repeated++
			continue
		}
		d := broker.Decision{Kind: h.Kind, Position: broker.Position{Dataset: h.Dataset, TopicID: h.TopicID, Partition: h.Partition, Offset: offset},
			Event: hashOf(1, uint64(src.topic[0]), uint64(src.partition), uint64(offset)/3), PolicyDigest: h.Policy, Revision: h.Revision, Time: at, Period: h.Period, RecordKind: broker.RecordKind(g.IntN(3))}
		if g.IntN(5) > 0 {
			d.Subject = pseudonym(g.IntN(g.people), h.Period)
		}
		for _, i := range g.Perm(len(g.subs))[:1+g.IntN(4)] {
			s := &g.subs[i]
			o := &s.outcomes[g.IntN(len(s.outcomes))]
			d.Subscription, d.Agreement, d.Package = s.id, s.agreement, s.pack
			d.Outcome, d.Fields, d.Shielded = o.Outcome, o.fields, o.shielded
			d.ID, d.Delivery = identify(d.Kind, d.Position, d.Event, d.Request, d.Subscription, d.Outcome.Permit)
			b.Decisions = append(b.Decisions, d)
		}
	}
	h.Last = max(next-1, h.First-1)
	src.next = next
	b.Head = h
	g.history = append(g.history, b)
	return b
}

// singles makes the next batch of single decisions, in the partition of the log
// that a source has. At the door the same delivery is withheld again and again.
func (g *gen) singles(src *genSource) Batch {
	g.clock = g.clock.Add(time.Duration(g.IntN(int(10 * time.Hour))))
	from := g.positions[src.log]
	b := Batch{LogPartition: src.log, LogFrom: from, LogOffset: from + int64(g.IntN(3))}
	g.positions[src.log] = b.LogOffset + 1
	h := Head{Kind: broker.BackfillDecision + broker.DecisionKind(g.IntN(3)), Last: -1, Time: g.clock,
		Revision: broker.Revision(10 + g.IntN(20)), Policy: fmt.Sprintf("policy-%d", g.IntN(2)), Period: period(g.clock)}
	if h.Kind == broker.BackfillDecision {
		h.TopicID, h.Partition = src.topic, src.partition // whose lease it counts against
	}
	for range g.IntN(g.mostRows) {
		of := g.sources[g.IntN(len(g.sources))]
		d := broker.Decision{Kind: h.Kind, Position: broker.Position{Dataset: of.dataset, TopicID: of.topic, Partition: of.partition, Offset: int64(g.IntN(20))},
			Event: hashOf(1, uint64(of.topic[0]), uint64(of.partition), uint64(g.IntN(8))), PolicyDigest: h.Policy, Revision: h.Revision, Time: h.Time, Period: h.Period, RecordKind: broker.RecordKind(g.IntN(3))}
		if g.IntN(5) > 0 {
			d.Subject = pseudonym(g.IntN(g.people), h.Period)
		}
		if h.Kind == broker.LookupDecision {
			d.Request = hashOf(10, uint64(g.IntN(30)))
			if g.IntN(2) == 0 {
				d.Position = broker.Position{Dataset: of.dataset, Offset: broker.Nowhere}
				if g.IntN(2) == 0 {
					d.Event, d.RecordKind = broker.EventHash{}, broker.Original
				}
			}
		}
		for _, i := range g.Perm(len(g.subs))[:1+g.IntN(3)] {
			s := &g.subs[i]
			o := &s.outcomes[g.IntN(len(s.outcomes))]
			if h.Kind == broker.DoorDecision && o.Permit {
				continue
			}
			d.Subscription, d.Agreement, d.Package = s.id, s.agreement, s.pack
			d.Outcome, d.Fields, d.Shielded = o.Outcome, o.fields, o.shielded
			d.ID, d.Delivery = identify(d.Kind, d.Position, d.Event, d.Request, d.Subscription, d.Outcome.Permit)
			if h.Kind != broker.DoorDecision && g.IntN(9) == 0 {
				d.ID = hashOf(9, g.Uint64()) // it is kept, whatever it is
			}
			h.Decisions++
			h.Permits += bit(d.Outcome.Permit)
			b.Decisions = append(b.Decisions, d)
		}
	}
	b.Head = h
	g.history = append(g.history, b)
	return b
}

func (g *gen) batches(n int) (out []Batch) {
	for range n {
		out = append(out, g.batch())
	}
	return out
}

// naive is the read model as a list.
type naive struct {
	hits []naiveHit
}

type naiveHit struct {
	Hit
	key key
}

func (m *naive) apply(batches []Batch) {
	for i := range batches {
		b := &batches[i]
		for j, d := range b.Decisions {
			d.Time = d.Time.UTC()
			p, _ := partiesOf(d.Agreement, d.Revision)
			at := LogPlace{b.LogPartition, b.LogOffset, j}
			m.hits = append(m.hits, naiveHit{Hit{d, p, at}, key{d.Time.UnixNano(), logAt{at.Partition, at.Offset}, int64(j)}})
		}
	}
}

// search answers a query by looking at everything; after is the last hit of the
// page before.
func (m *naive) search(q Query, after *Hit) (hits []Hit, more bool) {
	var found []naiveHit
	var edge key
	if after != nil {
		edge = key{after.Decision.Time.UnixNano(), logAt{after.Place.Partition, after.Place.Offset}, int64(after.Place.Index)}
	}
	order := func(a, b key) int {
		c := cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.log.partition, b.log.partition), cmp.Compare(a.log.offset, b.log.offset), cmp.Compare(a.index, b.index))
		if !q.Ascending {
			return -c
		}
		return c
	}
	for _, h := range m.hits {
		if matches(&q, &h.Hit) && (after == nil || order(h.key, edge) > 0) {
			found = append(found, h)
		}
	}
	slices.SortFunc(found, func(a, b naiveHit) int { return order(a.key, b.key) })
	limit := q.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	for _, h := range found[:min(limit, len(found))] {
		hits = append(hits, h.Hit)
	}
	return hits, len(found) > limit
}

func matches(q *Query, h *Hit) bool {
	d := &h.Decision
	return (q.Event.IsZero() || d.Event == q.Event) && (q.Request.IsZero() || d.Request == q.Request) && (q.Decision.IsZero() || d.ID == q.Decision) && (q.Delivery.IsZero() || d.Delivery == q.Delivery) &&
		(q.Record == nil || q.Record.Dataset == d.Position.Dataset && q.Record.Partition == d.Position.Partition && q.Record.Offset == d.Position.Offset) &&
		(q.Subscription == "" || d.Subscription == q.Subscription) && (q.Agreement == "" || d.Agreement == q.Agreement) &&
		(q.Consumer == "" || h.Parties.Consumer == q.Consumer) && (q.Provider == "" || h.Parties.Provider == q.Provider) && (q.Supplier == "" || h.Parties.Supplier == q.Supplier) &&
		(q.Party == "" || h.Parties.Provider == q.Party || h.Parties.Consumer == q.Party || h.Parties.Supplier == q.Party) &&
		(q.Dataset == "" || d.Position.Dataset == q.Dataset) && (q.Basis == "" || slices.Contains(d.Outcome.Bases, q.Basis)) &&
		(q.Verdict == AnyVerdict || (q.Verdict == Permits) == d.Outcome.Permit) && (q.Reason == "" || slices.Contains(d.Outcome.Reasons, q.Reason)) &&
		(q.From.IsZero() || !d.Time.Before(q.From)) && (q.To.IsZero() || d.Time.Before(q.To)) &&
		(q.Kind == 0 || d.Kind == q.Kind) && (q.Period == "" || d.Period == q.Period) &&
		(q.Subjects == nil || slices.Contains(q.Subjects, d.Subject)) &&
		(q.Package == "" || d.Package.ID == q.Package && (q.Version == 0 || d.Package.Version == q.Version)) &&
		(q.Shielded == Either || (q.Shielded == Only) == d.Shielded)
}

func dbPath(dir string) string { return "sqlite:" + filepath.Join(dir, "read.db") }
