package registry

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"datafordeler/broker"
)

// uuid4 is the i-th of names that look as Altinn's do.
func uuid4(i int) string {
	h := uint64(i+1) * 0x9e3779b97f4a7c15
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", uint32(h>>32), uint16(h>>16), uint16(h)&0xfff, i&0xfff, uint64(i)*0xfffffffb&0xffffffffffff)
}

// people is a subject key for each i, spread as hashes are.
func people(i int) (k broker.SubjectKey) {
	h := uint64(i+1) * 0xd6e8feb86659fd93
	binary.BigEndian.PutUint64(k[:], h^h>>32)
	binary.BigEndian.PutUint64(k[8:], uint64(i))
	return k
}

// grow folds n consents or cases as the control topic would give them, and
// returns what the state holds of them, in bytes, and how long it took.
func grow(b *testing.B, n int, make func(i int) Change) (s *State, held int64, took time.Duration) {
	s, _ = base(b)
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	const part = 10_000
	var raw [][]byte
	for i := 0; i < n; i += part {
		var changes []Change
		for j := range min(part, n-i) {
			changes = append(changes, make(i+j))
		}
		raw = raw[:0]
		for _, e := range must(s.Link(now, "bench", changes...)) {
			raw = append(raw, must(Encode(e)))
		}
		begun := time.Now()
		for _, v := range raw {
			if ok, err := s.Fold(must(Decode(v))); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
		took += time.Since(begun)
	}
	clear(raw)
	return s, heap() - before, took
}

func consentOf(i, each int, external bool) Change {
	c := broker.Consent{ID: broker.ConsentID(uuid4(i)), Subject: people(i / each), Consumer: "964338531", Dataset: "inntekt", Purpose: "sosialhjelp",
		Valid: broker.Interval{From: now.Add(time.Duration(i) * time.Second), To: now.AddDate(1, 0, 0)}}
	if external {
		c.External = uuid4(-i)
	}
	return GiveConsent(c)
}

func caseOf(i int) Change {
	return OpenCase(broker.Case{ID: broker.CaseID(fmt.Sprintf("2026-%07d", i)), Subscription: "bergen", Subject: people(i),
		Open: broker.Interval{From: now.Add(time.Duration(i) * time.Second)}})
}

// BenchmarkMemory is what a million consents or cases hold, and how fast a start
// folds them. Read B/each and events/s; the ns/op says nothing.
func BenchmarkMemory(b *testing.B) {
	const n = 1_000_000
	for _, c := range []struct {
		name string
		make func(i int) Change
	}{
		{"consents/distinct", func(i int) Change { return consentOf(i, 1, false) }},
		{"consents/distinct/external", func(i int) Change { return consentOf(i, 1, true) }},
		{"consents/three-a-subject", func(i int) Change { return consentOf(i, 3, false) }},
		{"cases/distinct", caseOf},
	} {
		b.Run(c.name, func(b *testing.B) {
			var held int64
			var took time.Duration
			for range b.N {
				s, h, t := grow(b, n, c.make)
				held, took = h, took+t
				runtime.KeepAlive(s)
			}
			b.ReportMetric(float64(held)/n, "B/each")
			b.ReportMetric(float64(n)*float64(b.N)/took.Seconds(), "events/s")
		})
	}
}

// BenchmarkLookups is what the broker asks for each record, among 300,000
// subjects of whom one in three gave three consents and had a case.
func BenchmarkLookups(b *testing.B) {
	s, _, _ := grow(b, 300_000, func(i int) Change { return consentOf(i, 3, false) })
	for i := 0; i < 100_000; i += 10_000 {
		var changes []Change
		for j := range 10_000 {
			changes = append(changes, caseOf(i+j))
		}
		for _, e := range must(s.Link(now, "bench", changes...)) {
			must(s.Fold(e))
		}
	}
	subs, cases, consents := make([]broker.SubscriptionID, 0, 8), make([]broker.Interval, 0, 8), make([]broker.Consent, 0, 8)
	keys := make([]broker.SubjectKey, 1<<16)
	for i := range keys {
		keys[i] = people(i * 7919 % 100_000)
	}
	i := 0
	next := func() broker.SubjectKey { i++; return keys[i&(len(keys)-1)] }
	for name, ask := range map[string]func(){
		"Listed":   func() { subs = s.Listed(subs[:0], "inntekt", next()) },
		"Cases":    func() { cases = s.Cases(cases[:0], "bergen", next()) },
		"Consents": func() { consents = s.Consents(consents[:0], "964338531", "inntekt", "sosialhjelp", next()) },
		"nobody":   func() { k := next(); k[15] ^= 1; k[0] ^= 1; subs = s.Listed(subs[:0], "inntekt", k) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ask()
			}
		})
	}
}
