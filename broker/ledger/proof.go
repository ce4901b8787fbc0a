package ledger

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker"
)

// ProofFormat is the format of proofs that are written.
const ProofFormat = "datafordeler-proof-1"

// MaxProof is the largest proof that is read, in bytes: a head or a control event
// may be long; a decision's proof is a few kilobytes.
const MaxProof = 3 * MaxLine

// Proof is one line's way to a checkpoint: with it and the log's key anybody can
// check that the line stands in the ledger, and needs nothing else. Keys are for
// showing; they prove nothing.
type Proof struct {
	Line       string // of a decision, a head or a control event
	Index      int64  // among the entry's lines, from 0
	Lines      int64  // of the entry
	RowsProof  tlog.RecordProof
	Entry      string // its line
	EntryIndex int64  // among the log's entries, from 0
	TreeProof  tlog.RecordProof
	Checkpoint string   // the signed note
	Keys       []string // verifier keys, the log's first, then witnesses'
}

// Checked is what a proof proves.
type Checked struct {
	Line              []byte
	Index, EntryIndex int64
	Entry             Entry
	// One of these is set: Decision, Head, Singles, or Control, the event's JSON.
	Decision *broker.Decision
	Head     *Head
	Singles  *SinglesHead
	Control  []byte

	Checkpoint Checkpoint
	Cosigners  []Cosignature
}

// BuildProof makes the proof of the line at index of the entry at entryIndex, from
// all of the entry's lines, the outer tree's hashes, and a signed checkpoint that
// covers the entry. It checks what it made against the policy; where that needs
// more witnesses than have cosigned, the error is a fault with that name.
func BuildProof(policy *Policy, index int64, lines iter.Seq2[[]byte, error], entry []byte, entryIndex int64, tree tlog.HashReader, checkpoint []byte) (*Proof, error) {
	e, err := ParseEntry(entry)
	if err != nil {
		return nil, err
	}
	if index < 0 || index >= e.Lines {
		return nil, fmt.Errorf("ledger: the entry has no line %d of %d", index, e.Lines)
	}
	p := &Proof{Index: index, Lines: e.Lines, Entry: string(entry), EntryIndex: entryIndex, Checkpoint: string(checkpoint), Keys: []string{}}
	var hashes MemHashes
	rows, _ := NewTree(&hashes, 0)
	for line, err := range lines {
		if err != nil {
			return nil, fmt.Errorf("ledger: reading line %d of entry %d: %w", rows.Size(), entryIndex, err)
		}
		if rows.Size() == e.Lines {
			return nil, fault(RowChanged, "more lines than the entry has").at(entryIndex, e.Lines)
		}
		if rows.Size() == index {
			p.Line = string(line)
		}
		if err := rows.Append(leafHash(line)); err != nil {
			return nil, err
		}
	}
	if rows.Size() != e.Lines || rows.Root() != e.Rows {
		return nil, fault(RowChanged, "the lines are not those of the entry").at(entryIndex, -1)
	}
	if p.RowsProof, err = tlog.ProveRecord(e.Lines, index, &hashes); err != nil {
		return nil, fmt.Errorf("ledger: proving line %d: %w", index, err)
	}
	c, _, err := open(policy, checkpoint)
	if err != nil {
		return nil, err
	}
	if entryIndex >= c.Size {
		return nil, fmt.Errorf("ledger: the checkpoint of %d entries does not cover entry %d: wait for the next one", c.Size, entryIndex)
	}
	if p.TreeProof, err = tlog.ProveRecord(c.Size, entryIndex, tree); err != nil {
		return nil, fmt.Errorf("ledger: proving entry %d of %d: %w", entryIndex, c.Size, err)
	}
	for _, v := range append([]note.Verifier{policy.Log}, policy.Witnesses...) {
		if k, ok := v.(*key); ok {
			p.Keys = append(p.Keys, k.vkey())
		}
	}
	if _, err := p.Check(policy); err != nil {
		return nil, err
	}
	return p, nil
}

