package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/consumers"
)

func obligationsCommand() command {
	return command{
		name:    "obligations",
		summary: "learn what withdrawn consents lay on you, and say what you did",
		help: `Usage: datafordeler obligations list     --url URL --token-file FILE [--after N] [--follow]
       datafordeler obligations received --url URL --token-file FILE --agreement A --consent C
       datafordeler obligations receipt  --url URL --token-file FILE --agreement A --consent C --did DEED [flags]

When a citizen withdraws a consent, whoever received by it must stop using, delete or
keep what it has, as its agreement says, and give a receipt in time.

list prints each obligation as a line of JSON, the oldest first, and says on standard
error what to give as --after the next time. With --follow it goes on waiting for more.
received prints what had come on whoever withdrew: the ids of the decisions and
deliveries, which stand with each record.
receipt says what was done. It stands in the broker's log for ever.

  --url URL            the broker's API, such as https://deling.example.no
  --token-file FILE    an access token with the scope datafordeler:audit to see, and
                       datafordeler:receive to give receipts; read again when it ends
  --agreement A        the agreement; with list, only its obligations (a supplier
                       must name it)
  --consent C          the consent that was withdrawn, as list prints it
  --did DEED           deleted; nothing-held: there was nothing; stopped: it is no
                       longer used; kept: by a law; consented: another consent of the
                       same person to the same is in force
  --eli URL, --paragraph P   the law by which it is kept, where the agreement cites none
  --note TEXT          what the others should know; no person's number

Examples:
  datafordeler obligations list --url https://deling.example.no --token-file token.txt --follow
  datafordeler obligations received --url https://deling.example.no --token-file token.txt --agreement banken --consent c-1
  datafordeler obligations receipt --url https://deling.example.no --token-file token.txt \
      --agreement banken --consent c-1 --did deleted
  datafordeler obligations receipt --url https://deling.example.no --token-file token.txt \
      --agreement banken --consent c-1 --did kept --eli https://lovdata.no/eli/lov/2004/11/19/73 --paragraph '§ 13'
`,
		run: func(ctx context.Context, std stdio, args []string) error {
			return dispatch(ctx, std, []verb{{"list", obligationsList}, {"received", obligationsReceived}, {"receipt", obligationsReceipt}}, args)
		},
	}
}

// obliged are the flags of all three.
type obliged struct {
	url, tokenFile, agreement, consent *string
}

func declareObliged(fs *flag.FlagSet) obliged {
	return obliged{fs.String("url", "", ""), fs.String("token-file", "", ""), fs.String("agreement", "", ""), fs.String("consent", "", "")}
}

func (f obliged) open(one bool) (*consumers.Obligations, error) {
	switch {
	case *f.url == "" || *f.tokenFile == "":
		return nil, usagef("--url and --token-file are needed: whom to ask, and who asks")
	case one && (*f.agreement == "" || *f.consent == ""):
		return nil, usagef("--agreement and --consent are needed: which obligation? obligations list prints them")
	case !one && *f.consent != "":
		return nil, usagef("--consent is not of list: it prints those of all consents")
	}
	o, err := consumers.NewObligations(consumers.LookupConfig{URL: *f.url, Token: func(context.Context) (string, error) {
		b, err := os.ReadFile(*f.tokenFile)
		return strings.TrimSpace(string(b)), err
	}})
	if err != nil {
		return nil, usageError{err}
	}
	o.Agreement = broker.AgreementID(*f.agreement)
	return o, nil
}

func obligationsList(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("obligations list")
	f := declareObliged(fs)
	after := fs.Int64("after", 0, "")
	follow := fs.Bool("follow", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	o, err := f.open(false)
	if err != nil {
		return err
	}
	if *after < 0 {
		return usagef("--after: %d; want a revision as list said it, or 0 for the beginning", *after)
	}
	at := broker.Revision(*after)
	defer func() { fmt.Fprintf(std.err, "go on with --after %d\n", at) }()
	for {
		var wait time.Duration
		if *follow {
			wait = time.Minute
		}
		all, next, err := o.Next(ctx, at, wait)
		if err != nil {
			if ctx.Err() != nil {
				return nil // it was told to end
			}
			return err
		}
		for i := range all {
			if err := printJSON(std.out, all[i], false); err != nil {
				return err
			}
		}
		if next == at && !*follow {
			return nil
		}
		at = next
	}
}

func obligationsReceived(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("obligations received")
	f := declareObliged(fs)
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	o, err := f.open(true)
	if err != nil {
		return err
	}
	all, destroyed, err := o.Received(ctx, broker.AgreementID(*f.agreement), broker.ConsentID(*f.consent))
	if err != nil {
		return err
	}
	for i := range all {
		if err := printJSON(std.out, all[i], false); err != nil {
			return err
		}
	}
	if len(destroyed) > 0 {
		fmt.Fprintf(std.err, "what came in these months cannot be found here any more, since their keys were destroyed: %s\n", strings.Join(destroyed, ", "))
	}
	return nil
}

func obligationsReceipt(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("obligations receipt")
	f := declareObliged(fs)
	var r consumers.Receipt
	fs.StringVar(&r.Did, "did", "", "")
	fs.StringVar(&r.ELI, "eli", "", "")
	fs.StringVar(&r.Paragraph, "paragraph", "", "")
	fs.StringVar(&r.Note, "note", "", "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	o, err := f.open(true)
	if err != nil {
		return err
	}
	if !slices.Contains(registry.Deeds, registry.Deed(r.Did)) {
		return usagef("--did%s: want one of %v", quoted(r.Did), registry.Deeds)
	}
	v, err := o.Give(ctx, broker.AgreementID(*f.agreement), broker.ConsentID(*f.consent), r)
	if err != nil {
		return err
	}
	return printJSON(std.out, v, false)
}
