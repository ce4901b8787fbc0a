package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/flow/evidence"
	"datafordeler/broker/ledger"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// explanation is one decision with all that it rested on, as that was then.
type explanation struct {
	Decision decisionJSON      `json:"decision"`
	About    explainedDataset  `json:"dataset"`
	Provider explainedParty    `json:"provider"`
	Consumer explainedParty    `json:"consumer"`
	Supplier *explainedParty   `json:"supplier,omitempty"`
	Terms    *broker.Agreement `json:"agreement"`
	Bases    []explainedBasis  `json:"bases"`
	Reasons  []explainedReason `json:"reasons,omitempty"`
	Proof    explainedProof    `json:"proof"`
	engine   *policy.Engine    // of the policy that decided; nil where it cannot be compiled here
	state    *registry.State   // as of the decision's revision
	decision *broker.Decision
}

type explainedDataset struct {
	ID    broker.DatasetID `json:"id"`
	Title string           `json:"title"`
}

type explainedParty struct {
	Number  broker.OrgNumber `json:"number"`
	Name    string           `json:"name"`
	Contact string           `json:"contact,omitempty"`
}

type explainedBasis struct {
	broker.LegalBasis
	Law string `json:"law"` // title and paragraph
}

type explainedReason struct {
	Code    broker.Reason     `json:"code"`
	Cites   []string          `json:"cites,omitempty"`
	Message map[string]string `json:"message,omitempty"`
	Remedy  map[string]string `json:"remedy,omitempty"`
}

type explainedProof struct {
	Origin    string   `json:"origin"`
	Entry     int64    `json:"entry"`
	Covered   int64    `json:"covered"` // entries under the head; less than entry while it waits
	Cosigners []string `json:"cosigners"`
	KeyFrom   string   `json:"key_from"`
}

func auditExplain(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit explain")
	where, trust, which := placeFlags(fs), declareTrust(fs), declareWanted(fs)
	lang := fs.String("lang", "nb", "")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	words, ok := explainWords[*lang]
	if !ok {
		return usagef("--lang: %q is not nb, nn or en", *lang)
	}
	want, err := which.wanted()
	if err != nil {
		return err
	}
	n, p, own, err := openLedger(ctx, std, where, trust)
	if err != nil {
		return err
	}
	defer n.close()
	x, err := n.explain(ctx, p, own, want)
	if err != nil {
		return err
	}
	if *asJSON {
		return printJSON(std.out, x, true)
	}
	return x.print(std.out, words, *lang)
}

// explain finds a decision in the ledger, and what was in force when it was made.
func (n *node) explain(ctx context.Context, p *ledger.Policy, own bool, want evidence.Wanted) (*explanation, error) {
	proof, err := evidence.Prove(ctx, n.engine, n.cfg.Topics(), p, want, nil)
	x := &explanation{Proof: explainedProof{Origin: p.Origin, Cosigners: []string{}, KeyFrom: keyFrom(own, "ledger")}}
	var line []byte
	var awaits *evidence.AwaitsHeadError
	switch {
	case errors.As(err, &awaits):
		line, x.Proof.Entry, x.Proof.Covered = awaits.Line, awaits.Entry, awaits.Covered
	case err != nil:
		return nil, err
	default:
		checked, err := proof.Check(p)
		if err != nil {
			return nil, err
		}
		line, x.Proof.Entry, x.Proof.Covered, x.Proof.Cosigners = checked.Line, checked.EntryIndex, checked.Checkpoint.Size, names(checked.Cosigners)
	}
	d, err := ledger.ParseDecision(line)
	if err != nil {
		return nil, err
	}
	x.decision, x.Decision = &d, toJSON(&d)
	if x.state, err = n.stateAt(ctx, d.Revision); err != nil {
		return nil, err
	}
	return x, x.fill()
}

