package deliver

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"datafordeler/broker"
)

// Format 1: a header of JSON, then rows one after another. It is no longer
// written, and read for ever.

func header1(value []byte) (h BatchHeader, rows []byte, err error) {
	n, w := binary.Uvarint(value[1:])
	if w <= 0 || n > uint64(len(value)-1-w) {
		return h, nil, fmt.Errorf("%w: its header ends early", errBatch)
	}
	body := value[1+w:]
	if err := json.Unmarshal(body[:n], &h); err != nil {
		return h, nil, fmt.Errorf("%w: %v", errBatch, err)
	}
	if h.First < 0 || h.Last < h.First-1 {
		return h, nil, fmt.Errorf("%w: range %d–%d", errBatch, h.First, h.Last)
	}
	return h, body[n:], nil
}

// rows1 calls fn for each row: its decisions are pairs of a subscription and an
// outcome, by their numbers in the header.
func rows1(h *BatchHeader, rows []byte, fn func(row *Row, answers []answer) error) error {
	row := Row{Offset: h.First}
	var answers []answer
	c := cursor{what: "rows", b: rows}
	for len(c.b) > 0 {
		delta := c.uvarint()
		if c.err == nil && (row.Offset > h.Last || delta > uint64(h.Last-row.Offset)) {
			c.fail("an offset out of its range")
		}
		row.Offset += int64(delta)
		copy(row.Event[:], c.take(16))
		copy(row.Subject[:], c.take(16))
		row.Kind = broker.RecordKind(c.byte())
		if row.Kind > broker.Retraction {
			c.fail("a kind of record that is not known")
		}
		answers = answers[:0]
		for range c.count(2) {
			answers = append(answers, answer{
				c.below(len(h.Subscriptions), "a reference to a subscription"),
				c.below(len(h.Outcomes), "a reference to an outcome")})
		}
		if c.err != nil {
			return c.err
		}
		if err := fn(&row, answers); err != nil {
			return err
		}
	}
	return nil
}
