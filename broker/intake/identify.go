package intake

import (
	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// Identify reads what [Window.Restore] needs of a message that Accept is known
// to have accepted, without judging it again: the schema may have changed
// since, and it is what was decided then that counts. ok is false for what
// cannot have been accepted.
func (d *Dataset) Identify(msg *Message, h Hasher, doc *jsondoc.Doc) (id broker.EventHash, content uint64, ok bool) {
	var e event
	if e.read(d, msg, doc) != nil || e.required() != nil {
		return broker.EventHash{}, 0, false
	}
	var rec broker.Record
	d.identify(&e, h, &rec, "", "")
	return rec.Event, d.content(&e), !rec.Event.IsZero()
}
