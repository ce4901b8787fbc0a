package web

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/audit"
	"datafordeler/broker/ledger"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
	"datafordeler/providers/synthetic"
)

const (
	skatt  broker.OrgNumber = "974761076" // provides everything
	oslo   broker.OrgNumber = "958935420"
	bergen broker.OrgNumber = "964338531"
	digdir broker.OrgNumber = "991825827"
)

// books are a registry with a log of its own, in memory.
type books struct {
	mu     sync.Mutex
	state  *registry.State
	events []registry.Event
	fails  error
}

func (b *books) View(fn func(*registry.State)) { b.mu.Lock(); defer b.mu.Unlock(); fn(b.state) }

func (b *books) Log(_ context.Context, fn func(int64, registry.Event, bool) error) error {
	for i, e := range b.events {
		if err := fn(int64(i), e, true); err != nil {
			return err
		}
	}
	return nil
}

func (b *books) Append(_ context.Context, plan func(*registry.State) ([]registry.Event, error)) (broker.Revision, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails != nil {
		return 0, b.fails
	}
	events, err := plan(b.state)
	if err != nil {
		return 0, err
	}
	for _, e := range events {
		if ok, err := b.state.Fold(e); !ok || err != nil {
			return 0, fmt.Errorf("not accepted: %v %w", ok, err)
		}
		b.events = append(b.events, e)
	}
	return b.state.Revision(), nil
}

// Pseudonyms are of one month, and of no secret key.
func (b *books) Pseudonyms(kind broker.SubjectKind, id string, _ time.Time) ([]broker.Pseudonym, []string, error) {
	if kind == broker.Person && !synthetic.ValidNationalID(id) {
		return nil, nil, &audit.SubjectError{Why: "not a national identity number"}
	}
	return []broker.Pseudonym{pseudonymOf(id)}, []string{"2024-01"}, nil
}

func (b *books) PseudonymsOf(broker.SubjectKey, time.Time) ([]broker.Pseudonym, []string, error) {
	return []broker.Pseudonym{}, nil, nil
}

func pseudonymOf(id string) (p broker.Pseudonym) {
	for i, c := range []byte(id) {
		p[i%16] = p[i%16]*31 + c + 1
	}
	return p
}

// Prove stands in for the ledger: a decision's line is made of what was found.
func (b *books) Prove(_ context.Context, h *store.Hit) (*audit.Proven, error) {
	return &audit.Proven{Line: ledger.AppendDecision(nil, &h.Decision), Status: audit.ProofStatus{Origin: "ledger", Covered: 1, Cosigners: []string{}}}, nil
}

// office is a server with decisions of three organisations.
type office struct {
	*Server
	books  *books
	store  *store.Store
	log    *bytes.Buffer
	person string
	ids    map[broker.OrgNumber]broker.DecisionID // one of each consumer
}

