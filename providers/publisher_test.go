package providers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"datafordeler/broker/kafka"
	"datafordeler/providers"
)

const topic = "source.inntekt"

func cluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(2), kfake.SeedTopics(3, topic)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func config(c *kfake.Cluster) providers.Config {
	return providers.Config{Brokers: c.ListenAddrs(), Dataset: "inntekt", Source: "urn:test:payroll", Type: "no.test.inntekt.v1"}
}

func publisher(t testing.TB, cfg providers.Config) *providers.Publisher {
	t.Helper()
	p, err := providers.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// read returns all records of the source topic, each partition's in order.
func read(t testing.TB, c *kfake.Cluster) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	ends.Each(func(o kadm.ListedOffset) { want += int(o.Offset) })
	var out []*kgo.Record
	for len(out) < want {
		f := cl.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatal(err)
		}
		out = append(out, f.Records()...)
	}
	slices.SortStableFunc(out, func(a, b *kgo.Record) int { return int(a.Partition - b.Partition) })
	return out
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func TestTopicNameIsTheBrokers(t *testing.T) {
	if got, want := providers.SourceTopic("a.", "inntekt"), (kafka.Topics{Prefix: "a."}).Source("inntekt"); got != want {
		t.Errorf("topic %q, the broker's is %q", got, want)
	}
}

func TestPublishWritesCloudEvents(t *testing.T) {
	c := cluster(t)
	p := publisher(t, config(c))
	at := time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)
	err := p.Publish(context.Background(), providers.Event{
		ID: "e-1", Time: at, Key: "01890012345", Data: []byte(`{"beloep": 1.50}`), DataSchema: "urn:schema:1",
		Supersedes: "e-0", Provisional: true, Extensions: map[string]string{"kommune": "0301"},
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	})
	if err != nil {
		t.Fatal(err)
	}
	rec := read(t, c)[0]
	want := map[string]string{
		"ce_specversion": "1.0", "ce_id": "e-1", "ce_source": "urn:test:payroll", "ce_type": "no.test.inntekt.v1",
		"ce_time": "2026-11-05T12:00:00Z", "ce_dataschema": "urn:schema:1", "ce_supersedes": "e-0", "ce_provisional": "true",
		"ce_kommune": "0301", "ce_traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"content-type": "application/json",
	}
	for name, value := range want {
		if got := header(rec, name); got != value {
			t.Errorf("header %s: %q, want %q", name, got, value)
		}
	}
	if len(rec.Headers) != len(want) {
		t.Errorf("%d headers, want %d", len(rec.Headers), len(want))
	}
	if string(rec.Value) != `{"beloep": 1.50}` {
		t.Errorf("value %q", rec.Value)
	}
	if strings.Contains(string(rec.Key), "01890012345") || string(rec.Key) != string(providers.HashKey("inntekt", "01890012345")) {
		t.Errorf("key %q is not the hash", rec.Key)
	}
	// Another client with Kafka's default partitioner places the key alike.
	n := kgo.StickyKeyPartitioner(nil).ForTopic(topic).Partition(&kgo.Record{Key: rec.Key}, 3)
	if int32(n) != rec.Partition {
		t.Errorf("partition %d, the default partitioner says %d", rec.Partition, n)
	}
}

func TestIDsDependOnTheEventOnly(t *testing.T) {
	base := providers.Event{Type: "t", Key: "k", Data: []byte(`{"a":1}`)}
	change := map[string]func(*providers.Event){
		"source": func(e *providers.Event) { e.Source = "urn:other" }, "type": func(e *providers.Event) { e.Type = "u" },
		"key": func(e *providers.Event) { e.Key = "l" }, "data": func(e *providers.Event) { e.Data = []byte(`{"a":2}`) },
		"time": func(e *providers.Event) { e.Time = time.Unix(1, 0) }, "supersedes": func(e *providers.Event) { e.Supersedes = "x" },
		"retracts": func(e *providers.Event) { e.Retracts = "x" }, "provisional": func(e *providers.Event) { e.Provisional = true },
		"extension": func(e *providers.Event) { e.Extensions = map[string]string{"x": "y"} },
	}
	c := cluster(t)
	p := publisher(t, config(c))
	events := []providers.Event{base, base}
	for _, f := range change {
		e := base
		f(&e)
		events = append(events, e)
	}
	if err := p.Publish(context.Background(), events...); err != nil {
		t.Fatal(err)
	}
	ids := map[string]int{}
	for _, r := range read(t, c) {
		ids[header(r, "ce_id")]++
	}
	if len(ids) != len(change)+1 {
		t.Errorf("%d different ids, want %d: equal events share one, others do not", len(ids), len(change)+1)
	}
}

