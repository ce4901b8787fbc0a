package witness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker/ledger"
)

// Log is a log whose checkpoints a witness cosigns.
type Log struct {
	// Origin names the log; it is the first line of its checkpoints.
	Origin string
	// Keys are the log's; more than one while it changes its key.
	Keys []note.Verifier
}

// Config is what a witness is made of.
type Config struct {
	// Key is the secret key's text, of kind [ledger.WitnessKey].
	Key  string
	Logs []Log
	// Store is held by this witness alone as long as it runs.
	Store Store
	// Now is the clock; nil: the system's.
	Now func() time.Time
	// Slog gets what an operator should look at; nil: nothing.
	Slog *slog.Logger
}

// Witness cosigns checkpoints. It is safe for any number of goroutines.
type Witness struct {
	cosigner *ledger.Cosigner
	store    Store
	now      func() time.Time
	log      *slog.Logger
	logs     map[string]*watched

	// mu guards heads, and orders the writes to the store.
	mu sync.Mutex
	// heads are what the store holds, also of logs that are not watched now:
	// those that come back must not start anew.
	heads map[string]head
	// unwritten is the last error of the store; nil after a success.
	unwritten error

	counts counts
}

// watched is one log. mu is held from the check of a checkpoint until its
// cosignature is made, so that no two are checked against the same head.
type watched struct {
	Log
	mu   sync.Mutex
	head head // the zero head: nothing cosigned yet
	// cosigned is the newest cosignature of head, and when it was made; empty
	// after a start. The clock may not go back behind it.
	cosigned []byte
	latest   int64
	forks    int
	warned   int64 // the size that a warning was given of
}

// maxForks is how many proofs of a fork are kept for each log. One is enough to
// convict it.
const maxForks = 16

type counts struct {
	cosigned, conflicts, forks, unproven, unknown, unsigned, malformed, failed atomic.Int64
}

// Counts says how many requests had which end, since the start.
type Counts struct {
	// Cosigned were answered with a cosignature (200).
	Cosigned int64 `json:"cosigned"`
	// Conflicts named another old size than the witness's (409).
	Conflicts int64 `json:"conflicts"`
	// Forks were signed by the log and contradict a head that it signed before (409).
	Forks int64 `json:"forks"`
	// Unproven did not show that the tree continues the witness's (422).
	Unproven int64 `json:"unproven"`
	// Unknown were of logs that the witness does not watch (404).
	Unknown int64 `json:"unknown"`
	// Unsigned were not signed by the log (403).
	Unsigned int64 `json:"unsigned"`
	// Malformed could not be read (400).
	Malformed int64 `json:"malformed"`
	// Failed could not be written down, or the clock had gone back (500).
	Failed int64 `json:"failed"`
}

// Refusal is why a checkpoint was not cosigned, by the protocol's status codes.
type Refusal struct {
	// Status is 400, 403, 404, 409, 422 or 500.
	Status int
	// Size is the witness's, where Status is 409 and Sized is true.
	Size  int64
	Sized bool
	Why   string
}

func (r *Refusal) Error() string { return r.Why }

func refuse(status int, format string, args ...any) *Refusal {
	return &Refusal{Status: status, Why: fmt.Sprintf(format, args...)}
}

