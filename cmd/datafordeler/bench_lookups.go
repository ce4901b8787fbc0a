package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/access/grant"
	"datafordeler/broker/registry"
)

// lookupResult is what bench lookups --json prints. Times are in milliseconds, from
// when a question was due; clients and server share the machine's processors.
type lookupResult struct {
	Rate    int     `json:"rate"` // as asked for
	Done    float64 `json:"done_rate"`
	Records int     `json:"records"` // in the log
	P50     float64 `json:"p50_ms"`
	P95     float64 `json:"p95_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
	CPU     float64 `json:"cpu"` // processors in use, clients' too
	machine
	Seconds float64 `json:"seconds"`
}

const benchLookup = "bench-lookup"

// benchLookups asks over HTTP for random subjects of those published, at a rate.
func benchLookups(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("bench lookups")
	var f benchFlags
	f.declare(fs, 20_000)
	rate := fs.Int("rate", 1000, "")
	seconds := fs.Float64("seconds", 10, "")
	connections := fs.Int("connections", 64, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	switch {
	case *rate < 1 || *rate > 100_000:
		return usagef("rate: %d is outside 1 to 100,000 a second", *rate)
	case !(*seconds > 0 && *seconds <= 60): // a token lasts two minutes
		return usagef("seconds: %v is outside 0 to 60", *seconds)
	case *connections < 1 || *connections > 1000:
		return usagef("connections: %d is outside 1 to 1,000", *connections)
	}
	if f.scenario.Subscriptions == 0 {
		f.scenario.Subscriptions = max(10, f.scenario.Fanout)
	}
	if err := f.check(); err != nil {
		return err
	}
	r, err := f.open(ctx, std)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.declareLookup(ctx); err != nil {
		return err
	}
	indexing, stopIndexing := context.WithCancel(ctx)
	indexed := r.node.newLocating().run(indexing)
	defer func() { stopIndexing(); indexed() }()
	b, stop := r.governed(ctx, "lookups")
	defer stop()
	h := &httpBench{benchRun: r, seconds: *seconds}
	defer h.close()
	if err := h.open(b); err != nil {
		return err
	}
	if err := r.publish(ctx, 0, f.scenario.Records); err != nil {
		return err
	}
	if err := r.await(ctx, b, int64(f.scenario.Records), func(int64) {}); err != nil {
		return err
	}
	if err := r.node.located.follower.Latest(ctx); err != nil {
		return err
	}
	res, err := h.lookups(ctx, *rate, *connections)
	if err != nil {
		return err
	}
	r.progress.end()
	res.machine, res.Seconds, res.Records = r.machine(), *seconds, f.scenario.Records
	if f.json {
		return json.NewEncoder(std.out).Encode(res)
	}
	_, err = fmt.Fprintf(std.out, "lookups over HTTP, %s records in the log: asked %s a second, answered %s: p50 %.1f, p95 %.1f, p99 %.1f, max %.1f ms; %.2f CPUs, clients too; %s engine, %d CPUs, %s, %.0f s\n",
		thousands(int64(res.Records)), thousands(int64(res.Rate)), thousands(int64(res.Done)), res.P50, res.P95, res.P99, res.Max, res.CPU, res.Engine, res.CPUs, res.Go, res.Seconds)
	return err
}

// declareLookup declares a subscription that looks up all, without a mailbox.
func (r *benchRun) declareLookup(ctx context.Context) error {
	_, err := r.node.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		i := slices.IndexFunc(st.Agreements(), func(a *broker.Agreement) bool { return len(a.Bases) == 2 }) // in statute
		if i < 0 {
			return nil, errors.New("no agreement in statute: give a lower --consent-share")
		}
		a := *st.Agreements()[i]
		a.ID, a.Package = benchLookup, broker.PackageRef{}
		for _, p := range st.Packages() {
			if len(p.Filter) == 0 {
				a.Package = p.Ref()
			}
		}
		agreement, err := registry.Put(a)
		if err != nil {
			return nil, err
		}
		sub, err := registry.Put(broker.Subscription{ID: benchLookup, Agreement: benchLookup, Lookup: true, Scope: broker.Scope{Kind: broker.ScopeAll}})
		if err != nil {
			return nil, err
		}
		return st.Link(time.Now(), "bench", agreement, sub)
	})
	return err
}

// lookups asks at a rate, whether answers come in time or not.
func (h *httpBench) lookups(ctx context.Context, rate, connections int) (res lookupResult, err error) {
	var owner broker.OrgNumber
	h.node.control.View(func(st *registry.State) { owner = st.Agreement(benchLookup).Consumer })
	if h.key == nil {
		if h.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return res, err
		}
	}
	c := grant.Client{Issuer: h.issuer.issuer.Maskinporten(), ID: string(owner) + "-bench", Key: h.key, Scopes: []string{"datafordeler:lookup"}}
	token, err := c.Fetch(ctx)
	if err != nil {
		return res, err
	}
	_, subjects := h.scenario.Messages("", 0, h.scenario.Records)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	ask := func(subject string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+h.address+"/lookups", strings.NewReader(`{"subscription":"`+benchLookup+`","subject":"`+subject+`"}`))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token.Text)
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `"outcome":"found"`)) {
			err = fmt.Errorf("answered %d, and not with what there is: %.300s", resp.StatusCode, body)
		}
		return err
	}
	for i := range 200 { // connections are made, policies compiled
		if err := ask(string(subjects[i%len(subjects)])); err != nil {
			return res, err
		}
	}
	n := max(1, int(h.seconds*float64(rate)))
	took := make([]int64, n)
	due := make(chan int, n)
	begun, before := time.Now(), processorTime()
	var g sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for range connections {
		g.Go(func() {
			for i := range due {
				at := begun.Add(time.Duration(i) * time.Second / time.Duration(rate))
				if err := ask(string(subjects[mathrand.IntN(len(subjects))])); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
				took[i] = int64(time.Since(at))
			}
		})
	}
	for i := range n {
		if wait := time.Until(begun.Add(time.Duration(i) * time.Second / time.Duration(rate))); wait > 0 {
			time.Sleep(wait)
		}
		due <- i
	}
	close(due)
	g.Wait()
	if failed != nil {
		return res, failed
	}
	elapsed := time.Since(begun).Seconds()
	slices.Sort(took)
	res = lookupResult{Rate: rate, Done: float64(n) / elapsed, CPU: (processorTime() - before).Seconds() / elapsed,
		P50: percentile(took, 0.50), P95: percentile(took, 0.95), P99: percentile(took, 0.99), Max: percentile(took, 1)}
	return res, nil
}
