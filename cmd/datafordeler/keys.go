package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
)

func keysCommand() command {
	return command{
		name:    "keys",
		summary: "the keystore: list, extend, back up, check, restore, destroy a period",
		help: `Usage: datafordeler keys list [--json]
       datafordeler keys extend --actor NAME [--years 10] [--dry-run]
       datafordeler keys backup --out FILE|- [--beside]
       datafordeler keys check FILE|- [--json]
       datafordeler keys restore FILE|- [--strip] [--replace]
       datafordeler keys destroy --period 2026-01 --actor NAME --reason TEXT
                                 [--force] [--yes] [--dry-run] [--wait 30s]

The keystore is a file: stable keys, by which cases, consents and repeats are
found again, and one key a month for the pseudonyms that stand in decisions.
All instances hold copies of one; its fingerprint stands in the registry.

list     what it covers, what is destroyed, and whether it is the one registered.
         1 where anything is wrong.
extend   makes the keys of more months, ahead of time, and registers the new
         fingerprint. The other instances need the file before their next start.
backup   writes a copy that only its owner may read, never into the data
         directory nor over a file, and beside the keystore only with --beside.
         - is standard output, for a program that encrypts.
check    says whether a copy fits, and which destroyed keys it still holds. 1 where
         it does not fit, or holds any.
restore  puts a copy where the keystore belongs. It refuses one that would bring
         a destroyed key back; --strip leaves those keys out. --replace puts it
         over a keystore that is damaged or not this broker's.
destroy  ends a month that is over, for good: whose that month's decisions were
         can never be found again, and every proof over them still verifies. It is
         an event in the registry: each instance destroys the key in its own
         copy as it reads it, and at its next start. It asks first; --yes answers.
         --force where records of that month are still in the sources.

The guide: docs/guides/keys-and-retention.md.
` + placeHelp + `
Examples:
  datafordeler keys list --config broker.yaml
  datafordeler keys backup --out - --config broker.yaml | age -r KEY > keys-2026-11.age
  age -d keys-2026-11.age | datafordeler keys check - --config broker.yaml
  datafordeler keys destroy --period 2026-01 --actor "archivist at digdir" \
      --reason "kept for as long as was agreed" --config broker.yaml --dry-run
`,
		run: func(ctx context.Context, std stdio, args []string) error {
			if len(args) == 0 {
				return usagef("what? list, extend, backup, check, restore or destroy")
			}
			switch verb, rest := args[0], args[1:]; verb {
			case "list":
				return keysList(ctx, std, rest)
			case "extend":
				return keysExtend(ctx, std, rest)
			case "backup":
				return keysBackup(ctx, std, rest)
			case "check":
				return keysCheck(ctx, std, rest)
			case "restore":
				return keysRestore(ctx, std, rest)
			case "destroy":
				return keysDestroy(ctx, std, rest)
			case "-h", "--help":
				return flag.ErrHelp
			default:
				return usagef("no verb%s: list, extend, backup, check, restore or destroy", quoted(verb))
			}
		},
	}
}

// standing is what control says of keystores.
type standing struct {
	registered string
	at         time.Time // when
	destroyed  []registry.Destroyed
	// formerly says when a fingerprint was registered.
	formerly func(check string) (time.Time, bool)
}

func (n *node) standing() (s standing) {
	n.control.View(func(st *registry.State) {
		s = standing{registered: st.Keystore(), destroyed: st.DestroyedPeriods()}
		s.at, _ = st.KeystoreRegisteredAt(s.registered)
	})
	s.formerly = func(check string) (at time.Time, ok bool) {
		n.control.View(func(st *registry.State) { at, ok = st.KeystoreRegisteredAt(check) })
		return at, ok
	}
	return s
}

func (s *standing) periods() (out []string) {
	for _, d := range s.destroyed {
		out = append(out, d.Period)
	}
	return out
}

// misfit says why a keystore is not the one registered; "" where it is.
func (s *standing) misfit(store keys.Store, i keys.Info) string {
	if i.Check == s.registered {
		return ""
	}
	if s.registered == "" {
		return "no keystore is registered yet, so there is nothing to hold it against: the broker registers its keystore when it starts"
	}
	if ok, err := keys.Extends(store, s.registered); err == nil && ok {
		return fmt.Sprintf("it was extended and its new fingerprint %s is not registered: run datafordeler keys extend", i.Check)
	}
	if at, ok := s.formerly(i.Check); ok {
		return fmt.Sprintf("it is from before the keystore was extended (fingerprint %s, registered %s): it lacks the keys made since", i.Check, at.Format(time.DateOnly))
	}
	return fmt.Sprintf("it is another keystore (fingerprint %s, registered %s)", i.Check, s.registered)
}

