package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/consentfeed"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
)

// consentEvents is Altinn's feed of one organisation's consents, of the test's own: three
// entries a page, named by the one before it.
type consentEvents struct {
	mu     sync.Mutex
	events []string
	token  string
	wrong  int           // so many answers are 503 first
	asked  chan struct{} // a request came; nil: nobody looks
}

func (c *consentEvents) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked != nil {
		defer func() {
			select {
			case c.asked <- struct{}{}:
			case <-q.Context().Done():
			}
		}()
	}
	from, err := strconv.Atoi(q.URL.Query().Get("continuationToken") + "0")
	from /= 10
	switch {
	case q.Header.Get("Authorization") != "Bearer "+c.token:
		w.WriteHeader(http.StatusUnauthorized)
		return
	case c.wrong > 0:
		c.wrong--
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case err != nil || from > len(c.events):
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	to := min(from+3, len(c.events))
	links := ""
	if to-from == 3 {
		links = fmt.Sprintf(`"next":"https://elsewhere.example/events?continuationToken=%d"`, to)
	}
	fmt.Fprintf(w, `{"links":{%s},"data":[%s]}`, links, strings.Join(c.events[from:to], ","))
}

// happens tells of a consent.
func (c *consentEvents) happens(consent, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := time.Now().Add(-time.Hour).Add(time.Duration(len(c.events)) * time.Second).Format(time.RFC3339Nano)
	c.events = append(c.events, fmt.Sprintf(`{"consentRequestId":%q,"eventType":%q,"changedDate":%q}`, consent, what, at))
}

func altinnConsent(i int) string { return fmt.Sprintf("5f0f6f5e-1f5b-4a39-9a9b-0d3b6b2c7a%02x", i) }

// newConsentEvents is a feed with its address, and a file with the token that it wants.
func newConsentEvents(t *testing.T) (c *consentEvents, url, tokenFile string) {
	c = &consentEvents{token: "secret"}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	tokenFile = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return c, server.URL, tokenFile
}

// feedRig is a registry in a data directory, with such a feed.
type feedRig struct {
	*consentEvents
	t              *testing.T
	data           string
	url, tokenFile string
}

func newFeedRig(t *testing.T) *feedRig {
	if testing.Short() {
		t.Skip("it opens an embedded engine")
	}
	r := &feedRig{t: t, data: filepath.Join(t.TempDir(), "data")}
	r.consentEvents, r.url, r.tokenFile = newConsentEvents(t)
	if err := os.MkdirAll(r.data, 0o700); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *feedRig) command(args ...string) (code int, out string) {
	r.t.Helper()
	var b bytes.Buffer
	code = run(context.Background(), stdio{strings.NewReader(""), &b, &b}, append(args, "--data", r.data))
	if strings.Contains(b.String(), "secret") || strings.Contains(b.String(), r.url) {
		r.t.Errorf("%v prints the token, or the feed's address: %s", args, b.String())
	}
	return code, b.String()
}

func (r *feedRig) follow(more ...string) (int, string) {
	r.t.Helper()
	return r.command(append([]string{"registry", "consent", "follow", "--source", "altinn-testbanken", "--feed", r.url, "--token-file", r.tokenFile, "--actor", "drift", "--once"}, more...)...)
}

type feedStatus struct {
	Feeds []registry.ConsentFeedState
	Ended int
}

func (r *feedRig) status() (s feedStatus) {
	r.t.Helper()
	code, out := r.command("registry", "consent", "status", "--json")
	if code != 0 || json.Unmarshal([]byte(out), &s) != nil {
		r.t.Fatal(out)
	}
	return s
}

