package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.yaml.in/yaml/v3"

	"datafordeler/broker/access"
	"datafordeler/broker/kafka"
	"datafordeler/broker/kafka/kafkatest"
	"datafordeler/broker/web"
	"datafordeler/consumers/webhook"
	"datafordeler/providers/synthetic"
)

// hooked is a broker on Apache Kafka, whose instances are processes, and an endpoint that
// one mailbox is sent to.
type hooked struct {
	*apiRig // its base is the instance that is asked
	ctx     context.Context
	dir     string
	cfg     Config
	people  []string
	last    []int // the number of each one's last record

	mu      sync.Mutex
	secret  string
	got     []arrival
	refuse  map[string]bool                         // by tag: answered 500
	catch   func(tag string, w http.ResponseWriter) // asked with each, if there is one
	changed chan struct{}
}

// arrival is a delivery that the endpoint was sent, whatever it answered.
type arrival struct {
	id, tag string // the tag is person/number of the record
	body    string
	refused bool
}

// instance is a process.
type instance struct {
	cmd          *exec.Cmd
	out          *watched
	ended        chan error
	api, metrics string // addresses
}

const hookedMailbox = "oslo-sosialhjelp"

var hookedValue = regexp.MustCompile(`"personidentifikator":"(\d{11})".*?"beloep":(\d+)`)

func newHooked(t *testing.T, limit time.Duration) *hooked {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	key, issuer := newIssuer(t)
	h := &hooked{apiRig: &apiRig{t: t, key: key, issuer: issuer + "/"}, ctx: ctx, dir: t.TempDir(), refuse: map[string]bool{}, changed: make(chan struct{})}
	cluster := kafkatest.Start(t, kafkatest.Options{})
	c := defaultConfig()
	c.Engine, c.Listen, c.Prefix, c.Brokers = kafka.EngineKafka, "", "hooks.", cluster.Brokers()
	c.SourcePartitions, c.DeliveryBuckets = 2, 2
	c.HTTP.Listen, c.API.Listen, c.API.RatePerSecond = "127.0.0.1:0", "127.0.0.1:0", 0
	c.Keystore.Path, c.Store.DSN = filepath.Join(h.dir, "keys"), "sqlite:"+filepath.Join(h.dir, "decisions.db")
	c.Ledger.Key, c.Positions.Path = filepath.Join(h.dir, "ledger"), filepath.Join(h.dir, "positions.db")
	c.Access.Issuers = []access.Issuer{{Kind: access.Plain, URL: issuer + "/", JWKS: issuer + "/jwk", Audiences: []string{"https://deling.example.no"}}}
	c.Flow.Sessions, c.Flow.SessionTimeout, c.Flow.TransactionTimeout = 1, 3*time.Second, 5*time.Second
	c.Webhooks.Loopback, c.Webhooks.Attempts = true, 3
	c.Webhooks.FirstRetry, c.Webhooks.LongestRetry = 50*time.Millisecond, 200*time.Millisecond
	h.cfg = c
	for _, p := range synthetic.New(synthetic.Config{People: 8, Seed: 5}).People() {
		h.people, h.last = append(h.people, p.ID), append(h.last, 0)
	}
	h.command("", "policy", "activate", "--actor", "test")
	h.command("", "registry", "apply", "--actor", "test", "-f", "../../deploy/demo")
	h.command("", "registry", "apply", "--actor", "test", "-f", h.file("mailbox.yaml", fmt.Sprintf("kind: mailbox\nid: %s\norganisation: %q\nclient: test\nchannel: webhook\n", hookedMailbox, osloNumber)))
	return h
}

func (h *hooked) file(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

func (h *hooked) config(name string) string {
	h.t.Helper()
	b, err := yaml.Marshal(h.cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.file(name, string(b))
}

// command runs one that has to succeed.
func (h *hooked) command(in string, args ...string) string {
	h.t.Helper()
	var out, errs bytes.Buffer
	at := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "--") })
	args = slices.Insert(slices.Clone(args), at, "--config", h.config("command.yaml"))
	if code := run(h.ctx, stdio{strings.NewReader(in), &out, &errs}, args); code != exitOK {
		h.t.Fatalf("datafordeler %v: exit %d\n%s%s", args, code, out.Bytes(), errs.Bytes())
	}
	return out.String()
}

