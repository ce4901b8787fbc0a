package ledger

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"datafordeler/broker"
)

// Verifier checks a ledger from its start: every line, every entry, every
// checkpoint. The zero value but for Policy is ready.
type Verifier struct {
	// Policy says whom it trusts, and how many witnesses must have cosigned.
	Policy *Policy
	// Known are signed checkpoints of this log that the verifier saw before, or
	// that another one showed: the log must still be the one that they are of.
	Known [][]byte
	// From, if set, is where an earlier run ended: the source begins there, and so
	// does what the report counts.
	From *State
	// Workers hash and read lines side by side; 0 is one for each core.
	Workers int
	// Progress, if set, is called after each entry with how many entries and
	// decisions were checked, from the goroutine that Run was called from.
	Progress func(entries, decisions int64)
}

// Run reads the source to its end or to the first fault. A fault is the error, a
// *Fault, and stands in the report too. Any other error is one of reading, or the
// context's. Run returns when no call to the source is under way: when the context
// ends, the source's calls should.
//
// What is checked:
//   - each entry's lines hash to its rows; its counts are what they add up to;
//     its head says the same as it does;
//   - each decision lies in its batch's range, in order, once, unless it stands
//     singly; its ids are those of its place, event and subscription, and of its
//     request where somebody asked;
//   - control events follow from each other and make the revision that they say;
//   - the entries' order, as Sequence has it;
//   - each checkpoint is signed by the log, and every cosignature by a known
//     witness is valid; sizes never go back; the root is what the entries give;
//   - the known checkpoints are of this log.
func (v *Verifier) Run(ctx context.Context, src Source) (*Report, error) {
	if v.Policy == nil {
		return nil, errors.New("ledger: a verifier needs a policy: whom to trust")
	}
	if err := v.Policy.Check(); err != nil {
		return nil, err
	}
	f := &folding{v: v, report: &Report{}, sequence: NewSequence(), last: -1}
	if err := f.know(v.Known); err != nil {
		return f.end(err)
	}
	if v.From != nil {
		if err := f.resume(v.From); err != nil {
			return f.end(err)
		}
	}
	workers := v.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &reading{ctx: ctx, first: f.tree.Size(), order: make(chan *chunk, 4*workers), jobs: make(chan *chunk, 4*workers), free: make(chan *chunk, 4*workers)}
	for range cap(r.free) {
		r.free <- newChunk()
	}
	f.signed = make(chan signed, 16)
	var wait sync.WaitGroup
	wait.Go(func() { r.entries(src) })
	wait.Go(func() { checkpoints(ctx, src, v.Policy, f.signed) })
	for range workers {
		wait.Go(func() {
			w := &worker{names: map[string]string{}}
			for c := range r.jobs {
				w.work(c)
				c.done <- struct{}{}
			}
		})
	}
	err := f.fold(ctx, r)
	cancel()
	wait.Wait()
	return f.end(err)
}

// reading cuts the source into chunks, in order and for the workers. It belongs
// to one goroutine; fold hands chunks back through free.
type reading struct {
	ctx               context.Context
	first             int64 // the number of the source's first entry
	order, jobs, free chan *chunk
}

func (r *reading) entries(src Source) {
	defer close(r.order)
	defer close(r.jobs)
	for n := r.first; ; n++ {
		line, err := src.Entry()
		if errors.Is(err, io.EOF) {
			return
		}
		o := &opened{n: n}
		if err == nil {
			o.leaf = leafHash(line)
			o.entry, err = ParseEntry(line)
		}
		if err != nil {
			c := newChunk()
			c.reset(o, 0)
			r.failed(c, err)
			return
		}
		for i := int64(0); i < o.entry.Lines; {
			var c *chunk
			select {
			case c = <-r.free:
			case <-r.ctx.Done():
				return
			}
			c.reset(o, i)
			for ; i < o.entry.Lines && !c.full(); i++ {
				line, err := src.Line()
				if err != nil {
					if errors.Is(err, io.EOF) {
						err = fault(Truncated, "%d lines of %d are there", i, o.entry.Lines)
					}
					r.failed(c, err)
					return
				}
				if i == 0 {
					o.begin(line)
				}
				c.add(line)
			}
			c.last = i == o.entry.Lines
			// There are as many places as chunks: neither send waits.
			r.order <- c
			r.jobs <- c
		}
	}
}

// failed hands on that nothing more could be read.
func (r *reading) failed(c *chunk, err error) {
	c.readErr = err
	c.done <- struct{}{}
	select {
	case r.order <- c:
	case <-r.ctx.Done():
	}
}

// leafHash is tlog.RecordHash.
func leafHash(line []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(line)
	return [32]byte(h.Sum(nil))
}

// signed is a checkpoint whose signatures were checked, or why not.
type signed struct {
	Checkpoint
	cosigners []Cosignature
	err       error
}

