// Package cases makes terms and facts to try a policy with: at random from a
// seed, close to where answers change, and such as the demonstration has. Tests
// and benchmarks use it; nobody in it exists.
package cases

import (
	"math/rand/v2"
	"time"

	"datafordeler/broker"
)

// Noon is a moment inside all open intervals of the cases.
var Noon = time.Date(2026, 10, 15, 12, 0, 0, 0, time.UTC)

// Organisations by their part. Synthetic: such numbers begin with 3.
const (
	Provider broker.OrgNumber = "313876144"
	Consumer broker.OrgNumber = "310149942"
	Supplier broker.OrgNumber = "311111115"
	Stranger broker.OrgNumber = "312222227"
)

// Source gives cases. The same seed gives the same ones. It belongs to one
// goroutine.
type Source struct {
	r *rand.Rand
}

// New makes a source.
func New(seed uint64) *Source { return &Source{rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))} }

// Intn is a number in [0, n).
func (s *Source) Intn(n int) int { return s.r.IntN(n) }

// Pick is one of several.
func Pick[T any](s *Source, of ...T) T { return of[s.r.IntN(len(of))] }

// mostly is good, or now and then one of the others.
func mostly[T any](s *Source, good T, others ...T) T {
	if s.r.IntN(40) != 0 {
		return good
	}
	return Pick(s, others...)
}

// instant is Noon, some hours off, and often close to a whole millisecond.
func (s *Source) instant() time.Time {
	return Noon.Add(time.Duration(s.r.IntN(5)-2) * time.Hour).Add(s.shift())
}

// shift is up to a few milliseconds, in both directions, or nothing.
func (s *Source) shift() time.Duration {
	return Pick(s, 0, 0, 0, 0, time.Millisecond, -time.Millisecond, time.Nanosecond, -time.Nanosecond,
		time.Millisecond-1, 500*time.Microsecond, -500*time.Microsecond)
}

func (s *Source) interval() broker.Interval {
	if s.r.IntN(4) != 0 {
		return broker.Interval{From: Noon.Add(-24 * time.Hour).Add(s.shift()), To: Noon.Add(24 * time.Hour).Add(s.shift())}
	}
	var i broker.Interval
	if s.r.IntN(4) != 0 {
		i.From = s.instant()
	}
	if s.r.IntN(4) != 0 {
		i.To = s.instant()
	}
	return i
}

// Sample is terms under which a record of Facts{Time: Noon, Kind: Original,
// Attributes: "2026-09", "0301"} is permitted: one statute for all three sides.
func Sample() *broker.Terms {
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	return &broker.Terms{
		Subscription: broker.Subscription{ID: "sub", Agreement: "agr", Mailbox: "box"},
		Mailbox:      broker.Mailbox{ID: "box", Organisation: Consumer, Channel: broker.Feed},
		Agreement: broker.Agreement{
			ID: "agr", Provider: Provider, Consumer: Consumer, Dataset: "inntekt",
			Package: broker.PackageRef{ID: "pakke", Version: 1}, Purpose: "sosialhjelp",
			Bases:          []broker.LegalBasisID{"statute"},
			Responsibility: broker.Responsibility{ProviderController: Provider, ConsumerController: Consumer},
			Cost:           broker.Cost{Model: broker.Free},
			Corrections:    broker.DeliverCorrections,
			Status:         broker.Active,
			Valid:          broker.Interval{From: year(2026), To: year(2027)},
		},
		Dataset: &broker.Dataset{
			ID: "inntekt", Owner: Provider, AccessRights: broker.NonPublic,
			Attributes: []broker.Attribute{{Name: "period", Pointer: "/period"}, {Name: "kommune", Pointer: "/kommune"}},
		},
		Package:  &broker.RightsPackage{ID: "pakke", Version: 1, Dataset: "inntekt", Fields: []broker.Pointer{"/inntekt"}},
		Bases:    []broker.LegalBasis{Statute("statute", broker.Disclosure, broker.Collection, broker.Confidentiality)},
		Consumer: broker.Organisation{Number: Consumer, Types: []string{"kommune"}},
	}
}

