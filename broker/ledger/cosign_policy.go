package ledger

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Policy says whose signatures make a checkpoint believed: the log's, under its
// origin, and those of Need witnesses out of Witnesses.
type Policy struct {
	Origin    string
	Log       note.Verifier
	Witnesses []note.Verifier
	// Need is how many witnesses must have cosigned. They are told apart by name,
	// so a witness that is changing its key, and has two, counts once.
	Need int
}

// Cosignature says that a witness of the policy had seen, at that time, no larger
// tree of this log, and none that this one does not continue.
type Cosignature struct {
	Name string
	// Time has whole seconds. Whether it is too old, or in the future, is for
	// the caller to judge: this package has no clock.
	Time time.Time
}

// TooFewError is a checkpoint that its log signed and too few witnesses did.
type TooFewError struct {
	Origin     string
	Size       int64
	Have, Need int
}

func (e *TooFewError) Error() string {
	return fmt.Sprintf("checkpoint %d of %s: cosigned by %d of the %d witnesses that the policy requires", e.Size, e.Origin, e.Have, e.Need)
}

// Check says what keeps p from being a policy. The message that a cosignature
// signs does not hold the witness's name, so one key under two names would let
// one witness count as two: it is refused.
func (p *Policy) Check() error {
	if p.Origin == "" || p.Log == nil {
		return errors.New("policy: the log's origin and key are not set")
	}
	names := map[string]bool{}
	all := append([]note.Verifier{p.Log}, p.Witnesses...)
	for i, v := range all {
		if v == nil {
			return fmt.Errorf("policy of %s: witness %d has no key", p.Origin, i)
		}
		if i > 0 {
			names[v.Name()] = true
			if k := KindOf(v); k != WitnessKey {
				return fmt.Errorf("policy of %s: %s is not a witness's key (0x%02x) but of kind 0x%02x", p.Origin, v.Name(), byte(WitnessKey), byte(k))
			}
		}
		for _, w := range all[:i] {
			a, ok1 := v.(*key)
			b, ok2 := w.(*key)
			switch {
			case v.Name() == w.Name() && v.KeyHash() == w.KeyHash():
				return fmt.Errorf("policy of %s: the key %s+%08x stands twice", p.Origin, v.Name(), v.KeyHash())
			case ok1 && ok2 && bytes.Equal(a.public, b.public):
				return fmt.Errorf("policy of %s: %s and %s have the same key", p.Origin, w.Name(), v.Name())
			}
		}
	}
	if p.Need < 0 || p.Need > len(names) {
		return fmt.Errorf("policy of %s: %d witnesses are required and %d are named", p.Origin, p.Need, len(names))
	}
	return nil
}

// Open reads a checkpoint that the log signed under its origin, and who of the
// policy's witnesses cosigned it, each once, in the order of their lines, the
// latest time of each. Signatures by unknown keys are ignored; one that fails
// under a known key refuses the whole note.
//
// It does not hold the checkpoint to Need: [Policy.OpenWitnessed] does.
func (p *Policy) Open(msg []byte) (c Checkpoint, cosigners []Cosignature, err error) {
	c, _, cosigners, err = p.open(msg)
	return c, cosigners, err
}

// OpenWitnessed is Open, and a *TooFewError where less than Need witnesses
// cosigned. It is what to believe a checkpoint by.
func (p *Policy) OpenWitnessed(msg []byte) (c Checkpoint, cosigners []Cosignature, err error) {
	c, cosigners, err = p.Open(msg)
	if err == nil && len(cosigners) < p.Need {
		return Checkpoint{}, nil, &TooFewError{c.Origin, c.Size, len(cosigners), p.Need}
	}
	return c, cosigners, err
}

func (p *Policy) open(msg []byte) (c Checkpoint, have []signature, cosigners []Cosignature, err error) {
	if err := p.Check(); err != nil {
		return Checkpoint{}, nil, nil, err
	}
	text, have, err := openAll(msg, append([]note.Verifier{p.Log}, p.Witnesses...))
	if err != nil {
		return Checkpoint{}, nil, nil, fmt.Errorf("checkpoint of %s: %w", p.Origin, err)
	}
	if c, err = ParseCheckpoint(text); err != nil {
		return Checkpoint{}, nil, nil, err
	}
	if c.Origin != p.Origin {
		return Checkpoint{}, nil, nil, fmt.Errorf("checkpoint of %q where one of %q is expected", c.Origin, p.Origin)
	}
	if err := c.Check(); err != nil {
		return Checkpoint{}, nil, nil, err
	}
	logged := false
	for _, s := range have {
		if s.by == p.Log {
			logged = true
			continue
		}
		at, err := CosignatureTime(s.Signature)
		if err != nil {
			return Checkpoint{}, nil, nil, fmt.Errorf("checkpoint %d of %s: %w", c.Size, c.Origin, err)
		}
		if i := slices.IndexFunc(cosigners, func(o Cosignature) bool { return o.Name == s.Name }); i < 0 {
			cosigners = append(cosigners, Cosignature{s.Name, at})
		} else if at.After(cosigners[i].Time) {
			cosigners[i].Time = at
		}
	}
	if !logged {
		return Checkpoint{}, nil, nil, fmt.Errorf("checkpoint %d of %s: not signed by the log's key %s+%08x", c.Size, c.Origin, p.Log.Name(), p.Log.KeyHash())
	}
	return c, have, cosigners, nil
}