// serve runs an instance as a process, until it is ended.
func (h *hooked) serve(slot string) *instance {
	h.t.Helper()
	h.cfg.Flow.Slot = slot
	i := &instance{out: &watched{changed: make(chan struct{}, 1)}, ended: make(chan error, 1)}
	i.cmd = exec.Command("datafordeler", "serve", "--config", h.config("serve-"+slot+".yaml"))
	i.cmd.Stdout, i.cmd.Stderr = i.out, i.out
	if err := i.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() { i.ended <- i.cmd.Wait() }()
	h.t.Cleanup(func() {
		_ = i.cmd.Process.Kill()
		err := <-i.ended
		i.ended <- err
		if h.t.Failed() {
			h.t.Logf("instance %s: %v\n%s", slot, err, i.out)
		}
	})
	for i.api == "" || i.metrics == "" {
		said := i.out.String()
		if m := regexp.MustCompile(`the HTTP API is open" address=(\S+)`).FindStringSubmatch(said); m != nil {
			i.api = "http://" + m[1]
		}
		if m := regexp.MustCompile(`msg=serving .*http=(\S+)`).FindStringSubmatch(said); m != nil {
			i.metrics = "http://" + m[1] + "/metrics"
		}
		if i.api != "" && i.metrics != "" {
			break
		}
		select {
		case <-i.out.changed:
		case err := <-i.ended:
			i.ended <- err
			h.t.Fatalf("instance %s ended: %v\n%s", slot, err, said)
		case <-h.ctx.Done():
			h.t.Fatalf("instance %s does not open\n%s", slot, said)
		}
	}
	return i
}

// attempts is how often an instance has sent something.
func (h *hooked) attempts(i *instance) (n float64) {
	h.t.Helper()
	resp, err := http.Get(i.metrics)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^datafordeler_webhook_attempts_total\{.*\} (\S+)$`).FindAllSubmatch(b, -1) {
		x, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			h.t.Fatal(err)
		}
		n += x
	}
	return n
}

// ServeHTTP is the endpoint. It takes what the broker signed, and nothing else.
func (h *hooked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		err = webhook.Verify(h.secret, r.Header, body, webhook.Tolerance)
	}
	if err != nil {
		h.t.Errorf("what the broker sends: %v", err)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var challenge struct{ Challenge string }
	if json.Unmarshal(body, &challenge) == nil && challenge.Challenge != "" {
		_ = json.NewEncoder(w).Encode(map[string]string{"challenge": challenge.Challenge})
		return
	}
	m := hookedValue.FindSubmatch(body)
	if m == nil {
		h.t.Errorf("the endpoint is sent %s", body)
		return
	}
	tag := fmt.Sprintf("%d/%s", slices.Index(h.people, string(m[1])), m[2])
	h.got = append(h.got, arrival{r.Header.Get("webhook-id"), tag, string(body), h.refuse[tag]})
	defer func() {
		close(h.changed)
		h.changed = make(chan struct{})
	}()
	if h.refuse[tag] {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if h.catch != nil {
		h.catch(tag, w)
	}
}

// await waits until what the endpoint has had is so. The test's own end is the only clock.
func (h *hooked) await(what string, is func() bool) {
	h.t.Helper()
	for {
		h.mu.Lock()
		ok, changed := is(), h.changed
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-h.ctx.Done():
			h.mu.Lock()
			defer h.mu.Unlock()
			h.t.Fatalf("it never came to: %s; the endpoint had %+v", what, h.tags())
		}
	}
}

// poll asks again and again: for what another process does there is no call that waits.
func (h *hooked) poll(what string, is func() bool) {
	h.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			h.t.Fatalf("it never came to: %s", what)
		}
	}
}

// tags is what came, in order. The caller holds mu.
func (h *hooked) tags() (all []string) {
	for _, a := range h.got {
		all = append(all, a.tag)
	}
	return all
}

// taken says whether the endpoint has taken a delivery. The caller holds mu.
func (h *hooked) taken(tag string) bool {
	return slices.ContainsFunc(h.got, func(a arrival) bool { return a.tag == tag && !a.refused })
}

// line is a person's record of a number.
func (h *hooked) line(p, number int) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":"%d-%d","source":"urn:test","type":"no.skatteetaten.aordningen.inntekt.v1","time":"2026-11-02T20:54:08Z","datacontenttype":"application/json","municipality":"0301","protected":"false","data":{"oppgaveInntektsmottaker":[{"opplysningspliktigId":"300646409","virksomhetId":"300646425","kalendermaaned":"2026-10","inntektsmottaker":{"personidentifikator":"%s"},"inntekt":[{"fordel":"kontantytelse","utloeserArbeidsgiveravgift":true,"inngaarIGrunnlagForTrekk":true,"beloep":%d,"loennsinntekt":{"beskrivelse":"timeloenn","antall":22}}],"forskuddstrekk":[{"beloep":1154}]}]}}`,
		p, number, h.people[p], number)
}

