package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

const golden = `d7ca676c2c226c7298fb0c867a63f779
d7e21fcec9024aebfffe23b8780ec6a4
e60ca954eff19926ade42581c0d116f0
58aea7d643aa0346e3cadb82a08c27c5`

var november = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// The demo's figures and the tests of other packages stand on these: a change
// here would orphan every case and consent that a real keystore has matched.
func TestHashesAreStable(t *testing.T) {
	r := NewTest(1)
	p, err := r.Pseudonym("2026-11", broker.SubjectKey{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s\n%s\n%s\n%s", r.Subject(broker.Person, "x"), r.Event("inntekt", "/source", "id"), p, r.Check())
	if got != golden {
		t.Errorf("got\n%s\nwant\n%s", got, golden)
	}
}

func TestDomainsAreSeparate(t *testing.T) {
	r := NewTest(1)
	seen := map[broker.Digest]string{}
	put := func(name string, d broker.Digest) {
		if o, ok := seen[d]; ok {
			t.Errorf("%s and %s have one hash", name, o)
		}
		seen[d] = name
	}
	for _, k := range []broker.SubjectKind{broker.Person, broker.OrganisationSubject, broker.PropertySubject, broker.NoSubject} {
		put(string(k), r.Subject(k, "12345678901"))
	}
	put("event a", r.Event("ab", "c", "d"))
	put("event b", r.Event("a", "bc", "d"))
	put("event c", r.Event("a", "b", "cd"))
	put("event d", r.Event("a", "b\x00c", "d"))
	for _, m := range []string{"2026-11", "2026-12", "2027-11"} {
		d, err := r.Pseudonym(m, r.Subject(broker.Person, "12345678901"))
		if err != nil {
			t.Fatal(err)
		}
		put(m, d)
	}
	if r.Subject(broker.Person, "a") == NewTest(2).Subject(broker.Person, "a") {
		t.Error("two seeds, one key")
	}
}

func TestUnknownKindIsLoud(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an unknown subject kind was hashed")
		}
	}()
	NewTest(1).Subject("household", "a")
}

// A ring is the same to all goroutines, and a pooled state carries nothing over.
func TestConcurrent(t *testing.T) {
	r := NewTest(1)
	want := make([]broker.Digest, 100)
	for i := range want {
		want[i] = NewTest(1).Subject(broker.Person, strings.Repeat("x", i))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				if got := r.Subject(broker.Person, strings.Repeat("x", i%100)); got != want[i%100] {
					t.Errorf("length %d: %s, want %s", i%100, got, want[i%100])
				}
			}
		})
	}
	wg.Wait()
}

func TestEventNamesNeverCollide(t *testing.T) {
	r := NewTest(1)
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOfN(rapid.RuneFrom([]rune("ab\x00\x01\x02")), 0, 4, -1)
		a := [3]string{s.Draw(t, "d1"), s.Draw(t, "s1"), s.Draw(t, "i1")}
		b := [3]string{s.Draw(t, "d2"), s.Draw(t, "s2"), s.Draw(t, "i2")}
		ha, hb := r.Event(broker.DatasetID(a[0]), a[1], a[2]), r.Event(broker.DatasetID(b[0]), b[1], b[2])
		if (ha == hb) != (a == b) {
			t.Fatalf("%q and %q", a, b)
		}
	})
}

func TestPeriods(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "keystore.json")
	r, err := Create(path, november)
	if err != nil {
		t.Fatal(err)
	}
	oslo := time.FixedZone("", 3600)
	for _, c := range []struct {
		at   time.Time
		want string // "" is an error
	}{
		{november, "2026-11"},
		{time.Date(2026, 12, 1, 0, 30, 0, 0, oslo), "2026-11"}, // UTC counts
		{time.Date(2036, 10, 31, 23, 59, 59, 0, time.UTC), "2036-10"},
		{time.Date(2036, 11, 1, 0, 0, 0, 0, time.UTC), ""},
		{time.Date(2026, 10, 31, 23, 59, 59, 0, time.UTC), ""},
	} {
		got, err := r.Period(c.at)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: %q, %v; want %q", c.at, got, err, c.want)
		}
	}
	var missing *MissingPeriodError
	_, err = r.Pseudonym("2036-11", broker.SubjectKey{})
	if !errors.As(err, &missing) || missing.Destroyed || !strings.Contains(err.Error(), "2026-11 to 2036-10") {
		t.Errorf("missing period: %v", err)
	}
	for _, bad := range []string{"", "2026-13", "2026-00", "2026/11", "26-11", "2026-1x", "99999999"} {
		if _, err := r.Pseudonym(bad, broker.SubjectKey{}); err == nil {
			t.Errorf("period %q gave a pseudonym", bad)
		}
	}
}

func TestFileIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keystore.json")
	if _, err := Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("open of nothing: %v", err)
	}
	a, created, err := OpenOrCreate(path, november)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	b, created, err := OpenOrCreate(path, november.AddDate(1, 0, 0))
	if err != nil || created {
		t.Fatal(created, err)
	}
	if a.Check() != b.Check() || a.Subject(broker.Person, "x") != b.Subject(broker.Person, "x") {
		t.Error("the keystore read is not the one made")
	}
	if _, err := Create(path, november); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over a keystore: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("permissions %v, %v; want 0600", info.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, wide := range []os.FileMode{0o640, 0o604, 0o620, 0o666} {
		if err := os.Chmod(path, wide); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("%04o: %v; want a refusal with its remedy", wide, err)
		}
	}
}

// Of many instances that start at once on one path, one makes the keystore.
func TestRivalsShareOneKeystore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keystore.json")
	checks := make([]string, 16)
	var made [16]bool
	var wg sync.WaitGroup
	for i := range checks {
		wg.Go(func() {
			r, created, err := OpenOrCreate(path, november)
			if err != nil {
				t.Error(err)
				return
			}
			checks[i], made[i] = r.Check(), created
		})
	}
	wg.Wait()
	n := 0
	for i := range checks {
		if checks[i] != checks[0] {
			t.Errorf("instance %d has another keystore", i)
		}
		if made[i] {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d instances say that they made it", n)
	}
}

func TestExtendAndDestroy(t *testing.T) {
	f := File(filepath.Join(t.TempDir(), "keystore.json"))
	first, err := CreateStore(f, november)
	if err != nil {
		t.Fatal(err)
	}
	subject := first.Subject(broker.Person, "x")
	old, err := first.Pseudonym("2026-12", subject)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := Extend(f, november, Years); n != 0 || err != nil {
		t.Errorf("nothing to extend: %d, %v", n, err)
	}
	if n, err := Extend(f, november.AddDate(2, 0, 0), Years); n != 24 || err != nil {
		t.Errorf("two years on: %d, %v; want 24 months", n, err)
	}
	second, err := OpenStore(f)
	if err != nil {
		t.Fatal(err)
	}
	if second.Check() == first.Check() {
		t.Error("two instances with different period keys have one fingerprint")
	}
	if p, err := second.Pseudonym("2026-12", subject); p != old || err != nil {
		t.Errorf("a pseudonym changed: %v", err)
	}
	if gone, err := Destroy(f, "2026-12"); err != nil || !slices.Equal(gone, []string{"2026-12"}) {
		t.Fatal(gone, err)
	}
	third, err := OpenStore(f)
	if err != nil {
		t.Fatal(err)
	}
	if third.Check() != second.Check() {
		t.Error("destroying a period changed the fingerprint")
	}
	var missing *MissingPeriodError
	if _, err := third.Pseudonym("2026-12", subject); !errors.As(err, &missing) || !missing.Destroyed {
		t.Errorf("a destroyed period: %v", err)
	}
	if _, err := third.Pseudonym("2027-01", subject); err != nil {
		t.Error(err)
	}
	if gone, err := Destroy(f, "1999-01", "2026-12"); err != nil || len(gone) != 0 {
		t.Errorf("destroyed %v again (%v)", gone, err)
	}
	b, err := os.ReadFile(string(f))
	if err != nil || strings.Count(string(b), `"key"`) != 12*Years+24-1 {
		t.Errorf("the destroyed key is still in the file (%v)", err)
	}
}

