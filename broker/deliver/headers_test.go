package deliver

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

func envelope() *Envelope {
	return NewEnvelope(&broker.Terms{
		Subscription: broker.Subscription{ID: "oslo-barnehage"}, Mailbox: broker.Mailbox{ID: "oslo"},
		Agreement: broker.Agreement{ID: "oslo-barnehage-2026"}, Dataset: &broker.Dataset{ID: "inntekt", Owner: "974761076"},
	})
}

func event() *broker.Record {
	return &broker.Record{Type: "no.skatt.inntekt.v1", Time: time.Date(2026, 11, 22, 10, 0, 0, 123_000_000, time.FixedZone("", 3600)),
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
}

// The bytes that consumers read: every header, in order.
func TestGoldenHeaders(t *testing.T) {
	full := event()
	full.Kind, full.Provisional = broker.Correction, true
	bare := &broker.Record{Type: "t"}
	var got strings.Builder
	for _, rec := range []*broker.Record{full, bare, event()} {
		arena := make([]byte, 0, HeaderBytes(rec))
		hs, used := AppendHeaders([]Header(nil), arena, envelope(), rec, digest(1), digest(2), digest(3))
		if cap(used) != cap(arena) {
			t.Errorf("HeaderBytes says %d, %d were written", HeaderBytes(rec), len(used))
		}
		if len(hs) > MaxHeaders {
			t.Errorf("%d headers", len(hs))
		}
		for _, h := range hs {
			fmt.Fprintf(&got, "%s: %s\n", h.Key, h.Value)
		}
		got.WriteByte('\n')
	}
	golden := filepath.Join("testdata", "headers.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

// Deliveries that share an arena keep their values, and none reaches into the
// next one's, whether it had room or not.
func TestHeadersShareAnArena(t *testing.T) {
	rec := event()
	for _, room := range []int{0, 40, HeaderBytes(rec), 3 * HeaderBytes(rec), 1 << 12} {
		arena := make([]byte, 0, room)
		var all [][]Header
		for i := range 5 {
			var hs []Header
			hs, arena = AppendHeaders(hs, arena, envelope(), rec, digest(byte(i)), digest(byte(i+50)), broker.Digest{})
			all = append(all, hs)
		}
		for i, hs := range all {
			alone, _ := AppendHeaders([]Header(nil), nil, envelope(), rec, digest(byte(i)), digest(byte(i+50)), broker.Digest{})
			for j, h := range hs {
				if h.Key != alone[j].Key || !bytes.Equal(h.Value, alone[j].Value) {
					t.Fatalf("room %d, delivery %d: %s is %q, want %q", room, i, h.Key, h.Value, alone[j].Value)
				}
				if strings.HasSuffix(h.Key, "id") || h.Key == "ce_time" {
					_ = append(h.Value, "overwrites what follows, unless its capacity ends here"...)
				}
			}
		}
	}
}

func TestTimeIsRFC3339(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-100_000_000_000, 400_000_000_000).Draw(t, "s"), rapid.SampledFrom([]int64{0, 1, 10, 999_999_999, 120_000_000, 120_000, 123_456_780}).Draw(t, "ns")).
			In(time.FixedZone("", rapid.IntRange(-50_000, 50_000).Draw(t, "zone")))
		if got, want := string(appendTime(nil, at)), at.UTC().Format(time.RFC3339Nano); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

func TestHeadersDoNotAllocate(t *testing.T) {
	rec, e := event(), envelope()
	rec.Kind = broker.Correction
	hs, arena := make([]Header, 0, MaxHeaders), make([]byte, 0, HeaderBytes(rec))
	if n := testing.AllocsPerRun(100, func() {
		AppendHeaders(hs[:0], arena[:0], e, rec, digest(1), digest(2), digest(3))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHeaders(b *testing.B) {
	rec, e := event(), envelope()
	hs, arena := make([]Header, 0, MaxHeaders), make([]byte, 0, HeaderBytes(rec))
	id, decision := digest(1), digest(2)
	b.ReportAllocs()
	for b.Loop() {
		AppendHeaders(hs[:0], arena[:0], e, rec, id, decision, broker.DeliveryID{})
	}
}