func openOffice(t testing.TB, records int) *office {
	t.Helper()
	docs, err := registry.Load("../../deploy/demo")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	o := &office{books: &books{state: registry.New()}, log: &bytes.Buffer{}, ids: map[broker.OrgNumber]broker.DecisionID{}}
	plan, err := registry.NewPlan(o.books.state, docs, "test", now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.books.Append(t.Context(), func(*registry.State) ([]registry.Event, error) { return plan.Events, nil }); err != nil {
		t.Fatal(err)
	}
	if o.store, err = store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "d.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.store.Close() })
	o.person = synthetic.NationalID(rand.New(rand.NewPCG(7, 7)))
	revision := o.books.state.Revision()
	offset := int64(0)
	for _, s := range []broker.SubscriptionID{"oslo-sosialhjelp", "bergen-eiendomsskatt"} {
		terms := o.books.state.Terms(s)
		head := store.Head{Kind: broker.StreamDecision, Dataset: terms.Dataset.ID, TopicID: [16]byte{byte(offset + 1)}, Last: int64(records) - 1, Time: now.Add(time.Duration(offset) * time.Hour),
			Revision: revision, Policy: "sha256:policy", Period: "2026-11", Records: int64(records)}
		b := store.Batch{LogOffset: offset, LogFrom: offset, Head: head}
		for i := range records {
			d := broker.Decision{Kind: head.Kind, Position: broker.Position{Dataset: head.Dataset, TopicID: head.TopicID, Offset: int64(i)}, Event: broker.EventHash{byte(i), byte(i >> 8), 1},
				Subject: pseudonymOf(o.person), Subscription: s, Agreement: terms.Agreement.ID, Package: terms.Agreement.Package, PolicyDigest: head.Policy, Revision: revision, Time: head.Time, Period: head.Period}
			if i%3 == 0 {
				d.Outcome = broker.Outcome{Permit: true, Bases: terms.Agreement.Bases}
				d.Fields = o.books.state.Package(d.Package).Fields[:2]
			} else {
				d.Outcome.Reasons = []broker.Reason{"no_open_case"}
			}
			d.ID = broker.NewDecisionID(d.Kind, d.Position.TopicID, 0, d.Position.Offset, s)
			if d.Outcome.Permit {
				d.Delivery = broker.NewDeliveryID(d.Event, s)
			}
			b.Decisions = append(b.Decisions, d)
			o.ids[terms.Agreement.Consumer] = d.ID
		}
		if err := o.store.Apply(t.Context(), []store.Batch{b}, func(a broker.AgreementID, _ broker.Revision) (store.Parties, bool) {
			x := o.books.state.Agreement(a)
			return store.Parties{Consumer: x.Consumer, Provider: x.Provider, Supplier: x.Supplier}, true
		}); err != nil {
			t.Fatal(err)
		}
		offset++
	}
	options := Options{Config: Defaults(), Log: slog.New(slog.NewTextHandler(o.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Version: "test", Guard: &fakeGuard{
		callers: map[string]access.Caller{"oslo": {Organisation: oslo, Client: "c"}, "bergen": {Organisation: bergen, Client: "c"}, "skatt": {Organisation: skatt, Client: "c"},
			"digdir": {Organisation: digdir, Client: "c"}, "oslo by another": {Organisation: oslo, Supplier: bergen, Client: "c"}},
		allow: func(c access.Caller, a access.Action, r access.Resource) error {
			yes := false
			switch a {
			case access.Audit, access.AuditSubject:
				yes = c.Organisation == digdir
			case access.AuditOwn:
				yes = c.Organisation != digdir
				if x := o.books.state.Agreement(r.Agreement); r.Agreement != "" {
					yes = yes && x != nil && (x.Provider == c.Organisation || x.Consumer == c.Organisation)
				}
			}
			if !yes {
				return &access.Refusal{Action: a, Why: "that is not yours"}
			}
			return nil
		},
	}}
	options.Config.RatePerSecond = 0
	o.Server = New(options)
	o.RegisterAudit(&audit.Desk{Store: o.store, Control: o.books, Ledger: o.books, Subjects: o.books, Now: func() time.Time { return now }})
	return o
}

func (o *office) get(path, token string, headers ...string) *httptest.ResponseRecorder {
	return o.send("GET", path, token, "", headers...)
}

func (o *office) send(method, path, token, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	o.Handler().ServeHTTP(w, r)
	return w
}

func decode[T any](t testing.TB, w *httptest.ResponseRecorder, status int) (out T) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("%d, want %d: %s", w.Code, status, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return out
}

// An organisation finds what it is party to, by whatever question; nothing of
// another's, no count either.
func TestAuditOfOnesOwn(t *testing.T) {
	o := openOffice(t, 30)
	for token, want := range map[string]int{"oslo": 30, "bergen": 30, "skatt": 60, "digdir": 60, "oslo by another": 0} {
		page := decode[DecisionsPage](t, o.get("/audit/decisions?limit=1000", token), 200)
		if len(page.Decisions) != want {
			t.Errorf("%s finds %d decisions, want %d", token, len(page.Decisions), want)
		}
		for _, h := range page.Decisions {
			if token == "oslo" && h.Consumer != oslo || token == "bergen" && h.Consumer != bergen {
				t.Errorf("%s is told of %s", token, h.Consumer)
			}
		}
	}
	for _, path := range []string{"/audit/decisions?limit=1000&consumer=" + string(bergen), "/audit/decisions?supplier=" + string(bergen), "/audit/decisions?decision=" + o.ids[bergen].String(),
		"/audit/decisions?dataset=eiendomsskatt", "/audit/decisions?subscription=bergen-eiendomsskatt", "/audit/decisions?dataset=eiendomsskatt&partition=0&offset=1",
		"/audit/decisions?package=kommune-eiendomsskatt"} {
		if page := decode[DecisionsPage](t, o.get(path, "oslo"), 200); len(page.Decisions) != 0 || page.Next != "" {
			t.Errorf("oslo finds by %s: %+v", path, page)
		}
		if w := o.get(path, "oslo", "Accept", "text/csv"); strings.Count(w.Body.String(), "\n") != 1 {
			t.Errorf("oslo finds by %s: %s", path, w.Body)
		}
	}
	for path, status := range map[string]int{
		"/audit/decisions?agreement=bergen-eiendomsskatt": 403, "/audit/decisions?agreement=none": 403, "/audit/fields?agreement=bergen-eiendomsskatt": 403,
		"/audit/decisions/" + o.ids[bergen].String(): 404, "/audit/decisions/" + o.ids[bergen].String() + "/proof": 404,
		"/audit/decisions/" + o.ids[oslo].String(): 200, "/audit/decisions/" + o.ids[oslo].String() + "/proof": 409,
		"/audit/coverage?dataset=inntekt": 404, "/audit/coverage?dataset=none": 404,
	} {
		if w := o.get(path, "oslo"); w.Code != status {
			t.Errorf("oslo: GET %s: %d %s, want %d", path, w.Code, w.Body, status)
		}
	}
	if c := decode[CoverageAnswer](t, o.get("/audit/coverage?dataset=inntekt", "skatt"), 200); len(c.Partitions) != 1 || c.Partitions[0].Decisions != 30 || !c.Balanced {
		t.Errorf("%+v", c)
	}
	if f := decode[FieldsAnswer](t, o.get("/audit/fields", "oslo"), 200); len(f.Agreements) != 1 || f.Agreements[0].Consumer != oslo || len(f.Agreements[0].Faults) != 0 {
		t.Errorf("%+v", f)
	}
	for _, d := range decode[ExpiringAnswer](t, o.get("/audit/expiring?days=36500", "oslo"), 200).Due {
		if len(d.Agreements) == 0 {
			t.Errorf("oslo is told of %+v", d)
		}
		for _, a := range d.Agreements {
			if o.books.state.Agreement(a).Consumer != oslo {
				t.Errorf("oslo is told of %+v", d)
			}
		}
	}
	if w := o.send("POST", "/audit/subject", "oslo", fmt.Sprintf(`{"kind":"person","identifier":%q,"reason":"r"}`, o.person)); w.Code != 403 {
		t.Errorf("oslo asks for a subject: %d", w.Code)
	}
	// A cursor of another's question leads nowhere.
	next := decode[DecisionsPage](t, o.get("/audit/decisions?limit=2", "digdir"), 200).Next
	if w := o.get("/audit/decisions?limit=2&cursor="+next, "oslo"); w.Code != 400 {
		t.Errorf("another's cursor: %d %s", w.Code, w.Body)
	}
}

func TestAuditPages(t *testing.T) {
	o := openOffice(t, 30)
	seen := map[string]bool{}
	path := "/audit/decisions?limit=7&order=oldest&outcome=deny&format=csv"
	for pages := 0; path != ""; pages++ {
		w := o.get(path, "digdir")
		body := w.Body.String()
		rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
		if err != nil || w.Code != 200 {
			t.Fatalf("%d %s", w.Code, body)
		}
		if strings.Join(rows[0], ",") != strings.Join(audit.HitColumns, ",") || w.Header().Get("Content-Type") != "text/csv; charset=utf-8; header=present" {
			t.Fatalf("%v %d %q", err, w.Code, rows)
		}
		for _, r := range rows[1:] {
			if seen[r[1]] || r[6] != "deny" {
				t.Fatalf("twice, or none of those: %q", r)
			}
			seen[r[1]] = true
		}
		link, more := strings.CutPrefix(w.Header().Get("Link"), "<")
		if path, _, _ = strings.Cut(link, ">"); !more {
			path = ""
		}
		if pages > 20 {
			t.Fatal("no end")
		}
	}
	if len(seen) != 40 {
		t.Errorf("%d decisions, want 40", len(seen))
	}
	for path, status := range map[string]int{"/audit/decisions?limit=0": 422, "/audit/decisions?limit=1001": 422, "/audit/decisions?outcome=maybe": 422, "/audit/decisions?consumr=1": 422,
		"/audit/decisions?cursor=xx": 400, "/audit/decisions?offset=4": 422, "/audit/decisions?dataset=none": 422, "/audit/decisions?from=yesterday": 422,
		"/audit/decisions?cursor=AgAAAAAAAAAAAAAAAAAAAAAAAAAA": 410, "/audit/decisions?from=2026-01-02&to=2026-01-01": 422, "/audit/coverage": 422, "/audit/expiring?days=-1": 422} {
		w := o.get(path, "digdir", "Accept", "text/csv")
		if p := decode[Problem](t, w, status); p.Status != status || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %+v %s", path, w.Code, p, w.Header())
		}
	}
	for accept, csv := range map[string]bool{"": false, "*/*": false, "text/csv": true, "application/json, text/csv;q=0.5": false, "text/csv, application/json;q=0.9": true, "text/csv;q=x": false} {
		if got := prefers(accept, "text/csv", "application/json"); got != csv {
			t.Errorf("Accept: %s: %v", accept, got)
		}
	}
}

func TestExplainOverHTTP(t *testing.T) {
	o := openOffice(t, 3)
	path := "/audit/decisions/" + o.ids[oslo].String()
	for accept, says := range map[string][2]string{"": {"nb", "Hjemmel i avtalen"}, "en-GB,en;q=0.9": {"en", "Legal basis of the agreement"}, "de, nn;q=0.3, en;q=0.2": {"nn", "Heimel"}, "no": {"nb", "IKKE UTLEVERT"}} {
		w := o.get(path, "oslo", "Accept-Language", accept)
		x := decode[struct {
			Language, Text string
			Decision       audit.Decision
			Bases          []struct{ Law string }
		}](t, w, 200)
		if x.Language != says[0] || !strings.Contains(x.Text, says[1]) || w.Header().Get("Content-Language") != says[0] || len(x.Bases) == 0 || x.Decision.ID != o.ids[oslo] {
			t.Errorf("%q: %+v", accept, x)
		}
	}
	if x := decode[struct{ Text string }](t, o.get(path+"?lang=en", "oslo", "Accept-Language", "nb"), 200); !strings.Contains(x.Text, "NOT DELIVERED") {
		t.Errorf("%s", x.Text)
	}
}

// A subject's identifier stands in the body, in no log and in no answer; that it
// was asked is in the registry before there is an answer.
func TestSubjectOverHTTP(t *testing.T) {
	o := openOffice(t, 30)
	body := func(more string) string {
		return fmt.Sprintf(`{"kind":"person","identifier":%q,"reason":"request for access","limit":25%s}`, o.person, more)
	}
	begun := len(o.books.events)
	seen, cursor := 0, ""
	for page := 1; ; page++ {
		w := o.send("POST", "/audit/subject", "digdir", body(cursor))
		a := decode[SubjectAnswer](t, w, 200)
		seen += len(a.Decisions)
		e := o.books.events[len(o.books.events)-1]
		if len(o.books.events) != begun+page || e.Type != registry.SubjectLookedUp || e.Actor != "organisation 991825827 (client c)" || a.Revision != e.Seq || len(a.Destroyed) != 1 {
			t.Fatalf("%+v %+v", a, e)
		}
		if a.Next == "" {
			break
		}
		cursor = fmt.Sprintf(`,"cursor":%q`, a.Next)
	}
	if seen != 60 {
		t.Errorf("%d decisions", seen)
	}
	// The cursor is of that subject alone.
	other := synthetic.NationalID(rand.New(rand.NewPCG(8, 8)))
	if w := o.send("POST", "/audit/subject", "digdir", strings.Replace(body(cursor), o.person, other, 1)); w.Code != 400 {
		t.Errorf("another subject's cursor: %d %s", w.Code, w.Body)
	}
	for body, status := range map[string]int{
		`{"kind":"person","identifier":"12345678901","reason":"r"}`:                                  422,
		`{"kind":"dog","identifier":"12345678901","reason":"r"}`:                                     422,
		`{"kind":"person","identifier":"` + o.person + `"}`:                                          422,
		`{"kind":"person","identifier":"` + o.person + `","reason":"` + o.person + `"}`:              422,
		`{"kind":"person","identifier":"` + o.person + `","reason":"r","` + o.person + `":1}`:        422,
		`{"kind":"person","identifier":1` + o.person + `,"reason":"r"}`:                              422,
		`{"kind":"person","identifier":"` + o.person + `","reason":"r"`:                              400,
		`{"kind":"person","identifier":"` + strings.Repeat(o.person, 2000) + `","reason":"r"`:        413,
		`{"kind":"person","identifier":"` + o.person + `","reason":"r","from":"` + o.person + `"}`:   422,
		`{"kind":"person","identifier":"` + o.person + `","reason":"r","cursor":"` + o.person + `"}`: 400,
	} {
		w := o.send("POST", "/audit/subject", "digdir", body)
		if w.Code != status || strings.Contains(w.Body.String(), o.person) || strings.Contains(w.Body.String(), "12345678901") {
			t.Errorf("%s: %d %s", body[:min(100, len(body))], w.Code, w.Body)
		}
	}
	// Where it cannot be logged, nothing is shown.
	o.books.fails = context.DeadlineExceeded
	if w := o.send("POST", "/audit/subject", "digdir", body("")); w.Code != 500 || strings.Contains(w.Body.String(), "decisions") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A person's number that is sent anywhere comes back nowhere, and stands in no log
// and no metric.
func TestCanariesInQuestions(t *testing.T) {
	o := openOffice(t, 3)
	var answers strings.Builder
	var paths []string
	for path, item := range o.API().OpenAPI().Paths {
		if item.Get == nil {
			continue
		}
		paths = append(paths, strings.NewReplacer("{decision}", o.person).Replace(path)+"?"+o.person+"="+o.person)
		for _, p := range item.Get.Parameters {
			if p.In == "query" {
				paths = append(paths, strings.NewReplacer("{decision}", o.ids[oslo].String()).Replace(path)+"?dataset=inntekt&"+p.Name+"="+o.person,
					strings.NewReplacer("{decision}", o.ids[oslo].String()).Replace(path)+"?"+url.Values{p.Name: {"x " + o.person}}.Encode())
			}
		}
	}
	if len(paths) < 40 {
		t.Fatalf("%d paths", len(paths))
	}
	for _, path := range paths {
		for _, token := range []string{"digdir", "oslo", o.person} {
			w := o.get(path, token)
			if w.Code == 200 && token == "digdir" && strings.HasPrefix(path, "/audit") && !strings.Contains(path, "format") {
				t.Errorf("taken: %s", strings.ReplaceAll(path, o.person, "CANARY"))
			}
			fmt.Fprintln(&answers, w.Code, w.Header(), w.Body)
		}
	}
	o.send("POST", "/audit/subject?"+o.person, "digdir", fmt.Sprintf(`{"kind":"person","identifier":%q,"reason":"r"}`, o.person))
	registered := prometheus.NewRegistry()
	registered.MustRegister(o.Collectors()...)
	metrics, err := registered.Gather()
	if err != nil {
		t.Fatal(err)
	}
	events, err := json.Marshal(o.books.events)
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"an answer": answers.String(), "the log": o.log.String(), "a metric": fmt.Sprint(metrics), "the registry": string(events)} {
		if text == "" {
			t.Errorf("%s is empty", where)
		}
		if i := strings.Index(text, o.person); i >= 0 {
			t.Errorf("the number stands in %s: …%s", where, text[max(0, i-200):i])
		}
	}
}

// FuzzQuestions: no address makes an endpoint fail, and what is refused does not come
// back in the answer with eleven digits.
func FuzzQuestions(f *testing.F) {
	for _, s := range []string{"limit=5&order=oldest", "cursor=AQ", "decision=00", "from=2026-01-01", "package=a@1", "%zz", "a=b;c", "format=csv&limit=1000", "limit=15810412345", "15810412345=1&cursor=15810412345", "from=15810412345&decision=15810412345"} {
		f.Add(s, "text/csv;q=0.3,*/*")
	}
	o := openOffice(f, 3)
	digits := regexp.MustCompile("[0-9]{11}")
	f.Fuzz(func(t *testing.T, query, accept string) {
		r := httptest.NewRequest("GET", "/audit/decisions", nil)
		r.URL.RawQuery = query
		r.Header = http.Header{"Authorization": {"Bearer digdir"}, "Accept": {accept}}
		w := httptest.NewRecorder()
		o.Handler().ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%q: %d %s, log: %s", query, w.Code, w.Body, o.log)
		}
		if w.Code < 400 {
			return
		}
		said, err := url.QueryUnescape(query)
		if err != nil {
			said = query
		}
		for _, number := range append(digits.FindAllString(said, -1), digits.FindAllString(query, -1)...) {
			if strings.Contains(w.Body.String(), number) {
				t.Errorf("%q: %d %s", query, w.Code, w.Body)
			}
		}
	})
}

// BenchmarkSearch asks for pages of 100 of one's own 30,000 decisions, and says which
// time 99 of 100 keep within.
func BenchmarkSearch(b *testing.B) {
	o := openOffice(b, 30_000)
	var took []time.Duration
	for b.Loop() {
		begun := time.Now()
		if w := o.get("/audit/decisions?outcome=deny&from=2026-11-01&to=2026-12-01", "oslo"); w.Code != 200 {
			b.Fatal(w.Body)
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