// proofJSON is a proof as it is written, in this order.
type proofJSON struct {
	Format     string   `json:"format"`
	Line       string   `json:"line"`
	Index      int64    `json:"index"`
	Lines      int64    `json:"lines"`
	RowsProof  []string `json:"rowsProof"`
	Entry      string   `json:"entry"`
	EntryIndex int64    `json:"entryIndex"`
	TreeProof  []string `json:"treeProof"`
	Checkpoint string   `json:"checkpoint"`
	Keys       []string `json:"keys"`
}

// Append appends the proof's JSON, a line for each member, and a line break.
func (p *Proof) Append(dst []byte) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(proofJSON{ProofFormat, p.Line, p.Index, p.Lines, hexes(p.RowsProof), p.Entry, p.EntryIndex, hexes(p.TreeProof), p.Checkpoint, p.Keys})
	return append(dst, b.Bytes()...), err
}

func hexes(hs []tlog.Hash) []string {
	out := make([]string, 0, len(hs))
	for _, h := range hs {
		out = append(out, hex.EncodeToString(h[:]))
	}
	return out
}

// ParseProof reads a proof's JSON. It proves nothing yet: Check does.
func ParseProof(b []byte) (*Proof, error) {
	if len(b) > MaxProof {
		return nil, fault(UnknownFormat, "a proof of %d bytes; the largest that is read has %d", len(b), MaxProof)
	}
	var x proofJSON
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(&x)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows it")
		}
	}
	switch {
	case x.Format != "" && x.Format != ProofFormat:
		return nil, fault(UnknownFormat, "a proof in format %q: this version reads %s", x.Format, ProofFormat)
	case err != nil:
		return nil, fault(UnknownFormat, "not a proof: %w", err)
	case x.Format == "":
		return nil, fault(UnknownFormat, "not a proof: it names no format")
	}
	p := &Proof{Line: x.Line, Index: x.Index, Lines: x.Lines, Entry: x.Entry, EntryIndex: x.EntryIndex, Checkpoint: x.Checkpoint, Keys: x.Keys}
	if p.RowsProof, err = parseHexes(x.RowsProof); err == nil {
		p.TreeProof, err = parseHexes(x.TreeProof)
	}
	if err != nil {
		return nil, fault(UnknownFormat, "not a proof: %w", err)
	}
	return p, nil
}

func parseHexes(texts []string) ([]tlog.Hash, error) {
	if len(texts) > 63 {
		return nil, fmt.Errorf("%d hashes, of which there are at most 63", len(texts))
	}
	out := make([]tlog.Hash, len(texts))
	for i, t := range texts {
		c := cursor{b: []byte(`"` + t + `"`)}
		out[i] = c.hash()
		if c.end(); c.bad {
			return nil, fmt.Errorf("hash %d is not 64 hexadecimal digits", i)
		}
	}
	return out, nil
}

// Check checks the proof against whom the policy trusts, and returns what it
// proves. The errors are faults.
func (p *Proof) Check(policy *Policy) (*Checked, error) {
	c, cosigners, err := open(policy, []byte(p.Checkpoint))
	if err != nil {
		return nil, placed(err, -1, -1)
	}
	if len(cosigners) < policy.Need {
		return nil, fault(TooFewWitnesses, "%d of %d witnesses that are needed have cosigned the checkpoint", len(cosigners), policy.Need)
	}
	if tlog.CheckRecord(p.TreeProof, c.Size, c.Root, p.EntryIndex, leafHash([]byte(p.Entry))) != nil {
		return nil, fault(WrongRoot, "the entry does not stand there under the checkpoint").at(p.EntryIndex, -1)
	}
	e, err := ParseEntry([]byte(p.Entry))
	if err != nil {
		return nil, placed(err, p.EntryIndex, -1)
	}
	line := []byte(p.Line)
	if p.Lines != e.Lines || tlog.CheckRecord(p.RowsProof, e.Lines, e.Rows, p.Index, leafHash(line)) != nil {
		return nil, fault(RowChanged, "the line does not stand there in the entry").at(p.EntryIndex, p.Index)
	}
	out := &Checked{Line: line, Index: p.Index, EntryIndex: p.EntryIndex, Entry: e, Checkpoint: c, Cosigners: cosigners}
	if err := out.read(); err != nil {
		return nil, placed(err, p.EntryIndex, p.Index)
	}
	return out, nil
}