// checkpoints opens the source's checkpoints, ahead of when they are needed.
func checkpoints(ctx context.Context, src Source, policy *Policy, to chan<- signed) {
	defer close(to)
	for {
		msg, err := src.Checkpoint()
		if errors.Is(err, io.EOF) {
			return
		}
		var s signed
		if s.err = err; err == nil {
			s.Checkpoint, s.cosigners, s.err = open(policy, msg)
		}
		select {
		case to <- s:
		case <-ctx.Done():
			return
		}
		if s.err != nil {
			return
		}
	}
}

// open opens a signed checkpoint and names what is wrong with it. An error without
// a name is about the policy.
func open(policy *Policy, msg []byte) (Checkpoint, []Cosignature, error) {
	if err := policy.Check(); err != nil {
		return Checkpoint{}, nil, err
	}
	c, cosigners, err := policy.Open(msg)
	if err == nil || NameOf(err) != "" {
		return c, cosigners, err
	}
	f := fault(UnknownFormat, "%w", err)
	if _, ok := errors.AsType[*note.InvalidSignatureError](err); ok {
		f.Kind = BadSignature
		return c, nil, f
	}
	n, err := note.Open(msg, note.VerifierList(policy.Log))
	if _, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		f.Kind = WrongKey
	} else if err == nil {
		if c, err := ParseCheckpoint(n.Text); err == nil && c.Origin != policy.Origin {
			f.Kind = WrongOrigin
		}
	}
	return Checkpoint{}, nil, f
}

// folding is what a verifier knows of what it has read. It belongs to Run's
// goroutine.
type folding struct {
	v        *Verifier
	report   *Report
	sequence *Sequence
	chain    Chain
	tree     Tree
	known    []Checkpoint // by size, those still ahead
	signed   chan signed
	next     *signed // the next checkpoint, read and not yet reached
	drained  bool    // there is no next one
	last     int64   // the last checkpoint's size; −1 before the first

	// Of the entry under way.
	rows    forest
	err     error
	errLine int64
	links   []link
	permits int64
	records int64
	offset  int64
	ids     map[broker.DecisionID]struct{} // of the record at offset
}

