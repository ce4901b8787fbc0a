package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// A supplier's mailbox, and every way in which a credential for it is worth less.
func TestKafkaAccess(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2026, 1, d, 0, 0, 0, 0, time.UTC) }
	const id, owners = "df-313876144-abcdefghij234567", "df-974761076-abcdefghij234567"
	agreement := broker.Agreement{ID: "a", Provider: "974761076", Consumer: "964338531", Supplier: "313876144", Dataset: "d", Package: broker.PackageRef{ID: "r", Version: 1}, Purpose: "p",
		Status: broker.Active, Valid: broker.Interval{From: day(2), To: day(20)}}
	dataset := broker.Dataset{ID: "d", Owner: "974761076", Schemas: []broker.Schema{{Version: "1", Document: []byte(`{}`)}}, Current: "1", Subject: broker.SubjectRule{Kind: broker.NoSubject}}
	mailbox := broker.Mailbox{ID: "m", Organisation: "313876144", Channel: broker.KafkaChannel}
	base := func(t *testing.T) *State {
		s := New()
		put := func(v any) Change { return must(Put(v)) }
		changes := []Change{
			put(broker.Organisation{Number: "974761076"}), put(broker.Organisation{Number: "964338531"}), put(broker.Organisation{Number: "313876144"}),
			put(dataset), put(broker.RightsPackage{ID: "r", Version: 1, Dataset: "d"}), put(mailbox), put(agreement),
			put(broker.Subscription{ID: "s", Agreement: "a", Mailbox: "m", Scope: broker.Scope{Kind: broker.ScopeAll}}),
			put(broker.Delegation{ID: "g", From: "964338531", To: "313876144", Datasets: []broker.DatasetID{"d"}, Valid: broker.Interval{From: day(1), To: day(30)}}),
			IssueCredential(Credential{ID: id, Organisation: "313876144", Mailbox: "m"}),
			IssueCredential(Credential{ID: owners, Organisation: "974761076", Dataset: "d"}),
		}
		fold(t, s, must(s.Link(day(1), "test", changes...))...)
		return s
	}
	with := func(edit func(*broker.Agreement)) Change {
		a := agreement
		edit(&a)
		return must(Put(a))
	}
	for _, c := range []struct {
		name     string
		at       time.Time
		changes  []Change
		standing Standing
		why      string
		next     time.Time
	}{
		{"in force", day(5), nil, Stands, "", day(20)},
		{"not yet", day(1), nil, Held, "not in force yet", day(2)},
		{"past", day(20), nil, Held, "past its interval", day(30)},
		{"suspended agreement", day(5), []Change{with(func(a *broker.Agreement) { a.Status = broker.Suspended })}, Held, "is suspended", day(20)},
		{"proposed agreement", day(5), []Change{with(func(a *broker.Agreement) { a.Status = broker.Proposed })}, Held, "is proposed", day(20)},
		{"ended agreement", day(5), []Change{with(func(a *broker.Agreement) { a.Status = broker.Ended })}, Over, "has ended", time.Time{}},
		{"suspended mailbox", day(5), []Change{must(Put(broker.Mailbox{ID: "m", Organisation: "313876144", Channel: broker.KafkaChannel, Suspended: true}))}, Held, "mailbox is suspended", day(20)},
		{"a feed now", day(5), []Change{must(Put(broker.Mailbox{ID: "m", Organisation: "313876144", Channel: broker.Feed}))}, Held, "does not receive by Kafka", day(20)},
		{"suspended subscription", day(5), []Change{must(Put(broker.Subscription{ID: "s", Agreement: "a", Mailbox: "m", Suspended: true}))}, Held, "subscription s is suspended", day(20)},
		{"withdrawn delegation", day(5), []Change{WithdrawDelegation("g", day(4))}, Over, "was withdrawn", day(20)},
		{"a withdrawal to come", day(5), []Change{WithdrawDelegation("g", day(6))}, Stands, "", day(6)},
		{"delegated anew", day(5), []Change{WithdrawDelegation("g", day(4)), must(Put(broker.Delegation{ID: "g2", From: "964338531", To: "313876144", Datasets: []broker.DatasetID{"d"}}))}, Stands, "", day(20)},
		{"a delegation of another dataset", day(5), []Change{must(Put(broker.Delegation{ID: "g", From: "964338531", To: "313876144", Datasets: []broker.DatasetID{}}))}, Held, "covers dataset d", day(20)},
		{"a consumer that is no more", day(5), []Change{EndUnit(UnitEnd{Organisation: "964338531", On: day(4)})}, Held, "has a party that is no more", day(20)},
		{"a receiver that is no more", day(5), []Change{EndUnit(UnitEnd{Organisation: "313876144", On: day(4)})}, Held, "313876144 is no more", time.Time{}},
		{"one that was no more by mistake", day(5), []Change{EndUnit(UnitEnd{Organisation: "313876144", On: day(4)}), RestoreUnit("313876144")}, Stands, "", day(20)},
		{"taken back", day(5), []Change{EndCredential(id, day(5), "x")}, Over, "taken back", time.Time{}},
		{"to be taken back", day(5), []Change{EndCredential(id, day(7), "x")}, Stands, "", day(7)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := base(t)
			fold(t, s, must(s.Link(day(1), "test", c.changes...))...)
			all, next := s.KafkaAccess(c.at)
			got, owner := all[0], all[1]
			if got.ID != id || got.Standing != c.standing || c.why == "" != (got.Why == "") || !strings.Contains(got.Why, c.why) || !next.Equal(c.next) {
				t.Errorf("%v %q, next %v", got.Standing, got.Why, next)
			}
			if owner.Standing != Stands {
				t.Errorf("the provider's: %v %s", owner.Standing, owner.Why)
			}
		})
	}
	t.Run("another owner", func(t *testing.T) {
		s := base(t)
		other := dataset
		other.Owner = "964338531"
		fold(t, s, must(s.Link(day(1), "test", must(Put(other))))...)
		if all, _ := s.KafkaAccess(day(5)); all[1].Standing != Over {
			t.Errorf("%v", all[1].Standing)
		}
	})
	t.Run("a provider that is no more", func(t *testing.T) {
		s := base(t)
		was := s.KafkaRevision()
		fold(t, s, must(s.Link(day(1), "test", EndUnit(UnitEnd{Organisation: "974761076", On: day(4)})))...)
		if all, _ := s.KafkaAccess(day(5)); all[0].Standing != Held || all[1].Standing != Held || s.KafkaRevision() == was {
			t.Errorf("%v %v, at revision %d after %d", all[0].Standing, all[1].Standing, s.KafkaRevision(), was)
		}
	})
	t.Run("one of two agreements is enough", func(t *testing.T) {
		s := base(t)
		b := agreement
		b.ID, b.Supplier = "b", "313876144"
		fold(t, s, must(s.Link(day(1), "test", must(Put(b)), must(Put(broker.Subscription{ID: "s2", Agreement: "b", Mailbox: "m"})),
			with(func(a *broker.Agreement) { a.Status = broker.Ended })))...)
		if all, _ := s.KafkaAccess(day(5)); all[0].Standing != Stands {
			t.Errorf("%v %s", all[0].Standing, all[0].Why)
		}
	})
	t.Run("refused", func(t *testing.T) {
		s := base(t)
		for _, c := range []struct {
			change Change
			says   string
		}{
			{IssueCredential(Credential{ID: id, Organisation: "313876144", Mailbox: "m"}), "issued before"},
			{IssueCredential(Credential{ID: "df-964338531-abcdefghij234567", Organisation: "964338531", Mailbox: "m"}), "belongs to 313876144"},
			{IssueCredential(Credential{ID: "df-964338531-abcdefghij234567", Organisation: "964338531", Dataset: "d"}), "belongs to 974761076"},
			{IssueCredential(Credential{ID: "df-313876144-abcdefghij234568", Organisation: "974761076", Dataset: "d"}), "is named df-"},
			{IssueCredential(Credential{ID: "admin", Organisation: "974761076", Dataset: "d"}), "is named df-"},
			{IssueCredential(Credential{ID: "df-974761076-abcdefghij234568", Organisation: "974761076", Dataset: "d", Mailbox: "m"}), "for one mailbox or for one dataset"},
			{IssueCredential(Credential{ID: "df-974761076-abcdefghij234568", Organisation: "974761076"}), "for one mailbox or for one dataset"},
			{IssueCredential(Credential{ID: "df-974761076-01234567890abcde", Organisation: "974761076", Dataset: "d"}), "eleven digits"},
			{IssueCredential(Credential{ID: "df-974761076-abcdefghij234568", Organisation: "974761076", Dataset: "d", Client: "15810412345"}), "eleven digits"},
			{EndCredential("df-974761076-zzzzzzzzzzzzzzzz", day(3), "x"), "no credential"},
			{EndCredential(id, day(3), " "), "for a reason"},
			{EndCredential(id, day(3), "15810412345"), "eleven digits"},
			{EndCredential(id, time.Time{}, "x"), "at a time"},
		} {
			err := s.Check(must(s.Link(day(3), "test", c.change))[0])
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", c.change.Data, err)
			}
		}
		fold(t, s, must(s.Link(day(3), "test", EndCredential(id, day(4), "x")))...)
		if err := s.Check(must(s.Link(day(3), "test", EndCredential(id, day(5), "x")))[0]); err == nil {
			t.Error("an end was put off")
		}
	})
}

