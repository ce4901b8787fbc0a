package lookup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker"
)

// Config is the part of the broker's configuration on lookups.
type Config struct {
	// Providers are the endpoints that datasets may name. A dataset that names another
	// is not asked: the registry says where its data is, and this whom the broker's
	// operator lets the broker call.
	Providers []Provider `yaml:"providers"`
}

// Provider is a host that lookups may go to.
type Provider struct {
	// Host is as in the dataset's endpoint, with the port where it has one:
	// data.example.no, or data.example.no:8443.
	Host string `yaml:"host"`
	// TokenFile holds the token that the broker shows there (Authorization: Bearer). It
	// is read for each request, so that it may be renewed. "" shows none.
	TokenFile string `yaml:"token_file"`
}

// Validate names the first fault and its remedy.
func (c Config) Validate() error {
	for i, p := range c.Providers {
		u, err := url.Parse("https://" + p.Host + "/")
		if err != nil || p.Host == "" || u.Host != p.Host || u.User != nil {
			return fmt.Errorf("providers: entry %d: %q is no host; write data.example.no, or data.example.no:8443", i+1, p.Host)
		}
		if slices.ContainsFunc(c.Providers[:i], func(o Provider) bool { return o.Host == p.Host }) {
			return fmt.Errorf("providers: %s stands twice; keep one", p.Host)
		}
	}
	return nil
}

const (
	defaultTimeout = 2 * time.Second
	answerMost     = 4 << 20 // bytes
)

// Providers asks providers' own endpoints. Only hosts that are configured are called,
// over TLS, without following redirects or asking proxies.
type Providers struct {
	hosts  map[string]Provider
	client *http.Client
	now    func() time.Time
	asked  *prometheus.CounterVec // dataset, outcome

	mu       sync.Mutex
	breakers map[string]*breaker // by URL
}

// NewProviders makes it. transport is for tests; nil is one that verifies by the
// system's roots.
func NewProviders(c Config, transport http.RoundTripper, now func() time.Time) *Providers {
	if transport == nil {
		transport = &http.Transport{Proxy: nil, ForceAttemptHTTP2: true, DisableCompression: true, TLSHandshakeTimeout: 5 * time.Second,
			MaxResponseHeaderBytes: 64 << 10, MaxIdleConns: 64, MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second}
	}
	if now == nil {
		now = time.Now
	}
	p := &Providers{hosts: map[string]Provider{}, breakers: map[string]*breaker{}, now: now,
		client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "datafordeler_provider_requests_total",
			Help: "Lookups that went to a provider's own endpoint, by outcome: answered, failed, timeout, or open, where it was not asked because it has not answered lately."},
			[]string{"dataset", "outcome"}),
	}
	for _, h := range c.Providers {
		p.hosts[h.Host] = h
	}
	return p
}

// Collectors are for main to register.
func (p *Providers) Collectors() []prometheus.Collector { return []prometheus.Collector{p.asked} }

// ProviderError says that a provider gave no answer that counts. It repeats nothing of
// what the provider said, which may be a person's number.
type ProviderError struct {
	Why string
	// Timeout is true where it took too long.
	Timeout bool
	// After is when to try again; 0 where that is not known.
	After time.Duration
}

func (e *ProviderError) Error() string { return e.Why }

// Ask asks a dataset's provider for the newest records on a subject: a POST of
// {"subject": …, "records": …} to its endpoint, answered 200 by a batch of CloudEvents
// in JSON (application/cloudevents-batch+json), the newest first; none is an empty one.
func (p *Providers) Ask(ctx context.Context, ds *broker.Dataset, subject string, most int) ([]json.RawMessage, error) {
	u, err := url.Parse(ds.Endpoint.URL)
	if err != nil || u.Scheme != "https" {
		return nil, &ProviderError{Why: "the endpoint of dataset " + string(ds.ID) + " is no https address"}
	}
	host, allowed := p.hosts[u.Host]
	if !allowed {
		return nil, &ProviderError{Why: fmt.Sprintf("the endpoint of dataset %s is at %s, which lookups.providers does not name", ds.ID, u.Host)}
	}
	b := p.breaker(ds.Endpoint.URL)
	if wait, ok := b.allow(p.now()); !ok {
		p.asked.WithLabelValues(string(ds.ID), "open").Inc()
		return nil, &ProviderError{Why: fmt.Sprintf("the provider of %s has not answered lately, and is not asked for a while", ds.ID), After: wait}
	}
	timeout := defaultTimeout
	if ms := ds.Endpoint.TimeoutMillis; ms > 0 {
		timeout = time.Duration(ms) * time.Millisecond
	}
	asking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	events, err := p.post(asking, u, host, subject, most)
	b.done(p.now(), err == nil, err != nil && ctx.Err() == nil)
	switch {
	case err == nil:
		p.asked.WithLabelValues(string(ds.ID), "answered").Inc()
		return events, nil
	case errors.Is(asking.Err(), context.DeadlineExceeded):
		p.asked.WithLabelValues(string(ds.ID), "timeout").Inc()
		return nil, &ProviderError{Why: fmt.Sprintf("the provider of %s did not answer within %v", ds.ID, timeout), Timeout: true}
	}
	p.asked.WithLabelValues(string(ds.ID), "failed").Inc()
	return nil, &ProviderError{Why: fmt.Sprintf("the provider of %s did not answer: %v", ds.ID, err)}
}

func (p *Providers) breaker(url string) *breaker {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.breakers[url]
	if b == nil {
		b = &breaker{}
		p.breakers[url] = b
	}
	return b
}

func (p *Providers) post(ctx context.Context, u *url.URL, host Provider, subject string, most int) ([]json.RawMessage, error) {
	body, err := json.Marshal(struct {
		Subject string `json:"subject"`
		Records int    `json:"records"`
	}{subject, most})
	if err != nil {
		return nil, errors.New("the question cannot be written")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/cloudevents-batch+json")
	if host.TokenFile != "" {
		token, err := os.ReadFile(host.TokenFile)
		if err != nil {
			return nil, errors.New("its token_file cannot be read")
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err // names the address, where no subject stands
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %d", resp.StatusCode)
	}
	if media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); strings.TrimSpace(media) != "application/cloudevents-batch+json" {
		return nil, errors.New("its answer is no application/cloudevents-batch+json")
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, answerMost+1))
	if err != nil {
		return nil, err
	}
	if len(answer) > answerMost {
		return nil, fmt.Errorf("its answer is longer than %d bytes", answerMost)
	}
	var events []json.RawMessage
	if json.Unmarshal(answer, &events) != nil || events == nil {
		return nil, errors.New("its answer is no JSON array")
	}
	return events[:min(len(events), most)], nil
}
