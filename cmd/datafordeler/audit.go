package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"datafordeler/broker/flow/evidence"
	"datafordeler/broker/ledger"
	"datafordeler/broker/registry"
)

func auditCommand() command {
	return command{
		name:    "audit",
		summary: "verify the ledger, prove and find decisions, account for every record",
		help: `Usage: datafordeler audit verify [DIR|URL] [--key VKEY|FILE] [--witness VKEY|FILE …] [--need N] [--strict] [--json]
       datafordeler audit prove (--decision ID | --dataset D --partition P --offset O --subscription S) [--out FILE]
       datafordeler audit check FILE [--key VKEY|FILE] [--witness …] [--need N] [--json]
       datafordeler audit explain (--decision ID | --dataset D …) [--lang nb|nn|en] [--json]
       datafordeler audit export --out DIR
       datafordeler audit status [--json]
       datafordeler audit search [filters] [--from T] [--to T] [--limit N] [--cursor C] [--json|--csv]
       datafordeler audit subject --kind KIND --actor NAME --reason TEXT [--from T] [--to T] [--limit N] [--cursor C] [--json|--csv] < id
       datafordeler audit coverage --dataset D [--from T] [--to T] [--json|--csv]
       datafordeler audit fields [--agreement A] [--from T] [--to T] [--json|--csv]
       datafordeler audit expiring [--days 90] [--json|--csv]
       datafordeler audit deviations [--status S] [--dataset D] [--json|--csv]
       datafordeler audit obligations [--status S] [--agreement A] [--json|--csv]

Every decision stands in the ledger: a log whose signed heads make it impossible
to change, drop or add one unseen.

verify reads a whole ledger, from an export in DIR, from a running broker's API at
URL or from its topics (--config, --data), and checks
every line, every order, every head and every witness. The first fault is named,
and the exit code is 1. With --strict it is 1 also for what is no fault: entries
that are labelled as overlapping or skipping, entries and decisions that no head
covers yet, newest heads with too few witnesses. It says which.
prove writes a proof of one decision, a few kilobytes, which check verifies with
nothing but the ledger's public key. By the record's place it is the stream's
decision; those of lookups, of backfills and at doors are found by --decision.
explain tells one decision in words: what was answered and why, on which law and
agreement, who answers for it, under which policy, which fields left, and whether
it stands under a signed head. All of it as it was when it was decided.
export writes the ledger into a directory that explains itself, so that another
program can be written for it.
status says how far the ledger goes, and by which keys it is signed.

The rest ask the read model, tables that are made from the log; where those lag,
they say by how many records.
search finds decisions, the newest first (--oldest: the oldest), by
  --dataset D --partition P --offset O        the record, all three together
  --event H, --decision ID, --delivery ID     as --json prints them
  --request ID                                all that one lookup was answered
  --subscription S, --agreement A, --basis B, --package ID[@VERSION]
  --consumer N, --provider N, --supplier N    organisation numbers
  --outcome permit|deny, --reason CODE, --shielded only|without
  --kind stream|backfill|lookup|door, --period MONTH
  --from T ≤ time of the decision < --to T
subject finds what was decided on one person, organisation or property (--kind). The
identifier is read from standard input and hashed here, under the key of each month;
months whose key was destroyed are named: they cannot be searched. That --actor
asked, for --reason, is written to the registry's log before the answer is shown:
without the identifier. What follows the first 1000 comes with --cursor, and is
logged again.
coverage accounts for every record: published = rejected + repeated + out of every
scope + in some scope, and decisions = permits + denials, for each partition. The
exit code is 1 where it does not balance. Decisions of the kinds backfill, lookup
and door lie scattered, and are counted beside: decisions = permits + denials.
fields sets what was agreed against what was delivered, for each agreement and
version of its rights package; 1 where something was delivered and not agreed.
expiring lists what ends or is due for review: agreements, legal bases, rights
packages, delegations; and how many consents, by consumer, dataset and purpose.
deviations lists what receivers said was wrong with what they were delivered, the
last changed first: --status is open (reported, received or confirmed), corrected,
refused or withdrawn. Receivers report and providers answer over HTTP.
obligations lists what withdrawn consents lay on those who had received by them, the
oldest first, and the receipts that they gave: --status is open (without a receipt),
overdue (of these, those whose time is up) or receipted. Receivers answer over HTTP.

At a URL:
  --token-file FILE    the access token of an auditor; read again for each request
  --state FILE         keep what was verified, and go on from there the next time: a
                       ledger that was rolled back or forked since is found

Whom to trust:
  --key VKEY|FILE      the ledger's public key. Without it, the key that the
                       broker has registered, the export or the proof names: then
                       what is checked is that it fits that key, not whose it is
  --witness VKEY|FILE  a witness's public key; may be given several times
  --need N             how many witnesses must have cosigned (all that are given)
` + placeHelp + `
Examples:
  datafordeler audit verify --data data
  datafordeler audit export --data data --out evidence
  datafordeler audit verify evidence --key ledger.vkey
  datafordeler audit verify https://broker.example --token-file token --key ledger.vkey --state seen
  datafordeler audit prove --data data --dataset inntekt --partition 0 --offset 17 --subscription oslo-sosialhjelp --out proof.json
  datafordeler audit explain --data data --dataset inntekt --partition 0 --offset 17 --subscription oslo-sosialhjelp --lang en
  datafordeler audit check proof.json --key ledger.vkey
  datafordeler audit search --data data --consumer 958935420 --outcome deny --from 2026-11-01
  datafordeler audit subject --data data --kind person --actor "archive at oslo" --reason "request for access" --csv < id.txt
  datafordeler audit coverage --data data --dataset inntekt --from 2026-11-01 --to 2026-12-01
  datafordeler audit fields --data data --json
  datafordeler audit expiring --data data --days 30
  datafordeler audit deviations --data data --status open
  datafordeler audit obligations --data data --status overdue

Exit codes: 0 all is well, 1 a fault, nothing found or --strict not content, 2 flags.
`,
		run: func(ctx context.Context, std stdio, args []string) error { return dispatch(ctx, std, auditVerbs, args) },
	}
}