func TestRefusalsSendNothingAndTellNoValue(t *testing.T) {
	const person = "01890012345"
	schema := []byte(`{"type":"object","required":["a"],"properties":{"a":{"type":"integer"},"b":{"enum":["x"]}},"additionalProperties":{"maxLength":2}}`)
	good := providers.Event{Data: []byte(`{"a":1}`)}
	for name, tc := range map[string]struct {
		e    providers.Event
		want string
		is   error
	}{
		"not JSON":        {providers.Event{Data: []byte(`{"a":` + person)}, "not JSON", nil},
		"empty":           {providers.Event{}, "not JSON", nil},
		"schema type":     {providers.Event{Data: []byte(`{"a":"` + person + `"}`)}, `/a is string, want integer`, providers.ErrSchema},
		"schema enum":     {providers.Event{Data: []byte(`{"a":1,"b":"` + person + `"}`)}, `/b breaks "enum"`, providers.ErrSchema},
		"schema lacks":    {providers.Event{Data: []byte(`{"b":"` + person + `"}`)}, `the record lacks a`, providers.ErrSchema},
		"schema name":     {providers.Event{Data: []byte(`{"a":1,"` + person + `":"long"}`)}, "could be a person's number", providers.ErrSchema},
		"too large":       {providers.Event{Data: []byte(`{"a":1,"c":["` + strings.Repeat(person, 1000) + `"]}`)}, "too large", providers.ErrTooLarge},
		"control in id":   {providers.Event{ID: person + "\n", Data: good.Data}, "control character", nil},
		"person in type":  {providers.Event{Type: person, Data: good.Data}, "eleven digits", nil},
		"both":            {providers.Event{Supersedes: "1", Retracts: "2", Data: good.Data}, "supersedes and retracts", nil},
		"extension":       {providers.Event{Extensions: map[string]string{"id": "1"}, Data: good.Data}, `"id"`, nil},
		"extension name":  {providers.Event{Extensions: map[string]string{person: "1"}, Data: good.Data}, "name", nil},
		"traceparent":     {providers.Event{Traceparent: person, Data: good.Data}, "traceparent", nil},
		"extension value": {providers.Event{Extensions: map[string]string{"x": person + "\xff"}, Data: good.Data}, "UTF-8", nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t)
			cfg := config(c)
			cfg.Schema, cfg.BatchBytes = schema, 4096
			err := publisher(t, cfg).Publish(context.Background(), good, tc.e, good)
			var pe *providers.Error
			if !errors.As(err, &pe) || !pe.Refused || len(pe.Failures) != 1 || pe.Failures[0].Index != 1 {
				t.Fatalf("error %v; want a refusal of event 1", err)
			}
			if !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), person) {
				t.Errorf("error %q; want %q in it, and no value", err, tc.want)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("error %v is not %v", err, tc.is)
			}
			if n := len(read(t, c)); n != 0 {
				t.Errorf("%d records were written", n)
			}
		})
	}
}

func TestSchemaOfAnotherVersionIsLeftToTheBroker(t *testing.T) {
	c := cluster(t)
	cfg := config(c)
	cfg.Schema, cfg.SchemaURI = []byte(`{"type":"object"}`), "urn:v2"
	p := publisher(t, cfg)
	if err := p.Check(providers.Event{Data: []byte(`[]`), DataSchema: "urn:v1"}); err != nil {
		t.Error(err)
	}
	for _, uri := range []string{"", "urn:v2"} {
		if err := p.Check(providers.Event{Data: []byte(`[]`), DataSchema: uri}); !errors.Is(err, providers.ErrSchema) {
			t.Errorf("dataschema %q: %v", uri, err)
		}
	}
}

func TestUnknownDatasetSaysWhatToDo(t *testing.T) {
	c := cluster(t)
	cfg := config(c)
	cfg.Dataset = "skatt"
	err := publisher(t, cfg).Publish(context.Background(), providers.Event{Data: []byte(`1`)})
	if !errors.Is(err, providers.ErrUnknownDataset) || !strings.Contains(err.Error(), `"skatt"`) || !strings.Contains(err.Error(), "registry get dataset") {
		t.Errorf("error %v", err)
	}
}

