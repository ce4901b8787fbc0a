package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func putDeliveries(t *testing.T, brokers, mailbox string, from, to int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for n := from; n < to; n++ {
		rec := &kgo.Record{Topic: "mailbox." + mailbox, Value: fmt.Appendf(nil, "{\"n\":\n%d}", n)}
		for _, h := range []string{"ce_specversion=1.0", fmt.Sprintf("ce_id=%032x", n), "ce_source=urn:datafordeler:dataset:d", "ce_type=t", "content-type=application/json",
			"ce_mailbox=" + mailbox, "ce_subscription=s", "ce_agreement=a", "ce_dataset=d", "ce_provider=313876144", fmt.Sprintf("ce_decision=%032x", n), "ce_recordkind=original"} {
			name, value, _ := strings.Cut(h, "=")
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		}
		if err := cl.ProduceSync(context.Background(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConsumeCommand(t *testing.T) {
	brokers := sdkCluster(t, "mailbox.m")
	putDeliveries(t, brokers, "m", 0, 3)
	code, out, errText := call(t, "", "consume", "--brokers", brokers, "--mailbox", "m")
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if code != 0 || len(lines) != 3 || !strings.Contains(errText, "3 deliveries, 0 repeats") {
		t.Fatalf("code %d\n%s%s", code, out, errText)
	}
	var e struct {
		ID, Agreement, Decision string
		Data                    struct{ N int }
	}
	if err := json.Unmarshal([]byte(lines[2]), &e); err != nil || e.Data.N != 2 || e.Agreement != "a" || len(e.Decision) != 32 {
		t.Errorf("%v in %s", err, lines[2])
	}

	if code, out, _ := call(t, "", "consume", "--brokers", brokers, "--mailbox", "m", "--data-only", "--limit", "2"); code != 0 || out != "{\"n\":0}\n{\"n\":1}\n" {
		t.Errorf("code %d\n%s", code, out)
	}
	if code, out, _ := call(t, "", "consume", "--brokers", brokers, "--mailbox", "m", "--from", "end"); code != 0 || out != "" {
		t.Errorf("code %d\n%s", code, out)
	}

	file := filepath.Join(t.TempDir(), "c.json")
	args := []string{"consume", "--brokers", brokers, "--mailbox", "m", "--data-only", "--checkpoint", file}
	if code, out, _ := call(t, "", append(args, "--limit", "1")...); code != 0 || out != "{\"n\":0}\n" {
		t.Errorf("code %d\n%s", code, out)
	}
	putDeliveries(t, brokers, "m", 0, 4) // repeats, and one that is new
	if code, out, errText := call(t, "", args...); code != 0 || out != "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n" || !strings.Contains(errText, "4 repeats left out") && !strings.Contains(errText, "3 repeats left out") {
		t.Errorf("code %d\n%s%s", code, out, errText)
	}
}

func TestConsumeCommandFaults(t *testing.T) {
	brokers := sdkCluster(t, "mailbox.m")
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no mailbox":   {[]string{"--brokers", brokers}, 2, "--mailbox"},
		"unknown":      {[]string{"--brokers", brokers, "--mailbox", "x"}, 1, "registry get mailbox"},
		"from":         {[]string{"--brokers", brokers, "--mailbox", "m", "--from", "yesterday"}, 2, "2026-01-31"},
		"limit":        {[]string{"--brokers", brokers, "--mailbox", "m", "--limit", "-1"}, 2, "--limit"},
		"two forms":    {[]string{"--brokers", brokers, "--mailbox", "m", "--json", "--data-only"}, 2, "exclude"},
		"an argument":  {[]string{"--brokers", brokers, "--mailbox", "m", "x"}, 2, "too many arguments"},
		"unregistered": {[]string{"--data", t.TempDir(), "--mailbox", "m"}, 1, "not registered"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errText := call(t, "", append([]string{"consume"}, tc.args...)...)
			if code != tc.code || !strings.Contains(errText, tc.want) || out != "" {
				t.Errorf("code %d, want %d and %q:\n%s%s", code, tc.code, tc.want, out, errText)
			}
		})
	}
}
