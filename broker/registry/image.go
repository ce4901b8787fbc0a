package registry

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"time"

	"datafordeler/broker"
)

// ImageVersion names what the fold makes of the events, and how an image says it. It
// rises with every change of either, so that what an older program made of the log is
// never taken for what this one would: then the log is folded from its beginning, once.
const ImageVersion = 3

// imageMagic begins each image.
const imageMagic = "datafordeler registry image\n"

// Image is a state as it was at one moment, to be written down and begun from in place
// of the log before it. It holds nothing that the log does not, and the log alone
// decides: an image that does not fit it is thrown away.
//
//	image    = magic version head tables
//	version  = uvarint, ImageVersion
//	head     = text, the JSON of what there are few of
//	tables   = grades subjects cases texts consents texts obligations receipts ended
//	table    = uvarint, the number of rows, and the rows
//	text     = uvarint, its length, and its bytes
//
// Numbers in rows are little-endian and of fixed size. The same state is always the same
// bytes. What can be found out from the rest is not written: the indexes.
type Image struct {
	head        imageHead
	grades      []imageGrade
	subjects    [][]subjectRow
	cases       [][]caseRow
	caseNames   imageTexts
	consents    [][]consentRow
	names       imageTexts
	obligations [][]obligationRow
	receipts    []imageReceipt
	ended       []imageEnd
}

type imageHead struct {
	Revision  broker.Revision
	Structure broker.Revision
	Head      broker.Digest
	At        time.Time

	Organisations []*broker.Organisation
	Datasets      []*broker.Dataset
	Bases         []*broker.LegalBasis
	Packages      []*broker.RightsPackage
	Mailboxes     []*broker.Mailbox
	Agreements    []*broker.Agreement
	Subscriptions []*broker.Subscription
	Delegations   []*broker.Delegation
	Roles         []*broker.Role
	Assessments   []*broker.LegalAssessment
	Tables        []*broker.TruthTable
	Needs         []*broker.Need
	Frameworks    []*broker.Framework
	Used          []broker.PackageRef
	ReceivesFor   map[broker.MailboxID]broker.OrgNumber

	Approvals  map[broker.AgreementID]FrameworkApprovedBy
	Cosigned   map[broker.NeedID]map[broker.OrgNumber]Cosigned
	Closed     map[broker.NeedID]NeedClosed
	Invited    map[broker.AgreementID]map[broker.OrgNumber]Invited
	Acceded    map[broker.AgreementID]Acceded
	Lifecycles map[broker.AgreementID]*Lifecycle

	Withdrawn   map[broker.DelegationID]Withdrawal
	Leases      []Lease
	Credentials map[string]IssuedCredential
	Logins      broker.Revision
	Webhooks    map[broker.MailboxID]WebhookState
	Hooked      broker.Revision
	Frozen      []Frozen
	Synced      *ProtectionState
	Known       bool
	EndedUnits  map[broker.OrgNumber]EndedUnit
	Successions []SubjectSuccession // in the order of the successors' lists
	Units       *UnitState
	Deviations  []DeviationState
	Feeds       map[string]ConsentFeedState
	Declared    map[broker.SubscriptionID]broker.Revision
	Starts      []Start
	Approved    map[broker.TruthTableID]ApprovedTable
	Policy      *Policy
	Policies    map[string]broker.Revision
	Keystore    string
	Ledger      Ledger
	Keystores   map[string]time.Time
	Destroyed   map[string]Destroyed

	// Of the tables: what their rows have in common, and times that no row holds.
	CaseGroups    []imageCaseGroup
	ConsentGroups []imageConsentKey
	Odd           []time.Time
	Duties        []imageDuty
	Asking        [][]broker.AgreementID // by what a consent names, each in the order in which they came
}

type imageCaseGroup struct {
	Subscription broker.SubscriptionID
	Dataset      broker.DatasetID
}

type imageConsentKey struct {
	Consumer broker.OrgNumber
	Dataset  broker.DatasetID
	Purpose  broker.Purpose
}

type imageDuty struct {
	Agreement broker.AgreementID
	broker.OnWithdrawal
}

type imageGrade struct {
	key   broker.SubjectKey
	grade broker.Protection
}

type imageReceipt struct {
	row     uint32
	receipt Receipted
}

type imageEnd struct {
	consent uuidKey
	at      instant
}

type imageTexts struct {
	full []string
	open string
	long []string
}

