package derive

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// Error says why there is no answer. It never quotes the record.
type Error struct {
	Target broker.Pointer
	Cause  Cause
}

func (e *Error) Error() string { return fmt.Sprintf("%s cannot be derived: %s", e.Target, e.Cause) }

// Cause is why a record does not let an answer be worked out.
type Cause uint8

// The causes.
const (
	WrongType Cause = iota + 1
	IsAbsent
	NoRows
	TooManyRows
	Ambiguous
	NoRecord // of a household
	HowMany  // of a household
)

func (c Cause) String() string {
	switch c {
	case WrongType:
		return "a value on the way is of a wrong type, or has more digits than are taken"
	case IsAbsent:
		return "a row lacks a value that it has to have"
	case NoRows:
		return "no row is left to answer by"
	case TooManyRows:
		return fmt.Sprintf("the record has more than %d rows", MaxRows)
	case Ambiguous:
		return "rows of the same date have different values, or their dates are not equally exact"
	}
	switch c {
	case NoRecord:
		return "a subject has no record, or none of them has one"
	case HowMany:
		return "fewer subjects, or fewer of them with a record, or more, than the rule is for"
	}
	return "unknown"
}

// Append appends the answers as members of an object, with commas between them and
// without braces. Where one cannot be worked out dst comes back as it was, and the
// error is an *Error: nothing of the record may be delivered.
func (s *Set) Append(dst []byte, doc *jsondoc.Doc) ([]byte, error) {
	out := dst
	for i := range s.rules {
		r := &s.rules[i]
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, r.prefix...)
		var cause Cause
		if out, cause = r.append(out, doc); cause != 0 {
			return dst, &Error{r.target, cause}
		}
	}
	return out, nil
}

func (r *rule) append(dst []byte, doc *jsondoc.Doc) ([]byte, Cause) {
	x := run{rule: r, doc: doc}
	if doc.Len() == 0 {
		return dst, WrongType
	}
	if cause := x.walk(0, r.rows); cause != 0 {
		return dst, cause
	}
	return x.answer(dst)
}

// run is one answer in the making.
type run struct {
	*rule
	doc  *jsondoc.Doc
	rows int // gone through

	counted int // rows that count
	total   number
	node    int    // of the latest value
	latest  []byte // its date
	torn    bool   // another value has the same date
	values  [][]byte
	buf     [64]byte // for texts with escapes
}

// walk goes through all rows at and below a node that is no element of an array.
func (x *run) walk(i int, path jsondoc.Path) Cause {
	n := x.doc.Node(i)
	switch n.Kind {
	case jsondoc.Null:
		return 0
	case jsondoc.Array:
		for e := i + 1; e < int(n.Next); e = int(x.doc.Node(e).Next) {
			if x.doc.Node(e).Kind == jsondoc.Null {
				return WrongType
			}
			if cause := x.walk(e, path); cause != 0 {
				return cause
			}
		}
		return 0
	}
	if len(path) == 0 {
		return x.row(i)
	}
	if n.Kind != jsondoc.Object {
		return WrongType
	}
	if member := x.doc.Find(i, path[0]); member >= 0 {
		return x.walk(member, path[1:])
	}
	return 0
}

// within is the value that a pointer leads to within a row; absent is −1.
func (x *run) within(row int, path jsondoc.Path) (node int, cause Cause) {
	for _, name := range path {
		switch x.doc.Node(row).Kind {
		case jsondoc.Object:
		case jsondoc.Null:
			return -1, 0
		default:
			return -1, WrongType
		}
		if row = x.doc.Find(row, name); row < 0 {
			return -1, 0
		}
	}
	if x.doc.Node(row).Kind == jsondoc.Null {
		return -1, 0
	}
	return row, 0
}

func (x *run) row(i int) Cause {
	if x.rows++; x.rows > MaxRows {
		return TooManyRows
	}
	for c := range x.where {
		if holds, cause := x.holds(&x.where[c], i); !holds || cause != 0 {
			return cause
		}
	}
	if x.op == broker.Count {
		x.counted++
		return 0
	}
	value, cause := x.within(i, x.value)
	by := 0
	if cause == 0 && x.op == broker.Latest {
		by, cause = x.within(i, x.by)
	}
	switch {
	case cause != 0:
		return cause
	case value >= 0 && by >= 0:
		return x.take(value, by)
	case x.skips:
		return 0
	}
	return IsAbsent
}

// take lets a row's value count.
func (x *run) take(value, by int) Cause {
	x.counted++
	switch x.op {
	case broker.Distinct:
		v, ok := x.canonical([]byte{byte(x.doc.Node(value).Kind)}, value) // the number 1 is not the text
		if !ok {
			return WrongType
		}
		x.values = append(x.values, v)
		return 0
	case broker.Latest:
		return x.later(value, by)
	}
	n, ok := x.number(value)
	switch {
	case !ok:
		return WrongType
	case x.counted == 1, x.op == broker.Min && n.less(x.total), x.op == broker.Max && x.total.less(n):
		x.total = n
	case x.op == broker.Sum:
		x.total = x.total.add(n)
	}
	return 0
}

func (x *run) later(value, by int) Cause {
	date, ok := x.doc.Text(by, nil)
	if !ok || !isDate(date) {
		return WrongType
	}
	this, ok := x.canonical(nil, value)
	if !ok {
		return WrongType
	}
	switch c := bytes.Compare(date, x.latest); {
	case x.counted > 1 && len(date) != len(x.latest):
		return Ambiguous
	case x.counted > 1 && c < 0:
	case x.counted > 1 && c == 0:
		have, _ := x.canonical(nil, x.node)
		x.torn = x.torn || !bytes.Equal(this, have)
	default:
		x.node, x.latest, x.torn = value, date, false
	}
	return 0
}

// holds asks one condition of a row.
func (x *run) holds(c *condition, row int) (bool, Cause) {
	i, cause := x.within(row, c.field)
	if cause != 0 {
		return false, cause
	}
	if i < 0 {
		if c.absent == broker.AbsentFails {
			return false, IsAbsent
		}
		return c.absent == broker.AbsentHolds, 0
	}
	switch c.kind {
	case numbers:
		n, ok := x.number(i)
		if !ok {
			return false, WrongType
		}
		return !(c.hasAtLeast && n.less(c.atLeast)) && !(c.hasBelow && !n.less(c.below)), 0
	case dates:
		return x.inPeriod(c, i)
	}
	text, ok := x.doc.Text(i, x.buf[:0])
	switch k := x.doc.Node(i).Kind; {
	case ok:
	case k == jsondoc.True:
		text = []byte("true")
	case k == jsondoc.False:
		text = []byte("false")
	default:
		return false, WrongType
	}
	if len(c.in) > 0 {
		return listed(c.in, text), 0
	}
	return !listed(c.notIn, text), 0
}

func listed(all []string, text []byte) bool {
	for _, s := range all {
		if s == string(text) {
			return true
		}
	}
	return false
}

func (x *run) inPeriod(c *condition, i int) (bool, Cause) {
	date, ok := x.doc.Text(i, x.buf[:0])
	if !ok || !isDate(date) || len(date) < len(c.from) || len(date) < len(c.before) {
		return false, WrongType
	}
	return string(date[:len(c.from)]) >= c.from && (c.before == "" || string(date[:len(c.before)]) < c.before), 0
}

// number is a value as a number.
func (x *run) number(i int) (number, bool) {
	switch x.doc.Node(i).Kind {
	case jsondoc.Number:
		return parse(x.doc.Bytes(i), true)
	case jsondoc.String:
		text, _ := x.doc.Text(i, x.buf[:0])
		return parse(text, false)
	}
	return number{}, false
}

// canonical writes a text, number or truth value as an answer is written, so that
// what is equal has the same bytes.
func (x *run) canonical(dst []byte, i int) ([]byte, bool) {
	switch x.doc.Node(i).Kind {
	case jsondoc.True:
		return append(dst, "true"...), true
	case jsondoc.False:
		return append(dst, "false"...), true
	case jsondoc.String:
		text, _ := x.doc.Text(i, x.buf[:0])
		return quoted(dst, text), true
	case jsondoc.Number:
		n, ok := parse(x.doc.Bytes(i), true)
		return append(n.append(append(dst, '"')), '"'), ok
	}
	return dst, false
}

// answer writes what the rows make together.
func (x *run) answer(dst []byte) ([]byte, Cause) {
	n := x.total
	switch x.op {
	case broker.Count:
		n = whole(x.counted)
	case broker.Distinct:
		slices.SortFunc(x.values, bytes.Compare)
		n = whole(len(slices.CompactFunc(x.values, bytes.Equal)))
	case broker.Latest:
		if x.counted == 0 {
			return dst, NoRows
		}
		if x.torn {
			return dst, Ambiguous
		}
		if !x.bandsOrLimit {
			dst, _ = x.canonical(dst, x.node)
			return dst, 0
		}
		var ok bool
		if n, ok = x.number(x.node); !ok {
			return dst, WrongType
		}
	default:
		if x.counted == 0 {
			if !x.hasEmpty {
				return dst, NoRows
			}
			n = x.empty
		}
	}
	return x.tell(dst, n), 0
}

func whole(n int) number {
	v, _ := parse(strconv.AppendInt(nil, int64(n), 10), false) // at most MaxRows
	return v
}

// tell writes a number as the rule wants it told.
func (x *run) tell(dst []byte, n number) []byte {
	switch {
	case len(x.bands) > 0:
		last := len(x.bands) - 1
		for i := range x.bands[:last] {
			if n.less(x.bands[i].below) {
				return append(dst, x.bands[i].answer...)
			}
		}
		return append(dst, x.bands[last].answer...)
	case x.limit != noLimit:
		yes := false
		switch x.limit {
		case below:
			yes = n.less(x.than)
		case atMost:
			yes = !x.than.less(n)
		case atLeast:
			yes = !n.less(x.than)
		case above:
			yes = x.than.less(n)
		}
		return strconv.AppendBool(dst, yes)
	case x.op == broker.Count || x.op == broker.Distinct:
		return n.append(dst)
	}
	return append(n.append(append(dst, '"')), '"')
}
