package ledger

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"datafordeler/broker"
)

// Head is what a record of decisions says of itself that matters as evidence. Its
// line is the first of the batch's:
//
//	{"v":1,"line":"head","kind":…,"dataset":…,"topicId":…,"partition":…,"first":…,"last":…,
//	 "records":…,"outOfScope":…,"repeated":…,"rejected":…,"rejectedAt":[[offset,count],…],
//	 "limits":{"recordBytes":…,"depth":…,"window":…,"windowMillis":…,"deliveryBytes":…},
//	 "usage":{agreement:…},"period":…,"policy":…,"revision":…,"time":…}
//
// without space. rejectedAt and usage are left out where they are empty; usage is
// in the order of the names' bytes.
type Head struct {
	Kind      string
	Dataset   broker.DatasetID
	TopicID   broker.Digest
	Partition int32
	// First and Last are the source offsets that the batch covers, both included.
	First, Last int64
	// Records are those read in the range. What is neither out of scope nor
	// repeated nor rejected has at least one decision.
	Records, OutOfScope, Repeated, Rejected int64
	// RejectedAt are the rejected records' offsets in the partition, ascending.
	RejectedAt []int64
	Limits     Limits
	// Usage is how many deliveries each agreement with a ceiling had had from
	// this partition before First.
	Usage    map[broker.AgreementID]int64
	Period   string
	Policy   string
	Revision broker.Revision
	Time     time.Time
}

// Limits are what records, the window of repeats and deliveries were held to:
// bytes, levels, records, milliseconds, bytes.
type Limits struct {
	RecordBytes, Depth, Window int
	WindowMillis               int64
	DeliveryBytes              int
}

// AppendHead appends a head's line, without a line break.
func AppendHead(dst []byte, h *Head) []byte {
	dst = appendText(append(dst, `{"v":1,"line":"head","kind":`...), h.Kind)
	dst = appendText(append(dst, `,"dataset":`...), h.Dataset)
	dst = appendDigest(append(dst, `,"topicId":"`...), &h.TopicID)
	dst = appendInt(dst, `","partition":`, int64(h.Partition))
	dst = appendCounts(dst, h.First, h.Last, h.Records, h.OutOfScope, h.Repeated, h.Rejected)
	if len(h.RejectedAt) > 0 {
		dst = append(dst, `,"rejectedAt":[`...)
		for at := 0; at < len(h.RejectedAt); {
			n := 1
			for at+n < len(h.RejectedAt) && h.RejectedAt[at+n] == h.RejectedAt[at]+int64(n) {
				n++
			}
			if at > 0 {
				dst = append(dst, ',')
			}
			dst = appendInt(dst, "[", h.RejectedAt[at])
			dst = append(appendInt(dst, ",", int64(n)), ']')
			at += n
		}
		dst = append(dst, ']')
	}
	dst = appendLimits(dst, &h.Limits)
	dst = appendUsage(dst, h.Usage)
	dst = appendText(append(dst, `,"period":`...), h.Period)
	dst = appendText(append(dst, `,"policy":`...), h.Policy)
	dst = strconv.AppendUint(append(dst, `,"revision":`...), uint64(h.Revision), 10)
	return append(appendTime(append(dst, `,"time":`...), h.Time), '}')
}

func appendLimits(dst []byte, l *Limits) []byte {
	dst = appendInt(dst, `,"limits":{"recordBytes":`, int64(l.RecordBytes))
	dst = appendInt(dst, `,"depth":`, int64(l.Depth))
	dst = appendInt(dst, `,"window":`, int64(l.Window))
	dst = appendInt(dst, `,"windowMillis":`, l.WindowMillis)
	return append(appendInt(dst, `,"deliveryBytes":`, int64(l.DeliveryBytes)), '}')
}

func appendUsage(dst []byte, usage map[broker.AgreementID]int64) []byte {
	if len(usage) == 0 {
		return dst
	}
	dst = append(dst, `,"usage":{`...)
	for i, a := range slices.Sorted(maps.Keys(usage)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendInt(appendText(dst, a), ":", usage[a])
	}
	return append(dst, '}')
}

func appendCounts(dst []byte, first, last, records, outOfScope, repeated, rejected int64) []byte {
	dst = appendInt(dst, `,"first":`, first)
	dst = appendInt(dst, `,"last":`, last)
	dst = appendInt(dst, `,"records":`, records)
	dst = appendInt(dst, `,"outOfScope":`, outOfScope)
	dst = appendInt(dst, `,"repeated":`, repeated)
	return appendInt(dst, `,"rejected":`, rejected)
}

