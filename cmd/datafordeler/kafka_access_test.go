package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"go.yaml.in/yaml/v3"

	"datafordeler/broker/access"
	"datafordeler/broker/kafka"
	"datafordeler/broker/kafka/kafkatest"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
	"datafordeler/consumers"
	"datafordeler/providers"
	"datafordeler/providers/synthetic"
)

// secured is a broker on an Apache Kafka with access lists, as its own user, who is
// no super user.
type secured struct {
	t       *testing.T
	ctx     context.Context
	cluster *kafkatest.Cluster
	dir     string
	broker  string // its configuration
	admin   string // a super user's
	cfg     Config
	node    *node // of a second instance, for what an HTTP request would ask
	logins  *kafkaCredentials
}

const securedUser = "datafordeler"

func (s *secured) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *secured) config(name string, c Config) string {
	s.t.Helper()
	b, err := yaml.Marshal(c)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.file(name, string(b))
}

// run runs a command and wants it to succeed.
func (s *secured) run(args ...string) string {
	s.t.Helper()
	var out, errs bytes.Buffer
	if code := run(s.ctx, stdio{strings.NewReader(""), &out, &errs}, args); code != exitOK {
		s.t.Fatalf("datafordeler %v: exit %d\n%s%s", args, code, out.Bytes(), errs.Bytes())
	}
	return out.String()
}

func newSecured(t *testing.T) *secured {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	s := &secured{t: t, ctx: ctx, dir: t.TempDir(), cluster: kafkatest.Start(t, kafkatest.Options{Secure: true})}
	c := defaultConfig()
	c.Engine, c.Listen, c.Prefix = kafka.EngineKafka, "", "p."
	c.Brokers, c.SourcePartitions, c.DeliveryBuckets = s.cluster.Brokers(), 2, 2
	c.HTTP.Listen, c.Log.Level = "", "warn"
	c.Keystore.Path, c.Store.DSN = filepath.Join(s.dir, "keys"), "sqlite:"+filepath.Join(s.dir, "decisions.db")
	c.Ledger.Key, c.Positions.Path = filepath.Join(s.dir, "ledger"), filepath.Join(s.dir, "positions.db")
	c.API.Listen = "127.0.0.1:0" // webhooks are sent where it is; nobody comes in
	c.Access.Issuers = []access.Issuer{{Kind: access.Maskinporten, URL: "https://127.0.0.1:1/"}}
	s.admin = s.config("admin.yaml", c)
	c.Brokers = s.cluster.Clients()
	c.SASL = kafka.SASL{Mechanism: kafka.ScramSHA512, Username: securedUser, PasswordFile: s.file("password", "of the broker\n")}
	c.TLS = kafka.TLS{CAFile: s.cluster.CAFile(t)}
	c.Clients.ACL = kafka.ACLRequired
	s.cfg, s.broker = c, s.config("broker.yaml", c)

	super, err := kadm.NewOptClient(kgo.SeedBrokers(s.cluster.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close()
	rs, err := super.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: securedUser, Mechanism: kadm.ScramSha512, Iterations: 4096, Password: "of the broker"}})
	if err = errors.Join(err, rs.Error()); err != nil {
		t.Fatal(err)
	}
	s.run("kafka", "acl", "--own", securedUser, "--config", s.admin, "--apply")
	return s
}

