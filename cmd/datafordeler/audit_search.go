package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/store"
)

// searchFlags are the filters of the read model, and how what is found is shown.
type searchFlags struct {
	q                   store.Query
	dataset             string
	partition           int
	offset              int64
	decision, delivery  string
	event               string
	outcome, kind       string
	shielded            string
	from, to            string
	oldest, asJSON, csv bool
}

// declareWindow declares what bounds and shows an answer.
func (s *searchFlags) declareWindow(fs *flag.FlagSet) {
	fs.StringVar(&s.from, "from", "", "")
	fs.StringVar(&s.to, "to", "", "")
	fs.IntVar(&s.q.Limit, "limit", store.DefaultLimit, "")
	fs.StringVar(&s.q.Cursor, "cursor", "", "")
	fs.BoolVar(&s.oldest, "oldest", false, "")
	fs.BoolVar(&s.asJSON, "json", false, "")
	fs.BoolVar(&s.csv, "csv", false, "")
}

func declareSearch(fs *flag.FlagSet) *searchFlags {
	s := &searchFlags{}
	s.declareWindow(fs)
	text := func(name string, to *string) { fs.StringVar(to, name, "", "") }
	text("dataset", &s.dataset)
	fs.IntVar(&s.partition, "partition", -1, "")
	fs.Int64Var(&s.offset, "offset", -1, "")
	text("decision", &s.decision)
	text("delivery", &s.delivery)
	text("event", &s.event)
	text("outcome", &s.outcome)
	text("kind", &s.kind)
	text("shielded", &s.shielded)
	text("subscription", (*string)(&s.q.Subscription))
	text("agreement", (*string)(&s.q.Agreement))
	text("consumer", (*string)(&s.q.Consumer))
	text("provider", (*string)(&s.q.Provider))
	text("supplier", (*string)(&s.q.Supplier))
	text("basis", (*string)(&s.q.Basis))
	text("reason", (*string)(&s.q.Reason))
	text("period", &s.q.Period)
	fs.Func("package", "", func(v string) error {
		id, version, numbered := strings.Cut(v, "@")
		s.q.Package = id
		if !numbered {
			return nil
		}
		n, err := strconv.Atoi(version)
		if err != nil || n < 1 {
			return errors.New("want ID or ID@VERSION")
		}
		s.q.Version = n
		return nil
	})
	return s
}

// query puts the flags together.
func (s *searchFlags) query() (q store.Query, err error) {
	q = s.q
	if s.asJSON && s.csv {
		return q, usagef("--json and --csv exclude each other")
	}
	if q.From, err = timeFlag("from", s.from); err != nil {
		return q, err
	}
	if q.To, err = timeFlag("to", s.to); err != nil {
		return q, err
	}
	q.Ascending, q.Dataset = s.oldest, broker.DatasetID(s.dataset)
	if q.Limit < 1 || q.Limit > store.MaxLimit {
		return q, usagef("--limit: want 1 to %d; what follows comes with --cursor", store.MaxLimit)
	}
	switch {
	case s.partition < 0 && s.offset < 0:
	case s.partition < 0 || s.offset < 0 || s.dataset == "":
		return q, usagef("a record is named by --dataset, --partition and --offset together")
	default:
		q.Record = &store.RecordPlace{Dataset: q.Dataset, Partition: int32(s.partition), Offset: s.offset}
	}
	for _, id := range []struct {
		flag, text string
		to         *broker.Digest
	}{{"decision", s.decision, &q.Decision}, {"delivery", s.delivery, &q.Delivery}, {"event", s.event, (*broker.Digest)(&q.Event)}} {
		if id.text == "" {
			continue
		}
		if err := id.to.UnmarshalText([]byte(id.text)); err != nil {
			return q, usagef("--%s: want 32 hexadecimal digits, as decisions --json prints them", id.flag)
		}
	}
	words := func(flag, got string, known ...string) (int, error) {
		for i, w := range known {
			if got == w {
				return i, nil
			}
		}
		return 0, usagef("--%s: want %s", flag, strings.Join(known[1:], " or "))
	}
	n, err := words("outcome", s.outcome, "", "permit", "deny")
	if err != nil {
		return q, err
	}
	q.Verdict = store.Verdict(n)
	if n, err = words("kind", s.kind, "", "stream", "backfill", "lookup", "door"); err != nil {
		return q, err
	}
	q.Kind = broker.DecisionKind(n)
	if n, err = words("shielded", s.shielded, "", "only", "without"); err != nil {
		return q, err
	}
	q.Shielded = store.Yes(n)
	return q, nil
}

