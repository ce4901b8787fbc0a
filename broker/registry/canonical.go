package registry

import (
	"encoding/hex"
	"encoding/json"
	"time"

	"datafordeler/broker"
)

// A start folds every case and consent there ever was, so these are read by hand
// when they are written just as Encode writes them: members in order, no space,
// no escapes. Anything else, valid or not, is left to encoding/json, which stays
// the judge; FuzzDecode holds the two to the same answer.

// cursor reads canonical JSON from the front of b. Each method says whether what
// it wants is there; after one no, what is left means nothing.
type cursor struct{ b []byte }

func (c *cursor) lit(s string) bool {
	if len(c.b) < len(s) || string(c.b[:len(s)]) != s {
		return false
	}
	c.b = c.b[len(s):]
	return true
}

// text reads up to the closing quote: printable ASCII without escapes.
func (c *cursor) text() ([]byte, bool) {
	for i, x := range c.b {
		switch {
		case x == '"':
			s := c.b[:i]
			c.b = c.b[i+1:]
			return s, true
		case x < 0x20 || x >= 0x7f || x == '\\':
			return nil, false
		}
	}
	return nil, false
}

// uint reads a number without sign, fraction or needless zero, below 10^18.
func (c *cursor) uint() (n uint64, ok bool) {
	i := 0
	for ; i < len(c.b) && c.b[i] >= '0' && c.b[i] <= '9'; i++ {
		n = n*10 + uint64(c.b[i]-'0')
	}
	if i == 0 || i > 18 || i > 1 && c.b[0] == '0' {
		return 0, false
	}
	c.b = c.b[i:]
	return n, true
}

func (c *cursor) digest() (d broker.Digest, ok bool) {
	s, ok := c.text()
	if !ok || len(s) != 2*len(d) {
		return d, false
	}
	_, err := hex.Decode(d[:], s)
	return d, err == nil
}

// utc reads an RFC 3339 time in UTC.
func (c *cursor) utc() (t time.Time, ok bool) {
	s, ok := c.text()
	if !ok || len(s) < len("2026-01-31T12:00:00Z") || s[len(s)-1] != 'Z' {
		return t, false
	}
	return t, t.UnmarshalText(s) == nil
}

// decodeCanonical reads an event as Encode writes it. Data shares b's memory.
func decodeCanonical(b []byte) (e Event, ok bool) {
	c := cursor{b}
	n := func(name string) (v uint64) {
		ok = ok && c.lit(name)
		if ok {
			v, ok = c.uint()
		}
		return v
	}
	ok = true
	e.V = int(n(`{"v":`))
	e.Seq = broker.Revision(n(`,"seq":`))
	e.On = broker.Revision(n(`,"on":`))
	if !ok || !c.lit(`,"prev":"`) {
		return e, false
	}
	if e.Prev, ok = c.digest(); !ok || !c.lit(`,"at":"`) {
		return e, false
	}
	if e.At, ok = c.utc(); !ok || !c.lit(`,"actor":"`) {
		return e, false
	}
	actor, ok := c.text()
	if !ok || !c.lit(`,"type":"`) {
		return e, false
	}
	typ, ok := c.text()
	if !ok || !c.lit(`,"data":`) || len(c.b) < 2 || c.b[len(c.b)-1] != '}' {
		return e, false
	}
	e.Actor, e.Type, e.Data = string(actor), Type(typ), json.RawMessage(c.b[:len(c.b)-1])
	_, ok = parseCanonical(&e)
	return e, ok
}

// parseCanonical reads the data of the kinds of event that there are most of.
func parseCanonical(e *Event) (payload, bool) {
	c := cursor{e.Data}
	switch e.Type {
	case CaseOpened:
		v := new(broker.Case)
		ok := text(&c, `{"id":"`, &v.ID) && text(&c, `,"subscription":"`, &v.Subscription) && c.lit(`,"subject":"`)
		if !ok {
			return nil, false
		}
		if v.Subject, ok = c.digest(); !ok || !c.interval(`,"open":`, &v.Open) || !c.lit("}") {
			return nil, false
		}
		return v, len(c.b) == 0
	case ConsentGiven:
		v := new(broker.Consent)
		ok := text(&c, `{"id":"`, &v.ID) && c.lit(`,"subject":"`)
		if !ok {
			return nil, false
		}
		if v.Subject, ok = c.digest(); !ok {
			return nil, false
		}
		if !text(&c, `,"consumer":"`, &v.Consumer) || !text(&c, `,"dataset":"`, &v.Dataset) || !text(&c, `,"purpose":"`, &v.Purpose) ||
			!c.interval(`,"valid":`, &v.Valid) {
			return nil, false
		}
		if len(c.b) > 1 && !text(&c, `,"external":"`, &v.External) {
			return nil, false
		}
		return v, c.lit("}") && len(c.b) == 0
	}
	return nil, false
}

func text[T ~string](c *cursor, name string, to *T) bool {
	if !c.lit(name) {
		return false
	}
	s, ok := c.text()
	*to = T(s)
	return ok
}

func (c *cursor) interval(name string, i *broker.Interval) (ok bool) {
	if !c.lit(name) || !c.lit("{") {
		return false
	}
	if c.lit("}") {
		return true
	}
	if c.lit(`"from":"`) {
		if i.From, ok = c.utc(); !ok {
			return false
		}
		if c.lit("}") {
			return true
		}
		if !c.lit(",") {
			return false
		}
	}
	if !c.lit(`"to":"`) {
		return false
	}
	if i.To, ok = c.utc(); !ok {
		return false
	}
	return c.lit("}")
}
