package intake

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// core are the CloudEvents attributes that mean something to intake.
type core uint8

const (
	attrSpecversion core = iota
	attrID
	attrSource
	attrType
	attrDatacontenttype
	attrDataschema
	attrTime
	attrTraceparent
	attrSupersedes
	attrRetracts
	attrProvisional
	attrDataclassification
	attrDataregulation
	attrDatacategory
	coreCount
)

// coreNames are the attributes' names, in order.
var coreNames = [coreCount]string{
	"specversion", "id", "source", "type", "datacontenttype", "dataschema", "time", "traceparent",
	"supersedes", "retracts", "provisional", "dataclassification", "dataregulation", "datacategory",
}

func coreAttribute(name string) (core, bool) {
	switch name {
	case "specversion":
		return attrSpecversion, true
	case "id":
		return attrID, true
	case "source":
		return attrSource, true
	case "type":
		return attrType, true
	case "datacontenttype":
		return attrDatacontenttype, true
	case "dataschema":
		return attrDataschema, true
	case "time":
		return attrTime, true
	case "traceparent":
		return attrTraceparent, true
	case "supersedes":
		return attrSupersedes, true
	case "retracts":
		return attrRetracts, true
	case "provisional":
		return attrProvisional, true
	case "dataclassification":
		return attrDataclassification, true
	case "dataregulation":
		return attrDataregulation, true
	case "datacategory":
		return attrDatacategory, true
	}
	return 0, false
}

// volatile attributes may differ between two publications of one event: they
// tell of the publication. The core ones among these are time and traceparent.
func volatile(name string) bool {
	switch name {
	case "tracestate", "recordedtime", "partitionkey", "sequence", "sequencetype":
		return true
	}
	return false
}

// maxAttribute is the longest attribute value taken, in bytes. CloudEvents
// asks intermediaries to carry events of 64 kB; an identifier needs no more.
const maxAttribute = 4096

// maxExtensions bounds the extensions that one dataset's attributes come from.
const maxExtensions = 16

// event is a CloudEvent before anything is made of it. A nil value is an
// absent attribute. The slices point into the message, or are its own.
type event struct {
	maxDepth int
	known    map[string]struct{} // names that a rejection may show
	declared []string            // extensions to keep, at most maxExtensions

	core       [coreCount][]byte
	extensions [maxExtensions][]byte // as declared
	others     uint64                // sum of the hashes of all extensions that are not core
	data       []byte

	// named: source and type are those of a record before, for which required
	// found nothing against them.
	named bool
}

// read fills the event from a message in either mode. It uses doc for the
// envelope of a structured one.
func (e *event) read(msg *Message, doc *jsondoc.Doc) *broker.Rejection {
	if e.readUsual(msg) {
		return nil
	}
	return e.readAny(msg, doc)
}

func (e *event) readAny(msg *Message, doc *jsondoc.Doc) *broker.Rejection {
	contentType, rejection := contentType(msg.Headers)
	if rejection != nil {
		return rejection
	}
	switch media := mediaType(contentType); {
	case media == "application/cloudevents+json":
		if msg.Value == nil {
			return reject(broker.RejectNotCloudEvent, "the record has no value; a structured CloudEvent is its value")
		}
		return e.readStructured(msg, doc)
	case strings.HasPrefix(media, "application/cloudevents"):
		return reject(broker.RejectContentType, "of CloudEvents' own formats only application/cloudevents+json is taken, one event a record")
	default:
		if rejection := e.readBinary(msg); rejection != nil {
			return rejection
		}
		if contentType == nil {
			return reject(broker.RejectContentType, "the header content-type is missing: want application/json, another +json type, or application/cloudevents+json")
		}
		if !isJSON(media) {
			return reject(broker.RejectContentType, "the content-type is not JSON: want application/json, another +json type, or application/cloudevents+json")
		}
		if msg.Value == nil {
			return reject(broker.RejectNotCloudEvent, "the record has no value; a retraction, too, carries the payload that it takes back")
		}
		e.data = msg.Value
		return nil
	}
}

