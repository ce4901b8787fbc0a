package flow

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// lenient is a policy that decides otherwise than the embedded one: it takes a
// suspended agreement for an active one.
func lenient(t *testing.T) policy.Bundle {
	b, found := policy.Embedded(), false
	for name, module := range b.Modules {
		const active = `input.agreement.status == "active"`
		if strings.Contains(module, active) {
			b.Modules[name], found = strings.Replace(module, active, `input.agreement.status in {"active", "suspended"}`, 1), true
		}
	}
	if !found {
		t.Fatal("the rule on an agreement's status reads otherwise now")
	}
	return b
}

// Policy, agreements, bases, cases and consents change all the while records
// flow through several sessions. Afterwards each record of decisions is computed
// again from the one revision that it names, in full and not compiled: had a
// decision come of two revisions, or of a policy compiled for another, its bytes
// would differ.
func TestChangesUnderLoad(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	s := newScenario(t)
	s.cfg.Sessions, s.cfg.MaxRecords = 3, 40
	text, err := os.ReadFile("testdata/registry.yaml")
	if err != nil {
		t.Fatal(err)
	}
	apply := func(replace ...string) {
		path := filepath.Join(t.TempDir(), "registry.yaml")
		if err := os.WriteFile(path, []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.apply(path); err != nil {
			t.Fatal(err)
		}
	}
	const endless = "ceiling: 1000000"
	apply("ceiling: 6", endless)
	other := lenient(t)
	policies := []policy.Bundle{policy.Embedded(), other}
	activate := func(n int) {
		b := policies[n]
		s.change(registry.ActivatePolicy(registry.Policy{Digest: b.Digest(), Modules: b.Modules}))
	}
	activate(0)
	s.start()

	const records = 1_500
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := range records {
			s.publishLine(fmt.Sprintf("id=e%d person=p%d", i, i%9))
		}
	})
	subject := func() broker.SubjectKey { return s.ring.Subject(broker.Person, s.people.Person(rng.IntN(9)).ID) }
	open := broker.Interval{From: s.clock().Add(-time.Hour)}
	done := make(chan struct{})
	go func() { publishing.Wait(); close(done) }()
	changes := 0
	for changing := true; changing; changes++ {
		select {
		case <-done:
			changing = false
		default:
		}
		switch changes % 6 {
		case 0:
			activate(rng.IntN(2))
		case 1:
			apply("ceiling: 6", endless, "corrections: refuse\nstatus: active", "corrections: refuse\nstatus: suspended")
		case 2:
			apply("ceiling: 6", endless, "valid: {from: 2020-01-01}", "valid: {from: 2020-01-01, to: 2020-02-01}")
		case 3:
			apply("ceiling: 6", endless)
		case 4:
			s.change(registry.OpenCase(broker.Case{ID: broker.CaseID(fmt.Sprint("k", changes)), Subscription: "case", Subject: subject(), Open: open}))
		case 5:
			s.change(registry.GiveConsent(broker.Consent{ID: broker.ConsentID(fmt.Sprint("c", changes)), Subject: subject(),
				Consumer: "310149942", Dataset: "d", Purpose: "loan", Valid: open}))
		}
	}
	s.drain(s.ctx)
	totals := s.broker.Totals()
	s.stop()
	if totals.Permitted == 0 || totals.Permitted == totals.Decisions {
		t.Errorf("%d of %d permitted: the changes made no difference", totals.Permitted, totals.Decisions)
	}
	t.Logf("%d changes, %d decisions, %d permits, %d transactions", changes, totals.Decisions, totals.Permitted, totals.Transactions)
	s.checkAll()
}
