package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func each(lines [][]byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, line := range lines {
			if !yield(line, nil) {
				return
			}
		}
	}
}

// prove builds the proof of a line of an entry under the log's last checkpoint.
func (l *testLog) prove(entry, line int) *Proof {
	x := l.items[entry]
	return must(BuildProof(l.policy, int64(line), each(x.lines), x.entry, int64(entry), &l.hashes, l.notes[len(l.notes)-1]))
}

// Each line of a log has a proof, which shows what the line says, and which stands
// on its own.
func TestEveryLineIsProved(t *testing.T) {
	l := newLog(t, 11, 1)
	l.grow(25)
	for i, x := range l.items {
		e := must(ParseEntry(x.entry))
		for j, line := range x.lines {
			text := must(l.prove(i, j).Append(nil))
			p := must(ParseProof(text))
			c, err := p.Check(l.policy)
			if err != nil {
				t.Fatalf("entry %d, line %d: %v", i, j, err)
			}
			if !bytes.Equal(c.Line, line) || !reflect.DeepEqual(c.Entry, e) || c.EntryIndex != int64(i) || c.Index != int64(j) || c.Checkpoint.Size != l.tree.Size() || len(c.Cosigners) != 1 {
				t.Fatalf("entry %d, line %d: %+v", i, j, c)
			}
			switch {
			case e.Type == ControlEntry && !bytes.Equal(c.Control, line),
				e.Type == SinglesEntry && j == 0 && (c.Singles == nil || !bytes.Equal(AppendSinglesHead(nil, c.Singles), line)),
				e.Type == BatchEntry && j == 0 && (c.Head == nil || !bytes.Equal(AppendHead(nil, c.Head), line)),
				e.Type != ControlEntry && j > 0 && (c.Decision == nil || !bytes.Equal(AppendDecision(nil, c.Decision), line)):
				t.Fatalf("entry %d, line %d is shown as %+v", i, j, c)
			}
			own := must(p.OwnPolicy())
			if _, err := p.Check(own); err != nil || own.Origin != l.policy.Origin || len(own.Witnesses) != 1 {
				t.Fatalf("by its own keys: %v", err)
			}
			if len(text) > 6000 {
				t.Errorf("a proof of %d bytes", len(text))
			}
		}
	}
}

// Whatever byte of a proof is changed: it fails, or shows the same.
func TestChangedProof(t *testing.T) {
	l := newLog(t, 12, 1)
	l.grow(25)
	at := len(l.items) - 1
	for len(l.items[at].lines) < 4 {
		at--
	}
	text := must(l.prove(at, 2).Append(nil))
	want := must(must(ParseProof(text)).Check(l.policy))
	check := func(changed []byte) error {
		p, err := ParseProof(changed)
		if err != nil {
			return err
		}
		got, err := p.Check(l.policy)
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("another thing is proved: %+v\n%s", got, changed)
		}
		return err
	}
	passed := 0
	for i := range text {
		for _, by := range []byte{1, 2, 0x20, 0x80} {
			changed := bytes.Clone(text)
			changed[i] ^= by
			err := check(changed)
			if err == nil {
				passed++
			} else if NameOf(err) == "" {
				t.Fatalf("byte %d: %v has no name", i, err)
			}
		}
	}
	if keys := len(strings.Join(l.prove(at, 2).Keys, "")); passed > 4*(keys+60) {
		t.Errorf("%d changes of bytes were passed over", passed)
	}
	rapid.Check(t, func(rt *rapid.T) {
		changed := bytes.Clone(text)
		for range rapid.IntRange(1, 4).Draw(rt, "n") {
			i := rapid.IntRange(0, len(changed)-1).Draw(rt, "at")
			changed[i] = rapid.Byte().Draw(rt, "byte")
		}
		check(changed)
	})
}

