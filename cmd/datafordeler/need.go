package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

func needCommand() command {
	return command{
		name:    "need",
		summary: "say what data is needed and for what, and co-sign it, before there is law for it",
		help: `Usage: datafordeler need list [--json]
       datafordeler need show ID
       datafordeler need put ID --for ORG (--dataset D | --concept URI) --purpose P --sector S --why WHY [--field /p …] --actor NAME
       datafordeler need cosign ID --for ORG --by FUNCTION --actor NAME
       datafordeler need close ID --for ORG --by FUNCTION --why WHY --actor NAME

A need names a dataset, or a concept where nobody knows who has it. It may be put
before any law lets it be met. Others co-sign; after that it does not change. The
organisation that put it closes it. What has no law yet is in:
datafordeler registry gaps
` + deedHelp + placeHelp + `
Examples:
  datafordeler need put foreldrebetaling --for 958935420 --dataset inntekt \
      --purpose foreldrebetaling --sector oppvekst --why "parents send their tax return on paper" --actor kari --config broker.yaml
  datafordeler need cosign foreldrebetaling --for 964338531 --by "Barnehagekontoret" --actor ola --config broker.yaml
`,
		run: need,
	}
}

func need(ctx context.Context, std stdio, args []string) error {
	if len(args) == 0 {
		return usagef("what? list, show, put, cosign or close")
	}
	verb := args[0]
	fs := newFlags("need " + verb)
	d := deedFlags(fs)
	var n broker.Need
	var fields files
	fs.Var(&fields, "field", "")
	dataset, concept := fs.String("dataset", "", ""), fs.String("concept", "", "")
	purpose, sector, why := fs.String("purpose", "", ""), fs.String("sector", "", ""), fs.String("why", "", "")
	switch verb {
	case "list":
		if err := parse(fs, args[1:], 0, 0); err != nil {
			return err
		}
		return d.ask(ctx, std, func(st *registry.State, _ time.Time) error { return listNeeds(std, st, *d.json) })
	case "show", "put", "cosign", "close":
		if err := parseMixed(fs, args[1:], 1, 1); err != nil {
			return err
		}
	case "-h", "--help":
		return flag.ErrHelp
	default:
		return usagef("no verb%s: list, show, put, cosign or close", quoted(verb))
	}
	id := broker.NeedID(fs.Arg(0))
	if verb == "show" {
		return d.ask(ctx, std, func(st *registry.State, _ time.Time) error {
			if st.Need(id) == nil {
				return fmt.Errorf("no need%s is registered; see: datafordeler need list", quoted(string(id)))
			}
			return printJSON(std.out, needView(st, id), true)
		})
	}
	if err := d.needs(true); err != nil {
		return err
	}
	if verb != "put" && *d.by == "" {
		return usagef("--by is missing: the function that acts for the organisation")
	}
	return d.do(ctx, std, func(st *registry.State, _ time.Time) ([]registry.Change, string, error) {
		switch verb {
		case "put":
			n = broker.Need{ID: id, Organisation: d.organisation(), Dataset: broker.DatasetID(*dataset), Concept: *concept, Purpose: broker.Purpose(*purpose), Sector: *sector, Why: *why}
			for _, f := range fields {
				n.Fields = append(n.Fields, broker.Pointer(f))
			}
			c, err := registry.Put(n)
			return []registry.Change{c}, fmt.Sprintf("need %s is put", id), err
		case "cosign":
			c := registry.CosignNeed(broker.Cosignature{Need: id, Organisation: d.organisation(), By: *d.by})
			return []registry.Change{c}, fmt.Sprintf("need %s is co-signed by %s", id, *d.org), nil
		}
		if old := st.Need(id); old != nil && old.Organisation != d.organisation() {
			return nil, "", fmt.Errorf("nothing was written: need %s is %s's to close", id, old.Organisation)
		}
		return []registry.Change{registry.CloseNeed(broker.NeedClosure{Need: id, By: *d.by, Why: *why})}, fmt.Sprintf("need %s is closed", id), nil
	})
}

// aNeed is a need with who co-signed it.
type aNeed struct {
	broker.Need
	Cosignatures []registry.Cosigned  `json:"cosignatures"`
	Closed       *registry.NeedClosed `json:"closed,omitempty"`
}

func needView(st *registry.State, id broker.NeedID) aNeed {
	v := aNeed{Need: *st.Need(id), Cosignatures: st.Cosignatures(id)}
	if c, ok := st.NeedClosed(id); ok {
		v.Closed = &c
	}
	return v
}

func listNeeds(std stdio, st *registry.State, asJSON bool) error {
	for _, n := range st.Needs() {
		v := needView(st, n.ID)
		if asJSON {
			if err := printJSON(std.out, v, false); err != nil {
				return err
			}
			continue
		}
		state := "open"
		if v.Closed != nil {
			state = "closed"
		}
		fmt.Fprintf(std.out, "%s  %s  %s for %s  by %s and %d more, %s\n", n.ID, state, strings.TrimSpace(string(n.Dataset)+n.Concept), n.Purpose, n.Organisation, len(v.Cosignatures), n.Sector)
	}
	return nil
}
