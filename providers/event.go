package providers

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/segmentio/kafka-go"

	"datafordeler/broker"
)

// Event is one record to publish.
type Event struct {
	// ID is unique within Source. Empty: derived from the event's other
	// fields, so that the same event always gets the same id. Two events that
	// agree in everything (the same state reported twice, on purpose) need
	// different Times or IDs, or the broker takes the second for a repeat.
	ID string
	// Source is who produced it, a URI. Empty: Config.Source.
	Source string
	// Type is the CloudEvents type. Empty: Config.Type.
	Type string
	// Time is when it happened. Zero: not stated.
	Time time.Time
	// Key is what the event is about, such as a person's or organisation's
	// number. Events with one key stay in order. Empty: read from the payload
	// where Config.Subject says; else the event is placed by its id.
	Key string
	// Data is the payload, JSON.
	Data []byte
	// DataSchema names the schema version that Data follows, by its URI.
	DataSchema string
	// Supersedes is the id of an earlier event that this one corrects.
	Supersedes string
	// Retracts is the id of an earlier event that no longer stands.
	Retracts string
	// Provisional: the content may still change.
	Provisional bool
	// Extensions are further CloudEvents attributes, such as the recipient's
	// municipality. Names are a–z and 0–9.
	Extensions map[string]string
	// Traceparent continues a trace (W3C Trace Context).
	Traceparent string

	line int // where ReadNDJSON found it, from 1; 0 otherwise
}

// The CloudEvents extension attributes by which an event says that it changes
// an earlier one, or may itself change.
const (
	AttributeSupersedes  = "supersedes"
	AttributeRetracts    = "retracts"
	AttributeProvisional = "provisional"
	AttributeTraceparent = "traceparent"
)

// reserved names are attributes with a field of their own, or no attributes.
var reserved = map[string]bool{
	"id": true, "source": true, "type": true, "specversion": true, "time": true, "data": true,
	"dataschema": true, "datacontenttype": true, "subject": true, "partitionkey": true,
	AttributeSupersedes: true, AttributeRetracts: true, AttributeProvisional: true, AttributeTraceparent: true,
}

// Limits on attributes, in bytes. Payloads are bounded by Config.BatchBytes.
const (
	maxAttribute  = 2048
	maxExtensions = 32
	maxIDLength   = 256
)

// record is an event made ready for Kafka.
type record struct {
	id      string
	line    int
	key     []byte // the hashed key; nil without one
	about   string // over HTTP, the key itself: the broker hashes it
	data    []byte
	headers []kafka.Header
	size    int // an upper bound of its bytes in a batch
}

var (
	specVersion = []byte("1.0")
	contentType = []byte("application/json")
	trueText    = []byte("true")
)

// invalid is an ErrInvalid that says what is wrong.
type invalid struct{ error }

// Is makes it an ErrInvalid.
func (invalid) Is(target error) bool { return target == ErrInvalid }

// prepare fills in what the configuration gives, checks the event, and encodes
// its headers into the slab. Errors never hold a value from the event.
func (p *Publisher) prepare(e *Event, slab []kafka.Header) (record, []kafka.Header, error) {
	source, typ, key := e.Source, e.Type, e.Key
	if source == "" {
		source = p.cfg.Source
	}
	if typ == "" {
		typ = p.cfg.Type
	}
	if err := checkAttributes(e, source, typ); err != nil {
		return record{}, slab, invalid{err}
	}
	if !json.Valid(e.Data) {
		return record{}, slab, invalid{errors.New("the payload is not JSON")}
	}
	if key == "" && p.subject != nil {
		key = lookup(e.Data, p.subject)
	}
	if p.schema != nil && (p.cfg.SchemaURI == "" || e.DataSchema == "" || e.DataSchema == p.cfg.SchemaURI) {
		if err := p.schema.check(e.Data); err != nil {
			return record{}, slab, err
		}
	}
	r := record{id: e.ID, line: e.line, data: e.Data}
	if r.id == "" {
		r.id = deriveID(e, source, typ, key)
	}
	if key != "" {
		r.key = HashKey(p.cfg.Dataset, key)
	}
	if p.http != nil {
		r.about = key
	}

	from := len(slab)
	add := func(name string, value []byte) {
		slab = append(slab, kafka.Header{Key: name, Value: value})
	}
	add("ce_specversion", specVersion)
	add("ce_id", []byte(r.id))
	add("ce_source", []byte(source))
	add("ce_type", []byte(typ))
	if !e.Time.IsZero() {
		add("ce_time", e.Time.UTC().AppendFormat(nil, time.RFC3339Nano))
	}
	if e.DataSchema != "" {
		add("ce_dataschema", []byte(e.DataSchema))
	}
	if e.Supersedes != "" {
		add("ce_"+AttributeSupersedes, []byte(e.Supersedes))
	}
	if e.Retracts != "" {
		add("ce_"+AttributeRetracts, []byte(e.Retracts))
	}
	if e.Provisional {
		add("ce_"+AttributeProvisional, trueText)
	}
	if e.Traceparent != "" {
		add("ce_"+AttributeTraceparent, []byte(e.Traceparent))
	}
	for _, name := range extensionNames(e.Extensions) {
		add("ce_"+name, []byte(e.Extensions[name]))
	}
	add("content-type", contentType)
	r.headers = slab[from:len(slab):len(slab)]

	// Seven variable-length integers of at most five bytes, and one byte, for
	// the record; two more for each header.
	r.size = 36 + len(r.key) + len(r.data)
	for _, h := range r.headers {
		r.size += 10 + len(h.Key) + len(h.Value)
	}
	if limit := p.cfg.BatchBytes - batchOverhead; r.size > limit {
		return record{}, slab, fmt.Errorf("%w: %d bytes, at most %d; split it, or raise BatchBytes and the topic's max.message.bytes", ErrTooLarge, r.size, limit)
	}
	return r, slab, nil
}