// publish publishes the next record of each of some people, in rounds, and says their tags.
func (h *hooked) publish(rounds int, people ...int) (tags []string) {
	h.t.Helper()
	var b strings.Builder
	for range rounds {
		for _, p := range people {
			h.last[p]++
			b.WriteString(h.line(p, h.last[p]) + "\n")
			tags = append(tags, fmt.Sprintf("%d/%d", p, h.last[p]))
		}
	}
	h.command(b.String(), "publish", "--dataset", "inntekt", "-")
	return tags
}

// ask is a request of the mailbox's owner's, which must be answered so.
func (h *hooked) ask(want int, method, path, body string, out any) {
	h.t.Helper()
	code, _, text := h.call(h.ctx, h.token(h.claims(osloNumber, "")), method, "/mailboxes/"+hookedMailbox+path, body)
	if code != want {
		h.t.Fatalf("%s %s: %d %s, want %d", method, path, code, text, want)
	}
	for _, p := range h.people {
		if strings.Contains(text, p) {
			h.t.Errorf("%s %s tells an identity number", method, path)
		}
	}
	if out != nil {
		if err := json.Unmarshal([]byte(text), out); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *hooked) poison() []web.PoisonedView {
	h.t.Helper()
	var list struct{ Deliveries []web.PoisonedView }
	h.ask(200, http.MethodGet, "/poison", "", &list)
	return list.Deliveries
}

// shared waits until two instances send, each for a partition.
func (h *hooked) shared() {
	h.t.Helper()
	adm, err := kadm.NewOptClient(kgo.SeedBrokers(h.cfg.Brokers...))
	if err != nil {
		h.t.Fatal(err)
	}
	defer adm.Close()
	group := h.cfg.Flow.Group + "-webhooks"
	h.poll("the instances share", func() bool {
		members := 0
		groups, err := adm.DescribeGroups(h.ctx, group)
		if err == nil && groups[group].State == "Stable" {
			for _, m := range groups[group].Members {
				if a, ok := m.Assigned.AsConsumer(); ok && len(a.Topics) == 1 && len(a.Topics[0].Partitions) == 1 {
					members++
				}
			}
		}
		return members == 2
	})
}

// TestWebhooksOnKafka is a mailbox's way by webhook on Apache Kafka: set, proven, sent,
// poisoned; its instance is killed when the endpoint has answered and nothing of that is
// written down; another goes on, with the poison too; and a clean stop repeats nothing.
func TestWebhooksOnKafka(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs Apache Kafka and several instances")
	}
	h := newHooked(t, 2*time.Minute)
	endpoint := httptest.NewServer(h)
	t.Cleanup(endpoint.Close)
	a := h.serve("a")
	h.base = a.api

	// Set, and not proven: nothing is sent.
	h.mu.Lock() // nothing comes before the secret is known
	var set struct {
		web.WebhookView
		Secret string
	}
	h.ask(201, http.MethodPut, "/webhook", `{"url":"`+endpoint.URL+`/"}`, &set)
	h.secret = set.Secret
	h.mu.Unlock()
	if set.Status != "unproven" || set.Secret == "" {
		t.Fatalf("%+v", set)
	}
	everybody := []int{0, 1, 2, 3, 4, 5, 6, 7}
	h.command(strings.Join(h.people, "\n"), "registry", "case", "open", "--actor", "test", "--subscription", hookedMailbox)
	first := h.publish(1, everybody...)
	h.mu.Lock()
	if len(h.got) > 0 {
		t.Errorf("before the endpoint is proven it is sent %v", h.tags())
	}
	h.mu.Unlock()
	h.ask(200, http.MethodPost, "/webhook/challenge", "", nil)
	h.await("all are sent", func() bool { return !slices.ContainsFunc(first, func(tag string) bool { return !h.taken(tag) }) })

	// Two that the endpoint never takes: they go to the poison, what follows on the same
	// people goes on.
	h.mu.Lock()
	h.refuse["0/2"], h.refuse["1/2"] = true, true
	h.mu.Unlock()
	then := h.publish(2, everybody...)
	h.await("all but the poison is taken", func() bool {
		return !slices.ContainsFunc(then, func(tag string) bool { return !h.refuse[tag] && !h.taken(tag) })
	})
	var bad []web.PoisonedView // it is written down behind what it let go on
	h.poll("two are with the poison", func() bool { bad = h.poison(); return len(bad) == 2 })
	tagOf := func(id string) string {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.got[slices.IndexFunc(h.got, func(a arrival) bool { return a.id == id })].tag
	}
	var replayed, dropped web.PoisonedView
	for _, p := range bad {
		if p.Attempts != 3 || !strings.Contains(p.Why, "500") {
			t.Errorf("%+v", p)
		}
		if tagOf(p.ID.String()) == "0/2" {
			replayed = p
		} else {
			dropped = p
		}
	}

	// A second instance shares the sending. Which of both sends for the mailbox shows.
	b := h.serve("b")
	h.shared()
	before := [2]float64{h.attempts(a), h.attempts(b)}
	probe := h.publish(1, 2)[0]
	h.await("one is sent where two share", func() bool { return h.taken(probe) })
	h.poll("it is counted, when the answer has come back", func() bool { return before != [2]float64{h.attempts(a), h.attempts(b)} })
	owner, other := a, b
	if h.attempts(b) > before[1] {
		owner, other = b, a
	}

	// It is killed when the endpoint has answered, and it has not heard that.
	h.mu.Lock()
	const fatal = "5/5"
	killed, at := false, 0
	h.catch = func(tag string, w http.ResponseWriter) {
		if killed || tag != fatal {
			return
		}
		killed = true
		if err := owner.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusNoContent)
		_ = http.NewResponseController(w).Flush()
		if err := owner.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		at = len(h.got)
	}
	h.mu.Unlock()
	burst := h.publish(3, everybody...)
	h.base = other.api
	h.await("all of the burst is taken", func() bool {
		return killed && !slices.ContainsFunc(burst, func(tag string) bool { return !h.taken(tag) })
	})
	h.await("what was answered and not written down comes again", func() bool { return slices.Contains(h.tags()[at:], fatal) })

	// The poison outlived its instance. One is replayed, with the id that it had; one dropped.
	if now := h.poison(); len(now) != 2 {
		t.Fatalf("after the kill the poison is %+v", now)
	}
	h.mu.Lock()
	delete(h.refuse, "0/2")
	h.mu.Unlock()
	h.ask(202, http.MethodPost, "/poison/"+replayed.ID.String()+"/replay", "", nil)
	h.await("the replayed one is taken", func() bool { return h.taken("0/2") })
	h.ask(204, http.MethodDelete, "/poison/"+dropped.ID.String(), "", nil)
	h.poll("that the replay is through is written, after its answer", func() bool { return len(h.poison()) == 0 })

	// A clean stop writes all down: who comes after it repeats nothing.
	c := h.serve("c")
	h.base = c.api
	h.mu.Lock()
	quiet := len(h.got)
	h.mu.Unlock()
	if err := other.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err := <-other.ended
	if other.ended <- err; err != nil {
		t.Errorf("stopped: %v", err)
	}
	final := h.publish(1, everybody...)
	h.await("the last are taken", func() bool { return !slices.ContainsFunc(final, func(tag string) bool { return !h.taken(tag) }) })
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.got) - quiet; n != len(final) {
		t.Errorf("after a clean stop %d come, want %d: %v", n, len(final), h.tags()[quiet:])
	}
	h.check(at, "1/2", append(burst, probe))
}

