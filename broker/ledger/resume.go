package ledger

import (
	"encoding/json"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// State is what a verifier knows when all that it has read is under a head that
// counts: enough to go on from there another time. It proves nothing to anybody but
// the one who kept it.
type State struct {
	V    int   `json:"v"`
	Size int64 `json:"size"`
	// Edge are the hashes of the tree's right edge, the largest subtree first.
	Edge     []tlog.Hash `json:"edge"`
	Sequence *Sequence   `json:"sequence"`
	Chain    Chain       `json:"chain"`
}

// state is nil unless all that was read is under a head that counts.
func (f *folding) state() *State {
	if f.tree.Size() == 0 || f.report.Counted.Size != f.tree.Size() {
		return nil
	}
	s := &State{V: 1, Size: f.tree.Size(), Sequence: f.sequence, Chain: f.chain}
	for _, x := range f.tree.edge {
		s.Edge = append(s.Edge, x.hash)
	}
	return s
}

// resume goes on from a state.
func (f *folding) resume(s *State) error {
	if s.V != 1 || s.Size < 1 || s.Sequence == nil {
		return fmt.Errorf("ledger: a verifier's state in format %d, of %d entries: this version reads 1", s.V, s.Size)
	}
	for at, level, i := int64(0), 62, 0; level >= 0; level-- {
		if s.Size&(1<<level) == 0 {
			continue
		}
		if i == len(s.Edge) {
			return fmt.Errorf("ledger: a verifier's state of %d entries with %d hashes", s.Size, len(s.Edge))
		}
		f.tree.edge = append(f.tree.edge, node{level: level, n: at >> level, hash: s.Edge[i]})
		at += 1 << level
		i++
	}
	if len(f.tree.edge) != len(s.Edge) {
		return fmt.Errorf("ledger: a verifier's state of %d entries with %d hashes", s.Size, len(s.Edge))
	}
	// By its text: the one who keeps it goes on to use it.
	b, err := s.Sequence.MarshalJSON()
	if err == nil {
		err = f.sequence.UnmarshalJSON(b)
	}
	if err != nil {
		return err
	}
	f.tree.size, f.chain, f.last = s.Size, s.Chain, s.Size
	f.report.Last = Checkpoint{Origin: f.v.Policy.Origin, Size: s.Size, Root: f.tree.Root()}
	return nil
}

// ParseState reads a state that was kept as JSON.
func ParseState(b []byte) (*State, error) {
	s := &State{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("ledger: a verifier's state: %w", err)
	}
	return s, nil
}
