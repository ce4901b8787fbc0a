package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/audit"
	"datafordeler/broker/flow/evidence"
	"datafordeler/broker/ledger"
	"datafordeler/broker/ledger/archive"
)

func auditVerify(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit verify")
	where, trust := placeFlags(fs), declareTrust(fs)
	asJSON, strict := fs.Bool("json", false, ""), fs.Bool("strict", false, "")
	var over remoteFlags
	fs.StringVar(&over.token, "token-file", "", "")
	fs.StringVar(&over.state, "state", "", "")
	dir, args := leading(args)
	if err := parse(fs, args, 0, 1); err != nil {
		return err
	}
	if dir == "" {
		dir = fs.Arg(0)
	} else if fs.NArg() > 0 {
		return usagef("too many arguments: one directory")
	}
	var src ledger.Source
	var policy *ledger.Policy
	var own bool
	var total int64
	var far *remoteLedger // where a broker is asked over HTTP
	isURL := strings.Contains(dir, "://")
	if !isURL && (over.token != "" || over.state != "") {
		return usagef("--token-file and --state are for a broker's address: audit verify https://…")
	}
	switch {
	case dir != "" && (*where.data != "" || *where.config != ""):
		return usagef("a directory, --data and --config exclude each other")
	case isURL:
		var err error
		if far, err = over.open(ctx, dir, trust); err != nil {
			return err
		}
		defer far.close()
		src, policy = far.src, far.policy
	case dir != "":
		a, err := archive.Open(os.DirFS(dir))
		if err != nil {
			return fmt.Errorf("%s is not an export that can be read: %w", dir, err)
		}
		defer a.Close()
		if policy, own, err = trust.policy(a.Manifest.Origin, a.Manifest.Keys, 0, false); err != nil {
			return err
		}
		src, total = a, a.Manifest.Decisions
	default:
		n, p, o, err := openLedger(ctx, std, where, trust)
		if err != nil {
			return err
		}
		defer n.close()
		s, err := evidence.OpenSource(ctx, n.engine, n.cfg.Topics())
		if err != nil {
			return err
		}
		defer s.Close()
		src, policy, own = s, p, o
	}
	var entries, decisions atomic.Int64
	bar := newProgress(std.err)
	stop := bar.watch(func() string {
		of := ""
		if far != nil && far.size > 0 {
			return fmt.Sprintf("verified %s · %s decisions", share(entries.Load(), far.size-far.begin()), thousands(decisions.Load()))
		}
		if total > 0 {
			of = fmt.Sprintf(" of %s", thousands(total))
		}
		return fmt.Sprintf("verified %s entries · %s%s decisions", thousands(entries.Load()), thousands(decisions.Load()), of)
	})
	begun := time.Now()
	v := ledger.Verifier{Policy: policy, Progress: func(e, d int64) { entries.Store(e); decisions.Store(d) }}
	if far != nil {
		v.Known, v.From = far.known, far.from
	}
	report, err := v.Run(ctx, src)
	rest := int64(0)
	if live, ok := src.(*evidence.Source); ok && err == nil {
		if rest, err = live.Rest(); err == nil && live.Unnamed() > 0 {
			err = fmt.Errorf("%d records of decisions stand in the topic between those that the ledger names, and in no entry: "+
				"somebody else than the broker wrote them, or they were left out", live.Unnamed())
		}
	}
	stop()
	if far != nil && err == nil {
		err = far.keep(report)
	}
	if report == nil {
		return err
	}
	took := time.Since(begun)
	lax := strictly(report, policy, rest)
	if *strict && err == nil && len(lax) > 0 {
		err = strictError(lax)
	}
	if *asJSON {
		out := verified(report, policy, own, took)
		out.Lax = lax
		if out.Unentered = rest; err != nil && out.OK {
			out.OK, out.Where = false, err.Error()
		}
		if e := printJSON(std.out, out, true); e != nil {
			return e
		}
		return err
	}
	_, unmoved := errors.AsType[strictError](err)
	if far != nil && far.from != nil {
		fmt.Fprintf(std.out, "%s entries were verified before; what follows is of those since.\n", thousands(far.from.Size))
	}
	printReport(std.out, report, policy, own, took, err == nil || unmoved)
	if rest > 0 {
		fmt.Fprintf(std.out, "%s records of decisions are in no entry yet: they come within seconds, or see what the sequencer's log says.\n", thousands(rest))
	}
	return err
}

