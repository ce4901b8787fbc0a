package ledger

import (
	"crypto/sha256"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker"
)

// A verifier cuts an entry's lines into chunks, which workers hash and check side
// by side, each by itself. What spans chunks, fold checks in their order.
const (
	chunkLines = 256
	chunkBytes = 512 << 10
)

// opened is an entry whose lines are being read. It does not change once its
// first chunk is on its way.
type opened struct {
	n       int64
	leaf    tlog.Hash
	entry   Entry
	head    Head // of a batch
	frame   frame
	headErr error
}

// begin reads the head, where the entry has one.
func (o *opened) begin(line []byte) {
	switch o.entry.Type {
	case ControlEntry:
		return
	case SinglesEntry:
		h, err := ParseSinglesHead(line)
		if err == nil {
			err = o.entry.fitsSingles(&h)
		}
		o.frame, o.headErr = h.frame(), err
		return
	}
	if o.head, o.headErr = ParseHead(line); o.headErr == nil {
		o.headErr = o.entry.fits(&o.head)
	}
	o.frame = o.head.frame()
}

// chunk is some lines of an entry, and what a worker found.
type chunk struct {
	of    *opened
	first int64  // line
	buf   []byte // each line with a zero byte before it
	ends  []int
	last  bool // no lines of the entry follow
	// err is the first thing wrong, with line errLine. After readErr, nothing
	// more was read.
	readErr error
	err     error
	errLine int64
	done    chan struct{}

	nodes   forest
	links   []link
	permits int64
	// Rows of decisions: how many, the first's and the last's offset, and the ids
	// of these two's decisions.
	rows                    int64
	firstOffset, lastOffset int64
	firstIDs, lastIDs       []broker.DecisionID
}

func newChunk() *chunk { return &chunk{done: make(chan struct{}, 1)} }

func (c *chunk) reset(of *opened, first int64) {
	done := c.done
	*c = chunk{of: of, first: first, buf: c.buf[:0], ends: c.ends[:0], done: done, nodes: c.nodes[:0], links: c.links[:0],
		firstIDs: c.firstIDs[:0], lastIDs: c.lastIDs[:0]}
	if cap(c.buf) > 4*chunkBytes {
		c.buf = nil // one long line should not keep its room for good
	}
}

func (c *chunk) full() bool { return len(c.ends) >= chunkLines || len(c.buf) >= chunkBytes }

func (c *chunk) add(line []byte) {
	c.buf = append(append(c.buf, 0), line...)
	c.ends = append(c.ends, len(c.buf))
}

func (c *chunk) fail(err error, line int64) {
	if c.err == nil {
		c.err, c.errLine = err, line
	}
}

// worker checks chunks. names saves making a string of a name each time.
type worker struct{ names map[string]string }

const maxNames = 1 << 16

func (w *worker) name(b []byte) string {
	s, ok := w.names[string(b)]
	if !ok {
		if len(w.names) >= maxNames {
			clear(w.names)
		}
		s = string(b)
		w.names[s] = s
	}
	return s
}

// work hashes a chunk's lines, and holds each to what it may say.
func (w *worker) work(c *chunk) {
	from := 0
	for i, to := range c.ends {
		c.nodes = c.nodes.push(node{n: c.first + int64(i), hash: sha256.Sum256(c.buf[from:to])})
		from = to
	}
	o := c.of
	if o.headErr != nil {
		c.fail(o.headErr, 0)
		return
	}
	from = 0
	for i, to := range c.ends {
		line, n := c.buf[from+1:to], c.first+int64(i)
		from = to
		var err error
		switch {
		case o.entry.Type == ControlEntry:
			var l link
			l, err = readLink(line)
			c.links = append(c.links, l)
		case n > 0: // line 0 is the head
			err = w.decision(c, line)
		}
		if err != nil {
			c.fail(err, n)
			return
		}
	}
}

// decision checks a decision's line by itself and against the one before it.
func (w *worker) decision(c *chunk, line []byte) error {
	o := c.of
	h := &o.head
	var s scanned
	if err := s.scan(line, &o.frame); err != nil {
		return err
	}
	if o.entry.Type == BatchEntry {
		s.at.TopicID, s.at.Partition = h.TopicID, h.Partition
	}
	if err := s.check(&s.at, w.name(s.subscription)); err != nil {
		return err
	}
	if s.permit {
		c.permits++
	}
	if o.entry.Type == SinglesEntry {
		return nil // they stand in the order in which they were made, and may come again
	}
	offset := s.at.Offset
	switch {
	case offset < h.First || offset > h.Last:
		return &rowError{"the decision lies outside of its batch's range"}
	case c.rows > 0 && offset < c.lastOffset:
		return &rowError{"the decision comes after one on a later record"}
	case c.rows > 0 && offset == c.lastOffset:
		if slices.Contains(c.lastIDs, s.id) {
			return errTwice
		}
	default:
		if len(h.RejectedAt) > 0 {
			if _, rejected := slices.BinarySearch(h.RejectedAt, offset); rejected {
				return &rowError{"the decision is on a record that was rejected"}
			}
		}
		if c.rows == 0 {
			c.firstOffset = offset
		}
		c.rows++
		c.lastOffset, c.lastIDs = offset, c.lastIDs[:0]
	}
	c.lastIDs = append(c.lastIDs, s.id)
	if c.rows == 1 {
		c.firstIDs = append(c.firstIDs, s.id)
	}
	return nil
}

var errTwice = &rowError{"the decision on this record for this subscription was there before"}