// Statute is a legal basis that covers Sample's dataset, purpose and recipient.
func Statute(id broker.LegalBasisID, sides ...broker.Side) broker.LegalBasis {
	return broker.LegalBasis{
		ID: id, Type: broker.Lov, Sides: sides, GDPR: "A6-1-e",
		Datasets: []broker.DatasetID{"inntekt"}, Purposes: []broker.Purpose{"sosialhjelp"}, Recipients: []string{"kommune"},
		Valid: broker.Interval{From: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)},
	}
}

// Terms are mostly in order, so that whole permits and single faults are common.
func (s *Source) Terms() *broker.Terms {
	t := Sample()
	a := &t.Agreement
	a.Status = mostly(s, broker.Active, broker.Proposed, broker.Suspended, broker.Ended, "")
	if s.r.IntN(4) == 0 {
		a.Valid = s.interval()
	}
	a.Supplier = mostly[broker.OrgNumber](s, "", Supplier, Supplier, Consumer)
	a.Dataset = mostly[broker.DatasetID](s, "inntekt", "annet")
	a.Purpose = mostly[broker.Purpose](s, "sosialhjelp", "annet")
	a.Responsibility.ProviderController = mostly(s, Provider, "")
	a.Responsibility.ConsumerController = mostly(s, Consumer, "")
	a.Cost.Model = mostly(s, broker.Free, broker.PerRecord, broker.PerInhab, broker.YearlyBand, broker.PoolShare, broker.JoiningFee, "", "ukjent")
	a.Cost.Payer = mostly(s, Consumer, "")
	a.Cost.Ceiling = Pick(s, 0, 0, 0, int64(10), 7, -1)
	a.Corrections = Pick(s, broker.DeliverCorrections, broker.DeliverCorrections, broker.NotifyCorrections, broker.RefuseCorrections, "")
	a.Package.Version = mostly(s, 1, 2)
	t.Subscription.ID = Pick[broker.SubscriptionID](s, "sub", "other", "agr")
	t.Subscription.Suspended = mostly(s, false, true)
	t.Subscription.Agreement = mostly[broker.AgreementID](s, "agr", "other")
	t.Mailbox.Suspended = mostly(s, false, true)
	t.Mailbox.Organisation = mostly(s, a.Receiver(), Stranger, Consumer)
	t.Dataset.Owner = mostly(s, Provider, Stranger)
	t.Dataset.AccessRights = mostly(s, broker.NonPublic, broker.Public, broker.Public, "")
	t.Package.Dataset = mostly(s, a.Dataset, "inntekt")
	t.Consumer.Types = mostly(s, []string{"kommune"}, nil, []string{"stat", "kommune"})
	t.Consumer.Number = mostly(s, Consumer, Stranger)
	for range s.r.IntN(3) {
		t.Delegations = append(t.Delegations, broker.Delegation{
			ID: "d", From: mostly(s, Consumer, Stranger), To: mostly(s, Supplier, Stranger),
			Datasets: mostly(s, []broker.DatasetID{"inntekt"}, nil, []broker.DatasetID{"annet", "inntekt"}), Valid: s.interval(),
		})
	}
	t.Bases, a.Bases = nil, nil
	for i := range Pick(s, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 0) {
		b := s.basis(broker.LegalBasisID("basis-" + string(rune('a'+i))))
		t.Bases = append(t.Bases, b)
		if mostly(s, true, false) {
			a.Bases = append(a.Bases, b.ID)
		}
	}
	return t
}

