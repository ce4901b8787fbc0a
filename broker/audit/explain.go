package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/ledger"
	"datafordeler/broker/registry"
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
	Bases    []Basis           `json:"bases"`
	Reasons  []ReasonWords     `json:"reasons,omitempty"`
	Proof    ProofStatus       `json:"proof"`
	engine   *policy.Engine    // of the policy that decided; nil where it cannot be compiled here
	state    *registry.State   // as of the decision's revision
	decision *broker.Decision
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
	return x, x.fill()
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

func (x *Explanation) fill() error {
	d, st := x.decision, x.state
	a := st.Agreement(d.Agreement)
	if a == nil {
		return fmt.Errorf("agreement %s is not in the registry at revision %d", d.Agreement, d.Revision)
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
	if len(cited) == 0 {
		cited = a.Bases
	}
	x.Bases = []Basis{}
	for _, id := range cited {
		if b := st.Basis(id); b != nil {
			x.Bases = append(x.Bases, Basis{*b, strings.TrimSpace(b.Title + " " + b.Paragraph)})
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
	if d.Outcome.Permit {
		p.line(t.permitted, x.Consumer.Name, x.Consumer.Number, d.Time.Format(time.RFC3339))
	} else {
		p.line(t.denied, x.Consumer.Name, x.Consumer.Number, d.Time.Format(time.RFC3339))
	}
	p.line(t.record, x.About.Title, x.About.ID, d.Position.Partition, d.Position.Offset, x.Provider.Name, x.Provider.Number)
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
	p.line("  "+t.controllers, x.party(a.Responsibility.ProviderController).Name, x.party(a.Responsibility.ConsumerController).Name)
	if x.Supplier != nil {
		p.line("  "+t.supplier, x.Supplier.Name, x.Supplier.Number)
	}
	p.line("  "+t.cost, elseSay(string(a.Cost.Model), t.none), elseSay(x.party(a.Cost.Payer).Name, t.none))
	if d.Outcome.Permit {
		p.line(t.fields, len(d.Fields), d.Package.ID, d.Package.Version)
		for _, f := range d.Fields {
			p.line("  %s", f)
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
