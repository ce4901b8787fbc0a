package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"datafordeler/broker/access"
	"datafordeler/broker/flow"
	"datafordeler/broker/flow/evidence"
	finding "datafordeler/broker/flow/lookup"
	"datafordeler/broker/flow/positions"
	"datafordeler/broker/flow/readmodel"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
	"datafordeler/broker/webhook"
	"datafordeler/policy"
)

var (
	metricName = regexp.MustCompile(`\bdatafordeler_[a-z_]+`)
	descName   = regexp.MustCompile(`fqName: "([^"]+)"`)
	descLabels = regexp.MustCompile(`variableLabels: \{([^}]*)\}`)
)

// exported is every metric of the broker with its labels.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	metrics := map[string][]string{}
	all := flow.New(flow.Options{Config: flow.Defaults()}).Metrics().Collectors()
	for _, c := range slices.Concat(all, evidence.NewMetrics(nil).Collectors(), readmodel.New(readmodel.Options{}).Collectors(), positions.New(positions.Options{}).Collectors(), flow.New(flow.Options{Config: flow.Defaults()}).Committer().Collectors(), lookupMetrics(t), flow.NewBinder(flow.Barrier{}).Collectors(),
		web.New(web.Options{}).Collectors(), web.New(web.Options{}).RegisterFeeds(web.FeedOptions{}).Collectors(), gatekeeper(t).Collectors(), web.New(web.Options{}).Publishing(web.Publishing{}), webhook.New(webhook.Options{Config: webhook.Defaults()}).Collectors()) {
		descs := make(chan *prometheus.Desc, 10)
		c.Describe(descs)
		close(descs)
		for d := range descs {
			labels := descLabels.FindStringSubmatch(d.String())
			metrics[descName.FindStringSubmatch(d.String())[1]] = strings.FieldsFunc(labels[1], func(r rune) bool { return r == ',' || r == ' ' })
		}
	}
	if len(metrics) < 10 {
		t.Fatalf("only %d metrics", len(metrics))
	}
	return metrics
}

func lookupMetrics(t *testing.T) []prometheus.Collector {
	t.Helper()
	s, err := finding.New(finding.Options{Providers: finding.NewProviders(finding.Config{}, nil, nil)})
	if err != nil {
		t.Fatal(err)
	}
	return s.Collectors()
}

func gatekeeper(t *testing.T) *access.Gatekeeper {
	t.Helper()
	cfg := access.Defaults()
	cfg.Issuers = []access.Issuer{{Kind: access.Maskinporten, URL: "https://maskinporten.no/"}}
	rules, err := policy.NewAccessChecker()
	if err != nil {
		t.Fatal(err)
	}
	g, err := access.New(cfg, access.Options{View: func(func(*registry.State)) {}, Checker: rules, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// named lists the metrics that a text names, histograms without their suffix.
func named(text string, metrics map[string][]string) []string {
	var names []string
	for _, n := range metricName.FindAllString(text, -1) {
		if _, known := metrics[n]; !known {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				n = strings.TrimSuffix(n, suffix)
			}
		}
		names = append(names, n)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

var groupedBy = regexp.MustCompile(`by \(([^)]*)\)`)

// checkExpr holds an expression to the metrics that exist and to their labels.
func checkExpr(t *testing.T, where, expr string, metrics map[string][]string) {
	t.Helper()
	found := named(expr, metrics)
	if len(found) == 0 {
		t.Errorf("%s names no metric: %s", where, expr)
	}
	labels := []string{"job", "instance", "le"}
	for _, n := range found {
		l, ok := metrics[n]
		if !ok {
			t.Errorf("%s names %s, which the broker does not export", where, n)
		}
		labels = append(labels, l...)
	}
	for _, m := range groupedBy.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(m[1], ",") {
			if l = strings.TrimSpace(l); !slices.Contains(labels, l) {
				t.Errorf("%s groups by %s, which none of %v has", where, l, found)
			}
		}
	}
	if strings.Count(expr, "(") != strings.Count(expr, ")") || strings.Count(expr, "{") != strings.Count(expr, "}") {
		t.Errorf("%s: brackets do not pair: %s", where, expr)
	}
}

func TestDashboard(t *testing.T) {
	b, err := os.ReadFile("../../deploy/grafana/datafordeler.json")
	if err != nil {
		t.Fatal(err)
	}
	var dash struct {
		UID, Title string
		Templating struct{ List []struct{ Name, Type string } }
		Panels     []struct {
			ID                       int
			Type, Title, Description string
			Targets                  []struct {
				Expr       string
				Datasource struct{ UID string }
			}
			FieldConfig struct{ Defaults struct{ Unit string } }
		}
	}
	if err := json.Unmarshal(b, &dash); err != nil {
		t.Fatal(err)
	}
	if dash.UID == "" || dash.Title == "" {
		t.Error("a dashboard has a uid and a title")
	}
	if len(dash.Templating.List) == 0 || dash.Templating.List[0].Type != "datasource" {
		t.Error("the first variable is the data source, so that the dashboard can be imported anywhere")
	}
	metrics := exported(t)
	ids := map[int]bool{}
	for _, p := range dash.Panels {
		if ids[p.ID] {
			t.Errorf("panel %q: id %d stands twice", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("panel %q lacks a description, a unit or a query", p.Title)
		}
		for _, q := range p.Targets {
			if q.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q is tied to one data source", p.Title)
			}
			checkExpr(t, "panel "+p.Title, q.Expr, metrics)
		}
	}
	shown := named(string(b), metrics)
	for name := range metrics {
		if !slices.Contains(shown, name) {
			t.Errorf("%s is exported and on no panel", name)
		}
	}
}

func TestAlerts(t *testing.T) {
	b, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	dec := yaml.NewDecoder(strings.NewReader(string(b)))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		t.Fatal(err)
	}
	metrics := exported(t)
	n := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			n++
			checkExpr(t, "alert "+r.Alert, r.Expr, metrics)
			if r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("alert %q lacks a name, a severity, a summary or what to do", r.Alert)
			}
		}
	}
	if n == 0 {
		t.Error("no alerts")
	}
}

// No label may be a person or a record.
func TestMetricLabels(t *testing.T) {
	allowed := []string{"dataset", "partition", "subscription", "agreement", "outcome", "reason", "form", "witness", "operation", "status", "issuer", "way", "kind", "source", "state"}
	for name, labels := range exported(t) {
		for _, l := range labels {
			if !slices.Contains(allowed, l) {
				t.Errorf("%s has the label %s; allowed are %v", name, l, allowed)
			}
		}
	}
}
