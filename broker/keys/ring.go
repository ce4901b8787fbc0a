// Package keys turns identifiers into hashes that mean nothing without a secret.
//
// Two kinds of key do two jobs. The stable keys stand for ever: the matching key
// finds a person's cases and consents again ([Ring.Subject]), the event key tells
// repeats apart ([Ring.Event]). The period keys, one a month, make the pseudonyms
// that stand in decisions ([Ring.Pseudonym]); once a month's key is destroyed its
// pseudonyms lead nowhere, and every proof over them still verifies.
//
// Whoever holds a key can try all eleven-digit numbers and so undo it. That is why
// keys live apart from the data: in a file of their own, or behind a [Store] that
// a key management service implements.
//
// # Which errand, where
//
//   - what is kept, in what format, and how it is checked: store.go;
//   - how a period's key ends, here and in copies: destroy.go;
//   - how an identifier becomes a hash: this file.
package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"datafordeler/broker"
)

// Years is for how long ahead period keys are made. Instances share copies of
// one file, so none of them may make a key on the way.
const Years = 10

// Ring holds the keys in use. It is safe for any number of goroutines, and
// read-only but for [Ring.Forget].
type Ring struct {
	check    string
	person   macs
	orgs     macs
	property macs
	none     macs
	event    macs
	webhook  []byte // webhooks' secrets are made of it
	// first is the month, counted from year 0, of months[0].
	first  int
	months []month
}

type month struct {
	name string
	// mac is nil where the key was destroyed, or never made.
	mac       atomic.Pointer[macs]
	destroyed atomic.Bool
}

// derive separates domains: each use of a stable key has a key of its own, so
// that no message of one use can be a message of another.
func derive(key []byte, use string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("datafordeler/keys/1/" + use))
	return h.Sum(nil)
}

// newRing makes the ring of a keystore that was checked.
func newRing(c *contents) *Ring {
	matching := func(k broker.SubjectKind) macs { return newMacs(derive(c.Matching, "subject/"+string(k))) }
	r := &Ring{
		check:    c.check(),
		person:   matching(broker.Person),
		orgs:     matching(broker.OrganisationSubject),
		property: matching(broker.PropertySubject),
		none:     matching(broker.NoSubject),
		event:    newMacs(derive(c.Event, "event")),
		webhook:  derive(c.Event, "webhook"),
	}
	if len(c.Periods) == 0 {
		return r
	}
	r.first = monthOf(c.Periods[0].start())
	r.months = make([]month, monthOf(c.Periods[len(c.Periods)-1].start())-r.first+1)
	for _, p := range c.Periods {
		m := &r.months[monthOf(p.start())-r.first]
		m.name = p.Period
		if len(p.Key) == 0 {
			m.destroyed.Store(true)
			continue
		}
		key := newMacs(derive(p.Key, "pseudonym"))
		m.mac.Store(&key)
	}
	return r
}

// Subject is an identifier under the stable matching key. Spaces are not
// trimmed and digits not checked: that is for whoever reads the identifier.
func (r *Ring) Subject(kind broker.SubjectKind, id string) broker.SubjectKey {
	var p macs
	switch kind {
	case broker.Person:
		p = r.person
	case broker.OrganisationSubject:
		p = r.orgs
	case broker.PropertySubject:
		p = r.property
	case broker.NoSubject:
		p = r.none
	default:
		// The registry admits no other kind. A key that finds nothing would be
		// a silent failure, so this is a loud one.
		panic(fmt.Sprintf("keys: subject kind %q is not known", string(kind)))
	}
	m := p.pool.Get().(*mac)
	m.in = append(m.in[:0], id...)
	d := m.sum()
	clear(m.in) // an identity number has no business in a pool
	p.pool.Put(m)
	return d
}

// Event is the keyed hash of an event's name (CloudEvents: source and id are
// unique together) within its dataset. It depends on no period: a repeat that
// crosses midnight on the last of the month is still a repeat.
func (r *Ring) Event(dataset broker.DatasetID, source, id string) broker.EventHash {
	m := r.event.pool.Get().(*mac)
	// Lengths first, so that no two triples make the same bytes.
	b := binary.AppendUvarint(m.in[:0], uint64(len(dataset)))
	b = append(b, dataset...)
	b = binary.AppendUvarint(b, uint64(len(source)))
	b = append(b, source...)
	m.in = append(b, id...)
	d := m.sum()
	clear(m.in)
	r.event.pool.Put(m)
	return d
}

// Webhook is the secret that a mailbox's webhook is signed with, 32 bytes: one for
// each generation, for ever the same. use keeps secrets for different purposes apart.
func (r *Ring) Webhook(use string, m broker.MailboxID, generation int) []byte {
	h := hmac.New(sha256.New, r.webhook)
	var b []byte
	for _, part := range [...]string{use, string(m)} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	h.Write(binary.AppendUvarint(b, uint64(generation)))
	return h.Sum(nil)
}

