package policy

import (
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"datafordeler/broker"
)

// Times in the input are whole milliseconds since 1970, UTC, so that an interval
// is two comparisons of numbers: from <= time, time < to.
//
// An open beginning is the year 1 and an open end the year 10000. Where a bound
// lies between two milliseconds the interval is narrowed, never widened: a record
// is judged inside it only when it is.
const openEnd int64 = 253402300800000 // 10000-01-01T00:00:00Z

func fromMillis(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.Nanosecond()%int(time.Millisecond) != 0 {
		ms++
	}
	return ms
}

func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return openEnd
	}
	return t.UnixMilli()
}

func interval(i broker.Interval) map[string]any {
	return map[string]any{"from": fromMillis(i.From), "to": toMillis(i.To)}
}

// Input is all that policy is asked with, as a JSON object in the shape of
// schemas/input.json. It is complete: with the policy's digest it determines the
// answer, so it serves to explain a decision, to replay it, and to test.
//
// It holds no identity number and no pseudonym: cases and consents are those of
// the record's subject, already looked up. The usage is there only when the
// agreement has a ceiling.
//
// Terms and Facts are such as Prepare and Decide accept.
func Input(t *broker.Terms, f *broker.Facts) map[string]any {
	in := static(t)
	attributes := make(map[string]any, len(f.Attributes))
	for i := range f.Attributes {
		attributes[t.Dataset.Attributes[i].Name] = f.Attributes[i]
	}
	cases := make([]any, len(f.Cases))
	for i := range f.Cases {
		cases[i] = interval(f.Cases[i])
	}
	consents := make([]any, len(f.Consents))
	for i := range f.Consents {
		c := &f.Consents[i]
		consents[i] = map[string]any{
			"consumer":  string(c.Consumer),
			"dataset":   string(c.Dataset),
			"purpose":   string(c.Purpose),
			"valid":     interval(c.Valid),
			"withdrawn": toMillis(c.Withdrawn),
		}
	}
	in["time"] = f.Time.UnixMilli()
	in["record"] = map[string]any{"kind": f.Kind.String(), "attributes": attributes}
	in["cases"] = cases
	in["consents"] = consents
	if hasCeiling(t) {
		in["usage"] = map[string]any{"granted": f.Usage.Granted, "delivered": f.Usage.Delivered}
	}
	return in
}

// static is the part of the input that Terms alone determine.
func static(t *broker.Terms) map[string]any {
	a, d, p := &t.Agreement, t.Dataset, t.Package
	bases := make([]any, len(t.Bases))
	for i := range t.Bases {
		bases[i] = basis(&t.Bases[i])
	}
	delegations := make([]any, len(t.Delegations))
	for i := range t.Delegations {
		g := &t.Delegations[i]
		delegations[i] = map[string]any{
			"id": string(g.ID), "from": string(g.From), "to": string(g.To),
			"datasets": texts(g.Datasets), "valid": interval(g.Valid),
		}
	}
	return map[string]any{
		"agreement": map[string]any{
			"id":            string(a.ID),
			"provider":      string(a.Provider),
			"consumer":      string(a.Consumer),
			"supplier":      string(a.Supplier),
			"dataset":       string(a.Dataset),
			"rightsPackage": map[string]any{"id": a.Package.ID, "version": a.Package.Version},
			"purpose":       string(a.Purpose),
			"bases":         texts(a.Bases),
			"responsibility": map[string]any{
				"providerController": string(a.Responsibility.ProviderController),
				"consumerController": string(a.Responsibility.ConsumerController),
			},
			"cost": map[string]any{
				"model": string(a.Cost.Model), "payer": string(a.Cost.Payer), "ceiling": a.Cost.Ceiling,
			},
			"corrections": string(a.Corrections),
			"status":      string(a.Status),
			"valid":       interval(a.Valid),
			"framework":   string(a.Framework),
		},
		"subscription": map[string]any{
			"id": string(t.Subscription.ID), "agreement": string(t.Subscription.Agreement),
			"mailbox": string(t.Subscription.Mailbox), "suspended": t.Subscription.Suspended,
		},
		"mailbox": map[string]any{
			"id": string(t.Mailbox.ID), "organisation": string(t.Mailbox.Organisation),
			"channel": string(t.Mailbox.Channel), "suspended": t.Mailbox.Suspended,
		},
		"dataset": map[string]any{
			"id": string(d.ID), "owner": string(d.Owner), "purpose": string(d.Purpose),
			"accessRights": string(d.AccessRights), "subject": string(d.Subject.Kind),
		},
		"rightsPackage": map[string]any{
			"id": p.ID, "version": p.Version, "dataset": string(p.Dataset), "fields": texts(p.Fields),
		},
		"bases":       bases,
		"consumer":    map[string]any{"number": string(t.Consumer.Number), "types": texts(t.Consumer.Types)},
		"delegations": delegations,
		"frozen":      t.Frozen,
	}
}

