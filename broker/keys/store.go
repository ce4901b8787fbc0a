package keys

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Store keeps the keystore's bytes. [File] is the one in the house; a key
// management service implements the same three calls by wrapping the bytes under
// a key that it never gives out.
//
// Writes are durable once they return nil. After an error the old bytes stand,
// or the new ones, whole. Create is safe against rivals. What is read, changed and
// replaced is so under the store's lock where it is a [Locker]; elsewhere one
// operator at a time changes it.
type Store interface {
	// Read returns the bytes; fs.ErrNotExist when there are none yet.
	Read() ([]byte, error)
	// Create writes where nothing stands; fs.ErrExist when something does.
	Create([]byte) error
	// Replace writes over what stands.
	Replace([]byte) error
	// String says where, for messages.
	String() string
}

// Open reads the keystore file at path.
func Open(path string) (*Ring, error) { return OpenStore(File(path)) }

// Create makes a new keystore file at path, with period keys from now's month
// and [Years] on. It never writes over one that stands.
func Create(path string, now time.Time) (*Ring, error) { return CreateStore(File(path), now) }

// OpenOrCreate opens the keystore file, or makes it on the first run.
func OpenOrCreate(path string, now time.Time) (r *Ring, created bool, err error) {
	r, err = Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return r, false, err
	}
	r, err = Create(path, now)
	if errors.Is(err, fs.ErrExist) { // another instance was first
		r, err = Open(path)
		return r, false, err
	}
	return r, err == nil, err
}

// OpenStore reads a keystore from anywhere.
func OpenStore(s Store) (*Ring, error) {
	c, err := load(s)
	if err != nil {
		return nil, err
	}
	return newRing(c), nil
}

// CreateStore makes a keystore anywhere.
func CreateStore(s Store, now time.Time) (*Ring, error) {
	c := &contents{Version: version, Made: now.UTC().Truncate(time.Second), Matching: random(), Event: random()}
	c.extend(now, Years)
	b, err := c.encode()
	if err != nil {
		return nil, err
	}
	if err := s.Create(b); err != nil {
		return nil, fmt.Errorf("make keystore %s: %w", s, err)
	}
	return newRing(c), nil
}

// Extend makes the period keys that are missing from now's month and so many
// years on. Where it adds any the fingerprint changes: copy the file to every
// instance, register the new fingerprint, and restart them one by one.
func Extend(s Store, now time.Time, years int) (added int, err error) {
	err = update(s, func(c *contents) bool {
		added = c.extend(now, years)
		return added > 0
	})
	return added, err
}

const (
	version = 1
	keySize = 32 // bytes; as long as HMAC-SHA-256's output (RFC 2104, section 3)
)

// contents is the keystore as kept: JSON with its version first.
type contents struct {
	Version  int       `json:"version"`
	Made     time.Time `json:"made"`
	Matching secret    `json:"matching"`
	Event    secret    `json:"event"`
	// Periods are in order of time, each month once.
	Periods []period `json:"periods"`
}

type period struct {
	Period string `json:"period"`
	// Key is absent once destroyed.
	Key secret `json:"key,omitempty"`
	// Commitment is a hash of the key; it outlives it, so that the fingerprint
	// of the keystore does.
	Commitment string `json:"commitment"`
}

func (p *period) start() time.Time {
	t, _ := time.Parse(periodFormat, p.Period) // checked on the way in
	return t
}

func newPeriod(month int, key []byte) period {
	name := fmt.Sprintf("%04d-%02d", month/12, month%12+1)
	return period{name, key, commitment(name, key)}
}

func commitment(name string, key []byte) string {
	return fingerprint([]byte("datafordeler/keys/1/period"), []byte(name), key)
}

// secret is a key's bytes, in hexadecimal where it is kept.
type secret []byte

func (s secret) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s), nil }

func (s *secret) UnmarshalText(b []byte) error {
	if len(b) != 2*keySize {
		return fmt.Errorf("a key has %d hexadecimal characters; want %d", len(b), 2*keySize)
	}
	k := make([]byte, keySize)
	if _, err := hex.Decode(k, b); err != nil {
		return errors.New("a key is not hexadecimal") // and err would show a part of it
	}
	*s = k
	return nil
}

// String keeps keys out of whatever prints the struct.
func (s secret) String() string { return "(secret)" }

func random() secret {
	b := make(secret, keySize)
	rand.Read(b) // never fails: it ends the program instead (crypto/rand)
	return b
}

// extend adds the missing months, and says how many.
func (c *contents) extend(now time.Time, years int) int {
	next := monthOf(now.UTC())
	end := next + 12*years // the month after the last
	if n := len(c.Periods); n > 0 {
		next = max(next, monthOf(c.Periods[n-1].start())+1)
	}
	added := 0
	for ; next < end; next++ {
		c.Periods = append(c.Periods, newPeriod(next, random()))
		added++
	}
	return added
}

