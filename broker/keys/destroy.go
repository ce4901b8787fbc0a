package keys

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Locker is a Store that can keep rivals apart while it is read, changed and
// replaced. Without it, one who adds periods could bring back a key that another
// destroys at the same moment.
type Locker interface {
	Lock() (unlock func(), err error)
}

// update changes what a store holds, where change says that it did.
func update(s Store, change func(*contents) (changed bool)) error {
	if l, ok := s.(Locker); ok {
		unlock, err := l.Lock()
		if err != nil {
			return fmt.Errorf("lock keystore %s: %w", s, err)
		}
		defer unlock()
	}
	c, err := load(s)
	if err != nil || !change(c) {
		return err
	}
	return c.replace(s)
}

// Destroy forgets the keys of the named periods for good: no pseudonym of those
// months can be made or traced from then on, and every proof over them still
// verifies. gone are those that the keystore still had; a period that it never had
// is none of its business. The fingerprint stays as it was.
//
// It reaches this store alone. Copies, and rings in memory ([Ring.Forget]), are
// their holders' to destroy. What the file system or the disk keeps of a file that
// was replaced (a snapshot, a journal, spare blocks of a flash disk) is beyond any
// program; see docs/decisions/0014.
func Destroy(s Store, periods ...string) (gone []string, err error) {
	err = update(s, func(c *contents) bool {
		gone = c.destroy(periods)
		return len(gone) > 0
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
}

func (c *contents) destroy(periods []string) (gone []string) {
	for i := range c.Periods {
		p := &c.Periods[i]
		if len(p.Key) > 0 && slices.Contains(periods, p.Period) {
			clear(p.Key)
			p.Key = nil
			gone = append(gone, p.Period)
		}
	}
	return gone
}

// Forget drops the keys of the named periods from memory, and says which it had.
// A pseudonym that is being made at this moment is made; the next fails with
// [MissingPeriodError]. The bytes are overwritten when the memory is used again.
func (r *Ring) Forget(periods ...string) (gone []string) {
	for i := range r.months {
		m := &r.months[i]
		if m.name == "" || !slices.Contains(periods, m.name) {
			continue
		}
		m.destroyed.Store(true) // first: whoever finds no key must learn why
		if m.mac.Swap(nil) != nil {
			gone = append(gone, m.name)
		}
	}
	return gone
}

// Info is what may be said of a keystore: everything but its keys.
type Info struct {
	Check   string    `json:"fingerprint"`
	Made    time.Time `json:"made"`
	Periods []Period  `json:"periods"`
}

// Period is one month of a keystore.
type Period struct {
	Period    string `json:"period"`
	Destroyed bool   `json:"destroyed,omitempty"`
}

// Inspect reads a keystore, checks it whole, and tells what it covers.
func Inspect(s Store) (Info, error) {
	c, err := load(s)
	if err != nil {
		return Info{}, err
	}
	i := Info{Check: c.check(), Made: c.Made, Periods: make([]Period, len(c.Periods))}
	for j, p := range c.Periods {
		i.Periods[j] = Period{p.Period, len(p.Key) == 0}
	}
	return i, nil
}

// Covers is the first and the last period; "" where there is none.
func (i Info) Covers() (first, last string) {
	if len(i.Periods) == 0 {
		return "", ""
	}
	return i.Periods[0].Period, i.Periods[len(i.Periods)-1].Period
}

// Holds are those of the named periods whose keys are in the keystore.
func (i Info) Holds(periods []string) (held []string) {
	for _, p := range i.Periods {
		if !p.Destroyed && slices.Contains(periods, p.Period) {
			held = append(held, p.Period)
		}
	}
	return held
}

// Destroyed are the periods whose keys are gone from the keystore.
func (i Info) Destroyed() (gone []string) {
	for _, p := range i.Periods {
		if p.Destroyed {
			gone = append(gone, p.Period)
		}
	}
	return gone
}

// Extends reports whether the keystore is the one of that fingerprint with more
// periods after its last: extended, and the new fingerprint not registered yet.
func Extends(s Store, check string) (bool, error) {
	c, err := load(s)
	if err != nil {
		return false, err
	}
	for n := range c.Periods {
		shorter := *c
		shorter.Periods = c.Periods[:n]
		if shorter.check() == check {
			return true, nil
		}
	}
	return false, nil
}

// Bytes is a keystore in memory: a copy that is looked at before it is put
// anywhere. Name says where it came from.
type Bytes struct {
	Name string
	Data []byte
}

// Read returns the bytes.
func (b *Bytes) Read() ([]byte, error) { return b.Data, nil }

// Create refuses: something stands here.
func (b *Bytes) Create([]byte) error { return errors.New("a keystore stands in memory already") }

// Replace takes the bytes.
func (b *Bytes) Replace(d []byte) error { b.Data = d; return nil }

func (b *Bytes) String() string { return b.Name }