// batchOverhead is the header of a Kafka record batch (KIP-98), in bytes.
const batchOverhead = 61

func checkAttributes(e *Event, source, typ string) error {
	if e.Supersedes != "" && e.Retracts != "" {
		return errors.New("the event both supersedes and retracts; it can do one of the two")
	}
	for _, a := range [...]struct {
		name, value string
		max         int
		required    bool
	}{
		{"id", e.ID, maxIDLength, false},
		{"source", source, maxAttribute, true},
		{"type", typ, maxAttribute, true},
		{"dataschema", e.DataSchema, maxAttribute, false},
		{AttributeSupersedes, e.Supersedes, maxIDLength, false},
		{AttributeRetracts, e.Retracts, maxIDLength, false},
	} {
		if a.required && a.value == "" {
			return fmt.Errorf("attribute %s is empty; set it in the event or the configuration", a.name)
		}
		if err := checkText(a.value, a.max); err != nil {
			return fmt.Errorf("attribute %s %w", a.name, err)
		}
		if a.required && elevenDigits(a.value) {
			return fmt.Errorf("attribute %s holds eleven digits in a row, which could be a person's number; put it in the payload", a.name)
		}
	}
	if y := e.Time.Year(); !e.Time.IsZero() && (y < 1 || y > 9999) {
		return errors.New("attribute time has a year outside 1 to 9999 (RFC 3339)")
	}
	if e.Traceparent != "" && !validTraceparent(e.Traceparent) {
		return errors.New("attribute traceparent does not follow W3C Trace Context")
	}
	if len(e.Extensions) > maxExtensions {
		return fmt.Errorf("the event has %d extensions; at most %d", len(e.Extensions), maxExtensions)
	}
	for name, value := range e.Extensions {
		if reserved[name] {
			return fmt.Errorf("extension %q is not free; the event has a field for it", name)
		}
		if !validAttributeName(name) {
			return errors.New("an extension's name is not 1 to 40 of a–z and 0–9 (CloudEvents 1.0, naming conventions)")
		}
		if err := checkText(value, maxAttribute); err != nil {
			return fmt.Errorf("extension %s %w", name, err)
		}
	}
	return nil
}

// validAttributeName also refuses eleven digits in a row: that is how a person
// is numbered, and names reach error messages.
func validAttributeName(s string) bool {
	if s == "" || len(s) > 40 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return !elevenDigits(s)
}

func checkText(s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("has %d bytes; at most %d", len(s), most)
	}
	if !utf8.ValidString(s) {
		return errors.New("is not UTF-8")
	}
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r <= 0x9f {
			return errors.New("has a control character")
		}
	}
	return nil
}

// validTraceparent is version-traceid-parentid-flags in lower-case hexadecimal
// (W3C Trace Context, section 3.2); later versions may say more after that.
func validTraceparent(s string) bool {
	if len(s) < 55 || (len(s) > 55 && s[55] != '-') || s[:2] == "ff" {
		return false
	}
	for i := range 55 {
		c := s[i]
		dash := i == 2 || i == 35 || i == 52
		if dash != (c == '-') || !dash && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s[3:35] != "00000000000000000000000000000000" && s[36:52] != "0000000000000000"
}

func extensionNames(m map[string]string) []string {
	if len(m) == 0 {
		return nil
	}
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// deriveID is the first 16 bytes, in hexadecimal, of the SHA-256 of everything
// that makes the event what it is. Each part stands behind its length, so that
// no two different events read alike.
func deriveID(e *Event, source, typ, key string) string {
	b := make([]byte, 0, 256+len(e.Data))
	part := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	part("datafordeler event 1")
	part(source)
	part(typ)
	part(key)
	if e.Time.IsZero() {
		part("")
	} else {
		part(e.Time.UTC().Format(time.RFC3339Nano))
	}
	part(e.DataSchema)
	part(e.Supersedes)
	part(e.Retracts)
	if e.Provisional {
		part("provisional")
	} else {
		part("")
	}
	for _, name := range extensionNames(e.Extensions) {
		part(name)
		part(e.Extensions[name])
	}
	part("")
	b = append(b, e.Data...)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// HashKey is the Kafka key of a subject's events: the first 16 bytes of the
// SHA-256 of dataset and key, in hexadecimal. Clients in other languages that
// publish to the same topic, and want the same order, do the same and use
// Kafka's default partitioner (murmur2).
func HashKey(dataset broker.DatasetID, key string) []byte {
	var a [128]byte
	b := append(a[:0], dataset...)
	b = append(b, 0) // no dataset's name holds a zero byte
	b = append(b, key...)
	sum := sha256.Sum256(b)
	return hex.AppendEncode(nil, sum[:16])
}

// SourceTopic is the name of a dataset's source topic.
func SourceTopic(prefix string, dataset broker.DatasetID) string {
	return prefix + "source." + string(dataset)
}

// elevenDigits tells whether s may hold a person's number. The broker rejects
// such sources and types, since they go on to consumers and decisions.
func elevenDigits(s string) bool {
	run := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			run = 0
		} else if run++; run == 11 {
			return true
		}
	}
	return false
}
