package intake

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/schema"
	"datafordeler/providers/synthetic"
)

// The cost of a record, stage by stage: docs/decisions/0004-cost-of-a-record.md
// has the figures. The records are a fixed month of synthetic income records,
// about 760 bytes each.

const benchRecords = 256

// random stands for keyed hashes, whose homes in an index fall anyhow: a sequence
// that is spread evenly would never meet itself there.
var random = rand.NewPCG(1, 2)

type bench struct {
	d        *Dataset
	messages []*Message
	docs     []jsondoc.Doc
	records  []broker.Record
	bytes    int64 // of an average payload
}

func newBench(b *testing.B, mode func(synthetic.Event) *Message) *bench {
	out := &bench{d: compileDataset(b, incomeDataset(b)), docs: make([]jsondoc.Doc, benchRecords), records: make([]broker.Record, benchRecords)}
	g := synthetic.New(synthetic.Config{People: benchRecords, Seed: 1})
	for i := range benchRecords {
		msg := mode(g.Income(nil, i))
		if r := out.d.Accept(msg, hasher, &out.records[i], &out.docs[i]); r != nil {
			b.Fatal(r)
		}
		out.messages = append(out.messages, msg)
		out.bytes += int64(len(out.records[i].Data))
	}
	out.bytes /= benchRecords
	b.SetBytes(out.bytes)
	b.ReportAllocs()
	return out
}

func (x *bench) each(b *testing.B, fn func(i int)) {
	for i := 0; b.Loop(); i++ {
		fn(i % benchRecords)
	}
}

func BenchmarkStage(b *testing.B) {
	b.Run("event", func(b *testing.B) {
		x := newBench(b, binaryMode)
		var doc jsondoc.Doc
		x.each(b, func(i int) {
			e := event{maxDepth: 64, known: x.d.known, declared: x.d.extensions}
			if e.read(x.messages[i], &doc) != nil || e.required() != nil {
				b.Fatal("rejected")
			}
		})
	})
	b.Run("parse", func(b *testing.B) {
		x := newBench(b, binaryMode)
		var doc jsondoc.Doc
		x.each(b, func(i int) {
			if doc.Parse(x.messages[i].Value, 64) != nil {
				b.Fatal("rejected")
			}
		})
	})
	b.Run("validate", func(b *testing.B) {
		x := newBench(b, binaryMode)
		var run schema.Run
		x.each(b, func(i int) {
			if x.d.validate(x.d.current, &run, &x.docs[i]) != nil {
				b.Fatal("rejected")
			}
		})
	})
	b.Run("read", func(b *testing.B) { // parse and validate in one
		x := newBench(b, binaryMode)
		var run schema.Run
		var doc jsondoc.Doc
		x.each(b, func(i int) {
			if !x.d.current.Read(&run, &doc, x.messages[i].Value, 64) {
				b.Fatal("not read")
			}
		})
	})
	b.Run("validate/library", func(b *testing.B) { // what it takes for a schema that falls back
		ds := incomeDataset(b)
		ds.Schemas[0].Document = bytes.Replace(ds.Schemas[0].Document, []byte(`"$defs"`), []byte(`"unevaluatedProperties": {"$dynamicRef": "#n"}, "$dynamicAnchor": "n", "$defs"`), 1)
		d := compileDataset(b, ds)
		if d.SchemaForms()[0].Fallback == "" {
			b.Fatal("the schema is compiled")
		}
		x := newBench(b, binaryMode)
		var run schema.Run
		x.each(b, func(i int) {
			if d.validate(d.current, &run, &x.docs[i]) != nil {
				b.Fatal("rejected")
			}
		})
	})
	b.Run("extract", func(b *testing.B) { // subject and attributes, with the subject's hash
		x := newBench(b, binaryMode)
		var rec broker.Record
		e := event{maxDepth: 64, known: x.d.known, declared: x.d.extensions}
		if e.read(x.messages[0], nil) != nil {
			b.Fatal("rejected")
		}
		scratches := make([]scratch, benchRecords) // as validation leaves them
		for i := range scratches {
			if x.d.validate(x.d.current, &scratches[i].run, &x.docs[i]) != nil {
				b.Fatal("rejected")
			}
		}
		x.each(b, func(i int) {
			rec.Attributes = rec.Attributes[:0]
			if x.d.findSubject(&x.docs[i], noHash{}, &rec, &scratches[i]) != nil || x.d.findAttributes(&e, &x.docs[i], &rec, &scratches[i]) != nil {
				b.Fatal("rejected")
			}
		})
	})
	b.Run("content", func(b *testing.B) {
		x := newBench(b, binaryMode)
		e := event{maxDepth: 64, known: x.d.known, declared: x.d.extensions}
		if e.read(x.messages[0], nil) != nil {
			b.Fatal("rejected")
		}
		x.each(b, func(i int) { e.data = x.messages[i].Value; e.content() })
	})
	b.Run("hash", func(b *testing.B) { // event and subject, by the keystore
		x := newBench(b, binaryMode)
		x.each(b, func(i int) {
			hasher.Event("inntekt", synthetic.IncomeSource, "inc-2026-10-rstdmjmjhvkrhgbh")
			hasher.Subject(broker.Person, "01829413112")
		})
	})
	b.Run("repeats", func(b *testing.B) {
		w := NewWindow(Defaults())
		now := time.Unix(1_700_000_000, 0)
		i := 0
		next := func() {
			var id broker.EventHash
			binary.LittleEndian.PutUint64(id[:], random.Uint64())
			w.Check(id, uint64(i), int64(i), now)
			if i++; i%20_000 == 0 {
				w.Commit()
			}
		}
		for range 300_000 { // as it is after a while: full, and grown
			next()
		}
		b.ReportAllocs()
		for b.Loop() {
			next()
		}
	})
}