func TestConsentFeedIsFollowed(t *testing.T) {
	r := newFeedRig(t)
	if _, out := r.command("registry", "consent", "status"); !strings.Contains(out, "no feed of consents has been followed") {
		t.Error(out)
	}
	if code, out := r.follow(); code != 0 || !strings.Contains(out, "read to its end: 0 consents") {
		t.Fatalf("%d %s", code, out)
	}
	if _, out := r.command("registry", "consent", "status"); !strings.Contains(out, ": nothing stood in it") {
		t.Error(out)
	}
	for i, what := range []string{"created", "accepted", "Revoked", "used", "rejected", "deleted", "expired", "revoked"} {
		r.happens(altinnConsent(i), what)
	}
	r.happens(altinnConsent(2), "revoked") // it stands in the feed twice
	if code, out := r.follow(); code != 0 || !strings.Contains(out, "read to its end: 4 consents") {
		t.Fatalf("%d %s", code, out)
	}
	s := r.status()
	if len(s.Feeds) != 1 || s.Ended != 4 || s.Feeds[0].Page != "6" || s.Feeds[0].Entries != 3 || s.Feeds[0].Gaps != 0 || s.Feeds[0].Last.IsZero() || s.Feeds[0].Actor != "drift" {
		t.Errorf("%+v", s)
	}
	// Nothing new is no event; nor is all of it once more.
	_, before := r.command("registry", "log")
	for _, more := range [][]string{nil, {"--again"}} {
		if code, out := r.follow(more...); code != 0 || !strings.Contains(out, "0 consents") {
			t.Errorf("%v: %d %s", more, code, out)
		}
		if _, after := r.command("registry", "log"); more == nil && after != before || strings.Count(after, "consent.ended") != 4 {
			t.Errorf("%v: %s", more, after)
		}
	}
	// On from there.
	r.happens(altinnConsent(9), "revoked")
	if code, out := r.follow(); code != 0 || !strings.Contains(out, "1 consents") {
		t.Errorf("%d %s", code, out)
	}
	if s := r.status(); s.Ended != 5 || s.Feeds[0].Page != "9" || s.Feeds[0].Entries != 1 {
		t.Errorf("%+v", s)
	}
	if _, out := r.command("registry", "consent", "status"); !strings.Contains(out, "altinn-testbanken, read on ") || !strings.Contains(out, "5 consents are known") || strings.Contains(out, "HELD") {
		t.Error(out)
	}
}

// What is not known is named, and neither passed over for good nor in the way of the rest.
func TestConsentFeedOfAnUnknownType(t *testing.T) {
	r := newFeedRig(t)
	for i, what := range []string{"used", "paused", "revoked", "used", "paused", "revoked"} {
		r.happens(altinnConsent(i), what)
	}
	for range 2 { // and again after a restart
		if code, out := r.follow(); code != exitFailed || !strings.Contains(out, "type=paused") || !strings.Contains(out, "--ignore paused") {
			t.Errorf("%d %s", code, out)
		}
		s := r.status()
		if f := s.Feeds[0]; s.Ended != 2 || f.Page != "" || f.Entries != 1 || f.Unknown != "paused" {
			t.Errorf("%+v", s)
		}
		if _, out := r.command("registry", "consent", "status"); !strings.Contains(out, "HELD before an event of type paused") {
			t.Error(out)
		}
	}
	if _, log := r.command("registry", "log"); strings.Count(log, "consent.followed") != 1 {
		t.Errorf("held, it is said again and again: %s", log)
	}
	if code, out := r.follow("--ignore", "Paused"); code != 0 || strings.Contains(out, "type=paused") {
		t.Errorf("%d %s", code, out)
	}
	if f := r.status().Feeds[0]; f.Page != "3" || f.Entries != 3 || f.Unknown != "" {
		t.Errorf("%+v", f)
	}
	if code, out := r.follow("--ignore", "revoked"); code != exitUsage || !strings.Contains(out, "what revoked means is known here") {
		t.Errorf("%d %s", code, out)
	}
}

// Entries that were read and are gone are a gap, which is said and counted; what is left
// is taken.
func TestConsentFeedWithAGap(t *testing.T) {
	r := newFeedRig(t)
	for i := range 5 {
		r.happens(altinnConsent(i), "revoked")
	}
	if code, out := r.follow(); code != 0 {
		t.Fatal(out)
	}
	r.events = r.events[:4]
	r.happens(altinnConsent(7), "revoked")
	for _, gap := range []bool{true, false} { // it is said once
		if code, out := r.follow(); code != 0 || strings.Contains(out, "has a gap") != gap {
			t.Errorf("%d %s", code, out)
		}
		if s := r.status(); s.Feeds[0].Gaps != 1 || s.Ended != 6 || s.Feeds[0].LastGap.IsZero() {
			t.Errorf("%+v", s)
		}
	}
	if _, out := r.command("registry", "consent", "status"); !strings.Contains(out, "1 gaps, the last on") {
		t.Error(out)
	}
	// So short that it does not know its own page any more, then empty.
	r.events = r.events[:1]
	if code, out := r.follow(); code != 0 || !strings.Contains(out, "has a gap") {
		t.Errorf("%d %s", code, out)
	}
	r.events = nil
	if code, out := r.follow(); code != 0 || !strings.Contains(out, "has a gap") {
		t.Errorf("%d %s", code, out)
	}
	if s := r.status(); s.Feeds[0].Gaps != 3 || s.Feeds[0].Entries != 0 || s.Ended != 6 {
		t.Errorf("%+v", s)
	}
}

