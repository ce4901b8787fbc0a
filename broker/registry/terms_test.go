package registry

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

// Whatever changes, and however much between two looks, terms that are carried on
// are those that would be made from nothing.
func TestTermsCarriedOnAreTermsMadeAnew(t *testing.T) {
	s0, log := base(t)
	kinds := []func(*State) []any{
		func(s *State) []any { return each(s.Organisations()) },
		func(s *State) []any { return each(s.Datasets()) },
		func(s *State) []any { return each(s.Bases()) },
		func(s *State) []any { return each(s.Agreements()) },
		func(s *State) []any { return each(s.Mailboxes()) },
		func(s *State) []any { return each(s.Subscriptions()) },
	}
	another := *s0.Bases()[0]
	another.ID = "another"
	e := must(s0.Link(now, "test", must(Put(another))))
	fold(t, s0, e...)
	log = append(log, e...)
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		for _, e := range log {
			must(s.Fold(e))
		}
		put := func(v any) bool { return must(s.Fold(must(s.Link(now, "w", must(Put(v))))[0])) }
		put(broker.Organisation{Number: "313876144", Name: "Leverandøren"})
		for step := range rapid.IntRange(1, 20).Draw(t, "steps") {
			switch what := rapid.IntRange(0, 8).Draw(t, "what"); what {
			case 0: // a supplier's subscription, of a name before or after the others
				name := rapid.SampledFrom([]string{"a", "m", "z"}).Draw(t, "name") + fmt.Sprint(rapid.IntRange(0, 2).Draw(t, "n"))
				a := *s.Agreement("bergen")
				a.ID, a.Supplier, a.Purpose = broker.AgreementID(name), "313876144", broker.Purpose(rapid.SampledFrom([]string{"sosialhjelp", "annet"}).Draw(t, "purpose"))
				put(a)
				put(broker.Mailbox{ID: broker.MailboxID(name), Organisation: "313876144", Client: "c", Channel: broker.Feed})
				put(broker.Subscription{ID: broker.SubscriptionID(name), Agreement: a.ID, Mailbox: broker.MailboxID(name), Scope: broker.Scope{Kind: broker.ScopeListed}})
			case 1:
				put(broker.Delegation{ID: broker.DelegationID(fmt.Sprint("d", rapid.IntRange(0, 2).Draw(t, "d"))), From: "964338531", To: "313876144",
					Datasets: []broker.DatasetID{"inntekt"}, Valid: broker.Interval{From: now.Add(-time.Duration(step) * time.Hour)}})
			case 2:
				c := WithdrawDelegation(broker.DelegationID(fmt.Sprint("d", rapid.IntRange(0, 2).Draw(t, "d"))), now)
				must(s.Fold(must(s.Link(now, "w", c))[0]))
			case 3: // moved to another agreement of the same consumer, which may have another purpose
				subs, as := s.Subscriptions(), s.Agreements()
				x := *subs[rapid.IntRange(0, len(subs)-1).Draw(t, "sub")]
				x.Agreement = as[rapid.IntRange(0, len(as)-1).Draw(t, "to")].ID
				put(x)
			case 4: // an agreement with more bases, or fewer
				as, bases := s.Agreements(), s.Bases()
				a := *as[rapid.IntRange(0, len(as)-1).Draw(t, "agreement")]
				a.Bases = nil
				for _, b := range bases {
					if rapid.Bool().Draw(t, "rests on it") {
						a.Bases = append(a.Bases, b.ID)
					}
				}
				put(a)
			default: // the same as it was, or nearly, but anew
				all := kinds[what%len(kinds)](s)
				if len(all) > 0 {
					v := all[rapid.IntRange(0, len(all)-1).Draw(t, "which")]
					switch x := v.(type) {
					case broker.LegalBasis:
						x.Title += "x"
						v = x
					case broker.Dataset:
						x.Title += "x"
						v = x
					case broker.Organisation:
						x.Name += "x"
						v = x
					}
					put(v)
				}
			}
			if rapid.IntRange(0, 2).Draw(t, "look") > 0 {
				continue
			}
			carried := s.resolve()
			s.resolved.Store(nil)
			anew := s.resolve()
			if !bytes.Equal(raw(carried.all), raw(anew.all)) || !bytes.Equal(raw(carried.at), raw(anew.at)) || fmt.Sprint(carried.byConsent) != fmt.Sprint(anew.byConsent) {
				t.Fatalf("carried on\n%s\n%v\nmade anew\n%s\n%v", raw(carried.all), carried.byConsent, raw(anew.all), anew.byConsent)
			}
			s.resolved.Store(carried)
		}
	})
}

func each[T any](all []*T) (out []any) {
	for _, v := range all {
		out = append(out, *v)
	}
	return out
}
