package ledger

import (
	"bytes"
	"fmt"
	"testing"

	"datafordeler/broker"
)

// crowdLog is a log of about so many decisions, in batches of 2,000 records.
func crowdLog(b *testing.B, decisions int) (l *testLog, n int) {
	l = newLog(b, 1, 0)
	l.events(2)
	for n < decisions {
		h, ds := crowd(2000, 3)
		h.Revision, h.First = l.sequence.Revision(), l.sequence.Next(h.TopicID, h.Partition)
		h.Last = h.First + 1999
		for i := range ds {
			d := &ds[i]
			d.Position.Offset += h.First
			d.ID = broker.NewDecisionID(d.Kind, d.Position.TopicID, d.Position.Partition, d.Position.Offset, d.Subscription)
		}
		l.make(h, ds)
		n += len(ds)
	}
	l.sign(0)
	return l, n
}

func BenchmarkVerify(b *testing.B) {
	l, n := crowdLog(b, 200_000)
	entries, checkpoints := l.text()
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			b.SetBytes(int64(len(entries)))
			for b.Loop() {
				v := &Verifier{Policy: l.policy, Workers: workers}
				r, err := v.Run(b.Context(), NewStream(bytes.NewReader(entries), bytes.NewReader(checkpoints)))
				if err != nil || r.Decisions != int64(n) {
					b.Fatal(err)
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/float64(n)*1e6, "s/million")
		})
	}
}

func BenchmarkRows(b *testing.B) {
	l, _ := crowdLog(b, 6000)
	lines := l.items[1].lines
	var rows Rows
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		rows.Add(lines[i%len(lines)])
	}
}
