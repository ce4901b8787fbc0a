package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

func agreementCommand() command {
	return command{
		name:    "agreement",
		summary: "take an agreement from proposal to active, step by step, and see what it lacks",
		help: `Usage: datafordeler agreement list [--json]
       datafordeler agreement show ID [--json]
       datafordeler agreement missing ID [--json]
       datafordeler agreement step STEP ID --for ORG --by FUNCTION --actor NAME [--on DIGEST] [--dry-run]

show tells an agreement's steps, the offer on the table, what is missing, and the
digest of what each next step would be on. With --on a step counts only if that is
what stands still. missing tells what is missing, whose it is and what to do.

STEP, by whom, and what it takes:
  proposed          either party       --terms FILE (YAML, kind: agreement, status: proposed)
  assessed          collection the consumer, all else the provider
                                       --side disclosure|collection|confidentiality|compatibility
                                       [--basis B] --holds yes|no --note WHY [--review DATE] [--rests-on A …]
  mapped            either party       --map FIELD=CONCEPT …
  mapping-approved  the other party
  package-approved  the provider
  cost-covered      the payer; the provider where it is free
  accepted          each party
  activated         either party, when nothing is missing
  suspended         either party       --why WHY
  resumed           who suspended      --why WHY
  amended           either party       --terms FILE: an offer; the old terms bind until it is activated
  renewed           either party       --until DATE: an offer too
  declined          either party       --why WHY: the offer is off
  ended             either party       --why WHY
` + deedHelp + placeHelp + `
Examples:
  datafordeler agreement step proposed oslo-barnehage --terms oslo.yaml --for 958935420 \
      --by "Barnehagekontoret" --actor kari --config broker.yaml
  datafordeler agreement missing oslo-barnehage --config broker.yaml
  datafordeler agreement step assessed oslo-barnehage --side disclosure --basis barnehageloven \
      --holds yes --note "§ 19 names municipalities" --for 974761076 --by "Juridisk seksjon" --actor ola --config broker.yaml
`,
		run: agreement,
	}
}

func agreement(ctx context.Context, std stdio, args []string) error {
	if len(args) == 0 {
		return usagef("what? list, show, missing or step")
	}
	verb, rest := args[0], args[1:]
	switch verb {
	case "list", "show", "missing":
		fs := newFlags("agreement " + verb)
		where := placeFlags(fs)
		asJSON := fs.Bool("json", false, "")
		want := 1
		if verb == "list" {
			want = 0
		}
		if err := parseMixed(fs, rest, want, want); err != nil {
			return err
		}
		id := broker.AgreementID(fs.Arg(0))
		return where.ask(ctx, std, func(st *registry.State, now time.Time) error {
			if verb != "list" && st.OnTheTable(id) == nil {
				return fmt.Errorf("no agreement%s is registered; see: datafordeler agreement list", quoted(string(id)))
			}
			switch verb {
			case "list":
				return listAgreements(std, st, now, *asJSON)
			case "show":
				return showAgreement(std, registry.ViewAgreement(st, id, now), *asJSON)
			}
			return sayMissing(std, id, st.Missing(id, now), *asJSON)
		})
	case "step":
		return agreementStep(ctx, std, rest)
	case "-h", "--help":
		return flag.ErrHelp
	}
	return usagef("no verb%s: list, show, missing or step", quoted(verb))
}

func sayMissing(std stdio, id broker.AgreementID, lacks registry.Lacks, asJSON bool) error {
	if asJSON {
		if lacks == nil {
			lacks = registry.Lacks{}
		}
		return printJSON(std.out, lacks, false)
	}
	if len(lacks) == 0 {
		fmt.Fprintf(std.out, "agreement %s lacks nothing\n", id)
		return nil
	}
	fmt.Fprintf(std.out, "agreement %s lacks, one a line (what; whose it is: what to do):\n%s\n", id, lacks)
	return nil
}

func listAgreements(std stdio, st *registry.State, now time.Time, asJSON bool) error {
	for _, a := range st.Agreements() {
		lacks, steps := 0, 0
		if l := st.Lifecycle(a.ID); l != nil {
			steps = len(l.Steps)
			if l.Offer != nil {
				lacks = len(st.Missing(a.ID, now))
			}
		}
		if asJSON {
			if err := printJSON(std.out, struct {
				ID      broker.AgreementID     `json:"id"`
				Status  broker.AgreementStatus `json:"status"`
				Steps   int                    `json:"steps"`
				Missing int                    `json:"missing"`
			}{a.ID, a.Status, steps, lacks}, false); err != nil {
				return err
			}
			continue
		}
		line := fmt.Sprintf("%s  %s  %s to %s, %s for %s", a.ID, a.Status, a.Provider, a.Consumer, a.Dataset, a.Purpose)
		if lacks > 0 {
			line += fmt.Sprintf("  (its offer lacks %d)", lacks)
		}
		fmt.Fprintln(std.out, line)
	}
	return nil
}

