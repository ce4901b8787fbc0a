package registry

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"

	"datafordeler/broker"
)

// ErrImageVersion says that an image was made by another version of this program.
var ErrImageVersion = errors.New("the image is of another version")

// ReadImage is the state that an image was made of. It reads to the image's end and no
// further, but for what a *bufio.Reader takes at once. An error is that it is no image,
// is cut off, or contradicts itself; [ErrImageVersion] that it is of another version.
func ReadImage(r io.Reader) (*State, error) {
	in := imageReader{r: bufio.NewReaderSize(r, 1<<16)}
	magic := make([]byte, len(imageMagic))
	in.full(magic)
	if in.err == nil && string(magic) != imageMagic {
		return nil, errors.New("this is no image of a registry")
	}
	if v := in.uvarint(math.MaxUint64); in.err == nil && v != ImageVersion {
		return nil, fmt.Errorf("%w: %d; this program has %d", ErrImageVersion, v, ImageVersion)
	}
	var h imageHead
	if head := in.text(); in.err == nil {
		if err := strict(head, &h); err != nil {
			return nil, fmt.Errorf("the registry's image: %w", err)
		}
	}
	s := New()
	if in.err == nil {
		if err := s.fromHead(&h); err != nil {
			return nil, fmt.Errorf("the registry's image: %w", err)
		}
		s.fromTables(&in)
	}
	if in.err != nil {
		return nil, fmt.Errorf("the registry's image: %w", in.err)
	}
	return s, nil
}

// fromHead takes what there are few of.
func (s *State) fromHead(h *imageHead) error {
	s.revision, s.structure, s.head, s.at = h.Revision, h.Structure, h.Head, h.At
	for _, v := range h.Organisations {
		s.organisations[v.Number] = v
	}
	for _, v := range h.Datasets {
		s.datasets[v.ID] = v
		if places := consulted(v); len(places) > 0 {
			s.registers[v.ID] = places
		}
	}
	for _, v := range h.Bases {
		s.bases[v.ID] = v
	}
	for _, v := range h.Packages {
		s.packages[v.Ref()] = v
	}
	for _, v := range h.Mailboxes {
		s.mailboxes[v.ID] = v
	}
	for _, v := range h.Agreements {
		s.agreements[v.ID] = v
	}
	for _, v := range h.Subscriptions {
		s.subscriptions[v.ID] = v
	}
	for _, v := range h.Delegations {
		s.delegations[v.ID] = v
	}
	for _, v := range h.Roles {
		s.roles[v.ID] = v
	}
	for _, v := range h.Assessments {
		s.assessments[v.ID] = v
	}
	for _, v := range h.Tables {
		s.tables[v.ID] = v
	}
	for _, v := range h.Needs {
		s.needs[v.ID] = v
	}
	for _, v := range h.Frameworks {
		s.frameworks[v.ID] = v
	}
	for _, ref := range h.Used {
		s.used[ref] = true
	}
	for _, l := range h.Leases {
		of := s.leased[l.Agreement]
		if of == nil {
			of = &leases{by: map[leaseKey]int64{}}
			s.leased[l.Agreement] = of
		}
		of.sum += l.Amount
		of.by[leaseKey{l.TopicID, l.Partition}] = l.Amount
	}
	for _, f := range h.Frozen {
		k := frozenThing{f.Kind, f.ID}
		if s.frozen[k] == nil {
			s.frozen[k] = map[Authority]Frozen{}
		}
		s.frozen[k][f.By] = f
	}
	for _, d := range h.Deviations {
		s.deviations[d.ID] = d
	}
	take(&s.units.ended, h.EndedUnits)
	s.units.synced = h.Units
	for _, v := range h.Successions {
		s.units.after[v.Subject] = v.Successor
		s.units.before[v.Successor] = append(s.units.before[v.Successor], v.Subject)
	}
	take(&s.receivesFor, h.ReceivesFor)
	take(&s.approvals, h.Approvals)
	take(&s.cosigned, h.Cosigned)
	take(&s.closed, h.Closed)
	take(&s.invited, h.Invited)
	take(&s.acceded, h.Acceded)
	take(&s.lifecycles, h.Lifecycles)
	take(&s.withdrawn, h.Withdrawn)
	take(&s.credentials, h.Credentials)
	take(&s.webhooks, h.Webhooks)
	take(&s.declared, h.Declared)
	take(&s.approved, h.Approved)
	take(&s.policies, h.Policies)
	take(&s.keystores, h.Keystores)
	take(&s.destroyed, h.Destroyed)
	take(&s.foreign.feeds, h.Feeds)
	s.logins, s.hooked, s.starts = h.Logins, h.Hooked, h.Starts
	s.protected.synced, s.protected.known = h.Synced, h.Known
	s.policy, s.keystore, s.ledger = h.Policy, h.Keystore, h.Ledger

	u, o := &s.subjects, &s.obligations
	u.times.odd = h.Odd
	for i, g := range h.CaseGroups {
		u.cases.groups = append(u.cases.groups, caseGroup{g.Subscription, g.Dataset})
		u.cases.group[g.Subscription] = uint32(i)
	}
	for i, g := range h.ConsentGroups {
		k := consentKey{g.Consumer, g.Dataset, g.Purpose}
		u.consents.groups = append(u.consents.groups, k)
		u.consents.group[k] = uint32(i)
	}
	for i, d := range h.Duties {
		v := duty{d.Agreement, d.OnWithdrawal}
		o.duties = append(o.duties, v)
		o.duty[v] = uint32(i)
	}
	for _, ids := range h.Asking {
		for _, id := range ids {
			if s.agreements[id] == nil {
				return fmt.Errorf("agreement %q asks for consents, and is not there", id)
			}
			s.asks(id)
		}
	}
	return nil
}

