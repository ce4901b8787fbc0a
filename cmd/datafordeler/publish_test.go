package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// call runs a command line as main does.
func call(t *testing.T, in string, args ...string) (code int, out, errText string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), stdio{strings.NewReader(in), &o, &e}, args)
	return code, o.String(), e.String()
}

func sdkCluster(t *testing.T, topics ...string) string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return strings.Join(c.ListenAddrs(), ",")
}

func TestPublishCommand(t *testing.T) {
	brokers := sdkCluster(t, "x.source.inntekt")
	file := filepath.Join(t.TempDir(), "in.ndjson")
	if err := os.WriteFile(file, []byte("{\"id\":\"a\"}\n\n{\"id\":\"b\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errText := call(t, "", "publish", "--brokers", brokers, "--prefix", "x.", "--dataset", "inntekt", "--key", "/id", "--json", file)
	var sum publishSummary
	if err := json.Unmarshal([]byte(out), &sum); code != 0 || err != nil || sum.Published != 2 || sum.Bytes != 20 {
		t.Fatalf("code %d, %s%s", code, out, errText)
	}
	// From standard input, and again: the same ids.
	code, _, errText = call(t, "{\"id\":\"a\"}\n", "publish", "--brokers", brokers, "--prefix", "x.", "--dataset", "inntekt", "--key", "/id", "-")
	if code != 0 || !strings.Contains(errText, "published 1 events") {
		t.Fatalf("code %d: %s", code, errText)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.ConsumeTopics("x.source.inntekt"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ids, n := map[string]bool{}, 0
	for n < 3 {
		for _, r := range cl.PollFetches(context.Background()).Records() {
			n++
			for _, h := range r.Headers {
				if h.Key == "ce_id" {
					ids[string(h.Value)] = true
				}
			}
		}
	}
	if len(ids) != 2 {
		t.Errorf("%d ids among %d records, want 2", len(ids), n)
	}
}

func TestPublishCommandFaults(t *testing.T) {
	brokers := sdkCluster(t, "source.inntekt")
	schema := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(schema, []byte(`{"type":"object","required":["a"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	const person = "01890012345"
	for name, tc := range map[string]struct {
		in   string
		args []string
		code int
		want []string
	}{
		"no dataset":     {"", []string{"--brokers", brokers, "-"}, 2, []string{"--dataset"}},
		"no Kafka":       {"", []string{"--dataset", "inntekt", "-"}, 2, []string{"--brokers", "--data", "--config"}},
		"two Kafkas":     {"", []string{"--dataset", "inntekt", "--brokers", brokers, "--data", "x", "-"}, 2, []string{"exclude"}},
		"no such dir":    {"", []string{"--dataset", "inntekt", "--data", "/no/such", "-"}, 2, []string{"/no/such"}},
		"no file":        {"", []string{"--dataset", "inntekt", "--brokers", brokers, "/no/such"}, 2, []string{"/no/such"}},
		"no argument":    {"", []string{"--dataset", "inntekt", "--brokers", brokers}, 2, []string{"too few"}},
		"unknown flag":   {"", []string{"--datasett", "inntekt", "-"}, 2, []string{"datasett"}},
		"bad key":        {"", []string{"--dataset", "inntekt", "--brokers", brokers, "--key", "id", "-"}, 2, []string{"JSON Pointer"}},
		"bad address":    {"", []string{"--dataset", "inntekt", "--brokers", "kafka", "-"}, 2, []string{`"kafka"`}},
		"unknown":        {"{}\n", []string{"--dataset", "skatt", "--brokers", brokers, "-"}, 1, []string{`"skatt"`, "registry get dataset"}},
		"not JSON":       {"{}\n" + person + "x\n{}\n", []string{"--dataset", "inntekt", "--brokers", brokers, "-"}, 1, []string{"line 2", "published 1 events", "again"}},
		"schema":         {"{\"a\":1}\n\n{\"b\":\"" + person + "\"}\n", []string{"--dataset", "inntekt", "--brokers", brokers, "--schema", schema, "-"}, 1, []string{"line 3", "lacks a", "nothing was sent"}},
		"dry run":        {"{\"a\":1}\n{\n{\"b\":\"" + person + "\"}\n", []string{"--dataset", "inntekt", "--dry-run", "--schema", schema, "-"}, 1, []string{"line 2: not JSON", "line 3: schema", "2 of 3"}},
		"dry run, right": {"{\"a\":1}\n", []string{"--dataset", "inntekt", "--dry-run", "-"}, 0, []string{"checked 1 lines", "0 not right"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errText := call(t, tc.in, append([]string{"publish"}, tc.args...)...)
			if code != tc.code {
				t.Errorf("code %d, want %d", code, tc.code)
			}
			for _, want := range tc.want {
				if !strings.Contains(errText, want) {
					t.Errorf("%q is not in:\n%s", want, errText)
				}
			}
			if strings.Contains(errText+out, person) {
				t.Errorf("content in:\n%s", errText)
			}
		})
	}
}

func TestSDKCommandsHelp(t *testing.T) {
	for _, name := range []string{"publish", "consume"} {
		code, out, _ := call(t, "", name, "--help")
		if code != 0 || !strings.Contains(out, "Examples:") || !strings.Contains(out, "--brokers") {
			t.Errorf("%s --help: code %d\n%s", name, code, out)
		}
	}
}
