package intake

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"datafordeler/broker/jsondoc"
)

// Reading the usual form in one go gives what reading any form gives, whatever
// the headers and their order: the event, or the rejection.
func TestUsualFormIsReadAsAny(t *testing.T) {
	names := []string{"content-type", "content-type", "Content-Type", "CONTENT-TYPE", "content-typo", "ce_specversion", "ce_id", "ce_source", "ce_type",
		"ce_dataschema", "ce_time", "ce_supersedes", "ce_municipality", "ce_unknown", "ce_partitionkey", "ce_", "ce_id", "traceparent", ""}
	values := []string{"application/json", "application/json", "application/json; charset=utf-8", "application/cloudevents+json", "application/cloudevents", "text/plain",
		"1.0", "a", "0301", "", "\x01", "\xff"}
	usual := 0
	rapid.Check(t, func(t *rapid.T) {
		msg := &Message{Value: []byte(`{"specversion":"1.0","data":{}}`)}
		if rapid.IntRange(0, 9).Draw(t, "no value") == 0 {
			msg.Value = nil
		}
		few := rapid.Bool().Draw(t, "few") // else hardly any are usual
		for range rapid.IntRange(0, 8).Draw(t, "headers") {
			h := Header{Key: rapid.SampledFrom(names).Draw(t, "name"), Value: []byte(rapid.SampledFrom(values).Draw(t, "value"))}
			if rapid.IntRange(0, 19).Draw(t, "absent") == 0 {
				h.Value = nil
			}
			if few && h.Key == "content-type" {
				h.Value = []byte("application/json")
			}
			msg.Headers = append(msg.Headers, h)
		}
		fresh := func() event { return event{maxDepth: 64, declared: []string{"municipality", "sequence"}} }
		have, want, once := fresh(), fresh(), fresh()
		var doc jsondoc.Doc
		gave, should := have.read(msg, &doc), want.readAny(msg, &doc)
		if !reflect.DeepEqual(gave, should) {
			t.Fatalf("%v, want %v", gave, should)
		}
		if gave == nil && !reflect.DeepEqual(have, want) {
			t.Fatalf("%+v\nwant\n%+v", have, want)
		}
		if once.readUsual(msg) {
			usual++
		} else if !reflect.DeepEqual(once, fresh()) {
			t.Fatalf("what is not the usual form left %+v", once)
		}
	})
	if usual == 0 {
		t.Error("no message was of the usual form")
	}
}

// BenchmarkHeadersOf is a client's headers as intake's, as they are and copied.
func BenchmarkHeadersOf(b *testing.B) {
	type theirs struct {
		Key   string
		Value []byte
	}
	hs := make([]theirs, 10)
	var out []Header
	b.Run("same", func(b *testing.B) {
		for b.Loop() {
			out = HeadersOf(hs)
		}
	})
	b.Run("copied", func(b *testing.B) {
		for b.Loop() {
			out = out[:0]
			for _, h := range hs {
				out = append(out, Header(h))
			}
		}
	})
}
