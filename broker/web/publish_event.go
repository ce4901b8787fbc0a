package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"datafordeler/broker"
	"datafordeler/broker/intake"
	"datafordeler/broker/jsondoc"
)

// incoming is a CloudEvent as a provider sent it, in whichever form.
type incoming struct {
	attributes []attribute
	media      []byte // of the payload; nil where none was said
	data       []byte // nil where there was none
	base64     bool   // data stands in base64
}

type attribute struct{ name, value string }

// Limits on what becomes a Kafka header, as in the SDK of package providers.
const (
	maxAttributeName = 40
	maxExtensions    = 32
)

func rejection(code broker.RejectionCode, detail string) *broker.Rejection {
	return &broker.Rejection{Code: code, Detail: detail}
}

// readStructured takes an event in the JSON format of CloudEvents (1.0, JSON event
// format). Where the JSON itself is at fault, malformed is true and intake has the
// words for it.
func readStructured(doc *jsondoc.Doc, text []byte, maxDepth int) (in incoming, malformed bool, no *broker.Rejection) {
	if doc.Parse(text, maxDepth+1) != nil || doc.Node(0).Kind != jsondoc.Object {
		return in, true, nil
	}
	in.media = []byte("application/json") // where it does not say
	root := doc.Node(0)
	for i := 1; i < int(root.Next); i = int(doc.Node(i).Next) {
		n, name := doc.Node(i), string(doc.Name(i))
		if n.Kind == jsondoc.Null {
			continue // as if absent, by the format
		}
		switch name {
		case "data":
			if in.data != nil {
				return in, true, nil // both forms
			}
			in.data = doc.Bytes(i)
			continue
		case "data_base64":
			value, ok := doc.Text(i, nil)
			if in.data != nil || !ok {
				return in, true, nil
			}
			in.data, in.base64 = append([]byte{}, value...), true
			continue
		}
		value, ok := attributeText(doc, i)
		if !ok {
			return in, true, rejection(broker.RejectNotCloudEvent, "an attribute is neither a string, a boolean nor an integer (CloudEvents 1.0, type system)")
		}
		if n.Kind != jsondoc.String && name != "provisional" && isOwn(name) {
			return in, true, nil // intake says which is no string
		}
		if name == "datacontenttype" {
			in.media = []byte(value)
			continue
		}
		in.attributes = append(in.attributes, attribute{name, value})
	}
	return in, in.data == nil, nil
}

// attributeText is an attribute's canonical string (CloudEvents 1.0, type system).
func attributeText(doc *jsondoc.Doc, i int) (string, bool) {
	switch b := doc.Bytes(i); doc.Node(i).Kind {
	case jsondoc.String:
		text, ok := doc.Text(i, nil)
		return string(text), ok
	case jsondoc.True, jsondoc.False:
		return string(b), true
	case jsondoc.Number:
		return string(b), !bytes.ContainsAny(b, ".eE") && len(b) <= 11
	}
	return "", false
}

// readBinary takes an event whose attributes are ce- headers (CloudEvents 1.0, HTTP
// protocol binding, 3.1).
func readBinary(h http.Header, body []byte) (incoming, *broker.Rejection) {
	in := incoming{data: body}
	for name, values := range h {
		name, ok := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !ok || name == "datacontenttype" {
			continue
		}
		for _, v := range values {
			value, ok := headerText(v)
			if !ok {
				return in, rejection(broker.RejectNotCloudEvent, "a ce- header is not percent-encoded UTF-8 (CloudEvents HTTP binding, 3.1.3.2)")
			}
			in.attributes = append(in.attributes, attribute{name, value})
		}
	}
	if v := h.Values("Content-Type"); len(v) > 0 {
		in.media = []byte(v[0])
	}
	return in, nil
}

// headerText undoes quoting and percent-encoding.
func headerText(v string) (string, bool) {
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		var b strings.Builder
		for i := 1; i < len(v)-1; i++ {
			if v[i] == '\\' && i+1 < len(v)-1 {
				i++
			}
			b.WriteByte(v[i])
		}
		v = b.String()
	}
	v, err := url.PathUnescape(v)
	return v, err == nil && utf8.ValidString(v)
}

// outgoing is an event as it is written to the source topic, before its partition
// is known: the same bytes that the SDK of package providers writes over Kafka.
type outgoing struct {
	id      string
	key     string // what it is about; "" where that has to be read from the payload
	headers []intake.Header
	value   []byte
}