// check holds all that came to what was published: each under one id and with one content;
// all taken but what was dropped; none taken twice but around the kill, before which `at`
// had come, and only of what may have come again; and in order, before and after it.
func (h *hooked) check(at int, dropped string, again []string) {
	h.t.Helper()
	first, before := map[string]arrival{}, map[string]bool{}
	for i, half := range [][]arrival{h.got[:at], h.got[at:]} {
		latest, taken := map[string]int{}, map[string]bool{}
		for _, a := range half {
			if f, ok := first[a.tag]; ok && (f.id != a.id || f.body != a.body) {
				h.t.Errorf("%s comes again under another id, or with another content", a.tag)
			} else if !ok {
				first[a.tag] = a
			}
			if taken[a.tag] || i == 1 && before[a.tag] && !slices.Contains(again, a.tag) {
				h.t.Errorf("%s comes again after it was taken", a.tag)
			}
			if taken[a.tag] = !a.refused; i == 0 {
				before[a.tag] = !a.refused
			}
			p, number, _ := strings.Cut(a.tag, "/")
			n, err := strconv.Atoi(number)
			if err != nil {
				h.t.Fatal(err)
			}
			if n < latest[p] && a.tag != "0/2" { // which was replayed long after its time
				h.t.Errorf("person %s is sent %d after %d", p, n, latest[p])
			}
			latest[p] = max(n, latest[p])
		}
	}
	published := 0
	for p, last := range h.last {
		published += last
		for n := 1; n <= last; n++ {
			tag := fmt.Sprintf("%d/%d", p, n)
			if _, ok := first[tag]; !ok || h.taken(tag) != (tag != dropped) {
				h.t.Errorf("%s: sent %t, taken %t", tag, ok, h.taken(tag))
			}
		}
	}
	if len(first) != published {
		h.t.Errorf("%d different deliveries of %d records", len(first), published)
	}
}
