package ledger

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// The example of tlog-cosignature: the log's line and a witness's.
const example = `example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
`

func TestSmoke(t *testing.T) {
	text := example[:strings.Index(example, "\n\n")+1]
	c, err := ParseCheckpoint(text)
	if err != nil || c.Size != 20852163 || c.Text() != text {
		t.Fatal(c, err)
	}
	at, err := CosignatureTime(note.Signature{Base64: "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=="})
	if err != nil || at.Unix() != 1679315147 {
		t.Fatal(at, err)
	}
	lk, lv, _ := GenerateKey("log.example", LogKey)
	wk, wv, _ := GenerateKey("w.example", WitnessKey)
	ls, err := note.NewSigner(lk)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewCosigner(wk, func() time.Time { return time.Unix(1700000000, 0) })
	if err != nil {
		t.Fatal(err)
	}
	msg, err := SignCheckpoint(Checkpoint{"log.example", 3, c.Root}, ls)
	if err != nil {
		t.Fatal(err)
	}
	l, err := ParseVerifier(lv)
	if err != nil {
		t.Fatal(err)
	}
	v, err := ParseVerifier(wv)
	if err != nil {
		t.Fatal(err)
	}
	p := Policy{"log.example", l, []note.Verifier{v}, 1}
	if _, _, err := p.Open(msg); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.OpenWitnessed(msg); err == nil {
		t.Fatal("not witnessed")
	}
	n, err := note.Open(msg, note.VerifierList(l))
	if err != nil {
		t.Fatal(err)
	}
	both, err := note.Sign(n, w)
	if err != nil {
		t.Fatal(err)
	}
	merged, err := p.Merge(msg, both[len(msg):], both[len(msg):])
	if err != nil || string(merged) != string(both) {
		t.Fatalf("%s %v", merged, err)
	}
	_, by, err := p.OpenWitnessed(merged)
	if err != nil || len(by) != 1 || by[0].Time.Unix() != 1700000000 {
		t.Fatal(by, err)
	}
}