// stateAt is the registry as it was at a revision.
func (n *node) stateAt(ctx context.Context, rev broker.Revision) (*registry.State, error) {
	st := registry.New()
	err := n.control.Log(ctx, func(_ int64, e registry.Event, accepted bool) error {
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

func (x *explanation) party(number broker.OrgNumber) explainedParty {
	p := explainedParty{Number: number, Name: string(number)}
	if o := x.state.Organisation(number); o != nil {
		p.Name, p.Contact = o.Name, o.Contact
	}
	return p
}

func (x *explanation) fill() error {
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
	x.About = explainedDataset{ID: d.Position.Dataset}
	if ds := st.Dataset(d.Position.Dataset); ds != nil {
		x.About.Title = ds.Title
	}
	cited := d.Outcome.Bases
	if len(cited) == 0 {
		cited = a.Bases
	}
	x.Bases = []explainedBasis{}
	for _, id := range cited {
		if b := st.Basis(id); b != nil {
			x.Bases = append(x.Bases, explainedBasis{*b, strings.TrimSpace(b.Title + " " + b.Paragraph)})
		}
	}
	if active := st.Policy(); active != nil && active.Digest == d.PolicyDigest {
		// The policy's words are its own; where this version cannot compile it, the
		// codes stand alone.
		x.engine, _ = policy.Compile(policy.Bundle{Modules: active.Modules})
	}
	for _, code := range d.Outcome.Reasons {
		r := explainedReason{Code: code}
		if x.engine != nil {
			if info, ok := x.engine.Reason(code); ok {
				r.Cites, r.Message, r.Remedy = info.Cites, info.Message, info.Remedy
			}
		}
		x.Reasons = append(x.Reasons, r)
	}
	return nil
}

func (x *explanation) print(w io.Writer, t *words, lang string) error {
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
			p.line("  "+t.cites, strings.Join(r.Cites, ", "))
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

// words are what is said in one language; the formats' arguments are in one order.
type words struct {
	permitted, denied, record, why, cites, remedy, basis, basisCited, assessed string
	agreement, controllers, supplier, cost, fields, shielded, policy           string
	proven, awaits, cosigned, id, none, open                                   string
	sides                                                                      map[broker.Side]string
	status                                                                     map[broker.AgreementStatus]string
}

var explainWords = map[string]*words{
	"nb": {
		permitted: "UTLEVERT til %s (%s) %s", denied: "IKKE UTLEVERT til %s (%s) %s",
		record: "Opplysningen: %s (%s, partisjon %d, posisjon %d), fra %s (%s)",
		why:    "Grunn: %s [%s]", cites: "Gjelder: %s", remedy: "Hva kan gjøres: %s",
		basis: "Hjemmel: %s (%s; GDPR %s)", basisCited: "Hjemmel i avtalen: %s (%s; GDPR %s)", assessed: "Vurdert av %s %s; ny vurdering: %s",
		agreement: "Avtale: %s, %s; formål %s; gjelder %s", controllers: "Behandlingsansvarlige: %s (gir), %s (mottar)",
		supplier: "Leverandør på vegne av mottakeren: %s (%s)", cost: "Kostnadsdekning: %s; betaler: %s",
		fields: "Utleverte felter: %d, etter rettighetspakke %s versjon %d", shielded: "Skjermet: opplysninger om bosted er tatt bort.",
		policy: "Regelverk: %s, revisjon %d av registeret",
		proven: "Bevis: post %d i loggen %s, under det signerte hodet over %d poster", awaits: "Bevis: post %d i loggen %s venter på signert hode; det nyeste dekker %d poster",
		cosigned: "Medsignert av %s", id: "Beslutning: %s", none: "ikke oppgitt", open: "videre",
		sides:  map[broker.Side]string{broker.Disclosure: "utlevering", broker.Collection: "innhenting", broker.Confidentiality: "unntak fra taushetsplikt"},
		status: map[broker.AgreementStatus]string{broker.Proposed: "foreslått", broker.Accepted: "godtatt", broker.Active: "i kraft", broker.Suspended: "stanset", broker.Ended: "avsluttet"},
	},
	"nn": {
		permitted: "UTLEVERT til %s (%s) %s", denied: "IKKJE UTLEVERT til %s (%s) %s",
		record: "Opplysninga: %s (%s, partisjon %d, posisjon %d), frå %s (%s)",
		why:    "Grunn: %s [%s]", cites: "Gjeld: %s", remedy: "Kva kan gjerast: %s",
		basis: "Heimel: %s (%s; GDPR %s)", basisCited: "Heimel i avtalen: %s (%s; GDPR %s)", assessed: "Vurdert av %s %s; ny vurdering: %s",
		agreement: "Avtale: %s, %s; føremål %s; gjeld %s", controllers: "Behandlingsansvarlege: %s (gjev), %s (tek imot)",
		supplier: "Leverandør på vegner av mottakaren: %s (%s)", cost: "Kostnadsdekning: %s; betaler: %s",
		fields: "Utleverte felt: %d, etter rettspakke %s versjon %d", shielded: "Skjerma: opplysningar om bustad er tekne bort.",
		policy: "Regelverk: %s, revisjon %d av registeret",
		proven: "Prov: post %d i loggen %s, under det signerte hovudet over %d postar", awaits: "Prov: post %d i loggen %s ventar på signert hovud; det nyaste dekkjer %d postar",
		cosigned: "Medsignert av %s", id: "Avgjerd: %s", none: "ikkje oppgjeve", open: "vidare",
		sides:  map[broker.Side]string{broker.Disclosure: "utlevering", broker.Collection: "innhenting", broker.Confidentiality: "unntak frå teieplikt"},
		status: map[broker.AgreementStatus]string{broker.Proposed: "føreslått", broker.Accepted: "godteken", broker.Active: "i kraft", broker.Suspended: "stansa", broker.Ended: "avslutta"},
	},
	"en": {
		permitted: "DELIVERED to %s (%s) %s", denied: "NOT DELIVERED to %s (%s) %s",
		record: "The record: %s (%s, partition %d, offset %d), from %s (%s)",
		why:    "Reason: %s [%s]", cites: "Concerns: %s", remedy: "What can be done: %s",
		basis: "Legal basis: %s (%s; GDPR %s)", basisCited: "Legal basis of the agreement: %s (%s; GDPR %s)", assessed: "Assessed by %s %s; to be reviewed: %s",
		agreement: "Agreement: %s, %s; purpose %s; valid %s", controllers: "Controllers: %s (gives), %s (receives)",
		supplier: "Supplier on the consumer's behalf: %s (%s)", cost: "Cost cover: %s; paid by: %s",
		fields: "Fields delivered: %d, by rights package %s version %d", shielded: "Shielded: what tells where the person lives was taken out.",
		policy: "Policy: %s, revision %d of the registry",
		proven: "Proof: entry %d of the ledger %s, under its signed head of %d entries", awaits: "Proof: entry %d of the ledger %s awaits a signed head; the newest covers %d entries",
		cosigned: "Cosigned by %s", id: "Decision: %s", none: "not stated", open: "open",
		sides:  map[broker.Side]string{broker.Disclosure: "disclosure", broker.Collection: "collection", broker.Confidentiality: "confidentiality lifted"},
		status: map[broker.AgreementStatus]string{broker.Proposed: "proposed", broker.Accepted: "accepted", broker.Active: "in force", broker.Suspended: "suspended", broker.Ended: "ended"},
	},
}
