package consumers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
)

// Delivery is a record as one mailbox receives it: the agreed fields, and where
// they come from.
type Delivery struct {
	ID           broker.DeliveryID
	Mailbox      broker.MailboxID
	Subscription broker.SubscriptionID
	Agreement    broker.AgreementID
	// Decision is the id under which the ledger tells why this was delivered.
	Decision broker.DecisionID
	Dataset  broker.DatasetID
	Provider broker.OrgNumber
	// Type is the CloudEvents type that the provider gave it.
	Type string
	// Time is as of when the content holds, by the provider; zero if not stated.
	Time time.Time
	Kind broker.RecordKind
	// Of is the delivery that this one corrects or retracts; zero for originals
	// and where the provider did not say.
	Of broker.DeliveryID
	// Provisional: the provider says that it may still change.
	Provisional bool
	// Notice: what it says of the delivery in Of, that it was corrected or taken back,
	// is all that it says, because the agreement has `corrections: notify`. Data is null.
	Notice bool
	// Denied: a notice that comes although the right to the data has ended, or does not
	// reach what it tells of. What it corrects or takes back had been delivered.
	Denied bool
	// Backfill: it was published before the subscription, case or consent that brings
	// it came to be.
	Backfill    bool
	Traceparent string
	// Data is the minimised record, JSON; null in a notice.
	Data []byte
	// Position is where it lies in Kafka; none where it came over HTTP.
	Position Position
}

// Position is where in Kafka a message lies.
type Position struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// String is topic/partition@offset.
func (p Position) String() string {
	return p.Topic + "/" + strconv.Itoa(int(p.Partition)) + "@" + strconv.FormatInt(p.Offset, 10)
}

// MessageError is a message that is not a delivery as this version knows it.
type MessageError struct {
	Position Position
	Err      error
}

// Error names the position and the fault, never what the message says.
func (e *MessageError) Error() string {
	return fmt.Sprintf("the message at %s cannot be read as a delivery: %v; nothing was skipped: upgrade this client, or tell the broker's operator the position", e.Position, e.Err)
}

// Unwrap gives the cause.
func (e *MessageError) Unwrap() error { return e.Err }

const sourcePrefix = "urn:datafordeler:dataset:"

// attribute numbers the headers that a delivery is read from.
type attribute int

const (
	specversion attribute = iota
	id
	source
	eventType
	eventTime
	contentType
	mailbox
	subscription
	agreement
	dataset
	provider
	decision
	recordKind
	of
	provisional
	notice
	denied
	backfill
	traceparent
	attributes
)

var headerNames = map[string]attribute{
	"ce_specversion": specversion, "ce_id": id, "ce_source": source, "ce_type": eventType, "ce_time": eventTime,
	"content-type": contentType, "ce_mailbox": mailbox, "ce_subscription": subscription, "ce_agreement": agreement,
	"ce_dataset": dataset, "ce_provider": provider, "ce_decision": decision, "ce_recordkind": recordKind,
	"ce_of": of, "ce_provisional": provisional, "ce_notice": notice, "ce_denied": denied, "ce_backfill": backfill, "ce_traceparent": traceparent,
}

var names = func() (n [attributes]string) {
	for name, a := range headerNames {
		n[a] = name
	}
	return n
}()

// mailboxOf finds whose message it is without reading the rest.
func mailboxOf(headers []kgo.RecordHeader) (broker.MailboxID, error) {
	for i := range headers {
		if headers[i].Key == "ce_mailbox" {
			return broker.MailboxID(headers[i].Value), nil
		}
	}
	return "", errors.New("it has no header ce_mailbox")
}

// header is one of a message.
type header = kgo.RecordHeader

