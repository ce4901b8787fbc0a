package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"datafordeler/broker"
	"datafordeler/broker/access/grant"
	"datafordeler/broker/flow"
	"datafordeler/broker/flow/bench"
	"datafordeler/broker/registry"
	"datafordeler/providers"
)

// httpResult is what bench http --json prints. Times are in milliseconds. Server and
// clients share the machine's processors.
type httpResult struct {
	Polls    pollResult      `json:"polls"`
	Requests []requestResult `json:"requests"`
	machine
	Seconds float64 `json:"seconds"` // of each part
}

// pollResult is of long polls that are open at once while deliveries come.
type pollResult struct {
	Open       int     `json:"open"`
	Mailboxes  int     `json:"mailboxes"`
	Rate       int     `json:"rate"` // records a second
	Deliveries int64   `json:"deliveries"`
	Answers    int64   `json:"answers"` // polls that were answered; several wait for one mailbox
	P50        float64 `json:"p50_ms"`  // from when a record was due to be published
	P95        float64 `json:"p95_ms"`
	P99        float64 `json:"p99_ms"`
	Max        float64 `json:"max_ms"`
	// Bytes is what a poll that waits takes in memory, the client's end of it too.
	Bytes int64   `json:"bytes_each"`
	CPU   float64 `json:"cpu"` // processors in use, broker and clients too
}

// requestResult is of one kind of request at a rate. Times are from when it was due.
type requestResult struct {
	Kind string  `json:"kind"`
	Rate int     `json:"rate"` // as asked for
	Done float64 `json:"done_rate"`
	P50  float64 `json:"p50_ms"`
	P95  float64 `json:"p95_ms"`
	P99  float64 `json:"p99_ms"`
	Max  float64 `json:"max_ms"`
	CPU  float64 `json:"cpu"` // processors in use, clients' too
	Each float64 `json:"cpu_micros_each"`
}