// take keeps a map, unless it is none.
func take[K comparable, V any](to *map[K]V, from map[K]V) {
	if from != nil {
		*to = from
	}
}

// fromTables takes what there may be millions of.
func (s *State) fromTables(in *imageReader) {
	u, o := &s.subjects, &s.obligations
	for range in.uvarint(math.MaxUint32) {
		var k broker.SubjectKey
		in.full(k[:])
		g := in.text()
		if in.err != nil {
			return
		}
		s.protected.grades[k] = broker.Protection(g)
	}
	readRows(in, 24, func(b rowBytes) {
		r := subjectRow{key: broker.SubjectKey(b.next(16)), cases: b.u32(), consents: b.u32()}
		u.byKey.add(maphash.Bytes(hashSeed, r.key[:]), u.rows.add(r))
	})
	readRows(in, 40, func(b rowBytes) {
		u.cases.rows.add(caseRow{from: instant(b.u64()), to: instant(b.u64()), subject: b.u32(), next: b.u32(), name: b.u32(), group: b.u32(), since: broker.Revision(b.u64())})
	})
	u.cases.names.read(in)
	readRows(in, 48, func(b rowBytes) {
		u.consents.rows.add(consentRow{from: instant(b.u64()), to: instant(b.u64()), withdrawn: instant(b.u64()), subject: b.u32(), next: b.u32(), name: b.u32(), group: b.u32(), since: broker.Revision(b.u64())})
	})
	u.consents.names.read(in)
	readRows(in, 24, func(b rowBytes) {
		o.rows.add(obligationRow{instant(b.u64()), broker.Revision(b.u64()), b.u32(), b.u32()})
	})
	if in.err == nil {
		in.err = s.whole()
	}
	if in.err != nil {
		return
	}
	s.reindex()
	o.open = o.rows.len()
	for range in.uvarint(math.MaxUint32) {
		row := in.u32()
		var r Receipted
		if v := in.text(); in.err == nil {
			in.err = json.Unmarshal(v, &r)
		}
		if in.err == nil && int(row) >= o.rows.len() {
			in.err = errors.New("a receipt is of no obligation")
		}
		if in.err != nil {
			return
		}
		o.receipts[row] = r
	}
	o.open -= len(o.receipts)
	readRows(in, 24, func(b rowBytes) {
		k, at := uuidKey(b.next(16)), instant(b.u64())
		if !u.times.has(at) {
			in.err = errors.New("a row leads nowhere")
		}
		s.foreign.ended[k] = at
	})
}

// whole holds the rows to each other: each number in them leads somewhere.
func (s *State) whole() error {
	u, o := &s.subjects, &s.obligations
	subjects, cases, consents := u.rows.len(), u.cases.rows.len(), u.consents.rows.len()
	none := errors.New("a row leads nowhere")
	for i := range uint32(subjects) {
		if r := u.rows.at(i); int(r.cases) > cases || int(r.consents) > consents {
			return none
		}
	}
	for i := range uint32(cases) {
		r := u.cases.rows.at(i)
		if int(r.subject) >= subjects || int(r.next) > cases || r.next == 0 || int(r.group&^caseEnded) >= len(u.cases.groups) ||
			!u.cases.names.has(i, r.name, 1) || !u.times.has(r.from, r.to) {
			return none
		}
	}
	for i := range uint32(consents) {
		r := u.consents.rows.at(i)
		if int(r.subject) >= subjects || int(r.next) > consents || r.next == 0 || int(r.group) >= len(u.consents.groups) ||
			!u.consents.names.has(i, r.name, 2) || !u.times.has(r.from, r.to, r.withdrawn) {
			return none
		}
	}
	for i := range uint32(o.rows.len()) {
		if r := o.rows.at(i); int(r.consent) >= consents || int(r.duty) >= len(o.duties) || !u.times.has(r.since) {
			return none
		}
	}
	return nil
}

