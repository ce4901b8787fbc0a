package policy

import (
	"testing"
	"time"

	"datafordeler/broker"
)

// The tests' clock stands here.
var noon = time.Date(2026, 10, 15, 12, 0, 0, 0, time.UTC)

// Organisations of the tests, by their part. Synthetic: such numbers begin with 3.
const (
	provider broker.OrgNumber = "313876144"
	consumer broker.OrgNumber = "310149942"
	supplier broker.OrgNumber = "311111115"
	stranger broker.OrgNumber = "312222227"
)

// between is an interval of 2026 by month and day.
func between(from, to string) broker.Interval {
	day := func(s string) time.Time {
		t, err := broker.ParseTime(s)
		if err != nil {
			panic(err)
		}
		return t
	}
	return broker.Interval{From: day(from), To: day(to)}
}

// sample is an agreement under which a record of sampleFacts is permitted: one
// statute for all three sides.
func sample() *broker.Terms {
	return &broker.Terms{
		Subscription: broker.Subscription{ID: "sub", Agreement: "agr", Mailbox: "box"},
		Mailbox:      broker.Mailbox{ID: "box", Organisation: consumer, Channel: broker.Feed},
		Agreement: broker.Agreement{
			ID: "agr", Provider: provider, Consumer: consumer, Dataset: "inntekt",
			Package: broker.PackageRef{ID: "pakke", Version: 1}, Purpose: "sosialhjelp",
			Bases:          []broker.LegalBasisID{"statute"},
			Responsibility: broker.Responsibility{ProviderController: provider, ConsumerController: consumer},
			Cost:           broker.Cost{Model: broker.Free},
			Corrections:    broker.DeliverCorrections,
			Status:         broker.Active,
			Valid:          between("2026-01-01", "2027-01-01"),
		},
		Dataset: &broker.Dataset{
			ID: "inntekt", Owner: provider, AccessRights: broker.NonPublic,
			Attributes: []broker.Attribute{{Name: "period", Pointer: "/period"}, {Name: "kommune", Pointer: "/kommune"}},
		},
		Package:  &broker.RightsPackage{ID: "pakke", Version: 1, Dataset: "inntekt", Fields: []broker.Pointer{"/inntekt"}},
		Bases:    []broker.LegalBasis{statute("statute", broker.Disclosure, broker.Collection, broker.Confidentiality)},
		Consumer: broker.Organisation{Number: consumer, Types: []string{"kommune"}},
	}
}

func statute(id broker.LegalBasisID, sides ...broker.Side) broker.LegalBasis {
	return broker.LegalBasis{
		ID: id, Type: broker.Lov, Sides: sides, GDPR: "A6-1-e",
		Datasets: []broker.DatasetID{"inntekt"}, Purposes: []broker.Purpose{"sosialhjelp"}, Recipients: []string{"kommune"},
		Valid: between("2020-01-01", ""),
	}
}

func sampleFacts() *broker.Facts {
	return &broker.Facts{Time: noon, Kind: broker.Original, Attributes: []string{"2026-09", "0301"}}
}

func embeddedEngine(t testing.TB) *Engine {
	t.Helper()
	e, err := Compile(Embedded())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func prepare(t testing.TB, e *Engine, terms *broker.Terms) *Prepared {
	t.Helper()
	p, err := e.Prepare(terms)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