func benchHTTP(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("bench http")
	var f benchFlags
	f.declare(fs, 20_000)
	polls := fs.Int("polls", 1000, "")
	arriving := fs.Int("arriving", 200, "")
	rate := fs.Int("rate", 10_000, "")
	seconds := fs.Float64("seconds", 10, "")
	connections := fs.Int("connections", 64, "")
	profile := fs.String("cpuprofile", "", "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	switch {
	case *polls < 1 || *polls > 5000:
		return usagef("polls: %d is outside 1 to 5,000", *polls)
	case *arriving < 1 || *arriving > 10_000 || *rate < 1 || *rate > 1_000_000:
		return usagef("arriving: %d and rate: %d are outside 1 to 10,000 records and 1 to 1,000,000 requests a second", *arriving, *rate)
	case !(*seconds > 0 && *seconds <= 60): // a token lasts two minutes
		return usagef("seconds: %v is outside 0 to 60", *seconds)
	case *connections < 1 || *connections > 1000:
		return usagef("connections: %d is outside 1 to 1,000", *connections)
	}
	// Some first, so that there is a delivery to read.
	f.scenario.Records = max(f.scenario.Records, httpBefore+int(*seconds*float64(*arriving)))
	if err := f.check(); err != nil {
		return err
	}
	r, err := f.open(ctx, std)
	if err != nil {
		return err
	}
	defer r.close()
	b, stop := r.governed(ctx, "http")
	defer stop()
	h := &httpBench{benchRun: r, seconds: *seconds}
	defer h.close()
	if err := h.open(b); err != nil {
		return err
	}
	res := httpResult{machine: r.machine(), Seconds: *seconds}
	if err = r.publish(ctx, 0, httpBefore); err == nil {
		err = r.await(ctx, b, httpBefore, func(int64) {})
	}
	if err == nil { // the compiled policies answer at the door too
		err = h.until(ctx, func() (bool, error) { return b.PoliciesPending() == 0, nil })
	}
	if err != nil {
		return err
	}
	if res.Polls, err = h.polls(ctx, *polls, *arriving); err != nil {
		return err
	}
	if *profile != "" {
		w, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer w.Close()
		if err := pprof.StartCPUProfile(w); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	for _, kind := range []string{oneDelivery, nothingNew} {
		done, err := h.requests(ctx, kind, *rate, *connections)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		res.Requests = append(res.Requests, done)
	}
	r.progress.end()
	if f.json {
		return json.NewEncoder(std.out).Encode(res)
	}
	p := &res.Polls
	fmt.Fprintf(std.out, "%s long polls open at once on %d mailboxes, %d records a second, %s deliveries:\n", thousands(int64(p.Open)), p.Mailboxes, p.Rate, thousands(p.Deliveries))
	fmt.Fprintf(std.out, "  from a record's publication to its delivery's arrival: p50 %.1f, p95 %.1f, p99 %.1f, max %.1f ms; %.2f CPUs; %.1f KB for each that waits\n",
		p.P50, p.P95, p.P99, p.Max, p.CPU, float64(p.Bytes)/1e3)
	fmt.Fprintf(std.out, "%-24s %10s %10s %9s %9s %9s %9s %6s %9s\n", "requests", "asked/s", "done/s", "p50, ms", "p95, ms", "p99, ms", "max, ms", "CPUs", "µs each")
	for _, q := range res.Requests {
		fmt.Fprintf(std.out, "%-24s %10s %10s %9.2f %9.2f %9.2f %9.2f %6.2f %9.0f\n", q.Kind, thousands(int64(q.Rate)), thousands(int64(q.Done)), q.P50, q.P95, q.P99, q.Max, q.CPU, q.Each)
	}
	_, err = fmt.Fprintf(std.out, "server and clients in one process over loopback; %s engine, %d CPUs, %s, %.0f s each\n", res.Engine, res.CPUs, res.Go, res.Seconds)
	return err
}

const (
	// httpBefore is how many records are published before the clock starts.
	httpBefore = 2000
	// pollEach is how many polls wait for one mailbox at the most: the API allows 16.
	pollEach = 16

	oneDelivery = "feed with a delivery"
	nothingNew  = "feed with nothing new"
)

// httpBench is a broker's HTTP API, its mailboxes and their tokens.
type httpBench struct {
	*benchRun
	seconds float64
	doors   *doors
	issuer  *demoIssuer
	key     *rsa.PrivateKey
	address string
	boxes   []httpBox
}

// httpBox is a mailbox that receives, with a token to read it.
type httpBox struct {
	mailbox broker.MailboxID
	owner   broker.OrgNumber
	token   string
	after   string // a cursor
}

// open starts the API behind its real gate: tokens are an issuer's, who signs them
// here, and rate limits are judged but never reached.
func (h *httpBench) open(b *flow.Broker) error {
	n := *h.node
	var err error
	if h.issuer, err = openDemoIssuer(&n.cfg, "127.0.0.1:0", h.log); err != nil {
		return err
	}
	n.cfg.API.Listen, n.cfg.API.RatePerSecond, n.cfg.API.Burst = "127.0.0.1:0", 1e6, 1e6
	if h.doors, err = n.newDoors(b, nil, nil); err != nil {
		return err
	}
	if err := h.doors.open(); err != nil {
		return err
	}
	h.address = h.doors.server.Addr()
	if h.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return err
	}
	h.node.control.View(func(st *registry.State) {
		for i := range min(h.scenario.Subscriptions, 300) {
			id := broker.MailboxID("bench-" + strconv.Itoa(i))
			if m := st.Mailbox(id); m != nil {
				h.boxes = append(h.boxes, httpBox{mailbox: id, owner: m.Organisation})
			}
		}
	})
	if len(h.boxes) == 0 {
		return errors.New("the scenario has no mailboxes")
	}
	return nil
}

// tokens gets new ones: they last two minutes.
func (h *httpBench) tokens(ctx context.Context) error {
	for i := range h.boxes {
		c := grant.Client{Issuer: h.issuer.issuer.Maskinporten(), ID: string(h.boxes[i].owner) + "-bench", Key: h.key, Scopes: []string{"datafordeler:receive"}}
		token, err := c.Fetch(ctx)
		if err != nil {
			return err
		}
		h.boxes[i].token = token.Text
	}
	return nil
}

func (h *httpBench) close() {
	if h.doors != nil {
		h.doors.close()
	}
	if h.issuer != nil {
		h.issuer.close()
	}
}