// ParseHead reads a head's line, in the one way that it is written, and holds its
// counts to each other.
func ParseHead(line []byte) (Head, error) {
	var h Head
	c := cursor{b: line}
	c.start("head", `,"kind":`)
	h.Kind = string(c.text())
	c.lit(`,"dataset":`)
	h.Dataset = broker.DatasetID(c.text())
	c.lit(`,"topicId":`)
	h.TopicID = c.digest()
	c.lit(`,"partition":`)
	h.Partition = int32(c.number(math.MaxInt32))
	c.counts(&h.First, &h.Last, &h.Records, &h.OutOfScope, &h.Repeated, &h.Rejected)
	if c.has(`,"rejectedAt":[`) {
		h.RejectedAt = c.runs(h.First, h.Last, h.Rejected)
	}
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
		return Head{}, badLine("head", line)
	}
	if int64(len(h.RejectedAt)) != h.Rejected {
		return Head{}, &rowError{fmt.Sprintf("the head counts %d rejected records and says where %d stand", h.Rejected, len(h.RejectedAt))}
	}
	if err := checkCounts(h.First, h.Last, h.Records, h.OutOfScope, h.Repeated, h.Rejected); err != nil {
		return Head{}, &rowError{"the head's " + err.Error()}
	}
	return h, nil
}

func (c *cursor) counts(first, last, records, outOfScope, repeated, rejected *int64) {
	for _, m := range [...]struct {
		name string
		n    *int64
	}{{`,"first":`, first}, {`,"last":`, last}, {`,"records":`, records}, {`,"outOfScope":`, outOfScope}, {`,"repeated":`, repeated}, {`,"rejected":`, rejected}} {
		c.lit(m.name)
		*m.n = c.int64()
	}
}

// maxRejected is how many rejections a record of decisions has at the most.
const maxRejected = 1 << 20

// runs reads [offset,count] pairs to the closing bracket: ascending, within the
// range, and never two that would be one.
func (c *cursor) runs(first, last, most int64) (at []int64) {
	most = min(most, maxRejected)
	next := first
	for {
		c.lit("[")
		from := c.int64()
		c.lit(",")
		n := c.positive()
		c.lit("]")
		if c.bad || from < next || from == next && len(at) > 0 || n > most-int64(len(at)) || from > last || n > last-from+1 {
			c.fail()
			return nil
		}
		for i := range n {
			at = append(at, from+i)
		}
		next = from + n
		if c.has("]") {
			return at
		}
		c.lit(",")
	}
}

func (c *cursor) limits() (l Limits) {
	c.lit(`,"limits":{"recordBytes":`)
	l.RecordBytes = int(c.int64())
	c.lit(`,"depth":`)
	l.Depth = int(c.int64())
	c.lit(`,"window":`)
	l.Window = int(c.int64())
	c.lit(`,"windowMillis":`)
	l.WindowMillis = c.int64()
	c.lit(`,"deliveryBytes":`)
	l.DeliveryBytes = int(c.int64())
	c.lit("}")
	return l
}

func (c *cursor) usage() map[broker.AgreementID]int64 {
	usage := map[broker.AgreementID]int64{}
	before := ""
	for {
		a := string(c.text())
		c.lit(":")
		n := c.int64()
		if c.bad || len(usage) > 0 && a <= before {
			c.fail()
			return nil
		}
		usage[broker.AgreementID(a)], before = n, a
		if c.has("}") {
			return usage
		}
		c.lit(",")
	}
}

// checkCounts holds what a batch counts to its range.
func checkCounts(first, last, records, outOfScope, repeated, rejected int64) error {
	// In this order nothing can overflow: each is at most what is left.
	left := records
	for _, n := range []int64{outOfScope, repeated, rejected} {
		if n > left {
			return errors.New("counts do not add up: more were out of scope, repeated or rejected than were read")
		}
		left -= n
	}
	switch {
	case first > last || last == math.MaxInt64:
		return fmt.Errorf("range is empty: %d to %d", first, last)
	case records > last-first+1:
		return fmt.Errorf("counts do not add up: %d records from %d offsets", records, last-first+1)
	}
	return nil
}

// frame is what the batch's decision lines have in common, as they write it.
func (h *Head) frame() frame {
	d := broker.Decision{Period: h.Period, PolicyDigest: h.Policy, Revision: h.Revision, Time: h.Time}
	p := broker.Position{Dataset: h.Dataset, TopicID: h.TopicID, Partition: h.Partition}
	return frame{kind: broker.StreamDecision, place: string(appendPlace(appendKind(nil, h.Kind), &p)[1:]), tail: string(appendTail(nil, &d))}
}
