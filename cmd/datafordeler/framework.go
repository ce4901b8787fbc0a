package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/audit"
	"datafordeler/broker/registry"
)

func frameworkCommand() command {
	return command{
		name:    "framework",
		summary: "standard terms that many accede to in one step, and a report of who has them",
		help: `Usage: datafordeler framework list [--json]
       datafordeler framework show ID [--for ORG] [--json]
       datafordeler framework approve ID --by FUNCTION --actor NAME [--on DIGEST]
       datafordeler framework invite ID --by FUNCTION --actor NAME < organisation numbers
       datafordeler framework accede ID --agreement NAME --for ORG [--supplier ORG] --by FUNCTION --actor NAME [--on DIGEST]
       datafordeler framework report ID [--json|--csv]

A framework is declared as a file, kind: framework, with datafordeler registry apply:
the rights package, the price, the legal bases, the assessments and the mapping.
show tells its terms, their digest, and what keeps somebody from acceding.
approve says for the provider, by another function than declared the framework, that
these are its terms: where the framework asks for fourEyes, nobody accedes before that.
invite reads organisation numbers from standard input, one a line, and invites them
all in one event. accede makes an active agreement of the framework's terms and
nothing else. With --on either is done only if those are the terms still.
report tells each party, whether its terms are the same as the framework's, and
where they are not.
` + deedHelp + placeHelp + `
Examples:
  datafordeler framework invite foreldrebetaling --by "Avtaleforvaltning" --actor kari --config broker.yaml < municipalities.txt
  datafordeler framework accede foreldrebetaling --agreement oslo-barnehage --for 958935420 \
      --by "Kommunedirektøren" --actor ola --config broker.yaml
  datafordeler framework report foreldrebetaling --csv --config broker.yaml
`,
		run: framework,
	}
}

func framework(ctx context.Context, std stdio, args []string) error {
	if len(args) == 0 {
		return usagef("what? list, show, approve, invite, accede or report")
	}
	verb, rest := args[0], args[1:]
	switch verb {
	case "list", "show":
		fs := newFlags("framework " + verb)
		where := placeFlags(fs)
		asJSON, org := fs.Bool("json", false, ""), fs.String("for", "", "")
		want := 1
		if verb == "list" {
			want = 0
		}
		if err := parseMixed(fs, rest, want, want); err != nil {
			return err
		}
		return where.ask(ctx, std, func(st *registry.State, now time.Time) error {
			if verb == "list" {
				return listFrameworks(std, st, *asJSON)
			}
			return showFramework(std, st, broker.AgreementID(fs.Arg(0)), broker.OrgNumber(*org), now)
		})
	case "report":
		return frameworkReport(ctx, std, rest)
	case "approve", "invite", "accede":
		return frameworkDeed(ctx, std, verb, rest)
	case "-h", "--help":
		return flag.ErrHelp
	}
	return usagef("no verb%s: list, show, approve, invite, accede or report", quoted(verb))
}

func listFrameworks(std stdio, st *registry.State, asJSON bool) error {
	for _, f := range st.Frameworks() {
		parties := len(st.Parties(f.ID))
		if asJSON {
			if err := printJSON(std.out, struct {
				ID      broker.AgreementID `json:"id"`
				Title   string             `json:"title"`
				Closed  bool               `json:"closed"`
				Parties int                `json:"parties"`
				Invited int                `json:"invited"`
			}{f.ID, f.Title, f.Closed, parties, len(st.InvitedTo(f.ID))}, false); err != nil {
				return err
			}
			continue
		}
		state := "open"
		if f.Closed {
			state = "closed"
		}
		fmt.Fprintf(std.out, "%s  %s  %s: %d parties, %d invited\n", f.ID, state, f.Title, parties, len(st.InvitedTo(f.ID)))
	}
	return nil
}

func showFramework(std stdio, st *registry.State, id broker.AgreementID, org broker.OrgNumber, now time.Time) error {
	f := st.Framework(id)
	if f == nil {
		return fmt.Errorf("no framework%s is registered; see: datafordeler framework list", quoted(string(id)))
	}
	lacks := st.FrameworkMissing(id, org, now)
	if lacks == nil {
		lacks = registry.Lacks{}
	}
	return printJSON(std.out, struct {
		Terms   *broker.Framework  `json:"terms"`
		On      broker.Digest      `json:"on"`
		Missing registry.Lacks     `json:"missing"`
		Invited []broker.OrgNumber `json:"invited"`
	}{f, st.FrameworkDigest(f), lacks, st.InvitedTo(id)}, true)
}