// polls measures long polls that wait while records are published.
func (h *httpBench) polls(ctx context.Context, open, rate int) (res pollResult, err error) {
	if err := h.tokens(ctx); err != nil {
		return res, err
	}
	boxes := h.boxes[:min(len(h.boxes), open)]
	if open > pollEach*len(boxes) {
		return res, usagef("polls: %d are more than %d mailboxes may have open, %d each: raise --subscriptions", open, len(boxes), pollEach)
	}
	res = pollResult{Open: open, Mailboxes: len(boxes), Rate: rate}
	first, err := h.dial()
	if err != nil {
		return res, err
	}
	defer first.Close()
	for i := range boxes {
		if err := h.newest(first, &boxes[i]); err != nil {
			return res, err
		}
	}
	before := inUse()
	var mu sync.Mutex
	var took []int64
	var answers atomic.Int64
	ended := make(chan struct{})
	clients := make([]*rawClient, open)
	var g errgroup.Group
	for i := range clients {
		if clients[i], err = h.dial(); err != nil {
			return res, err
		}
		c, box := clients[i], boxes[i%len(boxes)]
		first := i < len(boxes) // the first of a mailbox counts its deliveries, once
		g.Go(func() error {
			defer c.Close()
			for after := box.after; ; {
				body, err := c.get("/feeds/"+string(box.mailbox)+"?wait=60&limit=1000&after="+after, box.token)
				select {
				case <-ended:
					return nil
				default:
				}
				if err != nil {
					return err
				}
				now := time.Now()
				answers.Add(1)
				var page struct {
					Deliveries []struct{ Time time.Time }
					Next       string
				}
				if err := json.Unmarshal(body, &page); err != nil {
					return err
				}
				after = page.Next
				if first {
					mu.Lock()
					for _, d := range page.Deliveries {
						took = append(took, int64(now.Sub(d.Time)))
					}
					mu.Unlock()
				}
			}
		})
	}
	// All of them wait when as many requests are open.
	if err := h.until(ctx, func() (bool, error) {
		n, err := sumOf(h.doors.collectors(), "datafordeler_feed_open")
		return int(n) >= open, err
	}); err != nil {
		return res, err
	}
	res.Bytes = (inUse() - before) / int64(open)
	cpu, begun := processorTime(), time.Now()
	if err := h.publishAtRate(ctx, rate); err != nil {
		return res, err
	}
	h.settle(ctx, &answers)
	res.CPU = (processorTime() - cpu).Seconds() / time.Since(begun).Seconds()
	close(ended)
	for _, c := range clients {
		c.Close()
	}
	err = g.Wait()
	slices.Sort(took)
	res.P50, res.P95, res.P99, res.Max = percentile(took, 0.50), percentile(took, 0.95), percentile(took, 0.99), percentile(took, 1)
	res.Deliveries, res.Answers = int64(len(took)), answers.Load()
	if err == nil && len(took) == 0 {
		err = errors.New("nothing was delivered")
	}
	return res, err
}

// sumOf is a gauge's value, over its labels.
func sumOf(all []prometheus.Collector, name string) (sum float64, err error) {
	registered := prometheus.NewRegistry()
	for _, c := range all {
		if err := registered.Register(c); err != nil {
			return 0, err
		}
	}
	families, err := registered.Gather()
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.Metric {
				sum += m.GetGauge().GetValue()
			}
		}
	}
	return sum, err
}

func (h *httpBench) until(ctx context.Context, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the API and its polls were not ready: %w", ctx.Err())
		}
	}
}

