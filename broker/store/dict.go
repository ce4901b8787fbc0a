package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"unsafe"

	"datafordeler/broker"
)

// counts is how many entries the dictionaries have. Entries are numbered from 0
// and never change.
type counts struct{ names, sources, agreements, outcomes, answers int64 }

// dict holds the dictionaries of one generation of the read model: what has been
// committed, or a part of it. Whoever meets a larger count reads the rest.
type dict struct {
	generation string

	mu         sync.RWMutex
	names      []string
	sources    []source
	agreements []agreement
	outcomes   []outcome
	answers    []answer

	byName      map[string]int64
	bySource    map[source]int64
	byAgreement map[agreement]int64
	byOutcome   map[string]int64 // by its content
	byAnswer    map[answer]int64
}

type source struct {
	kind      broker.DecisionKind
	dataset   broker.DatasetID
	topic     [16]byte
	partition int32
}

type agreement struct {
	name broker.AgreementID
	Parties
}

// answer is one outcome for one subscription.
type answer struct {
	subscription       broker.SubscriptionID
	agreement, outcome int64
}

type outcome struct {
	broker.Outcome
	pack     broker.PackageRef
	fields   []broker.Pointer
	shielded bool
}

func newDict(generation string) *dict {
	return &dict{
		generation: generation,
		byName:     map[string]int64{}, bySource: map[source]int64{}, byAgreement: map[agreement]int64{},
		byOutcome: map[string]int64{}, byAnswer: map[answer]int64{},
	}
}

// content is an outcome as bytes: equal outcomes give equal bytes.
func (o *outcome) content() []byte {
	b := []byte{0}
	if o.Permit {
		b[0] |= 1
	}
	if o.shielded {
		b[0] |= 2
	}
	b = appendString(b, o.pack.ID)
	b = binary.AppendVarint(b, int64(o.pack.Version))
	b = appendStrings(b, o.Reasons)
	b = appendStrings(b, o.Bases)
	return appendStrings(b, o.fields)
}

// own copies the lists: the caller's may be a part of something large. Empty ones
// are nil.
func (o *outcome) own() {
	o.Reasons, o.Bases, o.fields = own(o.Reasons), own(o.Bases), own(o.fields)
}

func own[S any](list []S) []S {
	if len(list) == 0 {
		return nil
	}
	return slices.Clone(list)
}

func appendString[S ~string](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendStrings[S ~string](b []byte, list []S) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

// load reads what was added since.
func (d *dict) load(ctx context.Context, r reader, n counts) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := loadFrom(ctx, r, "text FROM name", &d.names, n.names, func(scan scanner, id *int64, v *string) error {
		return scan(id, v)
	}, func(id int64, v *string) { d.byName[*v] = id })
	if err == nil {
		err = loadFrom(ctx, r, "kind, dataset, topic, partition FROM source", &d.sources, n.sources, func(scan scanner, id *int64, v *source) error {
			var topic []byte
			err := scan(id, &v.kind, &v.dataset, &topic, &v.partition)
			copy(v.topic[:], topic)
			return err
		}, func(id int64, v *source) { d.bySource[*v] = id })
	}
	if err == nil {
		err = loadFrom(ctx, r, "name, consumer, provider, supplier FROM agreement", &d.agreements, n.agreements, func(scan scanner, id *int64, v *agreement) error {
			return scan(id, &v.name, &v.Consumer, &v.Provider, &v.Supplier)
		}, func(id int64, v *agreement) { d.byAgreement[*v] = id })
	}
	if err == nil {
		err = loadFrom(ctx, r, "permit, shielded, package, version, reasons, bases, fields FROM outcome", &d.outcomes, n.outcomes, func(scan scanner, id *int64, v *outcome) error {
			var permit, shielded int64
			var reasons, bases, fields string
			if err := scan(id, &permit, &shielded, &v.pack.ID, &v.pack.Version, &reasons, &bases, &fields); err != nil {
				return err
			}
			v.Permit, v.shielded = permit != 0, shielded != 0
			if err := json.Unmarshal([]byte(reasons), &v.Reasons); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(bases), &v.Bases); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(fields), &v.fields); err != nil {
				return err
			}
			v.own()
			return nil
		}, func(id int64, v *outcome) { d.byOutcome[string(v.content())] = id })
	}
	if err == nil {
		err = loadFrom(ctx, r, "subscription, agreement, outcome FROM answer", &d.answers, n.answers, func(scan scanner, id *int64, v *answer) error {
			return scan(id, &v.subscription, &v.agreement, &v.outcome)
		}, func(id int64, v *answer) { d.byAnswer[*v] = id })
	}
	return err
}

type scanner = func(...any) error

