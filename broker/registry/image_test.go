package registry

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// retaken writes a state's image and reads it back.
func retaken(t fataler, s *State) *State {
	t.Helper()
	var b bytes.Buffer
	if err := s.Image().Write(&b); err != nil {
		t.Fatalf("%v", err)
	}
	written := bytes.Clone(b.Bytes())
	got, err := ReadImage(&b)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if b.Len() > 0 {
		t.Fatalf("%d bytes were left", b.Len())
	}
	var again bytes.Buffer
	if err := got.Image().Write(&again); err != nil {
		t.Fatalf("%v", err)
	}
	if !bytes.Equal(written, again.Bytes()) {
		t.Fatalf("the image of what was read from an image is another")
	}
	if got.Hash() != s.Hash() || got.Revision() != s.Revision() || got.Head() != s.Head() || got.Structure() != s.Structure() || !got.At().Equal(s.At()) {
		t.Fatalf("revision %d: another state", s.Revision())
	}
	return got
}

func imageDigest(t fataler, s *State) string {
	t.Helper()
	d, err := s.Image().Digest(sha256.New())
	if err != nil {
		t.Fatalf("%v", err)
	}
	return d
}

// From an image at any place in the log, the rest of it leads to the same state: to the
// same hash, and to the same image byte for byte, all that no hash covers included.
func TestImageAndTail(t *testing.T) {
	whole, events := everything(t)
	want := imageDigest(t, whole)
	s := New()
	for i, e := range events {
		fold(t, s, e)
		if i%3 != 0 && i < len(events)-10 {
			continue
		}
		got := retaken(t, s)
		fold(t, got, events[i+1:]...)
		if got.Hash() != whole.Hash() || imageDigest(t, got) != want {
			t.Fatalf("an image after event %d (%s), and the rest, is another state", i, e.Type)
		}
		if !reflect.DeepEqual(got.AllTerms(), whole.AllTerms()) {
			t.Fatalf("other terms from an image after event %d", i)
		}
	}
}

// What an image says of each event is kept under its version. When this fails, the fold
// or the image has changed: raise ImageVersion, and put the new digest here. Without that
// an instance would begin from what another program made of the log.
func TestImageVersion(t *testing.T) {
	s, _ := everything(t)
	if got, want := fmt.Sprint(ImageVersion, " ", imageDigest(t, s)), "3 595dc56ac6fed75a023ae8556c0c7e6dd82de79b4520974aa2cec3649a0f5c3d"; got != want {
		t.Errorf("version and digest of the image are now\n%s\nand were\n%s", got, want)
	}
}

// Whoever gives the state another field says here that an image has it, or why not.
func TestImageHasAll(t *testing.T) {
	held := map[string]string{
		"catalogue":   "organisations datasets bases packages mailboxes agreements subscriptions delegations roles assessments tables needs frameworks used receivesFor",
		"regime":      "cosigned closed approvals invited acceded lifecycles",
		"subjects":    "rows byKey cases consents times",                    // byKey: made anew
		"obligations": "rows byName duties duty open asking known receipts", // byName, duty, open and known: made anew
		"protections": "grades synced known",
		"units":       "ended after before synced",
		"foreign":     "ended feeds",
		"State": "revision structure head at catalogue regime withdrawn leased credentials logins webhooks hooked frozen protected units registers " + // registers: made anew
			"deviations obligations subjects foreign declared starts approved policy policies keystore ledger keystores destroyed resolved", // resolved: made when it is asked for
	}
	for _, v := range []any{catalogue{}, regime{}, subjects{}, obligations{}, protections{}, units{}, foreign{}, (*State)(nil)} {
		typ := reflect.TypeOf(v)
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		for i := range typ.NumField() {
			if name := typ.Field(i).Name; !slices.Contains(strings.Fields(held[typ.Name()]), name) {
				t.Errorf("%s.%s is in no image", typ.Name(), name)
			}
		}
	}
}

// Any writers, any log: an image taken anywhere leads where the log does.
func TestImageOfAnyLog(t *testing.T) {
	_, log := base(t)
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		for _, e := range log {
			if _, err := s.Fold(e); err != nil {
				t.Fatal(err)
			}
		}
		from := s
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "image") == 0 {
				from = retaken(t, from)
			}
			for _, e := range must(s.Link(now, "writer", anyChange(t))) {
				x, err := s.Fold(e)
				y, err2 := from.Fold(e)
				if s != from && (x != y || err != nil || err2 != nil) {
					t.Fatalf("accepted %v and %v, %v, %v", x, y, err, err2)
				}
			}
		}
		if imageDigest(t, s) != imageDigest(t, from) || s.Hash() != from.Hash() {
			t.Fatal("another state")
		}
	})
}