// fold takes the chunks in order.
func (f *folding) fold(ctx context.Context, r *reading) error {
	if err := f.reached(ctx); err != nil {
		return err
	}
	for {
		var c *chunk
		select {
		case c = <-r.order:
		case <-ctx.Done():
			return ctx.Err()
		}
		if c == nil {
			break
		}
		<-c.done
		if err := f.take(c); err != nil {
			return err
		}
		last := c.last
		if last {
			if err := f.entry(c.of); err != nil {
				return err
			}
			if err := f.reached(ctx); err != nil {
				return err
			}
		}
		r.free <- c
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.finish()
}

// take joins a chunk to those before it.
func (f *folding) take(c *chunk) error {
	if c.first == 0 {
		f.rows, f.links = f.rows[:0], f.links[:0]
		f.err, f.permits, f.records, f.offset = nil, 0, 0, -1
	}
	if c.readErr != nil {
		return placed(c.readErr, c.of.n, -1)
	}
	for _, x := range c.nodes {
		f.rows = f.rows.push(x)
	}
	if f.err != nil {
		return nil
	}
	f.links = append(f.links, c.links...)
	f.permits += c.permits
	f.records += c.rows
	f.err, f.errLine = c.err, c.errLine
	if c.rows == 0 {
		return nil
	}
	if c.firstOffset < f.offset {
		f.fail(&rowError{"the decision comes after one on a later record"}, c.first)
	}
	if c.firstOffset == f.offset { // the record's decisions go on in this chunk
		f.records--
		for i, id := range c.firstIDs {
			if _, twice := f.ids[id]; twice {
				f.fail(errTwice, c.first+int64(i))
			}
			f.ids[id] = struct{}{}
		}
		if c.rows == 1 {
			return nil
		}
	}
	f.offset, f.ids = c.lastOffset, map[broker.DecisionID]struct{}{}
	for _, id := range c.lastIDs {
		f.ids[id] = struct{}{}
	}
	return nil
}

func (f *folding) fail(err error, line int64) {
	if f.err == nil || line < f.errLine {
		f.err, f.errLine = err, line
	}
}

// entry judges an entry whose lines were all read.
func (f *folding) entry(o *opened) error {
	e := &o.entry
	if f.rows.root() != e.Rows {
		// Whatever else is wrong with the lines, these are not the entry's.
		if f.err != nil {
			return fault(RowChanged, "the lines do not hash to the entry's root: %w", f.err).at(o.n, f.errLine)
		}
		return fault(RowChanged, "the lines do not hash to the entry's root").at(o.n, -1)
	}
	if f.err != nil {
		return placed(f.err, o.n, f.errLine)
	}
	r := f.report
	if e.Type == ControlEntry {
		accepted, err := f.chain.fold(f.links, e.Control.Refused)
		if err != nil {
			return placed(err, o.n, -1)
		}
		if accepted != e.Control.Events || f.chain.Revision != e.Revision {
			return fault(ControlBroken, "the entry says that %d events were accepted and make revision %d; it was %d, and they make %d",
				e.Control.Events, e.Revision, accepted, f.chain.Revision).at(o.n, -1)
		}
	} else if b := &e.Batch; e.Type == SinglesEntry {
		if f.permits != b.Permits {
			return fault(EntryChanged, "the entry counts %d permits; its lines have %d", b.Permits, f.permits).at(o.n, -1)
		}
	} else if f.permits != b.Permits || f.records != b.rows() {
		return fault(EntryChanged, "the entry counts %d permits and %d records with decisions; its lines have %d and %d",
			b.Permits, b.rows(), f.permits, f.records).at(o.n, -1)
	}
	if err := f.sequence.Accept(e); err != nil {
		return placed(err, o.n, -1)
	}
	if err := f.tree.Append(o.leaf); err != nil {
		return err
	}
	r.count(e, o.n)
	if f.v.Progress != nil {
		f.v.Progress(r.Entries, r.Decisions)
	}
	return nil
}

// placed says where a fault is; what is none of the ledger's stays as it is.
func placed(err error, entry, line int64) error {
	name := NameOf(err)
	if name == "" {
		return err
	}
	if f, ok := errors.AsType[*Fault](err); ok {
		err = f.Err
	}
	return &Fault{Kind: name, Entry: entry, Line: line, Checkpoint: -1, Err: err}
}

// know opens the checkpoints that the verifier knows.
func (f *folding) know(notes [][]byte) error {
	for i, msg := range notes {
		c, _, err := open(f.v.Policy, msg)
		if err != nil {
			return fmt.Errorf("ledger: known checkpoint %d: %w", i, err)
		}
		f.known = append(f.known, c)
	}
	return nil
}

// reached checks the checkpoints of the tree's present size.
func (f *folding) reached(ctx context.Context) error {
	size := f.tree.Size()
	for i := range f.known {
		if k := &f.known[i]; k.Size == size && k.Root != f.tree.Root() {
			return fault(CheckpointForked, "the log showed another root for its first %d entries before, signed: its operator keeps two logs", size)
		}
	}
	for !f.drained {
		if f.next == nil {
			select {
			case s, ok := <-f.signed:
				if f.drained = !ok; f.drained {
					return ctx.Err()
				}
				f.next = &s
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		s := f.next
		if s.err != nil {
			return f.checkpoint(s.err)
		}
		if s.Size > size {
			return nil
		}
		root := f.tree.Root()
		switch {
		case s.Size < f.last:
			return f.checkpoint(fault(CheckpointRolledBack, "it covers %d entries; the one before it covered %d", s.Size, f.last))
		case s.Size == f.last && s.Root != f.report.Last.Root:
			return f.checkpoint(fault(CheckpointForked, "two signed checkpoints of %d entries have different roots", s.Size))
		case s.Root != root:
			return f.checkpoint(fault(WrongRoot, "it signs another root for the first %d entries than they give: something before was changed, dropped, added or moved since", s.Size))
		}
		f.last, f.next = s.Size, nil
		f.report.sign(s, f.v.Policy.Need)
	}
	return nil
}

func (f *folding) checkpoint(err error) error {
	if x, ok := errors.AsType[*Fault](placed(err, -1, -1)); ok {
		x.Checkpoint = f.report.Checkpoints
		return x
	}
	return err
}

// finish judges what remains when all entries were read.
func (f *folding) finish() error {
	size := f.tree.Size()
	if f.next != nil { // one that was never reached
		return f.checkpoint(fault(BatchMissing, "it covers %d entries, of which %d are there", f.next.Size, size))
	}
	for i := range f.known {
		if k := &f.known[i]; k.Size > size {
			return fault(CheckpointRolledBack, "the log showed a signed checkpoint of %d entries before, and has %d now", k.Size, size)
		}
	}
	r := f.report
	switch {
	case r.Checkpoints == 0:
		return fault(NoCheckpoint, "nothing is signed, so nothing is proved")
	case !r.counted:
		return fault(TooFewWitnesses, "no checkpoint has the cosignatures of %d witnesses; the newest has %d", f.v.Policy.Need, len(r.Cosigners))
	}
	return nil
}

// end completes the report.
func (f *folding) end(err error) (*Report, error) {
	r := f.report
	r.Ranges = f.sequence.Ranges()
	r.Revision = f.sequence.Revision()
	r.Uncovered = f.tree.Size() - r.Counted.Size
	if err == nil {
		r.State = f.state()
	}
	if x, ok := errors.AsType[*Fault](err); ok {
		r.Fault = x
		return r, x
	}
	return r, err
}