func BenchmarkAccept(b *testing.B) {
	for name, mode := range map[string]func(synthetic.Event) *Message{"binary": binaryMode, "structured": structuredMode} {
		b.Run(name, func(b *testing.B) {
			x := newBench(b, mode)
			var rec broker.Record
			var doc jsondoc.Doc
			x.each(b, func(i int) {
				if r := x.d.Accept(x.messages[i], hasher, &rec, &doc); r != nil {
					b.Fatal(r)
				}
			})
		})
	}
}

// BenchmarkHMAC is one keyed hash of an identifier: a new state each time
// against one that is kept and reset.
func BenchmarkHMAC(b *testing.B) {
	key, message := make([]byte, 32), []byte("person\x0001829413112")
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		var sum [32]byte
		for b.Loop() {
			m := hmac.New(sha256.New, key)
			m.Write(message)
			m.Sum(sum[:0])
		}
	})
	b.Run("kept", func(b *testing.B) {
		b.ReportAllocs()
		var sum [32]byte
		m := hmac.New(sha256.New, key)
		for b.Loop() {
			m.Reset()
			m.Write(message)
			m.Sum(sum[:0])
		}
	})
	b.Run("sha256", func(b *testing.B) { // the floor: one compression without a key
		for b.Loop() {
			sha256.Sum256(message)
		}
	})
}

// BenchmarkBorrow is the keyed hash of an event's id with the id borrowed from
// the message and with a copy of it.
func BenchmarkBorrow(b *testing.B) {
	id := []byte("inc-2026-10-rstdmjmjhvkrhgbh-correction-2")
	b.Run("borrowed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			hasher.Event("inntekt", synthetic.IncomeSource, borrow(id))
		}
	})
	b.Run("copied", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			hasher.Event("inntekt", synthetic.IncomeSource, string(id))
		}
	})
}

// BenchmarkWindowMemory reports the bytes that a full window takes per record.
func BenchmarkWindowMemory(b *testing.B) {
	l := Defaults()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		w := NewWindow(l)
		var id broker.EventHash
		for i := range 3 * l.Window {
			binary.LittleEndian.PutUint64(id[:], random.Uint64())
			w.Check(id, 1, int64(i), time.Unix(0, 0))
			if i%20_000 == 0 {
				w.Commit()
			}
		}
		w.Commit()
		b.ReportMetric(float64(heap()-before)/float64(l.Window), "bytes/record")
		runtime.KeepAlive(w)
	}
}

type noHash struct{}

func (noHash) Event(broker.DatasetID, string, string) (d broker.EventHash) { return }
func (noHash) Subject(broker.SubjectKind, string) (d broker.SubjectKey)    { return }
