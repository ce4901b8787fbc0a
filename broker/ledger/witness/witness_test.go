package witness

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker/ledger"
)

// The request in tlog-witness is read, and written again in the same bytes.
func TestRequestOfTheSpecification(t *testing.T) {
	const example = "old 20852014\n" +
		"PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n" +
		"jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n" +
		"5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n" +
		"/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n" +
		"\n" +
		"example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n" +
		"— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n" +
		"— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n"
	r, err := parseRequest([]byte(example))
	if err != nil || r.old != 20852014 || len(r.proof) != 4 || !bytes.HasPrefix(r.note, []byte("example.com")) {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := appendRequest(nil, r); string(got) != example {
		t.Errorf("%s", got)
	}
	w, _, _ := newWitness(t, newLog("other.example"))
	add(t, w, []byte(example), 404)
}

func FuzzParseRequest(f *testing.F) {
	l, tr := newLog("log.example"), grown(9)
	f.Add(l.request(tr, 9, 5))
	f.Add(l.request(tr, 9, 0))
	f.Add([]byte("old 1\n\n"))
	f.Add([]byte("old 01\n\nx"))
	f.Add([]byte("old 1\nAAAA\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRequest(b)
		if err != nil {
			return
		}
		if got := appendRequest(nil, r); !bytes.Equal(got, b) || len(r.proof) > maxProof {
			t.Errorf("%q was read as %+v", b, r)
		}
	})
}

// Any bytes get an answer, and only what the log signed changes anything.
func FuzzAddCheckpoint(f *testing.F) {
	l, tr := newLog("log.example"), grown(9)
	w, m, _ := newWitness(f, l)
	if _, err := w.AddCheckpoint(l.request(tr, 5, 0)); err != nil {
		f.Fatal(err)
	}
	before := bytes.Clone(m.b)
	f.Add(l.request(tr, 9, 4))
	f.Add(l.request(tr, 4, 4))
	f.Add(newLog("log.example").request(tr, 9, 5))
	f.Add([]byte("old 5\n\nlog.example\n5\n\n\n— log.example AAAAAAAA\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := w.AddCheckpoint(b)
		var r *Refusal
		if err == nil || !errors.As(err, &r) || r.Status < 400 || r.Status > 422 || !bytes.Equal(m.b, before) {
			t.Errorf("%q: %v", b, err)
		}
	})
}

// Each answer of tlog-witness, in the order in which it is checked.
func TestAnswers(t *testing.T) {
	l, stranger, tr := newLog("log.example"), newLog("log.example"), grown(20)
	other := tr.fork(3, "another history")
	w, m, v := newWitness(t, l)
	r := func(old int64, proof tlog.TreeProof, msg []byte) []byte {
		return appendRequest(nil, request{old, proof, msg})
	}
	cp := l.checkpoint(tr, 8)
	good := l.request(tr, 8, 0)

	for name, bad := range map[string][]byte{
		"nothing":           nil,
		"no old size":       append([]byte("\n"), cp...),
		"a leading zero":    bytes.Replace(good, []byte("old 0"), []byte("old 00"), 1),
		"a sign":            bytes.Replace(good, []byte("old 0"), []byte("old +0"), 1),
		"two spaces":        bytes.Replace(good, []byte("old 0"), []byte("old  0"), 1),
		"carriage returns":  bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")),
		"no empty line":     bytes.Replace(good, []byte("\n\n"), []byte("\n"), 1),
		"a false hash":      bytes.Replace(good, []byte("\n\n"), []byte("\nAAAA\n\n"), 1),
		"64 hashes":         r(0, make(tlog.TreeProof, 64), cp),
		"no checkpoint":     []byte("old 0\n\n"),
		"no signature":      good[:bytes.LastIndex(good, []byte("— "))],
		"old beyond size":   r(9, nil, cp),
		"no checkpoint 2":   r(0, nil, must(note.Sign(&note.Note{Text: "log.example\n"}, l.signer))),
		"a last line open":  good[:len(good)-1],
		"a size beyond all": r(0, nil, must(note.Sign(&note.Note{Text: strings.Replace(string(cp[:bytes.Index(cp, []byte("\n\n"))+1]), "\n8\n", "\n4611686018427387905\n", 1)}, l.signer))),
	} {
		if _, err := w.AddCheckpoint(bad); err.(*Refusal).Status != 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
	add(t, w, newLog("unknown.example").request(tr, 8, 0), 404)
	add(t, w, stranger.request(tr, 8, 0), 403)
	spoiled := bytes.Replace(cp, []byte("\n8\n"), []byte("\n9\n"), 1) // the log's key, not its signature
	add(t, w, r(0, nil, spoiled), 403)
	nine := l.checkpoint(tr, 9)
	add(t, w, r(0, nil, append(bytes.Clone(cp), nine[bytes.LastIndex(nine, []byte("— ")):]...)), 403) // a good line and a false one
	if _, no := add(t, w, l.request(tr, 8, 5), 409); !no.Sized || no.Size != 0 {
		t.Errorf("%+v", no)
	}
	add(t, w, r(0, tr.proof(8, 5), cp), 422) // from nothing, nothing is to be proved
	add(t, w, r(0, nil, must(note.Sign(&note.Note{Text: ledger.Checkpoint{Origin: "log.example", Root: tlog.Hash{1}}.Text()}, l.signer))), 422)
	if !bytes.Equal(m.b, must(NewState(w.VKey()))) {
		t.Fatal("a refusal changed the state")
	}

	line, _ := add(t, w, l.request(tr, 0, 0), 200) // the tree without leaves
	if _, err := ledger.Cosigned(l.checkpoint(tr, 0), line, v); err != nil {
		t.Error(err)
	}
	line, _ = add(t, w, good, 200)
	if got, err := ledger.Cosigned(cp, line, v); err != nil || !bytes.Equal(got, line) {
		t.Errorf("%s, %v", got, err)
	}
	if _, no := add(t, w, good, 409); !no.Sized || no.Size != 8 {
		t.Errorf("%+v", no)
	}
	if again, _ := add(t, w, l.request(tr, 8, 8), 200); !bytes.Equal(again, line) {
		t.Error("the same head in the same second has another cosignature")
	}
	add(t, w, r(8, tlog.TreeProof{{1}}, cp), 422)
	if _, no := add(t, w, l.request(other, 8, 8), 409); no.Sized {
		t.Errorf("a fork was answered as a size: %+v", no)
	}
	add(t, w, l.request(tr, 7, 8), 400) // a regress
	add(t, w, l.request(tr, 7, 7), 409)
	add(t, w, l.request(other, 12, 8), 422)
	add(t, w, r(8, nil, l.checkpoint(tr, 12)), 422)
	add(t, w, r(8, tr.proof(12, 7), l.checkpoint(tr, 12)), 422)
	add(t, w, r(8, tr.proof(13, 8), l.checkpoint(tr, 12)), 422)
	add(t, w, r(8, append(tr.proof(12, 8), tlog.Hash{}), l.checkpoint(tr, 12)), 422)
	add(t, w, l.request(tr, 12, 8), 200)

	if len(m.evidence) != 1 {
		t.Errorf("%d proofs of a fork", len(m.evidence))
	}
	for _, b := range m.evidence { // two notes, both the log's, of one size
		one, two, _ := bytes.Cut(b, []byte("\n\nlog.example"))
		for _, msg := range [][]byte{append(one, '\n'), append([]byte("log.example"), two...)} {
			if _, by, err := ledger.OpenNote(msg, l.key); err != nil || len(by) != 1 {
				t.Errorf("%s: %v", msg, err)
			}
		}
	}
	c := w.Counts()
	if c.Cosigned != 4 || c.Forks != 1 || c.Unknown != 1 || c.Unsigned != 3 || c.Unproven != 8 {
		t.Errorf("%+v", c)
	}
}

// An extension line is part of what is signed, and the state keeps it.
func TestExtensionLines(t *testing.T) {
	l, tr := newLog("log.example"), grown(5)
	w, m, v := newWitness(t, l)
	text := ledger.Checkpoint{Origin: l.origin, Size: 3, Root: tr.root(3)}.Text() + "an extension\n"
	msg := must(note.Sign(&note.Note{Text: text}, l.signer))
	line, _ := add(t, w, appendRequest(nil, request{0, nil, msg}), 200)
	if _, err := ledger.Cosigned(msg, line, v); err != nil {
		t.Error(err)
	}
	if !strings.Contains(string(m.b), "an extension") {
		t.Error("the state holds another note than was signed")
	}
	add(t, w, l.request(tr, 5, 3), 200)
}

// While a log changes its key both are taken; strangers' lines are not kept.
func TestTwoKeysOfOneLog(t *testing.T) {
	a, b, tr := newLog("log.example"), newLog("log.example"), grown(5)
	skey, v := newKey("witness.example")
	m := newMemory(must(ledger.VKey(skey)))
	w := must(New(Config{Key: skey, Store: m, Logs: []Log{{"log.example", []note.Verifier{a.key, b.key}}}}))
	add(t, w, a.request(tr, 2, 0), 200)
	add(t, w, b.request(tr, 3, 2), 200)
	both := must(ledger.SignCheckpoint(ledger.Checkpoint{Origin: "log.example", Size: 4, Root: tr.root(4)}, newLog("x.example").signer, b.signer, a.signer))
	line, _ := add(t, w, appendRequest(nil, request{3, tr.proof(4, 3), both}), 200)
	if _, err := ledger.Cosigned(both, line, v); err != nil {
		t.Error(err)
	}
	if strings.Contains(string(m.b), "x.example") {
		t.Error("a stranger's line is in the state")
	}
}

// What could not be written is not signed, and is signed once it can be.
func TestStoreThatFails(t *testing.T) {
	l, tr := newLog("log.example"), grown(9)
	w, m, _ := newWitness(t, l)
	add(t, w, l.request(tr, 3, 0), 200)
	m.err = errors.New("no space")
	add(t, w, l.request(tr, 5, 3), 500)
	add(t, w, l.request(tr, 3, 3), 200) // this one is written
	if w.Healthy() == nil || w.Counts().Failed != 1 {
		t.Error("nobody is told")
	}
	m.err = nil
	add(t, w, l.request(tr, 5, 3), 200)
	if w.Healthy() != nil {
		t.Error("still unwell")
	}
}

func TestClockThatGoesBack(t *testing.T) {
	l, tr := newLog("log.example"), grown(9)
	skey, v := newKey("witness.example")
	now := time.Unix(2_000_000_000, 0)
	c := Config{Key: skey, Store: newMemory(must(ledger.VKey(skey))), Logs: []Log{l.log()}, Now: func() time.Time { return now }}
	w := must(New(c))
	add(t, w, l.request(tr, 3, 0), 200)
	now = now.Add(-time.Second)
	add(t, w, l.request(tr, 3, 3), 500)
	add(t, w, l.request(tr, 5, 3), 500)
	w = must(New(c)) // it remembers the time too
	add(t, w, l.request(tr, 5, 3), 500)
	if b, err := w.Head("log.example"); err != nil || !bytes.Contains(b, []byte("witness.example")) {
		t.Errorf("%s, %v", b, err)
	}
	now = now.Add(time.Hour)
	line, _ := add(t, w, l.request(tr, 5, 3), 200)
	_, by, err := ledger.OpenNote(append(l.checkpoint(tr, 5), line...), v)
	if err != nil {
		t.Fatal(err)
	}
	if at, err := ledger.CosignatureTime(by[0]); err != nil || !at.Equal(now) {
		t.Errorf("%v, %v", at, err)
	}
}

// A head can be written down and the witness end before anybody has its signature.
// The first that leaves, after a restart, is the one whose time must be remembered.
func TestFirstCosignatureAfterARestart(t *testing.T) {
	l, tr := newLog("log.example"), grown(9)
	skey, _ := newKey("witness.example")
	now := time.Unix(2_000_000_000, 0)
	c := Config{Key: skey, Store: newMemory(must(ledger.VKey(skey))), Logs: []Log{l.log()}, Now: func() time.Time { return now }}
	add(t, must(New(c)), l.request(tr, 3, 0), 200) // which nobody received
	for _, first := range []func(*Witness){
		func(w *Witness) { add(t, w, l.request(tr, 3, 3), 200) },
		func(w *Witness) { must(w.Head("log.example")) },
	} {
		now = now.Add(7 * time.Second)
		first(must(New(c)))
		now = now.Add(-3 * time.Second)
		add(t, must(New(c)), l.request(tr, 5, 3), 500)
		now = now.Add(3 * time.Second)
	}
	add(t, must(New(c)), l.request(tr, 5, 3), 200)
}

func TestWitnessesThatCannotBe(t *testing.T) {
	l := newLog("log.example")
	skey, _ := newKey("witness.example")
	another, _ := newKey("witness.example")
	vkey := must(ledger.VKey(skey))
	of := func(b string) *memory { return &memory{b: []byte(b)} }
	fresh := string(newMemory(vkey).b)
	head := `{"time": 1, "note": "o\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— o AAAAAAAA\n"}`
	full := fmt.Sprintf(`{"version":1,"witness":%q,"heads":[%s]}`, vkey, head)
	ok := Config{Key: skey, Logs: []Log{l.log()}, Store: newMemory(vkey)}
	if _, err := New(ok); err != nil {
		t.Fatal(err)
	}
	ok.Store = of(full)
	if w, err := New(ok); err != nil || w.heads["o"].checkpoint.Size != 1 {
		t.Fatal(err)
	}
	for name, c := range map[string]Config{
		"no log":              {Key: skey, Store: newMemory(vkey)},
		"a log twice":         {Key: skey, Store: newMemory(vkey), Logs: []Log{l.log(), l.log()}},
		"a log without a key": {Key: skey, Store: newMemory(vkey), Logs: []Log{{"o", nil}}},
		"another's state":     {Key: another, Store: newMemory(vkey), Logs: []Log{l.log()}},
		"no state":            {Key: skey, Store: of(""), Logs: []Log{l.log()}},
		"a newer state":       {Key: skey, Store: of(strings.Replace(full, `"version":1`, `"version":2`, 1)), Logs: []Log{l.log()}},
		"half a state":        {Key: skey, Store: of(full[:len(full)-5]), Logs: []Log{l.log()}},
		"state and a half":    {Key: skey, Store: of(full + full[:9]), Logs: []Log{l.log()}},
		"an unknown field":    {Key: skey, Store: of(strings.Replace(full, `"heads"`, `"more":1,"heads"`, 1)), Logs: []Log{l.log()}},
		"no note":             {Key: skey, Store: of(strings.Replace(full, `— o`, `\n\nx`, 1)), Logs: []Log{l.log()}},
		"no checkpoint":       {Key: skey, Store: of(strings.Replace(full, `\n1\n`, `\n`, 1)), Logs: []Log{l.log()}},
		"one head twice":      {Key: skey, Store: of(strings.Replace(full, head, head+","+head, 1)), Logs: []Log{l.log()}},
		"no time":             {Key: skey, Store: of(strings.Replace(full, `"time": 1`, `"time": 0`, 1)), Logs: []Log{l.log()}},
		"a log's key":         {Key: strings.TrimSpace(fresh), Store: newMemory(vkey), Logs: []Log{l.log()}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: started", name)
		}
	}
}

// A log that is not watched for a while is not forgotten.
func TestLogThatComesBack(t *testing.T) {
	a, b, tr := newLog("a.example"), newLog("b.example"), grown(9)
	skey, _ := newKey("witness.example")
	m := newMemory(must(ledger.VKey(skey)))
	w := must(New(Config{Key: skey, Store: m, Logs: []Log{a.log(), b.log()}}))
	add(t, w, a.request(tr, 7, 0), 200)
	add(t, w, b.request(tr, 2, 0), 200)
	w = must(New(Config{Key: skey, Store: m, Logs: []Log{b.log()}}))
	add(t, w, a.request(tr, 9, 7), 404)
	add(t, w, b.request(tr, 3, 2), 200)
	w = must(New(Config{Key: skey, Store: m, Logs: []Log{a.log()}}))
	add(t, w, a.request(tr.fork(1, "anew"), 8, 0), 409)
	add(t, w, a.request(tr, 9, 7), 200)
}

// Rivals with the same old size: one of two histories wins, once.
func TestRivals(t *testing.T) {
	l, tr := newLog("log.example"), grown(60)
	w, _, _ := newWitness(t, l)
	add(t, w, l.request(tr, 1, 0), 200)
	var mu sync.Mutex
	won := map[string]int64{}
	var wg sync.WaitGroup
	for i := range 8 {
		branch := tr.fork(1, fmt.Sprint("branch", i%4))
		wg.Go(func() {
			for n := int64(2); n <= 60; n++ {
				old := n - 1
				if _, err := w.AddCheckpoint(l.request(branch, n, old)); err == nil {
					mu.Lock()
					won[fmt.Sprint(i%4)] = max(won[fmt.Sprint(i%4)], n)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Errorf("histories that were cosigned, and to what size: %v", won)
	}
}
