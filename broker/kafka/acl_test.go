package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/kafka/kafkatest"
)

var names = rapid.Custom(func(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "a-b", "a-bc", "ab", "abc", "control", "deliveries", "mailbox", "source"}).Draw(t, "name")
})

func anyGrants(t *rapid.T, label string) []Grant {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Grant {
		g := Grant{Credential: fmt.Sprintf("df-97476107%d-abcdefghijklmnop", rapid.IntRange(0, 9).Draw(t, "who"))}
		if rapid.Bool().Draw(t, "receives") {
			g.Mailbox = names.Draw(t, "mailbox")
		} else {
			g.Dataset = names.Draw(t, "dataset")
		}
		return g
	}), 0, 8).Draw(t, label)
}

// covers says what Kafka's authorizer would: whether a leave reaches a resource.
func covers(a ACL, kind kmsg.ACLResourceType, name string) bool {
	if a.Resource != kind {
		return false
	}
	if a.Pattern == kmsg.ACLResourcePatternTypePrefixed {
		return strings.HasPrefix(name, a.Name)
	}
	return a.Name == name || a.Name == "*"
}

// Whatever is granted, nobody reaches a topic or a group that is not of a grant of
// its own, of this broker or of another on the same cluster.
func TestACLsReachNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topics := Topics{rapid.SampledFrom([]string{"", "x.", "x.source.", "mailbox."}).Draw(t, "prefix")}
		grants := anyGrants(t, "grants")
		acls := topics.ACLs(grants)
		for _, name := range []string{"a", "a-b", "a-bc", "ab", "abc", "control", "deliveries", "mailbox", "source"} {
			if broker.CheckName(name) != nil {
				t.Fatal(name)
			}
			for _, a := range acls {
				credential, ok := topics.Credential(strings.TrimPrefix(a.Principal, "User:"))
				if !ok || a.Host != "*" || a.Resource != kmsg.ACLResourceTypeTopic && a.Resource != kmsg.ACLResourceTypeGroup {
					t.Fatalf("%v", a)
				}
				if a.Operation != kmsg.ACLOperationRead && a.Operation != kmsg.ACLOperationWrite && a.Operation != kmsg.ACLOperationDescribe {
					t.Fatalf("%v", a)
				}
				mailbox := slices.Contains(grants, Grant{Credential: credential, Mailbox: name})
				dataset := slices.Contains(grants, Grant{Credential: credential, Dataset: name})
				for _, there := range []struct {
					kind  kmsg.ACLResourceType
					name  string
					may   bool
					write bool
				}{
					{kmsg.ACLResourceTypeTopic, topics.Mailbox(name), mailbox, false},
					{kmsg.ACLResourceTypeTopic, topics.Source(name), dataset, true},
					{kmsg.ACLResourceTypeTopic, topics.Rejected(name), dataset, false},
					{kmsg.ACLResourceTypeTopic, topics.Deliveries(), false, false},
					{kmsg.ACLResourceTypeTopic, topics.Control(), false, false},
					{kmsg.ACLResourceTypeTopic, topics.Decisions(), false, false},
					{kmsg.ACLResourceTypeTopic, topics.Ledger(), false, false},
					{kmsg.ACLResourceTypeGroup, topics.Mailbox(name) + ".any", mailbox, false},
					{kmsg.ACLResourceTypeGroup, topics.Rejected(name) + ".any", dataset, false},
					{kmsg.ACLResourceTypeGroup, "datafordeler", false, false},
					{kmsg.ACLResourceTypeGroup, "datafordeler-ledger", false, false},
					{kmsg.ACLResourceTypeGroup, "datafordeler-webhooks", false, false},
					{kmsg.ACLResourceTypeTopic, topics.Webhooks(), false, false},
				} {
					if covers(a, there.kind, there.name) && (!there.may || a.Operation == kmsg.ACLOperationWrite && !there.write) {
						t.Fatalf("%v reaches %s %s", a, there.kind, there.name)
					}
				}
			}
		}
	})
}

