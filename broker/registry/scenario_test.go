package registry

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
)

var update = flag.Bool("update", false, "write what the scenarios give as what they should give")

// Each file of testdata is a story: a command, what it is given, "----", and what
// it answers up to an empty line. Lines that begin with # are for whoever reads.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out := (&story{t: t, state: New()}).tell(string(b))
			if *update {
				if err := os.WriteFile(f, []byte(out), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if out != string(b) {
				t.Errorf("%s (go test -run TestScenarios -update writes it anew):\n%s", f, firstDifference(string(b), out))
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			return fmt.Sprintf("line %d\nwant %s\ngot  %s", i+1, strings.Join(w[min(i, len(w)):min(i+12, len(w))], "\n     "), strings.Join(g[min(i, len(g)):min(i+12, len(g))], "\n     "))
		}
	}
	return ""
}

type story struct {
	t     *testing.T
	state *State
	log   []Event // all ever appended, losers too
	other []Event // a rival's, linked and not yet appended
}

func (s *story) tell(text string) string {
	var out strings.Builder
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		out.WriteString(lines[i] + "\n")
		if lines[i] == "" || lines[i][0] == '#' {
			continue
		}
		command := lines[i]
		var body []string
		for i++; i < len(lines) && lines[i] != "----"; i++ {
			out.WriteString(lines[i] + "\n")
			body = append(body, lines[i])
		}
		out.WriteString("----\n")
		for i++; i < len(lines) && lines[i] != ""; i++ {
		}
		out.WriteString(strings.TrimRight(s.do(command, strings.Join(body, "\n")), "\n") + "\n")
		if i < len(lines) {
			out.WriteString("\n")
		}
	}
	// Whoever reads the log from its beginning comes to the same.
	again := New()
	for _, e := range s.log {
		if _, err := again.Fold(e); err != nil {
			s.t.Fatal(err)
		}
	}
	if again.Hash() != s.state.Hash() {
		s.t.Error("folding the log again gives another state")
	}
	return out.String()
}

func (s *story) do(command, body string) string {
	words := strings.Fields(command)
	arg := map[string]string{}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		arg[k] = v
	}
	at := now
	if v := arg["at"]; v != "" {
		at = must(broker.ParseTime(v))
	}
	subject := subjectNamed(arg["subject"])
	sub := broker.SubscriptionID(arg["subscription"])
	agreement := broker.AgreementID(arg["agreement"])
	interval := broker.Interval{From: must(broker.ParseTime(arg["from"])), To: must(broker.ParseTime(arg["to"]))}
	switch words[0] {
	case "given":
		docs, err := Load(filepath.Join("testdata", words[1]))
		if err != nil {
			return err.Error()
		}
		return s.apply(docs)
	case "apply", "dry-run":
		docs, faults := read("in.yaml", []byte(body))
		if err := faults.err(); err != nil {
			return err.Error()
		}
		if words[0] == "dry-run" {
			p, err := NewPlan(s.state, docs, "test", now)
			if err != nil {
				return err.Error()
			}
			return p.String()
		}
		return s.apply(docs)
	case "open-case":
		return s.append(OpenCase(broker.Case{ID: broker.CaseID(arg["case"]), Subscription: sub, Subject: subject, Open: interval}))
	case "end-case":
		return s.append(EndCase(sub, broker.CaseID(arg["case"]), at))
	case "give-consent":
		return s.append(GiveConsent(broker.Consent{ID: broker.ConsentID(arg["consent"]), Subject: subject, Consumer: broker.OrgNumber(arg["consumer"]),
			Dataset: broker.DatasetID(arg["dataset"]), Purpose: broker.Purpose(arg["purpose"]), Valid: interval}))
	case "withdraw-consent":
		return s.append(WithdrawConsent(broker.ConsentID(arg["consent"]), at))
	case "withdraw-delegation":
		return s.append(WithdrawDelegation(broker.DelegationID(arg["delegation"]), at))
	case "lease":
		return s.append(LeaseBudget(agreement, [16]byte{1}, int32(number(arg["partition"])), number(arg["amount"])))
	case "keystore":
		return s.append(RegisterKeystore(arg["check"], arg["replaces"]))
	case "destroy":
		return s.append(DestroyPeriod(Destruction{Period: arg["period"], Check: arg["check"], Reason: strings.ReplaceAll(arg["reason"], "_", " ")}))
	case "look-up":
		return s.append(LookUpSubject(SubjectLookup{Reason: strings.ReplaceAll(arg["reason"], "_", " "), Periods: int(number(arg["periods"])), Found: number(arg["found"])}))
	case "ledger":
		return s.append(RegisterLedger(Ledger{Origin: arg["origin"], Key: arg["key"], Replaces: arg["replaces"]}))
	case "policy":
		return s.append(ActivatePolicy(Policy{Digest: arg["digest"], Modules: map[string]string{"a.rego": "package a"}}))
	case "rival": // validates on this revision, and appends later
		s.other = must(s.state.Link(now, "rival", OpenCase(broker.Case{ID: "rival-1", Subscription: sub, Subject: subject, Open: interval}),
			OpenCase(broker.Case{ID: "rival-2", Subscription: sub, Subject: subject, Open: interval})))
		return fmt.Sprintf("two events linked on revision %d", s.state.Revision())
	case "rival-appends":
		return s.fold(s.other...)
	case "listed":
		var out []string
		for _, id := range s.state.Listed(nil, broker.DatasetID(arg["dataset"]), subject) {
			out = append(out, string(id))
		}
		return "[" + strings.Join(out, " ") + "]"
	case "cases":
		var out []string
		for _, i := range s.state.Cases(nil, sub, subject) {
			out = append(out, span(i))
		}
		return strings.Join(append(out, fmt.Sprintf("%d", len(out))), "\n")
	case "consents":
		var out strings.Builder
		for _, c := range s.state.Consents(nil, broker.OrgNumber(arg["consumer"]), broker.DatasetID(arg["dataset"]), broker.Purpose(arg["purpose"]), subject) {
			fmt.Fprintf(&out, "%s %s", c.ID, span(c.Valid))
			if !c.Withdrawn.IsZero() {
				fmt.Fprintf(&out, " withdrawn %s", c.Withdrawn.Format("2006-01-02"))
			}
			out.WriteByte('\n')
		}
		return out.String() + "."
	case "terms":
		x := s.state.Terms(sub)
		if x == nil {
			return "none"
		}
		out := fmt.Sprintf("%s of %s %s: %s/%d to %s, mailbox %s", x.Subscription.ID, x.Consumer.Name, x.Agreement.Status, x.Package.ID, x.Package.Version, x.Agreement.Receiver(), x.Mailbox.ID)
		for _, b := range x.Bases {
			out += "\nbasis " + string(b.ID) + " " + span(b.Valid)
		}
		for _, d := range x.Delegations {
			out += "\ndelegation " + string(d.ID) + " " + span(d.Valid)
		}
		return out
	case "budget":
		return fmt.Sprintf("granted %d, unleased %d", s.state.Granted(agreement, [16]byte{1}, int32(number(arg["partition"]))), s.state.Unleased(agreement))
	case "retention":
		r := s.state.Retention(RetentionDefaults{Source: 90 * day1, Rejected: 30 * day1, Deliveries: 30 * day1})
		line := func(topic string, k Kept) string {
			return fmt.Sprintf("%s: %d days (%s)\n", topic, k.For/day1, k.Why)
		}
		var out string
		for _, d := range sortedKeys(r.Source) {
			out += line("source."+string(d), r.Source[d]) + line("rejected."+string(d), r.Rejected[d])
		}
		for _, m := range sortedKeys(r.Mailbox) {
			out += line("mailbox."+string(m), r.Mailbox[m])
		}
		return out + line("deliveries", r.Deliveries)
	case "missing":
		return s.state.Missing(agreement, now).String()
	case "status":
		return string(s.state.Agreement(agreement).Status)
	case "gaps":
		var out strings.Builder
		for _, g := range s.state.Gaps(at) {
			fmt.Fprintf(&out, "%s%s for %s: %s %v, %d organisations of %v, bases %v\n", g.Dataset, g.Concept, g.Purpose, g.Why, g.Sides, len(g.Organisations), g.Sectors, g.Bases)
		}
		return out.String() + "."
	case "parties":
		var out strings.Builder
		var first broker.Digest
		for _, p := range s.state.Parties(broker.AgreementID(arg["framework"])) {
			if first.IsZero() {
				first = p.Terms
			}
			fmt.Fprintf(&out, "%s %s %s same terms %v deviations %v\n", p.Organisation, p.Agreement, p.Status, p.Terms == first, p.Deviations)
		}
		return out.String() + "."
	case "revision":
		return fmt.Sprintf("revision %d, structure %d, %d subjects", s.state.Revision(), s.state.Structure(), s.state.Subjects())
	}
	s.t.Fatalf("scenario has the command %q, which is not known", words[0])
	return ""
}

