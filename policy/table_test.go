package policy

import (
	"bufio"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
)

type situation = func(t *broker.Terms, f *broker.Facts)

var (
	yesterday = noon.AddDate(0, 0, -1)
	tomorrow  = noon.AddDate(0, 0, 1)
	until     = func(t time.Time) broker.Interval { return broker.Interval{To: t} }
	from      = func(t time.Time) broker.Interval { return broker.Interval{From: t} }
)

func onTerms(change func(t *broker.Terms)) situation {
	return func(t *broker.Terms, _ *broker.Facts) { change(t) }
}

func status(s broker.AgreementStatus) situation {
	return onTerms(func(t *broker.Terms) { t.Agreement.Status = s })
}

func runs(i broker.Interval) situation {
	return onTerms(func(t *broker.Terms) { t.Agreement.Valid = i })
}

func first(change func(b *broker.LegalBasis)) situation {
	return onTerms(func(t *broker.Terms) { change(&t.Bases[0]) })
}

func without(side broker.Side) situation {
	return first(func(b *broker.LegalBasis) {
		b.Sides = slices.DeleteFunc(slices.Clone(b.Sides), func(s broker.Side) bool { return s == side })
	})
}

func add(b broker.LegalBasis) situation {
	return onTerms(func(t *broker.Terms) { use(t, append(t.Bases, b)...) })
}

func reaches(from, to string) situation {
	return first(func(b *broker.LegalBasis) { b.About = &broker.AboutBound{Attribute: "period", From: from, To: to} })
}

func opens(i broker.Interval) situation {
	return func(_ *broker.Terms, f *broker.Facts) { f.Cases = append(f.Cases, i) }
}

// consents adds a consent that stands, but for one change.
func consents(change func(c *broker.Consent)) situation {
	return func(_ *broker.Terms, f *broker.Facts) {
		c := broker.Consent{ID: "c", Consumer: consumer, Dataset: "inntekt", Purpose: "sosialhjelp", Valid: between("2026-01-01", "2027-01-01")}
		change(&c)
		f.Consents = append(f.Consents, c)
	}
}

func delegates(change func(d *broker.Delegation)) situation {
	return onTerms(func(t *broker.Terms) {
		d := broker.Delegation{ID: "d", From: consumer, To: supplier, Datasets: []broker.DatasetID{"inntekt"}, Valid: between("2026-01-01", "")}
		change(&d)
		t.Delegations = append(t.Delegations, d)
	})
}

func ceiling(granted, delivered int64) situation {
	return func(t *broker.Terms, f *broker.Facts) {
		t.Agreement.Cost.Ceiling, f.Usage = 10, broker.Usage{Granted: granted, Delivered: delivered}
	}
}

func kind(k broker.RecordKind) situation {
	return func(_ *broker.Terms, f *broker.Facts) { f.Kind = k }
}

