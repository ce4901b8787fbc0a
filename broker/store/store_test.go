package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// small makes blocks and runs small, so that a few batches make many of them.
func small(s *Store) *Store {
	s.sizes = sizes{block: 40, page: 8, run: 400}
	return s
}

func apply1(t testing.TB, s *Store, batches ...Batch) {
	t.Helper()
	if err := s.Apply(t.Context(), batches, partiesOf); err != nil {
		t.Fatal(err)
	}
}

func digest(t testing.TB, s *Store) string {
	t.Helper()
	h, n, err := s.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %d", h, n)
}

// randomQuery asks for something that may be there.
func (g *gen) randomQuery(m *naive) Query {
	var q Query
	var d broker.Decision
	var p Parties
	if len(m.hits) > 0 {
		h := m.hits[g.IntN(len(m.hits))]
		d, p = h.Decision, h.Parties
	}
	for range g.IntN(4) {
		switch g.IntN(19) {
		case 0:
			q.Event = d.Event
		case 1:
			q.Record = &RecordPlace{d.Position.Dataset, d.Position.Partition, d.Position.Offset}
			if d.Position.Dataset == "" {
				q.Record.Dataset = "none"
			}
			q.Record.Offset = max(q.Record.Offset, 0)
		case 18:
			q.Request = d.Request
		case 2:
			q.Decision = d.ID
		case 3:
			q.Delivery = d.Delivery
		case 4:
			q.Subscription = d.Subscription
		case 5:
			q.Agreement = d.Agreement
		case 6:
			q.Consumer = p.Consumer
		case 7:
			q.Provider = p.Provider
		case 8:
			q.Supplier = p.Supplier
		case 9:
			q.Dataset = d.Position.Dataset
		case 10:
			q.Basis = g.bases[g.IntN(len(g.bases))]
		case 11:
			q.Verdict = Verdict(g.IntN(3))
		case 12:
			q.Reason = g.reasons[g.IntN(len(g.reasons))]
		case 13:
			if q.From = d.Time; g.IntN(2) == 0 && !q.From.IsZero() {
				q.To = q.From.Add(time.Duration(g.IntN(int(200 * time.Hour))))
			}
		case 14:
			q.To = d.Time
		case 15:
			q.Kind, q.Period = d.Kind, d.Period
		case 16:
			person := g.IntN(g.people)
			q.Subjects = []broker.Pseudonym{}
			for _, p := range []string{"2026-10", "2026-11", "2026-12", "2027-01"} {
				if g.IntN(3) > 0 {
					q.Subjects = append(q.Subjects, pseudonym(person, p))
				}
			}
		case 17:
			q.Package, q.Shielded = d.Package.ID, Yes(g.IntN(3))
			if g.IntN(2) == 0 {
				q.Version = d.Package.Version
			}
		}
	}
	if !q.From.IsZero() && !q.To.IsZero() && q.To.Before(q.From) {
		q.From, q.To = q.To, q.From
	}
	q.Ascending = g.IntN(2) == 0
	q.Limit = []int{1, 2, 7, 40}[g.IntN(4)]
	return q
}

func same(t fatal, what string, got, want []Hit) {
	t.Helper()
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if !reflect.DeepEqual(got, want) {
		for i := range min(len(got), len(want)) {
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Fatalf("%s: %d hits, want %d; number %d is\n%+v, want\n%+v", what, len(got), len(want), i, got[i], want[i])
			}
		}
		t.Fatalf("%s: %d hits, want %d", what, len(got), len(want))
	}
}

type fatal interface {
	Helper()
	Fatalf(string, ...any)
}

