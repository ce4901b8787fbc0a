package flow

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/registry"
	"datafordeler/providers/synthetic"
)

var update = flag.Bool("update", false, "write what the scenarios give into their files")

// TestScenarios runs testdata/scenarios/*.txt: commands, each with what it must
// print below four dashes. They are the walk's case law; -update writes them,
// and the difference is for a lawyer to read.
func TestScenarios(t *testing.T) {
	paths, err := filepath.Glob("testdata/scenarios/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s := newScenario(t)
			var out bytes.Buffer
			for _, c := range parseScenario(t, string(b)) {
				got := s.run(c.words, c.input)
				if !*update && got != c.want {
					t.Errorf("line %d: %s\ngot:\n%s\nwant:\n%s", c.line, strings.Join(c.words, " "), got, c.want)
				}
				out.WriteString(c.comment + strings.Join(c.words, " ") + "\n" + c.input + "----\n" + got + "\n")
			}
			s.stop()
			s.checkAll()
			if *update {
				if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type scenarioCommand struct {
	line    int
	comment string
	words   []string
	input   string
	want    string
}

func parseScenario(t *testing.T, text string) []scenarioCommand {
	var out []scenarioCommand
	var c *scenarioCommand
	comment, inWant := "", false
	sc := bufio.NewScanner(strings.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		switch {
		case c == nil && (line == "" || strings.HasPrefix(line, "#")):
			comment += line + "\n"
		case c == nil:
			c = &scenarioCommand{line: n, comment: comment, words: strings.Fields(line)}
			comment, inWant = "", false
		case line == "----":
			inWant = true
		case inWant && line == "":
			out, c = append(out, *c), nil
		case inWant:
			c.want += line + "\n"
		default:
			c.input += line + "\n"
		}
	}
	if c != nil {
		out = append(out, *c)
	}
	if len(out) == 0 {
		t.Fatal("an empty scenario")
	}
	return out
}

// scenario is one broker on an embedded engine of its own, under a clock that
// the scenario sets.
type scenario struct {
	*harness
	second *Broker // another instance, which only answers
	seen   struct {
		decisions, deliveries, rejected map[topicPartition]int64
	}
	naming   sync.Mutex        // guards subjects
	subjects map[string]string // identity number → the name that it has in the scenario
}

func newScenario(t *testing.T) *scenario {
	s := &scenario{harness: newHarness(t), subjects: map[string]string{}}
	s.positions = &scanned{h: s.harness}
	s.seen.decisions, s.seen.deliveries, s.seen.rejected = map[topicPartition]int64{}, map[topicPartition]int64{}, map[topicPartition]int64{}
	return s
}

func (s *scenario) run(words []string, input string) string {
	ctx := s.ctx
	switch words[0] {
	case "registry": // registry FILE | registry with YAML below
		paths := words[1:]
		if len(paths) == 0 {
			p := filepath.Join(s.t.TempDir(), "more.yaml")
			if err := os.WriteFile(p, []byte(input), 0o600); err != nil {
				s.t.Fatal(err)
			}
			paths = []string{p}
		} else {
			paths = []string{filepath.Join("testdata", words[1])}
		}
		plan, err := s.apply(paths...)
		if err != nil {
			return strings.ReplaceAll(err.Error(), filepath.Dir(paths[0])+string(filepath.Separator), "") + "\n"
		}
		return fmt.Sprintf("%d created, %d updated\n", plan.Count(registry.Create), plan.Count(registry.Update))
	case "policy":
		s.activatePolicy()
		return ""
	case "clock":
		at, err := time.Parse(time.RFC3339, words[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.setClock(at)
		return ""
	case "open", "end": // open SUBSCRIPTION SUBJECT [NAME]
		key := s.about(words[2])
		id := broker.CaseID("case-" + strings.Join(words[2:], "-"))
		if words[0] == "open" {
			s.change(registry.OpenCase(broker.Case{ID: id, Subscription: broker.SubscriptionID(words[1]), Subject: key,
				Open: broker.Interval{From: s.clock().Add(-time.Hour)}}))
		} else {
			s.change(registry.EndCase(broker.SubscriptionID(words[1]), id, s.clock()))
		}
		return s.bound()
	case "consent", "withdraw": // consent CONSUMER PURPOSE PERSON [DATASET]
		if words[0] == "withdraw" {
			s.change(registry.WithdrawConsent(broker.ConsentID("consent-"+words[1]), s.clock()))
			return s.bound()
		}
		dataset := broker.DatasetID("d")
		if len(words) > 4 {
			dataset = broker.DatasetID(words[4])
		}
		s.change(registry.GiveConsent(broker.Consent{ID: broker.ConsentID("consent-" + words[3]), Subject: s.about(words[3]),
			Consumer: broker.OrgNumber(words[1]), Dataset: dataset, Purpose: broker.Purpose(words[2]),
			Valid: broker.Interval{From: s.clock().Add(-time.Hour)}}))
		return s.bound()
	case "protect": // protect PERSON GRADE
		s.change(registry.SetProtection(registry.Protect{Subject: s.ring.Subject(broker.Person, s.person(words[1])), Grade: broker.Protection(words[2])}))
		return s.bound()
	case "followed": // followed SEQUENCE: the population register, as far as that
		n, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		s.change(registry.SyncProtection(registry.ProtectionSync{Source: "folkeregisteret", Sequence: n, Current: true}))
		return s.bound()
	case "gone": // gone ORGANISATION DAY [SUCCESSOR]: it was deleted, or merged
		return s.gone(words[1:])
	case "restored": // restored ORGANISATION: it was a mistake
		s.change(registry.RestoreUnit(broker.OrgNumber(words[1])))
		return s.bound()
	case "needs": // needs N PURPOSE SECTOR: that many municipalities say that they need d
		return s.needs(words[1], broker.Purpose(words[2]), words[3])
	case "gaps":
		return s.gaps()
	case "freeze", "thaw": // freeze KIND ID
		kind := registry.FreezeKind(words[1])
		if words[0] == "thaw" {
			s.change(registry.LiftFreeze(registry.FreezeEnd{Kind: kind, ID: words[2], By: registry.ByOperator, Why: "scenario"}))
		} else {
			s.change(registry.SetFreeze(registry.Freeze{Kind: kind, ID: words[2], By: registry.ByOperator, Why: "scenario"}))
		}
		return s.bound()
	case "undelegate": // undelegate DELEGATION
		s.change(registry.WithdrawDelegation(broker.DelegationID(words[1]), s.clock()))
		return s.bound()
	case "second": // another instance joins, which folds the log by itself; second VERB … asks it
		if len(words) > 1 {
			return s.ask(s.second, words[1:])
		}
		s.second = s.newBroker(s.openControl(), "1")
		s.t.Cleanup(s.second.Committer().Close)
		return ""
	case "takeover": // the instance ends, and another takes over from the log
		s.stop()
		s.control = s.openControl()
		s.start()
		return ""
	case "lookup", "household", "read":
		return s.ask(s.broker, words)
	case "publish": // lines: id=… person=… municipality=… amount=… and more
		for _, line := range strings.Split(strings.TrimSpace(input), "\n") {
			s.publishLine(line)
		}
		return ""
	case "start":
		s.start()
		return ""
	case "stop":
		s.stop()
		return ""
	case "decide": // waits until all is decided, prints what is new
		s.drain(ctx)
		s.drainNotices()
		return s.news()
	case "backfill": // waits until all that is owed is decided, prints what is new
		s.drainBackfill()
		return s.news()
	case "usage":
		return s.usage(broker.AgreementID(words[1]))
	}
	s.t.Fatalf("no scenario command %q", words[0])
	return ""
}

func (s *scenario) bound() string {
	if s.broker == nil {
		return ""
	}
	s.bind()
	return "binds\n"
}

// needs registers municipalities, the need that the first of them has, and the
// co-signatures of the others.
func (s *scenario) needs(count string, purpose broker.Purpose, sector string) string {
	n, err := strconv.Atoi(count)
	if err != nil {
		s.t.Fatal(err)
	}
	var changes []registry.Change
	put := func(thing any) {
		c, err := registry.Put(thing)
		if err != nil {
			s.t.Fatal(err)
		}
		changes = append(changes, c)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var all []broker.OrgNumber
	for len(all) < n {
		o := broker.OrgNumber(synthetic.OrgNumber(r))
		if slices.Contains(all, o) {
			continue
		}
		all = append(all, o)
		put(broker.Organisation{Number: o, Name: fmt.Sprintf("Kommune %d", len(all)), Types: []string{"kommune"}})
	}
	id := broker.NeedID("need-" + purpose)
	put(broker.Need{ID: id, Organisation: all[0], Dataset: "d", Purpose: purpose, Fields: []broker.Pointer{"/amount"}, Why: "innbyggerne sender det inn på papir", Sector: sector})
	for _, o := range all[1:] {
		changes = append(changes, registry.CosignNeed(broker.Cosignature{Need: id, Organisation: o, By: "Kommunedirektøren"}))
	}
	s.change(changes...)
	return fmt.Sprintf("%d organisations need d for %s\n", n, purpose)
}

// gaps is the report to those who make rules, as of the scenario's clock.
func (s *scenario) gaps() string {
	var out strings.Builder
	s.control.View(func(st *registry.State) {
		for _, g := range st.Gaps(s.clock()) {
			fmt.Fprintf(&out, "%d organisations in %v need %s%s for %s: %s\n", len(g.Organisations), g.Sectors, g.Dataset, g.Concept, g.Purpose, g.Why.Words(&g))
		}
	})
	if out.Len() == 0 {
		return "none\n"
	}
	return out.String()
}

// person gives a scenario's name an identity number of its own.
func (s *scenario) person(name string) string {
	n, err := strconv.Atoi(strings.TrimPrefix(name, "p"))
	if err != nil {
		s.t.Fatalf("person %q: want p and a number", name)
	}
	id := s.people.Person(n).ID
	s.naming.Lock()
	defer s.naming.Unlock()
	s.subjects[id] = name
	return id
}

// publishLine writes one CloudEvent in binary mode. data=… gives the payload as
// it is, but for $person; key=… another key than the person.
func (s *scenario) publishLine(line string) {
	f := map[string]string{"municipality": "0301", "amount": "1", "protected": "false", "dataset": "d"}
	for _, w := range strings.Fields(line) {
		k, v, _ := strings.Cut(w, "=")
		f[k] = v
	}
	person := f["org"]
	if f["person"] != "" {
		person = s.person(f["person"])
	}
	data := strings.NewReplacer("$person", person, "$org", person).Replace(f["data"])
	if data == "" {
		data = fmt.Sprintf(`{"secret":"s-%s","person":%q,"amount":%s,"address":{"street":"A"}}`, f["id"], person, f["amount"])
	}
	r := &kgo.Record{Topic: s.topics.Source(f["dataset"]), Key: []byte(person + f["key"]), Value: []byte(data)}
	add := func(k, v string) {
		if v != "" {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
		}
	}
	add("ce_specversion", "1.0")
	add("ce_id", f["id"])
	add("ce_source", "https://provider.example")
	add("ce_type", "no.example.v1")
	add("ce_municipality", f["municipality"])
	add("ce_protected", f["protected"])
	add("ce_supersedes", f["supersedes"])
	add("ce_retracts", f["retracts"])
	add("ce_dataschema", f["dataschema"])
	add("ce_event", f["event"])
	add("content-type", "application/json")
	s.produce(r)
	s.names[s.ring.Event(broker.DatasetID(f["dataset"]), "https://provider.example", f["id"])] = f["id"]
}

// news prints what committed since it was last asked: decisions, deliveries and
// rejections, sorted.
func (s *scenario) news() string {
	var lines []string
	s.readNew(s.topics.Decisions(), s.seen.decisions, func(r *kgo.Record) {
		one := func(d *broker.Decision) error {
			why := fmt.Sprint(d.Outcome.Bases)
			if !d.Outcome.Permit {
				why = fmt.Sprint(d.Outcome.Reasons)
			}
			word := "decision"
			if d.Kind != broker.StreamDecision {
				word = d.Kind.String()
			}
			lines = append(lines, fmt.Sprintf("%s %-6s %-5s %v %s", word, s.names[d.Event], d.Subscription, map[bool]string{true: "permit", false: "deny"}[d.Outcome.Permit], why))
			return nil
		}
		if deliver.IsSingles(r.Value) {
			if _, err := deliver.DecodeSingles(r.Value, one); err != nil {
				s.t.Fatal(err)
			}
			return
		}
		h, err := deliver.Decode(r.Value, one)
		if err != nil {
			s.t.Fatal(err)
		}
		if n := h.OutOfScope; n > 0 {
			lines = append(lines, fmt.Sprintf("out of scope: %d", n))
		}
		if n := h.Repeated; n > 0 {
			lines = append(lines, fmt.Sprintf("repeated: %d", n))
		}
	})
	delivery := func(r *kgo.Record) {
		h := headers(r)
		value := s.named(string(r.Value))
		of := ""
		if h["ce_of"] != "" {
			of = " of an earlier one"
		}
		for _, x := range [...]struct{ key, word string }{{deliver.BackfillHeader, " backfilled"}, {deliver.NoticeHeader, " notice"}, {deliver.DeniedHeader, " of what is denied"}} {
			if h[x.key] == "true" {
				of += x.word
			}
		}
		lines = append(lines, fmt.Sprintf("delivery %s → %s %s%s %s", h["ce_subscription"], h["ce_mailbox"], h["ce_recordkind"], of, value))
	}
	rejected := func(r *kgo.Record) {
		value := string(r.Value)
		reason := value[strings.Index(value, `"reason":"`)+10:]
		lines = append(lines, fmt.Sprintf("rejected %s %s", headers(r)["ce_id"], reason[:strings.IndexByte(reason, '"')]))
	}
	s.readNew(s.topics.Deliveries(), s.seen.deliveries, delivery)
	mailboxes, datasets := s.kafkaMailboxes(), s.datasets()
	for _, m := range mailboxes {
		s.readNew(s.topics.Mailbox(m), s.seen.deliveries, delivery)
	}
	for _, d := range datasets {
		s.readNew(s.topics.Rejected(d), s.seen.rejected, rejected)
	}
	if len(lines) == 0 {
		return "nothing\n"
	}
	slices.Sort(lines)
	return strings.Join(sumLines(lines), "\n") + "\n"
}

// sumLines adds up the counts, which fall on partitions as keys do.
func sumLines(lines []string) []string {
	var out []string
	sums := map[string]int{}
	for _, l := range lines {
		if name, n, ok := strings.Cut(l, ": "); ok && !strings.HasPrefix(l, "decision") && !strings.HasPrefix(l, "backfill") && !strings.HasPrefix(l, "notice") && !strings.HasPrefix(l, "delivery") {
			v, _ := strconv.Atoi(n)
			sums[name] += v
			continue
		}
		out = append(out, l)
	}
	for name, n := range sums {
		out = append(out, fmt.Sprintf("%s: %d", name, n))
	}
	slices.Sort(out)
	return out
}

func (s *scenario) usage(a broker.AgreementID) string {
	var leased, left int64
	s.control.View(func(st *registry.State) {
		left = st.Unleased(a)
		leased = st.Agreement(a).Cost.Ceiling - left
	})
	return fmt.Sprintf("leased %d, left %d\n", leased, left)
}

// readNew calls fn for the committed records of a topic that were not seen yet.
func (s *scenario) readNew(topic string, seen map[topicPartition]int64, fn func(*kgo.Record)) {
	err := each(context.Background(), s.engine, topic, func(r *kgo.Record) error {
		tp := topicPartition{topic, r.Partition}
		if r.Offset >= seen[tp] {
			seen[tp] = r.Offset + 1
			fn(r)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func headers(r *kgo.Record) map[string]string {
	h := map[string]string{}
	for _, x := range r.Headers {
		h[x.Key] = string(x.Value)
	}
	return h
}
