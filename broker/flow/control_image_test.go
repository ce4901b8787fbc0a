package flow

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

type imageRig struct {
	*harness
	q    *queued
	path string
	said *syncBuffer
	n    int
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newImageRig(t *testing.T) *imageRig {
	h := newHarness(t)
	if _, err := h.apply("testdata/registry.yaml"); err != nil {
		t.Fatal(err)
	}
	return &imageRig{harness: h, q: &queued{h: h}, path: filepath.Join(t.TempDir(), "image"), said: &syncBuffer{}}
}

// give appends so many consents.
func (r *imageRig) give(n int) {
	r.t.Helper()
	var changes []registry.Change
	for range n {
		changes = append(changes, r.q.consent(fmt.Sprint("c", r.n), r.n))
		r.n++
	}
	r.change(changes...)
}

// open begins from the image, and wants to have the state that the whole log makes.
func (r *imageRig) open() *Control {
	r.t.Helper()
	c, err := OpenControlFrom(r.ctx, r.engine, r.topics, slog.New(slog.NewTextHandler(r.said, nil)), r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	whole := r.openControl()
	want, got := whole.hash(), c.hash()
	if got != want || c.Revision() != whole.Revision() {
		r.t.Fatalf("revision %d: not the state that the log makes, of revision %d", c.Revision(), whole.Revision())
	}
	return c
}

func (c *Control) hash() (h broker.Digest) {
	c.View(func(s *registry.State) { h = s.Hash() })
	return h
}

// aside wants the image to be put aside, for a reason.
func (r *imageRig) aside(why string) {
	r.t.Helper()
	if c := r.open(); c.Imaged() != 0 {
		r.t.Errorf("it began from an image; want none: %s", why)
	}
	if said := r.said.String(); !strings.Contains(said, why) || !strings.Contains(said, "level=WARN") {
		r.t.Errorf("it said %q; want a warning: %s", said, why)
	}
}

// An instance that begins from an image is as one that folds the whole log: it knows
// what became of events before, and it appends.
func TestBeginFromImage(t *testing.T) {
	r := newImageRig(t)
	r.give(50)
	var stale []registry.Event
	r.control.View(func(st *registry.State) {
		var err error
		if stale, err = st.Link(r.clock(), "test", r.q.consent("never", 1)); err != nil {
			t.Fatal(err)
		}
	})
	r.give(1)
	lost, err := r.control.write(t.Context(), stale) // a rival's, too late
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.control.Fate(t.Context(), lost[0]); err != nil { // it is folded
		t.Fatal(err)
	}
	rev, size, err := r.control.WriteImage(t.Context(), r.path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(r.path)
	if err != nil || info.Mode() != 0o600 || info.Size() != size || rev != r.control.Revision() {
		t.Fatalf("%v, %v; %d bytes and revision %d were said", info, err, size, rev)
	}
	r.give(20)
	c := r.open()
	if c.Imaged() != rev {
		t.Errorf("it began from revision %d, not %d (%s)", c.Imaged(), rev, r.said)
	}
	if accepted, refused, err := c.Fate(t.Context(), lost[0]); accepted || refused || err != nil {
		t.Errorf("the lost event: accepted %v, refused %v, %v", accepted, refused, err)
	}
	if accepted, _, err := c.Fate(t.Context(), lost[0]-3); !accepted || err != nil {
		t.Errorf("one before: %v, %v", accepted, err)
	}
	if _, err := c.Append(t.Context(), func(st *registry.State) ([]registry.Event, error) {
		return st.Link(r.clock(), "test", r.q.consent("more", 1))
	}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.WriteImage(t.Context(), r.path); err != nil {
		t.Fatal(err)
	}
	if again := r.open(); again.Imaged() != c.Revision() {
		t.Errorf("it began from revision %d, not %d", again.Imaged(), c.Revision())
	}
}

// Nothing is believed of an image that is not whole, not of this log, or not of this
// program; and no start fails for it.
func TestImageAside(t *testing.T) {
	r := newImageRig(t)
	if c := r.open(); c.Imaged() != 0 || r.said.String() != "" { // none yet: nothing to say
		t.Errorf("revision %d: %s", c.Imaged(), r.said)
	}
	r.give(30)
	if _, _, err := r.control.WriteImage(t.Context(), r.path); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(r.path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damaged := bytes.Clone(good)
	damaged[len(damaged)/2] ^= 1
	write(damaged)
	r.aside("damaged")
	write(good[:len(good)-1])
	r.aside("damaged")
	write(good[:10])
	r.aside("cut off")

	in := bufio.NewReader(bytes.NewReader(good[:len(good)-sha256.Size]))
	line, err := in.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	with := func(edit func(*imageHeader), rest []byte) {
		t.Helper()
		var header imageHeader
		if err := json.Unmarshal(line, &header); err != nil {
			t.Fatal(err)
		}
		edit(&header)
		head, err := json.Marshal(header)
		if err != nil {
			t.Fatal(err)
		}
		b := append(append(head, '\n'), rest...)
		h := sha256.Sum256(b)
		write(append(b, h[:]...))
	}
	with(func(h *imageHeader) {}, rest)
	if c := r.open(); c.Imaged() == 0 {
		t.Fatal("what is left as it was is good")
	}
	with(func(h *imageHeader) { h.ID[0]++ }, rest)
	r.aside("another topic")
	with(func(h *imageHeader) { h.Next += 1000 }, rest)
	r.aside("ends at")
	with(func(h *imageHeader) { h.Last-- }, rest)
	r.aside("is not what it ends with")
	with(func(h *imageHeader) { h.Last = -1 }, rest)
	r.aside("contradicts itself")
	with(func(h *imageHeader) {}, append(bytes.Clone(rest), 0))
	r.aside("something follows")
	older := bytes.Clone(rest)
	older[bytes.IndexByte(older, '\n')+1]++
	with(func(h *imageHeader) {}, older)
	r.aside("another version")
}

// Where much is new an instance writes an image, and one more when it stops.
func TestKeepImage(t *testing.T) {
	r := newImageRig(t)
	const each = 2_000
	stop := r.control.KeepImage(r.path)
	r.give(each)
	stop()
	if _, err := os.Stat(r.path); !os.IsNotExist(err) {
		t.Errorf("for so little there is an image: %v", err)
	}
	left := filepath.Join(filepath.Dir(r.path), ".image-123")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(left, time.Now(), time.Now().Add(-2*imageTemporary)); err != nil {
		t.Fatal(err)
	}
	for r.n < imageAtEnd {
		r.give(each)
	}
	r.control.KeepImage(r.path)()
	if r.control.Imaged() != r.control.Revision() {
		t.Errorf("the image is of revision %d, not of %d", r.control.Imaged(), r.control.Revision())
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("what a writer left is still there: %v", err)
	}
	if c := r.open(); c.Imaged() != r.control.Revision() {
		t.Error("it did not begin from the image")
	}
	// In between, by its own: the next one is due at imageLeast more.
	stop = r.control.KeepImage(r.path)
	defer stop()
	first := r.control.Imaged()
	for r.n < 2*imageAtEnd+imageLeast {
		r.give(each)
	}
	for r.control.Imaged() == first && t.Context().Err() == nil {
		r.give(1) // what is folded wakes those who look
	}
}

// A disk that is full is told of, and stops nothing.
func TestImageNotWritten(t *testing.T) {
	r := newImageRig(t)
	r.control.log = slog.New(slog.NewTextHandler(r.said, nil))
	r.give(imageAtEnd)
	r.control.KeepImage(filepath.Join(r.path, "not", "there"))()
	if said := r.said.String(); !strings.Contains(said, "no image of the registry could be written") {
		t.Errorf("it said %q", said)
	}
	r.give(1)
}
