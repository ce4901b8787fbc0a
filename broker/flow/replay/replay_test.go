package replay

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/keys"
	"datafordeler/policy"
)

func write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "candidate.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLife lives once, and looks at it from many sides; those that alter it last.
func TestLife(t *testing.T) {
	h := newHistory(t, intake.Defaults())
	h.life()
	for _, side := range []struct {
		name string
		look func(*history, *testing.T)
	}{{"alike", alike}, {"candidate", candidates}, {"keys", keyDestroyed}, {"tampering", tampering}, {"made again", madeAgain}, {"retention", sourceGone}} {
		t.Run(side.name, func(t *testing.T) {
			h.t = t
			side.look(h, t)
		})
	}
	h.t = t
}

// All that was decided over a life of changes comes out as it was recorded,
// however little of it is held at a time, from wherever it begins.
func alike(h *history, t *testing.T) {
	h.same(h.replay(h.options()))

	t.Run("held one by one, so that control is folded again and again", func(t *testing.T) {
		o := h.options()
		o.held = 1
		h.same(h.replay(o))
	})
	t.Run("one worker", func(t *testing.T) {
		o := h.options()
		o.Workers = 1
		h.same(h.replay(o))
	})
	t.Run("in two halves, the second with its window of repeats read back", func(t *testing.T) {
		for _, cut := range []time.Duration{31 * time.Minute, 93 * time.Minute} {
			a, b := h.options(), h.options()
			a.To = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).Add(cut)
			b.From = a.To
			first, second := h.replay(a), h.replay(b)
			if first.Faults+second.Faults != 0 || len(first.Unchecked)+len(second.Unchecked) != 0 || first.Decisions+second.Decisions != h.decisions() || second.Decisions == 0 {
				t.Errorf("cut at %v:\n%+v\n%+v", cut, first, second)
			}
		}
	})
	t.Run("one dataset, one subscription", func(t *testing.T) {
		o := h.options()
		o.Dataset = "d"
		all := h.replay(o)
		o.Subscription = "loan"
		one := h.replay(o)
		if all.Faults+one.Faults != 0 || one.Decisions == 0 || one.Decisions >= all.Decisions || all.Decisions >= h.decisions() {
			t.Errorf("%+v\n%+v", all, one)
		}
	})
	t.Run("a sample says so, and takes repeats from the batches", func(t *testing.T) {
		o := h.options()
		o.Every = 3
		r := h.replay(o)
		if r.Faults != 0 || r.Left == 0 || r.Batches == 0 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("the latest records", func(t *testing.T) {
		o := h.options()
		o.Latest = 60
		r := h.replay(o)
		if r.Faults != 0 || r.Records < 60 || r.Records > 200 || r.Left == 0 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("the active policy as candidate", func(t *testing.T) {
		o := h.options()
		var err error
		if o.Policy, err = policy.Compile(policy.Embedded()); err != nil {
			t.Fatal(err)
		}
		if r := h.replay(o); r.Faults != 0 || r.Different() != 0 || !r.Candidate || r.Decisions != h.decisions() {
			t.Errorf("%+v", r)
		}
	})
}

// edit re-encodes each record of decisions as fn leaves it, and puts them in the
// place of those that stand there.
func (h *history) edit(fn func(head *deliver.BatchHeader, ds []broker.Decision)) {
	h.t.Helper()
	var all []*kgo.Record
	ends, err := h.adm.ListCommittedOffsets(h.ctx, h.topics.Decisions())
	if err != nil {
		h.t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		tp := &tape{engine: h.engine, topic: o.Topic, partition: o.Partition, end: o.Offset}
		defer tp.close()
		if err := tp.seek(0); err != nil {
			h.t.Fatal(err)
		}
		for {
			r, err := tp.peek(h.ctx)
			if err != nil {
				h.t.Fatal(err)
			}
			if r == nil {
				return
			}
			tp.take()
			all = append(all, r)
		}
	})
	var out []*kgo.Record
	for _, r := range all {
		head, _, err := deliver.DecodeHeader(r.Value)
		if err != nil {
			h.t.Fatal(err)
		}
		var ds []broker.Decision
		if _, err := deliver.Decode(r.Value, func(d *broker.Decision) error { ds = append(ds, *d); return nil }); err != nil {
			h.t.Fatal(err)
		}
		value := r.Value
		if fn(&head, ds); head.Kind != "" {
			value = encode(head, ds)
		}
		out = append(out, &kgo.Record{Topic: r.Topic, Partition: r.Partition, Value: value})
	}
	if _, err := h.adm.DeleteTopics(h.ctx, h.topics.Decisions()); err != nil {
		h.t.Fatal(err)
	}
	if err := h.engine.EnsureTopics(h.ctx, h.kafka.DecisionsSpec()); err != nil {
		h.t.Fatal(err)
	}
	client, err := h.engine.NewClient(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		h.t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(h.ctx, out...).FirstErr(); err != nil {
		h.t.Fatal(err)
	}
}

// encode writes a record of decisions. Which records were repeats is not in it,
// only how many.
func encode(head deliver.BatchHeader, ds []broker.Decision) []byte {
	var b deliver.Batch
	repeats, rejected, last := head.Repeated, head.RejectedAt, head.Last
	ceilings := map[broker.SubscriptionID]int64{}
	for _, s := range head.Subscriptions {
		if s.Ceiling {
			ceilings[s.ID] = 1
		}
	}
	left := head.Records
	b.Reset(head)
	for off := head.First; off <= last && left > 0; off++ {
		n := 0
		for n < len(ds) && ds[n].Position.Offset == off {
			n++
		}
		switch first := head.First; {
		case n > 0:
			var answers []deliver.Decision
			for i := range ds[:n] {
				d := &ds[i]
				t := &broker.Terms{}
				t.Subscription.ID, t.Agreement.ID, t.Agreement.Package, t.Agreement.Cost.Ceiling = d.Subscription, d.Agreement, d.Package, ceilings[d.Subscription]
				answers = append(answers, deliver.Decision{Terms: t, Outcome: &d.Outcome, Shielded: d.Shielded, Fields: d.Fields})
			}
			b.Add(deliver.Row{Offset: off, Event: ds[0].Event, Subject: ds[0].Subject, Kind: ds[0].RecordKind}, answers)
			ds = ds[n:]
		case slices.Contains(rejected, off-first):
			b.Reject(off)
		case repeats > 0:
			b.Repeat(off)
			repeats--
		default:
			b.Add(deliver.Row{Offset: off}, nil)
		}
		left--
	}
	return slices.Clone(b.Finish(last)[0])
}

// What was altered in the log is named: where, for whom, and how.
func tampering(h *history, t *testing.T) {
	keep := func(*deliver.BatchHeader, []broker.Decision) {}
	h.edit(keep)
	h.same(h.replay(h.options())) // re-encoded as it was, nothing shows
	type altered struct {
		name, what string
		alter      func(head *deliver.BatchHeader, d *broker.Decision) bool // says whether it did
		was        broker.Decision
		policy     string
	}
	cases := []*altered{
		{name: "a denial made a permit", what: "outcome", alter: func(_ *deliver.BatchHeader, d *broker.Decision) bool {
			if d.Outcome.Permit || d.Subscription != "loan" {
				return false
			}
			d.Outcome = broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"consent"}}
			d.Fields = []broker.Pointer{"/person"}
			return true
		}},
		{name: "a reason exchanged", what: "reasons", alter: func(_ *deliver.BatchHeader, d *broker.Decision) bool {
			if d.Outcome.Permit {
				return false
			}
			d.Outcome.Reasons = []broker.Reason{"costs_unpaid"}
			return true
		}},
		{name: "a field left out", what: "fields", alter: func(_ *deliver.BatchHeader, d *broker.Decision) bool {
			if len(d.Fields) < 2 {
				return false
			}
			d.Fields = d.Fields[1:]
			return true
		}},
		{name: "another basis", what: "bases", alter: func(_ *deliver.BatchHeader, d *broker.Decision) bool {
			if !d.Outcome.Permit {
				return false
			}
			d.Outcome.Bases = []broker.LegalBasisID{"other"}
			return true
		}},
		{name: "another package", what: "package", alter: func(_ *deliver.BatchHeader, d *broker.Decision) bool { d.Package.Version++; return true }},
		{name: "not shielded", what: "shielded", alter: func(_ *deliver.BatchHeader, d *broker.Decision) bool {
			done := d.Shielded
			d.Shielded = false
			return done
		}},
		{name: "another person", what: "pseudonym", alter: func(_ *deliver.BatchHeader, d *broker.Decision) bool { d.Subject[0] ^= 1; return true }},
		{name: "another event", what: "event", alter: func(_ *deliver.BatchHeader, d *broker.Decision) bool { d.Event[3] ^= 1; return true }},
		{name: "another subscription", what: "decision", alter: func(_ *deliver.BatchHeader, d *broker.Decision) bool {
			done := d.Subscription == "all"
			if done {
				d.Subscription = "case"
			}
			return done
		}},
		{name: "another policy", what: "policy", alter: func(head *deliver.BatchHeader, _ *broker.Decision) bool { head.Policy = "sha256:00"; return true }},
	}
	firstOfRow := func(ds []broker.Decision, i int) bool { // a row's columns are written from it
		return i == 0 || ds[i].Position.Offset != ds[i-1].Position.Offset
	}
	todo := slices.Clone(cases)
	h.edit(func(head *deliver.BatchHeader, ds []broker.Decision) {
		policyWas := head.Policy
		for i := range ds {
			for n, a := range todo {
				if !firstOfRow(ds, i) {
					break
				}
				a.was, a.policy = ds[i], policyWas
				a.was.Outcome.Reasons, a.was.Fields = slices.Clone(ds[i].Outcome.Reasons), slices.Clone(ds[i].Fields)
				if a.alter(head, &ds[i]) {
					todo = slices.Delete(todo, n, n+1)
					break // one to a row
				}
			}
		}
	})
	for _, a := range todo {
		t.Errorf("%s: nothing was there to alter", a.name)
	}
	o := h.options()
	o.Sample = 1000
	r := h.replay(o)
	for _, a := range cases {
		i := slices.IndexFunc(r.FaultSamples, func(f Fault) bool {
			at := a.was.Position
			return f.What == a.what && f.Partition == at.Partition && f.Dataset == at.Dataset && (f.Offset == at.Offset || a.what == "policy") &&
				(f.Subscription == a.was.Subscription || f.Subscription == "")
		})
		if i < 0 {
			t.Errorf("%s: not named at %v of %s: %d faults %+v", a.name, a.was.Position, a.was.Subscription, r.Faults, r.FaultSamples)
			continue
		}
		f := r.FaultSamples[i]
		t.Logf("%s: %s", a.name, f)
	}
	// The other subscription is one decision too few and one too many.
	if want := int64(len(cases) + 1); r.Faults != want {
		t.Errorf("%d faults, want %d: %+v", r.Faults, want, r.FaultsBy)
	}
	h.edit(func(head *deliver.BatchHeader, ds []broker.Decision) { // as it was
		for i := range ds {
			for _, a := range cases {
				if firstOfRow(ds, i) && ds[i].Position == a.was.Position {
					ds[i], head.Policy = a.was, a.policy
				}
			}
		}
	})
	h.same(h.replay(h.options()))
}

// Retention has taken the beginning of the source: that is counted, and the rest
// is checked all the same.
func sourceGone(h *history, t *testing.T) {
	offs := kadm.Offsets{}
	offs.AddOffset(h.topics.Source("d"), 0, 30, -1)
	offs.AddOffset(h.topics.Source("d"), 1, 30, -1)
	if _, err := h.adm.DeleteRecords(h.ctx, offs); err != nil {
		t.Fatal(err)
	}
	r := h.replay(h.options())
	var gone int64
	for _, u := range r.Unchecked {
		if u.What == "source" && strings.Contains(u.Why, "retention") {
			gone += u.Records
		}
	}
	if r.Faults != 0 || gone < 60 || r.Decisions == 0 || r.Decisions >= h.decisions() {
		t.Errorf("gone %d: %+v", gone, r)
	}
}

// The topic was deleted and made again since: its offsets mean other records.
func madeAgain(h *history, t *testing.T) {
	flip := func(head *deliver.BatchHeader, _ []broker.Decision) {
		if head.Dataset == "d" {
			head.TopicID[0] ^= 1
		}
	}
	h.edit(flip)
	r := h.replay(h.options())
	if r.Faults != 0 || len(r.Unchecked) != 1 || !strings.Contains(r.Unchecked[0].Why, "made again") || r.Unchecked[0].Records == 0 || r.Decisions == 0 {
		t.Errorf("%+v", r)
	}
	h.edit(flip)
	h.same(h.replay(h.options()))
}

// Without a period's key everything but the pseudonyms is checked, and that is said.
func keyDestroyed(h *history, t *testing.T) {
	o := h.options()
	ring := keys.NewTest(1)
	ring.Forget("2026-11")
	o.Hasher = ring
	r := h.replay(o)
	if r.Faults != 0 || r.Decisions != h.decisions() {
		t.Fatalf("%+v", r)
	}
	if len(r.Unchecked) != 1 || r.Unchecked[0].What != "pseudonyms" || !strings.Contains(r.Unchecked[0].Why, "2026-11") || r.Unchecked[0].Records == 0 {
		t.Errorf("unchecked: %+v", r.Unchecked)
	}
	o.Hasher = keys.NewTest(2) // another keystore: nothing fits
	if r := h.replay(o); r.FaultsBy["event"] == 0 || r.FaultsBy["pseudonym"] == 0 {
		t.Errorf("%+v", r.FaultsBy)
	}
}

// A window of repeats that is shorter than the way back to the first of two: what
// it cannot know is taken from the batch, and said.
func TestRepeatsBeforeTheRange(t *testing.T) {
	h := newHistory(t, intake.Defaults())
	h.publish(h.record("a", 1, 1, "0301", false), h.record("b", 1, 2, "0301", false))
	cut := h.pass(time.Hour)
	h.publish(h.record("a", 1, 1, "0301", false), h.record("b", 1, 3, "0301", false), h.record("c", 1, 1, "0301", false))
	o := h.options()
	o.From = cut
	if r := h.replay(o); r.Faults != 0 || len(r.Unchecked) != 0 || r.Records != 3 || r.Decisions != 1 {
		t.Errorf("with the window read back: %+v", r)
	}
	o.WindowAge = time.Nanosecond
	r := h.replay(o)
	var what []string
	for _, u := range r.Unchecked {
		what = append(what, fmt.Sprint(u.What, " ", u.Records))
	}
	if got := strings.Join(what, ", "); r.Faults != 0 || got != "rejections 1, repeats 1" {
		t.Errorf("without it: %s: %+v", got, r)
	}
}

func TestControlBeyond(t *testing.T) {
	h := newHistory(t, intake.Defaults())
	h.publish(h.record("a", 1, 1, "0301", false))
	h.edit(func(head *deliver.BatchHeader, _ []broker.Decision) { head.Revision = 999 })
	r := h.replay(h.options())
	if len(r.Unchecked) != 1 || r.Unchecked[0].What != "control" || r.Computed() {
		t.Errorf("%+v", r)
	}
}