func (s *story) apply(docs []Document) string {
	p, err := NewPlan(s.state, docs, "test", now)
	if err != nil {
		return err.Error()
	}
	if r := s.fold(p.Events...); strings.Contains(r, "not") {
		s.t.Errorf("a plan was refused: %s", r)
	}
	if again, err := NewPlan(s.state, docs, "test", now); err != nil || len(again.Events) != 0 {
		s.t.Errorf("applied again, it would change: %v %v", again, err)
	}
	return fmt.Sprintf("%d created, %d updated, %d as they were: revision %d", p.Count(Create), p.Count(Update), p.Count(Same), s.state.Revision())
}

func (s *story) append(c Change) string { return s.fold(must(s.state.Link(now, "test", c))...) }

func (s *story) fold(events ...Event) string {
	var out []string
	for _, e := range events {
		e = must(Decode(must(Encode(e))))
		why := s.state.Check(e)
		ok, err := s.state.Fold(e)
		if err != nil {
			s.t.Fatal(err)
		}
		if ok != (why == nil) {
			s.t.Errorf("Check says %v, Fold %v", why, ok)
		}
		s.log = append(s.log, e)
		if ok {
			out = append(out, fmt.Sprintf("revision %d", e.Seq))
		} else {
			out = append(out, "not accepted: "+why.Error())
		}
	}
	return strings.Join(out, "\n")
}

const day1 = 24 * time.Hour

func subjectNamed(name string) broker.SubjectKey {
	if name == "" {
		return broker.SubjectKey{}
	}
	sum := sha256.Sum256([]byte(name))
	return broker.SubjectKey(sum[:16])
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func span(i broker.Interval) string {
	f := func(t string) string { return strings.TrimSuffix(t, "T00:00:00Z") }
	from, to := f(i.From.Format("2006-01-02T15:04:05Z")), f(i.To.Format("2006-01-02T15:04:05Z"))
	if i.To.IsZero() {
		to = ""
	}
	return "[" + from + " … " + to + ")"
}
