package ledger

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"datafordeler/broker"
)

// SinglesHead is what a record of single decisions says of itself that matters as
// evidence: of the kinds backfill, lookup and door, which lie scattered over the log,
// so that no range accounts for them. Its line is the first of the entry's:
//
//	{"v":1,"line":"singles","kind":…,"lease":{"topicId":…,"partition":…},"decisions":…,"permits":…,
//	 "limits":{"recordBytes":…,"depth":…,"window":…,"windowMillis":…,"deliveryBytes":…},
//	 "usage":{agreement:…},"period":…,"policy":…,"revision":…,"time":…}
//
// without space. lease and usage are left out where there is none.
type SinglesHead struct {
	Kind broker.DecisionKind
	// TopicID and Partition say whose lease of the ceilings the permits count
	// against: a source partition's, or one of the answering instance's own; zero
	// where they count against none.
	TopicID            broker.Digest
	Partition          int32
	Decisions, Permits int64
	Limits             Limits
	// Usage is how many deliveries each agreement with a ceiling had had under that
	// lease before.
	Usage    map[broker.AgreementID]int64
	Period   string
	Policy   string
	Revision broker.Revision
	Time     time.Time
}

// AppendSinglesHead appends the head's line, without a line break.
func AppendSinglesHead(dst []byte, h *SinglesHead) []byte {
	dst = appendText(append(dst, `{"v":1,"line":"singles","kind":`...), h.Kind.String())
	if !h.TopicID.IsZero() || h.Partition != 0 {
		dst = appendDigest(append(dst, `,"lease":{"topicId":"`...), &h.TopicID)
		dst = append(appendInt(dst, `","partition":`, int64(h.Partition)), '}')
	}
	dst = appendInt(dst, `,"decisions":`, h.Decisions)
	dst = appendInt(dst, `,"permits":`, h.Permits)
	dst = appendLimits(dst, &h.Limits)
	dst = appendUsage(dst, h.Usage)
	dst = appendText(append(dst, `,"period":`...), h.Period)
	dst = appendText(append(dst, `,"policy":`...), h.Policy)
	dst = strconv.AppendUint(append(dst, `,"revision":`...), uint64(h.Revision), 10)
	return append(appendTime(append(dst, `,"time":`...), h.Time), '}')
}

// ParseSinglesHead reads the head's line, in the one way that it is written.
func ParseSinglesHead(line []byte) (SinglesHead, error) {
	var h SinglesHead
	c := cursor{b: line}
	c.start("singles", `,"kind":`)
	kind := c.text()
	if h.Kind = broker.ParseDecisionKind(string(kind)); !c.bad && !singleKind(h.Kind) {
		return SinglesHead{}, kindError(kind)
	}
	if c.has(`,"lease":{"topicId":`) {
		h.TopicID = c.digest()
		c.lit(`,"partition":`)
		h.Partition = int32(c.number(math.MaxInt32))
		c.lit("}")
		if h.TopicID.IsZero() && h.Partition == 0 {
			c.fail() // it would have been left out
		}
	}
	c.lit(`,"decisions":`)
	h.Decisions = c.int64()
	c.lit(`,"permits":`)
	h.Permits = c.int64()
	h.Limits = c.limits()
	if c.has(`,"usage":{`) {
		h.Usage = c.usage()
	}
	c.lit(`,"period":`)
	h.Period = string(c.text())
	c.lit(`,"policy":`)
	h.Policy = string(c.text())
	c.lit(`,"revision":`)
	h.Revision = broker.Revision(c.number(math.MaxUint64))
	c.lit(`,"time":`)
	h.Time = c.time()
	c.lit("}")
	c.end()
	if c.bad {
		return SinglesHead{}, badLine("head", line)
	}
	return h, nil
}

// kindError is a kind of decision that a newer program made.
func kindError(kind []byte) error {
	return &formatError{fmt.Sprintf("decisions of kind %q, which this version does not know here: use a newer datafordeler", kind)}
}

// frame is what the record's decision lines have in common.
func (h *SinglesHead) frame() frame {
	d := broker.Decision{Period: h.Period, PolicyDigest: h.Policy, Revision: h.Revision, Time: h.Time}
	return frame{kind: h.Kind, place: string(appendKind(nil, h.Kind.String())[1:]), tail: string(appendTail(nil, &d))}
}

// fitsSingles says whether a head is the one that the entry was made of.
func (e *Entry) fitsSingles(h *SinglesHead) error {
	b := &e.Batch
	return differ([]member{
		{"kind", b.Kind == h.Kind.String()}, {"decisions", b.Decisions == h.Decisions}, {"permits", b.Permits == h.Permits},
		{"policy", b.Policy == h.Policy}, {"revision", e.Revision == h.Revision}, {"time", b.Time.Equal(h.Time)},
	})
}

// appendOwnPlace writes, of a single decision, what says which record it is about:
// the request of a lookup, and no place of what does not lie in the log.
func appendOwnPlace(dst []byte, d *broker.Decision) []byte {
	if d.Kind == broker.LookupDecision {
		dst = append(appendDigest(append(dst, `,"request":"`...), &d.Request), '"')
	}
	p := &d.Position
	if p.Offset == broker.Nowhere {
		dst = appendText(append(dst, `,"dataset":`...), p.Dataset)
	} else {
		dst = strconv.AppendInt(appendPlace(dst, p), p.Offset, 10)
	}
	if d.Event.IsZero() {
		return dst // nothing was found
	}
	return appendRecord(dst, &d.Event, d.RecordKind)
}

// ownPlace reads what appendOwnPlace wrote.
func (s *scanned) ownPlace(c *cursor) {
	if s.kind == broker.LookupDecision {
		c.lit(`,"request":`)
		if s.request = c.digest(); s.request.IsZero() {
			c.fail()
		}
	}
	c.lit(`,"dataset":`)
	s.at.Dataset = broker.DatasetID(c.text())
	switch s.at.Offset = broker.Nowhere; {
	case c.has(`,"topicId":`):
		s.at.TopicID = c.digest()
		c.lit(`,"partition":`)
		s.at.Partition = int32(c.number(math.MaxInt32))
		c.lit(`,"offset":`)
		s.at.Offset = c.int64()
	case s.kind != broker.LookupDecision:
		c.fail() // the others are about what lies in the log
	case !c.has(`,"event":`):
		return // nothing was found
	default:
		s.recorded(c)
		return
	}
	c.lit(`,"event":`)
	s.recorded(c)
}
