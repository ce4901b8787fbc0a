package webhook

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"datafordeler/broker"
)

// recordVersion is the format that this program writes to the topic webhooks. It
// reads all versions up to it, for ever.
const recordVersion = 1

// The kinds of records.
const (
	// kindClaim begins a writer's time with a partition: what another writes after it
	// does not count, so that an instance that was taken for dead cannot undo what its
	// follower has done.
	kindClaim = "claim"
	// kindProgress is how far a mailbox has come, as a whole.
	kindProgress = "progress"
	// kindPoison puts a delivery with the poison, or back there after a replay.
	kindPoison = "poison"
	// kindDone takes one from the poison: its replay arrived, or it is kept no more.
	kindDone = "done"
	// kindReplay and kindDrop are its owner's orders, by any instance.
	kindReplay = "replay"
	kindDrop   = "drop"
)

// record is one of the topic webhooks, which has the partitions of deliveries. It holds
// ids and times, nothing of what is delivered.
type record struct {
	V       int              `json:"v"`
	Kind    string           `json:"kind"`
	Writer  string           `json:"writer,omitempty"` // of all but orders
	Mailbox broker.MailboxID `json:"mailbox,omitempty"`
	At      time.Time        `json:"at,omitzero"`
	// AsOf is how far its writer had folded: an order after it stands.
	AsOf     int64             `json:"asOf,omitempty"`
	Progress *progress         `json:"progress,omitempty"`
	Poison   *Poisoned         `json:"poison,omitempty"`
	ID       broker.DeliveryID `json:"id,omitzero"`     // of done, replay and drop
	Actor    string            `json:"actor,omitempty"` // of orders
}

// progress is all that a restart needs of a mailbox.
type progress struct {
	Topic   broker.Digest `json:"topic"` // of deliveries: Next is an offset of this one
	Next    int64         `json:"next"`  // to read on from
	Waiting []waiting     `json:"waiting,omitempty"`
	// Failures in a row that were the endpoint's own (see breaker), and until when it is
	// left alone.
	Failures int       `json:"failures,omitempty"`
	Until    time.Time `json:"until,omitzero"`
	Last     string    `json:"last,omitempty"` // what the last attempt came to
	LastAt   time.Time `json:"lastAt,omitzero"`
}

// waiting is a delivery before Next that is not through.
type waiting struct {
	Offset int64             `json:"o"`
	ID     broker.DeliveryID `json:"id"`
	Lane   broker.Digest     `json:"l"`
	Tries  int               `json:"n,omitempty"`
	Due    time.Time         `json:"d,omitzero"`
	First  time.Time         `json:"f,omitzero"`
	Last   string            `json:"w,omitempty"`
}

// Poisoned is a delivery that was tried as often as it is, and its owner's to replay
// or drop. What it holds stays in the topic of deliveries, and no longer than there.
type Poisoned struct {
	ID     broker.DeliveryID `json:"id"`
	Offset int64             `json:"o"`
	Lane   broker.Digest     `json:"l"`
	Tries  int               `json:"n"`
	First  time.Time         `json:"f"`
	At     time.Time         `json:"at"`
	Why    string            `json:"w"`
	// Replaying is that its owner ordered it to be sent again, and when.
	Replaying time.Time `json:"r,omitzero"`
}

// order is the last that an owner ordered of one delivery.
type order struct {
	kind   string
	offset int64
	at     time.Time
}

// page is what is known of one mailbox.
type page struct {
	progress *progress
	poison   map[broker.DeliveryID]*Poisoned
	orders   map[broker.DeliveryID]order
	changed  chan struct{} // closed and replaced when poison or orders change
}

// book is the fold of the topic webhooks. Every instance has all of it.
type book struct {
	mu      sync.Mutex // guards all below
	folded  map[int32]int64
	writers map[int32]string
	pages   map[broker.MailboxID]*page
	changed chan struct{} // closed and replaced at each fold
}

func newBook() *book {
	return &book{folded: map[int32]int64{}, writers: map[int32]string{}, pages: map[broker.MailboxID]*page{}, changed: make(chan struct{})}
}

func (b *book) page(m broker.MailboxID) *page {
	p := b.pages[m]
	if p == nil {
		p = &page{poison: map[broker.DeliveryID]*Poisoned{}, orders: map[broker.DeliveryID]order{}, changed: make(chan struct{})}
		b.pages[m] = p
	}
	return p
}

