package ledger

import (
	"bytes"
	"fmt"
	"math"
	"strconv"

	"datafordeler/broker"
)

// A decision line, one for each decision of a record of decisions, in its order:
//
//	{"v":1,"line":"decision","id":…,"kind":…,"dataset":…,"topicId":…,"partition":…,"offset":…,
//	 "event":…,"record":…,"subscription":…,"agreement":…,"outcome":"permit"|"deny",
//	 "reasons":[…],"bases":[…],"package":…,"packageVersion":…,"fields":[…],"shielded":true,
//	 "delivery":…,"subject":…,"period":…,"policy":…,"revision":…,"time":…}
//
// without space. Left out are empty lists, shielded where it is false, delivery
// of a denial, and subject where the record has none. Those of kind lookup have
// "request" behind their kind; topicId, partition and offset are left out of one
// about what does not lie in the log; and where nothing was found event, record and
// delivery too.

const decisionStart = `{"v":1,"line":"decision","id":"`

// AppendDecision appends a decision's line, without a line break.
func AppendDecision(dst []byte, d *broker.Decision) []byte {
	dst = append(dst, decisionStart...)
	dst = appendDigest(dst, &d.ID)
	dst = appendKind(dst, d.Kind.String())
	if d.Kind == broker.StreamDecision {
		dst = strconv.AppendInt(appendPlace(dst, &d.Position), d.Position.Offset, 10)
		dst = appendRecord(dst, &d.Event, d.RecordKind)
	} else {
		dst = appendOwnPlace(dst, d)
	}
	dst = appendAnswer(dst, d)
	dst = appendOwn(dst, d)
	return appendTail(dst, d)
}

// appendKind writes what follows the id's digits.
func appendKind(dst []byte, kind string) []byte {
	return appendText(append(dst, `","kind":`...), kind)
}

// appendPlace writes what all decisions of a batch have before the offset.
func appendPlace(dst []byte, p *broker.Position) []byte {
	dst = appendText(append(dst, `,"dataset":`...), p.Dataset)
	topic := broker.Digest(p.TopicID)
	dst = appendDigest(append(dst, `,"topicId":"`...), &topic)
	dst = appendInt(dst, `","partition":`, int64(p.Partition))
	return append(dst, `,"offset":`...)
}

// appendRecord writes what all decisions on a record have.
func appendRecord(dst []byte, event *broker.EventHash, kind broker.RecordKind) []byte {
	dst = appendDigest(append(dst, `,"event":"`...), event)
	dst = append(dst, `","record":"`...)
	return append(append(dst, kind.String()...), '"')
}

// appendAnswer writes what all decisions with one answer for one subscription
// have.
func appendAnswer(dst []byte, d *broker.Decision) []byte {
	dst = appendText(append(dst, `,"subscription":`...), d.Subscription)
	dst = appendText(append(dst, `,"agreement":`...), d.Agreement)
	if d.Outcome.Permit {
		dst = append(dst, `,"outcome":"permit"`...)
	} else {
		dst = append(dst, `,"outcome":"deny"`...)
	}
	if len(d.Outcome.Reasons) > 0 {
		dst = appendTexts(append(dst, `,"reasons":`...), d.Outcome.Reasons)
	}
	if len(d.Outcome.Bases) > 0 {
		dst = appendTexts(append(dst, `,"bases":`...), d.Outcome.Bases)
	}
	dst = appendText(append(dst, `,"package":`...), d.Package.ID)
	dst = appendInt(dst, `,"packageVersion":`, int64(d.Package.Version))
	if len(d.Fields) > 0 {
		dst = appendTexts(append(dst, `,"fields":`...), d.Fields)
	}
	if d.Shielded {
		dst = append(dst, `,"shielded":true`...)
	}
	return dst
}

// appendOwn writes what follows from the record and the subscription.
func appendOwn(dst []byte, d *broker.Decision) []byte {
	if !d.Delivery.IsZero() {
		dst = append(appendDigest(append(dst, `,"delivery":"`...), &d.Delivery), '"')
	}
	if !d.Subject.IsZero() {
		dst = append(appendDigest(append(dst, `,"subject":"`...), &d.Subject), '"')
	}
	return dst
}