// loadFrom reads the entries that dst does not have, up to n.
func loadFrom[T any](ctx context.Context, r reader, what string, dst *[]T, n int64, read func(scanner, *int64, *T) error, add func(int64, *T)) error {
	have := int64(len(*dst))
	if have >= n {
		return nil
	}
	err := each(ctx, r, "SELECT id, "+what+" WHERE id >= ?1 AND id < ?2 ORDER BY id", []any{have, n}, func(scan func(...any) error) error {
		var id int64
		var v T
		if err := read(scan, &id, &v); err != nil {
			return err
		}
		if id != int64(len(*dst)) {
			return fmt.Errorf("store: a dictionary has number %d where %d was next (%s): run 'datafordeler rebuild'", id, len(*dst), what)
		}
		*dst = append(*dst, v)
		add(id, &v)
		return nil
	})
	if err == nil && int64(len(*dst)) < n {
		return fmt.Errorf("store: a dictionary has %d entries, not %d (%s): run 'datafordeler rebuild'", len(*dst), n, what)
	}
	return err
}

// additions are what one Apply adds to the dictionaries. They are merged into
// them once they are committed.
type additions struct {
	d    *dict
	base counts
	// The entries, in the order of their numbers from base.
	names      []string
	sources    []source
	agreements []agreement
	outcomes   []outcome
	answers    []answer

	byName      map[string]int64
	bySource    map[source]int64
	byAgreement map[agreement]int64
	byOutcome   map[string]int64
	byAnswer    map[answer]int64

	// Of the batch under way, and of this Apply: what an equal decision got. Lists
	// are compared by where they lie, which is enough, as they do not change.
	parties map[broker.AgreementID]int64
	last    seen
	lastID  int64
	met     map[seen]int64
}

// seen is a decision's answer by address.
type seen struct {
	sub                      broker.SubscriptionID
	agreement                broker.AgreementID
	pack                     string
	version                  int
	permit, shielded         bool
	reasons, bases, fields   unsafe.Pointer
	nReasons, nBases, nField int
}

func newAdditions(d *dict, n counts) *additions {
	return &additions{
		d: d, base: n,
		byName: map[string]int64{}, bySource: map[source]int64{}, byAgreement: map[agreement]int64{},
		byOutcome: map[string]int64{}, byAnswer: map[answer]int64{},
		parties: map[broker.AgreementID]int64{}, met: map[seen]int64{},
	}
}

// number finds an entry's number, or gives it the next.
func number[K comparable, V any](known, added map[K]int64, key K, base int64, entries *[]V, v V) int64 {
	if id, ok := known[key]; ok {
		return id
	}
	if id, ok := added[key]; ok {
		return id
	}
	id := base + int64(len(*entries))
	*entries = append(*entries, v)
	added[key] = id
	return id
}

func (a *additions) name(s string) int64 {
	a.d.mu.RLock()
	defer a.d.mu.RUnlock()
	return number(a.d.byName, a.byName, s, a.base.names, &a.names, s)
}

func (a *additions) source(s source) int64 {
	a.d.mu.RLock()
	defer a.d.mu.RUnlock()
	return number(a.d.bySource, a.bySource, s, a.base.sources, &a.sources, s)
}

// begin forgets who agreements were between: a batch may have another revision.
func (a *additions) begin() {
	clear(a.parties)
	clear(a.met)
	a.last = seen{}
}

// answer is the number of a decision's answer.
func (a *additions) answer(d *broker.Decision, revision broker.Revision, parties PartiesOf) (int64, error) {
	key := seen{
		sub: d.Subscription, agreement: d.Agreement, pack: d.Package.ID, version: d.Package.Version, permit: d.Outcome.Permit, shielded: d.Shielded,
		reasons: unsafe.Pointer(unsafe.SliceData(d.Outcome.Reasons)), bases: unsafe.Pointer(unsafe.SliceData(d.Outcome.Bases)), fields: unsafe.Pointer(unsafe.SliceData(d.Fields)),
		nReasons: len(d.Outcome.Reasons), nBases: len(d.Outcome.Bases), nField: len(d.Fields),
	}
	if key == a.last {
		return a.lastID, nil
	}
	id, ok := a.met[key]
	if !ok {
		agreed, ok := a.parties[d.Agreement]
		if !ok {
			p, known := parties(d.Agreement, revision)
			if !known {
				return 0, fmt.Errorf("%w: agreement %s at revision %d", ErrParties, d.Agreement, revision)
			}
			v := agreement{d.Agreement, p}
			if err := v.check(); err != nil {
				return 0, err
			}
			a.d.mu.RLock()
			agreed = number(a.d.byAgreement, a.byAgreement, v, a.base.agreements, &a.agreements, v)
			a.d.mu.RUnlock()
			a.parties[d.Agreement] = agreed
		}
		o := outcome{Outcome: d.Outcome, pack: d.Package, fields: d.Fields, shielded: d.Shielded}
		if err := o.check(d.Subscription); err != nil {
			return 0, err
		}
		a.d.mu.RLock()
		number0 := number(a.d.byOutcome, a.byOutcome, string(o.content()), a.base.outcomes, &a.outcomes, o)
		w := answer{d.Subscription, agreed, number0}
		id = number(a.d.byAnswer, a.byAnswer, w, a.base.answers, &a.answers, w)
		a.d.mu.RUnlock()
		a.met[key] = id
	}
	a.last, a.lastID = key, id
	return id, nil
}