func (c *contents) check() string {
	parts := [][]byte{[]byte("datafordeler/keys/1/check"), derive(c.Matching, "check"), derive(c.Event, "check")}
	for _, p := range c.Periods {
		parts = append(parts, []byte(p.Commitment))
	}
	return fingerprint(parts...)
}

func (c *contents) encode() ([]byte, error) {
	b, err := json.MarshalIndent(c, "", " ")
	return append(b, '\n'), err
}

func (c *contents) replace(s Store) error {
	b, err := c.encode()
	if err != nil {
		return err
	}
	if err := s.Replace(b); err != nil {
		return fmt.Errorf("write keystore %s: %w", s, err)
	}
	return nil
}

func load(s Store) (*contents, error) {
	b, err := s.Read()
	if err != nil {
		return nil, fmt.Errorf("keystore %s: %w", s, err)
	}
	c, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("keystore %s: %w: restore the file from its backup; do not make a new one, or no case, consent or pseudonym made before can be found", s, err)
	}
	return c, nil
}

func decode(b []byte) (*contents, error) {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, errors.New("not a keystore, or cut short")
	}
	if v.Version != version {
		return nil, fmt.Errorf("format version %d is not one that this program reads (%d)", v.Version, version)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	c := &contents{}
	if err := dec.Decode(c); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the keystore")
	}
	if len(c.Matching) != keySize || len(c.Event) != keySize {
		return nil, errors.New("a stable key is missing")
	}
	last := -1
	for _, p := range c.Periods {
		m, ok := parsePeriod(p.Period)
		switch {
		case !ok || !validPeriod(p.Period):
			return nil, fmt.Errorf("period %q is not a month", p.Period)
		case m <= last:
			return nil, fmt.Errorf("period %s is out of order", p.Period)
		case len(p.Key) > 0 && commitment(p.Period, p.Key) != p.Commitment:
			return nil, fmt.Errorf("the key of period %s is not the one that was made", p.Period)
		case len(p.Commitment) != 32:
			return nil, fmt.Errorf("period %s has no commitment", p.Period)
		}
		last = m
	}
	return c, nil
}

// File is a keystore in a file that only its owner may read. Keep it outside the
// data directory, and back it up apart from the data.
type File string

// String is the path.
func (f File) String() string { return string(f) }

// Read refuses a file that others than its owner may read or write.
func (f File) Read() ([]byte, error) {
	h, err := os.Open(string(f))
	if err != nil {
		return nil, err
	}
	defer h.Close()
	info, err := h.Stat() // of the file that is open, not of whatever the path names by now
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file (%s)", f, info.Mode().Type())
	}
	if p := info.Mode().Perm(); p&0o077 != 0 {
		return nil, fmt.Errorf("its permissions are %04o, so others than its owner may open it: run chmod 600 %s, and ask whether the keys are still secret", p, f)
	}
	return io.ReadAll(io.LimitReader(h, 16<<20))
}

// Create writes the whole file and only then gives it its name, by a hard link,
// which fails where the name is taken.
func (f File) Create(b []byte) error {
	if err := os.MkdirAll(filepath.Dir(string(f)), 0o700); err != nil {
		return err
	}
	tmp, err := f.temporary(b)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, string(f)); err != nil {
		return err
	}
	return f.syncDir()
}

// Replace writes a new file and renames it over the old one, and removes what
// other writers left that were stopped on the way: they hold keys too. The blocks
// of the old file are the file system's to use again when it likes.
func (f File) Replace(b []byte) error {
	if err := f.sweep(); err != nil {
		return err
	}
	tmp, err := f.temporary(b)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, string(f)); err != nil {
		os.Remove(tmp)
		return err
	}
	return f.syncDir()
}

func (f File) temporary(b []byte) (name string, err error) {
	h, err := os.CreateTemp(filepath.Dir(string(f)), "."+filepath.Base(string(f))+"-*") // mode 0600
	if err != nil {
		return "", err
	}
	defer func() {
		if e := h.Close(); err == nil {
			err = e
		}
		if err != nil {
			os.Remove(h.Name())
		}
	}()
	if _, err = h.Write(b); err != nil {
		return "", err
	}
	return h.Name(), h.Sync()
}

// sweep removes this keystore's temporary files.
func (f File) sweep() error {
	dir, prefix := filepath.Dir(string(f)), "."+filepath.Base(string(f))+"-"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok || number == "" || strings.Trim(number, "0123456789") != "" || !e.Type().IsRegular() {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Lock keeps other processes of this machine from changing the file meanwhile. It
// holds the directory, since the file itself is replaced.
func (f File) Lock() (unlock func(), err error) {
	d, err := os.Open(filepath.Dir(string(f)))
	if err != nil {
		return nil, err
	}
	if err := flock(d); err != nil {
		d.Close()
		return nil, err
	}
	return func() { d.Close() }, nil // the lock goes with the descriptor
}

// syncDir makes the name as durable as the bytes.
func (f File) syncDir() error {
	d, err := os.Open(filepath.Dir(string(f)))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