// appendTail writes what all decisions of a batch have at the end.
func appendTail(dst []byte, d *broker.Decision) []byte {
	dst = appendText(append(dst, `,"period":`...), d.Period)
	dst = appendText(append(dst, `,"policy":`...), d.PolicyDigest)
	dst = strconv.AppendUint(append(dst, `,"revision":`...), uint64(d.Revision), 10)
	dst = appendTime(append(dst, `,"time":`...), d.Time)
	return append(dst, '}')
}

// ParseDecision reads a decision's line. It takes the one way of writing each
// decision only, so two lines that say the same are the same bytes; and a line
// in which the ids do not fit what they are ids of is an error.
func ParseDecision(line []byte) (broker.Decision, error) {
	var d broker.Decision
	c := cursor{b: line}
	c.start("decision", `,"id":`)
	d.ID = c.digest()
	c.lit(`,"kind":`)
	kind := c.text()
	if d.Kind = broker.ParseDecisionKind(string(kind)); !c.bad && d.Kind == 0 {
		return broker.Decision{}, kindError(kind)
	}
	s := scanned{id: d.ID, kind: d.Kind}
	if d.Kind == broker.StreamDecision {
		c.lit(`,"dataset":`)
		s.at.Dataset = broker.DatasetID(c.text())
		c.lit(`,"topicId":`)
		s.at.TopicID = c.digest()
		c.lit(`,"partition":`)
		s.at.Partition = int32(c.number(math.MaxInt32))
		c.lit(`,"offset":`)
		s.place(&c)
	} else {
		s.ownPlace(&c)
	}
	s.middle(&c, &d)
	c.lit(`,"period":`)
	d.Period = string(c.text())
	c.lit(`,"policy":`)
	d.PolicyDigest = string(c.text())
	c.lit(`,"revision":`)
	d.Revision = broker.Revision(c.number(math.MaxUint64))
	c.lit(`,"time":`)
	d.Time = c.time()
	c.lit("}")
	c.end()
	if c.bad {
		return broker.Decision{}, badLine("decision", line)
	}
	if err := s.check(&s.at, string(d.Subscription)); err != nil {
		return broker.Decision{}, err
	}
	d.Request, d.Position, d.Event, d.RecordKind, d.Subject, d.Delivery = s.request, s.at, s.event, s.record, s.subject, s.delivery
	d.Outcome.Permit, d.Shielded = s.permit, s.shielded
	return d, nil
}

// start wants a line's first members, up to next.
func (c *cursor) start(line, next string) {
	c.lit(`{"v":1,"line":"`)
	c.lit(line)
	c.lit(`"`)
	c.lit(next)
}

// badLine says what is wrong with a line that could not be read.
func badLine(what string, line []byte) error {
	if !bytes.HasPrefix(line, []byte(`{"v":1,`)) && bytes.HasPrefix(line, []byte(`{"v":`)) {
		return &formatError{fmt.Sprintf("%s line in another format than 1: use a newer datafordeler", what)}
	}
	text := fmt.Sprintf("not a %s line, or not written in the one way that format 1 has", what)
	if what == "entry" {
		return &entryError{text}
	}
	return &rowError{text}
}

// scanned is what a verifier needs of a decision line. It shares the line's
// memory.
type scanned struct {
	id   broker.DecisionID
	kind broker.DecisionKind
	// at is the record's place; of a batch's decision its offset alone, since the
	// rest is in the frame.
	at               broker.Position
	request          broker.Digest
	event            broker.EventHash
	record           broker.RecordKind
	subscription     []byte
	permit, shielded bool
	fields           bool
	delivery         broker.DeliveryID
	subject          broker.Pseudonym
}

// frame is what all decisions of an entry have: a verifier compares it as bytes. The
// place of a batch's goes up to the offset; of single decisions the kind is all.
type frame struct {
	kind        broker.DecisionKind
	place, tail string
}

// scan reads a decision line of an entry.
func (s *scanned) scan(line []byte, f *frame) error {
	c := cursor{b: line}
	c.start("decision", `,"id":`)
	*s = scanned{id: c.digest(), kind: f.kind}
	if !c.bad && !c.has(f.place) {
		return misfit(line, "names another batch than its head")
	}
	if f.kind == broker.StreamDecision {
		s.place(&c)
	} else {
		s.ownPlace(&c)
	}
	s.middle(&c, nil)
	if !c.bad && string(c.b) != f.tail {
		return misfit(line, "names another period, policy, revision or time than its head")
	}
	if c.bad {
		return badLine("decision", line)
	}
	return nil
}

