package intake

import (
	"errors"
	"hash/maphash"
	"math/bits"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/schema"
)

// Accept makes a record of a message, or says why not. On nil the record and
// doc hold the payload; rec.Data is a part of msg.Value (of its own only for
// data_base64). rec and doc are filled anew, reusing what memory they have:
// give each goroutine its own, and keep a record only with a doc of its own.
//
// Of a rejected message rec has the Position, and where they could be read
// Event, Source and Type.
//
// Accept keeps nothing: the same message, declaration and Hasher give the same
// answer, with Content alone depending on the process.
func (d *Dataset) Accept(msg *Message, h Hasher, rec *broker.Record, doc *jsondoc.Doc) *broker.Rejection {
	*rec = broker.Record{Position: msg.Position, Attributes: rec.Attributes[:0]}
	w := d.scratch.Get().(*scratch)
	defer d.release(w)

	e := event{maxDepth: d.limits.MaxDepth, known: d.known, declared: d.extensions}
	if size := msg.size(); size > d.limits.MaxBytes {
		// In binary mode the headers tell which record it was.
		if e.readBinary(msg) == nil {
			d.identify(&e, h, rec, w)
		}
		return rejectf(broker.RejectTooLarge, "the record has %d bytes with its headers; at most %d are taken", size, d.limits.MaxBytes)
	}
	rejection := e.read(msg, doc)
	d.identify(&e, h, rec, w)
	if rejection != nil {
		return rejection
	}
	if rejection := e.required(); rejection != nil {
		return rejection
	}
	w.source, w.kind = rec.Source, rec.Type
	if rejection := d.describe(&e, h, rec, w); rejection != nil {
		return rejection
	}
	version := d.schema(e.core[attrDataschema])
	if version == nil {
		return rejectf(broker.RejectUnknownSchema, "dataschema names no version of dataset %q; it has %s", d.id, d.versions())
	}
	rec.Schema = version.version

	// Most records are read and found valid in one pass; of any other two passes
	// tell what is wrong with it, if anything is.
	if !version.Read(&w.run, doc, e.data, d.limits.MaxDepth) {
		if err := doc.Parse(e.data, d.limits.MaxDepth); err != nil {
			return rejectParse(err, d.limits.MaxDepth, d.known, "")
		}
		if rejection := d.validate(version, &w.run, doc); rejection != nil {
			return rejection
		}
	}
	if rejection := d.findSubject(doc, h, rec, w); rejection != nil {
		return rejection
	}
	if rejection := d.findAttributes(&e, doc, rec, w); rejection != nil {
		return rejection
	}
	rec.Data = e.data
	rec.Content = e.content()
	return nil
}

// release keeps working memory for another record, without what this one said.
func (d *Dataset) release(w *scratch) {
	w.wipe()
	d.scratch.Put(w)
}

func (w *scratch) wipe() { w.text, w.other = schema.Wipe(w.text), schema.Wipe(w.other) }

// identify fills what a rejection's evidence needs.
func (d *Dataset) identify(e *event, h Hasher, rec *broker.Record, w *scratch) {
	source, kind := e.core[attrSource], e.core[attrType]
	if len(source) == 0 {
		return
	}
	if len(kind) > 0 && string(source) == w.source && string(kind) == w.kind {
		rec.Source, rec.Type = w.source, w.kind
		e.named = true
	} else {
		if elevenDigits(source) {
			return
		}
		if !elevenDigits(kind) {
			rec.Type = w.intern(kind)
		}
		rec.Source = w.intern(source)
	}
	if len(e.core[attrID]) > 0 {
		rec.Event = h.Event(d.id, rec.Source, borrow(e.core[attrID]))
	}
}

