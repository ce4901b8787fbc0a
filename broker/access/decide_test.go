package access

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"datafordeler/policy"
)

// everyQuestion is the whole of what can be asked.
func everyQuestion(yield func(Question) bool) {
	yes := []bool{false, true}
	for _, a := range append(Actions[:len(Actions):len(Actions)], "records.burn", "") {
		for _, relation := range append(Relations[:len(Relations):len(Relations)], "friend") {
			for _, via := range append(Vias[:len(Vias):len(Vias)], "") {
				for _, citizen := range yes {
					for _, scope := range yes {
						for _, auditor := range yes {
							for _, operator := range yes {
								if !yield(Question{a, citizen, scope, relation, via, auditor, operator}) {
									return
								}
							}
						}
					}
				}
			}
		}
	}
}

func newChecker(t testing.TB) *policy.AccessChecker {
	c, err := policy.NewAccessChecker()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The program and the policy answer alike, whatever can be asked.
func TestGoAndRegoAgree(t *testing.T) {
	checker := newChecker(t)
	asked, permitted := 0, 0
	for q := range everyQuestion {
		want, err := checker.Permits(q.input())
		if err != nil {
			t.Fatal(err)
		}
		if permits(q) != want {
			t.Fatalf("%+v: Go %v, Rego %v", q, permits(q), want)
		}
		asked++
		if want {
			permitted++
		}
	}
	t.Logf("%d questions, %d permitted", asked, permitted)
	if permitted == 0 || permitted > asked/5 {
		t.Errorf("%d of %d are permitted", permitted, asked)
	}
}

// answers is a policy that a test writes.
type answers func(map[string]any) (bool, error)

func (f answers) Permits(in map[string]any) (bool, error) { return f(in) }
func (answers) Digest() string                            { return "sha256:0" }

// Where one of the two is mistaken, nobody comes in by it.
func TestBothMustPermit(t *testing.T) {
	for name, f := range map[string]answers{
		"one that permits all":  func(map[string]any) (bool, error) { return true, nil },
		"one that refuses all":  func(map[string]any) (bool, error) { return false, nil },
		"one that cannot say":   func(map[string]any) (bool, error) { return false, errors.New("no answer") },
		"one that errs and yes": func(map[string]any) (bool, error) { return true, errors.New("no answer") },
	} {
		j := judge{checker: f}
		for q := range everyQuestion {
			permit, err := j.ask(q)
			yes, unsaid := f(q.input())
			if permit != (yes && unsaid == nil && permits(q)) {
				t.Fatalf("%s: %+v: %v, %v", name, q, permit, err)
			}
			if (err != nil) != (unsaid != nil || yes != permits(q)) {
				t.Fatalf("%s: %+v: %v", name, q, err)
			}
		}
	}
}

// A disagreement is seen.
func TestDisagreementIsLoud(t *testing.T) {
	var log strings.Builder
	g := newGate(t, func(o *Options) {
		o.Checker = answers(func(map[string]any) (bool, error) { return false, nil })
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	err := g.Allow(context.Background(), Caller{Organisation: oslo, Client: "c"}, ReadCatalogue, Resource{})
	var refusal *Refusal
	if err == nil || errors.As(err, &refusal) {
		t.Fatal(err)
	}
	if got := counted(t, g.metrics.Disagreements); got != 1 {
		t.Errorf("counted %v times", got)
	}
	if !strings.Contains(log.String(), "disagree") {
		t.Errorf("the log says %q", log.String())
	}
}