// situations are the lines that testdata/decisions.txt is written in.
var situations = map[string]situation{
	"the agreement is proposed":                    status(broker.Proposed),
	"the agreement is accepted":                    status(broker.Accepted),
	"the agreement is suspended":                   status(broker.Suspended),
	"the agreement is ended":                       status(broker.Ended),
	"the agreement ran until yesterday":            runs(until(yesterday)),
	"the agreement begins tomorrow":                runs(from(tomorrow)),
	"the agreement begins now":                     runs(from(noon)),
	"the agreement ends now":                       runs(until(noon)),
	"the subscription is suspended":                onTerms(func(t *broker.Terms) { t.Subscription.Suspended = true }),
	"the subscription is on another agreement":     onTerms(func(t *broker.Terms) { t.Subscription.Agreement = "other" }),
	"the flow is frozen":                           onTerms(func(t *broker.Terms) { t.Frozen = true }),
	"the mailbox is suspended":                     onTerms(func(t *broker.Terms) { t.Mailbox.Suspended = true }),
	"the mailbox is a stranger's":                  onTerms(func(t *broker.Terms) { t.Mailbox.Organisation = stranger }),
	"the mailbox is the consumer's":                onTerms(func(t *broker.Terms) { t.Mailbox.Organisation = consumer }),
	"the dataset is another's":                     onTerms(func(t *broker.Terms) { t.Dataset.Owner = stranger }),
	"the package is for another dataset":           onTerms(func(t *broker.Terms) { t.Package.Dataset = "annet" }),
	"the agreement names version 2 of the package": onTerms(func(t *broker.Terms) { t.Agreement.Package.Version = 2 }),

	"there is no legal basis":                            onTerms(func(t *broker.Terms) { use(t) }),
	"the agreement lists no basis":                       onTerms(func(t *broker.Terms) { t.Agreement.Bases = nil }),
	"the statute is on another dataset":                  first(func(b *broker.LegalBasis) { b.Datasets = []broker.DatasetID{"annet"} }),
	"the statute is for another purpose":                 first(func(b *broker.LegalBasis) { b.Purposes = []broker.Purpose{"annet"} }),
	"the statute is for state agencies":                  first(func(b *broker.LegalBasis) { b.Recipients = []string{"stat"} }),
	"the statute is for this consumer":                   first(func(b *broker.LegalBasis) { b.Recipients = []string{string(consumer)} }),
	"the types are another organisation's":               onTerms(func(t *broker.Terms) { t.Consumer.Number = stranger }),
	"the statute does not let disclose":                  without(broker.Disclosure),
	"the statute does not let collect":                   without(broker.Collection),
	"the statute does not lift confidentiality":          without(broker.Confidentiality),
	"the dataset is public":                              onTerms(func(t *broker.Terms) { t.Dataset.AccessRights = broker.Public }),
	"the access rights are not stated":                   onTerms(func(t *broker.Terms) { t.Dataset.AccessRights = "" }),
	"another statute lets collect":                       add(statute("other", broker.Collection)),
	"the other statute begins tomorrow":                  onTerms(func(t *broker.Terms) { t.Bases[1].Valid = from(tomorrow) }),
	"the statute begins tomorrow":                        first(func(b *broker.LegalBasis) { b.Valid = from(tomorrow) }),
	"the statute ran until yesterday":                    first(func(b *broker.LegalBasis) { b.Valid = until(yesterday) }),
	"the statute reaches the periods 2026-10 to 2026-12": reaches("2026-10", "2026-12"),
	"the statute reaches the periods 2026-09 to 2026-09": reaches("2026-09", "2026-09"),
	"the statute reaches the periods until 2026-08":      reaches("", "2026-08"),
	"the statute reaches the periods until 2026-12":      reaches("", "2026-12"),
	"the record has no period":                           func(_ *broker.Terms, f *broker.Facts) { f.Attributes[0] = "" },
	"the statute requires a case":                        first(func(b *broker.LegalBasis) { b.RequiresCase = true }),
	"a case is open":                                     opens(from(yesterday)),
	"a case was closed yesterday":                        opens(until(yesterday)),
	"a case opens tomorrow":                              opens(from(tomorrow)),

	"the basis is consent": first(func(b *broker.LegalBasis) { b.Type = broker.Samtykke }),
	"consent is a basis too": func(t *broker.Terms, f *broker.Facts) {
		c := statute("consent", broker.Disclosure, broker.Collection, broker.Confidentiality)
		c.Type = broker.Samtykke
		add(c)(t, f)
	},
	"a consent is given":                     consents(func(*broker.Consent) {}),
	"a consent is given to a stranger":       consents(func(c *broker.Consent) { c.Consumer = stranger }),
	"a consent is given for another purpose": consents(func(c *broker.Consent) { c.Purpose = "annet" }),
	"a consent is given for another dataset": consents(func(c *broker.Consent) { c.Dataset = "annet" }),
	"a consent is given from tomorrow":       consents(func(c *broker.Consent) { c.Valid = from(tomorrow) }),
	"a consent expired yesterday":            consents(func(c *broker.Consent) { c.Valid = until(yesterday) }),
	"a consent was withdrawn yesterday":      consents(func(c *broker.Consent) { c.Withdrawn = yesterday }),
	"a consent is withdrawn now":             consents(func(c *broker.Consent) { c.Withdrawn = noon }),
	"a consent will be withdrawn tomorrow":   consents(func(c *broker.Consent) { c.Withdrawn = tomorrow }),

	"the provider's controller is not named":     onTerms(func(t *broker.Terms) { t.Agreement.Responsibility.ProviderController = "" }),
	"the consumer's controller is not named":     onTerms(func(t *broker.Terms) { t.Agreement.Responsibility.ConsumerController = "" }),
	"a supplier receives":                        onTerms(func(t *broker.Terms) { t.Agreement.Supplier, t.Mailbox.Organisation = supplier, supplier }),
	"the consumer has delegated to the supplier": delegates(func(*broker.Delegation) {}),
	"the consumer has delegated another dataset": delegates(func(d *broker.Delegation) { d.Datasets = []broker.DatasetID{"annet"} }),
	"a stranger has delegated to the supplier":   delegates(func(d *broker.Delegation) { d.From = stranger }),
	"the consumer has delegated to a stranger":   delegates(func(d *broker.Delegation) { d.To = stranger }),
	"the consumer's delegation is over":          delegates(func(d *broker.Delegation) { d.Valid = until(yesterday) }),
	"the record is a correction":                 kind(broker.Correction),
	"the record is a retraction":                 kind(broker.Retraction),
	"corrections are refused":                    onTerms(func(t *broker.Terms) { t.Agreement.Corrections = broker.RefuseCorrections }),
	"nothing is agreed on corrections":           onTerms(func(t *broker.Terms) { t.Agreement.Corrections = "" }),

	"no cost model is agreed":                onTerms(func(t *broker.Terms) { t.Agreement.Cost = broker.Cost{} }),
	"the cost model is unknown":              onTerms(func(t *broker.Terms) { t.Agreement.Cost.Model = "ukjent" }),
	"payment is by record":                   onTerms(func(t *broker.Terms) { t.Agreement.Cost = broker.Cost{Model: broker.PerRecord, Payer: consumer} }),
	"the payer is not named":                 onTerms(func(t *broker.Terms) { t.Agreement.Cost.Payer = "" }),
	"the ceiling is 10 and 9 are delivered":  ceiling(10, 9),
	"the ceiling is 10 and 10 are delivered": ceiling(10, 10),
	"the ceiling is below zero":              onTerms(func(t *broker.Terms) { t.Agreement.Cost.Ceiling = -1 }),
}