// demo is the demonstration's registry with mailboxes that receive by Kafka, after
// an edit of its agreements.
func (s *secured) demo(edit func(agreements string) string) string {
	s.t.Helper()
	dir := filepath.Join(s.t.TempDir(), "registry")
	if err := os.CopyFS(dir, os.DirFS("../../deploy/demo")); err != nil {
		s.t.Fatal(err)
	}
	path := filepath.Join(dir, "agreements.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), "channel: feed", "channel: kafka")
	text = strings.Replace(text, "organisation: \"971526920\"\nclient: fagsystem\nchannel: kafka", "organisation: \"971526920\"\nclient: fagsystem\nchannel: feed", 1)
	if edit != nil {
		text = edit(text)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

func (s *secured) apply(edit func(string) string) string {
	s.t.Helper()
	return s.run("registry", "apply", "-f", s.demo(edit), "--actor", "test", "--config", s.broker)
}

// open is a second instance's view.
func (s *secured) open() {
	s.t.Helper()
	n, err := openNode(s.ctx, s.cfg, slog.New(slog.DiscardHandler), kafka.Attach, false)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(n.close)
	lists, err := n.newKafkaAccess()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(lists.close)
	s.node, s.logins = n, &kafkaCredentials{lists, s.cfg.Config}
}

func (s *secured) issue(c access.Caller, r access.Resource) web.IssuedKafkaCredential {
	s.t.Helper()
	login, err := s.logins.Issue(s.ctx, c, r, web.KafkaCredentialOrder{})
	if err != nil {
		s.t.Fatal(err)
	}
	return login
}

// client is one of any make, with a login.
func (s *secured) client(l web.IssuedKafkaCredential, opts ...kgo.Opt) *kgo.Client {
	s.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(l.Bootstrap...), kgo.DialTLSConfig(s.cluster.TLS()), kgo.DisableClientMetrics(),
		kgo.SASL(scram.Auth{User: l.Username, Pass: l.Password}.AsSha512Mechanism())}, opts...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(cl.Close)
	return cl
}

func (s *secured) publisher(l web.IssuedKafkaCredential) *providers.Publisher {
	s.t.Helper()
	p, err := providers.New(providers.Config{Brokers: l.Bootstrap, Prefix: "p.", Dataset: demoProperty, Source: synthetic.PropertySource, TLS: s.cluster.TLS(),
		SASL: &providers.SASL{Mechanism: "scram-sha-512", Username: l.Username, Password: func() (string, error) { return l.Password, nil }}, Timeout: 20 * time.Second})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = p.Close() })
	return p
}