func frameworkDeed(ctx context.Context, std stdio, verb string, args []string) error {
	fs := newFlags("framework " + verb)
	d := deedFlags(fs)
	agreement, supplier, on := fs.String("agreement", "", ""), fs.String("supplier", "", ""), fs.String("on", "", "")
	if err := parseMixed(fs, args, 1, 1); err != nil {
		return err
	}
	if err := d.needs(verb == "accede"); err != nil {
		return err
	}
	if *d.by == "" {
		return usagef("--by is missing: the function that acts for the organisation")
	}
	id := broker.AgreementID(fs.Arg(0))
	if verb == "invite" {
		listed, err := readIDs(std.in)
		if err != nil {
			return err
		}
		v := broker.Invitation{Framework: id, By: *d.by}
		for _, l := range listed {
			o, err := broker.ParseOrgNumber(l.id)
			if err != nil {
				return usagef("standard input, line %d: not an organisation number: want nine digits whose check digit fits", l.line)
			}
			v.Organisations = append(v.Organisations, o)
		}
		return d.do(ctx, std, func(*registry.State, time.Time) ([]registry.Change, string, error) {
			return []registry.Change{registry.Invite(v)}, fmt.Sprintf("invited to framework %s: %d", id, len(v.Organisations)), nil
		})
	}
	var digest broker.Digest
	if *on != "" {
		var err error
		if digest, err = broker.ParseDigest(*on); err != nil {
			return usagef("--on: want the digest that datafordeler framework show tells")
		}
	}
	// onWhat is what the deed is on: what was said, or what stands.
	onWhat := func(st *registry.State) broker.Digest {
		if f := st.Framework(id); f != nil && digest.IsZero() {
			return st.FrameworkDigest(f)
		}
		return digest
	}
	if verb == "approve" {
		return d.do(ctx, std, func(st *registry.State, _ time.Time) ([]registry.Change, string, error) {
			return []registry.Change{registry.ApproveFramework(broker.FrameworkApproval{Framework: id, By: *d.by, On: onWhat(st)})}, fmt.Sprintf("framework %s is approved by %s", id, *d.by), nil
		})
	}
	v := broker.Accession{Framework: id, Agreement: broker.AgreementID(*agreement), Organisation: d.organisation(), Supplier: broker.OrgNumber(*supplier), By: *d.by}
	if *supplier != "" {
		if _, err := broker.ParseOrgNumber(*supplier); err != nil {
			return usagef("--supplier: want an organisation number, nine digits whose check digit fits")
		}
	}
	if *agreement == "" {
		return usagef("--agreement is missing: the new agreement's name")
	}
	return d.do(ctx, std, func(st *registry.State, _ time.Time) ([]registry.Change, string, error) {
		w := v
		w.On = onWhat(st)
		return []registry.Change{registry.Accede(w)}, fmt.Sprintf("%s has acceded to framework %s: agreement %s is active", v.Organisation, id, v.Agreement), nil
	})
}

var partyColumns = []string{"organisation", "agreement", "supplier", "status", "at", "by", "terms", "same", "deviations"}

func frameworkReport(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("framework report")
	where := placeFlags(fs)
	form := declareForm(fs)
	if err := parseMixed(fs, args, 1, 1); err != nil {
		return err
	}
	if err := form.check(); err != nil {
		return err
	}
	id := broker.AgreementID(fs.Arg(0))
	return where.ask(ctx, std, func(st *registry.State, _ time.Time) error {
		f := st.Framework(id)
		if f == nil {
			return fmt.Errorf("no framework%s is registered; see: datafordeler framework list", quoted(string(id)))
		}
		all := st.Parties(id)
		row := func(p *registry.AccededParty) []string {
			return []string{string(p.Organisation), string(p.Agreement), string(p.Supplier), string(p.Status), p.At.UTC().Format(time.RFC3339), p.By, p.Terms.String(),
				fmt.Sprint(len(p.Deviations) == 0), strings.Join(p.Deviations, "; ")}
		}
		return printAs(form, std, all, partyColumns, oneRow(row), func(w io.Writer) error {
			same := 0
			t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
			for i := range all {
				says := "the framework's terms"
				if p := &all[i]; len(p.Deviations) > 0 {
					says = "otherwise: " + strings.Join(p.Deviations, "; ")
				} else {
					same++
				}
				p := &all[i]
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", p.Organisation, p.Agreement, p.Status, p.Terms, says)
			}
			if err := t.Flush(); err != nil {
				return err
			}
			_, err := fmt.Fprintf(w, "framework %s: on its terms are %d of those that acceded, of %d\n", id, same, len(all))
			return err
		})
	})
}

var gapColumns = []string{"dataset", "concept", "purpose", "why", "sides", "bases", "from", "organisations", "count", "sectors", "needs"}

// registryGaps reports the needs that no legal basis in force covers.
func registryGaps(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("registry gaps")
	where := placeFlags(fs)
	form := declareForm(fs)
	at := fs.String("at", "", "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if err := form.check(); err != nil {
		return err
	}
	when, err := timeFlag("at", *at)
	if err != nil {
		return err
	}
	return where.ask(ctx, std, func(st *registry.State, now time.Time) error {
		if when.IsZero() {
			when = now
		}
		all := st.Gaps(when)
		row := func(g *registry.Gap) []string {
			from := ""
			if !g.From.IsZero() {
				from = g.From.Format(time.RFC3339)
			}
			return []string{string(g.Dataset), g.Concept, string(g.Purpose), string(g.Why), audit.Cell(g.Sides), audit.Cell(g.Bases), from,
				audit.Cell(g.Organisations), fmt.Sprint(len(g.Organisations)), audit.Cell(g.Sectors), audit.Cell(g.Needs)}
		}
		return printAs(form, std, all, gapColumns, oneRow(row), func(w io.Writer) error {
			if len(all) == 0 {
				_, err := fmt.Fprintln(w, "every open need has a legal basis in force")
				return err
			}
			for i := range all {
				g := &all[i]
				fmt.Fprintf(w, "%d organisations (%s) need %s for %s: %s\n", len(g.Organisations), audit.Cell(g.Sectors), string(g.Dataset)+g.Concept, g.Purpose, g.Why.Words(g))
			}
			return nil
		})
	})
}
