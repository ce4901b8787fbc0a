package witness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker/ledger"
)

// Prover gives the proof that the tree of size t continues the one of size n,
// 0 < n < t. It is called by several goroutines at once.
type Prover func(ctx context.Context, t, n int64) (tlog.TreeProof, error)

// ProveFrom proves from a log's stored hashes, which must be safe for any number
// of goroutines.
func ProveFrom(r tlog.HashReader) Prover {
	return func(_ context.Context, t, n int64) (tlog.TreeProof, error) { return tlog.ProveTree(t, n, r) }
}

// DefaultTimeout is how long one witness has for one checkpoint, when nothing
// else is said.
const DefaultTimeout = 5 * time.Second

// Gatherer asks the witnesses of a policy. It remembers which size each has, so
// that the next checkpoint costs one request to each. It is safe for any number
// of goroutines.
type Gatherer struct {
	Policy *ledger.Policy
	// Witnesses are where to ask; the key of each is one of the policy's.
	Witnesses []*Client
	Prove     Prover
	// Timeout is for each witness and checkpoint, a second try included; zero:
	// DefaultTimeout.
	Timeout time.Duration
	// Linger is how long to wait for the rest once Policy.Need have cosigned;
	// zero: until all have answered or their time is over.
	Linger time.Duration

	mu    sync.Mutex
	sizes map[*Client]int64
}

// Outcome is what came of asking one witness: it cosigned when Err is nil.
type Outcome struct {
	Name string
	Err  error
}

// AheadError is that a witness has cosigned a larger tree than this checkpoint's.
// Another sequencer is ahead, or this log has lost its end: look which, before
// anything is signed.
type AheadError struct {
	Name          string
	Witness, Mine int64 // sizes
}

func (e *AheadError) Error() string {
	return fmt.Sprintf("witness %s has cosigned size %d, and this checkpoint has %d: another sequencer is ahead, or this log was set back", e.Name, e.Witness, e.Mine)
}

// ErrNotAwaited is of a witness that was slower than the others when enough had
// cosigned and Linger was over. It may have cosigned all the same.
var ErrNotAwaited = errors.New("enough witnesses had cosigned")

// Gather asks all witnesses at once for cosignatures on a checkpoint that the log
// signed, and returns it with those that came, and an outcome for each witness in
// the order of Witnesses. A *ledger.TooFewError comes with the checkpoint and the
// outcomes too: it can be tried again, and no cosignature is lost.
func (g *Gatherer) Gather(ctx context.Context, checkpoint []byte) (merged []byte, outcomes []Outcome, err error) {
	c, _, err := g.Policy.Open(checkpoint)
	if err != nil {
		return nil, nil, err
	}
	for i, w := range g.Witnesses {
		if w.Key == nil || !slices.Contains(g.Policy.Witnesses, w.Key) {
			return nil, nil, fmt.Errorf("witness %d (%s): its key is not the policy's", i, w.URL)
		}
	}
	type answer struct {
		i     int
		lines []byte
		err   error
	}
	timeout := g.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	asking, enough := context.WithCancelCause(ctx)
	defer enough(nil)
	answers := make(chan answer, len(g.Witnesses)) // no goroutine waits for this one
	for i, w := range g.Witnesses {
		go func() {
			ctx, cancel := context.WithTimeout(asking, timeout)
			defer cancel()
			lines, err := g.ask(ctx, w, c, checkpoint)
			answers <- answer{i, lines, err}
		}()
	}
	merged = checkpoint
	outcomes = make([]Outcome, len(g.Witnesses))
	var linger <-chan time.Time
	for left := len(g.Witnesses); left > 0; {
		select {
		case <-linger:
			enough(ErrNotAwaited)
			linger = nil
			continue
		case a := <-answers:
			left--
			outcomes[a.i] = Outcome{g.Witnesses[a.i].Key.Name(), a.err}
			if a.err != nil {
				if cut := context.Cause(asking); errors.Is(cut, ErrNotAwaited) && (errors.Is(a.err, cut) || errors.Is(a.err, context.Canceled)) {
					outcomes[a.i].Err = ErrNotAwaited
				}
				continue
			}
			// Cannot fail: the client has verified the line with the policy's key.
			if merged, err = g.Policy.Merge(merged, a.lines); err != nil {
				return nil, nil, err
			}
		}
		if linger == nil && g.Linger > 0 && context.Cause(asking) == nil {
			if _, by, err := g.Policy.Open(merged); err == nil && len(by) >= g.Policy.Need {
				t := time.NewTimer(g.Linger)
				defer t.Stop()
				linger = t.C
			}
		}
	}
	_, _, err = g.Policy.OpenWitnessed(merged)
	return merged, outcomes, err
}

// ask asks one witness, a second time if it tells another size than was thought.
func (g *Gatherer) ask(ctx context.Context, w *Client, c ledger.Checkpoint, checkpoint []byte) (lines []byte, err error) {
	old := min(g.size(w), c.Size)
	for try := range 2 {
		var proof tlog.TreeProof
		if 0 < old && old < c.Size {
			if proof, err = g.Prove(ctx, c.Size, old); err != nil {
				return nil, fmt.Errorf("prove that size %d continues size %d: %w", c.Size, old, err)
			}
		}
		lines, err = w.AddCheckpoint(ctx, old, proof, checkpoint)
		var conflict *ConflictError
		switch {
		case err == nil:
			g.remember(w, c.Size)
			return lines, nil
		case !errors.As(err, &conflict):
			return nil, err
		case conflict.Size > c.Size:
			return nil, &AheadError{w.Key.Name(), conflict.Size, c.Size}
		case try == 0:
			old = conflict.Size
			g.remember(w, old)
		}
	}
	return nil, err
}

func (g *Gatherer) size(w *Client) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sizes[w]
}

func (g *Gatherer) remember(w *Client, size int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sizes == nil {
		g.sizes = map[*Client]int64{}
	}
	g.sizes[w] = size
}