// reindex makes the indexes by name.
func (s *State) reindex() {
	u, o := &s.subjects, &s.obligations
	for i := range uint32(u.cases.rows.len()) {
		u.cases.byName.add(u.cases.hash(u.cases.rows.at(i).group&^caseEnded, u.cases.id(i)), i)
	}
	for i := range uint32(u.consents.rows.len()) {
		name, _ := u.consents.names.get(i, u.consents.rows.at(i).name)
		u.consents.byName.add(maphash.String(hashSeed, name), i)
	}
	for i := range uint32(o.rows.len()) {
		r := o.rows.at(i)
		o.byName.add(obligationHash(r.consent, o.duties[r.duty].agreement), i)
	}
}

func (t *texts) read(in *imageReader) {
	t.full = in.list()
	if open := in.list(); len(open) == 1 {
		t.open.WriteString(open[0])
	} else if in.err == nil {
		in.err = errors.New("one page of texts is open")
	}
	t.long = in.list()
}

// has reports whether n texts of row i stand at a place.
func (t *texts) has(i, at uint32, n int) bool {
	page := t.open.String()
	if p := int(i >> pageBits); p < len(t.full) {
		page = t.full[p]
	} else if p > len(t.full) {
		return false
	}
	for range n {
		if int(at) >= len(page) {
			return false
		}
		size := uint32(page[at])
		if size == longText {
			if int(at)+5 > len(page) || int(binary.BigEndian.Uint32([]byte(page[at+1:at+5]))) >= len(t.long) {
				return false
			}
			size = 4
		}
		if at += 1 + size; int(at) > len(page) {
			return false
		}
	}
	return true
}

// has reports whether each is a time.
func (o *times) has(all ...instant) bool {
	for _, i := range all {
		if i != 0 && i&3 == 0 && (i < 0 || int64(i>>2) > int64(len(o.odd))) {
			return false
		}
	}
	return true
}

// imageReader reads until the first error.
type imageReader struct {
	r   *bufio.Reader
	err error
}

func (in *imageReader) full(b []byte) {
	if in.err == nil {
		if _, in.err = io.ReadFull(in.r, b); in.err == io.EOF {
			in.err = io.ErrUnexpectedEOF
		}
	}
}

// uvarint is a number up to most; 0 after an error.
func (in *imageReader) uvarint(most uint64) uint64 {
	if in.err != nil {
		return 0
	}
	var n uint64
	if n, in.err = binary.ReadUvarint(in.r); in.err == io.EOF {
		in.err = io.ErrUnexpectedEOF
	}
	if in.err == nil && n > most {
		in.err = fmt.Errorf("%d is too many", n)
	}
	if in.err != nil {
		return 0
	}
	return n
}

func (in *imageReader) u32() uint32 {
	var b [4]byte
	in.full(b[:])
	return binary.LittleEndian.Uint32(b[:])
}

// text does not believe a length: it takes what is there.
func (in *imageReader) text() []byte {
	n := in.uvarint(math.MaxInt32)
	if in.err != nil {
		return nil
	}
	if n <= 1<<16 {
		b := make([]byte, n)
		in.full(b)
		return b
	}
	var b bytes.Buffer
	if _, in.err = io.CopyN(&b, in.r, int64(n)); in.err == io.EOF {
		in.err = io.ErrUnexpectedEOF
	}
	return b.Bytes()
}

func (in *imageReader) list() (all []string) {
	for range in.uvarint(math.MaxUint32) {
		s := in.text()
		if in.err != nil {
			return nil
		}
		all = append(all, string(s))
	}
	return all
}

// rowBytes are what is left of a row.
type rowBytes struct{ b *[]byte }

func (r rowBytes) next(n int) []byte {
	b := (*r.b)[:n]
	*r.b = (*r.b)[n:]
	return b
}
func (r rowBytes) u32() uint32 { return binary.LittleEndian.Uint32(r.next(4)) }
func (r rowBytes) u64() uint64 { return binary.LittleEndian.Uint64(r.next(8)) }

func readRows(in *imageReader, size int, row func(rowBytes)) {
	buf := make([]byte, size)
	for range in.uvarint(math.MaxUint32 - 2) {
		in.full(buf)
		if in.err != nil {
			return
		}
		b := buf
		row(rowBytes{&b})
	}
}
