package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"datafordeler/broker/ledger"
	"datafordeler/broker/ledger/remote"
)

// remoteFlags are for a ledger that is read over HTTP.
type remoteFlags struct{ token, state string }

// remoteLedger is a running broker's ledger, up to the newest head that it showed.
type remoteLedger struct {
	src    ledger.Source
	close  func()
	policy *ledger.Policy
	known  [][]byte // the head that it showed now, and the one that was kept
	from   *ledger.State
	size   int64
	file   string
	head   []byte
}

// keptState is what --state keeps of a ledger between two runs.
type keptState struct {
	V      int           `json:"v"`
	Origin string        `json:"origin"`
	Key    string        `json:"key"`
	Head   string        `json:"head"` // signed; it proves to others what the broker showed
	State  *ledger.State `json:"state"`
}

func (f *remoteFlags) open(ctx context.Context, address string, trust *trustFlags) (*remoteLedger, error) {
	if trust.key == "" {
		return nil, usagef("--key is missing: over HTTP nothing else says whose ledger it is. The operator gives the key out by another way")
	}
	var token func() (string, error)
	if f.token != "" {
		token = func() (string, error) {
			b, err := os.ReadFile(f.token)
			if err != nil {
				return "", usagef("--token-file: %w", err)
			}
			return strings.TrimSpace(string(b)), nil
		}
	}
	client, err := remote.New(address, token)
	if err != nil {
		return nil, usageError{err}
	}
	r := &remoteLedger{file: f.state, close: func() {}}
	if r.policy, _, err = trust.policy("", nil, 0, false); err != nil {
		return nil, err
	}
	kept, err := r.kept()
	if err != nil {
		return nil, err
	}
	if r.head, err = client.Head(ctx); err != nil {
		return nil, err
	}
	if r.head == nil {
		if kept != nil {
			return nil, rolledBack(kept.State.Size, 0)
		}
		return nil, ledger.NewFault(ledger.NoCheckpoint, "nothing is signed yet, so nothing is proved")
	}
	r.known = append(r.known, r.head)
	c, _, err := r.policy.Open(r.head)
	if err != nil { // the verifier names what is wrong with it, before it reads
		r.src = ledger.NewStream(bytes.NewReader(nil), bytes.NewReader(nil))
		return r, nil
	}
	from := int64(0)
	if kept != nil {
		if from = kept.State.Size; c.Size < from {
			return nil, rolledBack(from, c.Size)
		}
		r.from, r.known = kept.State, append(r.known, []byte(kept.Head))
	}
	src, err := client.Source(ctx, from, c.Size)
	if err != nil {
		return nil, err
	}
	r.src, r.close, r.size = src, src.Close, c.Size
	return r, nil
}

func rolledBack(before, now int64) error {
	return ledger.NewFault(ledger.CheckpointRolledBack, "the broker showed a signed head of %d entries before, and its newest covers %d", before, now)
}

// kept is what an earlier run kept; nil where there was none.
func (r *remoteLedger) kept() (*keptState, error) {
	if r.file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(r.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	k := &keptState{}
	if err == nil {
		err = json.Unmarshal(b, k)
	}
	switch {
	case err != nil:
		return nil, usagef("--state %s: %w", r.file, err)
	case k.V != 1 || k.State == nil:
		return nil, usagef("--state %s: not a state that this version reads; verify from the beginning with another file", r.file)
	case k.Origin != r.policy.Origin || k.Key != vkeyOf(r.policy):
		return nil, usagef("--state %s: it is of the ledger %s, signed by %s; that is another one", r.file, k.Origin, k.Key)
	}
	return k, nil
}

// keep keeps what was verified, for the next run.
func (r *remoteLedger) keep(report *ledger.Report) error {
	if r.file == "" || report.State == nil {
		return nil
	}
	b, err := json.Marshal(keptState{1, r.policy.Origin, vkeyOf(r.policy), string(r.head), report.State})
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(r.file), filepath.Base(r.file)+".*")
	if err != nil {
		return fmt.Errorf("--state: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), r.file)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("--state: %w", err)
	}
	return nil
}

// begin is how many entries were verified before.
func (r *remoteLedger) begin() int64 {
	if r.from == nil {
		return 0
	}
	return r.from.Size
}

// share is how far one is of the other, with a bar.
func share(done, of int64) string {
	const wide = 24
	n := int64(wide)
	if of > 0 {
		n = min(done*wide/of, wide)
	}
	return fmt.Sprintf("[%s%s] %s of %s entries", strings.Repeat("█", int(n)), strings.Repeat("·", int(wide-n)), thousands(done), thousands(of))
}
