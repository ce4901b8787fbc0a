// Package deliver encodes what leaves the broker: deliveries for mailboxes,
// batches of decisions, and rejections for providers. It is pure: values in,
// bytes out. flow writes them, all in one transaction.
package deliver

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"datafordeler/broker"
)

// Header is a Kafka record header.
type Header struct {
	Key   string
	Value []byte
}

// Envelope is a subscription's part of every delivery's headers, made once.
type Envelope struct {
	source, mailbox, subscription, agreement, dataset, provider []byte
}

// NewEnvelope prepares the headers that do not change from record to record. The
// values lie side by side: they are read together.
func NewEnvelope(t *broker.Terms) *Envelope {
	e := &Envelope{}
	const source = "urn:datafordeler:dataset:"
	all, at := []byte(source+string(t.Dataset.ID)+string(t.Mailbox.ID)+string(t.Subscription.ID)+string(t.Agreement.ID)+string(t.Dataset.Owner)), 0
	next := func(n int) []byte {
		at += n
		return all[at-n : at : at]
	}
	e.source = next(len(source) + len(t.Dataset.ID))
	e.dataset = e.source[len(source):]
	e.mailbox = next(len(t.Mailbox.ID))
	e.subscription = next(len(t.Subscription.ID))
	e.agreement = next(len(t.Agreement.ID))
	e.provider = next(len(t.Dataset.Owner))
	return e
}

var (
	specVersion = []byte("1.0")
	jsonType    = []byte("application/json")
	yes         = []byte("true")
	kinds       = [...][]byte{[]byte("original"), []byte("correction"), []byte("retraction")}
)

// Headers that a delivery has only where they are so, beside those of AppendHeaders;
// their value is "true".
const (
	// BackfillHeader: it was published before its subscription came to be owed it.
	BackfillHeader = "ce_backfill"
	// NoticeHeader: a correction or retraction of which only that is told. Its data
	// is null.
	NoticeHeader = "ce_notice"
	// DeniedHeader: a notice whose data was denied: the right to it has ended, or does
	// not reach it. What it corrects or retracts was delivered before.
	DeniedHeader = "ce_denied"
)

// MaxHeaders is how many headers AppendHeaders gives a delivery at the most.
const MaxHeaders = 16

// HeaderBytes is the most that AppendHeaders writes to its arena for a record.
func HeaderBytes(rec *broker.Record) int {
	return 3*2*len(broker.Digest{}) + len(time.RFC3339Nano) + len(rec.Type) + len(rec.Traceparent)
}

// AppendHeaders writes a delivery's provenance as a CloudEvent in Kafka's
// binary mode (CloudEvents 1.0, Kafka protocol binding 3.2). The event's own
// id, which may hold a person's number, is replaced by the delivery id.
//
// The values that are this record's own are appended to arena, those of the
// subscription are the envelope's: with room in dst and HeaderBytes of room in
// arena, nothing is allocated. With less, all of this record's values lie in
// the new array that is returned, none in the old one.
func AppendHeaders[H ~struct {
	Key   string
	Value []byte
}](dst []H, arena []byte, e *Envelope, rec *broker.Record, id broker.DeliveryID, decision broker.DecisionID, of broker.DeliveryID) ([]H, []byte) {
	arena = slices.Grow(arena, HeaderBytes(rec))
	var at int
	dst = append(dst, H{"ce_specversion", specVersion})
	at, arena = len(arena), appendHex(arena, id)
	dst = append(dst, H{"ce_id", arena[at:len(arena):len(arena)]}, H{"ce_source", e.source})
	at, arena = len(arena), append(arena, rec.Type...)
	dst = append(dst, H{"ce_type", arena[at:len(arena):len(arena)]})
	if !rec.Time.IsZero() {
		at, arena = len(arena), appendTime(arena, rec.Time)
		dst = append(dst, H{"ce_time", arena[at:len(arena):len(arena)]})
	}
	at, arena = len(arena), appendHex(arena, decision)
	dst = append(dst,
		H{"content-type", jsonType},
		H{"ce_mailbox", e.mailbox},
		H{"ce_subscription", e.subscription},
		H{"ce_agreement", e.agreement},
		H{"ce_dataset", e.dataset},
		H{"ce_provider", e.provider},
		H{"ce_decision", arena[at:len(arena):len(arena)]},
		H{"ce_recordkind", kinds[rec.Kind]})
	if rec.Kind != broker.Original {
		at, arena = len(arena), appendHex(arena, of)
		dst = append(dst, H{"ce_of", arena[at:len(arena):len(arena)]})
	}
	if rec.Provisional {
		dst = append(dst, H{"ce_provisional", yes})
	}
	if rec.Traceparent != "" {
		at, arena = len(arena), append(arena, rec.Traceparent...)
		dst = append(dst, H{"ce_traceparent", arena[at:len(arena):len(arena)]})
	}
	return dst, arena
}

