package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker/kafka"
)

// demoJSON runs the demonstration and returns what it printed, but for the time
// it took.
func demoJSON(t *testing.T, args ...string) map[string]any {
	t.Helper()
	code, out, errText := call(t, "", append([]string{"demo", "--json", "--people", "240"}, args...)...)
	if code != 0 || errText != "" {
		t.Fatalf("code %d: %s", code, errText)
	}
	var v map[string]any
	dec := json.NewDecoder(strings.NewReader(out))
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		t.Errorf("more than one JSON object: %v", err)
	}
	if _, ok := v["seconds"].(float64); !ok {
		t.Error("no seconds")
	}
	delete(v, "seconds")
	return v
}

func TestDemoJSON(t *testing.T) {
	first := demoJSON(t, "--seed", "7")
	want := []string{"decisions", "delivered", "denied", "out_of_scope", "permitted", "published", "rejected", "repeated", "subscriptions"}
	if got := slices.Sorted(maps.Keys(first)); !slices.Equal(got, want) {
		t.Errorf("keys %v, want %v and seconds", got, want)
	}
	number := func(v any) int { n, _ := v.(float64); return int(n) }
	sumOf := func(v any) (n int) {
		m, _ := v.(map[string]any)
		for _, x := range m {
			n += number(x)
		}
		return n
	}
	inScope := 0
	subs, _ := first["subscriptions"].([]any)
	for _, s := range subs {
		s := s.(map[string]any)
		for _, key := range []string{"id", "in_scope", "permitted", "denied", "fields"} {
			if _, ok := s[key]; !ok {
				t.Errorf("subscription %v lacks %s", s["id"], key)
			}
		}
		if number(s["in_scope"]) != number(s["permitted"])+sumOf(s["denied"]) {
			t.Errorf("subscription %v: in scope %v is not permitted %v and denied %v", s["id"], s["in_scope"], s["permitted"], s["denied"])
		}
		if fields, _ := s["fields"].([]any); len(fields) == 0 {
			t.Errorf("subscription %v has no fields", s["id"])
		}
		inScope += number(s["in_scope"])
	}
	if len(subs) < 10 || inScope != number(first["decisions"]) || inScope != number(first["permitted"])+sumOf(first["denied"]) || number(first["delivered"]) != number(first["permitted"]) {
		t.Errorf("the counts do not add up: %v", first)
	}

	if again := demoJSON(t, "--seed", "7"); !reflect.DeepEqual(first, again) {
		t.Errorf("the same seed gives other counts:\n%v\n%v", first, again)
	}
	if other := demoJSON(t, "--seed", "8"); reflect.DeepEqual(first, other) {
		t.Error("another seed gives the same counts")
	}
}

// notice is a writer that says when a text has been written.
type notice struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	text  *regexp.Regexp
	found chan string
}

func (n *notice) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.buf.Write(b)
	if m := n.text.FindSubmatch(n.buf.Bytes()); m != nil && n.found != nil {
		n.found <- string(m[1])
		n.found = nil
	}
	return len(b), nil
}

// TestNoPersonInThePlumbing: after the demonstration, identity numbers stand in
// what providers published and in what was delivered, and nowhere else.
func TestNoPersonInThePlumbing(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	addr := make(chan string, 1)
	out := &notice{text: regexp.MustCompile(`Still running: http://([^/]+)/metrics`), found: addr}
	var logged bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, stdio{strings.NewReader(""), out, &logged}, []string{"demo", "--people", "240", "--data", data, "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--issuer", "127.0.0.1:0", "--verbose"})
	}()
	select {
	case a := <-addr:
		resp, err := http.Get("http://" + a + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		metrics, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Contains(metrics, []byte("datafordeler_decisions_total{")) {
			t.Fatalf("%v, metrics:\n%.500s", err, metrics)
		}
		if n := persons(metrics); n > 0 {
			t.Errorf("%d identity numbers in /metrics", n)
		}
		stop()
	case code := <-ended:
		t.Fatalf("ended with %d: %s", code, logged.String())
	}
	if code := <-ended; code != 0 {
		t.Fatalf("code %d: %s", code, logged.String())
	}
	if !strings.Contains(logged.String(), "level=DEBUG") {
		t.Error("--verbose logged nothing: the search would prove nothing")
	}
	for what, b := range map[string][]byte{"the log": logged.Bytes(), "the output": out.buf.Bytes()} {
		if n := persons(b); n > 0 {
			t.Errorf("%d identity numbers in %s", n, what)
		}
	}

	// The files, names included: segments may be compressed, so that they are
	// read through a client below; all else is read as it stands.
	carries := regexp.MustCompile(`^(source\.|mailbox\.|deliveries$)`)
	entries, err := personsBelow(filepath.Dir(data))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range entries {
		topic := filepath.Base(filepath.Dir(file))
		if topic = topic[:max(0, strings.LastIndexByte(topic, '-'))]; !carries.MatchString(topic) {
			t.Errorf("identity numbers in %s", file)
		}
	}

	// The topics.
	found := map[string]int{}
	for topic, n := range scanTopics(t, data) {
		if persons([]byte(topic)) > 0 {
			t.Errorf("an identity number in a topic's name")
		}
		if carries.MatchString(topic) {
			group, _, _ := strings.Cut(topic, ".")
			found[group] += n
		} else if n > 0 {
			t.Errorf("%d records of topic %s hold identity numbers", n, topic)
		}
	}
	if found["source"] == 0 || found["deliveries"] == 0 {
		t.Errorf("found %v: the search does not see what is there", found)
	}
}

// scanTopics counts, in each topic, the records that hold an identity number in
// key, value or header, aborted ones included.
func scanTopics(t *testing.T, data string) map[string]int {
	t.Helper()
	engine, err := kafka.Open(t.Context(), dataConfig(data).Config, nil, kafka.Attach)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(engine.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	ends, err := adm.ListEndOffsets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	counts, offsets, left := map[string]int{}, map[string]map[int32]kgo.Offset{}, 0
	ends.Each(func(o kadm.ListedOffset) {
		counts[o.Topic] += 0
		if offsets[o.Topic] == nil {
			offsets[o.Topic] = map[int32]kgo.Offset{}
		}
		if o.Offset > 0 {
			offsets[o.Topic][o.Partition] = kgo.NewOffset().At(0)
			left++
		}
	})
	reader, err := kgo.NewClient(kgo.SeedBrokers(engine.Brokers()...), kgo.ConsumePartitions(offsets), kgo.KeepControlRecords())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for left > 0 {
		fetches := reader.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			text := append(append([]byte{}, r.Key...), ' ')
			text = append(append(text, r.Value...), ' ')
			for _, h := range r.Headers {
				text = append(append(append(text, h.Key...), ' '), h.Value...)
				text = append(text, ' ')
			}
			if persons(text) > 0 {
				counts[r.Topic]++
			}
			if end, ok := ends.Lookup(r.Topic, r.Partition); ok && r.Offset == end.Offset-1 {
				left--
			}
		})
	}
	return counts
}
