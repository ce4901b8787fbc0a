package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/providers/synthetic"
)

func protectionCommand() command {
	return command{
		name:    "protection",
		summary: "keep who is protected in step with the population register",
		help: `Usage: datafordeler protection import --source NAME [--sequence N] --actor NAME [--dry-run] [--wait 30s] < list
       datafordeler protection follow --source NAME --list URL --documents URL --actor NAME
                                      [--token-file FILE] [--from N] [--interval 30s] [--once]
       datafordeler protection status [--json]

A dataset on persons may have an attribute {name: …, register: protection}. Its value
is how the record's subject is protected when the record is decided on: ugradert,
klientadresse, fortrolig or strengtFortrolig; and nothing as long as the register has
not been read to its end, which rights packages take for protected.

import takes a whole list from standard input, "NUMBER GRADE" a line: whoever is not in
it is ugradert. With --sequence it is the register's as of that event. Numbers are hashed
here: they stand in no argument, log or event.
follow reads the register's list of events, {"hendelser": [{"sekvensnummer": …,
"hendelse": {"folkeregisteridentifikator": …, "persondokument": …}}]}, and fetches each
person document to see its adressebeskyttelse. It goes on from where the registry's log
says that it came to, and stops when the list does not go on from there.
An hour without news is said in the log too, so that the metric
datafordeler_register_read_timestamp_seconds tells when nobody follows any more.
  --list URL       the list, without its parameters fraSekvensnummer and antall
  --documents URL  where a person document is, with {persondokument} in it
  --from N         where to begin when nothing was imported: that the list holds
                   everybody from there on is for you to know
  --once           read to the list's end, and stop
` + placeHelp + `
Examples:
  datafordeler protection import --source folkeregisteret --sequence 81723 --actor "drift" --config broker.yaml < extract.txt
  datafordeler protection follow --source folkeregisteret --list https://folkeregisteret.example/v1/hendelser \
    --documents https://folkeregisteret.example/v1/persondokumenter/{persondokument} \
    --token-file token --actor "drift" --config broker.yaml
`,
		run: func(ctx context.Context, std stdio, args []string) error {
			return dispatch(ctx, std, protectionVerbs, args)
		},
	}
}

var protectionVerbs = []verb{{"import", protectionImport}, {"follow", protectionFollow}, {"status", protectionStatus}}

// protectionBatch is how many changes are one write: all of it stands, or none.
const protectionBatch = 500

// protect appends grades that differ from what stands, and then how far they reach.
func (n *node) protect(ctx context.Context, actor string, grades map[broker.SubjectKey]broker.Protection, sync *registry.ProtectionSync) (changed int, rev broker.Revision, err error) {
	keys := slices.SortedFunc(maps.Keys(grades), func(a, b broker.SubjectKey) int { return strings.Compare(a.String(), b.String()) })
	for {
		some := keys[:min(protectionBatch, len(keys))]
		keys = keys[len(some):]
		now := 0
		rev, err = n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
			var changes []registry.Change
			for _, k := range some {
				if st.Protected()[k] != grades[k] && (grades[k] != broker.Unprotected || st.Protected()[k] != "") {
					changes = append(changes, registry.SetProtection(registry.Protect{Subject: k, Grade: grades[k]}))
				}
			}
			now = len(changes)
			if len(keys) == 0 && sync != nil {
				changes = append(changes, registry.SyncProtection(*sync))
			}
			events, err := st.Link(notBefore(st, time.Now()), actor, changes...)
			if err != nil || len(events) == 0 {
				return nil, err
			}
			// A refusal lies in how far it reaches: that is last.
			var refused *registry.RefusedError
			if last, err := st.Link(notBefore(st, time.Now()), actor, changes[len(changes)-1]); err != nil {
				return nil, err
			} else if err := st.Check(last[0]); errors.As(err, &refused) {
				return nil, errors.New(refused.Reason)
			}
			return events, nil
		})
		if err != nil {
			return changed, rev, err
		}
		if changed += now; len(keys) == 0 {
			return changed, rev, nil
		}
	}
}

