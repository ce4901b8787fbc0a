package check

import (
	"context"
	"fmt"
	"slices"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/policy"
)

// Guard says what must be judged before the events may be appended on the state;
// nil for nothing. It only reads the state: run what it returns without its lock.
//
// To put a policy in force, or an agreement, every row of the tables that are
// signed off must pass, and where the agreement or its dataset says that there must
// be a table, one must be signed off. Any other change may narrow what is shared
// whenever somebody must: a repealed law is not kept alive by a table. But it may not
// widen it: no row that came out as signed off may come out as more.
//
// This is asked by the one road to the control topic, not by each command. Folding
// cannot ask: a fold must come out alike in ten years, under another engine.
func Guard(st *registry.State, events []registry.Event) (func(context.Context) error, error) {
	if !slices.ContainsFunc(events, touches) {
		return nil, nil
	}
	after, err := st.Preview(events)
	if err != nil {
		return nil, err
	}
	if !after.AnyApproved() && !slices.ContainsFunc(after.Agreements(), func(a *broker.Agreement) bool { return requires(after, a) }) {
		return nil, nil
	}
	before, err := st.Preview(nil)
	if err != nil {
		return nil, err
	}
	g := &guard{before: before, after: after}
	for i := range events {
		g.policy = g.policy || events[i].Type == registry.PolicyActivated
	}
	return g.run, nil
}

// touches reports whether an event can change what a table says. Cases, consents and
// leases, of which there are millions, cannot. A type that is not named here can, so
// that a new one is judged until somebody has thought of it.
func touches(e registry.Event) bool {
	switch e.Type {
	case registry.CaseOpened, registry.CaseEnded, registry.ConsentGiven, registry.ConsentWithdrawn, registry.ConsentEnded, registry.ConsentFollowed, registry.BudgetLeased,
		registry.MailboxPut, registry.SubscriptionPut, registry.RolePut, registry.AssessmentPut,
		registry.DelegationWithdrawn,                                        // it narrows
		registry.UnitEnded, registry.UnitsSynced, registry.SubjectSucceeded, // tables are of the law, not of who is still there
		registry.KeystoreRegistered, registry.LedgerRegistered, registry.PeriodDestroyed, registry.SubjectLookedUp,
		registry.CredentialIssued, registry.CredentialRevoked,
		registry.WebhookSet, registry.WebhookProven, registry.WebhookRotated, registry.WebhookStopped, registry.WebhookRemoved,
		registry.FreezeSet, registry.FreezeLifted, // tables are of the law, not of who has stopped what for now
		registry.DeviationReport, registry.DeviationAnswered, registry.ReceiptGiven,
		registry.NeedPut, registry.NeedCosigned, registry.NeedClosedType,
		registry.FrameworkPut, registry.FrameworkApproved, registry.FrameworkInvited, // an accession is judged
		// A table may say that what is in force is wrong. It is signed off all the
		// same, and shows as failing until that is mended.
		registry.TruthTablePut, registry.TruthTableApproved:
		return false
	}
	return true
}

// requires says whether an agreement may not be in force without a table.
func requires(st *registry.State, a *broker.Agreement) bool {
	d := st.Dataset(a.Dataset)
	return a.Status == broker.Active && (a.RequiresTruthTable || d != nil && d.RequiresTruthTable)
}

type guard struct {
	before, after *registry.State
	policy        bool // a policy is put in force
	was, is       *policy.Engine
}

// put says whether an agreement is declared anew, by whichever event.
func (g *guard) put(a *broker.Agreement) bool { return g.before.Agreement(a.ID) != a }

func (g *guard) run(ctx context.Context) error {
	failed := &Failed{}
	for _, a := range g.after.Agreements() {
		if a.Status != broker.Active {
			continue
		}
		tables := g.after.ApprovedTables(a)
		if len(tables) == 0 && requires(g.after, a) && (g.policy || g.put(a) || !g.lacked(a)) {
			failed.Unsigned = append(failed.Unsigned, a.ID)
		}
		if g.after.Policy() == nil {
			continue // nothing is decided by anything yet; the first policy is judged when it comes
		}
		for _, t := range tables {
			rows, err := g.judge(ctx, a, &t)
			if err != nil {
				return err
			}
			failed.Rows = append(failed.Rows, rows...)
		}
	}
	if len(failed.Rows)+len(failed.Unsigned) > 0 {
		return failed
	}
	return nil
}

// lacked says whether an agreement was in force without a table that it needed before
// the change too: then the change is not what took it.
func (g *guard) lacked(a *broker.Agreement) bool {
	was := g.before.Agreement(a.ID)
	return was != nil && requires(g.before, was) && len(g.before.ApprovedTables(was)) == 0
}

// judge is which rows of a table stand in the way.
func (g *guard) judge(ctx context.Context, a *broker.Agreement, t *registry.ApprovedTable) ([]Failure, error) {
	if err := engineOf(g.after, &g.is); err != nil {
		return nil, err
	}
	rows, err := Table(ctx, g.is, g.after, a.ID, t.Table)
	if err != nil {
		return nil, fmt.Errorf("nothing was put in force: %w", err)
	}
	all := g.policy || g.put(a)
	var earlier []Result
	var failed []Failure
	for i := range rows {
		if rows[i].OK || !all && !rows[i].wider() && rows[i].Fault == "" {
			continue
		}
		if !all && earlier == nil {
			if earlier, err = g.earlier(ctx, a, t); err != nil {
				return nil, err
			}
		}
		if all || i >= len(earlier) || earlier[i].OK || !earlier[i].wider() && earlier[i].Fault == "" {
			failed = append(failed, Failure{rows[i], t.By})
		}
	}
	return failed, nil
}

// earlier is what came out before the change; nothing where the agreement or the
// policy was not there.
func (g *guard) earlier(ctx context.Context, a *broker.Agreement, t *registry.ApprovedTable) ([]Result, error) {
	if g.before.Policy() == nil || g.before.Agreement(a.ID) == nil {
		return []Result{}, nil
	}
	if err := engineOf(g.before, &g.was); err != nil {
		return nil, err
	}
	return Table(ctx, g.was, g.before, a.ID, t.Table)
}

func engineOf(st *registry.State, e **policy.Engine) (err error) {
	if *e == nil {
		if *e, err = policy.Compile(policy.Bundle{Modules: st.Policy().Modules}); err != nil {
			return fmt.Errorf("nothing was put in force: the policy cannot be asked about signed-off truth tables: %w", err)
		}
	}
	return nil
}