// leading takes the argument that stands before the flags, so that a directory may.
func leading(args []string) (first string, rest []string) {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return args[0], args[1:]
	}
	return "", args
}

// verification is what audit verify says, for programs.
type verification struct {
	OK         bool            `json:"ok"`
	Fault      string          `json:"fault,omitempty"`
	Where      string          `json:"where,omitempty"`
	Origin     string          `json:"origin"`
	KeyFrom    string          `json:"key_from"`
	Entries    int64           `json:"entries"`
	Decisions  int64           `json:"decisions"`
	Permits    int64           `json:"permits"`
	Kinds      map[string]kind `json:"kinds"` // decisions and permits by kind
	Records    int64           `json:"records"`
	OutOfScope int64           `json:"out_of_scope"`
	Repeated   int64           `json:"repeated"`
	Rejected   int64           `json:"rejected"`
	Revision   broker.Revision `json:"revision"`
	Heads      int64           `json:"heads"`
	Covered    int64           `json:"covered"`
	Cosigners  []string        `json:"cosigners"`
	Need       int             `json:"need"`
	Uncovered  int64           `json:"uncovered"`
	Unentered  int64           `json:"unentered"` // records of decisions that no entry names yet
	Overlaps   int64           `json:"overlaps"`  // batches labelled so
	Skips      int64           `json:"skips"`
	Refused    int64           `json:"refused"` // control events labelled so
	Lax        []strictness    `json:"lax"`     // what --strict does not let pass
	Seconds    float64         `json:"seconds"`
}

// kind is how many decisions of one kind there are.
type kind struct {
	Decisions int64 `json:"decisions"`
	Permits   int64 `json:"permits"`
}

// keyFrom says whose word the key rests on: of those who ask, or of what is checked.
func keyFrom(own bool, what string) string {
	if own {
		return what
	}
	return "given"
}

func verified(r *ledger.Report, p *ledger.Policy, own bool, took time.Duration) verification {
	v := verification{OK: r.Fault == nil, Origin: p.Origin, KeyFrom: keyFrom(own, "ledger"), Entries: r.Entries, Decisions: r.Decisions, Permits: r.Permits,
		Records: r.Records, OutOfScope: r.OutOfScope, Repeated: r.Repeated, Rejected: r.Rejected, Revision: r.Revision, Heads: r.Checkpoints,
		Covered: r.Counted.Size, Cosigners: names(r.CountedCosigners), Need: p.Need, Uncovered: r.Uncovered, Overlaps: r.OverlapCount, Skips: r.SkipCount, Refused: r.ControlRefused,
		Seconds: took.Seconds()}
	v.Kinds = map[string]kind{}
	for k := broker.StreamDecision; k <= broker.LastDecision; k++ {
		v.Kinds[k.String()] = kind(r.Kinds[k])
	}
	if r.Fault != nil {
		v.Fault, v.Where = string(r.Fault.Name()), r.Fault.Error()
	}
	return v
}

func names(all []ledger.Cosignature) []string {
	out := []string{}
	for _, c := range all {
		out = append(out, c.Name)
	}
	return out
}