// describe reads what the CloudEvents attributes say of the record.
func (d *Dataset) describe(e *event, h Hasher, rec *broker.Record, w *scratch) *broker.Rejection {
	if value := e.core[attrTime]; value != nil {
		t, ok := parseTime(value)
		if !ok {
			return reject(broker.RejectNotCloudEvent, "the attribute time is not RFC 3339, such as 2026-01-31T12:00:00Z")
		}
		rec.Time = t
	}
	if value := e.core[attrProvisional]; value != nil {
		var ok bool
		if rec.Provisional, ok = parseBool(value); !ok {
			return reject(broker.RejectAttribute, `the extension provisional is neither "true" nor "false"`)
		}
	}
	of, name := e.core[attrSupersedes], attrSupersedes
	if of != nil {
		rec.Kind = broker.Correction
	}
	if retracted := e.core[attrRetracts]; retracted != nil {
		if of != nil {
			return reject(broker.RejectAttribute, "the record has both supersedes and retracts: it either corrects another one or takes it back")
		}
		of, name, rec.Kind = retracted, attrRetracts, broker.Retraction
	}
	if of != nil {
		if len(of) == 0 {
			return rejectf(broker.RejectAttribute, "the extension %s is empty: want the id of the event concerned", coreNames[name])
		}
		if string(of) == string(e.core[attrID]) {
			return rejectf(broker.RejectAttribute, "the extension %s names the record's own id: give the correction an id of its own", coreNames[name])
		}
		rec.Of = h.Event(d.id, rec.Source, borrow(of))
	}
	if value := e.core[attrTraceparent]; isTraceparent(value) {
		rec.Traceparent = w.passing.string(value)
	}
	return nil
}

// Identify reads what Window.Restore needs from a message that Accept gave nil
// for, and gives the same Event and Content. It does not judge the message
// again: the declaration may have changed since, and what was decided then
// counts. ok is false for what cannot have been accepted.
func (d *Dataset) Identify(msg *Message, h Hasher, doc *jsondoc.Doc) (id broker.EventHash, content uint64, ok bool) {
	e := event{maxDepth: maxMaxDepth}
	if e.read(msg, doc) != nil || e.required() != nil {
		return broker.EventHash{}, 0, false
	}
	id = h.Event(d.id, borrow(e.core[attrSource]), borrow(e.core[attrID]))
	return id, e.content(), true
}

// size is what Limits.MaxBytes bounds.
func (m *Message) size() int {
	n := len(m.Value)
	for i := range m.Headers {
		n += len(m.Headers[i].Key) + len(m.Headers[i].Value)
	}
	return n
}

// rejectParse names what jsondoc refused. Within an envelope, skip is the
// member whose content is the payload.
func rejectParse(err error, maxDepth int, known map[string]struct{}, skip string) *broker.Rejection {
	var depth *jsondoc.DepthError
	var duplicate *jsondoc.DuplicateNameError
	switch {
	case errors.As(err, &depth):
		return rejectf(broker.RejectTooDeep, "byte %d: nested deeper than %d objects and arrays", depth.Offset, maxDepth)
	case errors.As(err, &duplicate):
		out := reject(broker.RejectDuplicateName, err.Error())
		tokens := duplicate.Object
		if skip != "" {
			if len(tokens) == 0 || tokens[0].Name != skip {
				return out
			}
			tokens = tokens[1:]
		}
		out.Pointer = safePointer(tokens, known)
		return out
	}
	return reject(broker.RejectMalformedJSON, err.Error())
}

// findSubject reads the subject's identifier, one and the same wherever the
// pointer leads.
func (d *Dataset) findSubject(doc *jsondoc.Doc, h Hasher, rec *broker.Record, w *scratch) *broker.Rejection {
	if d.kind == broker.NoSubject {
		return nil
	}
	value, problem := w.single(doc, subjectWatch)
	return d.takeSubject(value, problem, h, rec)
}