// Over many pages, with long names, odd times, withdrawals and receipts; and it goes on.
func TestImageOfMany(t *testing.T) {
	s, _ := base(t)
	const n = 2*pageRows + 100
	one := func(i int) []Change {
		c := broker.Consent{ID: broker.ConsentID(fmt.Sprint("c", i)), Subject: people(i / 3), Consumer: "964338531", Dataset: "inntekt", Purpose: "sosialhjelp", Valid: broker.Interval{From: now.Add(time.Duration(i))}}
		if i%1000 == 7 {
			c.External = strings.Repeat("x", 300)
			c.Valid.To = time.Date(2200, 1, 1, 0, 0, 0, 1, time.FixedZone("", 3600))
		}
		changes := []Change{GiveConsent(c), OpenCase(broker.Case{ID: broker.CaseID(fmt.Sprint("k", i)), Subscription: "bergen", Subject: people(i), Open: broker.Interval{From: now}})}
		if i%2 == 0 {
			changes = append(changes, WithdrawConsent(c.ID, now.Add(time.Hour)))
		}
		if i%5 == 0 {
			changes = append(changes, EndCase("bergen", broker.CaseID(fmt.Sprint("k", i)), now.Add(time.Hour)))
		}
		return changes
	}
	add := func(to ...*State) func(int) {
		return func(i int) {
			for _, e := range must(to[0].Link(now, "test", one(i)...)) {
				for _, s := range to {
					if !must(s.Fold(e)) {
						t.Fatalf("%d was refused", i)
					}
				}
			}
		}
	}
	for i := range n {
		add(s)(i)
	}
	got := retaken(t, s)
	for i := n; i < n+pageRows+10; i++ {
		add(s, got)(i)
	}
	if imageDigest(t, s) != imageDigest(t, got) || s.Hash() != got.Hash() {
		t.Fatal("another state")
	}
	if c, ok := got.Consent("c1007"); !ok || len(c.External) != 300 || c.Subject != people(1007/3) || c.Valid.To.Nanosecond() != 1 {
		t.Fatalf("%v, not as it was", ok)
	}
}

// While an image is written the state moves on, and the image does not.
func TestImageStandsStill(t *testing.T) {
	_, events := everything(t)
	s := New()
	fold(t, s, events[:30]...)
	m, want := s.Image(), imageDigest(t, s)
	fold(t, s, events[30:]...)
	got, err := m.Digest(sha256.New())
	if err != nil || got != want {
		t.Errorf("the image moved: %v", err)
	}
	if m.Revision() != 30 {
		t.Errorf("revision %d", m.Revision())
	}
}

// An image that is cut off, or of another version, or none, is an error.
func TestImageRefused(t *testing.T) {
	s, _ := everything(t)
	var b bytes.Buffer
	if err := s.Image().Write(&b); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	for n := range whole {
		if n > 200 && n < len(whole)-600 && n%97 != 0 {
			continue
		}
		if _, err := ReadImage(bytes.NewReader(whole[:n])); err == nil {
			t.Fatalf("%d of %d bytes are taken for an image", n, len(whole))
		}
	}
	other := bytes.Clone(whole)
	other[len(imageMagic)]++
	if _, err := ReadImage(bytes.NewReader(other)); !errors.Is(err, ErrImageVersion) {
		t.Errorf("%v", err)
	}
	other[0] = 'D'
	if _, err := ReadImage(bytes.NewReader(other)); err == nil || errors.Is(err, ErrImageVersion) {
		t.Errorf("%v", err)
	}
}

type failing struct{ left int }

func (f *failing) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errors.New("the disk is full")
	}
	return len(b), nil
}

// A disk that fails is told of.
func TestImageNotWritten(t *testing.T) {
	s, _ := everything(t)
	for _, left := range []int{0, 100, 5000} {
		if err := s.Image().Write(&failing{left}); err == nil {
			t.Errorf("after %d bytes: no error", left)
		}
	}
}

// Whatever is read, it is a state that can be asked, or an error.
func FuzzReadImage(f *testing.F) {
	s, events := New(), []Event(nil)
	{
		var t testing.T
		_, events = everything(&t)
	}
	for i, e := range events {
		if _, err := s.Fold(e); err != nil {
			f.Fatal(err)
		}
		if i == 20 || i == len(events)-1 {
			var b bytes.Buffer
			if err := s.Image().Write(&b); err != nil {
				f.Fatal(err)
			}
			f.Add(b.Bytes())
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadImage(bytes.NewReader(b))
		if err != nil {
			return
		}
		s.Subjects()
		s.ConsentsEnding(now, now.AddDate(1, 0, 0))
		s.ObligationsOpen(now)
		if _, ok := s.Consent("k"); ok {
			s.ObligationsOf("k")
		}
	})
}