// A proof of one thing passed off as one of another.
func TestForgedProofs(t *testing.T) {
	l := newLog(t, 13, 2)
	l.grow(40)
	var batches []int
	for i, x := range l.items {
		if len(x.lines) > 4 && bytes.Contains(x.entry, []byte(`"batch"`)) {
			batches = append(batches, i)
		}
	}
	a, b := l.prove(batches[0], 2), l.prove(batches[1], 3)
	for _, c := range []struct {
		name string
		do   func(p *Proof)
		want FaultName
	}{
		{"another line", func(p *Proof) { p.Line = b.Line }, RowChanged},
		{"another index", func(p *Proof) { p.Index++ }, RowChanged},
		{"an index below 0", func(p *Proof) { p.Index = -1 }, RowChanged},
		{"more lines", func(p *Proof) { p.Lines++ }, RowChanged},
		{"another entry", func(p *Proof) { p.Entry = b.Entry }, WrongRoot},
		{"another entry and its place", func(p *Proof) { p.Entry, p.EntryIndex, p.TreeProof = b.Entry, b.EntryIndex, b.TreeProof }, RowChanged},
		{"another place", func(p *Proof) { p.EntryIndex++ }, WrongRoot},
		{"a place beyond the checkpoint", func(p *Proof) { p.EntryIndex += 1000 }, WrongRoot},
		{"a hash less", func(p *Proof) { p.TreeProof = p.TreeProof[1:] }, WrongRoot},
		{"an older checkpoint", func(p *Proof) { p.Checkpoint = string(l.notes[0]) }, WrongRoot},
		{"a checkpoint with too few cosignatures", func(p *Proof) {
			p.Checkpoint = string(l.note(mustOpen(l, len(l.notes)-1), 1))
		}, TooFewWitnesses},
		{"an entry for a line", func(p *Proof) { p.Line = p.Entry }, RowChanged},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := *a
			c.do(&p)
			if _, err := p.Check(l.policy); NameOf(err) != c.want {
				t.Errorf("found %v, want %s", err, c.want)
			}
		})
	}
	// The log itself signs a line that is not what its entry says.
	x := l.items[batches[0]].clone()
	x.lines[1] = bytes.Replace(x.lines[1], []byte(`"sha256:aa"`), []byte(`"sha256:ab"`), 1)
	x.reroot(nil)
	liar := newLog(t, 1, 0)
	liar.policy, liar.signer, liar.witness = l.policy, l.signer, l.witness
	if err := liar.tree.Append(leafHash(x.entry)); err != nil {
		t.Fatal(err)
	}
	liar.items = []item{x}
	liar.sign(2)
	if _, err := BuildProof(l.policy, 1, each(x.lines), x.entry, 0, &liar.hashes, liar.notes[0]); NameOf(err) != RowChanged {
		t.Errorf("a signed contradiction: %v", err)
	}
	// And who builds a proof of what is not there is told so.
	good := l.items[batches[0]]
	last := l.notes[len(l.notes)-1]
	for name, err := range map[string]error{
		"no such line":         build(l, 99, good.lines, good.entry, batches[0], last),
		"lines missing":        build(l, 1, good.lines[:3], good.entry, batches[0], last),
		"too many lines":       build(l, 1, append(good.lines[:len(good.lines):len(good.lines)], good.lines[0]), good.entry, batches[0], last),
		"not yet signed":       build(l, 1, good.lines, good.entry, len(l.items)+5, last),
		"no checkpoint at all": build(l, 1, good.lines, good.entry, batches[0], []byte("hello")),
	} {
		if err == nil {
			t.Errorf("%s: a proof was built", name)
		}
	}
	broken := errors.New("broken")
	if _, err := BuildProof(l.policy, 1, func(yield func([]byte, error) bool) { yield(nil, broken) }, good.entry, 0, &l.hashes, last); !errors.Is(err, broken) {
		t.Errorf("lines that cannot be read: %v", err)
	}
}

func build(l *testLog, line int64, lines [][]byte, entry []byte, at int, note []byte) error {
	_, err := BuildProof(l.policy, line, each(lines), entry, int64(at), &l.hashes, note)
	return err
}

func TestProofFormat(t *testing.T) {
	l := newLog(t, 14, 1)
	l.grow(5)
	text := must(l.prove(0, 0).Append(nil))
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil || len(members) != 10 || !bytes.HasPrefix(text, []byte("{\n  \"format\": \"datafordeler-proof-1\",\n  \"line\": ")) {
		t.Errorf("%v\n%s", err, text)
	}
	for _, bad := range []string{"", "{}", "[]", string(text) + "{}", strings.Replace(string(text), "proof-1", "proof-2", 1), strings.Replace(string(text), `"index"`, `"more"`, 1)} {
		if _, err := ParseProof([]byte(bad)); NameOf(err) != UnknownFormat {
			t.Errorf("%.60q: %v", bad, err)
		}
	}
}