// What stands belongs to who holds it, rests on something in force, and changes by
// the clock alone only when the state says that it will.
func TestKafkaAccessOfAnyState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, at := anyKafkaState(t)
		all, next := s.KafkaAccess(at)
		for _, a := range all {
			if a.Standing == Stands != (a.Why == "") {
				t.Fatalf("%v for %q", a.Standing, a.Why)
			}
			if a.Standing != Stands {
				continue
			}
			if !a.Ends.IsZero() && !at.Before(a.Ends) {
				t.Fatalf("%s ended at %v and stands at %v", a.ID, a.Ends, at)
			}
			if a.Dataset != "" {
				if s.Dataset(a.Dataset).Owner != a.Organisation {
					t.Fatalf("%s stands on another's dataset", a.ID)
				}
				continue
			}
			// Said anew, by the terms that policy sees.
			m := s.Mailbox(a.Mailbox)
			in := slices.ContainsFunc(s.Subscriptions(), func(sub *broker.Subscription) bool {
				terms := s.Terms(sub.ID)
				return sub.Mailbox == m.ID && !sub.Suspended && terms.Agreement.Status == broker.Active && terms.Agreement.Valid.Contains(at) &&
					(terms.Agreement.Supplier == "" || slices.ContainsFunc(terms.Delegations, func(d broker.Delegation) bool {
						return d.Valid.Contains(at) && slices.Contains(d.Datasets, terms.Agreement.Dataset)
					}))
			})
			if m.Organisation != a.Organisation || m.Suspended || m.Channel != broker.KafkaChannel || !in {
				t.Fatalf("%s stands on nothing", a.ID)
			}
		}
		if !next.IsZero() && !next.After(at) {
			t.Fatalf("next %v is not after %v", next, at)
		}
		until := at.Add(1000 * time.Hour)
		if !next.IsZero() {
			until = next.Add(-time.Nanosecond)
		}
		later, _ := s.KafkaAccess(until)
		for i := range all {
			if all[i].Standing != later[i].Standing {
				t.Fatalf("%s: %v, and %v before the state said that it changes", all[i].ID, all[i].Standing, later[i].Standing)
			}
		}
	})
}

