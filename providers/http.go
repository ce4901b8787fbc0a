package providers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"datafordeler/broker"
)

// TokenSource gives an access token. It is asked before each request, so it keeps a
// token while that one lasts. It must be safe for concurrent use.
type TokenSource func(context.Context) (string, error)

// httpLanes is how many requests are under way at once. Each has its own subjects,
// so that the order of a subject is that of its lane.
const httpLanes = 4

// httpDoor is the way to the broker's HTTP API.
type httpDoor struct {
	url    string
	client *http.Client
	token  TokenSource
}

func newHTTPDoor(cfg Config) *httpDoor {
	d := &httpDoor{url: strings.TrimSuffix(cfg.URL, "/") + "/datasets/" + url.PathEscape(string(cfg.Dataset)) + "/events", client: cfg.HTTPClient, token: cfg.Token}
	if d.client == nil {
		d.client = &http.Client{
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
				TLSClientConfig: cfg.TLS, TLSHandshakeTimeout: 10 * time.Second,
				MaxIdleConnsPerHost: httpLanes, IdleConnTimeout: time.Minute,
			},
			// The token is for this address and no other.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return d
}

// checkURL refuses to show token and records to whoever can read the network.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return errors.New("want the address of the API and nothing more, such as https://datafordeler.example")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return fmt.Errorf("the scheme %q is not known; write https", u.Scheme)
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return errors.New("http shows the records to whoever can read the network; write https (http is for this machine only)")
}

// httpResult is a line of the API's answer.
type httpResult struct {
	Index  *int                 `json:"index"`
	Status string               `json:"status"`
	Reason broker.RejectionCode `json:"reason"`
	broker.Rejection
}

// sendHTTP sends records until each is accepted or rejected, or there is no more
// time. What was answered is not sent again; the rest is, in the same order.
func (p *Publisher) sendHTTP(records []*record, deadline time.Time, unwanted <-chan struct{}) outcome {
	out := make([]answer, len(records))
	left := make([]int, len(records))
	for i := range left {
		left[i] = i
	}
	maybe, denied := false, false
	for attempt := 0; ; attempt++ {
		settled, wait, err := p.http.post(records, left, out, p.cfg.RequestTimeout)
		left = settled
		if len(left) == 0 {
			return outcome{each: out}
		}
		var refusal *httpRefusal
		final := errors.As(err, &refusal) && !refusal.passes()
		if errors.Is(err, ErrDenied) && refusal != nil && refusal.status == http.StatusUnauthorized && !denied {
			denied, final = true, false // a token may end on the way: once more with a new one
		}
		var fault *tokenFault
		if !errors.As(err, &fault) && (refusal == nil || refusal.status >= 500) {
			maybe = maybe || ambiguous(err)
		}
		if !final {
			p.retrying(0, len(left), attempt, err)
		}
		if final || !backoff(unwanted, attempt, deadline, wait) {
			for _, i := range left {
				out[i] = answer{fmt.Errorf("not published in %d attempts: %w", attempt+1, err), maybe}
			}
			return outcome{each: out, err: err}
		}
	}
}

// httpRefusal is an answer for the whole request.
type httpRefusal struct {
	status int
	detail string
}

func (e *httpRefusal) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("the broker answers %d %s: %s", e.status, http.StatusText(e.status), e.detail), ": ")
}

// Is says what kind of refusal it is.
func (e *httpRefusal) Is(target error) bool {
	switch target {
	case ErrDenied:
		return e.status == http.StatusUnauthorized || e.status == http.StatusForbidden
	case ErrUnknownDataset:
		return e.status == http.StatusNotFound
	}
	return false
}

// passes tells whether the same request may succeed later.
func (e *httpRefusal) passes() bool {
	return e.status >= 500 || e.status == http.StatusTooManyRequests || e.status == http.StatusRequestTimeout
}

var errNoAnswer = errors.New("the broker did not answer for every event")

// post is one attempt. It fills the answers of events that were accepted or
// rejected, and returns the others; err is why there are any.
func (d *httpDoor) post(records []*record, send []int, out []answer, timeout time.Duration) (left []int, wait time.Duration, err error) {
	// The caller may have gone: what was begun is let end, as over Kafka.
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	token, err := d.token(ctx)
	if err != nil {
		return send, 0, &tokenFault{err}
	}
	var body []byte
	for _, i := range send {
		body = records[i].appendLine(body)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url, bytes.NewReader(body))
	if err != nil {
		return send, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := d.client.Do(req)
	if err != nil {
		return send, 0, err
	}
	defer resp.Body.Close()
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 {
		wait = time.Duration(min(s, 3600)) * time.Second
	}
	if resp.StatusCode != http.StatusOK {
		var problem struct {
			Detail string `json:"detail"`
		}
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		_ = json.Unmarshal(text, &problem)
		return send, wait, &httpRefusal{resp.StatusCode, problem.Detail}
	}
	done := make([]bool, len(send))
	err = errNoAnswer
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r httpResult
		if json.Unmarshal(lines.Bytes(), &r) != nil || r.Index == nil || *r.Index < 0 || *r.Index >= len(send) {
			continue // the summary
		}
		switch r.Status {
		case "accepted":
			done[*r.Index] = true
		case "rejected":
			r.Rejection.Code = r.Reason
			done[*r.Index], out[send[*r.Index]].err = true, &RejectedError{r.Rejection}
		case "failed":
			err = errors.New("the broker could not write it: " + r.Rejection.Detail)
		}
	}
	if lines.Err() != nil {
		err = lines.Err()
	}
	for n, i := range send {
		if !done[n] {
			left = append(left, i)
		}
	}
	return left, wait, err
}

// tokenFault is a token that could not be had; nothing was sent.
type tokenFault struct{ err error }

func (e *tokenFault) Error() string { return "no token: " + e.err.Error() }
func (e *tokenFault) Unwrap() error { return e.err }

// appendLine writes a record as a line of NDJSON, a CloudEvent in JSON. Its payload
// arrives byte for byte: where it has line ends of its own it goes in base 64.
func (r *record) appendLine(b []byte) []byte {
	text := func(name, value string) {
		quoted, _ := json.Marshal(value) // of a string it does not fail
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, `":`...)
		b = append(b, quoted...)
		b = append(b, ',')
	}
	b = append(b, '{')
	for _, h := range r.headers {
		if name, ok := strings.CutPrefix(h.Key, "ce_"); ok {
			text(name, string(h.Value))
		}
	}
	if r.about != "" {
		text("partitionkey", r.about)
	}
	if bytes.ContainsAny(r.data, "\r\n") || bytes.Equal(bytes.TrimSpace(r.data), []byte("null")) {
		b = append(b, `"data_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, r.data)
		return append(b, "\"}\n"...)
	}
	b = append(b, `"data":`...)
	b = append(b, r.data...)
	return append(b, "}\n"...)
}