// Merge adds the witnesses' signature lines to a checkpoint that the log signed.
// What is of unknown keys, or there already by the same key, is left out; a line
// of a known witness that does not verify, or is no signature line, is an error.
func (p *Policy) Merge(checkpoint []byte, cosignatureLines ...[]byte) ([]byte, error) {
	_, have, _, err := p.open(checkpoint)
	if err != nil {
		return nil, err
	}
	merged := slices.Clone(checkpoint)
	for _, lines := range cosignatureLines {
		added, err := p.added(checkpoint, lines)
		if err != nil {
			return nil, err
		}
		for _, s := range added {
			if !slices.ContainsFunc(have, func(o signature) bool { return o.by == s.by }) {
				have = append(have, s)
				merged = append(merged, s.line()...)
			}
		}
	}
	if _, _, err := p.Open(merged); err != nil { // too many lines, say
		return nil, fmt.Errorf("merge: %w", err)
	}
	return merged, nil
}

// Cosigned reads a witness's answer: signature lines over the text of the
// checkpoint that was sent to it. It returns the lines of v, verified, and an
// error when there is none.
func Cosigned(checkpoint, lines []byte, v note.Verifier) ([]byte, error) {
	one := Policy{Witnesses: []note.Verifier{v}}
	added, err := one.added(checkpoint, lines)
	if err != nil {
		return nil, err
	}
	if len(added) == 0 {
		return nil, fmt.Errorf("no signature by %s+%08x", v.Name(), v.KeyHash())
	}
	return []byte(added[0].line()), nil
}

// added are the verified signatures of p's witnesses among lines.
func (p *Policy) added(checkpoint, lines []byte) ([]signature, error) {
	split := bytes.LastIndex(checkpoint, sigSplit)
	if split < 0 || !bytes.HasPrefix(lines, []byte(sigPrefix)) || bytes.Contains(lines, sigSplit) {
		return nil, errors.New("cosignatures: not signature lines of a note")
	}
	_, have, err := openAll(slices.Concat(checkpoint[:split+2], lines), p.Witnesses)
	var none *note.UnverifiedNoteError
	if errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cosignatures: %w", err)
	}
	return have, nil
}

// signature is one that was verified, and by whose key.
type signature struct {
	note.Signature
	by note.Verifier
}

func (s signature) line() string { return sigPrefix + s.Name + " " + s.Base64 + "\n" }

const sigPrefix = "— "

var sigSplit = []byte("\n\n")

// OpenNote reads a signed note and gives its text and the verified signatures,
// in the order of their lines, of the known keys. A *note.InvalidSignatureError
// is a line of a known key that fails; a *note.UnverifiedNoteError is a note
// without any line of a known key; other errors are no note at all.
func OpenNote(msg []byte, known ...note.Verifier) (text string, by []note.Signature, err error) {
	text, have, err := openAll(msg, known)
	for _, s := range have {
		by = append(by, s.Signature)
	}
	return text, by, err
}

// openAll is OpenNote. note.Open passes over a second line of the same key
// unread; the format wants it verified.
func openAll(msg []byte, known []note.Verifier) (text string, have []signature, err error) {
	n, err := note.Open(msg, note.VerifierList(known...))
	if err != nil {
		return "", nil, err
	}
	for line := range strings.Lines(string(msg[len(n.Text)+1:])) {
		name, b64, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, sigPrefix), "\n"), " ")
		b, err := base64.StdEncoding.DecodeString(b64)
		if err != nil || len(b) < 4 {
			return "", nil, fmt.Errorf("signature of %s: malformed", name) // note.Open has read it
		}
		hash := binary.BigEndian.Uint32(b)
		i := slices.IndexFunc(known, func(v note.Verifier) bool { return v.Name() == name && v.KeyHash() == hash })
		if i < 0 {
			continue
		}
		again := slices.ContainsFunc(have, func(o signature) bool { return o.by == known[i] })
		if again && !known[i].Verify([]byte(n.Text), b[4:]) {
			return "", nil, &note.InvalidSignatureError{Name: name, Hash: hash}
		}
		have = append(have, signature{note.Signature{Name: name, Hash: hash, Base64: b64}, known[i]})
	}
	return n.Text, have, nil
}