// anyKafkaState is a registry of three organisations that all provide, consume and
// supply, in whatever standing, and a time.
func anyKafkaState(t *rapid.T) (*State, time.Time) {
	begun := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	orgs := []broker.OrgNumber{"974761076", "964338531", "313876144"}
	org := rapid.SampledFrom(orgs)
	hour := rapid.Custom(func(t *rapid.T) time.Time {
		return begun.Add(time.Duration(rapid.IntRange(1, 9).Draw(t, "h")) * time.Hour)
	})
	span := rapid.Custom(func(t *rapid.T) broker.Interval {
		i := broker.Interval{From: hour.Draw(t, "from")}
		if rapid.Bool().Draw(t, "ends") {
			i.To = i.From.Add(time.Duration(rapid.IntRange(1, 5).Draw(t, "long")) * time.Hour)
		}
		return i
	})
	n := rapid.IntRange(0, 2)
	s := New()
	// What is refused is left out: sense is not asked of the changes.
	try := func(c Change) {
		e, err := s.Link(begun, "test", c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Fold(e[0]); err != nil {
			t.Fatal(err)
		}
	}
	put := func(v any) { try(must(Put(v))) }
	for _, o := range orgs {
		put(broker.Organisation{Number: o})
	}
	for range rapid.IntRange(10, 60).Draw(t, "changes") {
		d := broker.DatasetID(fmt.Sprintf("d%d", n.Draw(t, "dataset")))
		m := broker.MailboxID(fmt.Sprintf("m%d", n.Draw(t, "mailbox")))
		a := broker.AgreementID(fmt.Sprintf("a%d", n.Draw(t, "agreement")))
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0:
			put(broker.Dataset{ID: d, Owner: org.Draw(t, "owner"), Schemas: []broker.Schema{{Version: "1", Document: []byte(`{}`)}}, Current: "1", Subject: broker.SubjectRule{Kind: broker.NoSubject}})
			put(broker.RightsPackage{ID: "r-" + string(d), Version: 1, Dataset: d})
		case 1:
			put(broker.Mailbox{ID: m, Organisation: org.Draw(t, "receiver"), Channel: rapid.SampledFrom([]broker.Channel{broker.KafkaChannel, broker.KafkaChannel, broker.Feed}).Draw(t, "channel"), Suspended: rapid.IntRange(0, 3).Draw(t, "suspended") == 0})
		case 2, 3:
			g := broker.Agreement{ID: a, Provider: org.Draw(t, "provider"), Consumer: org.Draw(t, "consumer"), Dataset: d, Package: broker.PackageRef{ID: "r-" + string(d), Version: 1}, Purpose: "p",
				Status: rapid.SampledFrom([]broker.AgreementStatus{broker.Active, broker.Active, broker.Active, broker.Suspended, broker.Ended, broker.Proposed}).Draw(t, "status"), Valid: span.Draw(t, "valid")}
			if rapid.Bool().Draw(t, "supplied") {
				g.Supplier = org.Draw(t, "supplier")
			}
			put(g)
		case 4, 5:
			put(broker.Subscription{ID: broker.SubscriptionID(fmt.Sprintf("s%d", n.Draw(t, "subscription"))), Agreement: a, Mailbox: m, Suspended: rapid.IntRange(0, 3).Draw(t, "held") == 0})
		case 6:
			put(broker.Delegation{ID: broker.DelegationID(fmt.Sprintf("g%d", n.Draw(t, "delegation"))), From: org.Draw(t, "from"), To: org.Draw(t, "to"), Datasets: []broker.DatasetID{d}, Valid: span.Draw(t, "leave")})
		case 7:
			try(WithdrawDelegation(broker.DelegationID(fmt.Sprintf("g%d", n.Draw(t, "withdrawn"))), hour.Draw(t, "at")))
		case 8:
			o := org.Draw(t, "holder")
			c := Credential{ID: fmt.Sprintf("df-%s-abcdefghijklmn%02d", o, rapid.IntRange(0, 5).Draw(t, "no")), Organisation: o}
			if rapid.Bool().Draw(t, "receives") {
				c.Mailbox = m
			} else {
				c.Dataset = d
			}
			try(IssueCredential(c))
		case 9:
			for _, c := range s.Credentials() {
				if rapid.IntRange(0, 3).Draw(t, "revoke") == 0 {
					try(EndCredential(c.ID, hour.Draw(t, "ends"), "x"))
				}
			}
		}
	}
	return s, hour.Draw(t, "now")
}