// New makes a witness from the state in its store. A store without state is an
// error, see [NewState].
func New(c Config) (*Witness, error) {
	w := &Witness{store: c.Store, now: c.Now, log: c.Slog, logs: map[string]*watched{}}
	if w.now == nil {
		w.now = time.Now
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if w.cosigner, err = ledger.NewCosigner(c.Key, w.now); err != nil {
		return nil, err
	}
	if len(c.Logs) == 0 {
		return nil, errors.New("a witness without a log has nothing to do")
	}
	b, err := c.Store.Load()
	if err != nil {
		return nil, fmt.Errorf("witness state %s: %w", c.Store, err)
	}
	if w.heads, err = decodeState(b, w.cosigner.VKey()); err != nil {
		return nil, fmt.Errorf("witness state %s: %w", c.Store, err)
	}
	for _, l := range c.Logs {
		if _, again := w.logs[l.Origin]; again || l.Origin == "" || len(l.Keys) == 0 {
			return nil, fmt.Errorf("log %q: named twice, or without a name or a key", l.Origin)
		}
		w.logs[l.Origin] = &watched{Log: l, head: w.heads[l.Origin]}
	}
	return w, nil
}

// VKey is the witness's public key, for those who write policies.
func (w *Witness) VKey() string { return w.cosigner.VKey() }

// AddCheckpoint checks the body of an add-checkpoint request and gives the
// cosignature, one line of a signed note, once the new head is durable. Any
// error is a *Refusal.
//
// The order of the checks is the protocol's (tlog-witness, add-checkpoint).
func (w *Witness) AddCheckpoint(body []byte) (line []byte, err error) {
	r, err := parseRequest(body)
	if err != nil {
		w.counts.malformed.Add(1)
		return nil, refuse(400, "request: %v", err)
	}
	c, l, signed, refused := w.authentic(r.note)
	if refused != nil {
		return nil, refused
	}
	if r.old > c.Size {
		w.counts.malformed.Add(1)
		return nil, refuse(400, "old size %d is beyond the checkpoint's size %d", r.old, c.Size)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if refused := w.consistent(l, c, r, signed); refused != nil {
		return nil, refused
	}
	return w.cosign(l, c, signed)
}

// authentic gives the checkpoint that a watched log signed, and its note with no
// signatures but the log's.
func (w *Witness) authentic(msg []byte) (ledger.Checkpoint, *watched, []byte, *Refusal) {
	var unverified *note.UnverifiedNoteError
	if _, err := note.Open(msg, nil); !errors.As(err, &unverified) {
		w.counts.malformed.Add(1)
		return ledger.Checkpoint{}, nil, nil, refuse(400, "checkpoint: not a signed note")
	}
	c, err := ledger.ParseCheckpoint(unverified.Note.Text)
	if err != nil {
		w.counts.malformed.Add(1)
		return ledger.Checkpoint{}, nil, nil, refuse(400, "%v", err)
	}
	l := w.logs[c.Origin]
	if l == nil {
		w.counts.unknown.Add(1)
		return ledger.Checkpoint{}, nil, nil, refuse(404, "log %q is not watched here", c.Origin)
	}
	text, by, err := ledger.OpenNote(msg, l.Keys...)
	if err != nil {
		w.counts.unsigned.Add(1)
		return ledger.Checkpoint{}, nil, nil, refuse(403, "checkpoint of %s: %v", c.Origin, err)
	}
	signed, err := note.Sign(&note.Note{Text: text, Sigs: by[:1]})
	if err != nil {
		w.counts.malformed.Add(1)
		return ledger.Checkpoint{}, nil, nil, refuse(400, "checkpoint of %s: %v", c.Origin, err)
	}
	return c, l, signed, nil
}

// consistent checks that c continues l's head.
func (w *Witness) consistent(l *watched, c ledger.Checkpoint, r request, signed []byte) *Refusal {
	have := l.head.checkpoint
	switch {
	case r.old != have.Size:
		w.counts.conflicts.Add(1)
		return &Refusal{Status: 409, Size: have.Size, Sized: true, Why: fmt.Sprintf("the old size is %d here, not %d", have.Size, r.old)}
	case c.Size == 0 && c.Root != ledger.EmptyRoot:
		w.counts.unproven.Add(1)
		return refuse(422, "checkpoint of %s: a tree without leaves has another root", c.Origin)
	case r.old == 0 || r.old == c.Size:
		if r.old > 0 && c.Root != have.Root {
			w.fork(l, c, signed)
			return refuse(409, "log %s has signed two different trees of size %d", c.Origin, c.Size)
		}
		if len(r.proof) > 0 {
			w.counts.unproven.Add(1)
			return refuse(422, "a proof from size %d to %d is empty; this one has %d hashes", r.old, c.Size, len(r.proof))
		}
		return nil
	}
	if err := tlog.CheckTree(r.proof, c.Size, c.Root, have.Size, have.Root); err != nil {
		w.counts.unproven.Add(1)
		level := slog.LevelWarn
		if l.warned == c.Size {
			level = slog.LevelDebug // anybody can send the log's checkpoint on, with any proof
		}
		l.warned = c.Size
		w.log.Log(context.Background(), level, "a checkpoint that its log signed was not shown to continue the last one", "log", c.Origin, "size", have.Size, "new", c.Size)
		return refuse(422, "the proof does not show that the tree of size %d continues the one of size %d", c.Size, have.Size)
	}
	return nil
}

// cosign writes down that c is the head, and only then signs it. Were the process
// to end in between, the head would stand and nobody would hold the signature:
// the log asks again with old = size and gets it.
func (w *Witness) cosign(l *watched, c ledger.Checkpoint, signed []byte) ([]byte, error) {
	at := w.now().Unix()
	if at < max(l.latest, l.head.Time) {
		w.counts.failed.Add(1)
		w.log.Error("the clock went back: nothing is cosigned until it has caught up", "log", c.Origin, "last", time.Unix(max(l.latest, l.head.Time), 0).UTC())
		return nil, refuse(500, "the witness's clock went back")
	}
	if l.head.Note == "" || c.Size > l.head.checkpoint.Size {
		next := head{Time: at, Note: string(signed), checkpoint: c}
		if err := w.save(c.Origin, next); err != nil {
			w.counts.failed.Add(1)
			w.log.Error("the head could not be written: nothing is cosigned", "log", c.Origin, "size", c.Size, "err", err)
			return nil, refuse(500, "the witness could not write its state")
		}
		l.head, l.cosigned = next, nil
	}
	line, err := w.line(l, at)
	if err != nil {
		w.counts.failed.Add(1)
		w.log.Error("cosigning failed", "log", c.Origin, "err", err)
		return nil, refuse(500, "the witness could not sign")
	}
	w.counts.cosigned.Add(1)
	w.log.Debug("cosigned", "log", c.Origin, "size", c.Size)
	return line, nil
}

// line cosigns l's head, which is durable; its caller holds l.mu.
func (w *Witness) line(l *watched, at int64) ([]byte, error) {
	if l.cosigned != nil && l.latest == at {
		return l.cosigned, nil // the same second, the same bytes
	}
	if l.cosigned == nil && at > l.head.Time {
		// The first since the start, of a head that was written down before. Whether
		// it was ever cosigned is not known: if not, this is the first time that
		// anybody sees, and so the one that must outlive a crash.
		next := l.head
		next.Time = at
		if err := w.save(next.checkpoint.Origin, next); err != nil {
			return nil, err
		}
		l.head = next
	}
	text := l.head.Note[:strings.LastIndex(l.head.Note, "\n\n")+1]
	both, err := note.Sign(&note.Note{Text: text}, w.cosigner.At(time.Unix(at, 0)))
	if err != nil {
		return nil, err
	}
	l.cosigned, l.latest = both[len(text)+1:], at
	return l.cosigned, nil
}

// save makes one head durable beside all others.
func (w *Witness) save(origin string, h head) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := maps.Clone(w.heads)
	next[origin] = h
	b, err := encodeHeads(w.cosigner.VKey(), next)
	if err == nil {
		err = w.store.Save(b)
	}
	if w.unwritten = err; err == nil {
		w.heads = next
	}
	return err
}

// fork keeps the proof that l's log signed two trees of one size: two notes, one
// after the other.
func (w *Witness) fork(l *watched, c ledger.Checkpoint, signed []byte) {
	w.counts.forks.Add(1)
	name := fmt.Sprintf("fork-%x-%d-%x", sha256.Sum256([]byte(c.Origin)), c.Size, c.Root[:8])
	if l.forks >= maxForks {
		return
	}
	l.forks++
	err := w.store.Evidence(name, slices.Concat([]byte(l.head.Note), []byte("\n"), signed))
	w.log.Error("FORK: a log signed two different trees of the same size; both checkpoints are kept", "log", c.Origin, "size", c.Size, "evidence", name, "err", err)
}

// Head is the last checkpoint of a watched log, with the log's signature and a
// cosignature; nil when there is none yet.
func (w *Witness) Head(origin string) ([]byte, error) {
	l := w.logs[origin]
	if l == nil {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head.Note == "" {
		return nil, nil
	}
	if l.cosigned == nil { // since the start nobody has asked
		if _, err := w.line(l, max(w.now().Unix(), l.head.Time)); err != nil {
			return nil, err
		}
	}
	return bytes.Join([][]byte{[]byte(l.head.Note), l.cosigned}, nil), nil
}

// Seen is what a witness has of one log.
type Seen struct {
	Origin string    `json:"origin"`
	Size   int64     `json:"size"`
	Root   tlog.Hash `json:"root"`
	// Since is when this head was cosigned first; zero: none was yet.
	Since time.Time `json:"since,omitzero"`
}

// Seen lists the watched logs by origin.
func (w *Witness) Seen() []Seen {
	var all []Seen
	for _, l := range w.logs {
		l.mu.Lock()
		s := Seen{Origin: l.Origin, Size: l.head.checkpoint.Size, Root: l.head.checkpoint.Root}
		if l.head.Note != "" {
			s.Since = l.head.since().UTC()
		}
		l.mu.Unlock()
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Seen) int { return strings.Compare(a.Origin, b.Origin) })
	return all
}

// Counts are the requests since the start.
func (w *Witness) Counts() Counts {
	c := &w.counts
	return Counts{c.cosigned.Load(), c.conflicts.Load(), c.forks.Load(), c.unproven.Load(),
		c.unknown.Load(), c.unsigned.Load(), c.malformed.Load(), c.failed.Load()}
}

// Healthy is nil, or why nothing new can be cosigned: the last write failed.
func (w *Witness) Healthy() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unwritten
}