// misfit tells a line that does not fit its head from one that is no line.
func misfit(line []byte, what string) error {
	if _, err := ParseDecision(line); err != nil {
		return err
	}
	return &rowError{"the line " + what}
}

// place reads from the offset's number to before the subscription.
func (s *scanned) place(c *cursor) {
	s.at.Offset = c.int64()
	c.lit(`,"event":`)
	s.recorded(c)
}

// recorded reads from the event's hash to before the subscription.
func (s *scanned) recorded(c *cursor) {
	if s.event = c.digest(); s.event.IsZero() && s.kind != broker.StreamDecision {
		c.fail() // it would have been left out
	}
	switch c.lit(`,"record":"`); {
	case c.has(`original"`):
	case c.has(`correction"`):
		s.record = broker.Correction
	case c.has(`retraction"`):
		s.record = broker.Retraction
	default:
		c.fail()
	}
}

// middle reads from the subscription to before the period. With d, it keeps the
// answer there.
func (s *scanned) middle(c *cursor, d *broker.Decision) {
	c.lit(`,"subscription":`)
	s.subscription = c.text()
	c.lit(`,"agreement":`)
	agreement := c.text()
	switch c.lit(`,"outcome":"`); {
	case c.has(`permit"`):
		s.permit = true
	case !c.has(`deny"`):
		c.fail()
	}
	var keep func([]byte)
	if c.has(`,"reasons":`) {
		if d != nil {
			keep = func(t []byte) { d.Outcome.Reasons = append(d.Outcome.Reasons, broker.Reason(t)) }
		}
		c.texts(keep)
	}
	if c.has(`,"bases":`) {
		if d != nil {
			keep = func(t []byte) { d.Outcome.Bases = append(d.Outcome.Bases, broker.LegalBasisID(t)) }
		}
		c.texts(keep)
	}
	c.lit(`,"package":`)
	pack := c.text()
	c.lit(`,"packageVersion":`)
	version := c.number(math.MaxInt32)
	if c.has(`,"fields":`) {
		s.fields = true
		if d != nil {
			keep = func(t []byte) { d.Fields = append(d.Fields, broker.Pointer(t)) }
		}
		c.texts(keep)
	}
	s.shielded = c.has(`,"shielded":true`)
	if c.has(`,"delivery":`) {
		s.delivery = c.digest()
	}
	if c.has(`,"subject":`) {
		if s.subject = c.digest(); s.subject.IsZero() {
			c.fail() // it would have been left out
		}
	}
	if d != nil {
		d.Subscription, d.Agreement = broker.SubscriptionID(s.subscription), broker.AgreementID(agreement)
		d.Package = broker.PackageRef{ID: string(pack), Version: int(version)}
	}
}

// check holds the ids to what they are ids of: at is where the record stands.
func (s *scanned) check(at *broker.Position, sub string) error {
	switch {
	case s.kind == broker.LookupDecision:
		if s.id != broker.NewLookupID(s.request, s.event, at, broker.SubscriptionID(sub)) {
			return &rowError{"the decision's id is not that of its request, its record and subscription"}
		}
	case s.id != broker.NewDecisionID(s.kind, at.TopicID, at.Partition, at.Offset, broker.SubscriptionID(sub)):
		return &rowError{"the decision's id is not that of its place and subscription"}
	}
	var delivery broker.DeliveryID
	if s.permit && (s.kind == broker.StreamDecision || !s.event.IsZero()) {
		delivery = broker.DeliveryOf(s.kind, s.event, broker.SubscriptionID(sub))
	}
	switch {
	case s.permit && s.kind == broker.DoorDecision:
		return &rowError{"a permit at the door, where there are denials only"}
	case s.delivery != delivery && s.permit:
		return &rowError{"the delivery's id is not that of its event and subscription"}
	case s.delivery != delivery:
		return &rowError{"a denial names a delivery"}
	case s.kind == broker.NoticeDecision && (s.fields || s.shielded):
		return &rowError{"a notice names fields: it has no data"}
	case !s.permit && (s.fields || s.shielded):
		return &rowError{"a denial names fields that were delivered"}
	}
	return nil
}
