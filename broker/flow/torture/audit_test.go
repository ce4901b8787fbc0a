package torture_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/kafka"
	"datafordeler/deploy/demo"
	"datafordeler/providers/synthetic"
)

// rule is what the oracle knows of a subscription: read from the declarations
// as plain YAML, by none of the broker's code.
type rule struct {
	id, agreement, mailbox, dataset string
	kind                            string // of scope
	values                          []string
	fields, remove                  []string
	ceiling                         int64
}

func rules(r *rig) []rule {
	type doc map[string]any
	agreements, packages, subscriptions := map[string]doc{}, map[string]doc{}, []doc{}
	for _, name := range []string{"agreements.yaml", "packages.yaml"} {
		text, err := demo.Files.ReadFile(name)
		if err != nil {
			r.t.Fatal(err)
		}
		dec := yaml.NewDecoder(strings.NewReader(string(text)))
		for {
			var d doc
			if dec.Decode(&d) != nil {
				break
			}
			switch d["kind"] {
			case "agreement":
				agreements[d["id"].(string)] = d
			case "package":
				packages[d["id"].(string)] = d
			case "subscription":
				subscriptions = append(subscriptions, d)
			}
		}
	}
	text := func(v any) (out []string) {
		for _, s := range v.([]any) {
			out = append(out, s.(string))
		}
		return out
	}
	var all []rule
	for _, s := range subscriptions {
		if s["mailbox"] == nil {
			continue // it looks up: nothing comes by itself
		}
		a := agreements[s["agreement"].(string)]
		p := packages[a["package"].(doc)["id"].(string)]
		scope := s["scope"].(doc)
		x := rule{id: s["id"].(string), agreement: a["id"].(string), mailbox: s["mailbox"].(string), dataset: a["dataset"].(string),
			kind: scope["kind"].(string), fields: text(p["fields"])}
		if x.kind == "attribute" {
			x.values = text(scope["values"])
		}
		if sh, ok := p["shielding"].(doc); ok && sh["remove"] != nil {
			x.remove = text(sh["remove"])
		}
		if c, ok := a["cost"].(doc)["ceiling"]; ok && c.(int) > 0 {
			x.ceiling = ceiling
		}
		all = append(all, x)
	}
	if len(all) < 10 {
		r.t.Fatalf("only %d subscriptions were found in the declarations", len(all))
	}
	return all
}

// Reasons that the oracle expects, by subscription, of what is never permitted.
var never = map[string]broker.Reason{
	"drammen-analyse": "no_legal_basis", "asker-aktivitetskort": "basis_not_in_force",
	"stavanger-barnehage": "cost_not_agreed", "kristiansand-barnehage": "supplier_not_delegated",
}

// audit compares everything that was left behind with what must be.
type audit struct {
	r         *rig
	g         *synthetic.Generator
	known     map[string]person
	people    map[string]int // identity number → index
	rules     []rule
	withdrawn [2]broker.Revision // the first and the last withdrawal; 0 = none
	sample    byte               // payloads are compared of one in so many
	lenient   bool               // decisions may overlap: the embedded engine after a kill

	ends     map[string]map[int32]int64
	permits  map[string]permit // decision id → what must be delivered
	held     map[held]*grant   // what was delivered of an event, by a partition's stream so far
	owed     map[debtor]*debt  // whom to tell, without data, of a correction or retraction
	perRule  map[string]int64
	rejected map[string]int64
	demand   map[string]int64
	counts   struct {
		records, rejected, repeated, outOfScope, inScope, decisions, permitted, deliveries, batches, compared, shielded, notices int64
	}
}

// held is an event, by the id that its provider gave it, and a subscription.
type held struct {
	dataset, event, sub string
}

type grant struct {
	decided   int // how often: a repeat beyond the window is decided anew
	permitted int
}

// debtor is a source record, and a subscription that was denied its data.
type debtor struct {
	dataset   string
	partition int32
	offset    int64
	sub       string
}

// debt is what is due to a subscription that was denied the data of a correction or
// retraction, and how it was met.
type debt struct {
	event   string
	of      string // the event that is corrected or retracted
	where   string
	reason  broker.Reason // why the data was denied
	known   bool          // whether what it changes stands before it
	either  bool          // what it changes was decided more than once: it may be due or not
	was     bool          // what it changes was delivered
	notices int
}