// counts is how many entries there are with these.
func (a *additions) counts() counts {
	n := a.base
	n.names += int64(len(a.names))
	n.sources += int64(len(a.sources))
	n.agreements += int64(len(a.agreements))
	n.outcomes += int64(len(a.outcomes))
	n.answers += int64(len(a.answers))
	return n
}

// write puts the entries into their tables.
func (a *additions) write(ctx context.Context, w writer) error {
	err := w.load(ctx, "name", []string{"id", "text"}, len(a.names), func(i int, v []any) {
		v[0], v[1] = a.base.names+int64(i), a.names[i]
	})
	if err == nil {
		err = w.load(ctx, "source", []string{"id", "kind", "dataset", "topic", "partition"}, len(a.sources), func(i int, v []any) {
			s := &a.sources[i]
			v[0], v[1], v[2], v[3], v[4] = a.base.sources+int64(i), int64(s.kind), string(s.dataset), s.topic[:], int64(s.partition)
		})
	}
	if err == nil {
		err = w.load(ctx, "agreement", []string{"id", "name", "consumer", "provider", "supplier"}, len(a.agreements), func(i int, v []any) {
			g := &a.agreements[i]
			v[0], v[1], v[2], v[3], v[4] = a.base.agreements+int64(i), string(g.name), string(g.Consumer), string(g.Provider), string(g.Supplier)
		})
	}
	if err == nil {
		err = w.load(ctx, "outcome", []string{"id", "permit", "shielded", "package", "version", "reasons", "bases", "fields"}, len(a.outcomes), func(i int, v []any) {
			o := &a.outcomes[i]
			v[0], v[1], v[2], v[3], v[4] = a.base.outcomes+int64(i), bit(o.Permit), bit(o.shielded), o.pack.ID, int64(o.pack.Version)
			v[5], v[6], v[7] = texts(o.Reasons), texts(o.Bases), texts(o.fields)
		})
	}
	if err == nil {
		err = w.load(ctx, "answer", []string{"id", "subscription", "agreement", "outcome"}, len(a.answers), func(i int, v []any) {
			r := &a.answers[i]
			v[0], v[1], v[2], v[3] = a.base.answers+int64(i), string(r.subscription), r.agreement, r.outcome
		})
	}
	return err
}

// publish makes committed entries part of the dictionaries, unless a reader was
// faster to read them back.
func (a *additions) publish() {
	d := a.d
	d.mu.Lock()
	defer d.mu.Unlock()
	publish(&d.names, a.base.names, a.names, func(id int64, v *string) { d.byName[*v] = id })
	publish(&d.sources, a.base.sources, a.sources, func(id int64, v *source) { d.bySource[*v] = id })
	publish(&d.agreements, a.base.agreements, a.agreements, func(id int64, v *agreement) { d.byAgreement[*v] = id })
	publish(&d.outcomes, a.base.outcomes, a.outcomes, func(id int64, v *outcome) {
		v.own()
		d.byOutcome[string(v.content())] = id
	})
	publish(&d.answers, a.base.answers, a.answers, func(id int64, v *answer) { d.byAnswer[*v] = id })
}

func publish[T any](dst *[]T, base int64, added []T, add func(int64, *T)) {
	for i := range added {
		if id := base + int64(i); id == int64(len(*dst)) {
			add(id, &added[i])
			*dst = append(*dst, added[i])
		}
	}
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// texts is a list as JSON.
func texts[S ~string](list []S) string {
	if len(list) == 0 {
		return "[]"
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic(err) // a list of strings
	}
	return string(b)
}

// hashes are the contents of all answers, for Digest: by number, the hash of
// subscription, agreement, parties and outcome.
func (d *dict) hashes() [][32]byte {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make([][32]byte, len(d.answers))
	var b []byte
	for i := range d.answers {
		w := &d.answers[i]
		g := &d.agreements[w.agreement]
		b = appendString(b[:0], w.subscription)
		b = appendString(b, g.name)
		b = appendString(b, g.Consumer)
		b = appendString(b, g.Provider)
		b = appendString(b, g.Supplier)
		b = append(b, d.outcomes[w.outcome].content()...)
		out[i] = sha256.Sum256(b)
	}
	return out
}
