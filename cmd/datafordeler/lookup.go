package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"datafordeler/broker"
	"datafordeler/consumers"
)

func lookupCommand() command {
	return command{
		name:    "lookup",
		summary: "ask for one subject now, under one agreement or several",
		help: `Usage: datafordeler lookup --url URL --token-file FILE --subscription S[,S…] [flags]

Reads one subject's identifier from standard input, never from the arguments, and
asks a broker what there is on them. Each answer is a line of JSON on standard
output: its outcome (found, nothing, refused, unavailable), its decision, and the
records, each reduced to the fields that are agreed. It ends with 1 where one was
refused or unavailable.

  --url URL            the broker's API, such as https://deling.example.no
  --token-file FILE    an access token with the scope datafordeler:lookup, from
                       datafordeler token --out FILE
  --subscription S,…   subscriptions that say lookup: true; several are asked at
                       once, and each is decided by itself
  --together           ask about all who stand on standard input, each on a line of
                       its own, as one household: one answer on all of them, by the
                       rule across subjects that the rights package has (outcomes
                       answered, unanswered, refused, unavailable)
  --records N          how many records of each at the most, the newest first
                       (default 1)

Examples:
  datafordeler lookup --url https://deling.example.no --token-file token.txt --subscription oslo-sosialhjelp < person.txt
  datafordeler lookup --url https://deling.example.no --token-file token.txt \
      --subscription oslo-sosialhjelp,oslo-eiendomsskatt < person.txt
  datafordeler lookup --url https://deling.example.no --token-file token.txt \
      --subscription oslo-husholdning --together < household.txt
`,
		run: lookUp,
	}
}

// lookedUp is an answer as a line of output.
type lookedUp struct {
	Subscription broker.SubscriptionID    `json:"subscription"`
	Outcome      consumers.LookupOutcome  `json:"outcome"`
	Decision     string                   `json:"decision,omitempty"`
	Reasons      []consumers.LookupReason `json:"reasons,omitempty"`
	Records      []lookedUpRecord         `json:"records,omitempty"`
	RetryAfter   float64                  `json:"retryAfterSeconds,omitempty"`
}

type lookedUpRecord struct {
	ID       string          `json:"id"`
	Decision string          `json:"decision"`
	Type     string          `json:"type"`
	Kind     string          `json:"recordkind"`
	Data     json.RawMessage `json:"data"`
}

// subjectLines are the lines of standard input that are not empty.
func subjectLines(in io.Reader) (subjects []string, err error) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			subjects = append(subjects, line)
		}
	}
	return subjects, lines.Err()
}

// lookedUpTogether is an answer on several subjects as a line of output.
type lookedUpTogether struct {
	Subscription broker.SubscriptionID       `json:"subscription"`
	Outcome      consumers.LookupOutcome     `json:"outcome"`
	Answer       json.RawMessage             `json:"answer,omitempty"`
	Subjects     []consumers.TogetherSubject `json:"subjects,omitempty"`
	Request      string                      `json:"request,omitempty"`
	RetryAfter   float64                     `json:"retryAfterSeconds,omitempty"`
}

func lookUpTogether(ctx context.Context, std stdio, l *consumers.Lookups, subjects []string, questions []consumers.LookupQuestion) error {
	answers, err := l.Together(ctx, subjects, questions...)
	if err != nil {
		return err
	}
	less := 0
	for i := range answers {
		a := &answers[i]
		out := lookedUpTogether{Subscription: a.Subscription, Outcome: a.Outcome, Answer: a.Answer, Subjects: a.Subjects, RetryAfter: a.RetryAfter.Seconds()}
		if !a.Request.IsZero() {
			out.Request = a.Request.String()
		}
		if err := printJSON(std.out, out, false); err != nil {
			return err
		}
		if a.Outcome != consumers.LookupAnswered {
			less++
		}
	}
	if less > 0 {
		return fmt.Errorf("%d of %d questions were refused or could not be answered", less, len(answers))
	}
	return nil
}

func lookUp(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("lookup")
	url := fs.String("url", "", "")
	tokenFile := fs.String("token-file", "", "")
	subscriptions := fs.String("subscription", "", "")
	records := fs.Int("records", 1, "")
	together := fs.Bool("together", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	switch {
	case *url == "" || *tokenFile == "":
		return usagef("--url and --token-file are needed: whom to ask, and who asks")
	case *subscriptions == "":
		return usagef("--subscription is missing: name one that says lookup: true")
	case *together && *records != 1:
		return usagef("--records is of one subject: a household is answered for by the newest record of each")
	case *records < 1 || *records > 100:
		return usagef("--records: %d; want 1 to 100", *records)
	}
	var questions []consumers.LookupQuestion
	for s := range strings.SplitSeq(*subscriptions, ",") {
		if err := broker.CheckName(s); err != nil {
			return usagef("--subscription: %w", err)
		}
		questions = append(questions, consumers.LookupQuestion{Subscription: broker.SubscriptionID(s), Records: *records})
	}
	subjects, err := subjectLines(std.in)
	switch {
	case err != nil:
		return err
	case len(subjects) == 0:
		return usagef("standard input is empty: write whom to look up there, on one line")
	case len(subjects) > 1 && !*together:
		return usagef("standard input has several lines; one subject is looked up at a time, or several with --together, for one answer on all of them")
	}
	l, err := consumers.NewLookups(consumers.LookupConfig{URL: *url, Token: func(context.Context) (string, error) {
		b, err := os.ReadFile(*tokenFile)
		return strings.TrimSpace(string(b)), err
	}})
	if err != nil {
		return usageError{err}
	}
	if *together {
		return lookUpTogether(ctx, std, l, subjects, questions)
	}
	answers, err := l.Lookup(ctx, subjects[0], questions...)
	if err != nil {
		return err
	}
	less := 0
	for i := range answers {
		a := &answers[i]
		out := lookedUp{Subscription: a.Subscription, Outcome: a.Outcome, Reasons: a.Reasons, RetryAfter: a.RetryAfter.Seconds()}
		if !a.Decision.IsZero() {
			out.Decision = a.Decision.String()
		}
		for j := range a.Records {
			d := &a.Records[j]
			out.Records = append(out.Records, lookedUpRecord{d.ID.String(), d.Decision.String(), d.Type, d.Kind.String(), d.Data})
		}
		if err := printJSON(std.out, out, false); err != nil {
			return err
		}
		if a.Outcome == consumers.LookupRefused || a.Outcome == consumers.LookupUnavailable {
			less++
		}
	}
	if less > 0 {
		return fmt.Errorf("%d of %d questions were refused or could not be answered", less, len(answers))
	}
	return nil
}