// settle returns when no poll has been answered for a second.
func (h *httpBench) settle(ctx context.Context, answers *atomic.Int64) {
	for last := int64(-1); last != answers.Load() && ctx.Err() == nil; {
		last = answers.Load()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// publishAtRate publishes records that say when they were due.
func (h *httpBench) publishAtRate(ctx context.Context, rate int) error {
	topic := h.node.cfg.Topics().Source(string(bench.Dataset))
	total := int(h.seconds * float64(rate))
	messages, subjects := h.scenario.Messages(topic, httpBefore, httpBefore+total)
	begun := time.Now()
	due := func(i int) time.Time {
		return begun.Add(time.Duration(float64(i) / float64(rate) * float64(time.Second)))
	}
	for i := 0; i < len(messages); {
		if wait := time.Until(due(i)); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		from, now := i, time.Now()
		for ; i < len(messages) && !due(i).After(now); i++ {
			messages[i].Key = providers.HashKey(bench.Dataset, subjects[i])
			messages[i].Headers["ce_time"] = due(i).UTC().Format(time.RFC3339Nano)
		}
		if err := h.node.engine.Write(ctx, messages[from:i]...); err != nil {
			return err
		}
	}
	return nil
}

// requests sends one kind of request at a rate, over connections that are kept.
func (h *httpBench) requests(ctx context.Context, kind string, rate, connections int) (res requestResult, err error) {
	res = requestResult{Kind: kind, Rate: rate}
	if err := h.tokens(ctx); err != nil {
		return res, err
	}
	total := int64(h.seconds * float64(rate))
	first, err := h.dial()
	if err != nil {
		return res, err
	}
	defer first.Close()
	var paths, tokens []string
	for i := range h.boxes {
		box := &h.boxes[i]
		path := "/feeds/" + string(box.mailbox) + "?limit=1&after="
		if kind == nothingNew {
			if err := h.newest(first, box); err != nil {
				return res, err
			}
		}
		path += box.after
		// The cursor is of before the polls; few live in some municipalities.
		body, err := first.get(path, box.token)
		if err != nil {
			return res, err
		}
		if found := !bytes.HasPrefix(body, []byte(`{"deliveries":[]`)); found == (kind == oneDelivery) {
			paths, tokens = append(paths, path), append(tokens, box.token)
		}
	}
	if len(paths) == 0 {
		return res, errors.New("no mailbox has a delivery: raise --seconds or --arriving")
	}
	took := make([]int64, total)
	var next, done atomic.Int64
	lasting := time.Duration(h.seconds * float64(time.Second))
	g, ctx := errgroup.WithContext(ctx)
	cpu, begun := processorTime(), time.Now()
	for range connections {
		g.Go(func() error {
			c, err := h.dial()
			if err != nil {
				return err
			}
			defer c.Close()
			for i := next.Add(1) - 1; i < total; i = next.Add(1) - 1 {
				due := begun.Add(time.Duration(float64(i) / float64(rate) * float64(time.Second)))
				if wait := time.Until(due); wait > 0 {
					select {
					case <-time.After(wait):
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				box := int(i) % len(paths)
				if _, err := c.get(paths[box], tokens[box]); err != nil {
					return err
				}
				took[i] = int64(time.Since(due))
				if done.Add(1); time.Since(begun) > 2*lasting {
					break // the rate is not kept: what was done by now says how far
				}
			}
			return nil
		})
	}
	err = g.Wait()
	lasted := time.Since(begun).Seconds()
	took = slices.DeleteFunc(took, func(ns int64) bool { return ns == 0 })
	slices.Sort(took)
	res.P50, res.P95, res.P99, res.Max = percentile(took, 0.50), percentile(took, 0.95), percentile(took, 0.99), percentile(took, 1)
	res.Done, res.CPU = float64(done.Load())/lasted, (processorTime()-cpu).Seconds()/lasted
	res.Each = float64((processorTime() - cpu).Microseconds()) / float64(max(1, done.Load()))
	return res, err
}

// newest moves a mailbox's cursor to the end.
func (h *httpBench) newest(c *rawClient, box *httpBox) error {
	body, err := c.get("/feeds/"+string(box.mailbox)+"?from=newest", box.token)
	if err != nil {
		return err
	}
	var page struct{ Next string }
	if err := json.Unmarshal(body, &page); err != nil {
		return err
	}
	box.after = page.Next
	return nil
}

// rawClient speaks as much HTTP/1.1 as a load needs: a client of net/http would cost
// as much as the server that is measured.
type rawClient struct {
	net.Conn
	in   *bufio.Reader
	out  []byte
	body bytes.Buffer
}

func (h *httpBench) dial() (*rawClient, error) {
	conn, err := net.Dial("tcp", h.address)
	if err != nil {
		return nil, err
	}
	return &rawClient{Conn: conn, in: bufio.NewReaderSize(conn, 4<<10)}, nil
}

// get asks, and returns the body of a 200, which holds until the next call.
func (c *rawClient) get(path, token string) ([]byte, error) {
	c.out = fmt.Appendf(c.out[:0], "GET %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n\r\n", path, token)
	if _, err := c.Write(c.out); err != nil {
		return nil, err
	}
	line, err := c.in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	status := strings.TrimSpace(line)
	length, chunked := int64(0), false
	for {
		b, err := c.in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		b = bytes.TrimSpace(b)
		if len(b) == 0 {
			break
		}
		name, value, _ := bytes.Cut(b, []byte(":"))
		switch value = bytes.TrimSpace(value); strings.ToLower(string(name)) {
		case "content-length":
			if length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return nil, err
			}
		case "transfer-encoding":
			chunked = string(value) == "chunked"
		}
	}
	c.body.Reset()
	if chunked {
		if _, err = c.body.ReadFrom(httputil.NewChunkedReader(c.in)); err == nil {
			_, err = c.in.ReadSlice('\n') // the empty trailer
		}
	} else {
		_, err = io.CopyN(&c.body, c.in, length)
	}
	if err == nil && !strings.Contains(status, " 200 ") {
		err = fmt.Errorf("%s: %.300s", status, c.body.Bytes())
	}
	return c.body.Bytes(), err
}

// inUse is the memory in use, goroutines' stacks too, when garbage has been collected.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
