package registry

import (
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
)

// A freeze stops what it names and nothing else; each authority's is its own, and
// what is lifted is as it was.
func TestFreeze(t *testing.T) {
	s, _ := everything(t)
	at := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	do := func(c Change) bool {
		t.Helper()
		ok, err := s.Fold(must(s.Link(at, "test", c))[0])
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	frozen := func() (subs []broker.SubscriptionID) {
		for _, x := range s.AllTerms() {
			if x.Frozen {
				subs = append(subs, x.Subscription.ID)
			}
		}
		return subs
	}
	is := func(want string) {
		t.Helper()
		var have []string
		for _, id := range frozen() {
			have = append(have, string(id))
		}
		if got := strings.Join(have, " "); got != want {
			t.Errorf("frozen: %q, want %q", got, want)
		}
	}
	is("s t") // mailbox m, by its operator
	if !do(LiftFreeze(FreezeEnd{FreezeMailbox, "m", ByOperator, "w"})) {
		t.Fatal("not lifted")
	}
	is("")
	before, terms := s.Hash(), s.Terms("l")
	for _, c := range []struct {
		kind FreezeKind
		id   string
		by   Authority
		want string
	}{
		{FreezeDataset, "d", ByOwner, "l s t"},
		{FreezeDataset, "e", ByOwner, ""},
		{FreezeOrganisation, "964338531", ByOperator, "l s t"}, // the consumer
		{FreezeOrganisation, "313876144", ByOperator, "l s t"}, // its supplier
		{FreezeOrganisation, "974761076", ByOperator, ""},      // a provider goes on getting nothing
		{FreezeMailbox, "m", ByOwner, "s t"},
		{FreezeMailbox, "n", ByOwner, ""},
	} {
		if !do(SetFreeze(Freeze{c.kind, c.id, c.by, "why"})) {
			t.Fatalf("%+v: refused", c)
		}
		is(c.want)
		if do(SetFreeze(Freeze{c.kind, c.id, c.by, "again"})) {
			t.Errorf("%+v: frozen twice", c)
		}
		if f := s.FrozenBy(c.kind, c.id); len(f) != 1 || f[0].Why != "why" || f[0].Actor != "test" || !f[0].At.Equal(at) || len(s.Freezes()) != 1 {
			t.Errorf("%+v: %+v", c, f)
		}
		if !do(LiftFreeze(FreezeEnd{c.kind, c.id, c.by, "over"})) || do(LiftFreeze(FreezeEnd{c.kind, c.id, c.by, "over"})) {
			t.Errorf("%+v: is lifted once", c)
		}
		is("")
	}
	// Both authorities': one that is lifted leaves the other.
	do(SetFreeze(Freeze{FreezeDataset, "d", ByOwner, "why"}))
	do(SetFreeze(Freeze{FreezeDataset, "d", ByOperator, "why"}))
	do(LiftFreeze(FreezeEnd{FreezeDataset, "d", ByOwner, "over"}))
	is("l s t")
	do(LiftFreeze(FreezeEnd{FreezeDataset, "d", ByOperator, "over"}))
	is("")
	if now := s.Terms("l"); now.Frozen || now.Agreement.ID != terms.Agreement.ID || s.Hash() == before {
		t.Error("the state after is not as it should be") // its revision is another
	}
	for _, f := range []Freeze{
		{"agreement", "a", ByOperator, "why"}, {FreezeDataset, "x", ByOwner, "why"}, {FreezeDataset, "d", "somebody", "why"},
		{FreezeOrganisation, "964338531", ByOwner, "why"}, {FreezeDataset, "d", ByOwner, " "},
		{FreezeDataset, "d", ByOwner, "on 01010112345"}, {FreezeDataset, "d", ByOwner, strings.Repeat("x", maxFreezeWhy+1)},
	} {
		if do(SetFreeze(f)) {
			t.Errorf("%+v was taken", f)
		}
	}
}