// readUsual reads, in one go through the headers, what nearly all providers
// write: binary mode with the plain content type, once, and nothing amiss. Of all
// else it takes nothing: to tell the modes apart, and to word a rejection, is for
// readAny.
func (e *event) readUsual(msg *Message) bool {
	typed, found := false, false
	for i := range msg.Headers {
		h := &msg.Headers[i]
		if name, ok := strings.CutPrefix(h.Key, "ce_"); ok {
			if h.Value == nil {
				continue
			}
			if found = true; e.set(name, h.Value) != nil {
				return e.unread()
			}
			continue
		}
		if len(h.Key) != len("content-type") {
			continue
		}
		switch {
		case h.Key == "content-type" && string(h.Value) == "application/json" && !typed:
			typed = true
		case strings.EqualFold(h.Key, "content-type"):
			return e.unread()
		}
	}
	if !found || !typed || msg.Value == nil {
		return e.unread()
	}
	e.data = msg.Value
	return true
}

// unread forgets what was read; it is false.
func (e *event) unread() bool {
	*e = event{maxDepth: e.maxDepth, known: e.known, declared: e.declared}
	return false
}

func contentType(headers []Header) (value []byte, rejection *broker.Rejection) {
	for i := range headers {
		if h := &headers[i]; h.Key == "content-type" || len(h.Key) == len("content-type") && strings.EqualFold(h.Key, "content-type") {
			if value != nil {
				return nil, reject(broker.RejectContentType, "there are several content-type headers")
			}
			if value = h.Value; value == nil {
				value = []byte{}
			}
		}
	}
	return value, nil
}

// mediaType is the type without parameters, in lower case.
func mediaType(contentType []byte) string {
	switch string(contentType) { // the usual ones, without allocating
	case "application/json":
		return "application/json"
	case "application/cloudevents+json":
		return "application/cloudevents+json"
	}
	media, _, _ := bytes.Cut(contentType, []byte(";"))
	return strings.ToLower(string(bytes.TrimSpace(media)))
}

func isJSON(media string) bool {
	return media == "application/json" || media == "text/json" ||
		(strings.HasSuffix(media, "+json") && strings.IndexByte(media, '/') > 0)
}

// readBinary reads the headers ce_<attribute>.
func (e *event) readBinary(msg *Message) *broker.Rejection {
	found := false
	for i := range msg.Headers {
		h := &msg.Headers[i]
		name, ok := strings.CutPrefix(h.Key, "ce_")
		if !ok || h.Value == nil {
			continue
		}
		found = true
		if rejection := e.set(name, h.Value); rejection != nil {
			return rejection
		}
	}
	if !found {
		return reject(broker.RejectNotCloudEvent, "the record is no CloudEvent: want headers ce_id, ce_source, ce_type and ce_specversion, or content-type application/cloudevents+json")
	}
	return nil
}

// set takes one attribute; those that mean nothing here are passed over.
func (e *event) set(name string, value []byte) *broker.Rejection {
	var slot *[]byte
	if c, ok := coreAttribute(name); ok {
		slot = &e.core[c]
	} else {
		if !volatile(name) {
			e.others += hashExtension(name, value)
		}
		for i, n := range e.declared {
			if n == name {
				slot = &e.extensions[i]
			}
		}
		if slot == nil {
			return nil
		}
	}
	// The name is one of ours from here on, and may be shown.
	if *slot != nil {
		return rejectf(broker.RejectNotCloudEvent, "the attribute %s stands there twice", name)
	}
	if len(value) > maxAttribute {
		return rejectf(broker.RejectNotCloudEvent, "the attribute %s is longer than %d bytes", name, maxAttribute)
	}
	if !isText(value) {
		return rejectf(broker.RejectNotCloudEvent, "the attribute %s is not UTF-8 text without control characters", name)
	}
	*slot = value
	return nil
}

