package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

func unitsCommand() command {
	return command{
		name:    "units",
		summary: "keep which organisations are no more in step with their register",
		help: `Usage: datafordeler units import --actor NAME [--kind organisation|property] [--dry-run] [--wait 30s] < list
       datafordeler units follow --source NAME --list URL --actor NAME
                                 [--token-file FILE] [--from N] [--interval 30s] [--once]
       datafordeler units status [--json]

The agreements and delegations of an organisation that was deleted or merged count as
ended from when that is recorded, and nobody comes in on its behalf. Nothing passes to
whoever took over: it needs an agreement of its own. What was registered on a subject
that was merged, such as a case, holds for whoever took over, where the dataset says
subject: {kind: organisation, follow: true}.

import takes a list from standard input, a line each:
  NUMBER deleted DATE
  NUMBER merged DATE SUCCESSOR
  NUMBER restored                     it was a mistake
With --kind property the numbers are those of properties, which are merged or restored:
what concerned one concerns the other since.
follow reads Enhetsregisteret's updates, {"_embedded": {"oppdaterteEnheter":
[{"oppdateringsid": …, "dato": …, "organisasjonsnummer": …, "endringstype": …}]}}, from
where the registry's log says that it came to. A deletion there does not say who took
over: import tells. An hour without news is said in the log too, so that the metric
datafordeler_register_read_timestamp_seconds tells when nobody follows any more.
  --list URL       the list, without its parameters oppdateringsid and size
  --from N         the update to begin with where none was followed before
  --once           read to the list's end, and stop
` + placeHelp + `
Examples:
  echo "123456785 merged 2026-11-01 987654325" | datafordeler units import --actor "drift" --config broker.yaml
  datafordeler units follow --source enhetsregisteret --list https://data.brreg.no/enhetsregisteret/api/oppdateringer/enheter \
    --from 20000000 --actor "drift" --config broker.yaml
  datafordeler units status --config broker.yaml
`,
		run: func(ctx context.Context, std stdio, args []string) error {
			return dispatch(ctx, std, unitsVerbs, args)
		},
	}
}

var unitsVerbs = []verb{{"import", unitsImport}, {"follow", unitsFollow}, {"status", unitsStatus}}

// unitChange is what a list says of an organisation or a property.
type unitChange struct {
	id        string
	what      unitWord
	on        time.Time
	successor string // of a merger
}

type unitWord string

const (
	unitDeleted  unitWord = "deleted"
	unitMerged   unitWord = "merged"
	unitRestored unitWord = "restored"
)

// changes is what the registry does not say yet of those in the list.
func (n *node) unitChanges(st *registry.State, kind broker.SubjectKind, all []unitChange) (changes []registry.Change) {
	for _, u := range all {
		if kind == broker.OrganisationSubject {
			old, ended := st.Ended(broker.OrgNumber(u.id))
			switch {
			case u.what == unitRestored && ended && (u.on.IsZero() || !u.on.Before(old.On)): // an update from before the end says nothing of it
				changes = append(changes, registry.RestoreUnit(broker.OrgNumber(u.id)))
			case u.what == unitMerged && (!ended || old.Successor == ""), u.what == unitDeleted && !ended:
				changes = append(changes, registry.EndUnit(registry.UnitEnd{Organisation: broker.OrgNumber(u.id), On: u.on, Successor: broker.OrgNumber(u.successor)}))
			case u.what == unitMerged && string(old.Successor) != u.successor: // it was said otherwise
				changes = append(changes, registry.RestoreUnit(broker.OrgNumber(u.id)),
					registry.EndUnit(registry.UnitEnd{Organisation: broker.OrgNumber(u.id), On: u.on, Successor: broker.OrgNumber(u.successor)}))
			}
		}
		if u.what == unitRestored && u.on.IsZero() {
			v := registry.SubjectSuccession{Subject: n.ring.Subject(kind, u.id)}
			if _, known := st.Successor(v.Subject); known {
				changes = append(changes, registry.SucceedSubject(v))
			}
		}
		if u.what == unitMerged {
			v := registry.SubjectSuccession{Subject: n.ring.Subject(kind, u.id), Successor: n.ring.Subject(kind, u.successor)}
			if k, known := st.Successor(v.Subject); !known || k != v.Successor {
				changes = append(changes, registry.SucceedSubject(v))
			}
		}
	}
	return changes
}

