package intake

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
	"datafordeler/providers/synthetic"
)

// sameLocated holds a Locator to what Accept gave.
func sameLocated(t *testing.T, ds *broker.Dataset, msg *Message, accepted *broker.Record) {
	t.Helper()
	l, err := NewLocator(ds)
	if err != nil {
		t.Fatal(err)
	}
	var rec broker.Record
	ok := l.Locate(msg, hasher, &rec, new(jsondoc.Doc))
	part := func(r *broker.Record) broker.Record {
		return broker.Record{Position: r.Position, Event: r.Event, Kind: r.Kind, Of: r.Of, Time: r.Time, Subject: r.Subject, HasSubject: r.HasSubject}
	}
	if got, want := part(&rec), part(accepted); !ok || !reflect.DeepEqual(got, want) {
		t.Fatalf("%t %+v\nwant %+v", ok, got, want)
	}
	for _, kept := range [][]byte{l.work.text, l.work.other} {
		if len(bytes.Trim(kept[:cap(kept)], "\x00")) > 0 {
			t.Fatal("keeps what stood in a record")
		}
	}
}

func TestLocate(t *testing.T) {
	ds := incomeDataset(t)
	d := compileDataset(t, ds)
	g := synthetic.New(synthetic.Config{People: 50, Seed: 2})
	var rec broker.Record
	var doc jsondoc.Doc
	for i := range 60 {
		e := [...]synthetic.Event{g.Income(nil, i), g.Correction(i), g.Retraction(i)}[i%3]
		for _, msg := range []*Message{binaryMode(e), structuredMode(e)} {
			if r := d.Accept(msg, hasher, &rec, &doc); r != nil {
				t.Fatal(r)
			}
			sameLocated(t, ds, msg, &rec)
		}
	}
	// One written with an escape is found, and not kept.
	e := g.Income(nil, 1)
	e.Data = bytes.Replace(e.Data, e.Key, fmt.Appendf(nil, "\\u%04x%s", e.Key[0], e.Key[1:]), 1)
	if r := d.Accept(binaryMode(e), hasher, &rec, &doc); r != nil || rec.Subject != hasher.Subject(broker.Person, string(e.Key)) {
		t.Fatal(r)
	}
	sameLocated(t, ds, binaryMode(e), &rec)
	// A declaration that has another place for the subject finds none, or the other.
	moved := *ds
	moved.Subject.Pointer = "/oppgaveInntektsmottaker/kalendermaaned"
	l, err := NewLocator(&moved)
	if err != nil {
		t.Fatal(err)
	}
	if l.Locate(binaryMode(g.Income(nil, 1)), hasher, &rec, &doc) {
		t.Error("took a month for a person")
	}
	none := *ds
	none.Subject = broker.SubjectRule{Kind: broker.NoSubject}
	if l, err = NewLocator(&none); err != nil {
		t.Fatal(err)
	}
	if !l.Locate(binaryMode(g.Income(nil, 1)), hasher, &rec, &doc) || rec.HasSubject {
		t.Error("a dataset without subjects has one")
	}
}

func BenchmarkLocate(b *testing.B) {
	g := synthetic.New(synthetic.Config{People: 1000, Seed: 2})
	msg := binaryMode(g.Income(nil, 1))
	l, err := NewLocator(incomeDataset(b))
	if err != nil {
		b.Fatal(err)
	}
	var rec broker.Record
	var doc jsondoc.Doc
	b.ReportAllocs()
	for b.Loop() {
		if !l.Locate(msg, hasher, &rec, &doc) {
			b.Fatal("not found")
		}
	}
}