func TestConsentFeedThatFails(t *testing.T) {
	r := newFeedRig(t)
	r.happens(altinnConsent(1), "revoked")
	r.wrong = 1
	if code, out := r.follow(); code != exitFailed || !strings.Contains(out, "answers 503") {
		t.Errorf("%d %s", code, out)
	}
	r.token = "another"
	if code, out := r.follow(); code != exitFailed || !strings.Contains(out, "answers 401") {
		t.Errorf("%d %s", code, out)
	}
	r.token = "secret"
	r.events = append(r.events, `{"consentRequestId":"01019012345"}`)
	if code, out := r.follow(); code != exitFailed || !strings.Contains(out, "entry 1 of the feed's page has no consentRequestId") {
		t.Errorf("%d %s", code, out)
	}
	if s := r.status(); len(s.Feeds) != 0 || s.Ended != 0 {
		t.Errorf("of a page that cannot be read: %+v", s)
	}
	for want, args := range map[string][]string{
		"--source is missing":          {"--feed", r.url, "--actor", "x"},
		"--actor is missing":           {"--feed", r.url, "--source", "x"},
		"--feed: want an address":      {"--source", "x", "--actor", "x", "--feed", "https://me:x@altinn.example/"},
		"so it travels by https":       {"--source", "x", "--actor", "x", "--feed", "http://altinn.example/"},
		"--interval and --wait":        {"--source", "x", "--actor", "x", "--feed", r.url, "--interval", "0s"},
		"who follows?":                 {"--source", "x", "--actor", "x", "--feed", r.url},
		"--client-key is missing":      {"--source", "x", "--actor", "x", "--feed", r.url, "--issuer", "https://maskinporten.no/", "--client", "x"},
		"exclude each other":           {"--source", "x", "--actor", "x", "--feed", r.url, "--issuer", "https://maskinporten.no/", "--token-file", r.tokenFile},
		"--token-file: stat":           {"--source", "x", "--actor", "x", "--feed", r.url, "--token-file", r.tokenFile + "x"},
		"holds eleven digits in a row": {"--source", "01019012345", "--actor", "x", "--feed", r.url, "--token-file", r.tokenFile, "--once"},
	} {
		r.events = nil
		r.happens(altinnConsent(1), "used")
		if code, out := r.command(append([]string{"registry", "consent", "follow"}, args...)...); code == 0 || !strings.Contains(out, want) || strings.Contains(out, "01019012345") {
			t.Errorf("want %q, got %d %s", want, code, out)
		}
	}
}

// That nothing is new is said too, now and then, wherever its place is.
func TestConsentFollowerSaysThatItLives(t *testing.T) {
	r := newFeedRig(t)
	for i, what := range []string{"used", "paused", "revoked"} {
		r.happens(altinnConsent(i), what)
	}
	n, err := openNode(t.Context(), dataConfig(r.data), slog.New(slog.DiscardHandler), kafka.Own, false)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	source := consentfeed.Source{URL: r.url, Token: tokenFrom(r.tokenFile), Client: http.DefaultClient}
	follow := func(alive time.Duration, ignore ...consentfeed.Type) registry.ConsentFeedState {
		t.Helper()
		f := consentFollower{source: "altinn", actor: "drift", ignore: map[consentfeed.Type]bool{}, interval: time.Minute, wait: time.Minute, alive: alive, once: true,
			node: n, log: slog.New(slog.DiscardHandler), reader: consentfeed.Reader{Get: source.Get}}
		for _, i := range ignore {
			f.ignore[i] = true
		}
		var b bytes.Buffer
		_ = f.run(t.Context(), stdio{strings.NewReader(""), &b, &b}) // it fails of what it does not know
		if _, err := f.poll(t.Context()); err != nil {               // as it does without --once
			t.Fatal(err)
		}
		var s registry.ConsentFeedState
		n.control.View(func(st *registry.State) { s, _ = st.ConsentFeed("altinn") })
		return s
	}
	revision := func() broker.Revision { return n.control.Revision() }
	for n, ignore := range [][]consentfeed.Type{nil, {"paused"}} { // held, and not
		was := follow(time.Hour, ignore...)
		before := revision()
		if follow(time.Hour, ignore...); revision() != before {
			t.Errorf("ignoring %v: nothing is new, and it is said at once", ignore)
		}
		is := follow(time.Nanosecond, ignore...)
		// At the end of the feed and once more; held, also before what it is held by.
		if revision() != before+broker.Revision(3-n) || is.ConsentFeed != was.ConsentFeed || !is.At.After(was.At) {
			t.Errorf("ignoring %v: %+v after %+v", ignore, is, was)
		}
	}
}