type listedPeriod struct {
	Period    string     `json:"period"`
	Held      bool       `json:"held"`
	Destroyed bool       `json:"destroyed,omitempty"` // as control says
	At        *time.Time `json:"at,omitempty"`
	Actor     string     `json:"actor,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	Revision  uint64     `json:"revision,omitempty"`
}

type keysReport struct {
	Path        string         `json:"path"`
	Mode        string         `json:"mode,omitempty"`
	Made        *time.Time     `json:"made,omitempty"`
	Fingerprint string         `json:"fingerprint,omitempty"`
	Registered  string         `json:"registered,omitempty"`
	First       string         `json:"first,omitempty"`
	Last        string         `json:"last,omitempty"`
	RunsOut     *time.Time     `json:"runs_out,omitempty"`
	Periods     []listedPeriod `json:"periods,omitempty"`
	Faults      []string       `json:"faults,omitempty"`
	Warnings    []string       `json:"warnings,omitempty"`
}

// report holds a keystore, or a copy, against what control says.
func (s *standing) report(store keys.Store, i keys.Info, now time.Time) keysReport {
	r := keysReport{Path: store.String(), Made: &i.Made, Fingerprint: i.Check, Registered: s.registered}
	r.First, r.Last = i.Covers()
	if why := s.misfit(store, i); why != "" {
		r.Faults = append(r.Faults, why)
	}
	for _, p := range i.Periods {
		l := listedPeriod{Period: p.Period, Held: !p.Destroyed}
		for _, d := range s.destroyed {
			if d.Period == p.Period {
				l.Destroyed, l.At, l.Actor, l.Reason, l.Revision = true, &d.At, d.Actor, d.Reason, uint64(d.Revision)
			}
		}
		switch {
		case l.Held && l.Destroyed:
			r.Faults = append(r.Faults, fmt.Sprintf("IT STILL HOLDS THE KEY OF %s, WHICH WAS DESTROYED on %s by %s (revision %d)", p.Period, l.At.Format(time.DateOnly), l.Actor, l.Revision))
		case !l.Held && !l.Destroyed:
			r.Warnings = append(r.Warnings, fmt.Sprintf("the key of %s is gone from it, and no event says that it was destroyed: other copies may hold it", p.Period))
		}
		r.Periods = append(r.Periods, l)
	}
	if last, err := time.Parse("2006-01", r.Last); err == nil {
		out := last.AddDate(0, 1, 0)
		r.RunsOut = &out
		if out.Before(now.AddDate(1, 0, 0)) {
			r.Warnings = append(r.Warnings, fmt.Sprintf("its last key runs out on %s, and nothing is decided from then on: run datafordeler keys extend", out.Format(time.DateOnly)))
		}
	}
	return r
}

// print writes the report for whoever reads it; the error is its faults.
func (r *keysReport) print(std stdio, asJSON bool) error {
	if asJSON {
		if err := printJSON(std.out, r, true); err != nil {
			return err
		}
	} else {
		mode := ""
		if r.Mode != "" {
			mode = ", mode " + r.Mode
		}
		fmt.Fprintf(std.out, "keystore     %s%s\n", r.Path, mode)
		if r.Made != nil {
			fmt.Fprintf(std.out, "made         %s\n", r.Made.Format(time.RFC3339))
			fmt.Fprintf(std.out, "fingerprint  %s\n", r.Fingerprint)
		}
		same := ""
		if r.Registered == r.Fingerprint && r.Registered != "" {
			same = ", the same"
		}
		fmt.Fprintf(std.out, "registered   %s%s\n", orNone(r.Registered), same)
		if r.RunsOut != nil {
			fmt.Fprintf(std.out, "covers       %s to %s, %d months; the last runs out on %s\n", r.First, r.Last, len(r.Periods), r.RunsOut.Format(time.DateOnly))
		}
		for _, p := range r.Periods {
			if p.Destroyed {
				fmt.Fprintf(std.out, "destroyed    %s  on %s by %s, revision %d: %s\n", p.Period, p.At.Format(time.DateOnly), p.Actor, p.Revision, p.Reason)
			}
		}
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(std.err, "warning:", w)
	}
	if len(r.Faults) > 0 {
		return fmt.Errorf("%s: %s", r.Path, strings.Join(r.Faults, "\n  "))
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func keysList(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("keys list")
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
	file, s := n.keystore(), n.standing()
	i, err := keys.Inspect(file)
	if isMissing(err) {
		r := keysReport{Path: file.String(), Registered: s.registered}
		if s.registered == "" {
			r.Warnings = []string{"there is no keystore yet: it is made on the first run"}
		} else {
			r.Faults = []string{"it is not there: put a copy of it back (datafordeler keys restore)"}
		}
		return r.print(std, *asJSON)
	}
	if err != nil {
		return err
	}
	r := s.report(file, i, time.Now())
	if info, err := os.Stat(file.String()); err == nil {
		r.Mode = fmt.Sprintf("%04o", info.Mode().Perm())
	}
	if s.registered == "" { // nothing to be wrong about
		r.Warnings, r.Faults = append(r.Warnings, r.Faults...), nil
	}
	return r.print(std, *asJSON)
}

func (n *node) keystore() keys.File {
	path := n.cfg.keystorePath()
	if full, err := filepath.Abs(path); err == nil {
		path = full
	}
	return keys.File(path)
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func keysExtend(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("keys extend")
	where := placeFlags(fs)
	actor := fs.String("actor", "", "")
	years := fs.Int("years", keys.Years, "")
	dry := fs.Bool("dry-run", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *actor == "" {
		return usagef("--actor is missing: who decides this? It stands in the registry's log")
	}
	if *years < 1 || *years > 50 {
		return usagef("--years is %d: want 1 to 50, counted from this month", *years)
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	file, s := n.keystore(), n.standing()
	i, err := keys.Inspect(file)
	if err != nil {
		return err
	}
	pending := false // extended before, and stopped short of registering it
	if i.Check != s.registered {
		if pending, err = keys.Extends(file, s.registered); err != nil || !pending {
			return errors.Join(err, fmt.Errorf("the keystore %s cannot be extended: %s", file, s.misfit(file, i)))
		}
	}
	if *dry {
		b, err := file.Read()
		if err != nil {
			return err
		}
		scratch := &keys.Bytes{Name: file.String(), Data: b}
		added, err := keys.Extend(scratch, time.Now(), *years)
		if err != nil {
			return err
		}
		if i, err = keys.Inspect(scratch); err != nil {
			return err
		}
		first, last := i.Covers()
		fmt.Fprintf(std.out, "%d months would be added: %s to %s\ndry run: nothing was written\n", added, first, last)
		return nil
	}
	// The file first: a fingerprint that is registered must be of keys that are
	// somewhere. If we stop here, the same command again goes on.
	added, err := keys.Extend(file, time.Now(), *years)
	if err != nil {
		return err
	}
	if i, err = keys.Inspect(file); err != nil {
		return err
	}
	if added == 0 && !pending {
		_, last := i.Covers()
		fmt.Fprintf(std.out, "it reaches to %s already: nothing to do\n", last)
		return nil
	}
	rev, err := n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		switch st.Keystore() {
		case i.Check:
			return nil, nil
		case s.registered:
			return st.Link(time.Now(), *actor, registry.RegisterKeystore(i.Check, s.registered))
		}
		return nil, fmt.Errorf("another copy was extended meanwhile (fingerprint %s): put a copy of that one at %s", st.Keystore(), file)
	})
	if err != nil {
		return fmt.Errorf("%s was extended, and that is not registered: %w", file, err)
	}
	first, last := i.Covers()
	fmt.Fprintf(std.out, "added %d months: it covers %s to %s\nfingerprint %s, registered at revision %d\n", added, first, last, i.Check, rev)
	fmt.Fprintf(std.out, `Now:
  copy %s to every other instance, with mode 0600;
  what runs goes on, and an instance that starts without the new file refuses to;
  make new backups (datafordeler keys backup) and destroy the old ones: they lack these keys.
`, file)
	return nil
}

// within also resolves links, so that a linked directory is not a way in.
func insideDir(dir, path string) bool {
	if within(dir, path) {
		return true
	}
	d, err1 := filepath.EvalSymlinks(dir)
	p, err2 := filepath.EvalSymlinks(filepath.Dir(path))
	return err1 == nil && err2 == nil && within(d, filepath.Join(p, filepath.Base(path)))
}

func joined(periods []string) string {
	slices.Sort(periods)
	return strings.Join(periods, ", ")
}