func protectionImport(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("protection import")
	where := placeFlags(fs)
	source := fs.String("source", "", "")
	sequence := fs.Int64("sequence", 0, "")
	actor := fs.String("actor", "", "")
	dry := fs.Bool("dry-run", false, "")
	wait := fs.Duration("wait", 30*time.Second, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if err := protectionFlags(*source, *actor); err != nil {
		return err
	}
	listed, err := readGrades(std.in)
	if err != nil {
		return err
	}
	n, err := where.open(ctx, std, true)
	if err != nil {
		return err
	}
	defer n.close()
	grades := make(map[broker.SubjectKey]broker.Protection, len(listed))
	for id, g := range listed {
		grades[n.ring.Subject(broker.Person, id)] = g
	}
	different := 0
	n.control.View(func(st *registry.State) {
		for k, g := range st.Protected() {
			if _, named := grades[k]; !named {
				grades[k] = broker.Unprotected
			}
			if grades[k] != g {
				different++
			}
		}
		for k, g := range grades {
			if _, stands := st.Protected()[k]; !stands && g != broker.Unprotected {
				different++
			}
		}
	})
	if *dry {
		fmt.Fprintf(std.out, "%d in the list, %d would change; dry run: nothing was written\n", len(listed), different)
		return nil
	}
	changed, rev, err := n.protect(ctx, *actor, grades, &registry.ProtectionSync{Source: *source, Sequence: *sequence, Current: true})
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%d in the list, %d changed\n", len(listed), changed)
	return n.reportBinding(ctx, std, rev, *wait)
}

func protectionFlags(source, actor string) error {
	switch {
	case source == "":
		return usagef("--source is missing: which register, or list, is it?")
	case actor == "":
		return usagef("--actor is missing: who decides this? It stands in the registry's log")
	}
	return nil
}

// readGrades reads "NUMBER GRADE" a line. Its errors hold no number.
func readGrades(r io.Reader) (map[string]broker.Protection, error) {
	all := map[string]broker.Protection{}
	sc := bufio.NewScanner(r)
	line := 0
	for sc.Scan() {
		line++
		words := strings.Fields(sc.Text())
		switch {
		case len(words) == 0:
			continue
		case len(words) != 2 || !synthetic.ValidNationalID(words[0]):
			return nil, usagef("standard input, line %d: want a national identity number, eleven digits whose check digits fit, and a grade", line)
		case !slices.Contains(broker.Protections, broker.Protection(words[1])):
			return nil, usagef("standard input, line %d: want a grade: one of %v", line, broker.Protections)
		case all[words[0]] != "":
			return nil, usagef("standard input, line %d: the number stands in the list before: keep one", line)
		}
		all[words[0]] = broker.Protection(words[1])
	}
	if errors.Is(sc.Err(), bufio.ErrTooLong) {
		return nil, usagef("standard input, line %d: more than %d characters; want a number and a grade a line", line+1, bufio.MaxScanTokenSize)
	}
	return all, sc.Err()
}

func protectionStatus(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("protection status")
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
	type status struct {
		Followed *registry.ProtectionState `json:"followed"` // nil: never
		Known    bool                      `json:"known"`    // whoever is not protected is known not to be
		Persons  map[broker.Protection]int `json:"persons"`
	}
	s := status{Persons: map[broker.Protection]int{}}
	n.control.View(func(st *registry.State) {
		if f, ok := st.ProtectionFollowed(); ok {
			s.Followed = &f
		}
		s.Known = st.Protection(broker.SubjectKey{}) != ""
		for _, g := range st.Protected() {
			s.Persons[g]++
		}
	})
	if *asJSON {
		return printJSON(std.out, s, true)
	}
	switch f := s.Followed; {
	case f == nil:
		fmt.Fprintln(std.out, "no register has been read: everybody is taken for protected")
	case !s.Known:
		fmt.Fprintf(std.out, "%s, to event %d at %s; its end was not reached yet: everybody is taken for protected\n", f.Source, f.Sequence, f.At.Format(time.RFC3339))
	default:
		fmt.Fprintf(std.out, "%s, to event %d at %s\n", f.Source, f.Sequence, f.At.Format(time.RFC3339))
	}
	for _, g := range broker.Protections[1:] {
		fmt.Fprintf(std.out, "%-17s %s\n", g, thousands(int64(s.Persons[g])))
	}
	return nil
}

func protectionFollow(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("protection follow")
	where := placeFlags(fs)
	f := follower{alive: followerAlive}
	fs.StringVar(&f.source, "source", "", "")
	fs.StringVar(&f.list, "list", "", "")
	fs.StringVar(&f.documents, "documents", "", "")
	fs.StringVar(&f.actor, "actor", "", "")
	tokenFile := fs.String("token-file", "", "")
	fs.Int64Var(&f.from, "from", 0, "")
	fs.DurationVar(&f.interval, "interval", 30*time.Second, "")
	fs.BoolVar(&f.once, "once", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if err := errors.Join(protectionFlags(f.source, f.actor), f.check()); err != nil {
		return usageError{err}
	}
	if *tokenFile != "" {
		f.token = tokenFrom(*tokenFile)
		if _, err := f.token(ctx); err != nil {
			return usagef("--token-file: %w", err)
		}
	}
	n, err := where.open(ctx, std, true)
	if err != nil {
		return err
	}
	defer n.close()
	f.node, f.log = n, commandLog(std.err, slog.LevelInfo)
	return f.run(ctx, std)
}
