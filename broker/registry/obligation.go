package registry

import (
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
)

// Obligation is what the withdrawal of a consent lays on whoever received by it: a duty
// of one agreement, to be answered by a receipt. It follows from the withdrawal and the
// agreement as it stood then, and from nothing that anybody writes.
type Obligation struct {
	Consent   broker.ConsentID   `json:"consent"`
	External  string             `json:"external,omitempty"` // where the consent was given (Altinn)
	Agreement broker.AgreementID `json:"agreement"`
	broker.OnWithdrawal
	Revision broker.Revision `json:"revision"` // of the withdrawal; obligations stand in this order
	Since    time.Time       `json:"since"`    // when the withdrawal was recorded
	Due      time.Time       `json:"due"`      // when the receipt is to be given at the latest
	// Receipt is the last that was given; nil while none is.
	Receipt *Receipted `json:"receipt,omitempty"`
}

// Overdue reports whether a receipt ought to have been given by now.
func (o *Obligation) Overdue(now time.Time) bool { return o.Receipt == nil && now.After(o.Due) }

// Receipt says what was done about an obligation. It stands in the log for ever.
type Receipt struct {
	Consent   broker.ConsentID   `json:"consent"`
	Agreement broker.AgreementID `json:"agreement"`
	Did       Deed               `json:"did"`
	// ELI and Paragraph cite the law by which it was kept, where the agreement does not.
	ELI       string `json:"eli,omitempty"`
	Paragraph string `json:"paragraph,omitempty"`
	Note      string `json:"note,omitempty"`
}

// Receipted is a receipt as it was given.
type Receipted struct {
	Did       Deed            `json:"did"`
	ELI       string          `json:"eli,omitempty"`
	Paragraph string          `json:"paragraph,omitempty"`
	Note      string          `json:"note,omitempty"`
	At        time.Time       `json:"at"`
	Actor     string          `json:"actor"`
	Revision  broker.Revision `json:"revision"`
}

// Deed is what was done. The set is closed.
type Deed string

// The deeds.
const (
	DidStop    Deed = "stopped" // no longer used
	DidDelete  Deed = "deleted"
	DidKeep    Deed = "kept"         // by a law, for nothing else
	HadNothing Deed = "nothing-held" // nothing was ever received, or it was deleted before
	Consented  Deed = "consented"    // another consent of the same subject to the same stands
)

// Deeds are all of them.
var Deeds = []Deed{DidStop, DidDelete, DidKeep, HadNothing, Consented}

// final reports whether nothing is left that could be done.
func (d Deed) final() bool { return d == DidDelete || d == HadNothing }

// answers are the deeds that a duty may be answered by. Who deletes has always done
// enough; who must delete may keep by a law that they name.
func answers(d broker.WithdrawalDuty) []Deed {
	switch d {
	case broker.StopUsing:
		return Deeds
	case broker.DeleteWithdrawn, broker.KeepWithdrawn:
		return []Deed{DidDelete, DidKeep, HadNothing, Consented}
	}
	return nil
}

// GiveReceipt says what was done about an obligation.
func GiveReceipt(r Receipt) Change { return change(ReceiptGiven, r) }

// obligations are in the order of the withdrawals, for a million of them: see
// compact.go.
type obligations struct {
	rows   pages[obligationRow]
	byName index // by consent and agreement
	duties []duty
	duty   map[duty]uint32
	open   int // without a receipt
	// asking are the agreements that a consent is asked for by, in the order in which
	// they came.
	asking   map[consentKey][]broker.AgreementID
	known    map[broker.AgreementID]bool
	receipts map[uint32]Receipted // by row
}

type obligationRow struct {
	since    instant
	revision broker.Revision
	consent  uint32
	duty     uint32
}

// duty is what many obligations have in common.
type duty struct {
	agreement broker.AgreementID
	broker.OnWithdrawal
}

func newObligations() obligations {
	return obligations{duty: map[duty]uint32{}, asking: map[consentKey][]broker.AgreementID{}, known: map[broker.AgreementID]bool{}, receipts: map[uint32]Receipted{}}
}

// asks notes an agreement under what a consent names. Its parties, dataset and purpose
// never change.
func (s *State) asks(id broker.AgreementID) {
	o, a := &s.obligations, s.agreements[id]
	if a == nil || o.known[id] {
		return
	}
	o.known[id] = true
	k := consentKey{a.Consumer, a.Dataset, a.Purpose}
	o.asking[k] = append(o.asking[k], id)
}