func TestDamageIsRefused(t *testing.T) {
	f := File(filepath.Join(t.TempDir(), "keystore.json"))
	if _, err := CreateStore(f, november); err != nil {
		t.Fatal(err)
	}
	whole, err := f.Read()
	if err != nil {
		t.Fatal(err)
	}
	text := string(whole)
	key := text[strings.Index(text, `"key": "`)+8:][:64]
	other := strings.Repeat("0", 64)
	for name, bad := range map[string]string{
		"empty":         "",
		"cut short":     text[:len(text)/2],
		"version":       strings.Replace(text, `"version": 1`, `"version": 2`, 1),
		"unknown field": strings.Replace(text, `"made"`, `"maid"`, 1),
		"a key changed": strings.Replace(text, key, other, 1),
		"key too short": strings.Replace(text, key, key[:32], 1),
		"order":         strings.Replace(text, `"2026-12"`, `"2026-11"`, 1),
		"month":         strings.Replace(text, `"2026-12"`, `"2026-13"`, 1),
		"no matching":   strings.Replace(text, `"matching"`, `"Matching2"`, 1),
		"more after it": text + "{}",
	} {
		if err := f.Replace([]byte(bad)); err != nil {
			t.Fatal(err)
		}
		_, err := OpenStore(f)
		if err == nil {
			t.Errorf("%s: opened", name)
		} else if strings.Contains(err.Error(), key[:16]) {
			t.Errorf("%s: the message shows a key", name)
		} else if !strings.Contains(err.Error(), "backup") {
			t.Errorf("%s: no remedy in %q", name, err)
		}
	}
}

func TestNothingPrintsAKey(t *testing.T) {
	c := &contents{Version: 1, Matching: random(), Event: random(), Periods: []period{newPeriod(2026*12, random())}}
	for _, verb := range []string{"%v", "%+v", "%s"} {
		out := fmt.Sprintf(verb, *c) + fmt.Sprintf(verb, newRing(c))
		if strings.Contains(out, fmt.Sprintf("%x", []byte(c.Matching))) || !strings.Contains(out, "(secret)") {
			t.Errorf("%s prints %s", verb, out)
		}
	}
}

// Under the race detector sync.Pool drops at random, to find misuse.
var raceDetector bool

func TestNoAllocation(t *testing.T) {
	if raceDetector {
		t.Skip("pools allocate under the race detector")
	}
	r := NewTest(1)
	var d broker.Digest
	if n := testing.AllocsPerRun(1000, func() {
		d = r.Subject(broker.Person, "12345678901")
		d = r.Event("inntekt", "https://example.test/a-ordningen", "0123456789abcdef")
		d, _ = r.Pseudonym("2026-11", d)
		_, _ = r.Period(november)
	}); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDecode(f *testing.F) {
	c := &contents{Version: 1, Matching: random(), Event: random(), Periods: []period{newPeriod(2026*12, random())}}
	b, err := c.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decode(b); err == nil {
			newRing(c) // must not panic
		}
	})
}

func BenchmarkSubject(b *testing.B) {
	r := NewTest(1)
	b.ReportAllocs()
	for b.Loop() {
		r.Subject(broker.Person, "12345678901")
	}
}

func BenchmarkEvent(b *testing.B) {
	r := NewTest(1)
	b.ReportAllocs()
	for b.Loop() {
		r.Event("inntekt", "https://example.test/a-ordningen", "0123456789abcdef")
	}
}

func BenchmarkPseudonym(b *testing.B) {
	r := NewTest(1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Pseudonym("2026-11", broker.SubjectKey{1}); err != nil {
			b.Fatal(err)
		}
	}
}

// What was hashed does not stay in memory for whoever hashes next, nor in a dump.
func TestNothingStaysInThePool(t *testing.T) {
	r := NewTest(1)
	for _, id := range []string{"01928012345", strings.Repeat("long", 200)} {
		for range 50 { // a pool may hand out a new one instead
			r.Subject(broker.Person, id)
			m := r.person.pool.Get().(*mac)
			if bytes.Contains(m.in[:cap(m.in)], []byte(id[:8])) {
				t.Fatal("the identifier stands in the pool")
			}
			r.person.pool.Put(m)
			r.Event("inntekt", "/source", id)
			e := r.event.pool.Get().(*mac)
			if bytes.Contains(e.in[:cap(e.in)], []byte(id[:8])) {
				t.Fatal("the event id stands in the pool")
			}
			r.event.pool.Put(e)
		}
	}
}