// first are the attributes that stand before all others, in this order.
var first = [...]string{"specversion", "id", "source", "type", "time", "dataschema", "supersedes", "retracts", "provisional", "traceparent"}

// isOwn reports an attribute whose value must be a string.
func isOwn(name string) bool {
	return slices.Contains(first[:], name) || name == "datacontenttype" || name == "subject" || name == "partitionkey"
}

// message brings an event into its one form. What is wrong with the values is for
// intake to say, so they pass as they are.
func (in *incoming) message() (outgoing, *broker.Rejection) {
	var out outgoing
	var subject string
	var core [len(first)][]string
	var more []attribute
	for _, a := range in.attributes {
		if !validName(a.name) {
			return out, rejection(broker.RejectNotCloudEvent, "an attribute's name is not 1 to 40 of a–z and 0–9 (CloudEvents 1.0, naming conventions), without eleven digits in a row")
		}
		switch a.name {
		// They say where the event belongs, are likely a person's number, and go no further.
		case "partitionkey":
			out.key = a.value
			continue
		case "subject":
			subject = a.value
			continue
		case "time":
			if t, err := time.Parse(time.RFC3339, a.value); err == nil {
				a.value = t.UTC().Format(time.RFC3339Nano)
			}
		case "provisional":
			if a.value == "false" {
				continue
			}
		}
		if i := slices.Index(first[:], a.name); i >= 0 {
			core[i] = append(core[i], a.value)
			continue
		}
		more = append(more, a)
	}
	if len(more) > maxExtensions {
		return out, rejection(broker.RejectNotCloudEvent, "the event has more than 32 extensions")
	}
	if out.key == "" {
		out.key = subject
	}
	add := func(name, value string) {
		out.headers = append(out.headers, intake.Header{Key: name, Value: []byte(value)})
	}
	for i, values := range core {
		for _, v := range values { // two of a kind are for intake to refuse
			add("ce_"+first[i], v)
		}
	}
	if len(core[1]) > 0 {
		out.id = core[1][0]
	}
	slices.SortStableFunc(more, func(a, b attribute) int { return strings.Compare(a.name, b.name) })
	for i, a := range more {
		if i > 0 && more[i-1].name == a.name {
			return out, rejection(broker.RejectNotCloudEvent, "an extension stands there twice")
		}
		add("ce_"+a.name, a.value)
	}
	switch {
	case isJSON(in.media):
		add("content-type", "application/json")
	case in.media != nil:
		add("content-type", string(in.media))
	}
	out.value = in.data
	if in.base64 {
		data := make([]byte, base64.StdEncoding.DecodedLen(len(in.data)))
		n, err := base64.StdEncoding.Strict().Decode(data, in.data)
		if err != nil {
			return out, rejection(broker.RejectNotCloudEvent, "data_base64 is not base64")
		}
		out.value = data[:n]
	}
	return out, nil
}

// size is what counts against intake's largest record.
func (o *outgoing) size() int {
	n := len(o.value)
	for _, h := range o.headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

func isJSON(contentType []byte) bool {
	media, _, _ := strings.Cut(string(contentType), ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json") && strings.IndexByte(media, '/') > 0
}

// validName is CloudEvents' rule for names; eleven digits could be a person's number.
func validName(s string) bool {
	if s == "" || len(s) > maxAttributeName {
		return false
	}
	run := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z':
			run = 0
		case c >= '0' && c <= '9':
			if run++; run == 11 {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// subjectOf reads what the payload is about, where the dataset says: the first
// place that has a value.
func subjectOf(doc *jsondoc.Doc, at jsondoc.Path) (subject string) {
	if len(at) == 0 || doc.Len() == 0 {
		return ""
	}
	at.Scalars(doc, func(i int) bool {
		switch doc.Node(i).Kind {
		case jsondoc.String:
			text, _ := doc.Text(i, nil)
			subject = string(text)
		case jsondoc.Number:
			subject = string(doc.Bytes(i))
		}
		return subject == ""
	})
	return subject
}

// sourceKey is the Kafka key of an event about something: hashed, so that tools that
// print keys print no identity numbers. docs/guides/publish-records.md has it for
// other clients.
func sourceKey(dataset broker.DatasetID, about string) []byte {
	sum := sha256.Sum256([]byte(string(dataset) + "\x00" + about))
	return hex.AppendEncode(nil, sum[:16])
}