func (s *Source) basis(id broker.LegalBasisID) broker.LegalBasis {
	sides := []broker.Side{broker.Disclosure, broker.Collection, broker.Confidentiality}
	if s.r.IntN(4) == 0 {
		s.r.Shuffle(len(sides), func(i, j int) { sides[i], sides[j] = sides[j], sides[i] })
		sides = sides[:s.r.IntN(4)]
	}
	b := Statute(id, sides...)
	b.Type = Pick(s, broker.Lov, broker.Lov, broker.Samtykke, broker.Samtykke, broker.Samtykke, broker.BasisType(mostly(s, "lov", "annet")))
	b.Datasets = mostly(s, b.Datasets, nil, []broker.DatasetID{"annet"})
	b.Purposes = mostly(s, b.Purposes, nil, []broker.Purpose{"annet"})
	b.Recipients = mostly(s, b.Recipients, nil, []string{string(Consumer)}, []string{"stat"}, []string{"kommune", string(Consumer)})
	b.RequiresCase = s.r.IntN(3) == 0
	b.Valid = s.interval()
	if s.r.IntN(3) == 0 {
		b.About = &broker.AboutBound{
			Attribute: mostly(s, "period", "kommune", "mangler"),
			From:      Pick(s, "", "2026-01", "2026-09", "2026-10"),
			To:        Pick(s, "", "2026-08", "2026-09", "2026-12"),
		}
	}
	return b
}

// Facts of a record under t, close to where answers change.
func (s *Source) Facts(t *broker.Terms) *broker.Facts {
	f := &broker.Facts{
		Time:       s.time(t),
		Kind:       Pick(s, broker.Original, broker.Original, broker.Correction, broker.Retraction),
		Attributes: make([]string, len(t.Dataset.Attributes)),
		Usage:      broker.Usage{Granted: int64(s.r.IntN(4))},
	}
	f.Usage.Delivered = f.Usage.Granted + int64(s.r.IntN(3)-1)
	for i := range f.Attributes {
		f.Attributes[i] = s.attribute(t)
	}
	near := func() time.Time { return f.Time.Add(s.shift()) }
	span := func() broker.Interval {
		i := s.interval()
		if s.r.IntN(3) == 0 {
			i.From = near()
		}
		if s.r.IntN(3) == 0 {
			i.To = near()
		}
		return i
	}
	for range Pick(s, 0, 1, 1, 2, 3) {
		f.Cases = append(f.Cases, span())
	}
	for range Pick(s, 0, 1, 1, 1, 2, 3, 6) {
		c := broker.Consent{
			ID: "c", Consumer: mostly(s, t.Agreement.Consumer, Stranger, ""), Dataset: mostly(s, t.Agreement.Dataset, "inntekt", "annet"),
			Purpose: mostly(s, t.Agreement.Purpose, "annet", ""), Valid: span(),
		}
		if s.r.IntN(3) == 0 {
			c.Withdrawn = near()
		}
		f.Consents = append(f.Consents, c)
	}
	return f
}

// time is often where one of the terms' intervals begins or ends.
func (s *Source) time(t *broker.Terms) time.Time {
	switch s.r.IntN(3) {
	case 0:
		return s.instant()
	case 1:
		return Noon.Add(s.shift())
	}
	var edges []time.Time
	edge := func(i broker.Interval) {
		for _, e := range [...]time.Time{i.From, i.To} {
			if !e.IsZero() {
				edges = append(edges, e)
			}
		}
	}
	edge(t.Agreement.Valid)
	for i := range t.Bases {
		edge(t.Bases[i].Valid)
	}
	for i := range t.Delegations {
		edge(t.Delegations[i].Valid)
	}
	if len(edges) == 0 {
		return s.instant()
	}
	return Pick(s, edges...).Add(s.shift())
}

func (s *Source) attribute(t *broker.Terms) string {
	texts := []string{"2026-09", "2026-09", "2026-10", "0301", "", "\x00", "2026-09\x00", "2026-1", "Ø", "￿"}
	for i := range t.Bases {
		if a := t.Bases[i].About; a != nil {
			texts = append(texts, a.From, a.To, a.To+"0", a.From+" ")
		}
	}
	return Pick(s, texts...)
}
