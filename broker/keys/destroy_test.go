package keys

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

func TestForget(t *testing.T) {
	r := NewTest(1)
	subject := r.Subject(broker.Person, "x")
	before, err := r.Pseudonym("2026-10", subject)
	if err != nil || before.IsZero() {
		t.Fatal(err)
	}
	kept, err := r.Pseudonym("2026-09", subject)
	if err != nil {
		t.Fatal(err)
	}
	check := r.Check()
	if gone := r.Forget("2026-10", "1999-01", "nonsense"); !slices.Equal(gone, []string{"2026-10"}) {
		t.Errorf("forgot %v", gone)
	}
	if gone := r.Forget("2026-10"); len(gone) != 0 {
		t.Errorf("forgot %v twice", gone)
	}
	var missing *MissingPeriodError
	if p, err := r.Pseudonym("2026-10", subject); !errors.As(err, &missing) || !missing.Destroyed || !p.IsZero() {
		t.Errorf("a forgotten period gives %v (%v)", p, err)
	}
	if p, err := r.Period(november.AddDate(0, -1, 0)); !errors.As(err, &missing) || !missing.Destroyed || p != "" {
		t.Errorf("a forgotten period is in use: %q (%v)", p, err)
	}
	if p, err := r.Pseudonym("2026-09", subject); p != kept || err != nil {
		t.Errorf("another period changed: %v", err)
	}
	if r.Check() != check || r.Subject(broker.Person, "x") != subject {
		t.Error("forgetting a period changed what is not its")
	}
}

// One forgets while others hash: each call gives the right pseudonym or says that
// the period was destroyed, and never anything else again once it did.
func TestForgetWhileInUse(t *testing.T) {
	r := NewTest(1)
	subject := r.Subject(broker.Person, "x")
	want, err := r.Pseudonym("2026-10", subject)
	if err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{}, 4)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			over := false
			for n := 0; !over || n < 1000; n++ {
				p, err := r.Pseudonym("2026-10", subject)
				var missing *MissingPeriodError
				switch {
				case err == nil && (p != want || over):
					t.Errorf("%s after it was destroyed: %v", p, over)
					return
				case err != nil && (!errors.As(err, &missing) || !missing.Destroyed):
					t.Errorf("%v; want it to say that it was destroyed", err)
					return
				}
				over = err != nil
				if n == 100 {
					begun <- struct{}{}
				}
			}
		})
	}
	for range 4 {
		<-begun
	}
	r.Forget("2026-10")
	wg.Wait()
}

// memory is a store that begins empty.
type memory struct{ Bytes }

func (m *memory) Create(b []byte) error { return m.Replace(b) }

// However a keystore is extended and destroyed in, a key that is gone stays gone,
// the others give what they gave, and the fingerprint changes by extending alone.
func TestDestroyedStaysDestroyed(t *testing.T) {
	first := &memory{}
	if _, err := CreateStore(first, november); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		f := &Bytes{Name: "copy", Data: first.Data}
		now := november
		r, err := OpenStore(f)
		if err != nil {
			t.Fatal(err)
		}
		subject := r.Subject(broker.Person, "x")
		gave := map[string]broker.Pseudonym{}
		gone := map[string]bool{}
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			old, err := Inspect(f)
			if err != nil {
				t.Fatal(err)
			}
			var added int
			var destroyed []string
			if rapid.Bool().Draw(t, "extend") {
				now = now.AddDate(0, rapid.IntRange(0, 14).Draw(t, "months"), 0)
				if added, err = Extend(f, now, Years); err != nil {
					t.Fatal(err)
				}
			} else {
				p := old.Periods[rapid.IntRange(0, len(old.Periods)-1).Draw(t, "period")].Period
				if destroyed, err = Destroy(f, p); err != nil || (len(destroyed) == 0) != gone[p] {
					t.Fatal(destroyed, err)
				}
				gone[p] = true
			}
			i, err := Inspect(f)
			if err != nil {
				t.Fatal(err)
			}
			if (i.Check != old.Check) != (added > 0) {
				t.Fatalf("%d added, %v destroyed: the fingerprint went from %s to %s", added, destroyed, old.Check, i.Check)
			}
			if r, err = OpenStore(f); err != nil {
				t.Fatal(err)
			}
			for _, p := range i.Periods {
				got, err := r.Pseudonym(p.Period, subject)
				if (err != nil) != gone[p.Period] || p.Destroyed != gone[p.Period] {
					t.Fatalf("%s: %v, destroyed %v, listed so %v", p.Period, err, gone[p.Period], p.Destroyed)
				}
				if first, ok := gave[p.Period]; ok && err == nil && first != got {
					t.Fatalf("%s gives another pseudonym", p.Period)
				}
				gave[p.Period] = got
			}
			if held := i.Holds(slices.Collect(func(yield func(string) bool) {
				for p := range gone {
					if !yield(p) {
						return
					}
				}
			})); len(held) != 0 {
				t.Fatalf("holds %v", held)
			}
		}
	})
}

