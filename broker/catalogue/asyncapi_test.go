package catalogue

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

type names struct{}

func (names) Source(d string) string   { return "x.source." + d }
func (names) Rejected(d string) string { return "x.rejected." + d }
func (names) Mailbox(m string) string  { return "x.mailbox." + m }

// demo is the demonstration's registry, with one more mailbox that receives by Kafka.
func demo(t *testing.T) *registry.State {
	t.Helper()
	docs, err := registry.Load("../../deploy/demo")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		if m, ok := d.Body.(*broker.Mailbox); ok && m.ID == "oslo-sosialhjelp" {
			m.Channel, m.Partitions = broker.KafkaChannel, 2
		}
	}
	st := registry.New()
	plan, err := registry.NewPlan(st, docs, "test", time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range plan.Events {
		if _, err := st.Fold(e); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

func describe(t *testing.T, st *registry.State, o AsyncOptions) map[string]any {
	t.Helper()
	o.Names, o.Version = names{}, "test"
	b, err := AsyncAPI(st, o)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := AsyncAPI(st, o)
	if !bytes.Equal(b, again) {
		t.Error("the same state gave other bytes")
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	holdToSpecification(t, doc)
	return doc
}

// holdToSpecification holds a document to AsyncAPI's own JSON Schema, where
// DATAFORDELER_ASYNCAPI names it (3.1.0.json of the npm package @asyncapi/specs).
func holdToSpecification(t *testing.T, doc any) {
	path := os.Getenv("DATAFORDELER_ASYNCAPI")
	if path == "" {
		return
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("asyncapi.json", spec); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("asyncapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(doc); err != nil {
		t.Errorf("not AsyncAPI 3.1: %v", err)
	}
}

// Every reference leads somewhere.
func resolve(t *testing.T, root map[string]any, v any) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok && strings.HasPrefix(ref, "#/c") {
			var at any = root
			for token := range strings.SplitSeq(ref[2:], "/") {
				m, _ := at.(map[string]any)
				at = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(token)]
			}
			if at == nil {
				t.Errorf("%s leads nowhere", ref)
			}
		}
		for k, x := range v {
			if k != "payload" { // a provider's schema has references of its own
				resolve(t, root, x)
			}
		}
	case []any:
		for _, x := range v {
			resolve(t, root, x)
		}
	}
}

func TestAsyncAPI(t *testing.T) {
	st := demo(t)
	doc := describe(t, st, AsyncOptions{Servers: []string{"kafka.example.no:9093"}, Secure: true})
	resolve(t, doc, doc)
	channels := doc["channels"].(map[string]any)
	source := channels["source.inntekt"].(map[string]any)
	if source["address"] != "x.source.inntekt" {
		t.Errorf("address %v", source["address"])
	}
	if _, ok := channels["mailbox.oslo-sosialhjelp"]; !ok {
		t.Error("a mailbox that receives by Kafka is not described")
	}
	for name, c := range channels {
		if len(c.(map[string]any)["messages"].(map[string]any)) == 0 {
			t.Errorf("%s has no messages", name)
		}
	}
	var mailbox string
	b, _ := json.Marshal(channels["mailbox.oslo-sosialhjelp"])
	mailbox = string(b)
	if !strings.Contains(mailbox, `"x-fields":["/`) || !strings.Contains(mailbox, `"partitions":2`) {
		t.Errorf("the mailbox's fields or partitions are missing: %s", mailbox)
	}
}

// What an organisation is told holds nothing of another's.
func TestAsyncAPIOfOneOrganisation(t *testing.T) {
	st := demo(t)
	m := st.Mailbox("oslo-sosialhjelp")
	owner := st.Dataset("inntekt").Owner
	for _, c := range []struct {
		org           broker.OrgNumber
		source, boxes bool
	}{{owner, true, false}, {m.Organisation, false, true}, {"999999999", false, false}} {
		channels := describe(t, st, AsyncOptions{For: c.org})["channels"].(map[string]any)
		if _, ok := channels["source.inntekt"]; ok != c.source {
			t.Errorf("%s: source.inntekt: %v", c.org, ok)
		}
		if _, ok := channels["mailbox.oslo-sosialhjelp"]; ok != c.boxes {
			t.Errorf("%s: mailbox: %v", c.org, ok)
		}
	}
}

// TestEveryDeliveryHeader: each attribute that a delivery may have is described. It asks the
// source that writes them, so a new one that nobody describes fails.
func TestEveryDeliveryHeader(t *testing.T) {
	source, err := os.ReadFile("../deliver/headers.go")
	if err != nil {
		t.Fatal(err)
	}
	written := regexp.MustCompile(`"(ce_\w+)"`).FindAllSubmatch(source, -1)
	if len(written) < 16 {
		t.Fatalf("%d headers in the source", len(written))
	}
	described := deliveryHeaders(&broker.Terms{Dataset: &broker.Dataset{}}).Properties
	formats, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range written {
		name := string(h[1])
		if _, ok := described[name]; !ok {
			t.Errorf("AsyncAPI does not describe %s", name)
		}
		if !bytes.Contains(formats, []byte("`"+name+"`")) && name != "ce_specversion" {
			t.Errorf("docs/formats.md does not describe %s", name)
		}
	}
}
