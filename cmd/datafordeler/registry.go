package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/providers/synthetic"
)

// place is the flags that say which broker a command concerns.
type place struct {
	config, data *string
}

func placeFlags(fs *flag.FlagSet) place {
	return place{fs.String("config", "", ""), fs.String("data", "", "")}
}

const placeHelp = `
Which broker:
  --config FILE   the configuration that its instances run with
  --data DIR      a data directory of the embedded engine, running or not
`

// open opens the broker's state without becoming an instance of it.
func (p place) open(ctx context.Context, std stdio, withKeys bool) (*node, error) {
	var cfg Config
	switch {
	case *p.config != "" && *p.data != "":
		return nil, usagef("--config and --data exclude each other")
	case *p.config != "":
		var err error
		if cfg, err = loadConfig(*p.config); err != nil {
			return nil, err
		}
	case *p.data != "":
		cfg = dataConfig(*p.data)
		if err := dataThere(*p.data); err != nil {
			return nil, err
		}
	default:
		return nil, usagef("which broker? Give --config FILE or --data DIR")
	}
	return openNode(ctx, cfg, commandLog(std.err, slog.LevelWarn), kafka.Attach, withKeys)
}

// dataConfig is the preset for a data directory of the embedded engine.
func dataConfig(dir string) Config {
	cfg := defaultConfig()
	cfg.Engine, cfg.Data = kafka.EngineEmbedded, dir
	return cfg
}

func registryCommand() command {
	return command{
		name:    "registry",
		summary: "apply, read and follow the registry: who may share what with whom",
		help: `Usage: datafordeler registry apply -f DIR|FILE [-f …] --actor NAME [--dry-run] [--wait 30s]
       datafordeler registry get KIND [ID] [--json]
       datafordeler registry log [--json]
       datafordeler registry case open|end --subscription S [--from T] [--to T] --actor NAME < ids
       datafordeler registry consent give|withdraw --consumer N --dataset D --purpose P [--to T] --actor NAME < ids
       datafordeler registry consent import --actor NAME [--wait 30s] < token
       datafordeler registry consent follow --source NAME --feed URL --actor NAME [--once] …
       datafordeler registry consent status [--json]
       datafordeler registry delegation withdraw --id D --actor NAME [--wait 30s]
       datafordeler registry gaps [--at T] [--json|--csv]

apply declares organisations, datasets, legal bases, rights packages, mailboxes,
agreements, subscriptions, delegations, roles, assessments and truth tables from
YAML; and needs, frameworks, and what was done about them and about agreements
(cosignature, approval, invitation, accession, step). All of it is validated before anything
is written; a second time changes nothing. It returns when the
change binds on every running instance, or tells after --wait that it does not
yet.
case and consent read identifiers from standard input, one a line, and hash them
here: they stand in no argument, log or event.
consent import reads a consent token of Altinn's, as Maskinporten signed it, and
records what it proves, by the issuers in the configuration; the token is not kept.
consent follow withdraws what Altinn's feed says was withdrawn there, and status shows
how far it was read: datafordeler registry consent follow --help tells more.
delegation withdraw ends a supplier's leave to receive for a consumer, for good:
the next one has a name of its own.
gaps reports the open needs that no legal basis in force covers, the most asked for
first: by how many organisations, of which sector, and what stands in the way.
KIND: organisation dataset assessment basis package mailbox need framework agreement
subscription delegation role truthtable, and freeze, what stands of datafordeler freeze.
` + placeHelp + `
Examples:
  datafordeler registry apply -f deploy/demo --actor "kari at digdir" --dry-run --data data
  datafordeler registry get agreement --config broker.yaml
  datafordeler registry case open --subscription oslo-sosialhjelp --actor nav-oslo --config broker.yaml < cases.txt
`,
		run: func(ctx context.Context, std stdio, args []string) error {
			if len(args) == 0 {
				return usagef("what? apply, get, log, case, consent, delegation or gaps")
			}
			switch verb, rest := args[0], args[1:]; verb {
			case "apply":
				return registryApply(ctx, std, rest)
			case "get":
				return registryGet(ctx, std, rest)
			case "log":
				return registryLog(ctx, std, rest)
			case "case":
				return registrySubjects(ctx, std, "case", rest)
			case "consent":
				if len(rest) > 0 {
					switch rest[0] {
					case "import":
						return registryConsentImport(ctx, std, rest[1:])
					case "follow", "status":
						return consentFeed(ctx, std, rest[0], rest[1:])
					}
				}
				return registrySubjects(ctx, std, "consent", rest)
			case "delegation":
				return registryDelegation(ctx, std, rest)
			case "gaps":
				return registryGaps(ctx, std, rest)
			case "-h", "--help":
				return flag.ErrHelp
			default:
				return usagef("no verb%s: apply, get, log, case, consent, delegation or gaps", quoted(verb))
			}
		},
	}
}

