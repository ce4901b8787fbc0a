package registry

import (
	"fmt"
	"strconv"
	"testing"

	"datafordeler/broker"
)

// municipal is a state with n subscriptions, each with an agreement of its own
// between one of 400 consumers and the demonstration's provider.
func municipal(b testing.TB, n int) *State {
	s, _ := base(b)
	template := *s.Agreement("bergen")
	var changes []Change
	for i := range n {
		a := template
		a.ID = broker.AgreementID("a-" + strconv.Itoa(i))
		m := broker.Mailbox{ID: broker.MailboxID("m-" + strconv.Itoa(i)), Organisation: a.Consumer, Client: "c", Channel: broker.Feed}
		sub := broker.Subscription{ID: broker.SubscriptionID("s-" + strconv.Itoa(i)), Agreement: a.ID, Mailbox: m.ID, Scope: broker.Scope{Kind: broker.ScopeListed}}
		changes = append(changes, must(Put(a)), must(Put(m)), must(Put(sub)))
	}
	for _, e := range must(s.Link(now, "bench", changes...)) {
		if ok, err := s.Fold(e); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
	return s
}

// BenchmarkTermsAfterChange is the fold of one agreement's change, and all terms
// anew where it touches them.
func BenchmarkTermsAfterChange(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := municipal(b, n)
			s.AllTerms()
			a := *s.Agreement("a-7")
			b.ReportAllocs()
			for b.Loop() {
				a.Cost.Ceiling++
				b.StopTimer()
				e := must(s.Link(now, "bench", must(Put(a))))[0]
				b.StartTimer()
				if ok, err := s.Fold(e); !ok || err != nil {
					b.Fatal(ok, err)
				}
				if s.Terms("s-7").Agreement.Cost.Ceiling != a.Cost.Ceiling {
					b.Fatal("old terms")
				}
			}
		})
	}
}