func TestKafkaGone(t *testing.T) {
	c := cluster(t)
	cfg := config(c)
	cfg.Timeout = 200 * time.Millisecond
	p := publisher(t, cfg)
	c.Close()
	err := p.Publish(context.Background(), providers.Event{Data: []byte(`1`)})
	if err == nil || !strings.Contains(err.Error(), "cannot reach Kafka") {
		t.Errorf("error %v", err)
	}
}

func TestCancelledContextEndsTheWaiting(t *testing.T) {
	c := cluster(t)
	reached, release := make(chan struct{}), make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(reached)
		c.SleepControl(func() { <-release })
		return nil, nil, false
	})
	p := publisher(t, config(c))
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- p.Publish(ctx, providers.Event{ID: "a", Data: []byte(`1`)}) }()
	<-reached
	cancel()
	err := <-result
	var pe *providers.Error
	if !errors.Is(err, context.Canceled) || !errors.As(err, &pe) || !pe.Failures[0].Maybe {
		t.Errorf("error %v; want cancelled, maybe written", err)
	}
	close(release)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c); len(got) != 1 { // the batch under way was let finish
		t.Errorf("%d records", len(got))
	}
	if err := p.Publish(context.Background(), providers.Event{Data: []byte(`1`)}); !errors.Is(err, providers.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A topic may take less than the publisher thinks. Batches are split, and only
// an event that fits in none fails, with those of its call behind it.
func TestTopicTakesLess(t *testing.T) {
	c := cluster(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	limit := "2000"
	if _, err := kadm.NewClient(cl).AlterTopicConfigs(context.Background(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &limit}}, topic); err != nil {
		t.Fatal(err)
	}
	p := publisher(t, config(c))
	var events []providers.Event
	for i := range 40 {
		events = append(events, providers.Event{ID: fmt.Sprint(i), Key: "one", Data: fmt.Appendf(nil, `{"n":%d,"pad":"%s"}`, i, strings.Repeat("x", 200))})
	}
	events[30].Data = []byte(`"` + strings.Repeat("y", 3000) + `"`)
	err = p.Publish(context.Background(), events...)
	var pe *providers.Error
	if !errors.As(err, &pe) || !errors.Is(err, providers.ErrTooLarge) || len(pe.Failures) != 10 || pe.Failures[0].Index != 30 || pe.Failures[0].Maybe {
		t.Fatalf("error %v", err)
	}
	if !errors.Is(pe.Failures[1].Err, providers.ErrNotSent) {
		t.Errorf("the one behind: %v", pe.Failures[1].Err)
	}
	for i, r := range read(t, c) {
		if header(r, "ce_id") != fmt.Sprint(i) {
			t.Fatalf("record %d is event %s", i, header(r, "ce_id"))
		}
	}
}

func TestConcurrentCallsShareBatches(t *testing.T) {
	c := cluster(t)
	p := publisher(t, config(c))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 25 {
				e := providers.Event{ID: fmt.Sprintf("%d-%02d", g, i), Key: fmt.Sprint(g), Data: []byte(`1`)}
				if err := p.Publish(context.Background(), e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	last := map[string]string{}
	for _, r := range read(t, c) {
		id := header(r, "ce_id")
		if id <= last[id[:1]] {
			t.Fatalf("%s came after %s", id, last[id[:1]])
		}
		last[id[:1]] = id
	}
}

// TestFaultsKeepOrder holds any pattern of faults to the promise: dropping
// repeats by id, what was published is there, in order by key, whether a
// failed write was made or not.
func TestFaultsKeepOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(3, topic))
		if err != nil {
			rt.Fatal(err)
		}
		defer c.Close()
		cfg := config(c)
		cfg.BatchSize = rapid.IntRange(1, 7).Draw(rt, "batch")
		p, err := providers.New(cfg)
		if err != nil {
			rt.Fatal(err)
		}
		defer p.Close()

		for i, n := 0, rapid.IntRange(0, 6).Draw(rt, "faults"); i < n; i++ {
			switch rapid.SampledFrom([]string{"written", "written too few", "not written", "moved", "hang up", "fatal"}).Draw(rt, "fault") {
			case "written": // Kafka wrote it, and says that it timed out
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut})
			case "written too few":
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicasAfterAppend})
			case "not written":
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas})
			case "moved":
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition})
			case "fatal": // the call fails; it is made again below
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.UnknownServerError})
			case "hang up":
				c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
					return nil, errors.New("hang up"), true
				})
			}
		}
		want := map[string][]string{}
		n := 0
		for range rapid.IntRange(1, 4).Draw(rt, "calls") {
			var events []providers.Event
			for range rapid.IntRange(1, 20).Draw(rt, "events") {
				n++
				key := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(rt, "key")
				e := providers.Event{Key: key, Data: fmt.Appendf(nil, `{"key":%q,"n":%d}`, key, n)}
				events = append(events, e)
				want[key] = append(want[key], string(e.Data))
			}
			for attempt := 0; ; attempt++ {
				if err := p.Publish(context.Background(), events...); err == nil {
					break
				} else if attempt == 10 {
					rt.Fatal(err)
				}
			}
		}
		got, seen, repeats := map[string][]string{}, map[string]string{}, 0
		for _, r := range read(t, c) {
			id := header(r, "ce_id")
			if first, again := seen[id]; again {
				repeats++
				if first != string(r.Value) {
					rt.Fatalf("id %s stands for two contents", id)
				}
				continue
			}
			seen[id] = string(r.Value)
			key := string(r.Value[8:9])
			got[key] = append(got[key], string(r.Value))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			rt.Fatalf("in the topic, without repeats:\n%v\npublished:\n%v", got, want)
		}
	})
}