// quoted is " \"id\"" for a message, or "" for what cannot be a name: a person's
// number typed in the wrong place must not stand in a terminal's log.
func quoted(id string) string {
	for part := range strings.SplitSeq(id, "/") { // a rights package's has its version
		if broker.CheckName(part) != nil {
			return ""
		}
	}
	return fmt.Sprintf(" %q", id)
}

// timeFlag reads a flag's time; "" is none.
func timeFlag(name, value string) (time.Time, error) {
	t, err := broker.ParseTime(value)
	if err != nil {
		return t, usagef("--%s%s: want a time such as 2026-01-31 or 2026-01-31T12:00:00Z", name, quoted(value))
	}
	return t, nil
}

// files collects a repeated flag.
type files []string

func (f *files) String() string     { return strings.Join(*f, " ") }
func (f *files) Set(s string) error { *f = append(*f, s); return nil }

func registryApply(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("registry apply")
	where := placeFlags(fs)
	var paths files
	fs.Var(&paths, "f", "")
	actor := fs.String("actor", "", "")
	dry := fs.Bool("dry-run", false, "")
	wait := fs.Duration("wait", 30*time.Second, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if len(paths) == 0 {
		return usagef("-f is missing: a YAML file, or a directory of them")
	}
	if *actor == "" {
		return usagef("--actor is missing: who decides this? It stands in the registry's log")
	}
	docs, err := registry.Load(paths...)
	if err != nil {
		return usageError{err}
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	if err := repeatsFit(docs, n.cfg.Intake.WindowAge); err != nil {
		return err
	}
	var before map[string]time.Duration
	n.control.View(func(st *registry.State) { before = n.byTopic(flow.Retention(n.cfg.Config, st)) })
	plan, rev, err := n.apply(ctx, docs, *actor, *dry)
	var faults registry.Faults
	if errors.As(err, &faults) {
		return usageError{fmt.Errorf("nothing was written: %s\n%w", counted(len(faults), "fault"), err)}
	}
	if err != nil {
		return err
	}
	fmt.Fprint(std.out, plan)
	sayShorter(std.out, before, n.byTopic(plan.Retention(flow.RetentionDefaults(n.cfg.Config))))
	if *dry {
		if err := n.planKafkaAccess(ctx, std.out, plan.KafkaAccess(time.Now())); err != nil {
			return err
		}
		fmt.Fprintln(std.out, "dry run: nothing was written")
		return nil
	}
	// Who loses access loses it at once, whatever else fails.
	unkept := n.keepKafkaAccess(ctx, std.out)
	if err := n.ensureTopics(ctx); err != nil {
		return errors.Join(unkept, err)
	}
	return errors.Join(unkept, n.reportBinding(ctx, std, rev, *wait))
}

// apply plans and, unless dry, appends.
func (n *node) apply(ctx context.Context, docs []registry.Document, actor string, dry bool) (plan *registry.Plan, rev broker.Revision, err error) {
	if dry {
		err = n.judge(ctx, func(st *registry.State) ([]registry.Event, error) {
			if plan, err = registry.NewPlan(st, docs, actor, time.Now()); err != nil {
				return nil, err
			}
			rev = st.Revision()
			return plan.Events, nil
		})
		return plan, rev, placed(err, docs)
	}
	rev, err = n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		var err error
		if plan, err = registry.NewPlan(st, docs, actor, time.Now()); err != nil {
			return nil, err
		}
		return plan.Events, nil
	})
	return plan, rev, placed(err, docs)
}

// reportBinding waits for a change to bind and says whether it does.
func (n *node) reportBinding(ctx context.Context, std stdio, rev broker.Revision, wait time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	begun := time.Now()
	running, err := n.running(ctx)
	if err != nil {
		return err
	}
	if !running {
		fmt.Fprintf(std.out, "revision %d; no instance is running: it holds from the first record on\n", rev)
		return nil
	}
	err = n.bind(waiting, rev)
	var not *flow.NotBinding
	switch {
	case err == nil:
		fmt.Fprintf(std.out, "revision %d binds on every instance (%v)\n", rev, time.Since(begun).Round(time.Millisecond))
		return nil
	case errors.As(err, &not):
		return fmt.Errorf("accepted, not binding yet: %w", err)
	}
	return err
}

// running reports whether any instance is.
func (n *node) running(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, reach)
	defer cancel()
	return flow.Running(ctx, n.engine, n.cfg.Flow.Group)
}