// pairs are the two digits of each byte in hexadecimal, and of 0 to 99 in
// decimal. Three ids and a time are written for every delivery: two digits at a
// time cost half of what encoding/hex and time take (BenchmarkHeaders).
var hexPairs, decimalPairs = func() (h, d [256][2]byte) {
	for i := range h {
		h[i] = [2]byte([]byte(hex.EncodeToString([]byte{byte(i)})))
		d[i] = [2]byte{'0' + byte(i/10%10), '0' + byte(i%10)}
	}
	return h, d
}()

func appendHex(dst []byte, d broker.Digest) []byte {
	var text [2 * len(d)]byte
	for i, c := range d {
		*(*[2]byte)(text[2*i:]) = hexPairs[c]
	}
	return append(dst, text[:]...)
}

// appendTime writes UTC as AppendFormat does with time.RFC3339Nano.
func appendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(dst, time.RFC3339Nano)
	}
	hour, minute, second := t.Clock()
	var text [len("2006-01-02T15:04:05.999999999Z")]byte
	pair := func(at, v int) { *(*[2]byte)(text[at:]) = decimalPairs[v] }
	pair(0, year/100)
	pair(2, year%100)
	pair(5, int(month))
	pair(8, day)
	pair(11, hour)
	pair(14, minute)
	pair(17, second)
	text[4], text[7], text[10], text[13], text[16] = '-', '-', 'T', ':', ':'
	n := 19
	if nano := t.Nanosecond(); nano != 0 {
		text[n] = '.'
		pair(n+1, nano/10_000_000)
		pair(n+3, nano/100_000%100)
		pair(n+5, nano/1_000%100)
		pair(n+7, nano/10%100)
		text[n+9] = '0' + byte(nano%10)
		for n += 10; text[n-1] == '0'; n-- {
		}
	}
	text[n] = 'Z'
	return append(dst, text[:n+1]...)
}

// AppendRejection writes the JSON that a provider reads on rejected.<dataset>.
func AppendRejection(dst []byte, pos broker.Position, r *broker.Rejection, at time.Time) []byte {
	dst = append(dst, `{"v":1,"reason":`...)
	dst = strconv.AppendQuote(dst, string(r.Code))
	dst = append(dst, `,"dataset":`...)
	dst = strconv.AppendQuote(dst, string(pos.Dataset))
	dst = append(dst, `,"partition":`...)
	dst = strconv.AppendInt(dst, int64(pos.Partition), 10)
	dst = append(dst, `,"offset":`...)
	dst = strconv.AppendInt(dst, pos.Offset, 10)
	dst = append(dst, `,"detail":`...)
	dst = appendJSON(dst, r.Detail)
	if r.Pointer != "" {
		dst = append(dst, `,"pointer":`...)
		dst = appendJSON(dst, r.Pointer)
	}
	dst = append(dst, `,"at":"`...)
	dst = at.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, `"}`...)
}

func appendJSON(dst []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return append(dst, `""`...)
	}
	return append(dst, b...)
}