// isText holds to CloudEvents' String: UTF-8 without control characters.
func isText(b []byte) bool {
	// Eight bytes at a time, the last eight perhaps again: a byte's high bit
	// comes up for what is below 0x20, for 0x7F and for all from 0x80. Where one
	// comes up, by a borrow or truly, the bytes are looked at one by one.
	if len(b) >= 8 {
		found := special(b[len(b)-8:])
		for i := 0; i+8 < len(b); i += 8 {
			found |= special(b[i:])
		}
		if found == 0 {
			return true
		}
	}
	ascii := true
	for _, c := range b {
		if c < ' ' || c == 0x7F {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if ascii {
		return true
	}
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if r >= 0x80 && r <= 0x9F {
			return false
		}
	}
	return true
}

// special has a bit where one of eight bytes is a control character or not ASCII.
func special(b []byte) uint64 {
	x := binary.LittleEndian.Uint64(b)
	return ((x - 0x2020202020202020) | ((x ^ 0x7F7F7F7F7F7F7F7F) - 0x0101010101010101) | x) & 0x8080808080808080
}

// readStructured reads the JSON event format, section 3 of the CloudEvents
// JSON format 1.0: attributes as members, the payload in data or data_base64.
func (e *event) readStructured(msg *Message, doc *jsondoc.Doc) *broker.Rejection {
	if err := doc.Parse(msg.Value, e.maxDepth+1); err != nil {
		// The envelope's own members are CloudEvents'; what lies in data is the
		// payload, and told as such.
		rejection := rejectParse(err, e.maxDepth, e.known, "data")
		rejection.Detail = "in the CloudEvent: " + rejection.Detail
		return rejection
	}
	root := doc.Node(0)
	if root.Kind != jsondoc.Object {
		return reject(broker.RejectNotCloudEvent, "the CloudEvent is not a JSON object")
	}
	var encoded []byte
	hasData := false
	for i := 1; i < int(root.Next); i = int(doc.Node(i).Next) {
		n := doc.Node(i)
		name := doc.Name(i)
		switch string(name) {
		case "data":
			if n.Kind != jsondoc.Null {
				hasData = true
				e.data = doc.Bytes(i)
			}
			continue
		case "data_base64":
			if n.Kind == jsondoc.Null {
				continue
			}
			text, ok := doc.Text(i, nil)
			if !ok {
				return reject(broker.RejectNotCloudEvent, "data_base64 is not a string")
			}
			encoded = text
			continue
		}
		var value []byte
		switch n.Kind {
		case jsondoc.Null:
			continue // absent, by the format
		case jsondoc.String:
			value, _ = doc.Text(i, nil)
		case jsondoc.True, jsondoc.False, jsondoc.Number:
			// CloudEvents has Booleans and Integers; their string form is JSON's.
			value = doc.Bytes(i)
			if c, ok := coreAttribute(string(name)); ok && c != attrProvisional {
				return rejectf(broker.RejectNotCloudEvent, "the attribute %s is not a string", coreNames[c])
			}
		default:
			c, ours := coreAttribute(string(name))
			switch {
			case ours:
				return rejectf(broker.RejectNotCloudEvent, "the attribute %s is not a string", coreNames[c])
			case slices.Contains(e.declared, string(name)):
				return rejectf(broker.RejectNotCloudEvent, "the attribute %s is an object or array; CloudEvents attributes are single values", name)
			}
			e.others += hashExtension(string(name), doc.Bytes(i))
			continue
		}
		if rejection := e.set(string(name), value); rejection != nil {
			return rejection
		}
	}
	switch {
	case hasData && encoded != nil:
		return reject(broker.RejectNotCloudEvent, "the CloudEvent has both data and data_base64")
	case encoded != nil:
		data := make([]byte, base64.StdEncoding.DecodedLen(len(encoded)))
		n, err := base64.StdEncoding.Strict().Decode(data, encoded)
		if err != nil {
			return reject(broker.RejectNotCloudEvent, "data_base64 is not base64")
		}
		e.data = data[:n]
	case !hasData:
		return reject(broker.RejectNotCloudEvent, "the CloudEvent has no data; a retraction, too, carries the payload that it takes back")
	}
	if e.core[attrDatacontenttype] != nil && !isJSON(mediaType(e.core[attrDatacontenttype])) {
		return reject(broker.RejectContentType, "datacontenttype is not JSON: want application/json or another +json type")
	}
	return nil
}

// required rejects an event without the attributes that CloudEvents requires.
func (e *event) required() *broker.Rejection {
	for _, c := range [...]core{attrSpecversion, attrID, attrSource, attrType} {
		if len(e.core[c]) == 0 {
			return rejectf(broker.RejectNotCloudEvent, "the attribute %s is missing or empty", coreNames[c])
		}
	}
	if string(e.core[attrSpecversion]) != "1.0" {
		return reject(broker.RejectNotCloudEvent, `specversion is not "1.0", the one that is taken`)
	}
	// Source and type go to consumers, decisions and logs, where no person's
	// number may stand; the id goes there only as a keyed hash.
	if !e.named {
		for _, c := range [...]core{attrSource, attrType} {
			if elevenDigits(e.core[c]) {
				return rejectf(broker.RejectAttribute, "%s holds eleven digits in a row, which could be a person's number; put it in the payload", coreNames[c])
			}
		}
	}
	if !e.named && !isTypeName(e.core[attrType]) {
		return rejectf(broker.RejectAttribute, "type is no name: want at most %d letters, digits and any of . _ - : / # + between them, such as no.example.income.v1, without eleven digits; what is said of a person belongs in the payload", maxType)
	}
	// The data classification extension: who cannot honour it must reject.
	for _, c := range [...]core{attrDataclassification, attrDataregulation, attrDatacategory} {
		if e.core[c] != nil {
			return rejectf(broker.RejectAttribute, "the extension %s asks for a handling that the broker does not promise to each consumer; declare the dataset's access rights instead, and leave it out", coreNames[c])
		}
	}
	return nil
}

// maxType is the longest type, in bytes.
const maxType = 256

// isTypeName holds the type to the form of a name. It is the one text of a
// provider's that reaches every consumer beside the agreed fields, so a
// sentence, or a person's number broken up, does not fit into it.
func isTypeName(b []byte) bool {
	if len(b) > maxType {
		return false
	}
	digits := 0 // with nothing but separators between them
	for i := 0; i < len(b); {
		c := b[i]
		switch {
		case c-'0' < 10:
			if digits++; digits == 11 {
				return false
			}
			i++
		case c|0x20-'a' < 26:
			digits = 0
			i++
		case c < utf8.RuneSelf:
			if strings.IndexByte("._-:/#+", c) < 0 {
				return false
			}
			i++
		default:
			r, size := utf8.DecodeRune(b[i:])
			if !unicode.IsLetter(r) {
				return false
			}
			digits = 0
			i += size
		}
	}
	return true
}

func elevenDigits(b []byte) bool {
	run := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			run = 0
		} else if run++; run == 11 {
			return true
		}
	}
	return false
}

// isTraceparent holds to the W3C Trace Context header. One that is malformed is
// left out: a receiver ignores such, and it could hold anything.
func isTraceparent(b []byte) bool {
	const form = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	if len(b) != len(form) {
		return false
	}
	for i, c := range b {
		if dash := form[i] == '-'; dash != (c == '-') || (!dash && !strings.ContainsRune("0123456789abcdef", rune(c))) {
			return false
		}
	}
	return true
}

// parseBool holds to CloudEvents' string form of a Boolean.
func parseBool(b []byte) (value, ok bool) {
	value = string(b) == "true"
	return value, value || string(b) == "false"
}
