package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/derive"
	"datafordeler/broker/ledger"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
	"datafordeler/policy"
)

// Proven is a decision as it stands in the ledger.
type Proven struct {
	Line   []byte
	Status ProofStatus
	// Proof is nil while no head that counts covers it.
	Proof *ledger.Proof
}

// Explanation is one decision with all that it rested on, as that was then.
type Explanation struct {
	Decision Decision          `json:"decision"`
	About    About             `json:"dataset"`
	Provider Party             `json:"provider"`
	Consumer Party             `json:"consumer"`
	Supplier *Party            `json:"supplier,omitempty"`
	Terms    *broker.Agreement `json:"agreement"`
	// Ended is set where a party to the agreement was no more when it was decided.
	Ended   *registry.UnitEnd `json:"ended,omitempty" doc:"a party that was deleted from the register of legal entities, or merged: its agreements count as ended"`
	Bases   []Basis           `json:"bases"`
	Reasons []ReasonWords     `json:"reasons,omitempty"`
	Derived []Derived         `json:"derived,omitempty" doc:"of the fields, those that the broker worked out of others"`
	// Household is set where the subject was asked about together with others.
	Household *Household      `json:"household,omitempty" doc:"where several were asked about together, and the answer is on all of them"`
	Proof     ProofStatus     `json:"proof"`
	Withheld  *Withheld       `json:"withheld,omitempty" doc:"at the door: since when, and how often"`
	engine    *policy.Engine  // of the policy that decided; nil where it cannot be compiled here
	state     *registry.State // as of the decision's revision
	decision  *broker.Decision
}

// Withheld says how often one delivery was withheld at the door. It is asked for
// again, and each time is a decision under the same id.
type Withheld struct {
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"`
	Times int       `json:"times" doc:"at most 1000 are counted"`
}

type About struct {
	ID    broker.DatasetID `json:"id"`
	Title string           `json:"title"`
}

type Party struct {
	Number  broker.OrgNumber `json:"number"`
	Name    string           `json:"name"`
	Contact string           `json:"contact,omitempty"`
}

type Basis struct {
	broker.LegalBasis
	Law string `json:"law"` // title and paragraph
}

type ReasonWords struct {
	Code    broker.Reason     `json:"code"`
	Cites   []string          `json:"cites,omitempty"`
	Message map[string]string `json:"message,omitempty"`
	Remedy  map[string]string `json:"remedy,omitempty"`
}

// Derived says how a delivered field was worked out.
type Derived struct {
	Field broker.Pointer   `json:"field"`
	Title string           `json:"title"`
	From  []broker.Pointer `json:"from"`
	Rule  string           `json:"rule" doc:"as a formula, in version 1 of the language of derivations"`
}

// Household says which decisions belong together: those whose request is this one but
// for its last byte, which is the place.
type Household struct {
	Request broker.Digest `json:"request" doc:"what the requests of all of them begin with; the last two digits are the place"`
	Place   int           `json:"place" doc:"of this subject in the question, from 1 on"`
}

type ProofStatus struct {
	Origin    string   `json:"origin"`
	Entry     int64    `json:"entry"`
	Covered   int64    `json:"covered"` // entries under the head; less than entry while it waits
	Cosigners []string `json:"cosigners"`
	KeyFrom   string   `json:"key_from"`
}

// Explain says what a decision rested on, as that was when it was made.
func (d *Desk) Explain(ctx context.Context, proven *Proven) (*Explanation, error) {
	made, err := ledger.ParseDecision(proven.Line)
	if err != nil {
		return nil, err
	}
	x := &Explanation{Proof: proven.Status, decision: &made, Decision: NewDecision(&made)}
	if x.state, err = d.StateAt(ctx, made.Revision); err != nil {
		return nil, err
	}
	if made.Kind == broker.DoorDecision {
		if x.Withheld, err = d.withheld(ctx, &made); err != nil {
			return nil, err
		}
	}
	return x, x.fill()
}

// withheld counts the times. Where no read model is at hand it is the one that is
// explained, which is the first.
func (d *Desk) withheld(ctx context.Context, made *broker.Decision) (*Withheld, error) {
	w := &Withheld{Since: made.Time, Last: made.Time, Times: 1}
	if d.Store == nil {
		return w, nil
	}
	page, err := d.Store.Search(ctx, store.Query{Decision: made.ID, Ascending: true, Limit: store.MaxLimit})
	if err != nil || len(page.Hits) == 0 {
		return w, err
	}
	w.Since, w.Last, w.Times = page.Hits[0].Decision.Time, page.Hits[len(page.Hits)-1].Decision.Time, len(page.Hits)
	return w, nil
}

var errEnough = errors.New("enough")