// Each situation of testdata/decisions.txt has the answer that it names, from the
// rules and from the oracle, and each reason occurs alone at least once.
func TestDecisions(t *testing.T) {
	e := embeddedEngine(t)
	schema := inputSchema(t)
	file, err := os.Open("testdata/decisions.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	alone, used := map[broker.Reason]bool{}, map[string]bool{}
	var title string
	var terms *broker.Terms
	var facts *broker.Facts
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		switch said := strings.TrimSpace(line); {
		case said == "" || strings.HasPrefix(said, "#"):
		case said == line:
			title, terms, facts = said, sample(), sampleFacts()
		case strings.HasPrefix(said, "permit:") || strings.HasPrefix(said, "deny:"):
			verb, rest, _ := strings.Cut(said, ":")
			have, err := prepare(t, e, terms).Decide(context.Background(), facts, nil)
			if err != nil {
				t.Fatalf("line %d: %s: %v", n, title, err)
			}
			answer := "permit: " + words(have.Bases)
			if !have.Permit {
				answer = "deny: " + words(have.Reasons)
				if len(have.Reasons) == 1 {
					alone[have.Reasons[0]] = true
				}
			}
			if want := verb + ": " + strings.TrimSpace(rest); answer != want {
				t.Errorf("line %d: %s\n\thave %s\n\twant %s", n, title, answer, want)
			}
			if o := oracle(terms, facts); !same(o, have) {
				t.Errorf("line %d: %s: the oracle says %+v", n, title, *o)
			}
			if err := validate(schema, Input(terms, facts)); err != nil {
				t.Errorf("line %d: %s: input: %v", n, title, err)
			}
		default:
			change, ok := situations[said]
			if !ok {
				t.Fatalf("line %d: no situation is called %q", n, said)
			}
			used[said] = true
			change(terms, facts)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for _, r := range e.Reasons()[len(brokerReasons):] {
		if !alone[r.Code] {
			t.Errorf("no situation has %s alone", r.Code)
		}
	}
	for s := range situations {
		if !used[s] {
			t.Errorf("the situation %q does not occur", s)
		}
	}
}