func obligationHash(consent uint32, a broker.AgreementID) uint64 {
	return maphash.String(hashSeed, string(a)) ^ uint64(consent+1)*0x9e3779b97f4a7c15
}

// oblige lays the duties on those who had the data by a consent: under each agreement
// that rests on consent and was ever in force. One that has ended still left something
// with its receiver.
func (s *State) oblige(consent uint32, e *Event) {
	u, o := &s.subjects, &s.obligations
	k := u.consents.groups[u.consents.rows.at(consent).group]
	for _, id := range o.asking[k] {
		a := s.agreements[id]
		if a.Status == broker.Proposed || a.Status == broker.Accepted || !s.byConsent(a.Bases) {
			continue
		}
		d := duty{id, a.Duty()}
		n, ok := o.duty[d]
		if !ok {
			n = uint32(len(o.duties))
			o.duties, o.duty[d] = append(o.duties, d), n
		}
		row := o.rows.add(obligationRow{u.times.pack(e.At.UTC()), e.Seq, consent, n})
		o.byName.add(obligationHash(consent, id), row)
		o.open++
	}
}

// byConsent reports whether one of the bases is consent.
func (s *State) byConsent(bases []broker.LegalBasisID) bool {
	return slices.ContainsFunc(bases, func(id broker.LegalBasisID) bool { return s.bases[id] != nil && s.bases[id].Type == broker.Samtykke })
}

func (s *State) obligationRow(consent broker.ConsentID, a broker.AgreementID) (row uint32, ok bool) {
	c, ok := s.subjects.consents.find(consent)
	if !ok {
		return 0, false
	}
	o := &s.obligations
	return o.byName.find(obligationHash(c, a), func(i uint32) bool {
		r := o.rows.at(i)
		return r.consent == c && o.duties[r.duty].agreement == a
	})
}

func (s *State) refuseReceipt(v *Receipt) string {
	row, ok := s.obligationRow(v.Consent, v.Agreement)
	if !ok {
		return fmt.Sprintf("the withdrawal of consent %q laid nothing on the receiver under agreement %q", v.Consent, v.Agreement)
	}
	d := s.obligations.duties[s.obligations.rows.at(row).duty]
	old, given := s.obligations.receipts[row]
	switch {
	case !slices.Contains(answers(d.Do), v.Did):
		return fmt.Sprintf("what is to be done is %s: that is not answered by %q, but by one of %v", d.Do, string(v.Did), answers(d.Do))
	case given && (old.Did.final() || !v.Did.final()):
		return fmt.Sprintf("a receipt was given before: %s; after that comes only that it was deleted", old.Did)
	case v.Did == DidKeep && d.Do != broker.KeepWithdrawn && v.ELI == "":
		return "what was to be deleted is kept by a law only: cite it in eli and paragraph"
	case v.Did != DidKeep && (v.ELI != "" || v.Paragraph != ""):
		return "a law is cited only for what is kept"
	}
	return first(checkLaw(v.ELI, v.Paragraph), CheckReceiptNote(v.Note))
}

// refuseReceiptAt holds the word that another consent stands to what is known at a time.
func (s *State) refuseReceiptAt(v *Receipt, at time.Time) string {
	if v.Did != Consented {
		return ""
	}
	c, _ := s.Consent(v.Consent)
	if slices.ContainsFunc(s.Consents(nil, c.Consumer, c.Dataset, c.Purpose, c.Subject), func(c broker.Consent) bool {
		return c.Valid.Contains(at) && c.Withdrawn.IsZero()
	}) {
		return ""
	}
	return "no other consent of the same subject to the same is in force"
}

// checkLaw says what a citation may not be.
func checkLaw(eli, paragraph string) string {
	switch {
	case !isELI(eli):
		return fmt.Sprintf("%q is not a European Legislation Identifier: want such as https://lovdata.no/eli/lov/2004/11/19/73", eli)
	case eli == "" && paragraph != "":
		return "a paragraph stands beside the act that it is in (eli)"
	case len(paragraph) > 100 || elevenDigits(paragraph):
		return "the paragraph is longer than 100 bytes or holds eleven digits in a row; want such as § 13"
	}
	return ""
}

