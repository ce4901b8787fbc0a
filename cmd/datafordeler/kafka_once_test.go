package main

import (
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"datafordeler/broker/access"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
)

// once: one Idempotency-Key makes one login, whichever instance it comes to, and after a
// restart; whoever comes again is told which, and what to do.
func (s *secured) once(t *testing.T) {
	one := s.logins
	s.open() // as another instance, or the same after a restart, does
	other := s.logins
	s.logins = one
	order := web.KafkaCredentialOrder{Once: sha256.Sum256([]byte("once"))}
	live := func() []string {
		t.Helper()
		all, err := other.List(s.ctx, arendals)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, c := range all {
			names = append(names, c.Name)
		}
		return names
	}
	before := live()

	// Both are asked at the same time. One makes it, the others meet it.
	var mu sync.Mutex
	var made []web.IssuedKafkaCredential
	var g sync.WaitGroup
	for i := range 4 {
		g.Go(func() {
			l, err := []*kafkaCredentials{one, other}[i%2].Issue(s.ctx, arendal, arendals, order)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made = append(made, l)
				return
			}
			wantProblem(t, err, 409, web.KeyDone, "revoke that login", "told once")
		})
	}
	g.Wait()
	if len(made) != 1 || len(live()) != len(before)+1 || !slices.Contains(live(), made[0].Name) {
		t.Fatalf("%d were told a password; before %v, now %v", len(made), before, live())
	}
	if rs, err := kadm.NewClient(s.client(made[0])).ListStartOffsets(s.ctx, made[0].Topic); errors.Join(err, rs.Error()) != nil {
		t.Errorf("the login that was made: %v %v", err, rs.Error())
	}
	again := func(c *kafkaCredentials, r access.Resource) error {
		l, err := c.Issue(s.ctx, arendal, r, order)
		if err == nil {
			t.Errorf("made again: %s", l.Name)
		}
		return err
	}
	for _, c := range []*kafkaCredentials{one, other} {
		wantProblem(t, again(c, arendals), 409, web.KeyDone, made[0].Name, "revoke that login")
		wantProblem(t, again(c, bergens), 422, web.KeyReused, "something else")
	}
	// What the answer says to do is of use: revoke it, and take another key.
	if err := other.Revoke(s.ctx, arendal, arendals, made[0].Name); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, again(one, arendals), 409, web.KeyDone, made[0].Name, "has ended")
	order.Once = sha256.Sum256([]byte("another"))
	l, err := other.Issue(s.ctx, arendal, arendals, order)
	if err != nil || l.Name == made[0].Name {
		t.Fatalf("%s %v", l.Name, err)
	}
	if err := one.Revoke(s.ctx, arendal, arendals, l.Name); err != nil {
		t.Error(err)
	}
}

// wantProblem wants an error for the caller, of a type, that says what it must.
func wantProblem(t *testing.T, err error, status int, kind string, says ...string) {
	t.Helper()
	p, ok := errors.AsType[*web.Problem](err)
	if !ok || p.Status != status || p.Type != kind {
		t.Errorf("%v, want %d %s", err, status, kind)
		return
	}
	for _, w := range says {
		if !strings.Contains(p.Detail, w) {
			t.Errorf("%q does not say %q", p.Detail, w)
		}
	}
}

// What an order whose key has made a login is answered, by where the login stands: what
// the cluster's test finds, without a cluster.
func TestIssuedBefore(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	st := registry.New()
	docs, err := registry.Load("../../deploy/demo")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := registry.NewPlan(st, docs, "test", now)
	if err != nil {
		t.Fatal(err)
	}
	fold := func(events ...registry.Event) {
		t.Helper()
		for _, e := range events {
			if ok, err := st.Fold(e); err != nil || !ok {
				t.Fatal(ok, err)
			}
		}
	}
	fold(plan.Events...)
	k := &kafkaCredentials{kafkaAccess: &kafkaAccess{now: func() time.Time { return now }}}
	const name = "df-974761076-abcdefghij234567"
	if err := k.mayIssue(st, properties, name, ""); err != nil {
		t.Fatal(err)
	}
	change := func(c registry.Change) {
		t.Helper()
		events, err := st.Link(now, "test", c)
		if err != nil {
			t.Fatal(err)
		}
		fold(events...)
	}
	change(registry.IssueCredential(registry.Credential{ID: name, Organisation: skatt.Organisation, Dataset: properties.Dataset}))
	wantProblem(t, k.mayIssue(st, properties, name, ""), 409, web.KeyDone, name, "revoke")
	wantProblem(t, k.mayIssue(st, bergens, name, ""), 422, web.KeyReused)
	if err := k.mayIssue(st, properties, "df-974761076-zzzzzzzzzzzzzzzz", name); err != nil {
		t.Errorf("another key replaces it: %v", err)
	}
	change(registry.EndCredential(name, now, "a test"))
	wantProblem(t, k.mayIssue(st, properties, name, ""), 409, web.KeyDone, "has ended")
}
