package deliver

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"datafordeler/broker"
)

// country is a dataset that 357 municipalities subscribe to, each as often as
// the fan-out says, by names such as they give.
type country struct {
	fanout int
	subs   [][]*broker.Terms // by municipality
	permit []*broker.Outcome // by layer
	denied []*broker.Outcome
	fields []broker.Pointer
	share  float64 // of decisions that stand on the subject's own consent
	rng    *rand.Rand
	buf    []Decision
}

func newCountry(fanout int, share float64) *country {
	c := &country{fanout: fanout, share: share, rng: rand.New(rand.NewPCG(1, 2))}
	services := []string{"barnehage", "eiendomsskatt", "sosialhjelp", "bostoette", "sfo", "hjemmetjeneste", "skole", "ledsager", "startlaan", "tilskudd"}
	for m := range 357 {
		var layer []*broker.Terms
		for l := range fanout {
			id := fmt.Sprintf("kommune-%04d-%s", 301+m*13, services[l])
			layer = append(layer, &broker.Terms{Subscription: broker.Subscription{ID: broker.SubscriptionID(id)},
				Agreement: broker.Agreement{ID: broker.AgreementID(id + "-2026"), Package: broker.PackageRef{ID: "inntektsproeving-" + services[l], Version: 1}}})
		}
		c.subs = append(c.subs, layer)
	}
	for l := range fanout {
		basis := broker.LegalBasisID("forskrift-" + services[l])
		if float64(l) < share*float64(fanout) {
			c.permit = append(c.permit, &broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"samtykke-" + basis}})
		} else {
			c.permit = append(c.permit, &broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"skatteforvaltningsloven-3-3", basis}})
		}
		c.denied = append(c.denied, &broker.Outcome{Reasons: []broker.Reason{"consent_missing"}, Bases: c.permit[l].Bases})
	}
	for _, f := range []string{"opplysningspliktigId", "virksomhetId", "kalendermaaned", "inntektsmottaker/personidentifikator", "inntekt/fordel", "inntekt/beloep",
		"inntekt/loennsinntekt/beskrivelse", "inntekt/ytelseFraOffentlige/beskrivelse", "inntekt/pensjonEllerTrygd/beskrivelse", "forskuddstrekk/beloep"} {
		c.fields = append(c.fields, broker.Pointer("/oppgaveInntektsmottaker/"+f))
	}
	return c
}

// decisions on a record about somebody somewhere. Municipalities differ in size
// as they do: half of the people live in a tenth of them. Of those who are asked
// for consent, half have given it.
func (c *country) decisions() []Decision {
	at := int(float64(len(c.subs)) * pow4(c.rng.Float64()))
	ds := c.buf[:0]
	for l, t := range c.subs[at] {
		d := Decision{Terms: t, Outcome: c.permit[l], Fields: c.fields}
		if float64(l) < c.share*float64(c.fanout) && c.rng.IntN(2) == 0 {
			d.Outcome, d.Fields = c.denied[l], nil
		}
		ds = append(ds, d)
	}
	c.buf = ds
	return ds
}

func pow4(x float64) float64 { return x * x * x * x }

func randomDigest(rng *rand.Rand) (d broker.Digest) {
	binary.LittleEndian.PutUint64(d[:], rng.Uint64())
	binary.LittleEndian.PutUint64(d[8:], rng.Uint64())
	return d
}

// measured is the header of a like size as in operation.
func measured(partition int32) BatchHeader {
	h := header(1_000_000)
	h.Partition = partition
	h.Policy = "sha256:4f5f3f0a6e3c0c1f4b0b7f6c9b1f0a7f5f1c2d3e4a5b6c7d8e9f0a1b2c3d4e5f"
	return h
}

type writer interface {
	Reset(BatchHeader)
	Add(Row, []Decision)
	Finish(int64) [][]byte
}

// bytesPerDecision is of one transaction over six partitions.
func bytesPerDecision(w writer, records, fanout int, share float64) float64 {
	const partitions = 6
	c := newCountry(fanout, share)
	total, decided := 0, 0
	for p := range partitions {
		h := measured(int32(p))
		w.Reset(h)
		n := records / partitions
		if p < records%partitions {
			n++
		}
		for i := range n {
			ds := c.decisions()
			decided += len(ds)
			w.Add(Row{Offset: h.First + int64(i), Event: randomDigest(c.rng), Subject: randomDigest(c.rng)}, ds)
		}
		for _, out := range w.Finish(h.First + int64(n) - 1) {
			total += len(out)
		}
	}
	return float64(total) / float64(decided)
}