// fold takes the next record of a partition. An error is that it cannot be read: to
// pass over it could send twice, or nothing.
func (b *book) fold(partition int32, offset int64, value []byte) error {
	var r record
	if err := json.Unmarshal(value, &r); err != nil || r.V < 1 {
		return fmt.Errorf("the record at %d@%d of the topic of webhooks cannot be read: something other than datafordeler writes there", partition, offset)
	}
	if r.V > recordVersion {
		return fmt.Errorf("the record at %d@%d of the topic of webhooks has version %d, and this program reads up to %d: upgrade this instance", partition, offset, r.V, recordVersion)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() {
		b.folded[partition] = offset
		close(b.changed)
		b.changed = make(chan struct{})
	}()
	switch r.Kind {
	case kindClaim:
		b.writers[partition] = r.Writer
		return nil
	case kindReplay, kindDrop:
		p := b.page(r.Mailbox)
		p.orders[r.ID] = order{r.Kind, offset, r.At}
		p.obey(r.ID)
		p.wake()
		return nil
	case kindProgress, kindPoison, kindDone:
	default:
		return fmt.Errorf("the record at %d@%d of the topic of webhooks is of kind %q, which this program does not know: upgrade this instance", partition, offset, r.Kind)
	}
	if r.Writer != b.writers[partition] {
		return nil // it was taken for dead, and another goes on
	}
	p := b.page(r.Mailbox)
	if r.Kind != kindProgress {
		defer p.wake()
	}
	switch {
	case r.Kind == kindProgress && r.Progress != nil:
		p.progress = r.Progress
	case r.Kind == kindPoison && r.Poison != nil:
		p.poison[r.Poison.ID] = r.Poison
		if o, ok := p.orders[r.Poison.ID]; ok && o.offset > r.AsOf {
			p.obey(r.Poison.ID)
		} else {
			delete(p.orders, r.Poison.ID)
		}
	case r.Kind == kindDone:
		delete(p.poison, r.ID)
		delete(p.orders, r.ID)
	}
	return nil
}

// obey carries out the last order on one delivery, if it is there yet.
func (p *page) obey(id broker.DeliveryID) {
	o := p.orders[id]
	e := p.poison[id]
	switch {
	case o.kind == kindDrop:
		delete(p.poison, id)
	case e != nil:
		changed := *e // others may hold it
		changed.Replaying = o.at
		p.poison[id] = &changed
	}
}

func (p *page) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// poisonChanged is closed when a mailbox's poison, or what is ordered of it, changes.
func (b *book) poisonChanged(m broker.MailboxID) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.page(m).changed
}

// replaying are a mailbox's deliveries that are ordered to be sent again.
func (b *book) replaying(m broker.MailboxID) (all []*Poisoned) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.page(m).poison {
		if !e.Replaying.IsZero() {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *Poisoned) int { return cmp.Compare(a.Offset, b.Offset) })
	return all
}

// wait is closed at the next fold.
func (b *book) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// progressOf is a copy that nobody changes.
func (b *book) progressOf(m broker.MailboxID) *progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.pages[m]; p != nil {
		return p.progress
	}
	return nil
}

// poisonOf lists a mailbox's poison after an offset, at most so many, in the order of
// the log. The entries are shared and never changed.
func (b *book) poisonOf(m broker.MailboxID, after int64, most int) (all []*Poisoned, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pages[m]
	if p == nil {
		return nil, false
	}
	for _, e := range p.poison {
		if e.Offset > after {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *Poisoned) int { return cmp.Compare(a.Offset, b.Offset) })
	if len(all) > most {
		return all[:most], true
	}
	return all, false
}

// poisoned finds one; nil if there is none.
func (b *book) poisoned(m broker.MailboxID, id broker.DeliveryID) *Poisoned {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.pages[m]; p != nil {
		return p.poison[id]
	}
	return nil
}

func (b *book) poisonCount(m broker.MailboxID) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.pages[m]; p != nil {
		return len(p.poison)
	}
	return 0
}

// asOf is how far a partition is folded; −1 before its first record.
func (b *book) asOf(partition int32) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at, ok := b.folded[partition]; ok {
		return at
	}
	return -1
}

// image is all that counts of the mailboxes that of names, as records: who reads from
// the first of them on knows as much as who reads from the beginning. The progress of
// those that runs names is left out: they write it themselves.
func (b *book) image(partition int32, writer string, of, runs func(broker.MailboxID) bool) []record {
	b.mu.Lock()
	defer b.mu.Unlock()
	asOf, ok := b.folded[partition]
	if !ok {
		asOf = -1
	}
	var out []record
	for m, p := range b.pages {
		if !of(m) {
			continue
		}
		if p.progress != nil && !runs(m) {
			out = append(out, record{Kind: kindProgress, Writer: writer, Mailbox: m, Progress: p.progress})
		}
		for _, e := range p.poison {
			out = append(out, record{Kind: kindPoison, Writer: writer, Mailbox: m, AsOf: asOf, Poison: e})
		}
	}
	return out
}