// Image is the state as it is now. It shares nothing with it that changes, so that it
// can be written while the state moves on.
func (s *State) Image() *Image {
	u, o := &s.subjects, &s.obligations
	m := &Image{
		head: imageHead{
			Revision: s.revision, Structure: s.structure, Head: s.head, At: s.at,
			Organisations: s.Organisations(), Datasets: s.Datasets(), Bases: s.Bases(), Packages: s.Packages(),
			Mailboxes: s.Mailboxes(), Agreements: s.Agreements(), Subscriptions: s.Subscriptions(), Delegations: s.Delegations(),
			Roles: s.Roles(), Assessments: s.LegalAssessments(), Tables: s.TruthTables(), Needs: sorted(s.needs), Frameworks: sorted(s.frameworks),
			ReceivesFor: maps.Clone(s.receivesFor),
			Approvals:   maps.Clone(s.approvals), Cosigned: cloneEach(s.cosigned), Closed: maps.Clone(s.closed), Invited: cloneEach(s.invited),
			Acceded: maps.Clone(s.acceded), Lifecycles: maps.Clone(s.lifecycles),
			Withdrawn: maps.Clone(s.withdrawn), Credentials: maps.Clone(s.credentials), Logins: s.logins,
			Webhooks: maps.Clone(s.webhooks), Hooked: s.hooked, Frozen: s.Freezes(), Synced: s.protected.synced, Known: s.protected.known, Feeds: maps.Clone(s.foreign.feeds),
			Declared: maps.Clone(s.declared), Starts: slices.Clone(s.starts), Approved: maps.Clone(s.approved),
			Policy: s.policy, Policies: maps.Clone(s.policies), Keystore: s.keystore, Ledger: s.ledger,
			Keystores: maps.Clone(s.keystores), Destroyed: maps.Clone(s.destroyed), Odd: slices.Clone(u.times.odd),
		},
		subjects: u.rows.clone(), cases: u.cases.rows.clone(), caseNames: u.cases.names.image(),
		consents: u.consents.rows.clone(), names: u.consents.names.image(), obligations: o.rows.clone(),
	}
	h := &m.head
	for ref := range s.used {
		h.Used = append(h.Used, ref)
	}
	slices.SortFunc(h.Used, func(a, b broker.PackageRef) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Version, b.Version))
	})
	for a, l := range s.leased {
		for k, n := range l.by {
			h.Leases = append(h.Leases, Lease{a, k.topic, k.partition, n})
		}
	}
	slices.SortFunc(h.Leases, func(a, b Lease) int {
		return cmp.Or(cmp.Compare(a.Agreement, b.Agreement), bytes.Compare(a.TopicID[:], b.TopicID[:]), cmp.Compare(a.Partition, b.Partition))
	})
	h.EndedUnits, h.Units = maps.Clone(s.units.ended), s.units.synced
	for _, k := range slices.SortedFunc(maps.Keys(s.units.before), func(a, b broker.SubjectKey) int { return bytes.Compare(a[:], b[:]) }) {
		for _, p := range s.units.before[k] {
			h.Successions = append(h.Successions, SubjectSuccession{p, k})
		}
	}
	for _, d := range s.deviations {
		h.Deviations = append(h.Deviations, d)
	}
	slices.SortFunc(h.Deviations, func(a, b DeviationState) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	for k, g := range s.protected.grades {
		m.grades = append(m.grades, imageGrade{k, g})
	}
	slices.SortFunc(m.grades, func(a, b imageGrade) int { return bytes.Compare(a.key[:], b.key[:]) })
	for _, g := range u.cases.groups {
		h.CaseGroups = append(h.CaseGroups, imageCaseGroup{g.subscription, g.dataset})
	}
	for _, k := range u.consents.groups {
		h.ConsentGroups = append(h.ConsentGroups, imageConsentKey{k.consumer, k.dataset, k.purpose})
	}
	for _, d := range o.duties {
		h.Duties = append(h.Duties, imageDuty{d.agreement, d.OnWithdrawal})
	}
	for _, ids := range o.asking {
		h.Asking = append(h.Asking, slices.Clone(ids))
	}
	slices.SortFunc(h.Asking, func(a, b []broker.AgreementID) int { return cmp.Compare(a[0], b[0]) })
	for row, r := range o.receipts {
		m.receipts = append(m.receipts, imageReceipt{row, r})
	}
	slices.SortFunc(m.receipts, func(a, b imageReceipt) int { return cmp.Compare(a.row, b.row) })
	for k, at := range s.foreign.ended {
		m.ended = append(m.ended, imageEnd{k, at})
	}
	slices.SortFunc(m.ended, func(a, b imageEnd) int { return bytes.Compare(a.consent[:], b.consent[:]) })
	return m
}

// Revision is the state's.
func (m *Image) Revision() broker.Revision { return m.head.Revision }

