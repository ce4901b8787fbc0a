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
	f.Add([]byte(good+"correction\x00ce_notice\x00true\x00ce_backfill\x00true"), []byte("null"))
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
		if again, err := ParseJSON(line); err == nil && (again.Notice != d.Notice || again.Denied != d.Denied || again.Backfill != d.Backfill || again.Provisional != d.Provisional) || d.Notice && d.Kind == broker.Original {
			t.Errorf("%v: line %q", err, line)
		}
		if d.Kind == broker.Original && !d.Of.IsZero() || d.Mailbox == "" || d.Dataset == "" {
			t.Errorf("%+v", d)
		}
	})
}

// What is a notice, and what was published before, a program can tell, whichever way
// it came; what cannot be both is refused.
func TestNoticeAndBackfill(t *testing.T) {
	read := func(kind, notice, denied, backfill, value string) (Delivery, error) {
		var hs []kgo.RecordHeader
		for _, h := range [][2]string{{"ce_specversion", "1.0"}, {"ce_id", "0123456789abcdef0123456789abcdef"}, {"ce_source", "urn:datafordeler:dataset:d"}, {"ce_type", "t"},
			{"content-type", "application/json"}, {"ce_mailbox", "m"}, {"ce_subscription", "s"}, {"ce_agreement", "a"}, {"ce_dataset", "d"}, {"ce_provider", "313876144"},
			{"ce_decision", "0123456789abcdef0123456789abcdef"}, {"ce_recordkind", kind}, {"ce_notice", notice}, {"ce_denied", denied}, {"ce_backfill", backfill}} {
			if h[1] != "" {
				hs = append(hs, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
			}
		}
		return parse(hs, []byte(value))
	}
	for _, c := range []struct {
		kind, notice, denied, backfill, value string
		want                                  string
	}{
		{"original", "", "", "", "1", ""},
		{"original", "", "", "true", "1", `"backfill":true,`},
		{"correction", "true", "", "", "null", `"notice":true,`},
		{"retraction", "true", "true", "", "null", `"notice":true,"denied":true,`},
		{"retraction", "true", "", "true", " null ", `"notice":true,"backfill":true,`},
	} {
		d, err := read(c.kind, c.notice, c.denied, c.backfill, c.value)
		if err != nil || d.Notice != (c.notice != "") || d.Denied != (c.denied != "") || d.Backfill != (c.backfill != "") {
			t.Errorf("%+v: %+v, %v", c, d, err)
		}
		line := d.AppendJSON(nil)
		if !bytes.Contains(line, []byte(`"recordkind":"`+c.kind+`",`+c.want+`"data":`)) {
			t.Errorf("%+v: %s", c, line)
		}
		again, err := ParseJSON(line)
		if err != nil || again.Notice != d.Notice || again.Backfill != d.Backfill {
			t.Errorf("%s: %+v, %v", line, again, err)
		}
	}
	for _, c := range [][5]string{{"original", "true", "", "", "null"}, {"correction", "true", "", "", "{}"}, {"correction", "yes", "", "", "null"}, {"original", "", "", "1", "{}"},
		{"retraction", "", "true", "", "null"}, {"retraction", "true", "yes", "", "null"}} {
		if d, err := read(c[0], c[1], c[2], c[3], c[4]); err == nil {
			t.Errorf("%q: %+v", c, d)
		}
	}
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