// A difference that is made leaves none, touches nobody else's, and is the same
// from wherever it begins.
func TestDifferenceConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topics := Topics{rapid.SampledFrom([]string{"", "x."}).Draw(t, "prefix")}
		other := Topics{topics.Prefix + "df-"}
		before, after := anyGrants(t, "before"), anyGrants(t, "after")
		strangers := other.ACLs(anyGrants(t, "strangers"))
		strangers = append(strangers, ACL{"User:operator", "*", kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeLiteral, "*", kmsg.ACLOperationAll})
		stray := topics.ACLs(before)
		for i := range stray {
			if rapid.IntRange(0, 3).Draw(t, "stray") == 0 {
				stray[i].Host = "10.0.0.1"
			}
		}
		f := Found{ACLs: append(stray, strangers...)}
		var kept []string
		for _, g := range after {
			kept = append(kept, g.Credential)
		}
		for _, g := range before {
			f.Users = append(f.Users, topics.User(g.Credential))
		}
		f.Users = append(f.Users, "operator", other.User("df-974761070-abcdefghijklmnop"))
		d := topics.Difference(f, after, kept)
		// made
		left := map[ACL]bool{}
		for _, a := range f.ACLs {
			left[a] = true
		}
		for _, a := range d.Remove {
			if !left[a] || slices.Contains(strangers, a) {
				t.Fatalf("removes %v", a)
			}
			delete(left, a)
		}
		for _, a := range d.Add {
			if left[a] {
				t.Fatalf("adds %v, which is there", a)
			}
			left[a] = true
		}
		users := slices.DeleteFunc(slices.Clone(f.Users), func(u string) bool { return slices.Contains(d.Forget, u) })
		now := Found{ACLs: slices.Collect(maps.Keys(left)), Users: users}
		if again := topics.Difference(now, after, kept); !again.Empty() {
			t.Fatalf("and then\n%v", again)
		}
		for _, a := range strangers {
			if !left[a] {
				t.Fatalf("%v is gone", a)
			}
		}
		for _, a := range topics.ACLs(after) {
			if !left[a] {
				t.Fatalf("%v is missing", a)
			}
		}
		if !slices.Contains(users, "operator") || !slices.Contains(users, other.User("df-974761070-abcdefghijklmnop")) {
			t.Fatal("somebody else's login is gone")
		}
		if all := topics.Difference(now, nil, nil); len(all.Remove) != len(topics.ACLs(after)) || len(all.Add) > 0 {
			t.Fatalf("nothing granted leaves something: %v", all)
		}
	})
}

func TestNewCredential(t *testing.T) {
	name, secret := NewCredential("974761076")
	other, another := NewCredential("974761076")
	if _, ok := (Topics{}).Credential(name); !ok || name == other || secret == another || len(secret) < 26 {
		t.Errorf("%s %d", name, len(secret))
	}
	for _, n := range []string{"df-974761076-abcdefghij23456", "x.df-974761076-abcdefghij234567", "df-974761076-abcdefghij2345678", "admin", ""} {
		if c, ok := (Topics{}).Credential(n); ok {
			t.Errorf("%q is taken for %q", n, c)
		}
	}
}

func TestNoAccessLists(t *testing.T) {
	cluster, prefix := kafkatest.Shared(t)
	cfg := Defaults()
	cfg.Engine, cfg.Brokers, cfg.Listen, cfg.Prefix = EngineKafka, cluster.Brokers(), "", prefix
	for _, e := range []*Engine{open(t, cfg, Attach), open(t, embedded(t.TempDir()), Own)} {
		lists, err := e.AccessLists(cfg.Topics())
		if err != nil {
			t.Fatal(err)
		}
		defer lists.Close()
		if _, err := lists.Look(bounded(t)); !errors.Is(err, ErrNoAccessLists) {
			t.Errorf("%v", err)
		}
	}
}

// secure is a cluster with access lists, and an engine that is a super user there.
func secure(t *testing.T) (*kafkatest.Cluster, *Engine, Config) {
	t.Helper()
	cluster := kafkatest.Start(t, kafkatest.Options{Secure: true})
	cfg := Defaults()
	cfg.Engine, cfg.Brokers, cfg.Listen, cfg.Prefix = EngineKafka, cluster.Brokers(), "", "p."
	return cluster, open(t, cfg, Attach), cfg
}

