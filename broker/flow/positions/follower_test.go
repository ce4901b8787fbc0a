package positions

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	index "datafordeler/broker/store/positions"
	"datafordeler/providers/synthetic"
)

// months are records of several people, with corrections, retractions and repeats.
func (r *rig) months(n int) (out []synthetic.Event) {
	for i := range n {
		out = append(out, r.people.Income(nil, i))
		switch i % 4 {
		case 1:
			out = append(out, r.people.Correction(i))
		case 2:
			out = append(out, r.people.Correction(i), r.people.Retraction(i))
		case 3:
			out = append(out, r.people.Repeat(i))
		}
	}
	return out
}

// What is decided comes to be in the index, what was rejected and what is not decided
// does not; and it says nobody's number.
func TestFollows(t *testing.T) {
	r := newRig(t)
	f, stop := r.start(r.opts)
	r.same(f)
	for p := range int32(partitions) {
		r.publish(p, r.months(12)...)
	}
	r.decide(0, 7, 2, 5)
	r.decide(1, 3)
	r.same(f)
	// An aborted transaction's decisions do not count, a committed one's do.
	client, err := r.engine.NewClient(kgo.TransactionalID("test"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		d := &kgo.Record{Topic: r.cfg.Topics().Decisions(), Partition: 0, Value: []byte{9}}
		if end == kgo.TryCommit {
			d = r.decision(0, 6, 0)
		}
		if err := client.ProduceSync(t.Context(), d).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := client.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
		r.same(f)
	}
	// Single decisions have no range; what they gave is kept.
	r.produce(&kgo.Record{Topic: r.cfg.Topics().Decisions(), Partition: 1, Value: r.gift(broker.LookupDecision, broker.EventHash{1}, true)},
		&kgo.Record{Topic: r.cfg.Topics().Decisions(), Partition: 2, Value: r.gift(broker.BackfillDecision, broker.EventHash{2}, true)},
		&kgo.Record{Topic: r.cfg.Topics().Decisions(), Partition: 2, Value: r.gift(broker.DoorDecision, broker.EventHash{1}, false)})
	r.decide(1, 4)
	r.same(f)
	for i := range 8 {
		person := r.people.Person(i)
		subject := r.ring.Subject(broker.Person, person.ID)
		got, err := f.Current(t.Context(), dataset, subject, index.Bound{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		want, err := r.wanted.Current(t.Context(), dataset, subject, index.Bound{}, 10)
		if err != nil || len(got) != len(want) {
			t.Errorf("person %d: %d records, want %d: %v", i, len(got), len(want), err)
		}
	}
	if got, want := f.Next(r.topicID, 1), r.next[1]; got != want {
		t.Errorf("next %d, want %d", got, want)
	}
	stop()
	files, err := filepath.Glob(r.opts.Path + "*")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v %v", files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, log := range r.log {
			for _, e := range log {
				if bytes.Contains(b, e.Key) || bytes.Contains(b, []byte(e.ID)) {
					t.Fatalf("%s has an identifier", file)
				}
			}
		}
	}
	if r.logged("level=ERROR") > 0 {
		t.Error(r.said.String())
	}
}

// One that is behind reads on; one that is made of another log is made anew.
func TestOtherLog(t *testing.T) {
	r := newRig(t)
	r.publish(0, r.months(10)...)
	r.decide(0, 5)
	f, stop := r.start(r.opts)
	r.same(f)
	stop()
	r.decide(0, 3)
	f, stop = r.start(r.opts)
	r.same(f)
	stop()
	if r.logged("made anew") > 0 {
		t.Fatal(r.said.String())
	}
	// The data is set back to here, with what was decided later in the index.
	r.down()
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(r.cfg.Data)); err != nil {
		t.Fatal(err)
	}
	r.up()
	r.decide(0, 4)
	f, stop = r.start(r.opts)
	r.same(f)
	stop()
	for i, after := range []func(){
		func() {},                 // shorter than what was read
		func() { r.decide(0, 5) }, // and other, as long
	} {
		r.down()
		r.cfg.Data = filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(r.cfg.Data, os.DirFS(old)); err != nil {
			t.Fatal(err)
		}
		r.up()
		path := r.opts.Path
		if i > 0 { // as it was read before it was set back
			r.opts.Path = path + ".ahead"
		} else if err := copyFile(path, path+".ahead"); err != nil {
			t.Fatal(err)
		}
		r.rewant(8)
		after()
		f, stop = r.start(r.opts)
		r.same(f)
		stop()
		if got := r.logged("made anew"); got != i+1 {
			t.Errorf("made anew %d times, want %d", got, i+1)
		}
	}
}

// rewant makes what is wanted anew: partition 0 decided up to an offset, as it was.
func (r *rig) rewant(next int64) {
	r.t.Helper()
	was := r.now
	if err := r.wanted.Remove(r.t.Context(), r.topicID); err != nil {
		r.t.Fatal(err)
	}
	r.next[0] = 0
	r.now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	r.decision(0, 5)
	r.decision(0, int(next)-5)
	r.now = was
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

// What retention removed leaves the index, whether it was in it or not.
func TestRetention(t *testing.T) {
	r := newRig(t)
	r.publish(0, r.months(20)...)
	r.publish(1, r.months(5)...)
	r.decide(0, 10)
	r.decide(1, 4)
	f, stop := r.start(r.opts)
	r.same(f)
	stop()
	r.decide(0, 10)
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: r.source(), Partition: 0, At: 14})
	offsets.Add(kadm.Offset{Topic: r.source(), Partition: 1, At: 4})
	if _, err := r.adm.DeleteRecords(t.Context(), offsets); err != nil {
		t.Fatal(err)
	}
	for p, at := range map[int32]int64{0: 14, 1: 4} {
		if err := r.wanted.Expire(t.Context(), r.topicID, p, at); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the old one, and one from nothing
		f, stop = r.start(r.opts)
		r.same(f)
		r.decide(0, 1)
		r.same(f)
		stop()
		r.opts.Path += ".new"
	}
	if r.logged("level=ERROR") > 0 {
		t.Error(r.said.String())
	}
}

// A topic that is deleted and made anew has other records.
func TestMadeAnew(t *testing.T) {
	r := newRig(t)
	r.publish(0, r.months(6)...)
	r.decide(0, 6)
	f, stop := r.start(r.opts)
	r.same(f)
	_, err := r.adm.DeleteTopics(t.Context(), r.source())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.engine.EnsureTopics(t.Context(), r.cfg.SourceSpec(dataset)); err != nil {
		t.Fatal(err)
	}
	if err := r.wanted.Remove(t.Context(), r.topicID); err != nil {
		t.Fatal(err)
	}
	r.look()
	r.client.Close() // it remembers the topic by its old id
	if r.client, err = r.engine.NewClient(kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		t.Fatal(err)
	}
	r.log[0], r.next[0] = nil, 0
	r.publish(0, r.months(9)[2:]...)
	r.decide(0, 3)
	r.same(f)
	r.decide(0, 2, 1)
	r.same(f)
	stop()
	r.opts.Path += ".new"
	f, _ = r.start(r.opts)
	r.same(f)
}
