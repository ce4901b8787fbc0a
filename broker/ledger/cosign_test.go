package ledger

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"
)

// fixed is a secret key that is always the same.
func fixed(name string, kind Kind, b byte) (skey, vkey string) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
	k := newKey(name, kind, private.Public().(ed25519.PublicKey))
	return "PRIVATE+KEY+" + keyText(k, private.Seed()), k.vkey()
}

func at(seconds int64) func() time.Time {
	return func() time.Time { return time.Unix(seconds, 999) }
}

func logSigner(t testing.TB, b byte) (note.Signer, note.Verifier) {
	t.Helper()
	skey, vkey := fixed("log.example", LogKey, b)
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s, verifier(t, vkey)
}

func verifier(t testing.TB, vkey string) note.Verifier {
	t.Helper()
	v, err := ParseVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func cosigner(t testing.TB, name string, b byte, seconds int64) *Cosigner {
	t.Helper()
	skey, _ := fixed(name, WitnessKey, b)
	c, err := NewCosigner(skey, at(seconds))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The timestamp in the example of tlog-cosignature is the one that its text says.
func TestCosignatureOfTheSpecification(t *testing.T) {
	const line = "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=="
	got, err := CosignatureTime(note.Signature{Name: "witness.example.com/w1", Base64: line})
	if err != nil || got != time.Unix(1679315147, 0).UTC() {
		t.Errorf("%v, %v", got, err)
	}
}

// A line that the verifier of github.com/transparency-dev/formats v0.1.1 takes.
const (
	goldenKey  = "witness.digdir.example+93ee8719+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"
	goldenLine = "— witness.digdir.example k+6HGQAAAABkGFDLWr4Jea05CAgwNVtwky0Jgz6WfX0QJgM//FkB/W9BoT9TX0DkTxG+2cT4p/ViKNhUM/SnUwFcYQzugGFQ15LwDw==\n"
)

// The message and the key's text, put together here from the specification's
// words and not by the code under test.
func TestCosignatureBytes(t *testing.T) {
	c := cosigner(t, "witness.digdir.example", 7, 1679315147)
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	sig, err := c.Sign([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	message := "cosignature/v1\ntime 1679315147\n" + body
	want := append(binary.BigEndian.AppendUint64(nil, 1679315147), ed25519.Sign(private, []byte(message))...)
	if !bytes.Equal(sig, want) {
		t.Errorf("%x\n%x", sig, want)
	}
	if public := private.Public().(ed25519.PublicKey); c.VKey() != fmt.Sprintf("witness.digdir.example+%08x+%s", c.KeyHash(), base64.StdEncoding.EncodeToString(append([]byte{4}, public...))) {
		t.Error(c.VKey())
	}
	got, err := note.Sign(&note.Note{Text: body}, c)
	if err != nil || c.VKey() != goldenKey || string(got) != body+"\n"+goldenLine {
		t.Errorf("%s\n%s, %v", c.VKey(), got, err)
	}
}

func TestKeysOfBothKinds(t *testing.T) {
	for _, kind := range []Kind{LogKey, WitnessKey} {
		skey, vkey, err := GenerateKey("a.example/b", kind)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := VKey(skey); err != nil || again != vkey {
			t.Errorf("%s, %v; want %s", again, err, vkey)
		}
		v := verifier(t, vkey)
		if v.Name() != "a.example/b" || KindOf(v) != kind {
			t.Errorf("%s of kind %d", v.Name(), KindOf(v))
		}
		if _, err := ParseVerifier(skey); err == nil || strings.Contains(err.Error(), skey[len(skey)-20:]) {
			t.Errorf("a secret key for a public one: %v", err)
		}
		if _, err := NewCosigner(skey, at(1)); (err == nil) != (kind == WitnessKey) {
			t.Errorf("kind %d as a cosigner: %v", kind, err)
		}
		// x/mod's reader of keys agrees on those of logs, and refuses the others.
		theirs, err := note.NewVerifier(vkey)
		if (err == nil) != (kind == LogKey) || err == nil && theirs.KeyHash() != v.KeyHash() {
			t.Errorf("note.NewVerifier: %v", err)
		}
		if _, err := note.NewSigner(skey); (err == nil) != (kind == LogKey) {
			t.Errorf("note.NewSigner: %v", err)
		}
	}
	for _, name := range []string{"", "a b", "a+b", "a\u00a0b", "a\nb", "a\x01", "\xff"} {
		if _, _, err := GenerateKey(name, WitnessKey); err == nil {
			t.Errorf("a key was named %q", name)
		}
	}
	if _, _, err := GenerateKey("a", 2); err == nil {
		t.Error("a key of an unknown kind was made")
	}
}

func TestKeysThatAreNone(t *testing.T) {
	_, vkey := fixed("a.example", WitnessKey, 1)
	name, rest, _ := strings.Cut(vkey, "+")
	id, b64, _ := strings.Cut(rest, "+")
	for _, bad := range []string{
		"", name, name + "+" + id, "b.example+" + rest, name + "+00000000+" + b64,
		name + "+" + id[1:] + "+" + b64, name + "+" + id + "+" + b64[4:], name + "+" + id + "+" + b64 + "AAAA",
		name + "+" + id + "+\n" + b64, vkey + "\n", " " + vkey,
		strings.Replace(vkey, "+B", "+C", 1), strings.Replace(vkey, "+B", "+A", 1),
		"PRIVATE+KEY+" + vkey,
	} {
		if v, err := ParseVerifier(bad); err == nil {
			t.Errorf("%q was read as the key of %s", bad, v.Name())
		}
	}
	skey, _ := fixed("a.example", WitnessKey, 1)
	secret := skey[strings.LastIndex(skey, "+")+5:]
	for _, bad := range []string{"", skey[1:], strings.Replace(skey, "a.example", "b.example", 1), skey[:len(skey)-4], skey + "!"} {
		if _, err := NewCosigner(bad, at(1)); err == nil || strings.Contains(err.Error(), secret[:20]) {
			t.Errorf("a spoiled secret key: %v", err)
		}
	}
}

func TestCosignerSignsCheckpointsOnly(t *testing.T) {
	c := cosigner(t, "w.example", 1, 5)
	for _, text := range []string{"", "hello\n", "cosignature/v1\ntime 5\n" + body, body[:len(body)-1]} {
		if _, err := c.Sign([]byte(text)); err == nil {
			t.Errorf("signed %q", text)
		}
	}
	for _, seconds := range []int64{0, -1} {
		if _, err := cosigner(t, "w.example", 1, seconds).Sign([]byte(body)); err == nil {
			t.Errorf("signed at %d", seconds)
		}
	}
}

// No other time, text, kind of key or name verifies, and no time beyond 2^63-1.
func TestCosignatureHoldsItsTimeAndText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := rapid.Int64Range(1, math.MaxInt64).Draw(t, "now")
		skey, vkey := fixed("w.example", WitnessKey, 1)
		c, err := NewCosigner(skey, func() time.Time { return time.Unix(now, 0) })
		if err != nil {
			t.Fatal(err)
		}
		v, err := ParseVerifier(vkey)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := c.Sign([]byte(body))
		if err != nil || !v.Verify([]byte(body), sig) {
			t.Fatal(err)
		}
		bit := rapid.IntRange(0, 8*len(sig)-1).Draw(t, "bit")
		sig[bit/8] ^= 1 << (bit % 8)
		if v.Verify([]byte(body), sig) {
			t.Fatalf("verifies with bit %d turned", bit)
		}
		sig[bit/8] ^= 1 << (bit % 8)
		text := []byte(body)
		bit = rapid.IntRange(0, 8*len(text)-1).Draw(t, "bit of the text")
		text[bit/8] ^= 1 << (bit % 8)
		if v.Verify(text, sig) || v.Verify([]byte(body), sig[:71]) || v.Verify([]byte(body), append(sig, 0)) || v.Verify([]byte(body), sig[8:]) {
			t.Fatal("verifies what it did not sign")
		}
		_, vkey = fixed("w.example", LogKey, 1)
		if l, err := ParseVerifier(vkey); err != nil || l.Verify([]byte(body), sig) || l.Verify([]byte(body), sig[8:]) {
			t.Fatal("a cosignature passes for a log's signature", err)
		}
	})
}

// A time beyond 2^63-1 is none, were it signed as it would be printed.
func TestCosignatureTimeIsBounded(t *testing.T) {
	c := cosigner(t, "w.example", 1, 5)
	sig := append(binary.BigEndian.AppendUint64(nil, 1<<64-5), ed25519.Sign(c.private, cosigned(-5, []byte(body)))...)
	if c.Verifier().Verify([]byte(body), sig) {
		t.Error("verified")
	}
	b := binary.BigEndian.AppendUint32(nil, c.KeyHash())
	if at, err := CosignatureTime(note.Signature{Name: "w.example", Base64: base64.StdEncoding.EncodeToString(append(b, sig...))}); err == nil {
		t.Error(at)
	}
}

// policy is one of two witnesses and a log, with a checkpoint signed by the log.
func policy(t testing.TB) (p *Policy, msg []byte, w []*Cosigner) {
	t.Helper()
	s, l := logSigner(t, 9)
	p = &Policy{Origin: "log.example", Log: l, Need: 2}
	for i, name := range []string{"w1.example", "w2.example"} {
		w = append(w, cosigner(t, name, byte(i+1), int64(100+i)))
		p.Witnesses = append(p.Witnesses, w[i].Verifier())
	}
	msg, err := SignCheckpoint(Checkpoint{"log.example", 3, EmptyRoot}, s)
	if err != nil {
		t.Fatal(err)
	}
	return p, msg, w
}

// lines are the signature lines of signers over msg's text.
func lines(t testing.TB, msg []byte, s ...note.Signer) []byte {
	t.Helper()
	text := string(msg[:bytes.LastIndex(msg, sigSplit)+1])
	b, err := note.Sign(&note.Note{Text: text}, s...)
	if err != nil {
		t.Fatal(err)
	}
	return b[len(text)+1:]
}

func TestPolicyOpen(t *testing.T) {
	p, msg, w := policy(t)
	c, by, err := p.Open(msg)
	if err != nil || c.Size != 3 || len(by) != 0 {
		t.Fatal(c, by, err)
	}
	var few *TooFewError
	if _, _, err := p.OpenWitnessed(msg); !errors.As(err, &few) || few.Have != 0 || few.Need != 2 {
		t.Errorf("without witnesses: %v", err)
	}
	stranger := cosigner(t, "w3.example", 3, 7)
	one := bytes.Join([][]byte{msg, lines(t, msg, stranger), lines(t, msg, w[1])}, nil)
	if _, by, err := p.Open(one); err != nil || len(by) != 1 || by[0] != (Cosignature{"w2.example", time.Unix(101, 0).UTC()}) {
		t.Errorf("%v, %v", by, err)
	}
	if _, _, err := p.OpenWitnessed(one); !errors.As(err, &few) || few.Have != 1 {
		t.Errorf("with one of two: %v", err)
	}
	// The same witness again is one witness, at its latest time.
	twice := append(bytes.Clone(one), lines(t, msg, w[1].At(time.Unix(200, 0)))...)
	if _, by, err := p.Open(twice); err != nil || len(by) != 1 || by[0].Time.Unix() != 200 {
		t.Errorf("%v, %v", by, err)
	}
	if _, by, err := p.OpenWitnessed(append(bytes.Clone(twice), lines(t, msg, w[0])...)); err != nil || len(by) != 2 {
		t.Errorf("%v, %v", by, err)
	}
}

func TestPolicyRefuses(t *testing.T) {
	p, msg, w := policy(t)
	s, _ := logSigner(t, 9)
	wrong, _ := logSigner(t, 8)
	sign := func(c Checkpoint, s ...note.Signer) []byte {
		b, err := SignCheckpoint(c, s...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	other := sign(Checkpoint{"log.example", 4, EmptyRoot}, s)
	empty, err := note.Sign(&note.Note{Text: Checkpoint{"log.example", 0, [32]byte{1}}.Text()}, s)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"nothing":                        nil,
		"no signatures":                  []byte(Checkpoint{"log.example", 3, EmptyRoot}.Text()),
		"another log's key":              sign(Checkpoint{"log.example", 3, EmptyRoot}, wrong),
		"another origin":                 sign(Checkpoint{"log.example/2", 3, EmptyRoot}, s),
		"witnesses only":                 sign(Checkpoint{"log.example", 3, EmptyRoot}, w[0], w[1]),
		"no checkpoint":                  append([]byte("hello\n\n"), lines(t, []byte("hello\n\n"), s)...),
		"a witness of another text":      slicesConcat(msg, lines(t, other, w[0])),
		"the log's of another text":      slicesConcat(msg, lines(t, other, s)),
		"a good and a false one of one":  slicesConcat(msg, lines(t, msg, w[0]), lines(t, other, w[0])),
		"an empty tree of another root":  empty,
		"something behind":               append(bytes.Clone(msg), "x\n"...),
		"a line that is cut short":       msg[:len(msg)-1],
		"more lines than anybody writes": slicesConcat(msg, bytes.Repeat(lines(t, msg, w[0]), 100)),
	} {
		if c, by, err := p.Open(bad); err == nil || c != (Checkpoint{}) || by != nil {
			t.Errorf("%s: %+v, %v, %v", name, c, by, err)
		}
	}
}

func slicesConcat(b ...[]byte) []byte { return bytes.Join(b, nil) }

func TestPoliciesThatAreNone(t *testing.T) {
	p, _, w := policy(t)
	_, sameKey := fixed("alias.example", WitnessKey, 1)
	_, logsKey := fixed("w4.example", WitnessKey, 9)
	_, l2 := logSigner(t, 3)
	alias, ofLog := verifier(t, sameKey), verifier(t, logsKey)
	for name, bad := range map[string]*Policy{
		"empty":                        {},
		"no log":                       {Origin: "log.example"},
		"no origin":                    {Log: p.Log},
		"more needed than named":       {p.Origin, p.Log, p.Witnesses, 3},
		"less than none needed":        {p.Origin, p.Log, p.Witnesses, -1},
		"one witness under two names":  {p.Origin, p.Log, []note.Verifier{w[0].Verifier(), alias}, 2},
		"one key twice":                {p.Origin, p.Log, []note.Verifier{w[0].Verifier(), w[0].Verifier()}, 1},
		"the log as its own witness":   {p.Origin, p.Log, []note.Verifier{ofLog}, 1},
		"a log's key as a witness":     {p.Origin, p.Log, []note.Verifier{l2}, 1},
		"a witness without a key":      {p.Origin, p.Log, []note.Verifier{nil}, 0},
		"two keys of one for two of N": {p.Origin, p.Log, []note.Verifier{w[0].Verifier(), cosigner(t, "w1.example", 5, 1).Verifier()}, 2},
	} {
		if err := bad.Check(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestMerge(t *testing.T) {
	p, msg, w := policy(t)
	stranger := cosigner(t, "w3.example", 3, 7)
	s, _ := logSigner(t, 9)
	a, b, x := lines(t, msg, w[0]), lines(t, msg, w[1]), lines(t, msg, stranger)
	got, err := p.Merge(msg, a, slicesConcat(x, b), a, lines(t, msg, w[0].At(time.Unix(999, 0))), x, lines(t, msg, s))
	if err != nil || !bytes.Equal(got, slicesConcat(msg, a, b)) {
		t.Errorf("%s, %v", got, err)
	}
	if again, err := p.Merge(got, b, a); err != nil || !bytes.Equal(again, got) {
		t.Errorf("%s, %v", again, err)
	}
	if _, _, err := p.OpenWitnessed(got); err != nil {
		t.Error(err)
	}
	// What the checkpoint has already, of strangers too, stays.
	if got, err := p.Merge(slicesConcat(msg, x), a); err != nil || !bytes.Equal(got, slicesConcat(msg, x, a)) {
		t.Errorf("%s, %v", got, err)
	}
	other, err := SignCheckpoint(Checkpoint{"log.example", 4, EmptyRoot}, s)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"of another checkpoint":   lines(t, other, w[0]),
		"no signature":            []byte("hello\n"),
		"nothing":                 {},
		"cut short":               a[:len(a)-1],
		"more than lines":         slicesConcat(a, []byte("\n"), b),
		"another text smuggled":   slicesConcat([]byte("x\n\n"), a),
		"a good and a spoiled":    slicesConcat(a, lines(t, other, w[1])),
		"a stranger and no lines": slicesConcat(x, []byte("x\n")),
	} {
		if got, err := p.Merge(msg, bad); err == nil {
			t.Errorf("%s: %s", name, got)
		}
		if _, err := Cosigned(msg, bad, w[0].Verifier()); err == nil && name != "a good and a spoiled" {
			t.Errorf("%s: taken as an answer", name)
		}
	}
	if got, err := Cosigned(msg, slicesConcat(x, a), w[0].Verifier()); err != nil || !bytes.Equal(got, a) {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := Cosigned(msg, x, w[0].Verifier()); err == nil {
		t.Error("a stranger's answer was taken")
	}
	if _, err := p.Merge([]byte("x\n\n— a AAAAAAA=\n"), a); err == nil {
		t.Error("merged into what the log did not sign")
	}
}

// Whatever is opened was signed by the log's key over exactly this text.
func FuzzPolicyOpen(f *testing.F) {
	p, msg, w := policy(f)
	f.Add(msg)
	f.Add(slicesConcat(msg, lines(f, msg, w[0])))
	f.Add(slicesConcat(msg, lines(f, msg, w[0], w[1])))
	f.Add(bytes.Replace(msg, []byte("\n3\n"), []byte("\n4\n"), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, by, err := p.Open(b)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(b, msg[:bytes.LastIndex(msg, sigSplit)+2]) || c.Size != 3 || len(by) > 2 {
			t.Errorf("%q was opened", b)
		}
		if _, err := p.Merge(b, lines(t, b, w[0])); err != nil && len(b) < 5000 {
			t.Errorf("%q opens and does not merge: %v", b, err)
		}
	})
}
