package main

import (
	"context"
	"errors"
	"slices"

	"datafordeler/broker/audit"
	"datafordeler/broker/flow/evidence"
	"datafordeler/broker/ledger"
)

func auditExplain(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit explain")
	where, trust, which := placeFlags(fs), declareTrust(fs), declareWanted(fs)
	lang := fs.String("lang", "nb", "")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if !slices.Contains(audit.Languages, *lang) {
		return usagef("--lang: want nb, nn or en")
	}
	want, err := which.wanted()
	if err != nil {
		return err
	}
	n, p, own, err := openLedger(ctx, std, where, trust)
	if err != nil {
		return err
	}
	defer n.close()
	proven, err := n.proven(ctx, p, own, want)
	if err != nil {
		return err
	}
	x, err := (&audit.Desk{Control: n.control}).Explain(ctx, proven)
	if err != nil {
		return err
	}
	if *asJSON {
		return printJSON(std.out, x, true)
	}
	return x.Text(std.out, *lang)
}

// proven finds a decision in the ledger, and proves it where a head that counts
// covers it.
func (n *node) proven(ctx context.Context, p *ledger.Policy, own bool, want evidence.Wanted) (*audit.Proven, error) {
	proof, err := evidence.Prove(ctx, n.engine, n.cfg.Topics(), p, want, nil)
	x := &audit.Proven{Proof: proof, Status: audit.ProofStatus{Origin: p.Origin, Cosigners: []string{}, KeyFrom: keyFrom(own, "ledger")}}
	if awaits, ok := errors.AsType[*evidence.AwaitsHeadError](err); ok {
		x.Line, x.Status.Entry, x.Status.Covered = awaits.Line, awaits.Entry, awaits.Covered
		return x, nil
	}
	if err != nil {
		return nil, err
	}
	checked, err := proof.Check(p)
	if err != nil {
		return nil, err
	}
	x.Line, x.Status.Entry, x.Status.Covered, x.Status.Cosigners = checked.Line, checked.EntryIndex, checked.Checkpoint.Size, names(checked.Cosigners)
	return x, nil
}
