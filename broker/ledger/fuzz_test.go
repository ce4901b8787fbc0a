package ledger

import (
	"bytes"
	"encoding/json"
	"testing"

	"datafordeler/broker"
)

// Whatever a parser takes is written back as the same bytes, and is JSON.
func FuzzLines(f *testing.F) {
	lines, entries := golden()
	singles, more := goldenSingles()
	lines, entries = append(lines, singles...), append(entries, more...)
	for i := range entries {
		lines = append(lines, AppendEntry(nil, &entries[i]))
	}
	for _, line := range lines {
		f.Add(line)
	}
	f.Add([]byte(`{"v":1,"type":"control","first":0,"last":3,"events":2,"refused":[1],"revision":2,"lines":4,"rows":"552b5170db54fe9988aa1792b7f3a74f93ab2e95c21d29b3d399ad259a4f283c"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		same := func(what string, back []byte, err error) {
			if err != nil {
				if NameOf(err) == "" {
					t.Errorf("%s: %v has no name", what, err)
				}
				return
			}
			if !bytes.Equal(back, line) || !json.Valid(line) {
				t.Errorf("%s: read\n%q\nwrote\n%q", what, line, back)
			}
		}
		d, err := ParseDecision(line)
		same("decision", AppendDecision(nil, &d), err)
		if err == nil {
			h := Head{Kind: d.Kind.String(), Dataset: d.Position.Dataset, TopicID: d.Position.TopicID, Partition: d.Position.Partition,
				Period: d.Period, Policy: d.PolicyDigest, Revision: d.Revision, Time: d.Time}
			frame := h.frame()
			if d.Kind != broker.StreamDecision {
				frame = (&SinglesHead{Kind: d.Kind, Period: d.Period, Policy: d.PolicyDigest, Revision: d.Revision, Time: d.Time}).frame()
			}
			var s scanned
			if err := s.scan(line, &frame); err != nil || s.at.Offset != d.Position.Offset || string(s.subscription) != string(d.Subscription) {
				t.Errorf("scan: %v, %+v", err, s)
			}
		}
		h, err := ParseHead(line)
		same("head", AppendHead(nil, &h), err)
		one, err := ParseSinglesHead(line)
		same("head of singles", AppendSinglesHead(nil, &one), err)
		e, err := ParseEntry(line)
		if err != nil {
			e.Type = ControlEntry // something that can be written
		}
		same("entry", AppendEntry(nil, &e), err)
		if _, err := readLink(line); err == nil {
			v, err := controlValue(line)
			if err != nil {
				t.Fatal(err)
			}
			back, err := ControlLine(v)
			if err != nil || !bytes.Equal(back, line) {
				t.Errorf("control: %v, %q, %q", err, line, back)
			}
		}
		if n, err := ParseNoteLine(line); err == nil && !bytes.Equal(AppendNoteLine(nil, n), line) {
			t.Errorf("note: %q", line)
		}
	})
}

// A verifier takes whatever comes, and names what is wrong.
func FuzzVerify(f *testing.F) {
	l := newLog(f, 21, 1)
	l.grow(6)
	entries, checkpoints := l.text()
	f.Add(entries, checkpoints)
	f.Add([]byte("\n"), []byte("\"\"\n"))
	f.Fuzz(func(t *testing.T, entries, checkpoints []byte) {
		v := &Verifier{Policy: l.policy, Workers: 2}
		r, err := v.Run(t.Context(), NewStream(bytes.NewReader(entries), bytes.NewReader(checkpoints)))
		if err != nil && NameOf(err) == "" {
			t.Fatalf("%v has no name", err)
		}
		if r == nil {
			t.Fatal("no report")
		}
	})
}

func FuzzProof(f *testing.F) {
	l := newLog(f, 22, 1)
	l.grow(8)
	f.Add(must(l.prove(0, 1).Append(nil)))
	f.Add(must(l.prove(len(l.items)-1, 0).Append(nil)))
	stands := map[string]bool{}
	for _, x := range l.items {
		for _, line := range x.lines {
			stands[string(line)] = true
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParseProof(text)
		if err != nil {
			if NameOf(err) == "" {
				t.Fatalf("%v has no name", err)
			}
			return
		}
		if c, err := p.Check(l.policy); err == nil && !stands[string(c.Line)] {
			t.Fatalf("proved what does not stand in the log: %s", c.Line)
		}
		if own, err := p.OwnPolicy(); err == nil {
			p.Check(own)
		}
	})
}