var auditVerbs = []verb{
	{"verify", auditVerify}, {"prove", auditProve}, {"check", auditCheck}, {"explain", auditExplain}, {"export", auditExport}, {"status", auditStatus},
	{"search", auditSearch}, {"subject", auditSubject}, {"coverage", auditCoverage}, {"fields", auditFields}, {"expiring", auditExpiring},
	{"deviations", auditDeviations}, {"obligations", auditObligations},
}

// verb is the second word of a command.
type verb struct {
	name string
	run  func(context.Context, stdio, []string) error
}

// dispatch runs the verb that is asked for.
func dispatch(ctx context.Context, std stdio, verbs []verb, args []string) error {
	names := make([]string, len(verbs))
	for i, v := range verbs {
		names[i] = v.name
	}
	known := strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
	switch {
	case len(args) == 0:
		return usagef("what? %s", known)
	case args[0] == "-h" || args[0] == "--help":
		return flag.ErrHelp
	}
	i := slices.Index(names, args[0])
	if i < 0 {
		return usagef("no verb%s: %s", quoted(args[0]), known)
	}
	return verbs[i].run(ctx, std, args[1:])
}

// trustFlags are whom the one who asks trusts.
type trustFlags struct {
	key       string
	witnesses []string
	need      *int
}

func declareTrust(fs *flag.FlagSet) *trustFlags {
	t := &trustFlags{need: fs.Int("need", -1, "")}
	// An empty one is a mistake, such as a variable that is not set: to trust the
	// key that the ledger names instead would be to trust anybody.
	given := func(to func(string)) func(string) error {
		return func(s string) error {
			if s == "" {
				return errors.New("it is empty")
			}
			to(s)
			return nil
		}
	}
	fs.Func("key", "", given(func(s string) { t.key = s }))
	fs.Func("witness", "", given(func(s string) { t.witnesses = append(t.witnesses, s) }))
	return t
}

// policy is whom to trust. found are the keys that the ledger itself names, the
// log's first. Witnesses among them count only where they are configured: whoever
// makes a proof or an export can name witnesses of his own.
func (t *trustFlags) policy(origin string, found []string, need int, configured bool) (p *ledger.Policy, own bool, err error) {
	p = &ledger.Policy{Origin: origin}
	key := t.key
	if own = key == ""; own {
		if len(found) == 0 {
			return nil, false, errors.New("no key of the ledger is known: give it with --key")
		}
		key = found[0]
	}
	if p.Log, err = verifier("--key", key); err != nil {
		return nil, false, err
	}
	if p.Origin == "" || !own {
		p.Origin = p.Log.Name()
	}
	witnesses := t.witnesses
	switch {
	case len(witnesses) > 0:
		need = len(witnesses)
	case configured && len(found) > 1:
		witnesses = found[1:] // of the configuration that the one who asks named
	case *t.need > 0:
		return nil, false, usagef("--need: which witnesses? Give their keys with --witness: those that the evidence names prove nothing")
	default:
		need = 0
	}
	for _, w := range witnesses {
		v, err := verifier("--witness", w)
		if err != nil {
			return nil, false, err
		}
		p.Witnesses = append(p.Witnesses, v)
	}
	if p.Need = need; *t.need >= 0 {
		p.Need = *t.need
	}
	if p.Need > len(p.Witnesses) {
		return nil, false, usagef("--need: %d of %d witnesses", p.Need, len(p.Witnesses))
	}
	return p, own, p.Check()
}

