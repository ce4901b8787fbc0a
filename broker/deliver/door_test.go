package deliver

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

func TestDoorRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := &broker.Record{HasSubject: rapid.Bool().Draw(t, "subject"), Event: digest(2)}
		rec.TopicID = digest(1)
		rec.Partition, rec.Offset = rapid.Int32Min(0).Draw(t, "partition"), rapid.Int64Min(0).Draw(t, "offset")
		rec.Attributes = rapid.SliceOfN(rapid.String(), 0, 5).Draw(t, "attributes")
		p := broker.PackageRef{ID: rapid.StringMatching(`[a-z]{1,9}`).Draw(t, "package"), Version: rapid.IntRange(0, 1<<40).Draw(t, "version")}
		want := Door{TopicID: rec.TopicID, Partition: rec.Partition, Offset: rec.Offset, Event: rec.Event, Package: p}
		rec.Subject = digest(3) // one that a record without a subject had before
		if rec.HasSubject {
			want.Subject = rec.Subject
		}
		if len(rec.Attributes) > 0 {
			want.Attributes = rec.Attributes
		}
		b := AppendDoor(nil, rec, p)
		if len(b) > DoorBytes(rec, p) {
			t.Fatalf("%d bytes, DoorBytes says %d", len(b), DoorBytes(rec, p))
		}
		if got, err := ReadDoor(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v came back as %+v, %v", want, got, err)
		}
		if _, err := ReadDoor(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); err == nil {
			t.Fatal("half of it was read")
		}
		if _, err := ReadDoor(append(b, 0)); err == nil {
			t.Fatal("it was read with something behind it")
		}
	})
}

func FuzzReadDoor(f *testing.F) {
	rec := &broker.Record{HasSubject: true, Subject: digest(3), Attributes: []string{"0301", ""}}
	f.Add(AppendDoor(nil, rec, broker.PackageRef{ID: "barnehage", Version: 2}))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ReadDoor(b)
		if err != nil {
			return
		}
		back := &broker.Record{HasSubject: true, Subject: d.Subject, Event: d.Event, Attributes: d.Attributes}
		back.TopicID, back.Partition, back.Offset = d.TopicID, d.Partition, d.Offset
		if again := AppendDoor(nil, back, d.Package); !bytes.Equal(again, b) {
			t.Fatalf("% x was read as %+v, which is written % x", b, d, again)
		}
	})
}
