package flow

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/kafka/kafkatest"
	"datafordeler/broker/registry"
)

// mortal makes connections that all die at once, when so many requests of a kind
// have been sent: to Kafka that is an instance killed there. The last request is
// carried out.
type mortal struct {
	mu    sync.Mutex
	key   kmsg.Key
	left  int // requests to live for; 0 for ever
	conns []net.Conn
	dead  chan struct{} // closed by death
}

func (m *mortal) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.dead:
		c.Close()
		return nil, errWire
	default:
	}
	m.conns = append(m.conns, c)
	return &mortalConn{c, m}, nil
}

// dieAfter has it die with the n-th request of a kind from now on.
func (m *mortal) dieAfter(key kmsg.Key, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.key, m.left = key, n
}

type mortalConn struct {
	net.Conn
	m *mortal
}

func (c *mortalConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil || m.left == 0 || len(b) < 6 || int16(binary.BigEndian.Uint16(b[4:])) != m.key.Int16() {
		return n, err
	}
	if m.left--; m.left == 0 {
		close(m.dead)
		for _, c := range m.conns {
			c.Close()
		}
	}
	return n, err
}

// TestBackfillOnKafka is backfill on Apache Kafka: its transactions are made by hand,
// and what the embedded engine takes is not what Kafka takes. Of two instances one
// dies in the middle, in a transaction of backfill's, and comes back.
func TestBackfillOnKafka(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Start(t, kafkatest.Options{})
	for _, key := range []kmsg.Key{kmsg.TxnOffsetCommit, kmsg.EndTxn} {
		t.Run("dies after "+key.Name(), func(t *testing.T) {
			t.Parallel()
			backfillOnKafka(t, cluster, key)
		})
	}
}

func backfillOnKafka(t *testing.T, cluster *kafkatest.Cluster, key kmsg.Key) {
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("DATAFORDELER_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	h := newHarness(t, func(c *kafka.Config) {
		c.Engine, c.Brokers, c.Data, c.Listen = kafka.EngineKafka, cluster.Brokers(), "", ""
		c.Prefix = fmt.Sprintf("%s%d.", key.Name(), rng.IntN(1000))
	})
	h.cfg.Group = h.kafka.Prefix + h.cfg.Group
	h.cfg.SessionTimeout, h.cfg.TransactionTimeout = 3*time.Second, 5*time.Second
	h.cfg.Sessions = 1                    // two members are two instances
	h.cfg.Backfill.RecordsPerSecond = 400 // slices of 20, so that there is a middle
	if _, err := h.apply("testdata/registry.yaml"); err != nil {
		t.Fatal(err)
	}
	h.activatePolicy()
	h.positions = &scanned{h: h}
	s := &scenario{harness: h, subjects: map[string]string{}}
	subject := func(n int) broker.SubjectKey { return h.ring.Subject(broker.Person, s.person(fmt.Sprintf("p%d", n))) }
	published := 0
	publish := func(n int) {
		for range n {
			line := fmt.Sprintf("id=e%d person=p%d municipality=%s", published, rng.IntN(40), []string{"0301", "1601"}[rng.IntN(2)])
			switch {
			case published > 3 && rng.IntN(10) == 0:
				line += fmt.Sprintf(" supersedes=e%d", published-1-rng.IntN(3))
			case rng.IntN(15) == 0:
				line += " amount=-1"
			}
			s.publishLine(line)
			published++
		}
	}
	opened := 0
	openCase := func(n int) {
		opened++
		h.change(registry.OpenCase(broker.Case{ID: broker.CaseID(fmt.Sprintf("c%d", opened)), Subscription: "case", Subject: subject(n), Open: broker.Interval{From: h.clock().Add(-time.Hour)}}))
	}
	consent := func(n int) {
		opened++
		h.change(registry.GiveConsent(broker.Consent{ID: broker.ConsentID(fmt.Sprintf("g%d", opened)), Subject: subject(n), Consumer: "310149942", Dataset: "d", Purpose: "loan",
			Valid: broker.Interval{From: h.clock().Add(-time.Hour)}}))
	}
	begin := func(n int, agreement broker.AgreementID, mailbox broker.MailboxID, scope broker.Scope) {
		c, err := registry.Put(broker.Subscription{ID: broker.SubscriptionID(fmt.Sprintf("early%d", n)), Agreement: agreement, Mailbox: mailbox, Scope: scope,
			Start: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err != nil {
			t.Fatal(err)
		}
		h.change(c)
	}

	m := &mortal{dead: make(chan struct{})}
	cfg := h.kafka
	cfg.Dial = m.dial
	sound := h.engine
	doomed, err := kafka.Open(h.ctx, cfg, h.log, kafka.Attach)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { doomed.Close() })
	h.start()
	h.engine = doomed
	victim := h.newBroker(h.control, "1")
	h.engine = sound
	life, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- victim.Run(life) }()
	t.Cleanup(end)

	publish(150)
	h.drain(h.ctx)
	if !h.twoMembers() {
		t.Fatal("the second instance has no partition")
	}
	m.dieAfter(key, 2)
	openCase(1)
	begin(1, "all", "kommunen", broker.Scope{Kind: broker.ScopeAttribute, Attribute: "municipality", Values: []string{"1601"}})
	begin(3, "case", "kommunen", broker.Scope{Kind: broker.ScopeAll})
	consent(2)
	select {
	case <-m.dead:
	case <-time.After(time.Minute):
		t.Fatal("the second instance came to no transaction of backfill's")
	}
	end()
	left, err := BackfillLeft(h.ctx, h.engine, h.topics, h.cfg.Group, h.control)
	if err != nil || !slices.ContainsFunc(left, func(l BackfillProgress) bool { return !l.Done() }) {
		t.Fatalf("it died when nothing was left (%v): the test tests nothing: %+v", err, left)
	}
	publish(40)
	openCase(3)
	openCase(1)
	consent(4)
	begin(2, "loan", "banken", broker.Scope{Kind: broker.ScopeListed})

	back := h.newBroker(h.control, "1")
	life, end2 := context.WithCancel(context.Background())
	defer end2()
	again := make(chan error, 1)
	go func() { again <- back.Run(life) }()
	publish(10)
	consent(5)
	h.drainBackfill()
	end2()
	if err := <-again; err != nil {
		t.Errorf("the instance that came back ended with: %v", err)
	}
	h.stop()
	<-ended // with whatever error: its wire is cut
	h.checkAll()
	h.checkBackfill()
}

// twoMembers waits until the group has given two members partitions.
func (h *harness) twoMembers() bool {
	adm, err := h.engine.Admin()
	if err != nil {
		h.t.Fatal(err)
	}
	defer adm.Close()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) { // the group has no call that waits
		groups, err := adm.DescribeGroups(h.ctx, h.cfg.Group)
		if err != nil {
			continue
		}
		members := 0
		for _, member := range groups[h.cfg.Group].Members {
			if a, ok := member.Assigned.AsConsumer(); ok && len(a.Topics) > 0 {
				members++
			}
		}
		if groups[h.cfg.Group].State == "Stable" && members >= 2 {
			return true
		}
	}
	return false
}