func registryGet(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("registry get")
	where := placeFlags(fs)
	asJSON := fs.Bool("json", false, "")
	if err := parseMixed(fs, args, 1, 2); err != nil {
		return err
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	var found []any
	n.control.View(func(st *registry.State) { found, err = pick(st, registry.Kind(fs.Arg(0))) })
	if err != nil {
		return err
	}
	id := fs.Arg(1)
	shown := 0
	for _, v := range found {
		doc := registry.Document{Body: v}
		var name string
		if f, ok := v.(registry.Frozen); ok {
			name = fmt.Sprintf("%s/%s/%s", f.Kind, f.ID, f.By)
		} else {
			name = doc.ID()
		}
		if id != "" && name != id {
			continue
		}
		shown++
		if id == "" && !*asJSON {
			fmt.Fprintln(std.out, name)
			continue
		}
		if err := printJSON(std.out, v, !*asJSON); err != nil {
			return err
		}
	}
	if id != "" && shown == 0 {
		return fmt.Errorf("no %s%s is registered; see: datafordeler registry get %[1]s", fs.Arg(0), quoted(id))
	}
	return nil
}

func pick(st *registry.State, kind registry.Kind) ([]any, error) {
	switch kind {
	case registry.KindOrganisation:
		return anys(st.Organisations()), nil
	case registry.KindDataset:
		return anys(st.Datasets()), nil
	case registry.KindBasis:
		return anys(st.Bases()), nil
	case registry.KindPackage:
		return anys(st.Packages()), nil
	case registry.KindMailbox:
		return anys(st.Mailboxes()), nil
	case registry.KindAgreement:
		return anys(st.Agreements()), nil
	case registry.KindSubscription:
		return anys(st.Subscriptions()), nil
	case registry.KindDelegation:
		return anys(st.Delegations()), nil
	case registry.KindRole:
		return anys(st.Roles()), nil
	case registry.KindNeed:
		return anys(st.Needs()), nil
	case registry.KindFramework:
		return anys(st.Frameworks()), nil
	case registry.KindCosignature, registry.KindApproval, registry.KindInvitation, registry.KindStep, registry.KindAccession:
		return nil, usagef("%s is something that was done: see datafordeler need show, agreement show or framework report", kind)
	case "freeze":
		return anys(st.Freezes()), nil
	case registry.KindAssessment:
		return anys(st.LegalAssessments()), nil
	case registry.KindTruthTable:
		return anys(st.TruthTables()), nil
	}
	var kinds []string
	for _, k := range registry.Kinds() {
		kinds = append(kinds, string(k))
	}
	return nil, usagef("there is no kind%s: %s or freeze", quoted(string(kind)), strings.Join(kinds, ", "))
}

func anys[T any](s []T) []any {
	out := make([]any, len(s))
	for i := range s {
		out[i] = s[i]
	}
	return out
}

func registryLog(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("registry log")
	where := placeFlags(fs)
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	out := bufio.NewWriter(std.out)
	defer out.Flush()
	return n.control.Log(ctx, func(offset int64, e registry.Event, accepted bool) error {
		if *asJSON {
			return printJSON(out, struct {
				Offset   int64          `json:"offset"`
				Accepted bool           `json:"accepted"`
				Event    registry.Event `json:"event"`
			}{offset, accepted, e}, false)
		}
		mark := ""
		if !accepted {
			mark = "  (lost: another change came first)"
		}
		_, err := fmt.Fprintf(out, "%6d  %s  %-20s %s  by %s%s\n", e.Seq, e.At.Format(time.RFC3339), e.Type, eventName(e), e.Actor, mark)
		return err
	})
}

// eventName is what an event concerns, where its data has a name.
func eventName(e registry.Event) string {
	var named struct {
		ID     any    `json:"id"`
		Number any    `json:"number"` // an organisation's, or a step's
		Digest string `json:"digest"`
		Period string `json:"period"`
		// What was done has no name but that of what it was done to.
		Agreement string `json:"agreement"`
		Need      string `json:"need"`
		Framework string `json:"framework"`
		External  string `json:"external"`
		Source    string `json:"source"`
	}
	if json.Unmarshal(e.Data, &named) != nil {
		return ""
	}
	for _, s := range []any{named.ID, named.Agreement, named.Need, named.Framework, named.Number, named.Digest, named.Period, named.External, named.Source} {
		if v := reflect.ValueOf(s); v.IsValid() && !v.IsZero() {
			return fmt.Sprint(s)
		}
	}
	return ""
}

// registrySubjects opens and ends cases, gives and withdraws consents.
func registrySubjects(ctx context.Context, std stdio, what string, args []string) error {
	if len(args) == 0 {
		return usagef("%s what? open or end; give, withdraw, import, follow or status", what)
	}
	verb := args[0]
	fs := newFlags("registry " + what)
	where := placeFlags(fs)
	sub := fs.String("subscription", "", "")
	consumer := fs.String("consumer", "", "")
	dataset := fs.String("dataset", "", "")
	purpose := fs.String("purpose", "", "")
	from := fs.String("from", "", "")
	to := fs.String("to", "", "")
	actor := fs.String("actor", "", "")
	wait := fs.Duration("wait", 30*time.Second, "")
	if err := parse(fs, args[1:], 0, 0); err != nil {
		return err
	}
	if *actor == "" {
		return usagef("--actor is missing: who decides this? It stands in the registry's log")
	}
	var valid broker.Interval
	var err1, err2 error
	valid.From, err1 = timeFlag("from", *from)
	valid.To, err2 = timeFlag("to", *to)
	if err := cmp.Or(err1, err2); err != nil {
		return err
	}
	// What is read as a name is checked before anything says it.
	if broker.CheckName(*consumer) != nil && *consumer != "" {
		return usagef("--consumer: want an organisation number, nine digits whose check digit fits")
	}
	if err := broker.CheckName(*purpose); err != nil && *purpose != "" {
		return usagef("--purpose: want the purpose of an agreement")
	}
	now := time.Now()
	if valid.From.IsZero() {
		valid.From = now
	}
	n, err := where.open(ctx, std, true)
	if err != nil {
		return err
	}
	defer n.close()
	listed, err := readIDs(std.in)
	if err != nil {
		return err
	}
	var count int
	rev, err := n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		s := subjects{state: st, ring: n.ring, now: now, valid: valid}
		var changes []registry.Change
		var err error
		switch what + " " + verb {
		case "case open", "case end":
			t := st.Terms(broker.SubscriptionID(*sub))
			if t == nil {
				return nil, usagef("--subscription: no subscription%s is registered", quoted(*sub))
			}
			var ids []string
			if ids, err = subjectsOf(t.Dataset, listed); err == nil {
				changes, err = s.cases(t, ids, verb == "end")
			}
		case "consent give", "consent withdraw":
			d := st.Dataset(broker.DatasetID(*dataset))
			if d == nil {
				return nil, usagef("--dataset: no dataset%s is registered", quoted(*dataset))
			}
			var ids []string
			if ids, err = subjectsOf(d, listed); err == nil {
				changes, err = s.consents(d, broker.OrgNumber(*consumer), broker.Purpose(*purpose), ids, verb == "withdraw")
			}
		default:
			return nil, usagef("no %s verb%s", what, quoted(verb))
		}
		if err != nil {
			return nil, err
		}
		count = len(changes)
		return st.Link(now, *actor, changes...)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%d of %d changed\n", count, len(listed))
	return n.reportBinding(ctx, std, rev, *wait)
}

// readIDs reads identifiers, one a line. Faults name the line, never its text.
func readIDs(r io.Reader) (ids []listedID, err error) {
	sc := bufio.NewScanner(r)
	line := 0
	for sc.Scan() {
		line++
		id := strings.TrimSpace(sc.Text())
		switch {
		case id == "":
			continue
		case len(id) > 64:
			return nil, usagef("standard input, line %d: %d characters; want one identifier a line", line, len(id))
		}
		ids = append(ids, listedID{id, line})
	}
	if errors.Is(sc.Err(), bufio.ErrTooLong) {
		return nil, usagef("standard input, line %d: more than %d characters; want one identifier a line", line+1, bufio.MaxScanTokenSize)
	}
	return ids, sc.Err()
}

type listedID struct {
	id   string
	line int
}

// subjectsOf holds identifiers to what the dataset is about: a slip of the
// finger would be hashed all the same, and never match a record.
func subjectsOf(d *broker.Dataset, listed []listedID) ([]string, error) {
	ids := make([]string, len(listed))
	for i, l := range listed {
		switch d.Subject.Kind {
		case broker.Person:
			if !synthetic.ValidNationalID(l.id) {
				return nil, usagef("standard input, line %d: not a national identity number: want eleven digits whose check digits fit", l.line)
			}
		case broker.OrganisationSubject:
			if _, err := broker.ParseOrgNumber(l.id); err != nil {
				return nil, usagef("standard input, line %d: not an organisation number: want nine digits whose check digit fits", l.line)
			}
		}
		ids[i] = l.id
	}
	return ids, nil
}

func printJSON(w io.Writer, v any, indent bool) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if indent {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}

// parseMixed lets arguments stand before flags.
func parseMixed(fs *flag.FlagSet, args []string, min, max int) error {
	var words, flags []string
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		words, args = append(words, args[0]), args[1:]
	}
	flags = args
	return parse(fs, append(flags, words...), min, max)
}