func (d *Dataset) takeSubject(value []byte, problem valueProblem, h Hasher, rec *broker.Record) *broker.Rejection {
	switch {
	case problem == severalValues:
		return &broker.Rejection{Code: broker.RejectManySubjects, Pointer: d.subjectPointer,
			Detail: "the record concerns several subjects; publish one record for each"}
	case problem == notScalar:
		return &broker.Rejection{Code: broker.RejectNoSubject, Pointer: d.subjectPointer,
			Detail: "the subject's identifier is an object"}
	case len(value) == 0:
		return &broker.Rejection{Code: broker.RejectNoSubject, Pointer: d.subjectPointer,
			Detail: "the record does not say whom or what it concerns"}
	}
	switch d.kind {
	case broker.Person:
		if len(value) != 11 || !elevenDigits(value) {
			return &broker.Rejection{Code: broker.RejectNoSubject, Pointer: d.subjectPointer,
				Detail: "the identifier is not eleven digits, as a national identity number or D-number is"}
		}
	case broker.OrganisationSubject:
		if _, err := broker.ParseOrgNumber(string(value)); err != nil {
			return &broker.Rejection{Code: broker.RejectNoSubject, Pointer: d.subjectPointer,
				Detail: "the identifier is not an organisation number: nine digits, the last a check digit"}
		}
	}
	rec.Subject = h.Subject(d.kind, borrow(value))
	rec.HasSubject = true
	return nil
}

// findAttributes fills rec.Attributes in the order of the declaration.
func (d *Dataset) findAttributes(e *event, doc *jsondoc.Doc, rec *broker.Record, w *scratch) *broker.Rejection {
	before := rec.Attributes[:cap(rec.Attributes)]
	for i := range d.attributes {
		a := &d.attributes[i]
		if a.register { // looked up when it is decided on: registry.State.Consult
			rec.Attributes = append(rec.Attributes, "")
			continue
		}
		var value []byte
		if a.extension >= 0 {
			value = e.extensions[a.extension]
		} else {
			var problem valueProblem
			value, problem = w.single(doc, a.watch)
			switch problem {
			case severalValues:
				return &broker.Rejection{Code: broker.RejectAttribute, Pointer: a.pointer,
					Detail: "the attribute " + a.name + " has several values that differ; publish a record for each"}
			case notScalar:
				return &broker.Rejection{Code: broker.RejectAttribute, Pointer: a.pointer,
					Detail: "the attribute " + a.name + " is an object; an attribute is a single value"}
			}
		}
		if len(value) == 0 && !a.optional {
			out := &broker.Rejection{Code: broker.RejectAttribute, Pointer: a.pointer}
			if a.extension >= 0 {
				out.Detail = "the attribute " + a.name + ", from the CloudEvents extension " + d.extensions[a.extension] + ", is missing or empty"
			} else {
				out.Detail = "the attribute " + a.name + " is missing or empty"
			}
			return out
		}
		if i < len(before) && before[i] == string(value) { // the record before had the same
			rec.Attributes = append(rec.Attributes, before[i])
		} else {
			rec.Attributes = append(rec.Attributes, w.intern(value))
		}
	}
	return nil
}

// seed is this process's own: see broker.Record.Content.
var seed = maphash.MakeSeed()

// content is a hash of what makes two records under one id the same: payload,
// type, schema, extensions. The time and the trace of a publication may differ
// between attempts. It does not depend on what the dataset declares, so that
// a change of the declaration makes no repeat look like another record.
func (e *event) content() uint64 {
	h := e.others
	for _, c := range [...]core{attrType, attrDataschema, attrSupersedes, attrRetracts, attrProvisional} {
		h = fold(h, uint64(c))
		if value := e.core[c]; value != nil {
			h = fold(h, maphash.Bytes(seed, value))
		}
	}
	return fold(h, maphash.Bytes(seed, e.data))
}

// fold makes one hash of two, in order. The hashes under it are seeded.
func fold(h, with uint64) uint64 {
	high, low := bits.Mul64(h^0x9E3779B97F4A7C15, with^0xD1342543DE82EF95)
	return high ^ low
}

// hashExtension hashes a name and value; a sum of such does not depend on the
// order of headers.
func hashExtension(name string, value []byte) uint64 {
	return fold(maphash.String(seed, name), maphash.Bytes(seed, value))
}