func asUser(t *testing.T, c *kafkatest.Cluster, user, secret string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.Clients()...), kgo.DialTLSConfig(c.TLS()),
		kgo.SASL(scram.Auth{User: user, Pass: secret}.AsSha512Mechanism()), kgo.DisableClientMetrics()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// What is applied is what is found then, also where two apply at once; what is
// taken is gone from the cluster when Apply returns; nobody else's is touched.
func TestAccessListsOnKafka(t *testing.T) {
	cluster, e, cfg := secure(t)
	ctx := bounded(t)
	topics := cfg.Topics()
	lists := make([]*AccessLists, 2)
	for i := range lists {
		var err error
		if lists[i], err = e.AccessLists(topics); err != nil {
			t.Fatal(err)
		}
		defer lists[i].Close()
	}
	stranger := ACL{"User:operator", "*", kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeLiteral, "p.mailbox.a", kmsg.ACLOperationRead}
	if err := lists[0].Add(ctx, []ACL{stranger}); err != nil {
		t.Fatal(err)
	}
	a, secret := NewCredential("974761076")
	b, other := NewCredential("964338531")
	for credential, s := range map[string]string{a: secret, b: other} {
		if err := lists[0].SetSecret(ctx, credential, s); err != nil {
			t.Fatal(err)
		}
	}
	rnd := testRand(t)
	every := []Grant{{a, "d", ""}, {a, "e", ""}, {b, "", "m"}, {b, "", "n"}}
	for range 5 {
		var grants []Grant
		for _, g := range every {
			if rnd.IntN(2) == 0 {
				grants = append(grants, g)
			}
		}
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i := range lists {
			wg.Go(func() {
				f, err := lists[i].Look(ctx)
				if err == nil {
					err = lists[i].Apply(ctx, topics.Difference(f, grants, []string{a, b}))
				}
				errs[i] = err
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		f, err := lists[0].Look(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if d := topics.Difference(f, grants, []string{a, b}); !d.Empty() || !slices.Equal(f.ACLs, topics.ACLs(grants)) {
			t.Fatalf("still to do:\n%v", d)
		}
	}
	// Without its secret nobody logs in; with it, and no grant, nothing is to be had.
	f, err := lists[0].Look(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := lists[0].Apply(ctx, topics.Difference(f, nil, []string{a})); err != nil {
		t.Fatal(err)
	}
	ping := func(user, secret string) error {
		short, cancel := context.WithTimeout(ctx, testLimit)
		defer cancel()
		return asUser(t, cluster, user, secret, kgo.RetryTimeout(0), kgo.RequestRetries(0)).Ping(short)
	}
	if err := ping(topics.User(a), secret); err != nil {
		t.Errorf("a login that was kept: %v", err)
	}
	if err := ping(topics.User(b), other); err == nil {
		t.Error("a login that was removed still serves")
	}
	if err := ping(topics.User(a), other); err == nil {
		t.Error("another's secret serves")
	}
	// An ordinary client has no way to the lists.
	mine := kadm.NewClient(asUser(t, cluster, topics.User(a), secret))
	if _, err := (&AccessLists{engine: e, topics: topics, client: asUser(t, cluster, topics.User(a), secret), adm: mine}).Look(ctx); err == nil {
		t.Error("a client reads the access lists")
	}
	if err := (&AccessLists{engine: e, topics: topics, client: asUser(t, cluster, topics.User(a), secret), adm: mine}).SetSecret(ctx, a, "x"); err == nil {
		t.Error("a client changes logins")
	}
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourcePatternType, req.Operation, req.PermissionType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny, kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	user := stranger.Principal
	req.Principal = &user
	resp, err := req.RequestWith(ctx, client(t, e))
	if err != nil || len(resp.Resources) != 1 {
		t.Errorf("an operator's leave is gone: %v %v", resp, err)
	}
}
