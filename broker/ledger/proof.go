package ledger

import (
	"errors"
	"iter"

	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker"
)

// ProofFormat is the format of a proof that is written.
const ProofFormat = "datafordeler-proof-1"

// Proof is one line's way to a checkpoint: a few kilobytes with which anybody who
// knows the log's key can check it, and nothing else. Its bytes are those of
// MarshalJSON. Keys are for showing; they prove nothing.
type Proof struct {
	Line       string // a decision, head or control line
	Index      int64  // among the entry's lines
	Lines      int64  // of the entry
	RowsProof  []tlog.Hash
	Entry      string
	EntryIndex int64
	TreeProof  []tlog.Hash
	Checkpoint string   // the signed note
	Keys       []string // verifier keys: of the log, then of witnesses
}

// Checked is what a proof proves.
type Checked struct {
	Checkpoint Checkpoint
	Cosigners  []string
	Entry      Entry
	EntryIndex int64
	Index      int64
	// Decision is set when the line is one, Head when it is a head; neither for
	// a control event.
	Decision *broker.Decision
	Head     *Head
	Line     []byte
}

// BuildProof makes the proof of the line at index of an entry, from all of the
// entry's lines, the outer tree's hashes and a checkpoint that covers it.
func BuildProof(index int64, lines iter.Seq2[[]byte, error], entry []byte, entryIndex int64, tree tlog.HashReader, policy *Policy, checkpoint []byte, keys []string) (*Proof, error) {
	return nil, errors.New("under way")
}

// ParseProof reads a proof's JSON.
func ParseProof(b []byte) (*Proof, error) { return nil, errors.New("under way") }

// Check checks the proof against whom the policy trusts. The errors are faults.
func (p *Proof) Check(policy *Policy) (*Checked, error) { return nil, errors.New("under way") }

// OwnPolicy trusts the keys that the proof itself names: who checks with it
// learns that the proof fits these keys, not whose they are.
func (p *Proof) OwnPolicy() (*Policy, error) { return nil, errors.New("under way") }

// CompareCheckpoints says whether two signed checkpoints can be of one log. Of
// different sizes, proof is tlog.ProveTree's from the smaller to the larger. A
// fault with name CheckpointForked is evidence against the log's operator.
func CompareCheckpoints(policy *Policy, a, b []byte, proof tlog.TreeProof) error {
	return errors.New("under way")
}