// StateAt is the registry as it was at a revision.
func (d *Desk) StateAt(ctx context.Context, rev broker.Revision) (*registry.State, error) {
	st := registry.New()
	err := d.Control.Log(ctx, func(_ int64, e registry.Event, accepted bool) error {
		if !accepted {
			return nil
		}
		if _, err := st.Fold(e); err != nil {
			return err
		}
		if st.Revision() >= rev {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	if st.Revision() != rev {
		return nil, fmt.Errorf("the registry's log ends at revision %d, and the decision names %d", st.Revision(), rev)
	}
	return st, nil
}

func (x *Explanation) party(number broker.OrgNumber) Party {
	p := Party{Number: number, Name: string(number)}
	if o := x.state.Organisation(number); o != nil {
		p.Name, p.Contact = o.Name, o.Contact
	}
	return p
}

// contact is where to ask on the agreement, or else its party.
func (x *Explanation) contact(agreed string, party broker.OrgNumber) string {
	return cmp.Or(agreed, x.party(party).Contact)
}

func (x *Explanation) fill() error {
	d, st := x.decision, x.state
	a := st.Agreement(d.Agreement)
	if a == nil {
		return fmt.Errorf("agreement %s is not in the registry at revision %d", d.Agreement, d.Revision)
	}
	if u, ended := x.state.EndedParty(a); ended {
		v := *a
		v.Status, a, x.Ended = broker.Ended, &v, &u.UnitEnd
	}
	x.Terms, x.Provider, x.Consumer = a, x.party(a.Provider), x.party(a.Consumer)
	if a.Supplier != "" {
		s := x.party(a.Supplier)
		x.Supplier = &s
	}
	x.About = About{ID: d.Position.Dataset}
	if ds := st.Dataset(d.Position.Dataset); ds != nil {
		x.About.Title = ds.Title
	}
	cited := d.Outcome.Bases
	if len(cited) == 0 && d.Kind != broker.NoticeDecision { // a notice rests on a duty, and not on the agreement's bases
		cited = a.Bases
	}
	x.Bases = []Basis{}
	for _, id := range cited {
		if b := st.Basis(id); b != nil {
			x.Bases = append(x.Bases, Basis{*b, strings.TrimSpace(b.Title + " " + b.Paragraph)})
		}
	}
	if pack := st.Package(d.Package); pack != nil {
		for _, f := range d.Fields {
			by := pack.Derivation(f)
			switch {
			case by == nil:
			case pack.Household != nil:
				from, rule := derive.OfHousehold(pack.Household, by)
				x.Derived = append(x.Derived, Derived{f, by.Title, from, rule})
			default:
				x.Derived = append(x.Derived, Derived{f, by.Title, derive.Inputs(by), derive.Rule(by)})
			}
		}
		if pack.Household != nil && d.Kind == broker.LookupDecision {
			// What took a permit back stands by itself, at no place.
			if request, place := broker.HouseholdOf(d.Request); place > 0 {
				x.Household = &Household{request, place}
			}
		}
	}
	if active := st.Policy(); active != nil && active.Digest == d.PolicyDigest {
		// The policy's words are its own; where this version cannot compile it, the
		// codes stand alone.
		x.engine, _ = policy.Compile(policy.Bundle{Modules: active.Modules})
	}
	for _, code := range d.Outcome.Reasons {
		r := ReasonWords{Code: code}
		if x.engine != nil {
			if info, ok := x.engine.Reason(code); ok {
				r.Cites, r.Message, r.Remedy = info.Cites, info.Message, info.Remedy
			}
		}
		x.Reasons = append(x.Reasons, r)
	}
	return nil
}

// Text tells it in one of the Languages.
func (x *Explanation) Text(w io.Writer, lang string) error {
	t := explainWords[lang]
	if t == nil {
		return &QuestionError{"lang", "want nb, nn or en"}
	}
	d, a := x.decision, x.Terms
	p := &printer{w: w}
	nothing := d.Kind == broker.LookupDecision && d.Event.IsZero()
	head := t.denied
	switch {
	case d.Outcome.Permit && nothing:
		head = t.nothing
	case isNotice(d):
		head = t.notified
	case !d.Outcome.Permit && d.Kind == broker.NoticeDecision:
		head = t.untold
	case d.Outcome.Permit:
		head = t.permitted
	}
	p.line(head, x.Consumer.Name, x.Consumer.Number, d.Time.Format(time.RFC3339))
	switch {
	case nothing:
		p.line(t.noRecord, x.About.Title, x.About.ID, x.Provider.Name, x.Provider.Number)
	case d.Position.Offset == broker.Nowhere:
		p.line(t.elsewhere, x.About.Title, x.About.ID, x.Provider.Name, x.Provider.Number)
	default:
		p.line(t.record, x.About.Title, x.About.ID, d.Position.Partition, d.Position.Offset, x.Provider.Name, x.Provider.Number)
	}
	x.kind(p, t)
	for _, r := range x.Reasons {
		message := r.Message[lang]
		if message == "" {
			message = string(r.Code)
		}
		p.line("\n"+t.why, message, r.Code)
		if len(r.Cites) > 0 {
			cites := make([]string, len(r.Cites))
			for i, c := range r.Cites {
				cites[i] = policy.Cited(c, lang)
			}
			p.line("  "+t.cites, strings.Join(cites, ", "))
		}
		if r.Remedy[lang] != "" {
			p.line("  "+t.remedy, r.Remedy[lang])
		}
	}
	p.line("")
	if d.Kind == broker.NoticeDecision {
		p.line(t.duty)
	}
	for _, b := range x.Bases {
		var sides []string
		for _, s := range b.Sides {
			sides = append(sides, t.sides[s])
		}
		head := t.basis
		if !d.Outcome.Permit {
			head = t.basisCited
		}
		p.line(head, b.Law, strings.Join(sides, ", "), b.GDPR)
		if b.ELI != "" {
			p.line("  %s", b.ELI)
		}
		if b.Assessed.By != "" {
			p.line("  "+t.assessed, b.Assessed.By, day(b.Assessed.At), elseSay(day(b.Assessed.Review), t.none))
		}
	}
	p.line(t.agreement, a.ID, t.status[a.Status], a.Purpose, until(a.Valid, t))
	if u := x.Ended; u != nil && u.Successor != "" {
		p.line("  "+t.merged, x.party(u.Organisation).Name, x.party(u.Successor).Name, day(u.On))
	} else if u != nil {
		p.line("  "+t.deleted, x.party(u.Organisation).Name, day(u.On))
	}
	p.line("  "+t.controllers, x.party(a.Responsibility.ProviderController).Name, x.party(a.Responsibility.ConsumerController).Name)
	if gives, receives := x.contact(a.Responsibility.ProviderContact, a.Provider), x.contact(a.Responsibility.ConsumerContact, a.Consumer); gives != "" || receives != "" {
		p.line("  "+t.contacts, elseSay(gives, t.none), elseSay(receives, t.none))
	}
	for i := range a.Responsibility.Processors {
		r := &a.Responsibility.Processors[i]
		p.line("  "+t.processor, x.party(r.For).Name, x.party(r.Organisation).Name, r.Task, r.Contract, Cell(r.Locations))
	}
	if a.Justification != "" {
		p.line("  "+t.justified, a.Justification)
	}
	if x.Supplier != nil {
		p.line("  "+t.supplier, x.Supplier.Name, x.Supplier.Number)
	}
	p.line("  "+t.cost, elseSay(string(a.Cost.Model), t.none), elseSay(x.party(a.Cost.Payer).Name, t.none))
	switch {
	case d.Outcome.Permit && d.Kind == broker.NoticeDecision:
		p.line(t.toldAfter)
	case isNotice(d) && d.RecordKind == broker.Retraction:
		p.line(t.retracted)
	case isNotice(d):
		p.line(t.corrected)
	case d.Outcome.Permit && !nothing:
		p.line(t.fields, len(d.Fields), d.Package.ID, d.Package.Version)
		for _, f := range d.Fields {
			p.line("  %s", f)
			if i := slices.IndexFunc(x.Derived, func(by Derived) bool { return by.Field == f }); i >= 0 {
				by := &x.Derived[i]
				p.line("    "+t.derived, by.Title, Cell(by.From), by.Rule)
			}
		}
		if d.Shielded {
			p.line("  " + t.shielded)
		}
	}
	p.line(t.policy, d.PolicyDigest, d.Revision)
	if x.Proof.Entry < x.Proof.Covered {
		p.line(t.proven, x.Proof.Entry, x.Proof.Origin, x.Proof.Covered)
	} else {
		p.line(t.awaits, x.Proof.Entry, x.Proof.Origin, x.Proof.Covered)
	}
	if len(x.Proof.Cosigners) > 0 {
		p.line("  "+t.cosigned, strings.Join(x.Proof.Cosigners, ", "))
	}
	p.line(t.id, d.ID)
	return p.err
}

// kind says in plain words what kind of decision it was, where it is not the
// stream's, which is made when a record is published.
func (x *Explanation) kind(p *printer, t *words) {
	switch d := x.decision; d.Kind {
	case broker.BackfillDecision:
		p.line(t.backfill)
	case broker.LookupDecision:
		p.line(t.lookup, d.Request)
		if h := x.Household; h != nil {
			p.line("  "+t.together, h.Place, h.Request.String()[:30])
		}
	case broker.NoticeDecision:
		p.line(t.notice)
	case broker.DoorDecision:
		p.line(t.door, x.Withheld.Since.Format(time.RFC3339))
		if x.Withheld.Times > 1 {
			p.line("  "+t.doorAgain, x.Withheld.Times, x.Withheld.Last.Format(time.RFC3339))
		}
	}
}

// printer remembers the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// oslo is where the law's days begin; the registry keeps them in UTC.
var oslo = sync.OnceValue(func() *time.Location {
	if l, err := time.LoadLocation("Europe/Oslo"); err == nil {
		return l
	}
	return time.UTC // a machine without time zones
})

func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(oslo()).Format(time.DateOnly)
}

func elseSay(s, none string) string {
	if s == "" {
		return none
	}
	return s
}

func until(i broker.Interval, t *words) string {
	return elseSay(day(i.From), "…") + " – " + elseSay(day(i.To), t.open)
}