func printReport(w io.Writer, r *ledger.Report, p *ledger.Policy, own bool, took time.Duration, fits bool) {
	fmt.Fprintf(w, "%s: %s entries, %s decisions (%s permits), %s control events, %s signed heads, in %.1f s\n", p.Origin, thousands(r.Entries),
		thousands(r.Decisions), thousands(r.Permits), thousands(r.ControlEvents+r.ControlLosers+r.ControlRefused), thousands(r.Checkpoints), took.Seconds())
	fmt.Fprintf(w, "%s records = %s out of every scope + %s repeated + %s rejected + %s decided on\n", thousands(r.Records), thousands(r.OutOfScope),
		thousands(r.Repeated), thousands(r.Rejected), thousands(r.Records-r.OutOfScope-r.Repeated-r.Rejected))
	if r.Singles > 0 {
		words := map[broker.DecisionKind]string{broker.StreamDecision: "by the stream", broker.BackfillDecision: "in backfills", broker.LookupDecision: "on lookups", broker.DoorDecision: "at the door", broker.NoticeDecision: "of notices"}
		var parts []string
		for k := broker.StreamDecision; k <= broker.LastDecision; k++ {
			parts = append(parts, fmt.Sprintf("%s %s (%s permits)", thousands(r.Kinds[k].Decisions), words[k], thousands(r.Kinds[k].Permits)))
		}
		fmt.Fprintf(w, "%s decisions = %s\n", thousands(r.Decisions), strings.Join(parts, " + "))
	}
	for _, l := range r.Overlaps {
		fmt.Fprintf(w, "labelled: %s, %d records decided twice from offset %d on, after an unclean stop (entry %d)\n", l.Where, l.Amount, l.First, l.Entry)
	}
	for _, l := range r.Skips {
		fmt.Fprintf(w, "labelled: %s, %d records before offset %d were gone before they were decided (entry %d)\n", l.Where, l.Amount, l.First, l.Entry)
	}
	if r.ControlRefused > 0 {
		fmt.Fprintf(w, "labelled: %s control events were refused for what they say, so a faulty writer made them\n", thousands(r.ControlRefused))
	}
	if n := r.OverlapCount + r.SkipCount - int64(len(r.Overlaps)+len(r.Skips)); n > 0 {
		fmt.Fprintf(w, "labelled: %s entries more\n", thousands(n))
	}
	if r.Fault != nil {
		fmt.Fprintf(w, "FAULT %s\n", r.Fault.Name()) // what and where is the error
		return
	}
	if !fits {
		return
	}
	fmt.Fprintf(w, "All of it fits. The newest head that counts covers %s entries", thousands(r.Counted.Size))
	if p.Need > 0 || len(r.CountedCosigners) > 0 {
		fmt.Fprintf(w, ", cosigned by %d (%d needed): %s", len(r.CountedCosigners), p.Need, strings.Join(names(r.CountedCosigners), ", "))
	}
	fmt.Fprintln(w, ".")
	if r.Uncovered > 0 {
		fmt.Fprintf(w, "%s entries are newer than that head, or wait for witnesses.\n", thousands(r.Uncovered))
	}
	if own {
		fmt.Fprintf(w, "The key is the one that the ledger itself names, %s: compare it with the one that its operator gives out, or give that with --key.\n", vkeyOf(p))
	}
}

// vkeyOf is the log's key in few characters, to compare by eye.
func vkeyOf(p *ledger.Policy) string { return fmt.Sprintf("%s %08x", p.Log.Name(), p.Log.KeyHash()) }

func auditExport(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit export")
	where, trust := placeFlags(fs), declareTrust(fs)
	out := fs.String("out", "", "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *out == "" {
		return usagef("--out is missing: which directory?")
	}
	n, policy, _, err := openLedger(ctx, std, where, trust)
	if err != nil {
		return err
	}
	defer n.close()
	src, err := evidence.OpenSource(ctx, n.engine, n.cfg.Topics())
	if err != nil {
		return err
	}
	defer src.Close()
	create, err := archive.Dir(*out)
	if err != nil {
		return usageError{err}
	}
	_, keys, _, err := n.registered()
	if err != nil {
		return err
	}
	w, err := archive.NewWriter(create, policy.Origin, keys, time.Now())
	if err != nil {
		return err
	}
	var lines atomic.Int64
	bar := newProgress(std.err)
	stop := bar.watch(func() string { return thousands(lines.Load()) + " lines written" })
	err = evidence.Export(src, w.Entry, func(b []byte) error { lines.Add(1); return w.Line(b) }, w.Checkpoint)
	stop()
	if err != nil {
		w.Abort()
		return err
	}
	m, err := w.Close()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "%s entries with %s decisions in %s; verify it anywhere: datafordeler audit verify %s\n", thousands(m.Entries), thousands(m.Decisions), *out, *out)
	return err
}

// wantedFlags name one decision.
type wantedFlags struct {
	id, dataset, subscription *string
	partition                 *int
	offset                    *int64
}

func declareWanted(fs *flag.FlagSet) *wantedFlags {
	return &wantedFlags{fs.String("decision", "", ""), fs.String("dataset", "", ""), fs.String("subscription", "", ""),
		fs.Int("partition", -1, ""), fs.Int64("offset", -1, "")}
}