// TestSearchIsNaive: whatever was applied, in whatever portions, a search gives
// what looking at everything gives, page by page, while more is applied.
func TestSearchIsNaive(t *testing.T) {
	engines(t, func(t *testing.T, dsn func() string) {
		s := small(open1(t, dsn()))
		rapid.Check(t, func(t *rapid.T) {
			ctx := context.Background()
			g := newGen(rapid.Uint64().Draw(t, "seed"))
			m := &naive{}
			if err := s.Reset(ctx); err != nil {
				t.Fatal(err)
			}
			add := func(n int) {
				b := g.batches(n)
				m.apply(b)
				if err := s.Apply(ctx, b, partiesOf); err != nil {
					t.Fatal(err)
				}
			}
			for range rapid.IntRange(1, 8).Draw(t, "applies") {
				add(1 + g.IntN(30))
			}
			for range 6 {
				q := g.randomQuery(m)
				var last *Hit
				for page := range 6 {
					got, err := s.Search(ctx, q)
					if err != nil {
						t.Fatalf("%+v: %v", q, err)
					}
					want, more := m.search(q, last)
					same(t, fmt.Sprintf("page %d of %+v", page, q), got.Hits, want)
					if (got.Next != "") != more {
						t.Fatalf("page %d of %+v: more is %v, want %v", page, q, got.Next != "", more)
					}
					if !more {
						break
					}
					last, q.Cursor = &want[len(want)-1], got.Next
					if g.IntN(3) == 0 {
						add(1 + g.IntN(4))
					}
				}
			}
			checkDelivered(t, s, m)
			checkKinds(t, s, m)
		})
	})
}

