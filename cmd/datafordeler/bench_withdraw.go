package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/access/grant"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
)

// withdrawResult is what bench withdraw --json prints. Times are in milliseconds, from
// when a case's end was sent over HTTP until it was answered as binding.
type withdrawResult struct {
	Idle   boundResult  `json:"idle"`
	Beside *boundResult `json:"beside,omitempty"` // while records are published
	Rate   int          `json:"rate"`             // of those, a second
	Count  int          `json:"count"`            // withdrawals of each
	machine
}

type boundResult struct {
	P50 float64 `json:"p50_ms"`
	P95 float64 `json:"p95_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// withdrawLoad is for how many seconds records are made ready, at the most.
const withdrawLoad = 60

// benchWithdraw ends cases, one after another, and waits for each to bind.
func benchWithdraw(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("bench withdraw")
	var f benchFlags
	f.declare(fs, httpBefore)
	count := fs.Int("count", 200, "")
	rate := fs.Int("rate", 1000, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	switch {
	case *count < 1 || *count > 100_000:
		return usagef("count: %d is outside 1 to 100,000", *count)
	case *rate < 0 || *rate > 20_000:
		return usagef("rate: %d is outside 0 to 20,000 records a second", *rate)
	}
	f.scenario.Records = max(f.scenario.Records, httpBefore+withdrawLoad**rate)
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
	b, stop := r.governed(ctx, "withdraw")
	defer stop()
	r.node.cfg.Flow.Group = r.prefix + "withdraw" // whose offsets say what binds
	h := &httpBench{benchRun: r, seconds: withdrawLoad}
	defer h.close()
	if err := h.open(b); err != nil {
		return err
	}
	if err = r.publish(ctx, 0, httpBefore); err == nil {
		err = r.await(ctx, b, httpBefore, func(int64) {})
	}
	if err == nil {
		err = h.until(ctx, func() (bool, error) { return b.PoliciesPending() == 0, nil })
	}
	if err != nil {
		return err
	}
	res := withdrawResult{Rate: *rate, Count: *count, machine: r.machine()}
	if res.Idle, err = h.withdrawals(ctx, "idle", *count); err != nil {
		return err
	}
	if *rate > 0 {
		loading, end := context.WithCancel(ctx)
		loaded := make(chan error, 1)
		go func() { loaded <- h.publishAtRate(loading, *rate) }()
		var beside boundResult
		beside, err = h.withdrawals(ctx, "beside", *count)
		end()
		if loadErr := <-loaded; err == nil && loadErr == nil {
			err = fmt.Errorf("the records ended after %d seconds, before the withdrawals did: give a lower --count", withdrawLoad)
		} else if err == nil && !errors.Is(loadErr, context.Canceled) {
			err = loadErr
		}
		if err != nil {
			return err
		}
		res.Beside = &beside
	}
	r.progress.end()
	if f.json {
		return json.NewEncoder(std.out).Encode(res)
	}
	fmt.Fprintf(std.out, "%28s %10s %10s %10s %10s\n", "a withdrawal binds after, ms", "p50", "p95", "p99", "max")
	row := func(name string, b boundResult) {
		fmt.Fprintf(std.out, "%28s %10.1f %10.1f %10.1f %10.1f\n", name, b.P50, b.P95, b.P99, b.Max)
	}
	row("idle", res.Idle)
	if res.Beside != nil {
		row(thousands(int64(*rate))+" records a second", *res.Beside)
	}
	_, err = fmt.Fprintf(std.out, "%s withdrawals each, over HTTP, one after another; %s engine, %d CPUs, %s\n", thousands(int64(*count)), res.Engine, res.CPUs, res.Go)
	return err
}

// withdrawals opens cases and measures how long each one's end takes to bind.
func (h *httpBench) withdrawals(ctx context.Context, name string, count int) (res boundResult, err error) {
	var owner broker.OrgNumber
	h.node.control.View(func(st *registry.State) { owner = st.Agreement(benchLookup).Consumer })
	if h.key == nil {
		if h.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return res, err
		}
	}
	c := grant.Client{Issuer: h.issuer.issuer.Maskinporten(), ID: string(owner) + "-bench", Key: h.key, Scopes: []string{"datafordeler:manage"}}
	token, err := c.Fetch(ctx)
	if err != nil {
		return res, err
	}
	asked := time.Now()
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	_, subjects := h.scenario.Messages("", 0, min(count, httpBefore))
	post := func(path, body string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+h.address+"/subscriptions/"+benchLookup+"/cases"+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token.Text)
		req.Header.Set("Prefer", "wait=30")
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		var out web.ChangeView
		if err == nil {
			err = json.Unmarshal(b, &out)
		}
		if err == nil && (resp.StatusCode != http.StatusOK || !out.Changed || !out.Binds) {
			err = fmt.Errorf("answered %d: %.300s", resp.StatusCode, b)
		}
		return err
	}
	took := make([]int64, count)
	for i := range took {
		if time.Since(asked) > time.Minute { // it lasts two
			if token, err = c.Fetch(ctx); err != nil {
				return res, err
			}
			asked = time.Now()
		}
		id := fmt.Sprintf("%s-%d", name, i)
		if err := post("", fmt.Sprintf(`{"id":%q,"subject":%q}`, id, subjects[i%len(subjects)])); err != nil {
			return res, err
		}
		begun := time.Now()
		if err := post("/"+id+"/end", ""); err != nil {
			return res, err
		}
		took[i] = int64(time.Since(begun))
	}
	slices.Sort(took)
	return boundResult{percentile(took, 0.50), percentile(took, 0.95), percentile(took, 0.99), percentile(took, 1)}, nil
}