// verifier reads a public key, or the file that holds it.
func verifier(flag, s string) (v interface {
	Name() string
	KeyHash() uint32
	Verify(msg, sig []byte) bool
}, err error) {
	text := s
	if !strings.Contains(s, "+") {
		b, err := os.ReadFile(s)
		if err != nil {
			return nil, usagef("%s: neither a public key (name+hash+key) nor a file that can be read: %w", flag, err)
		}
		text = strings.TrimSpace(string(b))
	}
	if v, err = ledger.ParseVerifier(text); err != nil {
		return nil, usagef("%s: %w", flag, err)
	}
	return v, nil
}

// registered is what the broker itself says of its ledger.
func (n *node) registered() (origin string, keys []string, need int, err error) {
	var l registry.Ledger
	n.control.View(func(st *registry.State) { l = st.Ledger() })
	if l.Key == "" {
		return "", nil, 0, errors.New("this broker has no ledger yet: it is begun when an instance first runs")
	}
	keys = []string{l.Key}
	for _, w := range n.cfg.Ledger.Witnesses {
		keys = append(keys, w.Key)
	}
	return l.Origin, keys, n.cfg.Ledger.Need, nil
}

// openLedger opens a broker for reading its evidence.
func openLedger(ctx context.Context, std stdio, where place, trust *trustFlags) (n *node, p *ledger.Policy, own bool, err error) {
	if n, err = where.open(ctx, std, false); err != nil {
		return nil, nil, false, err
	}
	origin, keys, need, err := n.registered()
	if err == nil {
		p, own, err = trust.policy(origin, keys, need, true)
	}
	if err != nil {
		n.close()
		return nil, nil, false, err
	}
	return n, p, own, nil
}

func auditStatus(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("audit status")
	where, trust := placeFlags(fs), declareTrust(fs)
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	n, policy, _, err := openLedger(ctx, std, where, trust)
	if err != nil {
		return err
	}
	defer n.close()
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	l, err := evidence.Open(reading, n.engine, n.cfg.Topics(), policy, 0, n.log)
	if err != nil {
		return err
	}
	defer l.Close()
	_, keys, _, err := n.registered()
	if err != nil {
		return err
	}
	h := l.Head()
	_, cosigners, _ := policy.Open(h.Note)
	out := struct {
		Origin    string   `json:"origin"`
		Key       string   `json:"key"`
		Entries   int64    `json:"entries"`
		Covered   int64    `json:"covered"`
		Root      string   `json:"root,omitempty"`
		Cosigners []string `json:"cosigners"`
		Need      int      `json:"need"`
		WaitSecs  float64  `json:"wait_seconds"`
	}{policy.Origin, keys[0], l.Size(), h.Size, "", []string{}, policy.Need, l.Age().Seconds()}
	if h.Size > 0 {
		out.Root = h.Root.String()
	}
	for _, c := range cosigners {
		out.Cosigners = append(out.Cosigners, c.Name)
	}
	if *asJSON {
		return printJSON(std.out, out, true)
	}
	fmt.Fprintf(std.out, "ledger    %s\nkey       %s\nentries   %s, of which %s are under a signed head that counts\n", out.Origin, out.Key, thousands(out.Entries), thousands(out.Covered))
	if out.Root != "" {
		fmt.Fprintf(std.out, "root      %s\n", out.Root)
	}
	if len(n.cfg.Ledger.Witnesses) > 0 {
		fmt.Fprintf(std.out, "witnesses %d of %d needed: %s\n", len(out.Cosigners), out.Need, strings.Join(out.Cosigners, ", "))
	}
	if out.WaitSecs > 0 {
		fmt.Fprintf(std.out, "waiting   the oldest decision has waited %.0f s for its head\n", out.WaitSecs)
	}
	return nil
}