// TestBytesPerDecision prints the table of docs/formats.md (with -v), and holds
// the format to it: what can be compressed may add little to what cannot, the 32
// bytes of event and pseudonym.
func TestBytesPerDecision(t *testing.T) {
	t.Log("| records in the transaction | fan-out | of them by consent | format 1 | format 2 | of which hashes |")
	t.Log("|---|---|---|---|---|---|")
	for _, x := range []struct {
		records, fanout int
		share, most     float64
	}{
		{20_000, 1, 0, 35}, {20_000, 3, 0, 12.5}, {20_000, 10, 0, 4.8},
		{20_000, 1, 1, 35.5}, {20_000, 3, 1, 13.5}, {20_000, 10, 1, 6},
		{1_000, 1, 0, 43}, {1_000, 3, 0, 19}, {1_000, 10, 0, 10.5},
		{50, 1, 0, 107}, {50, 3, 0, 49}, {50, 10, 0, 28.5}, {50, 10, 1, 25.5},
	} {
		v1 := bytesPerDecision(&batch1{}, x.records, x.fanout, x.share)
		v2 := bytesPerDecision(&Batch{}, x.records, x.fanout, x.share)
		t.Logf("| %d | %d | %.0f %% | %.1f | %.1f | %.1f |", x.records, x.fanout, 100*x.share, v1, v2, 32/float64(x.fanout))
		if v2 > x.most {
			t.Errorf("%d records, fan-out %d: %.1f bytes a decision, want at most %.1f", x.records, x.fanout, v2, x.most)
		}
	}
}

// BenchmarkAdd is a row. In a transaction it is one of 3,333, as a sixth of
// 20,000 is, with its part of Reset and Finish and of the dictionaries, which
// are made anew; in a stream it is one of a batch that goes on, and has met all
// subscriptions.
func BenchmarkAdd(b *testing.B) {
	for _, x := range []struct {
		fanout int
		share  float64
	}{{1, 0}, {3, 0}, {10, 0}, {1, 1}, {3, 1}, {10, 1}} {
		c := newCountry(x.fanout, x.share)
		const n = 3_333
		rows := make([][]Decision, n)
		for i := range rows {
			rows[i] = slices.Clone(c.decisions())
		}
		for _, every := range []int{n, 20 * n} {
			name := map[int]string{n: "transaction", 20 * n: "stream"}[every]
			b.Run(fmt.Sprintf("fanout=%d/consent=%.0f/%s", x.fanout, x.share, name), func(b *testing.B) {
				var batch Batch
				h := measured(0)
				batch.Reset(h)
				row := Row{Event: digest(1), Subject: digest(2)}
				b.ReportAllocs()
				defer processor(b)()
				i := 0
				for b.Loop() {
					row.Offset = h.First + int64(i)
					batch.Add(row, rows[i%n])
					if i++; i == every {
						batch.Finish(h.First + int64(i) - 1)
						batch.Reset(h)
						i = 0
					}
				}
			})
		}
	}
}

// processor reports processor time as well: what others do on the machine does
// not count in it.
func processor(b *testing.B) func() {
	used := func() time.Duration {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	begun := used()
	return func() { b.ReportMetric(float64(used()-begun)/float64(b.N), "cpu-ns/op") }
}

// filled is one record of decisions of n rows.
func filled(w writer, fanout, n int) []byte {
	c := newCountry(fanout, 1)
	h := measured(0)
	w.Reset(h)
	for i := range n {
		w.Add(Row{Offset: h.First + int64(i), Event: randomDigest(c.rng), Subject: randomDigest(c.rng)}, c.decisions())
	}
	return w.Finish(h.First + int64(n) - 1)[0]
}

func BenchmarkRead(b *testing.B) {
	const n = 3_333
	for _, fanout := range []int{1, 10} {
		for name, value := range map[string][]byte{"v1": filled(&batch1{}, fanout, n), "v2": filled(&Batch{}, fanout, n)} {
			run := func(what string, fn func(i int) error) {
				b.Run(fmt.Sprintf("%s/fanout=%d/%s", what, fanout, name), func(b *testing.B) {
					b.ReportAllocs()
					defer processor(b)()
					for i := 0; b.Loop(); i++ {
						if err := fn(i); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			run("peek", func(int) error { _, err := Peek(value); return err })
			run("header", func(int) error { _, _, err := DecodeHeader(value); return err })
			run("usage", func(int) error { _, err := UsageAfter(value); return err })
			run("decode", func(int) error { _, err := Decode(value, func(*broker.Decision) error { return nil }); return err })
			run("lookup", func(i int) error {
				found := 0
				_, err := Lookup(value, 1_000_000+int64(i*7919%n), func(*broker.Decision) error { found++; return nil })
				if err == nil && found != fanout {
					err = fmt.Errorf("%d decisions", found)
				}
				return err
			})
		}
	}
}