// unitsAtOnce is how many are one write: all of it stands, or none.
const unitsAtOnce = 200

// endUnits appends what is new, and then how far it reaches. Each write's first change
// that cannot be is its error.
func (n *node) endUnits(ctx context.Context, actor string, kind broker.SubjectKind, all []unitChange, sync *registry.UnitSync) (changed int, rev broker.Revision, err error) {
	for {
		some := all[:min(unitsAtOnce, len(all))]
		all = all[len(some):]
		now := 0
		rev, err = n.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
			changes := n.unitChanges(st, kind, some)
			now = len(changes)
			if len(all) == 0 && sync != nil {
				changes = append(changes, registry.SyncUnits(*sync))
			}
			if len(changes) == 0 {
				return nil, nil
			}
			if err := st.Foresee(changes); err != nil {
				return nil, err
			}
			return st.Link(notBefore(st, time.Now()), actor, changes...)
		})
		if err != nil {
			return changed, rev, err
		}
		if changed += now; len(all) == 0 {
			return changed, rev, nil
		}
	}
}

func unitsImport(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("units import")
	where := placeFlags(fs)
	kind := fs.String("kind", string(broker.OrganisationSubject), "")
	actor := fs.String("actor", "", "")
	dry := fs.Bool("dry-run", false, "")
	wait := fs.Duration("wait", 30*time.Second, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	of := broker.SubjectKind(*kind)
	switch {
	case of != broker.OrganisationSubject && of != broker.PropertySubject:
		return usagef("--kind: want %s or %s, not %q", broker.OrganisationSubject, broker.PropertySubject, *kind)
	case *actor == "":
		return usagef("--actor is missing: who decides this? It stands in the registry's log")
	}
	list, err := readUnits(std.in, of, time.Now())
	if err != nil {
		return err
	}
	n, err := where.open(ctx, std, true)
	if err != nil {
		return err
	}
	defer n.close()
	var agreements []broker.AgreementID
	different := 0
	n.control.View(func(st *registry.State) {
		different = len(n.unitChanges(st, of, list))
		if of == broker.OrganisationSubject {
			agreements = endsWith(st, list)
		}
	})
	for _, id := range agreements {
		fmt.Fprintf(std.out, "agreement %s has a party that is no more, and counts as ended\n", id)
	}
	if *dry {
		fmt.Fprintf(std.out, "%d in the list, %d changes; dry run: nothing was written\n", len(list), different)
		return nil
	}
	changed, rev, err := n.endUnits(ctx, *actor, of, list, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%d in the list, %d changes\n", len(list), changed)
	if changed == 0 {
		return nil
	}
	unkept := n.keepKafkaAccess(ctx, std.out)
	return errors.Join(unkept, n.reportBinding(ctx, std, rev, *wait))
}

// endsWith are the agreements in force of those who end.
func endsWith(st *registry.State, list []unitChange) (ids []broker.AgreementID) {
	ends := map[broker.OrgNumber]bool{}
	for _, u := range list {
		if u.what != unitRestored {
			ends[broker.OrgNumber(u.id)] = true
		}
	}
	for _, a := range st.Agreements() {
		if a.Status != broker.Ended && (ends[a.Consumer] || ends[a.Supplier] || ends[a.Provider]) {
			ids = append(ids, a.ID)
		}
	}
	return ids
}

// readUnits reads a change a line. Its errors hold no number: a property's may lead to a
// person.
func readUnits(r io.Reader, kind broker.SubjectKind, now time.Time) (all []unitChange, err error) {
	valid := func(id string) bool { return id != "" && len(id) <= 100 }
	if kind == broker.OrganisationSubject {
		valid = func(id string) bool { _, err := broker.ParseOrgNumber(id); return err == nil }
	}
	seen := map[string]bool{}
	sc := bufio.NewScanner(r)
	line := 0
	for sc.Scan() {
		line++
		words := strings.Fields(sc.Text())
		if len(words) == 0 {
			continue
		}
		bad := func(want string) ([]unitChange, error) {
			return nil, usagef("standard input, line %d: want %s", line, want)
		}
		if len(words) < 2 || !valid(words[0]) {
			return bad(`a number and what became of it, such as "123456785 merged 2026-11-01 987654325"`)
		}
		u := unitChange{id: words[0], what: unitWord(words[1])}
		words = words[2:]
		if u.what != unitRestored && len(words) > 0 {
			if u.on, err = time.Parse(time.DateOnly, words[0]); err != nil {
				return bad("the day as 2026-11-01")
			}
			words = words[1:]
		}
		switch {
		case u.on.After(now):
			return bad("a day that has come: what is recorded binds at once")
		case seen[u.id]:
			return bad("each number once")
		case u.what == unitMerged && (u.on.IsZero() || len(words) != 1 || !valid(words[0])):
			return bad("merged DATE SUCCESSOR")
		case u.what == unitMerged:
			u.successor = words[0]
		case kind == broker.PropertySubject && u.what != unitRestored:
			return bad("merged or restored: that is all that becomes of a property here")
		case u.what == unitDeleted && (u.on.IsZero() || len(words) > 0):
			return bad("deleted DATE")
		case u.what == unitRestored && len(words) > 0:
			return bad("nothing after restored")
		case u.what != unitDeleted && u.what != unitRestored:
			return bad("deleted, merged or restored after the number")
		}
		seen[u.id] = true
		all = append(all, u)
	}
	if errors.Is(sc.Err(), bufio.ErrTooLong) {
		return nil, usagef("standard input, line %d: more than %d characters", line+1, bufio.MaxScanTokenSize)
	}
	return all, sc.Err()
}

func unitsStatus(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("units status")
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
	type party struct {
		registry.EndedUnit
		Name       string               `json:"name,omitempty"`
		Agreements []broker.AgreementID `json:"agreements"` // that count as ended by it
	}
	type status struct {
		Followed *registry.UnitState `json:"followed"` // nil: never
		Ended    int                 `json:"ended"`    // organisations that are no more, as far as is known
		Parties  []party             `json:"parties"`  // those of them that the registry declares
	}
	s := status{Parties: []party{}}
	n.control.View(func(st *registry.State) {
		if f, ok := st.UnitsFollowed(); ok {
			s.Followed = &f
		}
		for _, u := range st.EndedUnits() {
			s.Ended++
			o := st.Organisation(u.Organisation)
			if o == nil {
				continue
			}
			p := party{EndedUnit: u, Name: o.Name, Agreements: []broker.AgreementID{}}
			p.Agreements = append(p.Agreements, endsWith(st, []unitChange{{id: string(u.Organisation)}})...)
			s.Parties = append(s.Parties, p)
		}
	})
	if *asJSON {
		return printJSON(std.out, s, true)
	}
	if f := s.Followed; f == nil {
		fmt.Fprintln(std.out, "no register has been followed")
	} else {
		fmt.Fprintf(std.out, "%s, to update %d at %s\n", f.Source, f.Sequence, f.At.Format(time.RFC3339))
	}
	fmt.Fprintf(std.out, "%s organisations are no more, %d of them declared here\n", thousands(int64(s.Ended)), len(s.Parties))
	for _, p := range s.Parties {
		what := "deleted"
		if p.Successor != "" {
			what = "merged into " + string(p.Successor)
		}
		fmt.Fprintf(std.out, "%s %s: %s on %s\n", p.Organisation, p.Name, what, p.On.Format(time.DateOnly))
		for _, id := range p.Agreements {
			fmt.Fprintf(std.out, "  agreement %s counts as ended: end it (status: ended), and agree with whoever took over\n", id)
		}
	}
	return nil
}

func unitsFollow(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("units follow")
	where := placeFlags(fs)
	f := unitFollower{alive: followerAlive}
	fs.StringVar(&f.source, "source", "", "")
	fs.StringVar(&f.list, "list", "", "")
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
