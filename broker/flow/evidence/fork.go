package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"datafordeler/broker/keys"
	"datafordeler/broker/ledger"
	"datafordeler/broker/ledger/witness"
)

// ForkError is a head that a witness holds, signed with this ledger's key, and
// that the ledger which stands here does not continue. The log's own signature
// proves it, so no witness can make it up.
type ForkError struct {
	Witness string
	Signed  int64 // entries under the witness's head
	Have    int64 // entries that stood here
	File    string
}

func (e *ForkError) Error() string {
	return fmt.Sprintf("witness %s holds a head over %d entries that was signed with this ledger's key, and the ledger that stands here, with %d, does not continue it: "+
		"its data were set back or replaced, or the key signs two ledgers. The proof stands in %s. Nothing is signed and deliveries are held. "+
		"Restore the newer data, and see that nobody else signs with the key; then move that file away and keep it. If the newer data are lost, "+
		"begin another ledger: move the ledger's key and all files that begin with its name away, and tell those who check", e.Witness, e.Signed, e.Have, e.File)
}

// fork is the proof as it is kept beside the key.
type fork struct {
	V       int       `json:"v"`
	At      time.Time `json:"at"`
	Witness string    `json:"witness"`
	Signed  int64     `json:"signed"`
	Have    int64     `json:"have"`
	Root    string    `json:"root"` // of the ledger that stood here
	Note    string    `json:"note"` // the witness's head, with its signatures
}

// forked is the *ForkError that was found before, or nil. It stays until a person
// moves the file away. A file that cannot be read is an error too.
func (k *Key) forked() error {
	b, err := k.fork.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var f fork
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		return &ForkError{Witness: "(which one cannot be read: " + err.Error() + ")", File: k.fork.String()}
	}
	return &ForkError{f.Witness, f.Signed, f.Have, k.fork.String()}
}

// keepFork writes the proof down, once: the first is the one to look into.
func (k *Key) keepFork(f fork) error {
	b, err := json.MarshalIndent(f, "", " ")
	if err == nil {
		err = k.fork.Create(append(b, '\n'))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("noting that a witness holds another history (%s): %w", k.fork, err)
	}
	return nil
}

// remembered is the head that a witness holds.
type remembered struct {
	ledger.Checkpoint
	witness string
	note    []byte
}

// rememberedBy asks witnesses for the last head that each cosigned, all at once.
// What is not signed with this ledger's key is nobody's. answered counts those
// that answered, be it that they know of none.
func (s *Sequencer) rememberedBy(ctx context.Context, clients []*witness.Client) (heads []remembered, answered int) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, w := range clients {
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, s.cfg.Patience)
			defer cancel()
			note, err := w.Head(ctx, s.key.origin)
			var c ledger.Checkpoint
			if err == nil && note != nil {
				c, _, err = s.ledger.policy.Open(note)
			}
			if err != nil {
				if ctx.Err() == nil {
					s.log.Warn("a witness does not tell the last head that it cosigned", "witness", w.Key.Name(), "err", err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			answered++
			if note != nil {
				heads = append(heads, remembered{c, w.Key.Name(), note})
			}
		})
	}
	wait.Wait()
	slices.SortFunc(heads, func(a, b remembered) int { return int(min(1, max(-1, b.Size-a.Size))) })
	return heads, answered
}

// askWitnesses asks for the heads to which this leadership is held. Of so many
// witnesses an answer is needed that a head which counted is known to one of them:
// else a ledger that was set back might be signed before anybody notices.
func (s *Sequencer) askWitnesses(ctx context.Context) ([]remembered, error) {
	if s.gather == nil {
		return nil, nil
	}
	heads, answered := s.rememberedBy(ctx, s.gather.Witnesses)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if want := min(s.cfg.Need, len(s.gather.Witnesses)-s.cfg.Need+1); answered < want {
		return nil, fmt.Errorf("before the first head is signed, %d witnesses must say which they cosigned last, and %d did: "+
			"see that they run and can be reached", want, answered)
	}
	return heads, nil
}

// continues holds the ledger as folded to what witnesses remember. Sure is that
// all was read that was committed before they were asked: then a larger head than
// the ledger is proof as well, since only what was committed is ever signed. What
// looks like a fork is believed when the ledger, read once more, still shows it.
func (s *Sequencer) continues(ctx context.Context, heads []remembered, sure bool) error {
	forked, _, err := s.contradicted(heads, sure)
	if forked == nil {
		return err
	}
	seeming := &ForkError{forked.witness, forked.Size, s.ledger.Size(), s.key.fork.String()}
	if err := s.ledger.reread(ctx, fmt.Errorf("before this is believed: %w", seeming)); err != nil {
		return err
	}
	forked, have, err := s.contradicted(heads, sure)
	if forked == nil {
		return err
	}
	err = s.key.keepFork(fork{V: 1, At: s.ledger.now().UTC(), Witness: forked.witness, Signed: forked.Size, Have: have.Size, Root: have.Root.String(), Note: string(forked.note)})
	return errors.Join(&ForkError{forked.witness, forked.Size, have.Size, s.key.fork.String()}, err)
}

// contradicted finds a remembered head that the ledger as folded does not
// continue, or nil; have is the tree that it was held to.
func (s *Sequencer) contradicted(heads []remembered, sure bool) (forked *remembered, have ledger.Checkpoint, err error) {
	l := s.ledger
	l.mu.RLock()
	defer l.mu.RUnlock()
	have = ledger.Checkpoint{Size: l.fold.tree.Size(), Root: l.fold.tree.Root()}
	if l.doubt != nil {
		return nil, have, nil // nothing is proved by what may have been read wrongly, and nothing is signed
	}
	for i := range heads {
		h := &heads[i]
		if h.Size > have.Size && !sure {
			return nil, have, fmt.Errorf("witness %s has cosigned %d entries, and %d are read here: another instance may be ahead", h.witness, h.Size, have.Size)
		}
		if h.Size <= have.Size {
			root, err := l.fold.rootAt(h.Size)
			if err != nil {
				return nil, have, err
			}
			if root == h.Root {
				continue
			}
		}
		return h, have, nil
	}
	return nil, have, nil
}

// suspect looks into why witnesses would not cosign: one that holds another
// history shows it.
func (s *Sequencer) suspect(ctx context.Context, outcomes []witness.Outcome) error {
	var clients []*witness.Client
	for i, o := range outcomes {
		var ahead *witness.AheadError
		var refused *witness.RefusedError
		if errors.As(o.Err, &ahead) || errors.As(o.Err, &refused) && (refused.Status == 409 || refused.Status == 422) {
			clients = append(clients, s.gather.Witnesses[i])
		}
	}
	if len(clients) == 0 {
		return nil
	}
	heads, _ := s.rememberedBy(ctx, clients)
	return s.continues(ctx, heads, false)
}

// forkFile is where the proof of a fork stands.
func forkFile(key string) keys.File { return keys.File(key + ".fork") }