// It goes on until it is stopped, and rides out what fails meanwhile.
func TestConsentFeedIsFollowedOn(t *testing.T) {
	r := newFeedRig(t)
	r.asked = make(chan struct{})
	r.wrong = 1
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out bytes.Buffer
	ended := make(chan int)
	go func() {
		ended <- run(ctx, stdio{strings.NewReader(""), &out, &out}, []string{"registry", "consent", "follow", "--source", "altinn-testbanken", "--feed", r.url,
			"--token-file", r.tokenFile, "--actor", "drift", "--interval", "1ms", "--data", r.data})
	}()
	<-r.asked // 503
	r.happens(altinnConsent(1), "revoked")
	// A request comes when what the one before it gave is recorded.
	<-r.asked
	<-r.asked
	cancel()
	for code := -1; code != 0; {
		select {
		case <-r.asked:
		case code = <-ended:
			if code != 0 {
				t.Fatalf("%d %s", code, out.String())
			}
		}
	}
	r.asked = nil
	if !strings.Contains(out.String(), "answers 503") || !strings.Contains(out.String(), "following altinn-testbanken") {
		t.Error(out.String())
	}
	if s := r.status(); s.Ended != 1 {
		t.Errorf("%+v\n%s", s, out.String())
	}
}

// A consent that is withdrawn in Altinn opens nothing any more, on a running instance,
// and its proof does not give it again.
func TestAltinnConsentsWithdrawnThere(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs an instance")
	}
	r := newLookupRig(t)
	events, url, tokenFile := newConsentEvents(t)
	person := r.people.Person(3).ID
	r.publish("inntekt", r.people.Income(nil, 3))
	r.drain()
	for _, make := range []func(*registry.State) any{
		func(st *registry.State) any { return boundedBasis(st) },
		func(st *registry.State) any {
			s := *st.Subscription("testbanken-boliglaan")
			s.Lookup = true
			return s
		},
	} {
		r.change(func(st *registry.State) registry.Change {
			c, err := registry.Put(make(st))
			if err != nil {
				t.Fatal(err)
			}
			return c
		})
	}
	found := func() string {
		t.Helper()
		code, out, text := r.lookUp(bankNumber, "", `{"subject":"`+person+`","subscription":"testbanken-boliglaan"}`)
		if code != 200 {
			t.Fatalf("%d %s", code, text)
		}
		return out.Answers[0].Outcome
	}
	bring := func(consent string) (int, string) {
		t.Helper()
		body, err := json.Marshal(map[string]string{"token": r.consentToken(consent, person, bankNumber, nil)})
		if err != nil {
			t.Fatal(err)
		}
		code, _, text := r.call(t.Context(), r.token(r.claims(bankNumber, "")), "POST", "/consents/altinn", string(body))
		return code, text
	}
	follow := func() string {
		t.Helper()
		var b bytes.Buffer
		if code := run(t.Context(), stdio{strings.NewReader(""), &b, &b}, []string{"registry", "consent", "follow", "--source", "altinn-testbanken", "--feed", url,
			"--token-file", tokenFile, "--actor", "drift", "--once", "--data", r.node.cfg.Data}); code != 0 {
			t.Fatalf("%d %s", code, b.String())
		}
		return b.String()
	}
	if code, text := bring(altinnConsent(1)); code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	events.happens(altinnConsent(1), "accepted")
	events.happens(altinnConsent(2), "revoked") // which nobody brought
	if out := follow(); !strings.Contains(out, "1 consents") {
		t.Error(out)
	}
	if o := found(); o != "found" {
		t.Errorf("with the consent: %s", o)
	}
	if code, text := bring(altinnConsent(2)); code != 409 || !strings.Contains(text, web.Conflict) || !strings.Contains(text, "withdrawn where it was given") {
		t.Errorf("%d %s", code, text)
	}
	events.happens(altinnConsent(1), "revoked")
	if out := follow(); !strings.Contains(out, "binds on every instance") {
		t.Error(out)
	}
	if o := found(); o != "refused" {
		t.Errorf("withdrawn: %s", o)
	}
	if code, text := bring(altinnConsent(1)); code != 409 || !strings.Contains(text, web.Conflict) {
		t.Errorf("%d %s", code, text)
	}
	// What it lays on its receiver is as of any withdrawal.
	var owed int
	r.node.control.View(func(st *registry.State) {
		for o := range st.ObligationsAfter(0) {
			if o.External == altinnConsent(1) && o.Agreement == broker.AgreementID("testbanken-boliglaan") {
				owed++
			}
		}
	})
	if owed != 1 {
		t.Errorf("%d obligations", owed)
	}
	if r.log.contains(person) {
		t.Error("the log holds the person's number")
	}
}