func TestSubjectFromPayload(t *testing.T) {
	c := cluster(t)
	cfg := config(c)
	cfg.Subject = "/mottaker/id"
	p := publisher(t, cfg)
	for data, key := range map[string]string{
		`{"x":{"id":"no"},"mottaker":{"a":[1],"id":"17"}}`: "17",
		`{"mottaker":[{"id":23},{"id":24}]}`:               "23",
		`{"mottaker":{"id":null}}`:                         "",
		`{"mottaker":"17"}`:                                "",
		`[]`:                                               "",
	} {
		before := len(read(t, c))
		if err := p.Publish(context.Background(), providers.Event{Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
		for _, r := range read(t, c) {
			if string(r.Value) != data {
				continue
			}
			want := ""
			if key != "" {
				want = string(providers.HashKey("inntekt", key))
			}
			if string(r.Key) != want {
				t.Errorf("%s: key %q, want the hash of %q", data, r.Key, key)
			}
		}
		if after := len(read(t, c)); after != before+1 {
			t.Errorf("%d records, want %d", after, before+1)
		}
	}
}

func TestConfigTellsAllFaults(t *testing.T) {
	_, err := providers.New(providers.Config{Brokers: []string{"kafka"}, Dataset: "A B", Source: "urn:x:01890012345", Subject: "id", BatchSize: -1,
		Compression: "rar", SASL: &providers.SASL{Mechanism: "plain", Username: "u", Password: func() (string, error) { return "p", nil }}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`"kafka"`, `"A B"`, "Source", "Subject", "BatchSize", "rar", "TLS"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q; want %q in it", err, want)
		}
	}
	for _, schema := range []string{`{`, `{"type":1}`, `{"$ref":"https://example.com/x.json"}`} {
		_, err := providers.New(providers.Config{Brokers: []string{"k:1"}, Dataset: "a", Source: "urn:x", Schema: []byte(schema)})
		if err == nil || !strings.Contains(err.Error(), "Schema") {
			t.Errorf("schema %s: %v", schema, err)
		}
	}
}

func TestSCRAM(t *testing.T) {
	for _, mechanism := range []string{"scram-sha-256", "scram-sha-512"} {
		c := cluster(t, kfake.EnableSASL(), kfake.Superuser(strings.ToUpper(mechanism), "pay=roll,1", "correct horse"))
		cfg := config(c)
		cfg.Timeout = 5 * time.Second
		password := "correct horse"
		cfg.SASL = &providers.SASL{Mechanism: mechanism, Username: "pay=roll,1", Password: func() (string, error) { return password, nil }}
		if err := publisher(t, cfg).Publish(context.Background(), providers.Event{Data: []byte(`1`)}); err != nil {
			t.Errorf("%s: %v", mechanism, err)
		}
		password = "wrong"
		if err := publisher(t, cfg).Publish(context.Background(), providers.Event{Data: []byte(`1`)}); err == nil {
			t.Errorf("%s: a wrong password was let in", mechanism)
		} else if strings.Contains(err.Error(), "wrong") {
			t.Errorf("%s: the error tells the password: %v", mechanism, err)
		}
	}
}
