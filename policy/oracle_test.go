package policy

import (
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// oracle says in plain Go what the rules should answer. It was written from the
// requirements, not from the Rego: it asks side by side, where the rules ask
// alternative by alternative.
func oracle(t *broker.Terms, f *broker.Facts) *broker.Outcome {
	a := &t.Agreement
	var reasons []broker.Reason
	unless := func(holds bool, code broker.Reason) bool {
		if !holds {
			reasons = append(reasons, code)
		}
		return holds
	}
	unless(!t.Frozen, "frozen")
	unless(a.Status == broker.Active, "agreement_not_active")
	unless(a.Valid.Contains(f.Time), "agreement_outside_interval")
	unless(!t.Subscription.Suspended && t.Subscription.Agreement == a.ID, "subscription_suspended")
	unless(!t.Mailbox.Suspended, "mailbox_suspended")
	unless(t.Mailbox.Organisation == a.Receiver(), "mailbox_not_receivers")
	unless(t.Dataset.Owner == a.Provider && t.Dataset.ID == a.Dataset, "provider_not_owner")
	unless(t.Package.Dataset == a.Dataset && t.Package.Ref() == a.Package, "package_not_for_dataset")

	reasons = append(reasons, oracleBasis(t, f)...)

	unless(a.Responsibility.ProviderController != "", "provider_controller_missing")
	unless(a.Responsibility.ConsumerController != "", "consumer_controller_missing")
	if a.Supplier != "" {
		delegated, inForce := false, false
		for _, d := range t.Delegations {
			if d.From == a.Consumer && d.To == a.Supplier && slices.Contains(d.Datasets, a.Dataset) {
				delegated = true
				inForce = inForce || d.Valid.Contains(f.Time)
			}
		}
		if unless(delegated, "supplier_not_delegated") {
			unless(inForce, "delegation_not_in_force")
		}
	}
	unless(f.Kind == broker.Original || a.Corrections == broker.DeliverCorrections, "corrections_not_agreed")
	switch a.Cost.Model {
	case broker.Free:
	case broker.PerRecord, broker.PerInhab, broker.YearlyBand, broker.PoolShare, broker.JoiningFee:
		unless(a.Cost.Payer != "", "payer_missing")
	default:
		unless(false, "cost_not_agreed")
	}
	unless(a.Cost.Ceiling == 0 || a.Cost.Ceiling > 0 && f.Usage.Delivered < f.Usage.Granted, "ceiling_reached")

	if len(reasons) > 0 {
		o := &broker.Outcome{Reasons: reasons}
		for _, b := range t.Bases {
			o.Bases = append(o.Bases, b.ID)
		}
		return o
	}
	return &broker.Outcome{Permit: true, Bases: oracleCarrying(t, f)}
}

func oracleSides(t *broker.Terms) []broker.Side {
	if t.Dataset.AccessRights == broker.Public && t.Dataset.ID == t.Agreement.Dataset {
		return []broker.Side{broker.Disclosure, broker.Collection}
	}
	return []broker.Side{broker.Disclosure, broker.Collection, broker.Confidentiality}
}

func oracleCovers(t *broker.Terms, b *broker.LegalBasis, side broker.Side) bool {
	recipient := slices.ContainsFunc(b.Recipients, func(r string) bool {
		return r == string(t.Agreement.Consumer) ||
			t.Consumer.Number == t.Agreement.Consumer && slices.Contains(t.Consumer.Types, r)
	})
	return recipient && slices.Contains(t.Agreement.Bases, b.ID) && slices.Contains(b.Sides, side) &&
		(b.Type == broker.Lov || b.Type == broker.Samtykke) &&
		slices.Contains(b.Datasets, t.Agreement.Dataset) && slices.Contains(b.Purposes, t.Agreement.Purpose)
}

// oracleSteps are what a basis must pass, in order, with the reason for each.
func oracleSteps(t *broker.Terms, f *broker.Facts) []oracleStep {
	consent := func(holds func(c *broker.Consent) bool) func(*broker.LegalBasis) bool {
		return func(b *broker.LegalBasis) bool {
			return b.Type == broker.Lov || slices.ContainsFunc(f.Consents, func(c broker.Consent) bool {
				return c.Consumer == t.Agreement.Consumer && c.Dataset == t.Agreement.Dataset && c.Purpose == t.Agreement.Purpose &&
					!f.Time.Before(c.Valid.From) && holds(&c)
			})
		}
	}
	withdrawn := func(c *broker.Consent) bool { return !c.Withdrawn.IsZero() && !f.Time.Before(c.Withdrawn) }
	return []oracleStep{
		{"basis_not_in_force", func(b *broker.LegalBasis) bool { return b.Valid.Contains(f.Time) }},
		{"record_outside_period", func(b *broker.LegalBasis) bool {
			if b.About == nil {
				return true
			}
			i := t.Dataset.AttributeIndex(b.About.Attribute)
			if i < 0 || f.Attributes[i] == "" {
				return false
			}
			v := f.Attributes[i]
			return v >= b.About.From && (b.About.To == "" || v <= b.About.To)
		}},
		{"no_open_case", func(b *broker.LegalBasis) bool {
			return !b.RequiresCase || slices.ContainsFunc(f.Cases, func(i broker.Interval) bool { return i.Contains(f.Time) })
		}},
		{"consent_missing", consent(func(*broker.Consent) bool { return true })},
		{"consent_expired", consent(func(c *broker.Consent) bool { return c.Valid.Contains(f.Time) || withdrawn(c) })},
		{"consent_withdrawn", consent(func(c *broker.Consent) bool { return c.Valid.Contains(f.Time) && !withdrawn(c) })},
	}
}

type oracleStep struct {
	code  broker.Reason
	holds func(*broker.LegalBasis) bool
}

func oracleBasis(t *broker.Terms, f *broker.Facts) []broker.Reason {
	passing := func(side broker.Side, steps []oracleStep) bool {
		return slices.ContainsFunc(t.Bases, func(b broker.LegalBasis) bool {
			return oracleCovers(t, &b, side) && !slices.ContainsFunc(steps, func(s oracleStep) bool { return !s.holds(&b) })
		})
	}
	if !passing(broker.Disclosure, nil) && !passing(broker.Collection, nil) {
		return []broker.Reason{"no_legal_basis"}
	}
	var missing []broker.Reason
	for _, side := range oracleSides(t) {
		if !passing(side, nil) {
			missing = append(missing, map[broker.Side]broker.Reason{
				broker.Disclosure: "no_disclosure_basis", broker.Collection: "no_collection_basis", broker.Confidentiality: "confidentiality_not_lifted",
			}[side])
		}
	}
	if missing != nil {
		return missing
	}
	steps := oracleSteps(t, f)
	for k := range steps {
		for _, side := range oracleSides(t) {
			if !passing(side, steps[:k+1]) {
				return []broker.Reason{steps[k].code}
			}
		}
	}
	return nil
}

// oracleCarrying tries all sets of bases: those that cover every side, hold in
// full, and could spare none.
func oracleCarrying(t *broker.Terms, f *broker.Facts) []broker.LegalBasisID {
	covers := func(set int) bool {
		return !slices.ContainsFunc(oracleSides(t), func(side broker.Side) bool {
			for i := range t.Bases {
				if set>>i&1 == 1 && oracleCovers(t, &t.Bases[i], side) {
					return false
				}
			}
			return true
		})
	}
	steps := oracleSteps(t, f)
	carrying := 0
	for set := range 1 << len(t.Bases) {
		good := covers(set)
		for i := range t.Bases {
			if set>>i&1 == 1 {
				good = good && !covers(set&^(1<<i))
				good = good && !slices.ContainsFunc(steps, func(s oracleStep) bool { return !s.holds(&t.Bases[i]) })
			}
		}
		if good {
			carrying |= set
		}
	}
	var ids []broker.LegalBasisID
	for i := range t.Bases {
		if carrying>>i&1 == 1 {
			ids = append(ids, t.Bases[i].ID)
		}
	}
	return ids
}

// Generators: small domains, so that things coincide, and mostly right, so that
// whole permits and single faults are common.

func pick[T any](t *rapid.T, label string, good T, bad ...T) T {
	if rapid.IntRange(0, 15).Draw(t, label) < 15 { // rapid leans towards small numbers
		return good
	}
	return rapid.SampledFrom(bad).Draw(t, label+" bad")
}

func drawInterval(t *rapid.T, label string) broker.Interval {
	hours := func(l string) time.Time {
		h := rapid.IntRange(-3, 3).Draw(t, label+l)
		if h == 3 || h == -3 {
			return time.Time{}
		}
		// Bounds between two milliseconds are no part of the agreement between the
		// two: there the rules are stricter (see TestIntervalsNarrow).
		return noon.Add(time.Duration(h) * time.Hour)
	}
	if rapid.IntRange(0, 7).Draw(t, label) < 6 {
		return broker.Interval{From: noon.Add(-time.Hour), To: noon.Add(24 * time.Hour)}
	}
	return broker.Interval{From: hours(" from"), To: hours(" to")}
}

func drawTerms(t *rapid.T) *broker.Terms {
	terms := sample()
	a := &terms.Agreement
	a.Status = pick(t, "status", broker.Active, broker.Proposed, broker.Suspended, broker.Ended, "")
	if pick(t, "agreement", false, true) {
		a.Valid = drawInterval(t, "agreement interval")
	}
	a.Supplier = pick[broker.OrgNumber](t, "supplier", "", supplier, consumer)
	a.Dataset = pick[broker.DatasetID](t, "dataset", "inntekt", "annet")
	a.Purpose = pick[broker.Purpose](t, "purpose", "sosialhjelp", "annet")
	a.Responsibility.ProviderController = pick(t, "pc", provider, "")
	a.Responsibility.ConsumerController = pick(t, "cc", consumer, "")
	a.Cost.Model = pick(t, "model", broker.Free, broker.PerRecord, broker.PerInhab, broker.YearlyBand, broker.PoolShare, broker.JoiningFee, "", "ukjent")
	a.Cost.Payer = pick(t, "payer", consumer, "")
	a.Cost.Ceiling = pick(t, "ceiling", int64(0), 10, 10, -1)
	a.Corrections = pick(t, "corrections", broker.DeliverCorrections, broker.RefuseCorrections, "")
	a.Package.Version = pick(t, "package", 1, 2)
	terms.Subscription.Suspended = pick(t, "sub", false, true)
	terms.Subscription.Agreement = pick[broker.AgreementID](t, "sub of", "agr", "other")
	terms.Mailbox.Suspended = pick(t, "box", false, true)
	terms.Frozen = pick(t, "frozen", false, true)
	terms.Mailbox.Organisation = pick(t, "box of", a.Receiver(), stranger, consumer)
	terms.Dataset.Owner = pick(t, "owner", provider, stranger)
	terms.Dataset.AccessRights = pick(t, "access", broker.NonPublic, broker.Public, broker.Public, "")
	terms.Package.Dataset = pick(t, "package of", a.Dataset, "inntekt")
	terms.Consumer.Types = pick(t, "types", []string{"kommune"}, nil, []string{"stat", "kommune"})
	terms.Consumer.Number = pick(t, "consumer", consumer, stranger)

	for range rapid.IntRange(0, 2).Draw(t, "delegations") {
		terms.Delegations = append(terms.Delegations, broker.Delegation{
			ID: "d", From: pick(t, "d from", consumer, stranger), To: pick(t, "d to", supplier, stranger),
			Datasets: pick(t, "d of", []broker.DatasetID{"inntekt"}, nil, []broker.DatasetID{"annet", "inntekt"}), Valid: drawInterval(t, "d"),
		})
	}
	terms.Bases, a.Bases = nil, nil
	for i := range rapid.SampledFrom([]int{1, 2, 3, 4, 0}).Draw(t, "bases") {
		id := broker.LegalBasisID("basis-" + string(rune('a'+i)))
		sides := []broker.Side{broker.Disclosure, broker.Collection, broker.Confidentiality}
		if rapid.IntRange(0, 3).Draw(t, "some sides") == 3 {
			sides = rapid.SliceOfNDistinct(rapid.SampledFrom(sides), 0, 3, rapid.ID).Draw(t, "sides")
		}
		b := statute(id, sides...)
		b.Type = rapid.SampledFrom([]broker.BasisType{broker.Lov, broker.Lov, broker.Samtykke, broker.Samtykke, "annet"}).Draw(t, "type")
		b.Datasets = pick(t, "b dataset", b.Datasets, nil, []broker.DatasetID{"annet"})
		b.Purposes = pick(t, "b purpose", b.Purposes, nil, []broker.Purpose{"annet"})
		b.Recipients = pick(t, "b recipient", b.Recipients, nil, []string{string(consumer)}, []string{"stat"}, []string{"kommune", string(consumer)})
		b.RequiresCase = rapid.IntRange(0, 2).Draw(t, "case") == 0
		b.Valid = drawInterval(t, "b")
		if rapid.IntRange(0, 2).Draw(t, "about") == 0 {
			b.About = &broker.AboutBound{
				Attribute: pick(t, "attribute", "period", "kommune", "mangler"),
				From:      rapid.SampledFrom([]string{"", "2026-01", "2026-09", "2026-10"}).Draw(t, "about from"),
				To:        rapid.SampledFrom([]string{"", "2026-08", "2026-09", "2026-12"}).Draw(t, "about to"),
			}
		}
		terms.Bases = append(terms.Bases, b)
		if pick(t, "listed", true, false) {
			a.Bases = append(a.Bases, id)
		}
	}
	return terms
}

func drawFacts(t *rapid.T, terms *broker.Terms) *broker.Facts {
	f := &broker.Facts{
		Time: noon.Add(time.Duration(rapid.IntRange(-2, 2).Draw(t, "time")) * time.Hour),
		Kind: pick(t, "kind", broker.Original, broker.Correction, broker.Retraction),
		Attributes: []string{
			rapid.SampledFrom([]string{"2026-09", "2026-09", "2026-08", "2026-10", ""}).Draw(t, "period"),
			rapid.SampledFrom([]string{"0301", ""}).Draw(t, "kommune"),
		},
		Usage: broker.Usage{Granted: int64(rapid.IntRange(0, 3).Draw(t, "granted")), Delivered: int64(rapid.IntRange(0, 3).Draw(t, "delivered"))},
	}
	for range rapid.IntRange(0, 2).Draw(t, "cases") {
		f.Cases = append(f.Cases, drawInterval(t, "case"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "consents") {
		c := broker.Consent{
			ID: "c", Consumer: pick(t, "c consumer", consumer, stranger), Dataset: pick(t, "c dataset", terms.Agreement.Dataset, "inntekt"),
			Purpose: pick(t, "c purpose", terms.Agreement.Purpose, "annet"), Valid: drawInterval(t, "c"),
		}
		if rapid.IntRange(0, 2).Draw(t, "withdrawn") == 0 {
			c.Withdrawn = noon.Add(time.Duration(rapid.IntRange(-2, 2).Draw(t, "withdrawn at")) * time.Hour)
		}
		f.Consents = append(f.Consents, c)
	}
	return f
}

func same(a, b *broker.Outcome) bool {
	return a.Permit == b.Permit && slices.Equal(a.Reasons, b.Reasons) && slices.Equal(a.Bases, b.Bases)
}

func words[T ~string](in []T) string {
	out := make([]string, len(in))
	for i := range in {
		out[i] = string(in[i])
	}
	return strings.Join(out, " ")
}