func (f *wantedFlags) wanted() (w evidence.Wanted, err error) {
	w = evidence.Wanted{Dataset: broker.DatasetID(*f.dataset), Partition: int32(*f.partition), Offset: *f.offset, Subscription: broker.SubscriptionID(*f.subscription)}
	byPlace := *f.dataset != "" && *f.partition >= 0 && *f.offset >= 0 && *f.subscription != ""
	if (*f.id != "") == byPlace {
		return w, usagef("which decision? Give --decision ID, or all of --dataset, --partition, --offset and --subscription")
	}
	if *f.id != "" {
		if w.ID, err = broker.ParseDigest(*f.id); err != nil {
			return w, usagef("--decision: %w", err)
		}
	}
	return w, nil
}

func auditProve(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit prove")
	where, trust := placeFlags(fs), declareTrust(fs)
	which := declareWanted(fs)
	out := fs.String("out", "", "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	want, err := which.wanted()
	if err != nil {
		return err
	}
	n, policy, _, err := openLedger(ctx, std, where, trust)
	if err != nil {
		return err
	}
	defer n.close()
	var entries atomic.Int64
	bar := newProgress(std.err)
	stop := bar.watch(func() string { return thousands(entries.Load()) + " entries read" })
	proof, err := evidence.Prove(ctx, n.engine, n.cfg.Topics(), policy, want, entries.Store)
	stop()
	if err != nil {
		return err
	}
	b, err := proof.Append(nil)
	if err != nil {
		return err
	}
	if *out == "" {
		_, err = std.out.Write(b)
		return err
	}
	if err := os.WriteFile(*out, b, 0o600); err != nil { // it holds a pseudonym
		return err
	}
	_, err = fmt.Fprintf(std.out, "%s: %s bytes; check it anywhere: datafordeler audit check %s\n", *out, thousands(int64(len(b))), *out)
	return err
}

func auditCheck(_ context.Context, std stdio, args []string) error {
	fs := newFlags("audit check")
	trust := declareTrust(fs)
	asJSON := fs.Bool("json", false, "")
	file, args := leading(args)
	if err := parse(fs, args, 0, 1); err != nil {
		return err
	}
	if file == "" {
		file = fs.Arg(0)
	}
	if file == "" {
		return usagef("which proof? Name its file")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return usageError{err}
	}
	proof, err := ledger.ParseProof(b)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	policy, own, err := trust.policy("", proof.Keys, 0, false)
	if err != nil {
		return err
	}
	checked, err := proof.Check(policy)
	if err != nil {
		var fault *ledger.Fault
		if errors.As(err, &fault) {
			return fmt.Errorf("%s does not hold: %w", file, err)
		}
		return err
	}
	if *asJSON {
		return printJSON(std.out, struct {
			OK        bool            `json:"ok"`
			Origin    string          `json:"origin"`
			KeyFrom   string          `json:"key_from"`
			Covered   int64           `json:"covered"`
			Cosigners []string        `json:"cosigners"`
			Line      json.RawMessage `json:"line"`
		}{true, policy.Origin, keyFrom(own, "proof"), checked.Checkpoint.Size, names(checked.Cosigners), json.RawMessage(checked.Line)}, true)
	}
	fmt.Fprintf(std.out, "It holds: entry %d, line %d of the ledger %s, under its signed head of %s entries.\n", checked.EntryIndex, checked.Index, policy.Origin, thousands(checked.Checkpoint.Size))
	if len(checked.Cosigners) > 0 {
		fmt.Fprintf(std.out, "Cosigned by %s.\n", strings.Join(names(checked.Cosigners), ", "))
	}
	if d := checked.Decision; d != nil {
		fmt.Fprintf(std.out, "%s  %s  %s  %s  %s%s\n", d.Time.Format(time.RFC3339), placeOf(d), audit.OutcomeWord(d), d.Subscription, because(d), kindOf(d))
	}
	if own {
		fmt.Fprintf(std.out, "The key is the one that the proof itself names, %s: compare it with the one that its operator gives out, or give that with --key.\n", vkeyOf(policy))
	}
	return nil
}
