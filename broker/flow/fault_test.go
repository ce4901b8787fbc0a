package flow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"datafordeler/broker/deliver"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// wire makes connections that fail: a request is lost before it is sent, or it
// is carried out and the answer lost. The client cannot tell the two apart.
type wire struct {
	mu   sync.Mutex
	rng  *rand.Rand
	left int           // faults still to come
	hit  map[int16]int // by request key
	keys map[int16]bool
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &faultyConn{Conn: c, wire: w}, nil
}

// calm ends the faults.
func (w *wire) calm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = 0
}

type fate int

const (
	pass fate = iota
	lostRequest
	lostAnswer
)

func (w *wire) decide(key int16) fate {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left == 0 || !w.keys[key] || w.rng.IntN(12) > 0 {
		return pass
	}
	w.left--
	w.hit[key]++
	return fate(1 + w.rng.IntN(2))
}

// faultyConn relies on the client writing one request a call.
type faultyConn struct {
	net.Conn
	wire *wire
	mu   sync.Mutex
	lose bool // the next answer
}

var errWire = errors.New("the wire was cut")

func (c *faultyConn) Write(b []byte) (int, error) {
	if len(b) >= 6 {
		switch c.wire.decide(int16(binary.BigEndian.Uint16(b[4:]))) {
		case lostRequest:
			c.Conn.Close()
			return 0, errWire
		case lostAnswer:
			c.mu.Lock()
			c.lose = true
			c.mu.Unlock()
		}
	}
	return c.Conn.Write(b)
}

func (c *faultyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b) // the answer came, so the request was carried out
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lose {
		c.Conn.Close()
		return 0, errWire
	}
	return n, err
}

// faultKeys are the requests on which exactly-once stands.
var faultKeys = []kmsg.Key{kmsg.Produce, kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.EndTxn,
	kmsg.TxnOffsetCommit, kmsg.OffsetCommit, kmsg.OffsetFetch, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.Fetch}

// TestFaultyWire cuts the wire between a broker and Kafka at random requests,
// before and after they are carried out, over restarts and registry changes.
// Whatever is cut: each record is decided once, each permit delivered once.
func TestFaultyWire(t *testing.T) {
	seeds := 2
	if n, err := strconv.Atoi(os.Getenv("DATAFORDELER_SEEDS")); err == nil {
		seeds = n
	}
	first := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("DATAFORDELER_SEED"), 10, 64); err == nil {
		first, seeds = n, 1
	}
	for i := range seeds {
		seed := first + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			faultyRun(t, seed)
		})
	}
}

func faultyRun(t *testing.T, seed uint64) {
	h := newHarness(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	if _, err := h.apply("testdata/registry.yaml"); err != nil {
		t.Fatal(err)
	}
	h.activatePolicy()
	w := &wire{rng: rand.New(rand.NewPCG(seed, 1)), hit: map[int16]int{}, keys: map[int16]bool{}}
	for _, k := range faultKeys {
		w.keys[k.Int16()] = true
	}
	cfg := h.kafka
	cfg.Dial = w.dial
	faulty, err := kafka.Open(h.ctx, cfg, h.log, kafka.Attach)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { faulty.Close() })
	h.cfg.MaxRecords = 1 + rng.IntN(40)
	h.cfg.SessionTimeout, h.cfg.TransactionTimeout = 6*time.Second, 10*time.Second
	sound := h.engine
	h.limits.Window = 50

	s := &scenario{harness: h, subjects: map[string]string{}}
	published := 0
	for round := range 4 {
		w.mu.Lock()
		w.left = 8
		w.mu.Unlock()
		h.engine = faulty
		h.start()
		h.engine = sound
		for range 60 {
			person := rng.IntN(8)
			line := fmt.Sprintf("id=e%d person=p%d municipality=%s", published, person, []string{"0301", "4601"}[rng.IntN(2)])
			switch rng.IntN(12) {
			case 0:
				line = fmt.Sprintf("id=e%d person=p%d amount=-1", published, person)
			case 1:
				line = fmt.Sprintf("id=e%d person=p%d", max(0, published-3), person) // a repeat, or an id used again
			}
			s.publishLine(line)
			published++
		}
		switch round {
		case 0:
			s.run([]string{"open", "case", "p1"}, "")
		case 1:
			s.run([]string{"consent", "310149942", "loan", "p2"}, "")
		case 2:
			s.run([]string{"end", "case", "p1"}, "")
		}
		if rng.IntN(2) == 0 {
			w.calm() // what waits here is the test, and it is not under test
			h.drain(h.ctx)
		}
		h.stop()
	}
	h.start()
	h.drain(h.ctx)
	h.stop()
	h.checkAll()

	var records int64
	err = each(context.Background(), h.engine, h.topics.Decisions(), func(r *kgo.Record) error {
		head, _, err := deliver.DecodeHeader(r.Value)
		records += head.Records
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if records != int64(published) {
		t.Errorf("%d records were decided, %d published", records, published)
	}
	h.control.View(func(st *registry.State) {
		if left := st.Unleased("all"); left != 0 {
			t.Logf("%d of the ceiling were not leased", left)
		}
	})
	t.Logf("seed %d: %d records, faults by request key %v", seed, published, w.hit)
}