func cloneEach[K, L comparable, V any](m map[K]map[L]V) map[K]map[L]V {
	out := make(map[K]map[L]V, len(m))
	for k, v := range m {
		out[k] = maps.Clone(v)
	}
	return out
}

// clone copies the rows.
func (p *pages[T]) clone() [][]T {
	out := make([][]T, len(p.list))
	for i, page := range p.list {
		out[i] = slices.Clone(page)
	}
	return out
}

// image is the texts as they are; strings do not change.
func (t *texts) image() imageTexts {
	return imageTexts{slices.Clone(t.full), t.open.String(), slices.Clone(t.long)}
}

// Digest is the SHA-256 of what Write writes, as hexadecimal. Equal states have the same.
func (m *Image) Digest(h hash.Hash) (string, error) {
	h.Reset()
	if err := m.Write(h); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// Write writes the image. Errors are w's.
func (m *Image) Write(w io.Writer) error {
	head, err := json.Marshal(&m.head)
	if err != nil {
		return fmt.Errorf("the registry's image: %w", err) // all of it came from JSON
	}
	b := imageWriter{w: bufio.NewWriterSize(w, 1<<16)}
	b.buf = append(b.buf, imageMagic...)
	b.flush()
	b.uvarint(ImageVersion)
	b.text(string(head))

	b.uvarint(uint64(len(m.grades)))
	for _, g := range m.grades {
		b.buf = append(b.buf, g.key[:]...)
		b.text(string(g.grade))
	}
	writeRows(&b, m.subjects, func(dst []byte, r *subjectRow) []byte {
		return fixed(fixed(append(dst, r.key[:]...), r.cases), r.consents)
	})
	writeRows(&b, m.cases, func(dst []byte, r *caseRow) []byte {
		dst = fixed(fixed(dst, uint64(r.from)), uint64(r.to))
		return fixed(fixed(fixed(fixed(fixed(dst, r.subject), r.next), r.name), r.group), uint64(r.since))
	})
	b.texts(&m.caseNames)
	writeRows(&b, m.consents, func(dst []byte, r *consentRow) []byte {
		dst = fixed(fixed(fixed(dst, uint64(r.from)), uint64(r.to)), uint64(r.withdrawn))
		return fixed(fixed(fixed(fixed(fixed(dst, r.subject), r.next), r.name), r.group), uint64(r.since))
	})
	b.texts(&m.names)
	writeRows(&b, m.obligations, func(dst []byte, r *obligationRow) []byte {
		return fixed(fixed(fixed(fixed(dst, uint64(r.since)), uint64(r.revision)), r.consent), r.duty)
	})
	b.uvarint(uint64(len(m.receipts)))
	for _, r := range m.receipts {
		v, err := json.Marshal(r.receipt)
		if err != nil {
			return fmt.Errorf("the registry's image: %w", err)
		}
		b.buf = fixed(b.buf, r.row)
		b.text(string(v))
	}
	writeRows(&b, [][]imageEnd{m.ended}, func(dst []byte, e *imageEnd) []byte {
		return fixed(append(dst, e.consent[:]...), uint64(e.at))
	})
	b.flush()
	if b.err != nil {
		return b.err
	}
	return b.w.Flush()
}

// imageWriter writes until the first error.
type imageWriter struct {
	w   *bufio.Writer
	buf []byte
	err error
}

func (b *imageWriter) flush() {
	if b.err == nil {
		_, b.err = b.w.Write(b.buf)
	}
	b.buf = b.buf[:0]
}

func (b *imageWriter) uvarint(n uint64) {
	b.buf = binary.AppendUvarint(b.buf, n)
	b.flush()
}

func (b *imageWriter) text(s string) {
	b.buf = binary.AppendUvarint(b.buf, uint64(len(s)))
	b.flush()
	if b.err == nil {
		_, b.err = b.w.WriteString(s)
	}
}

func (b *imageWriter) texts(t *imageTexts) {
	for _, list := range [][]string{t.full, {t.open}, t.long} {
		b.uvarint(uint64(len(list)))
		for _, s := range list {
			b.text(s)
		}
	}
}

func writeRows[T any](b *imageWriter, list [][]T, row func([]byte, *T) []byte) {
	n := 0
	for _, page := range list {
		n += len(page)
	}
	b.uvarint(uint64(n))
	for _, page := range list {
		for i := range page {
			b.buf = row(b.buf, &page[i])
		}
		b.flush()
	}
}

func fixed[T uint32 | uint64](dst []byte, n T) []byte {
	if v, ok := any(n).(uint32); ok {
		return binary.LittleEndian.AppendUint32(dst, v)
	}
	return binary.LittleEndian.AppendUint64(dst, uint64(n))
}