// checkDelivered holds Delivered to counting by hand.
func checkDelivered(t *rapid.T, s *Store, m *naive) {
	list, err := s.Delivered(context.Background(), time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	type k struct {
		a        broker.AgreementID
		p        Parties
		pack     broker.PackageRef
		fields   string
		shielded bool
	}
	got, want := map[k]FieldSet{}, map[k]FieldSet{}
	for _, d := range list {
		sum := int64(0)
		for _, f := range d.Sets {
			key := k{d.Agreement, d.Parties, d.Package, fmt.Sprint(f.Fields), f.Shielded}
			f.Fields = nil
			got[key] = f
			sum += f.Count
		}
		if sum != d.Permits {
			t.Fatalf("%s: %d permits, its sets %d", d.Agreement, d.Permits, sum)
		}
	}
	for _, h := range m.hits {
		d := &h.Decision
		if !d.Outcome.Permit {
			continue
		}
		key := k{d.Agreement, h.Parties, d.Package, fmt.Sprint(d.Fields), d.Shielded}
		f, ok := want[key]
		if !ok {
			f = FieldSet{Shielded: d.Shielded, First: d.Time, Last: d.Time}
		}
		f.Count++
		f.Kinds[d.Kind]++
		if d.Time.Before(f.First) {
			f.First = d.Time
		}
		if d.Time.After(f.Last) {
			f.Last = d.Time
		}
		want[key] = f
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("delivered: have %v\nwant %v", got, want)
	}
}

// TestDigest: the content is the same in whatever order partitions came, however
// they were grouped, on either database, and after a reset.
func TestDigest(t *testing.T) {
	g := newGen(3)
	log := g.batches(120)
	var digestsMu sync.Mutex
	digests := map[string]bool{}
	engines(t, func(t *testing.T, dsn func() string) {
		a, b := small(open1(t, dsn())), open1(t, dsn())
		apply1(t, a, log...)
		// By partition, in portions.
		for p := range int32(3) {
			var of []Batch
			for _, x := range log {
				if x.LogPartition == p {
					of = append(of, x)
				}
			}
			for part := range slices.Chunk(of, 7) {
				apply1(t, b, part...)
			}
		}
		want := digest(t, a)
		if got := digest(t, b); got != want {
			t.Errorf("by partition %s, straight through %s", got, want)
		}
		if err := a.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := digest(t, a); got == want || !strings.HasSuffix(got, " 0") {
			t.Errorf("after a reset: %s", got)
		}
		for i := range log {
			apply1(t, a, log[i])
		}
		if got := digest(t, a); got != want {
			t.Errorf("one by one %s, at once %s", got, want)
		}
		digestsMu.Lock()
		digests[want] = true
		if len(digests) > 1 {
			t.Errorf("the databases differ: %v", digests)
		}
		digestsMu.Unlock()

		// And it changes with anything in the log.
		for name, change := range map[string]func(*Batch){
			"a count":    func(b *Batch) { b.Head.Rejected++ },
			"the policy": func(b *Batch) { setAll(b, func(d *broker.Decision) { d.PolicyDigest = "x" }); b.Head.Policy = "x" },
			"a subject": func(b *Batch) {
				setAll(b, func(d *broker.Decision) { d.Subject = hashOf(77) })
			},
			"a request": func(b *Batch) { setAll(b, func(d *broker.Decision) { d.Request = hashOf(79) }) },
			"a dataset": func(b *Batch) { setAll(b, func(d *broker.Decision) { d.Position.Dataset = "annet" }) },
			"an id":     func(b *Batch) { b.Decisions[len(b.Decisions)-1].ID = hashOf(78) },
			"a field": func(b *Batch) {
				b.Decisions[0].Fields = append(slices.Clone(b.Decisions[0].Fields), "/mer")
			},
		} {
			changed := slices.Clone(log)
			kind := broker.StreamDecision
			if name == "a request" || name == "a dataset" {
				kind = broker.LookupDecision
			}
			i := slices.IndexFunc(changed, func(b Batch) bool { return len(b.Decisions) > 0 && b.Head.Kind == kind })
			changed[i].Decisions = slices.Clone(changed[i].Decisions)
			change(&changed[i])
			if err := a.Reset(t.Context()); err != nil {
				t.Fatal(err)
			}
			apply1(t, a, changed...)
			if digest(t, a) == want {
				t.Errorf("%s was changed, and the digest is the same", name)
			}
		}
	})
}

func setAll(b *Batch, fn func(*broker.Decision)) {
	for i := range b.Decisions {
		fn(&b.Decisions[i])
	}
}

// TestOrder: repeats are skipped, gaps are named, and nothing of a refused Apply
// is kept.
func TestOrder(t *testing.T) {
	engines(t, func(t *testing.T, dsn func() string) {
		s := open1(t, dsn())
		g := newGen(11)
		log := g.batches(30)
		apply1(t, s, log[:20]...)
		want := digest(t, s)
		apply1(t, s, log[5:15]...)
		apply1(t, s, log[:20]...)
		if got := digest(t, s); got != want {
			t.Fatalf("applied twice: %s, want %s", got, want)
		}
		next, err := s.Position(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantNext := map[int32]int64{}
		for _, b := range log[:20] {
			wantNext[b.LogPartition] = b.LogOffset + 1
		}
		if !reflect.DeepEqual(next, wantNext) {
			t.Fatalf("position %v, want %v", next, wantNext)
		}
		gap := log[20]
		gap.LogFrom, gap.LogOffset = next[gap.LogPartition]+1, next[gap.LogPartition]+4
		err = s.Apply(t.Context(), []Batch{log[21], gap}, partiesOf)
		if !errors.Is(err, ErrGap) || !strings.Contains(err.Error(), fmt.Sprintf("up to offset %d", next[gap.LogPartition])) {
			// log[21] may be of the same partition: then that is the gap.
			if !errors.Is(err, ErrGap) {
				t.Fatalf("a gap: %v", err)
			}
		}
		stranger := log[20]
		stranger.Decisions = slices.Clone(log[slices.IndexFunc(log, func(b Batch) bool { return len(b.Decisions) > 0 && b.Head.Kind == broker.StreamDecision })].Decisions[:1])
		stranger.Decisions[0].Agreement = "unheard-of"
		h, d := &stranger.Head, &stranger.Decisions[0]
		*h = Head{Kind: d.Kind, Dataset: d.Position.Dataset, TopicID: d.Position.TopicID, Partition: d.Position.Partition, First: d.Position.Offset, Last: d.Position.Offset,
			Time: d.Time, Revision: d.Revision, Policy: d.PolicyDigest, Period: d.Period, Records: 1}
		if err := s.Apply(t.Context(), []Batch{stranger}, partiesOf); !errors.Is(err, ErrParties) || !strings.Contains(err.Error(), "unheard-of") {
			t.Fatalf("an agreement that nobody knows: %v", err)
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Apply(canceled, log[20:], partiesOf); err == nil {
			t.Fatal("applied after it was called off")
		}
		if got := digest(t, s); got != want {
			t.Fatalf("something of a refused Apply was kept: %s, want %s", got, want)
		}
		apply1(t, s, log[20:]...)
		all := digest(t, s)
		other := open1(t, dsn())
		apply1(t, other, log...)
		if got := digest(t, other); got != all {
			t.Fatalf("after refusals %s, straight through %s", all, got)
		}
	})
}

// TestRefusals: a batch that contradicts itself is not applied.
func TestRefusals(t *testing.T) {
	s := open1(t, dbPath(t.TempDir()))
	for name, change := range map[string]func(*Batch){
		"range":        func(b *Batch) { b.Head.Last = b.Head.First - 2 },
		"outside":      func(b *Batch) { b.Head.Last = b.Head.First - 1 },
		"dataset":      func(b *Batch) { b.Head.Dataset = "other" },
		"time":         func(b *Batch) { b.Head.Time = b.Head.Time.Add(1) },
		"no time":      func(b *Batch) { b.Head.Time = time.Time{} },
		"offset":       func(b *Batch) { b.LogOffset = b.LogFrom - 1 },
		"order":        func(b *Batch) { slices.Reverse(b.Decisions) },
		"event":        func(b *Batch) { b.Decisions[0].Event[3] ^= 1 },
		"zero byte":    func(b *Batch) { b.Decisions[0].Subscription = "a\x00b" },
		"not text":     func(b *Batch) { b.Decisions[0].Fields = []broker.Pointer{"/\xff"} },
		"kind":         func(b *Batch) { b.Head.Kind = 0 },
		"record kind":  func(b *Batch) { setAll(b, func(d *broker.Decision) { d.RecordKind = 9 }) },
		"revision":     func(b *Batch) { b.Head.Revision++ },
		"count":        func(b *Batch) { b.Head.Repeated = -1 },
		"period":       func(b *Batch) { b.Head.Period = "2020-01" },
		"no partition": func(b *Batch) { b.LogPartition = -1 },
	} {
		g := newGen(5)
		var b Batch
		for len(b.Decisions) < 3 || b.Head.Kind != broker.StreamDecision || sameRecord(&b.Decisions[0], &b.Decisions[len(b.Decisions)-1]) || !sameRecord(&b.Decisions[0], &b.Decisions[1]) {
			b = g.batch()
		}
		change(&b)
		if err := s.Apply(t.Context(), []Batch{b}, partiesOf); err == nil {
			t.Errorf("%s: applied", name)
		}
	}
	if got := digest(t, s); !strings.HasSuffix(got, " 0") {
		t.Errorf("something was kept: %s", got)
	}
}

// TestCalledOff: an Apply whose context ends while it runs was done in full or not
// at all, and the next one goes on.
func TestCalledOff(t *testing.T) {
	engines(t, func(t *testing.T, dsn func() string) {
		log := newGen(31).batches(60)
		straight := open1(t, dsn())
		apply1(t, straight, log...)
		want := digest(t, straight)
		s := small(open1(t, dsn()))
		rnd := rand.New(rand.NewPCG(4, 4))
		off := 0
		for part := range slices.Chunk(log, 6) {
			for i := range 30 {
				// Within what an Apply takes, and within what its beginning takes.
				wait := time.Duration(rnd.IntN([]int{20_000, 200}[i%2])) * time.Microsecond
				ctx, cancel := context.WithTimeout(t.Context(), wait)
				if err := s.Apply(ctx, part, partiesOf); err != nil {
					off++
				}
				cancel()
			}
			apply1(t, s, part...)
		}
		if got := digest(t, s); got != want {
			t.Fatalf("called off %d times: %s, straight through %s", off, got, want)
		}
		t.Logf("called off %d times", off)
	})
}

// TestVersions: tables of another version are refused, by name, and Recreate
// makes them anew.
func TestVersions(t *testing.T) {
	engines(t, func(t *testing.T, dsn func() string) {
		at := dsn()
		s := open1(t, at)
		apply1(t, s, newGen(1).batches(5)...)
		want := digest(t, s)
		for version, wantErr := range map[int]error{schemaVersion - 1: ErrRebuild, schemaVersion + 1: ErrNewer} {
			err := s.db.write(t.Context(), func(w writer) error {
				return w.exec(t.Context(), "UPDATE state SET version = ?1", int64(version))
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(t.Context(), at); !errors.Is(err, wantErr) {
				t.Fatalf("version %d: %v, want %v", version, err, wantErr)
			}
			if err := s.Apply(t.Context(), nil, partiesOf); !errors.Is(err, wantErr) {
				t.Fatalf("apply at version %d: %v, want %v", version, err, wantErr)
			}
		}
		again, err := Recreate(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		// The one that was open goes on with the new tables.
		apply1(t, s, newGen(1).batches(5)...)
		if got := digest(t, again); got != want {
			t.Fatalf("made anew: %s, want %s", got, want)
		}
	})
}

// TestTwoWriters: two processes' worth of writers on one database do what one does.
func TestTwoWriters(t *testing.T) {
	engines(t, func(t *testing.T, dsn func() string) {
		at := dsn()
		a, b := small(open1(t, at)), small(open1(t, at))
		log := newGen(8).batches(100)
		errs := make(chan error, 2)
		for _, s := range []*Store{a, b} {
			go func() {
				for part := range slices.Chunk(log, 4) {
					if err := s.Apply(t.Context(), part, partiesOf); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
		}
		m := &naive{}
		m.apply(log)
		for range 2 {
			// Readers meanwhile see whole Applies; here only that they see something.
			if _, err := a.Search(t.Context(), Query{Limit: 3}); err != nil {
				t.Error(err)
			}
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		got, err := b.Search(t.Context(), Query{Limit: MaxLimit})
		if err != nil {
			t.Fatal(err)
		}
		want, _ := m.search(Query{Limit: MaxLimit}, nil)
		same(t, "all", got.Hits, want)
	})
}

func TestPaths(t *testing.T) {
	for dsn, want := range map[string]string{
		"/a/b.db": "/a/b.db", "///a/b.db": "/a/b.db", "//host/b.db": "", "": "", "/a/": "", ":memory:": "", "//": "", "/a\x00b": "",
	} {
		got, err := sqlitePath(dsn)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", dsn, got, err, want)
		}
	}
	// A name may hold what a URL gives a meaning.
	dir := filepath.Join(t.TempDir(), "lese modell?x=1&y#z%20å")
	s := open1(t, dbPath(dir))
	apply1(t, s, newGen(1).batches(3)...)
	if _, err := os.Stat(filepath.Join(dir, "read.db")); err != nil {
		t.Fatal(err)
	}
	for _, dsn := range []string{"", "read.db", "mysql://u:hemmelig@h/d", "postgres://u:hemmelig@[::1/d", "postgres://u:hem melig@h:x/d"} {
		_, err := Open(t.Context(), dsn)
		if err == nil || strings.Contains(err.Error(), "melig") {
			t.Errorf("%q: %v", dsn, err)
		}
	}
}