func auditSearch(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit search")
	where, flags := placeFlags(fs), declareSearch(fs)
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	q, err := flags.query()
	if err != nil {
		return err
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	if err := n.knows(decisionFilter{dataset: q.Dataset, subscription: q.Subscription, reason: q.Reason}); err != nil {
		return err
	}
	s, err := n.openStore(ctx, std)
	if err != nil {
		return err
	}
	defer s.Close()
	page, err := s.Search(ctx, q)
	if errors.Is(err, store.ErrQuery) {
		return usageError{err}
	} else if err != nil {
		return err
	}
	return flags.print(std, page)
}

// hitJSON is what was found, as it is printed.
type hitJSON struct {
	decisionJSON
	Consumer broker.OrgNumber `json:"consumer"`
	Provider broker.OrgNumber `json:"provider"`
	Supplier broker.OrgNumber `json:"supplier,omitempty"`
	// Where it stands in the log of decisions.
	LogPartition int32 `json:"log_partition"`
	LogOffset    int64 `json:"log_offset"`
	LogIndex     int   `json:"log_index"`
}

// print shows a page; how to go on stands on standard error.
func (s *searchFlags) print(std stdio, page store.Page) (err error) {
	w := bufio.NewWriter(std.out)
	switch {
	case s.asJSON:
		for i := range page.Hits {
			h := &page.Hits[i]
			err = errors.Join(err, printJSON(w, hitJSON{toJSON(&h.Decision), h.Parties.Consumer, h.Parties.Provider, h.Parties.Supplier,
				h.Place.Partition, h.Place.Offset, h.Place.Index}, false))
		}
	case s.csv:
		err = printCSV(w, page.Hits)
	default:
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		for i := range page.Hits {
			d := &page.Hits[i].Decision
			fmt.Fprintf(t, "%s\t%s/%d@%d\t%s\t%s\t%s\t%s\n", d.Time.UTC().Format(time.RFC3339), d.Position.Dataset, d.Position.Partition,
				d.Position.Offset, outcomeWord(d), page.Hits[i].Parties.Consumer, d.Subscription, because(d))
		}
		err = t.Flush()
	}
	if err = errors.Join(err, w.Flush()); err != nil {
		return err
	}
	switch {
	case page.Next != "":
		fmt.Fprintf(std.err, "more: the same question with --cursor %s\n", page.Next)
	case len(page.Hits) == 0:
		fmt.Fprintln(std.err, "no decision matches")
	}
	return nil
}

func printCSV(w io.Writer, hits []store.Hit) error {
	c := csv.NewWriter(w)
	c.Write([]string{"time", "id", "kind", "dataset", "partition", "offset", "outcome", "reasons", "bases", "consumer", "provider", "supplier",
		"subscription", "agreement", "package", "version", "fields", "shielded", "policy", "revision", "period"})
	for i := range hits {
		d, p := &hits[i].Decision, hits[i].Parties
		c.Write([]string{d.Time.UTC().Format(time.RFC3339Nano), d.ID.String(), d.Kind.String(), string(d.Position.Dataset), fmt.Sprint(d.Position.Partition),
			fmt.Sprint(d.Position.Offset), outcomeWord(d), cellOf(d.Outcome.Reasons), cellOf(d.Outcome.Bases), string(p.Consumer), string(p.Provider),
			string(p.Supplier), string(d.Subscription), string(d.Agreement), d.Package.ID, fmt.Sprint(d.Package.Version), cellOf(d.Fields),
			strconv.FormatBool(d.Shielded), d.PolicyDigest, fmt.Sprint(d.Revision), d.Period})
	}
	c.Flush()
	return c.Error()
}

// cellOf puts words into one cell.
func cellOf[S ~string](all []S) string {
	words := make([]string, len(all))
	for i, s := range all {
		words[i] = string(s)
	}
	return strings.Join(words, " ")
}