func basis(b *broker.LegalBasis) map[string]any {
	m := map[string]any{
		"id":           string(b.ID),
		"type":         string(b.Type),
		"sides":        texts(b.Sides),
		"eli":          b.ELI,
		"paragraph":    b.Paragraph,
		"gdpr":         b.GDPR,
		"datasets":     texts(b.Datasets),
		"purposes":     texts(b.Purposes),
		"recipients":   texts(b.Recipients),
		"requiresCase": b.RequiresCase,
		"valid":        interval(b.Valid),
		"review":       toMillis(b.Assessed.Review),
		"about":        nil,
	}
	if b.About != nil {
		m["about"] = map[string]any{"attribute": b.About.Attribute, "from": b.About.From, "to": b.About.To}
	}
	return m
}

func texts[T ~string](in []T) []any {
	out := make([]any, len(in))
	for i, s := range in {
		out[i] = string(s)
	}
	return out
}

// hasCeiling: a negative ceiling is a mistake that policy denies, and needs no usage.
func hasCeiling(t *broker.Terms) bool { return t.Agreement.Cost.Ceiling > 0 }

func checkTerms(t *broker.Terms) error {
	if t == nil || t.Dataset == nil || t.Package == nil {
		return errors.New("the terms lack their dataset or rights package; resolve them in the registry first")
	}
	return nil
}

func (p *Prepared) checkFacts(f *broker.Facts) error {
	switch {
	case f == nil:
		return errors.New("no facts")
	case f.Time.IsZero():
		return errors.New("no time; give the transaction's reading of the clock")
	case len(f.Attributes) != p.attributes:
		return fmt.Errorf("%d attributes for dataset %s, which declares %d", len(f.Attributes), p.terms.Dataset.ID, p.attributes)
	}
	for i := range f.Attributes {
		if !utf8.ValidString(f.Attributes[i]) {
			return fmt.Errorf("attribute %q is not UTF-8", p.terms.Dataset.Attributes[i].Name)
		}
	}
	switch f.Kind {
	case broker.Original, broker.Correction, broker.Retraction:
		return nil
	}
	return fmt.Errorf("record kind %d is unknown", f.Kind)
}

// Terms of the input's keys and of its few closed words, made once.
var (
	kTime, kRecord, kCases, kConsents, kUsage      = key("time"), key("record"), key("cases"), key("consents"), key("usage")
	kKind, kAttributes                             = key("kind"), key("attributes")
	kFrom, kTo                                     = key("from"), key("to")
	kConsumer, kDataset, kPurpose, kValid, kWithdr = key("consumer"), key("dataset"), key("purpose"), key("valid"), key("withdrawn")
	kGranted, kDelivered                           = key("granted"), key("delivered")

	kinds = [...]*ast.Term{
		broker.Original:   key(broker.Original.String()),
		broker.Correction: key(broker.Correction.String()),
		broker.Retraction: key(broker.Retraction.String()),
	}
)

func key(s string) *ast.Term { return ast.StringTerm(s) }

func number(n int64) *ast.Term {
	return ast.NewTerm(ast.Number(strconv.FormatInt(n, 10)))
}

func intervalTerm(i broker.Interval) *ast.Term {
	return ast.ObjectTerm(
		[2]*ast.Term{kFrom, number(fromMillis(i.From))},
		[2]*ast.Term{kTo, number(toMillis(i.To))},
	)
}

// value is Input as OPA's own terms: the static pairs of p, shared, and the facts.
func (p *Prepared) value(f *broker.Facts) (ast.Value, error) {
	static, err := p.static()
	if err != nil {
		return nil, err
	}
	attributes := make([][2]*ast.Term, len(f.Attributes))
	for i, s := range f.Attributes {
		attributes[i] = [2]*ast.Term{static.attributes[i], ast.StringTerm(s)}
	}
	cases := make([]*ast.Term, len(f.Cases))
	for i := range f.Cases {
		cases[i] = intervalTerm(f.Cases[i])
	}
	consents := make([]*ast.Term, len(f.Consents))
	for i := range f.Consents {
		c := &f.Consents[i]
		consents[i] = ast.ObjectTerm(
			[2]*ast.Term{kConsumer, ast.StringTerm(string(c.Consumer))},
			[2]*ast.Term{kDataset, ast.StringTerm(string(c.Dataset))},
			[2]*ast.Term{kPurpose, ast.StringTerm(string(c.Purpose))},
			[2]*ast.Term{kValid, intervalTerm(c.Valid)},
			[2]*ast.Term{kWithdr, number(toMillis(c.Withdrawn))},
		)
	}
	pairs := make([][2]*ast.Term, 0, len(static.pairs)+5)
	pairs = append(pairs, static.pairs...)
	pairs = append(pairs,
		[2]*ast.Term{kTime, number(f.Time.UnixMilli())},
		[2]*ast.Term{kRecord, ast.ObjectTerm(
			[2]*ast.Term{kKind, kinds[f.Kind]},
			[2]*ast.Term{kAttributes, ast.ObjectTerm(attributes...)},
		)},
		[2]*ast.Term{kCases, ast.ArrayTerm(cases...)},
		[2]*ast.Term{kConsents, ast.ArrayTerm(consents...)},
	)
	if p.ceiling {
		pairs = append(pairs, [2]*ast.Term{kUsage, ast.ObjectTerm(
			[2]*ast.Term{kGranted, number(f.Usage.Granted)},
			[2]*ast.Term{kDelivered, number(f.Usage.Delivered)},
		)})
	}
	return ast.NewObject(pairs...), nil
}