// CheckReceiptNote says what a note may not be: it stands in the log for ever.
func CheckReceiptNote(note string) string {
	if err := CheckDeviationNote(note); err != nil {
		return err.Error()
	}
	return ""
}

// refuseDuty says what an agreement may not lay on its receiver; nil is the default.
func refuseDuty(d *broker.OnWithdrawal) string {
	switch {
	case d == nil:
		return ""
	case !slices.Contains(broker.WithdrawalDuties, d.Do):
		return fmt.Sprintf("onWithdrawal: there is nothing to do called %q; want one of %v", string(d.Do), broker.WithdrawalDuties)
	case d.Days < 0 || d.Days > broker.MaxWithdrawalDays:
		return fmt.Sprintf("onWithdrawal: %d days; want 1 to %d, or leave it out for %d: the law leaves a month (GDPR article 12(3))", d.Days, broker.MaxWithdrawalDays, broker.DeleteOnWithdrawal.Days)
	case d.Do == broker.KeepWithdrawn && (d.ELI == "" || strings.TrimSpace(d.Paragraph) == ""):
		return "onWithdrawal: what is kept when a consent is withdrawn is kept by a law: cite it in eli and paragraph"
	case d.Do != broker.KeepWithdrawn && (d.ELI != "" || d.Paragraph != ""):
		return "onWithdrawal: a law is cited only for what is kept"
	}
	if r := checkLaw(d.ELI, d.Paragraph); r != "" {
		return "onWithdrawal: " + r
	}
	return ""
}

func (s *State) giveReceipt(v *Receipt, e *Event) {
	row, _ := s.obligationRow(v.Consent, v.Agreement) // refuse has had its say
	o := &s.obligations
	if _, given := o.receipts[row]; !given {
		o.open--
	}
	o.receipts[row] = Receipted{v.Did, v.ELI, v.Paragraph, v.Note, e.At, e.Actor, e.Seq}
}

func (s *State) obligation(i uint32) Obligation {
	o := &s.obligations
	r := o.rows.at(i)
	d, c := o.duties[r.duty], s.subjects.consent(r.consent)
	v := Obligation{Consent: c.ID, External: c.External, Agreement: d.agreement, OnWithdrawal: d.OnWithdrawal, Revision: r.revision, Since: s.subjects.times.time(r.since)}
	v.Due = v.Since.AddDate(0, 0, d.Days)
	if got, ok := o.receipts[i]; ok {
		v.Receipt = &got
	}
	return v
}

// Obligation finds what a consent's withdrawal laid on the receiver under an agreement.
func (s *State) Obligation(consent broker.ConsentID, a broker.AgreementID) (Obligation, bool) {
	row, ok := s.obligationRow(consent, a)
	if !ok {
		return Obligation{}, false
	}
	return s.obligation(row), true
}

// ObligationsAfter are those that withdrawals after a revision laid on anybody, the
// oldest first.
func (s *State) ObligationsAfter(rev broker.Revision) iter.Seq[Obligation] {
	return func(yield func(Obligation) bool) {
		o := &s.obligations
		low, high := 0, o.rows.len()
		for low < high {
			if mid := int(uint(low+high) >> 1); o.rows.at(uint32(mid)).revision <= rev {
				low = mid + 1
			} else {
				high = mid
			}
		}
		for ; low < o.rows.len(); low++ {
			if !yield(s.obligation(uint32(low))) {
				return
			}
		}
	}
}

// ObligationsOf are those of one consent, which was withdrawn.
func (s *State) ObligationsOf(c broker.ConsentID) (all []Obligation) {
	i, ok := s.subjects.consents.find(c)
	if !ok {
		return nil
	}
	r := s.subjects.consents.rows.at(i)
	for _, a := range s.obligations.asking[s.subjects.consents.groups[r.group]] {
		if o, ok := s.Obligation(c, a); ok {
			all = append(all, o)
		}
	}
	return all
}

// ObligationsOpen counts those that have no receipt, and those of them that are overdue.
// It looks at every one.
func (s *State) ObligationsOpen(now time.Time) (open, overdue int) {
	o := &s.obligations
	if o.open == 0 {
		return 0, 0
	}
	for i := range uint32(o.rows.len()) {
		if _, given := o.receipts[i]; given {
			continue
		}
		r := o.rows.at(i)
		if now.After(s.subjects.times.time(r.since).AddDate(0, 0, o.duties[r.duty].Days)) {
			overdue++
		}
	}
	return o.open, overdue
}