// Period is the month, in UTC, whose key pseudonyms made at t are under, such as
// "2026-11". It fails where the keystore has no key for it.
func (r *Ring) Period(t time.Time) (string, error) {
	i := monthOf(t.UTC()) - r.first
	if i < 0 || i >= len(r.months) || r.months[i].mac.Load() == nil {
		return "", r.missing(t.UTC().Format(periodFormat))
	}
	return r.months[i].name, nil
}

// Pseudonym is a subject under the key of one period.
func (r *Ring) Pseudonym(period string, s broker.SubjectKey) (broker.Pseudonym, error) {
	i, ok := parsePeriod(period)
	i -= r.first
	var p *macs
	if ok && i >= 0 && i < len(r.months) {
		p = r.months[i].mac.Load()
	}
	if p == nil {
		return broker.Pseudonym{}, r.missing(period)
	}
	m := p.pool.Get().(*mac)
	m.in = append(m.in[:0], s[:]...)
	d := m.sum()
	p.pool.Put(m)
	return d, nil
}

// Check is a fingerprint of all that the keystore holds, or held before a period
// was destroyed: 32 hexadecimal characters. It stands in the control topic, and
// an instance with another keystore refuses to start. It tells nothing of a key.
func (r *Ring) Check() string { return r.check }

func (r *Ring) missing(period string) error {
	e := &MissingPeriodError{Period: period}
	if len(r.months) > 0 {
		e.First, e.Last = r.months[0].name, r.months[len(r.months)-1].name
	}
	if i, ok := parsePeriod(period); ok && i-r.first >= 0 && i-r.first < len(r.months) {
		e.Destroyed = r.months[i-r.first].destroyed.Load()
	}
	return e
}

// MissingPeriodError says that no pseudonym can be made for a period. Whoever
// meets it stops: a decision without a pseudonym is not written, and a delivery
// without its decision is not made.
type MissingPeriodError struct {
	Period      string
	First, Last string // what the keystore covers
	Destroyed   bool
}

// Error names the remedy.
func (e *MissingPeriodError) Error() string {
	if e.Destroyed {
		return fmt.Sprintf("the period key of %s was destroyed: pseudonyms of that month can no longer be made or looked up", e.Period)
	}
	return fmt.Sprintf("the keystore has no period key for %q (it covers %s to %s): check the clock; if it is right, run datafordeler keys extend on one machine and copy the file to every instance",
		e.Period, e.First, e.Last)
}

const periodFormat = "2006-01"

func monthOf(t time.Time) int { return t.Year()*12 + int(t.Month()) - 1 }

// parsePeriod reads "2026-11" as months since year 0, without allocating.
func parsePeriod(s string) (int, bool) {
	if len(s) != 7 || s[4] != '-' {
		return 0, false
	}
	n := [2]int{}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 4:
		case c < '0' || c > '9':
			return 0, false
		case i < 4:
			n[0] = n[0]*10 + int(c-'0')
		default:
			n[1] = n[1]*10 + int(c-'0')
		}
	}
	if n[1] < 1 || n[1] > 12 {
		return 0, false
	}
	return n[0]*12 + n[1] - 1, true
}

// NewTest makes a ring that anyone who knows the seed can make, with periods
// from 2000 to 2099. It is for tests and for the seeded demo, whose people do not
// exist; under it, a pseudonym hides nothing.
func NewTest(seed uint64) *Ring {
	src := rand.NewPCG(seed, 0x6461746166) // PCG is specified: the same on every machine
	next := func() []byte {
		b := make([]byte, 0, keySize)
		for len(b) < keySize {
			b = binary.BigEndian.AppendUint64(b, src.Uint64())
		}
		return b
	}
	c := &contents{Version: version, Matching: next(), Event: next()}
	for m := 2000 * 12; m < 2100*12; m++ {
		c.Periods = append(c.Periods, newPeriod(m, next()))
	}
	return newRing(c)
}

// String shows the fingerprint only: a ring in a log line gives nothing away.
func (r *Ring) String() string { return "keys.Ring(" + r.check + ")" }

// GoString does the same for %#v.
func (r *Ring) GoString() string { return r.String() }

func fingerprint(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Keyed is what the broker asks of a ring. It is an interface so that a hardware
// module that never gives up its keys can stand in for [Ring].
type Keyed interface {
	Subject(kind broker.SubjectKind, id string) broker.SubjectKey
	Event(dataset broker.DatasetID, source, id string) broker.EventHash
	Period(t time.Time) (string, error)
	Pseudonym(period string, s broker.SubjectKey) (broker.Pseudonym, error)
	Check() string
}

var _ Keyed = (*Ring)(nil)

func validPeriod(s string) bool { _, ok := parsePeriod(s); return ok && !strings.HasPrefix(s, "0000") }