// told are the reasons that deny the data and not the notice: the right to it ended, or
// does not reach so far. Those that are not here stop both.
var told = []broker.Reason{"no_legal_basis", "basis_not_in_force", "no_open_case", "consent_withdrawn", "cost_not_agreed", "ceiling_reached"}

type permit struct {
	delivery, sub, of string
	notice            bool
	payload           [32]byte
	compare           bool
	kind              string
	offset            int64
}

func (r *rig) audit(g *synthetic.Generator, known map[string]person) *audit {
	a := &audit{r: r, g: g, known: known, rules: rules(r), permits: map[string]permit{}, perRule: map[string]int64{},
		rejected: map[string]int64{}, demand: map[string]int64{}, ends: map[string]map[int32]int64{}, sample: 4,
		held: map[held]*grant{}, owed: map[debtor]*debt{}}
	if os.Getenv("DATAFORDELER_TORTURE") != "" {
		a.sample = 1
	}
	return a
}

// run is the whole audit. It stops at the first partition that is not right.
func (a *audit) run(published int) {
	t := a.r.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ids, err := kafka.TopicIDs(ctx, a.r.adm, a.r.topics.Source("inntekt"), a.r.topics.Source("eiendomsskatt"))
	if err != nil {
		t.Fatal(err)
	}
	for p := range sourcePartitions {
		batches := a.r.kcat(a.r.topics.Decisions(), p)
		for _, ds := range []broker.DatasetID{"inntekt", "eiendomsskatt"} {
			a.partition(ds, broker.Digest(ids[a.r.topics.Source(string(ds))]), int32(p), batches)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	for p := range sourcePartitions {
		a.notices(a.r.kcat(a.r.topics.Decisions(), p))
	}
	a.paid()
	a.deliveries()
	a.rejections()
	c := &a.counts
	t.Logf("%d records in %d batches = %d rejected + %d repeated + %d out of every scope + %d in scope; %d decisions (%d on notices), %d permits, %d deliveries (%d shielded), %d payloads compared",
		c.records, c.batches, c.rejected, c.repeated, c.outOfScope, c.inScope, c.decisions, c.notices, c.permitted, c.deliveries, c.shielded, c.compared)
	if c.records != c.rejected+c.repeated+c.outOfScope+c.inScope {
		t.Errorf("the counts do not balance: %+v", *c)
	}
	// The SDK writes an event again when an answer is lost, so there may be more.
	if c.records < int64(published) {
		t.Errorf("%d events were published, and %d records are in the sources", published, c.records)
	} else if c.records > int64(published) {
		t.Logf("the SDK's retries added %d records", c.records-int64(published))
	}
	busy := 0
	for _, x := range a.rules {
		t.Logf("%-24s in scope %6d, permitted %6d", x.id, a.demand[x.id], a.perRule[x.id])
		n := a.perRule[x.id]
		if n > 0 {
			busy++
		}
		switch {
		case x.ceiling > 0 && n > x.ceiling:
			t.Errorf("%s: %d permits exceed the ceiling of %d", x.id, n, x.ceiling)
		case x.ceiling > 0 && a.demand[x.id] > 2*x.ceiling && n < x.ceiling:
			t.Errorf("%s: %d permits, though %d were wanted and the ceiling is %d", x.id, n, a.demand[x.id], x.ceiling)
		case never[x.id] == "" && n == 0 && a.demand[x.id] > 0:
			t.Errorf("%s: nothing was permitted of %d in scope", x.id, a.demand[x.id])
		}
	}
	// Of a small municipality there may be nobody among a few thousand records.
	if busy < 5 {
		t.Errorf("only %d subscriptions were permitted anything: the test tests nothing", busy)
	}
}

// seen is the oracle's window of repeats: a plain list of who came before.
type seen struct {
	offset  int64
	content [32]byte
}

type answer struct {
	outcome string // rejected, repeated, in, out
	subs    []*rule
	m       *message
}

// partition holds one source partition's decisions to the oracle.
func (a *audit) partition(ds broker.DatasetID, topicID broker.Digest, p int32, batches []message) {
	t := a.r.t
	t.Helper()
	source := a.r.kcat(a.r.topics.Source(string(ds)), int(p))
	where := fmt.Sprintf("%s/%d", ds, p)
	before := map[string][]seen{}
	next := int64(0)
	at := 0
	for _, b := range batches {
		if deliver.IsSingles(b.value) {
			continue // see notices
		}
		var rows []broker.Decision
		h, err := deliver.Decode(b.value, func(d *broker.Decision) error { rows = append(rows, *d); return nil })
		if err != nil {
			t.Fatalf("decisions/%d offset %d: %v", p, b.offset, err)
		}
		if h.Dataset != ds {
			continue
		}
		a.counts.batches++
		if h.TopicID != topicID || h.Partition != p || h.Kind != "stream" {
			t.Errorf("%s: a batch of kind %s says it is of %s/%d", where, h.Kind, h.TopicID, h.Partition)
		}
		if h.First != next || h.Last < h.First {
			t.Errorf("%s: a batch covers %d–%d where %d was next", where, h.First, h.Last, next)
			return
		}
		next = h.Last + 1
		var n deliver.BatchHeader
		var refused []int64
		row := 0
		for at < len(source) && source[at].offset <= h.Last {
			ans := a.judge(ds, &source[at], before)
			n.Records++
			switch ans.outcome {
			case "rejected":
				n.Rejected++
				refused = append(refused, ans.m.offset-h.First)
			case "repeated":
				n.Repeated++
			case "out":
				n.OutOfScope++
			case "in":
				a.counts.inScope++
				for _, x := range ans.subs {
					if row == len(rows) || rows[row].Position.Offset != ans.m.offset || string(rows[row].Subscription) != x.id {
						got := "nothing more"
						if row < len(rows) {
							got = fmt.Sprintf("one of offset %d for %s", rows[row].Position.Offset, rows[row].Subscription)
						}
						t.Errorf("%s offset %d: a decision for %s is due, there is %s", where, ans.m.offset, x.id, got)
						return
					}
					a.decision(where, ans.m, x, &rows[row], &h)
					row++
				}
			}
			at++
		}
		if row != len(rows) {
			t.Errorf("%s: the batch %d–%d has %d decisions more than are due, the first of offset %d for %s",
				where, h.First, h.Last, len(rows)-row, rows[row].Position.Offset, rows[row].Subscription)
			return
		}
		if n.Records != h.Records || n.Rejected != h.Rejected || n.Repeated != h.Repeated || n.OutOfScope != h.OutOfScope || !slices.Equal(refused, h.RejectedAt) {
			t.Errorf("%s: the batch %d–%d counts %d records, %d rejected, %d repeated, %d out of scope; due are %d, %d, %d, %d",
				where, h.First, h.Last, h.Records, h.Rejected, h.Repeated, h.OutOfScope, n.Records, n.Rejected, n.Repeated, n.OutOfScope)
			return
		}
		a.counts.records += n.Records
		a.counts.rejected += n.Rejected
		a.counts.repeated += n.Repeated
		a.counts.outOfScope += n.OutOfScope
		a.rejected[string(ds)] += n.Rejected
	}
	if at != len(source) {
		t.Errorf("%s: %d of %d records have no decision, from offset %d on", where, len(source)-at, len(source), source[at].offset)
	}
}

// judge says what intake and scope must make of a record.
func (a *audit) judge(ds broker.DatasetID, m *message, before map[string][]seen) answer {
	ans := answer{m: m}
	id := m.headers["ce_id"]
	who, ok := a.known[id]
	if !ok {
		a.r.t.Errorf("%s offset %d: nobody published %q", ds, m.offset, id)
	}
	if who.invalid {
		ans.outcome = "rejected"
		return ans
	}
	h := sha256.New()
	h.Write(m.value)
	h.Write([]byte(m.header))
	content := [32]byte(h.Sum(nil))
	for _, s := range before[id] {
		if m.offset-s.offset > window {
			continue
		}
		if s.content != content {
			ans.outcome = "rejected"
			return ans
		}
		ans.outcome = "repeated"
		break
	}
	before[id] = append(before[id], seen{m.offset, content})
	if ans.outcome != "" {
		return ans
	}
	p := a.g.Person(who.index)
	has, _ := hasCase(who.index, p)
	for i := range a.rules {
		x := &a.rules[i]
		if x.dataset != string(ds) {
			continue
		}
		in := x.kind == "all" ||
			x.kind == "attribute" && slices.Contains(x.values, m.headers["ce_municipality"]) ||
			x.kind == "listed" && (x.id == "oslo-sosialhjelp" && has || x.id == "testbanken-boliglaan" && consents(who.index))
		if in {
			ans.subs = append(ans.subs, x)
		}
	}
	slices.SortFunc(ans.subs, func(x, y *rule) int { return strings.Compare(x.id, y.id) })
	ans.outcome = "out"
	if len(ans.subs) > 0 {
		ans.outcome = "in"
	}
	return ans
}

// decision holds one decision to the oracle and, where it permits, notes what
// must be delivered.
func (a *audit) decision(where string, m *message, x *rule, d *broker.Decision, h *deliver.BatchHeader) {
	t := a.r.t
	t.Helper()
	a.counts.decisions++
	a.demand[x.id]++
	id := m.headers["ce_id"]
	index := a.known[id].index
	want := broker.Reason("")
	switch _, ended := hasCase(index, synthetic.Person{}); {
	case never[x.id] != "":
		want = never[x.id]
	case x.id == "oslo-sosialhjelp" && ended:
		want = "no_open_case"
	case x.id == "testbanken-boliglaan" && withdraws(index) && a.withdrawn[0] > 0 && h.Revision >= a.withdrawn[0]:
		// Between the first and the last, it may be the one or the other.
		if h.Revision >= a.withdrawn[1] || !d.Outcome.Permit {
			want = "consent_withdrawn"
		}
	case x.ceiling > 0 && !d.Outcome.Permit:
		want = "ceiling_reached"
	}
	if permits := want == ""; permits != d.Outcome.Permit || !permits && d.Outcome.Reasons[0] != want {
		t.Errorf("%s offset %d, %s at revision %d: permit %v, reasons %v; want %q", where, m.offset, x.id, h.Revision, d.Outcome.Permit, d.Outcome.Reasons, want)
	}
	ds := broker.DatasetID(x.dataset)
	event := a.r.ring.Event(ds, m.headers["ce_source"], id)
	if d.Event != event {
		t.Errorf("%s offset %d: the decision is of another event", where, m.offset)
	}
	this := held{x.dataset, id, x.id}
	if a.held[this] == nil {
		a.held[this] = &grant{}
	}
	a.held[this].decided++
	if of := cmp.Or(m.headers["ce_supersedes"], m.headers["ce_retracts"]); of != "" && !d.Outcome.Permit {
		due := &debt{event: id, of: of, where: where + " offset " + strconv.FormatInt(m.offset, 10), reason: d.Outcome.Reasons[0]}
		if before := a.held[held{x.dataset, of, x.id}]; before != nil {
			due.known, due.was, due.either = true, before.permitted > 0, before.decided > 1
		}
		a.owed[debtor{x.dataset, d.Position.Partition, m.offset, x.id}] = due
	}
	if !d.Outcome.Permit {
		return
	}
	a.held[this].permitted++
	a.counts.permitted++
	a.perRule[x.id]++
	due := permit{delivery: broker.NewDeliveryID(event, broker.SubscriptionID(x.id)).String(), sub: x.id, offset: m.offset, kind: "original"}
	if m.headers["ce_supersedes"] != "" {
		due.kind = "correction"
	} else if m.headers["ce_retracts"] != "" {
		due.kind = "retraction"
	}
	key := d.ID.String()
	if _, twice := a.permits[key]; twice {
		t.Errorf("%s offset %d: %s was decided twice", where, m.offset, x.id)
	}
	protected := m.headers["ce_protected"] != "false"
	if due.compare = d.ID[0]%a.sample == 0 || protected; due.compare {
		var v any
		if err := unmarshal(m.value, &v); err != nil {
			t.Errorf("%s offset %d: %v", where, m.offset, err)
		}
		out, _ := project(v, "", x, protected)
		object, _ := out.(map[string]any)
		if object == nil {
			object = map[string]any{}
		}
		if protected {
			object["skjermet"] = true
			a.counts.shielded++
		}
		due.payload = digest(object)
	}
	a.permits[key] = due
}

// project keeps what the package names and, of protected persons, not what it
// shields. It works on decoded JSON, unlike the broker.
func project(v any, path string, x *rule, protected bool) (out any, any bool) {
	covered := func(by []string) bool {
		return slices.ContainsFunc(by, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
	}
	if protected && covered(x.remove) {
		return nil, false
	}
	switch v := v.(type) {
	case map[string]interface{}:
		kept := map[string]interface{}{}
		for k, m := range v {
			if o, ok := project(m, path+"/"+k, x, protected); ok {
				kept[k] = o
			}
		}
		return kept, len(kept) > 0 || covered(x.fields)
	case []interface{}:
		var kept []interface{}
		for _, e := range v {
			if o, ok := project(e, path, x, protected); ok {
				kept = append(kept, o)
			}
		}
		return kept, len(kept) > 0 || covered(x.fields)
	}
	return v, covered(x.fields)
}

func unmarshal(data []byte, v any) error {
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.UseNumber()
	return dec.Decode(v)
}

func digest(v any) [32]byte {
	b, err := json.Marshal(v) // sorts the members
	if err != nil {
		panic(err)
	}
	return sha256.Sum256(b)
}

// deliveries holds the mailboxes to the permits: one each, and no other.
func (a *audit) deliveries() {
	t := a.r.t
	t.Helper()
	left := maps.Clone(a.permits)
	mailbox := map[string]string{}
	for _, x := range a.rules {
		mailbox[x.id] = x.mailbox
	}
	for p := range deliveryBuckets {
		for _, m := range a.r.kcat(a.r.topics.Deliveries(), p) {
			a.counts.deliveries++
			key, sub := m.headers["ce_decision"], m.headers["ce_subscription"]
			due, ok := left[key]
			switch _, ever := a.permits[key]; {
			case !ok && ever:
				t.Errorf("deliveries/%d offset %d: delivered twice to %s", p, m.offset, sub)
				continue
			case !ok:
				t.Errorf("deliveries/%d offset %d: delivered to %s without a permit", p, m.offset, sub)
				continue
			}
			delete(left, key)
			if got := m.headers["ce_notice"] == "true"; got != due.notice || due.notice && (m.headers["ce_of"] != due.of || string(m.value) != "null") {
				t.Errorf("deliveries/%d offset %d to %s: a notice %v, of %s; want %v, of %s, without data", p, m.offset, sub, got, m.headers["ce_of"], due.notice, due.of)
			}
			if m.headers["ce_id"] != due.delivery || sub != due.sub || m.headers["ce_mailbox"] != mailbox[sub] || m.headers["ce_recordkind"] != due.kind {
				t.Errorf("deliveries/%d offset %d: headers %v; want id %s, subscription %s, kind %s", p, m.offset, m.headers, due.delivery, due.sub, due.kind)
			}
			if !due.compare {
				continue
			}
			a.counts.compared++
			var v any
			if err := unmarshal(m.value, &v); err != nil {
				t.Errorf("deliveries/%d offset %d: %v", p, m.offset, err)
			} else if digest(v) != due.payload {
				t.Errorf("deliveries/%d offset %d to %s: the payload is not what the package allows of source offset %d", p, m.offset, sub, due.offset)
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	for key, due := range left {
		t.Errorf("permit %s of %s was not delivered", key, due.sub)
		if t.Failed() {
			break
		}
	}
}

// rejections holds what providers read to the counts: each position once.
func (a *audit) rejections() {
	t := a.r.t
	t.Helper()
	for _, ds := range []string{"inntekt", "eiendomsskatt"} {
		at := map[string]bool{}
		for _, m := range a.r.kcat(a.r.topics.Rejected(ds), 0) {
			var v struct {
				Reason    string
				Partition int
				Offset    int64
			}
			if err := unmarshal(m.value, &v); err != nil || v.Reason == "" {
				t.Errorf("%s: rejection %.200q: %v", ds, m.value, err)
			}
			position := strconv.Itoa(v.Partition) + "/" + strconv.FormatInt(v.Offset, 10)
			if at[position] {
				t.Errorf("%s: %s was rejected twice", ds, position)
			}
			at[position] = true
			a.rejected[ds]--
		}
		if a.rejected[ds] != 0 {
			t.Errorf("%s: the decisions count %d rejections more than there are", ds, a.rejected[ds])
		}
	}
}