// read reads the line as what it must be.
func (x *Checked) read() error {
	e := &x.Entry
	switch {
	case e.Type == ControlEntry:
		value, err := controlValue(x.Line)
		x.Control = value
		return err
	case x.Index == 0 && e.Type == SinglesEntry:
		h, err := ParseSinglesHead(x.Line)
		if err != nil {
			return err
		}
		x.Singles = &h
		return e.fitsSingles(&h)
	case x.Index == 0:
		h, err := ParseHead(x.Line)
		if err != nil {
			return err
		}
		x.Head = &h
		return e.fits(&h)
	}
	d, err := ParseDecision(x.Line)
	if err != nil {
		return err
	}
	x.Decision = &d
	b := &e.Batch
	p := &d.Position
	if d.Kind.String() != b.Kind || d.Revision != e.Revision || d.PolicyDigest != b.Policy || !d.Time.Equal(b.Time) ||
		e.Type == BatchEntry && (p.Dataset != b.Dataset || p.TopicID != b.TopicID || p.Partition != b.Partition || p.Offset < b.First || p.Offset > b.Last) {
		return &rowError{"the decision is of another batch than its entry"}
	}
	return nil
}

// OwnPolicy trusts the keys that the proof itself names, and needs no witness.
// Who checks with it learns that the proof fits these keys; not whose they are.
func (p *Proof) OwnPolicy() (*Policy, error) { return OwnPolicy([]byte(p.Checkpoint), p.Keys) }

// OwnPolicy is the policy of a checkpoint's own origin and of keys that came with
// it, the log's first. See Proof.OwnPolicy for what that is worth.
func OwnPolicy(checkpoint []byte, keys []string) (*Policy, error) {
	text, _, _ := bytes.Cut(checkpoint, sigSplit)
	c, err := ParseCheckpoint(string(text) + "\n")
	if err != nil {
		return nil, fault(UnknownFormat, "%w", err)
	}
	return NewPolicy(c.Origin, keys, 0)
}

// NewPolicy trusts keys by their text: the log's first, then witnesses', need of
// whom must have cosigned.
func NewPolicy(origin string, keys []string, need int) (*Policy, error) {
	policy := &Policy{Origin: origin, Need: need}
	for i, k := range keys {
		v, err := ParseVerifier(k)
		if err != nil {
			return nil, fault(UnknownFormat, "key %d: %w", i, err)
		}
		if i == 0 {
			policy.Log = v
		} else {
			policy.Witnesses = append(policy.Witnesses, v)
		}
	}
	if err := policy.Check(); err != nil {
		return nil, fault(UnknownFormat, "%w", err)
	}
	return policy, nil
}

// CompareCheckpoints says whether two signed checkpoints can be of one log: so do
// two verifiers find out whether they were shown the same. Where the sizes differ,
// proof is what tlog.ProveTree gives, from the smaller to the larger.
//
// A fault with name CheckpointForked over two checkpoints of one size is evidence
// against the log's operator by itself. Over two sizes it says that the proof does
// not hold; then ask for another one, or compare with Verifier.Known.
func CompareCheckpoints(policy *Policy, a, b []byte, proof tlog.TreeProof) error {
	var c [2]Checkpoint
	for i, msg := range [][]byte{a, b} {
		var err error
		if c[i], _, err = open(policy, msg); err != nil {
			err = placed(err, -1, -1)
			if x, ok := errors.AsType[*Fault](err); ok {
				x.Checkpoint = int64(i)
			}
			return err
		}
	}
	slices.SortFunc(c[:], func(x, y Checkpoint) int { return int(min(1, max(-1, x.Size-y.Size))) })
	older, newer := c[0], c[1]
	switch {
	case older.Size == newer.Size && older.Root != newer.Root:
		return fault(CheckpointForked, "two signed checkpoints of %d entries have different roots", older.Size)
	case older.Size == newer.Size || older.Size == 0:
		return nil
	case tlog.CheckTree(proof, newer.Size, newer.Root, older.Size, older.Root) != nil:
		return fault(CheckpointForked, "the log of %d entries is not proved to begin with that of %d", newer.Size, older.Size)
	}
	return nil
}
