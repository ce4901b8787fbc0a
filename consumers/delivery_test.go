package consumers

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"datafordeler/broker"
)

// FuzzParse: whatever a message holds, parse neither panics nor lets through
// what cannot be written and read again as the same delivery.
func FuzzParse(f *testing.F) {
	good := "ce_specversion\x001.0\x00ce_id\x000123456789abcdef0123456789abcdef\x00ce_source\x00urn:datafordeler:dataset:d\x00ce_type\x00t\x00content-type\x00application/json\x00" +
		"ce_mailbox\x00m\x00ce_subscription\x00s\x00ce_agreement\x00a\x00ce_dataset\x00d\x00ce_provider\x00313876144\x00ce_decision\x000123456789abcdef0123456789abcdef\x00ce_recordkind\x00"
	f.Add([]byte(good+"original"), []byte(`{"a":1}`))
	f.Add([]byte(good+"retraction\x00ce_of\x000123456789abcdef0123456789abcdef\x00ce_time\x002026-11-05T12:00:00Z\x00ce_provisional\x00true"), []byte("1"))
	f.Add([]byte("ce_id\x00\x00ce_id"), []byte(nil))
	f.Fuzz(func(t *testing.T, packed, value []byte) {
		var headers []kgo.RecordHeader
		parts := bytes.Split(packed, []byte{0})
		for i := 0; i+1 < len(parts); i += 2 {
			headers = append(headers, kgo.RecordHeader{Key: string(parts[i]), Value: parts[i+1]})
		}
		d, err := parse(headers, value)
		if err != nil {
			return
		}
		line := d.AppendJSON(nil)
		if !json.Valid(line) || bytes.ContainsRune(line, '\n') {
			t.Errorf("line %q", line)
		}
		if d.Kind == broker.Original && !d.Of.IsZero() || d.Mailbox == "" || d.Dataset == "" {
			t.Errorf("%+v", d)
		}
	})
}

// The window is the last so many different ids, through any number of restarts.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 8).Draw(t, "size")
		w := newWindow(size, nil)
		var model []broker.DeliveryID
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			id := broker.DeliveryID{byte(rapid.IntRange(1, 20).Draw(t, "id"))}
			if got, want := w.has(id), slices.Contains(model, id); got != want {
				t.Fatalf("has(%v) = %v, want %v", id, got, want)
			}
			if !slices.Contains(model, id) {
				model = append(model, id)
				model = model[max(0, len(model)-size):]
			}
			w.add(id)
			if rapid.Bool().Draw(t, "restart") {
				w = newWindow(size, w.recent())
			}
			if !slices.Equal(w.recent(), model) || len(w.seen) != len(model) {
				t.Fatalf("recent %v, want %v", w.recent(), model)
			}
		}
	})
}