func (s *secured) receiver(l web.IssuedKafkaCredential) *consumers.Receiver {
	s.t.Helper()
	r, err := consumers.New(consumers.Config{Brokers: l.Bootstrap, Prefix: "p.", Mailbox: "bergen-eiendomsskatt", Follow: true, TLS: s.cluster.TLS(),
		SASL: &consumers.SASL{Mechanism: "scram-sha-512", Username: l.Username, Password: func() (string, error) { return l.Password, nil }}})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

var (
	bergen     = access.Caller{Organisation: "964338531", Client: "fagsystem"}
	arendal    = access.Caller{Organisation: "940493021", Client: "fagsystem"}
	skatt      = access.Caller{Organisation: "974761076", Client: "a-ordningen"}
	bergens    = access.Resource{Mailbox: "bergen-eiendomsskatt"}
	arendals   = access.Resource{Mailbox: "arendal-eiendomsskatt"}
	properties = access.Resource{Dataset: demoProperty}
)

// The broker does all of its work on an Apache Kafka where it may do what its list
// says and nothing more; each party does what is its own, and nothing else; and
// what is taken is gone at once.
func TestKafkaAccess(t *testing.T) {
	s := newSecured(t)
	s.run("policy", "activate", "--actor", "test", "--config", s.broker)
	s.apply(nil)
	serving, stop := context.WithCancel(s.ctx)
	var log bytes.Buffer
	served := make(chan int, 1)
	go func() {
		served <- run(serving, stdio{strings.NewReader(""), &log, &log}, []string{"serve", "--config", s.broker})
	}()
	s.open()
	b, a, p := s.issue(bergen, bergens), s.issue(arendal, arendals), s.issue(skatt, properties)

	// Publish and receive with the SDKs.
	people := synthetic.New(synthetic.Config{People: 2000, Seed: 1})
	var events []providers.Event
	for i := range 2000 {
		if e := people.Property(nil, i); e.ID != "" {
			e.Data = bytes.Clone(e.Data)
			events = append(events, sdkEvent(e))
		}
	}
	publisher := s.publisher(p)
	if err := publisher.Publish(s.ctx, events[:len(events)/2]...); err != nil {
		t.Fatal(err)
	}
	var first consumers.Delivery
	if err := s.receiver(b).Receive(s.ctx, func(_ context.Context, d consumers.Delivery) error {
		first = d
		return consumers.ErrStop
	}); err != nil || first.Mailbox != "bergen-eiendomsskatt" {
		t.Fatalf("%v %+v\n%s", err, first, log.Bytes())
	}
	if err := s.receiver(a).Receive(s.ctx, func(context.Context, consumers.Delivery) error { return consumers.ErrStop }); !errors.Is(err, consumers.ErrNoMailbox) {
		t.Errorf("arendal receives for bergen: %v", err)
	}
	t.Run("nothing else", func(t *testing.T) { s.nothingElse(t, b, a, p) })
	t.Run("once", s.once)
	t.Run("logins", func(t *testing.T) { s.rotation(t, b) })
	t.Run("taken", func(t *testing.T) { s.taken(t, b, a, publisher, events[len(events)/2:]) })

	stop()
	if code := <-served; code != exitOK {
		t.Errorf("serve: exit %d\n%s", code, log.Bytes())
	}
	s.exactly(t)
}

// rotation: a new login beside the old one, and the old one taken back.
func (s *secured) rotation(t *testing.T, b web.IssuedKafkaCredential) {
	ctx := s.ctx
	extra := s.issue(bergen, bergens)
	next, err := s.logins.Issue(ctx, bergen, bergens, web.KafkaCredentialOrder{Replaces: extra.Name, Overlap: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.logins.List(ctx, bergens)
	if err != nil || len(list) != 3 {
		t.Fatalf("%v %v", list, err)
	}
	for _, c := range list {
		if !c.InUse || (c.Ends != nil) != (c.Name == extra.Name) || c.IssuedBy != bergen.Actor() {
			t.Errorf("%+v", c)
		}
	}
	if fmt.Sprintf("%+v", list) == "" || strings.Contains(fmt.Sprintf("%+v", list), next.Password) {
		t.Error("the list tells a password")
	}
	for _, l := range []web.IssuedKafkaCredential{b, extra, next} {
		if rs, err := kadm.NewClient(s.client(l)).ListStartOffsets(ctx, l.Topic); errors.Join(err, rs.Error()) != nil {
			t.Errorf("%s: %v %v", l.Name, err, rs.Error())
		}
	}
	// One at once, on a connection that is open.
	open := s.client(next)
	if rs, err := kadm.NewClient(open).ListStartOffsets(ctx, next.Topic); errors.Join(err, rs.Error()) != nil {
		t.Fatal(err, rs.Error())
	}
	for _, c := range []access.Resource{arendals, properties} {
		var p *web.Problem
		if err := s.logins.Revoke(ctx, arendal, c, next.Name); !errors.As(err, &p) || p.Status != 404 {
			t.Errorf("another's login is revoked: %v", err)
		}
	}
	if err := s.logins.Revoke(ctx, bergen, bergens, next.Name); err != nil {
		t.Fatal(err)
	}
	if rs, err := kadm.NewClient(open).ListStartOffsets(ctx, next.Topic); !errors.Is(errors.Join(err, rs.Error()), kerr.TopicAuthorizationFailed) {
		t.Errorf("a revoked login still serves: %v %v", err, rs.Error())
	}
	if err := s.client(next, kgo.RequestRetries(0)).Ping(ctx); err == nil {
		t.Error("a revoked login logs in")
	}
	// Every secret has been told once and stands nowhere.
	for _, l := range []web.IssuedKafkaCredential{b, extra, next} {
		if strings.Contains(s.run("registry", "log", "--json", "--config", s.broker), l.Password) {
			t.Error("a password stands in the registry")
		}
	}
	for range mostCredentials - 2 {
		s.issue(bergen, bergens)
	}
	var p *web.Problem
	if _, err := s.logins.Issue(ctx, bergen, bergens, web.KafkaCredentialOrder{}); !errors.As(err, &p) || p.Status != 409 {
		t.Errorf("one more than the most: %v", err)
	}
	if _, err := s.logins.Issue(ctx, arendal, bergens, web.KafkaCredentialOrder{}); !errors.As(err, &p) || p.Status != 409 {
		t.Errorf("a login for another's mailbox: %v", err)
	}
}

// taken: what registry apply takes away binds when it returns, for a consumer that
// is in a poll loop; and what a running instance finds over is over.
func (s *secured) taken(t *testing.T, b, a web.IssuedKafkaCredential, publisher *providers.Publisher, more []providers.Event) {
	ctx := s.ctx
	reader := s.client(b, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{b.Topic: {0: kgo.NewOffset().AtEnd()}}), kgo.FetchMaxWait(time.Second))
	polled := make(chan error, 1)
	go func() {
		for {
			f := reader.PollFetches(ctx)
			if err := f.Err(); err != nil {
				polled <- err
				return
			}
		}
	}()
	suspend := func(text string) string {
		return strings.Replace(text, "id: bergen-eiendomsskatt\norganisation: \"964338531\"", "id: bergen-eiendomsskatt\nsuspended: true\norganisation: \"964338531\"", 1)
	}
	dry := s.run("registry", "apply", "-f", s.demo(suspend), "--actor", "test", "--config", s.broker, "--dry-run")
	if !strings.Contains(dry, "remove  User:"+b.Username+" may READ TOPIC "+b.Topic) {
		t.Errorf("the plan does not tell:\n%s", dry)
	}
	s.apply(suspend)
	// At once, for a request that comes now; and for the one that waits, when it comes back.
	if rs, err := kadm.NewClient(s.client(b)).ListStartOffsets(ctx, b.Topic); !errors.Is(errors.Join(err, rs.Error()), kerr.TopicAuthorizationFailed) {
		t.Errorf("a suspended mailbox can be read: %v %v", err, rs.Error())
	}
	if err := <-polled; !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("the reader was told %v", err)
	}
	if err := publisher.Publish(ctx, more...); err != nil {
		t.Fatal(err)
	}
	if list, err := s.logins.List(ctx, bergens); err != nil || list[0].InUse || !strings.Contains(list[0].WhyNotNow, "suspended") {
		t.Errorf("%+v %v", list, err)
	}
	if err := s.receiver(a).Receive(ctx, func(context.Context, consumers.Delivery) error { return consumers.ErrStop }); !errors.Is(err, consumers.ErrNoMailbox) {
		t.Errorf("%v", err)
	}
	// Back, with the same secret.
	s.apply(nil)
	if rs, err := kadm.NewClient(s.client(b)).ListStartOffsets(ctx, b.Topic); errors.Join(err, rs.Error()) != nil {
		t.Errorf("the mailbox is open again, and cannot be read: %v %v", err, rs.Error())
	}
	// An agreement that ends takes the login with it.
	ended := func(text string) string {
		at := strings.Index(text, "id: arendal-eiendomsskatt")
		return text[:at] + strings.Replace(text[at:], "status: active", "status: ended", 1)
	}
	s.apply(ended)
	if err := s.client(a, kgo.RequestRetries(0)).Ping(ctx); err == nil {
		t.Error("the login of an ended agreement serves")
	}
	if log := s.run("registry", "log", "--json", "--config", s.broker); !strings.Contains(log, "agreement arendal-eiendomsskatt has ended") {
		t.Error("the log does not tell why a login ended")
	}
	if out := s.run("kafka", "acl", "--config", s.broker); strings.Contains(out, "add ") || strings.Contains(out, "remove ") || !strings.Contains(out, a.Name+" is over") {
		t.Errorf("still to do:\n%s", out)
	}
	// A running instance hears of a change that no command made.
	if _, err := s.node.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		return st.Link(time.Now(), "test", registry.EndCredential(b.Name, time.Now(), "a test"))
	}); err != nil {
		t.Fatal(err)
	}
	adm := kadm.NewClient(s.client(b))
	for {
		rs, err := adm.ListStartOffsets(ctx, b.Topic)
		if err = errors.Join(err, rs.Error()); errors.Is(err, kerr.TopicAuthorizationFailed) {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("a running instance does not follow the registry")
		}
	}
}

// exactly: the broker was refused nothing, and everything on its list was asked for,
// but for what is needed seldom.
func (s *secured) exactly(t *testing.T) {
	allowed, denied := s.cluster.Questions(t)
	own := "User:" + securedUser
	for q := range denied {
		if q.Principal == own {
			t.Errorf("the broker was refused: %v", q)
		}
	}
	for _, a := range s.cfg.BrokerACLs(securedUser, s.cfg.Flow.Group) {
		used := false
		for q := range allowed {
			named := q.Name == a.Name || a.Pattern == kmsg.ACLResourcePatternTypePrefixed && strings.HasPrefix(q.Name, a.Name)
			used = used || q.Principal == own && q.Operation == a.Operation.String() && named &&
				strings.EqualFold(strings.ReplaceAll(a.Resource.String(), "_", ""), q.Resource)
		}
		seldom := a.Operation == kmsg.ACLOperationAlterConfigs || // where settings have changed
			a.Name == "__transaction_state" || // where Kafka lost the end of a transaction
			a.Name == "p.source." && a.Operation == kmsg.ACLOperationWrite // where providers publish over HTTP
		if !used && !seldom {
			t.Errorf("it is on the list, and nothing asks for it: %v", a)
		}
	}
}
