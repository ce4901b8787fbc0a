package positions

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"datafordeler/broker"
)

// keyOf is as good as a keyed hash.
func keyOf(kind byte, n int) (d broker.Digest) {
	h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte{kind}, uint64(n)))
	copy(d[:], h[:])
	return d
}

// of how many records the index is that is measured: DATAFORDELER_POSITIONS_RECORDS.
func scale(b *testing.B) int {
	n, err := strconv.Atoi(os.Getenv("DATAFORDELER_POSITIONS_RECORDS"))
	if err != nil {
		return 100_000
	}
	return n
}

// grow adds records on one subject in ten, a tenth of them corrections of the one
// before, a batch at a time.
func grow(tb testing.TB, x *Index, from, to, together int) {
	for ; from < to; from += together {
		batch := Batch{Dataset: "a", TopicID: topics[0], At: at0.Add(time.Duration(from) * time.Microsecond), Next: int64(from + together)}
		for i := from; i < from+together; i++ {
			r := Record{Offset: int64(i), Subject: keyOf('s', i*7919%(to/10+1)), Event: keyOf('e', i)}
			if i%10 == 9 {
				r.Kind, r.Of, r.Subject = broker.Correction, keyOf('e', i-1), keyOf('s', (i-1)*7919%(to/10+1))
			}
			batch.Records = append(batch.Records, r)
		}
		batch.Log = LogPlace{Next: int64(from + together)}
		if err := x.Apply(context.Background(), []Batch{batch}); err != nil {
			tb.Fatal(err)
		}
	}
}

func benchIndex(b *testing.B) (*Index, string) {
	path := filepath.Join(b.TempDir(), "positions.db")
	x, err := Open(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { x.Close() })
	return x, path
}

// BenchmarkFill fills an index from nothing, as after it was deleted.
func BenchmarkFill(b *testing.B) {
	n := scale(b)
	for b.Loop() {
		x, path := benchIndex(b)
		begun := time.Now()
		grow(b, x, 0, n, min(n, enoughTogether))
		took := time.Since(begun)
		if _, err := x.writing.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
			b.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n)/took.Seconds(), "records/s")
		b.ReportMetric(float64(info.Size())/float64(n), "B/record")
		x.Close()
	}
}

// enoughTogether is what flow/positions writes at once when it is behind.
const enoughTogether = 100_000

// BenchmarkLive adds two hundred records at a time to an index of some size.
func BenchmarkLive(b *testing.B) {
	n := scale(b)
	x, _ := benchIndex(b)
	grow(b, x, 0, n, min(n, enoughTogether))
	const together = 200
	at := n
	for b.Loop() {
		grow(b, x, at, at+together, together)
		at += together
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*together), "ns/record")
}

// BenchmarkCurrent asks for one of many subjects.
func BenchmarkCurrent(b *testing.B) {
	n := scale(b)
	x, _ := benchIndex(b)
	grow(b, x, 0, n, min(n, enoughTogether))
	i := 0
	for b.Loop() {
		got, err := x.Current(b.Context(), "a", keyOf('s', i*104729%(n/10+1)), Bound{}, 1)
		if err != nil || len(got) == 0 && n >= 1000 {
			b.Fatal(got, err)
		}
		i++
	}
}