func showAgreement(std stdio, v registry.AgreementView, asJSON bool) error {
	if asJSON {
		return printJSON(std.out, v, true)
	}
	fmt.Fprintf(std.out, "agreement %s is %s\n", v.Agreement.ID, v.Agreement.Status)
	for _, s := range v.Steps {
		detail := s.Why
		switch {
		case s.Assessment != nil:
			holds := "holds"
			if !s.Assessment.Holds {
				holds = "does not hold"
			}
			detail = fmt.Sprintf("%s %s: %s", s.Assessment.Side, holds, s.Assessment.Note)
		case !s.Until.IsZero():
			detail = "until " + s.Until.Format(time.RFC3339)
		}
		fmt.Fprintf(std.out, "  %d  %s  %-16s for %s by %s (%s)  %s\n", s.Number, s.At.Format(time.RFC3339), s.Step, s.Organisation, s.By, s.Actor, detail)
	}
	switch {
	case v.Offer != nil:
		fmt.Fprintf(std.out, "an offer is on the table, by step %d\n", v.Offered)
		if err := sayMissing(std, v.Agreement.ID, v.Missing, false); err != nil {
			return err
		}
	case len(v.Steps) == 0:
		fmt.Fprintln(std.out, "it came about by a declaration, not by steps")
	}
	fmt.Fprintf(std.out, "the next step is number %d; what it would be on:\n", v.Next)
	for _, s := range broker.Steps {
		if on, ok := v.On[s]; ok {
			fmt.Fprintf(std.out, "  %-16s %s\n", s, on)
		}
	}
	return nil
}

func agreementStep(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("agreement step")
	d := deedFlags(fs)
	terms, on, why, until := fs.String("terms", "", ""), fs.String("on", "", ""), fs.String("why", "", ""), fs.String("until", "", "")
	side, basis, holds, note, review := fs.String("side", "", ""), fs.String("basis", "", ""), fs.String("holds", "", ""), fs.String("note", "", ""), fs.String("review", "", "")
	var maps, rests files
	fs.Var(&maps, "map", "")
	fs.Var(&rests, "rests-on", "")
	if err := parseMixed(fs, args, 2, 2); err != nil {
		return err
	}
	v := broker.AgreementStep{Step: broker.StepName(fs.Arg(0)), Agreement: broker.AgreementID(fs.Arg(1)), Organisation: d.organisation(), By: *d.by, Why: *why}
	if !slices.Contains(broker.Steps, v.Step) {
		return usagef("no step%s: %v", quoted(fs.Arg(0)), broker.Steps)
	}
	if err := d.needs(true); err != nil {
		return err
	}
	if v.By == "" {
		return usagef("--by is missing: the function that acts for the organisation")
	}
	var err error
	if v.Until, err = timeFlag("until", *until); err != nil {
		return err
	}
	if *on != "" {
		if v.On, err = broker.ParseDigest(*on); err != nil {
			return usagef("--on: want the digest that datafordeler agreement show tells")
		}
	}
	if *terms != "" {
		if v.Terms, err = readTerms(*terms); err != nil {
			return err
		}
	}
	if *side != "" || *basis != "" || *holds != "" || *note != "" || *review != "" || len(rests) > 0 {
		if *holds != "yes" && *holds != "no" {
			return usagef("--holds: yes or no")
		}
		v.Assessment = &broker.SideAssessment{Side: broker.Side(*side), Basis: broker.LegalBasisID(*basis), Holds: *holds == "yes", Note: *note}
		if v.Assessment.Review, err = timeFlag("review", *review); err != nil {
			return err
		}
		for _, r := range rests {
			v.Assessment.RestsOn = append(v.Assessment.RestsOn, broker.AssessmentID(r))
		}
	}
	for _, m := range maps {
		field, concept, ok := strings.Cut(m, "=")
		if !ok {
			return usagef("--map: want FIELD=CONCEPT, such as /sum=https://data.norge.no/concepts/…")
		}
		v.Mapping = append(v.Mapping, broker.FieldMeaning{Field: broker.Pointer(field), Concept: concept})
	}
	return d.do(ctx, std, func(st *registry.State, now time.Time) ([]registry.Change, string, error) {
		w := v
		w.Number = st.NextStep(v.Agreement)
		if w.On.IsZero() && w.Terms == nil {
			w.On = st.StepDigest(v.Agreement, v.Step)
		}
		return []registry.Change{registry.TakeStep(w)}, fmt.Sprintf("agreement %s: step %d, %s, for %s by %s", v.Agreement, w.Number, v.Step, v.Organisation, v.By), nil
	})
}

// readTerms reads the terms of a proposal or an amendment: a declared agreement.
func readTerms(path string) (*broker.Agreement, error) {
	docs, err := registry.Load(path)
	if err != nil {
		return nil, usageError{err}
	}
	if len(docs) == 1 {
		if a, ok := docs[0].Body.(*broker.Agreement); ok {
			return a, nil
		}
	}
	return nil, usagef("--terms: want one declaration of kind: agreement in %s", path)
}