// Those who extend and those who destroy at the same moment do not undo each other.
func TestRivalWriters(t *testing.T) {
	f := File(filepath.Join(t.TempDir(), "keystore.json"))
	if _, err := CreateStore(f, november); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			if _, err := Destroy(f, fmt.Sprintf("2027-%02d", i+1)); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := Extend(f, november.AddDate(0, i, 0), Years); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	i, err := Inspect(f)
	if err != nil {
		t.Fatal(err)
	}
	if got := i.Destroyed(); len(got) != 12 {
		t.Errorf("destroyed are %v, want the twelve of 2027", got)
	}
	if len(i.Periods) != 12*Years+11 {
		t.Errorf("%d periods, want %d", len(i.Periods), 12*Years+11)
	}
}

// A writer that was killed on the way leaves a file with all keys: the next one
// removes it, and nobody else's.
func TestLeftBehind(t *testing.T) {
	dir := t.TempDir()
	f := File(filepath.Join(dir, "a.keys"))
	if _, err := CreateStore(f, november); err != nil {
		t.Fatal(err)
	}
	whole, err := f.Read()
	if err != nil {
		t.Fatal(err)
	}
	others := []string{".a.keys-1-2", ".b.keys-123", ".a.keys-", "a.keys-123"}
	for _, name := range append(others, ".a.keys-123") {
		if err := os.WriteFile(filepath.Join(dir, name), whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Destroy(f, "2026-12"); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := append(others, "a.keys")
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("there stand %q, want %q", names, want)
	}
}

// An extended keystore is known as such by the fingerprint that it had, also when
// periods were destroyed since, and no other is.
func TestExtends(t *testing.T) {
	f := File(filepath.Join(t.TempDir(), "keystore.json"))
	a, err := CreateStore(f, november)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Extend(f, november.AddDate(0, 5, 0), Years); err != nil {
		t.Fatal(err)
	}
	if _, err := Destroy(f, "2026-11"); err != nil {
		t.Fatal(err)
	}
	i, err := Inspect(f)
	if err != nil {
		t.Fatal(err)
	}
	for check, want := range map[string]bool{a.Check(): true, i.Check: false, NewTest(1).Check(): false, "": false} {
		if got, err := Extends(f, check); got != want || err != nil {
			t.Errorf("extends %q: %v (%v), want %v", check, got, err, want)
		}
	}
}

// What is told of a keystore gives nothing of it away.
func TestInfoShowsNoKey(t *testing.T) {
	f := File(filepath.Join(t.TempDir(), "keystore.json"))
	if _, err := CreateStore(f, november); err != nil {
		t.Fatal(err)
	}
	c, err := load(f)
	if err != nil {
		t.Fatal(err)
	}
	i, err := Inspect(f)
	if err != nil {
		t.Fatal(err)
	}
	if first, last := i.Covers(); first != "2026-11" || last != "2036-10" || i.Check != c.check() {
		t.Errorf("covers %s to %s, fingerprint %s", first, last, i.Check)
	}
	shown := fmt.Sprintf("%+v", i)
	for _, k := range [][]byte{c.Matching, c.Event, c.Periods[0].Key, []byte(c.Periods[0].Commitment)} {
		if strings.Contains(shown, fmt.Sprintf("%x", k)[:16]) || strings.Contains(shown, string(k)) {
			t.Error("a key or its commitment is shown")
		}
	}
}
