// Package deliver encodes what leaves the broker: deliveries for mailboxes,
// batches of decisions, and rejections for providers. It is pure: values in,
// bytes out. flow writes them, all in one transaction.
package deliver

import (
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

// NewEnvelope prepares the headers that do not change from record to record.
func NewEnvelope(t *broker.Terms) *Envelope {
	return &Envelope{
		source:       []byte("urn:datafordeler:dataset:" + string(t.Dataset.ID)),
		mailbox:      []byte(t.Mailbox.ID),
		subscription: []byte(t.Subscription.ID),
		agreement:    []byte(t.Agreement.ID),
		dataset:      []byte(t.Dataset.ID),
		provider:     []byte(t.Dataset.Owner),
	}
}

var (
	specVersion = []byte("1.0")
	jsonType    = []byte("application/json")
	yes         = []byte("true")
	kinds       = [...][]byte{[]byte("original"), []byte("correction"), []byte("retraction")}
)

// MaxHeaders is how many headers a delivery has at the most.
const MaxHeaders = 16

// AppendHeaders writes a delivery's provenance as a CloudEvent in Kafka's
// binary mode (CloudEvents 1.0, Kafka protocol binding 3.2). The event's own
// id, which may hold a person's number, is replaced by the delivery id.
func AppendHeaders[H ~struct {
	Key   string
	Value []byte
}](dst []H, e *Envelope, rec *broker.Record, id broker.DeliveryID, decision broker.DecisionID, of broker.DeliveryID) []H {
	add := func(key string, value []byte) { dst = append(dst, H(Header{key, value})) }
	add("ce_specversion", specVersion)
	add("ce_id", hexBytes(id))
	add("ce_source", e.source)
	add("ce_type", []byte(rec.Type))
	if !rec.Time.IsZero() {
		add("ce_time", rec.Time.UTC().AppendFormat(nil, time.RFC3339Nano))
	}
	add("content-type", jsonType)
	add("ce_mailbox", e.mailbox)
	add("ce_subscription", e.subscription)
	add("ce_agreement", e.agreement)
	add("ce_dataset", e.dataset)
	add("ce_provider", e.provider)
	add("ce_decision", hexBytes(decision))
	add("ce_recordkind", kinds[rec.Kind])
	if rec.Kind != broker.Original {
		add("ce_of", hexBytes(of))
	}
	if rec.Provisional {
		add("ce_provisional", yes)
	}
	if rec.Traceparent != "" {
		add("ce_traceparent", []byte(rec.Traceparent))
	}
	return dst
}

func hexBytes(d broker.Digest) []byte {
	const digits = "0123456789abcdef"
	b := make([]byte, 32)
	for i, c := range d {
		b[2*i], b[2*i+1] = digits[c>>4], digits[c&15]
	}
	return b
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
	dst = appendString(dst, r.Detail)
	if r.Pointer != "" {
		dst = append(dst, `,"pointer":`...)
		dst = appendString(dst, r.Pointer)
	}
	dst = append(dst, `,"at":"`...)
	dst = at.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, `"}`...)
}