// parse reads a delivery: a CloudEvent 1.0 in Kafka's binary mode. Headers that
// it does not know are left alone, because later versions may add some.
func parse(headers []header, value []byte) (Delivery, error) {
	var h [attributes][]byte
	for i := range headers {
		a, known := headerNames[headers[i].Key]
		if !known {
			continue
		}
		if h[a] != nil {
			return Delivery{}, fmt.Errorf("header %s stands twice", names[a])
		}
		if h[a] = headers[i].Value; h[a] == nil {
			h[a] = []byte{}
		}
	}
	for a := range attributes {
		switch a {
		case eventTime, of, provisional, notice, denied, backfill, traceparent:
		default:
			if len(h[a]) == 0 {
				return Delivery{}, fmt.Errorf("header %s is missing", names[a])
			}
		}
	}
	if string(h[specversion]) != "1.0" {
		return Delivery{}, errors.New(`header ce_specversion is not "1.0"`)
	}
	if string(h[contentType]) != "application/json" {
		return Delivery{}, errors.New(`header content-type is not "application/json"`)
	}
	d := Delivery{
		Mailbox:      broker.MailboxID(h[mailbox]),
		Subscription: broker.SubscriptionID(h[subscription]),
		Agreement:    broker.AgreementID(h[agreement]),
		Dataset:      broker.DatasetID(h[dataset]),
		Type:         string(h[eventType]),
		Traceparent:  string(h[traceparent]),
		Data:         value,
	}
	if string(h[source]) != sourcePrefix+string(d.Dataset) {
		return Delivery{}, errors.New("header ce_source is not the URN of the dataset in ce_dataset")
	}
	var err error
	if d.Provider, err = broker.ParseOrgNumber(string(h[provider])); err != nil {
		return Delivery{}, errors.New("header ce_provider is not an organisation number")
	}
	for _, digest := range [...]struct {
		a  attribute
		to *broker.Digest
	}{{id, &d.ID}, {decision, &d.Decision}, {of, &d.Of}} {
		if digest.a == of && h[of] == nil {
			continue
		}
		if digest.to.UnmarshalText(h[digest.a]) != nil {
			return Delivery{}, fmt.Errorf("header %s is not 32 hexadecimal characters", names[digest.a])
		}
	}
	switch string(h[recordKind]) {
	case "original":
		d.Kind = broker.Original
		if !d.Of.IsZero() {
			return Delivery{}, errors.New("header ce_of stands on an original")
		}
	case "correction":
		d.Kind = broker.Correction
	case "retraction":
		d.Kind = broker.Retraction
	default:
		return Delivery{}, errors.New("header ce_recordkind is none of original, correction and retraction")
	}
	for _, flag := range [...]struct {
		a  attribute
		to *bool
	}{{provisional, &d.Provisional}, {notice, &d.Notice}, {denied, &d.Denied}, {backfill, &d.Backfill}} {
		switch string(h[flag.a]) {
		case "", "false":
		case "true":
			*flag.to = true
		default:
			return Delivery{}, fmt.Errorf("header %s is neither true nor false", names[flag.a])
		}
	}
	if h[eventTime] != nil {
		if d.Time, err = time.Parse(time.RFC3339, string(h[eventTime])); err != nil {
			return Delivery{}, errors.New("header ce_time does not follow RFC 3339")
		}
	}
	if !json.Valid(value) {
		return Delivery{}, errors.New("its value is not JSON")
	}
	if d.Notice && d.Kind == broker.Original {
		return Delivery{}, errors.New("header ce_notice stands on an original")
	}
	if d.Notice && string(bytes.TrimSpace(value)) != "null" {
		return Delivery{}, errors.New("header ce_notice stands on a delivery with data")
	}
	if d.Denied && !d.Notice {
		return Delivery{}, errors.New("header ce_denied stands on what is no notice")
	}
	return d, nil
}

// AppendJSON writes the delivery as a CloudEvent in structured mode on one
// line, its provenance in extension attributes. Data's values keep their bytes;
// only white space between them goes.
func (d *Delivery) AppendJSON(dst []byte) []byte {
	member := func(name, value string) {
		if value == "" {
			return
		}
		dst = append(dst, '"')
		dst = append(dst, name...)
		dst = append(dst, `":`...)
		text, _ := json.Marshal(value) // a string always can be
		dst = append(dst, text...)
		dst = append(dst, ',')
	}
	dst = append(dst, '{')
	member("specversion", "1.0")
	member("id", d.ID.String())
	member("source", sourcePrefix+string(d.Dataset))
	member("type", d.Type)
	if !d.Time.IsZero() {
		member("time", d.Time.UTC().Format(time.RFC3339Nano))
	}
	member("datacontenttype", "application/json")
	member("mailbox", string(d.Mailbox))
	member("subscription", string(d.Subscription))
	member("agreement", string(d.Agreement))
	member("decision", d.Decision.String())
	member("dataset", string(d.Dataset))
	member("provider", string(d.Provider))
	member("recordkind", d.Kind.String())
	if !d.Of.IsZero() {
		member("of", d.Of.String())
	}
	if d.Provisional {
		dst = append(dst, `"provisional":true,`...)
	}
	if d.Notice {
		dst = append(dst, `"notice":true,`...)
	}
	if d.Denied {
		dst = append(dst, `"denied":true,`...)
	}
	if d.Backfill {
		dst = append(dst, `"backfill":true,`...)
	}
	member("traceparent", d.Traceparent)
	dst = append(dst, `"data":`...)
	dst = d.AppendData(dst)
	return append(dst, '}')
}

// AppendData writes Data on one line.
func (d *Delivery) AppendData(dst []byte) []byte {
	var line bytes.Buffer
	if json.Compact(&line, d.Data) != nil {
		return append(dst, "null"...) // not JSON: not from Receive
	}
	return append(dst, line.Bytes()...)
}

// MarshalJSON is AppendJSON.
func (d Delivery) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }
