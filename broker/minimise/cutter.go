package minimise

import (
	"slices"

	"datafordeler/broker/jsondoc"
)

// Cutter cuts records as [Projection.Append] does, and remembers how: what leaves
// of a record, and what stands between, follows from its shape alone, which is
// the names of its members and how they are nested. Records of few shapes are
// many. The second of a shape is remembered, and from the third on values are
// copied to their places without another look at their names.
//
// The shape is told by the numbers that a schema's reader gave the names
// ([jsondoc.Node.Member]), and compared in full: no hash decides what leaves. A
// record with a name that has no number is cut as ever.
//
// It keeps names and places, and nothing of a record's values. One goroutine at a
// time may use it; the zero Cutter is ready.
type Cutter struct {
	plans []plan
	shape []uint32
	text  []byte // scratch
}

const (
	planBits = 9
	// maxShape is how many nodes a record may have to be remembered; their
	// indexes fit into half a word.
	maxShape = 256
)

// plan is how records of one shape are cut.
type plan struct {
	hash     uint64 // of the last shape that came here
	by       *Projection
	members  uint64 // what the numbers of names mean
	shielded bool

	shape  []uint32 // empty where nothing is remembered yet
	text   []byte   // all that is not copied from the record
	places places
}

// places are where a record's values go, in order.
type places []place

type place struct {
	at   uint32 // in what is written; in a plan in its text
	node uint32
}

func (p *places) add(at, node int) { *p = append(*p, place{uint32(at), uint32(node)}) }

func (p *places) back(start int) {
	for n := len(*p); n > 0 && int((*p)[n-1].at) >= start; n-- {
		*p = (*p)[:n-1]
	}
}

// keys spread a shape; they are odd, and else any.
var keys = func() (k [64]uint64) {
	x := uint64(0x9E3779B97F4A7C15)
	for i := range k {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		k[i] = x | 1
	}
	return k
}()

// of is the shape of a document, and a hash of it. It is empty where a name is
// not known by its number.
func (c *Cutter) of(nodes []jsondoc.Node) (shape []uint32, hash uint64) {
	if len(nodes) > maxShape {
		return nil, 0
	}
	if cap(c.shape) < len(nodes) {
		c.shape = make([]uint32, maxShape)
	}
	shape = c.shape[:len(nodes)]
	unknown := false
	for i := range nodes {
		n := &nodes[i]
		unknown = unknown || n.Member == 0 && n.NameEnd != 0
		// Of a single value it does not matter which it is.
		word := n.Next<<16 | uint32(min(n.Kind, jsondoc.String))<<8 | uint32(n.Member)
		shape[i] = word
		hash += uint64(word) * keys[i%len(keys)]
	}
	if unknown {
		return nil, 0
	}
	return shape, hash
}

// Append is p.Append.
func (c *Cutter) Append(p *Projection, dst []byte, doc *jsondoc.Doc, attributes []string) ([]byte, bool, error) {
	if p.answers != nil {
		return p.answers.append(c, dst, doc, attributes)
	}
	shielded := p.Shields(attributes)
	nodes, members := doc.Nodes(), doc.Members()
	if members == 0 || len(nodes) == 0 {
		out, err := p.write(dst, doc, shielded, nil)
		return out, shielded, err
	}
	shape, hash := c.of(nodes)
	if len(shape) == 0 {
		out, err := p.write(dst, doc, shielded, nil)
		return out, shielded, err
	}
	if c.plans == nil {
		c.plans = make([]plan, 1<<planBits)
	}
	m := &c.plans[hash>>(64-planBits)]
	if m.hash == hash && m.by == p && m.shielded == shielded && m.members == members {
		if slices.Equal(m.shape, shape) {
			return m.append(dst, nodes, doc.Data()), shielded, nil
		}
		out, err := c.learn(m, p, dst, doc, shielded, shape)
		return out, shielded, err
	}
	// The first of its shape, or the first after another.
	m.hash, m.by, m.shielded, m.members, m.shape = hash, p, shielded, members, m.shape[:0]
	out, err := p.write(dst, doc, shielded, nil)
	return out, shielded, err
}

// learn cuts a record and remembers how.
func (c *Cutter) learn(m *plan, p *Projection, dst []byte, doc *jsondoc.Doc, shielded bool, shape []uint32) ([]byte, error) {
	start := len(dst)
	m.shape, m.places, m.text = m.shape[:0], m.places[:0], m.text[:0]
	out, err := p.write(dst, doc, shielded, &m.places)
	if err != nil {
		return out, err
	}
	at := uint32(start)
	for i := range m.places {
		to := &m.places[i]
		m.text = append(m.text, out[at:to.at]...)
		n := doc.Node(int(to.node))
		at = to.at + n.End - n.Start
		to.at = uint32(len(m.text))
	}
	m.text = append(m.text, out[at:]...)
	// It is used where it does for this record what was done without it.
	c.text = m.append(c.text[:0], doc.Nodes(), doc.Data())
	if string(c.text) == string(out[start:]) {
		m.shape = append(m.shape, shape...)
	}
	clear(c.text)
	return out, nil
}

// append writes a record by the plan.
func (m *plan) append(dst []byte, nodes []jsondoc.Node, data []byte) []byte {
	at := uint32(0)
	for _, to := range m.places {
		dst = append(dst, m.text[at:to.at]...)
		at = to.at
		n := &nodes[to.node]
		dst = append(dst, data[n.Start:n.End]...)
	}
	return append(dst, m.text[at:]...)
}
