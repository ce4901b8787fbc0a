package consumers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"datafordeler/broker"
)

// LookupConfig says where to look up.
type LookupConfig struct {
	// URL is the broker's HTTP API, such as https://deling.example.no.
	URL string
	// Token gets an access token. It is asked again when one has ended.
	Token func(context.Context) (string, error)
	// HTTP is the client to ask with; nil is one with a timeout of 30 s.
	HTTP *http.Client
}

// Lookups asks a broker for one subject at a time. It is used by one goroutine; make
// one for each.
type Lookups struct {
	cfg   LookupConfig
	base  string
	token string
}

// NewLookups makes it. It asks nothing yet.
func NewLookups(c LookupConfig) (*Lookups, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("consumers: URL is not the address of a broker's API, such as https://deling.example.no")
	}
	if c.Token == nil {
		return nil, errors.New("consumers: Token is missing: who asks?")
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{Timeout: 30 * time.Second}
	}
	// Another address is not the one that the token is for.
	client := *c.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.HTTP = &client
	return &Lookups{cfg: c, base: strings.TrimSuffix(c.URL, "/") + "/lookups"}, nil
}

// LookupQuestion is what to ask under: a subscription that looks up, or its agreement
// where that has one such.
type LookupQuestion struct {
	Subscription broker.SubscriptionID `json:"subscription,omitempty"`
	Agreement    broker.AgreementID    `json:"agreement,omitempty"`
	// Records is how many at the most, the newest first; 0 is one.
	Records int `json:"records,omitempty"`
}

// LookupOutcome says how a question was answered.
type LookupOutcome string

// The outcomes.
const (
	LookupFound       LookupOutcome = "found"
	LookupNothing     LookupOutcome = "nothing"     // none concerns the subscription
	LookupRefused     LookupOutcome = "refused"     // Reasons says why
	LookupUnavailable LookupOutcome = "unavailable" // it could not be found out; nothing was decided
)

// LookupAnswer is the answer to one question.
type LookupAnswer struct {
	Subscription broker.SubscriptionID
	Agreement    broker.AgreementID
	Dataset      broker.DatasetID
	Outcome      LookupOutcome
	// Decision is the id under which the ledger tells why; zero where nothing was
	// decided.
	Decision broker.DecisionID
	Reasons  []LookupReason
	// Records are like deliveries, without a mailbox; the newest first.
	Records []Delivery
	// RetryAfter is when to ask again what was unavailable; 0 where that is not known.
	RetryAfter time.Duration
}

// LookupReason is why a question was refused, in words.
type LookupReason struct {
	Code            broker.Reason
	Message, Remedy map[string]string // by language: nb, nn, en
}

// LookupError is an answer that is none, as the broker said it. It repeats nothing of
// the question.
type LookupError struct {
	Status int
	Detail string
	// Request is the request's id in the broker's log.
	Request string
	// After is when to ask again; 0 where it is of no use, or not known.
	After time.Duration
}

func (e *LookupError) Error() string {
	return fmt.Sprintf("the broker answered %d: %s (request %s)", e.Status, e.Detail, e.Request)
}

const (
	lookupTries = 4
	lookupBytes = 64 << 20
	lookupPause = 30 * time.Second // the longest to wait before another try
)

// Lookup asks one or several questions about one subject, and answers each by itself,
// in their order. The subject is sent in the request's body, and stands in no error.
//
// It tries again where the broker did not take the question: it could not be reached,
// or said 429. Where an answer was lost on its way, or the broker said 503, a decision may have been made, and
// counted under a ceiling: whether to ask anew is the caller's to say.
func (l *Lookups) Lookup(ctx context.Context, subject string, questions ...LookupQuestion) ([]LookupAnswer, error) {
	body := struct {
		Subject string           `json:"subject"`
		Bundle  []LookupQuestion `json:"bundle"`
	}{subject, questions}
	return put(ctx, l, body, len(questions), readAnswers)
}

// put asks until it is answered, or to ask again is the caller's to say.
func put[A any](ctx context.Context, l *Lookups, body any, questions int, read func([]byte) ([]A, error)) ([]A, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, errors.New("consumers: the question cannot be written")
	}
	renewed := false
	for try := 1; ; try++ {
		text, err := l.ask(ctx, b)
		var answers []A
		if err == nil {
			if answers, err = read(text); err != nil {
				return nil, err
			}
		}
		var said *LookupError
		var dial *net.OpError
		pause := time.Duration(1<<try) * 50 * time.Millisecond
		switch {
		case err == nil && len(answers) == questions:
			return answers, nil
		case err == nil:
			return nil, fmt.Errorf("consumers: %d answers to %d questions", len(answers), questions)
		case errors.As(err, &said) && said.Status == http.StatusUnauthorized && !renewed:
			l.token, renewed = "", true
			continue
		case errors.As(err, &said) && said.Status == http.StatusTooManyRequests:
			pause = max(pause, said.After)
		case errors.As(err, &dial) && dial.Op == "dial":
		default:
			return nil, err
		}
		if try == lookupTries || pause > lookupPause {
			return nil, err
		}
		wait := time.NewTimer(pause + rand.N(pause/2))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil, ctx.Err()
		}
	}
}

func (l *Lookups) ask(ctx context.Context, body []byte) ([]byte, error) {
	if l.token == "" {
		var err error
		if l.token, err = l.cfg.Token(ctx); err != nil {
			return nil, fmt.Errorf("getting a token: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.base, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.GetBody = nil // not sent a second time by the client itself
	req.Header.Set("Authorization", "Bearer "+l.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := l.cfg.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, lookupBytes+1))
	if err != nil {
		return nil, fmt.Errorf("the answer was lost on its way: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp, answer)
	}
	return answer, nil
}

// refusal is an answer that is not 200.
func refusal(resp *http.Response, answer []byte) *LookupError {
	var problem struct {
		Detail string
		Errors []struct{ Message, Location string }
	}
	_ = json.Unmarshal(answer, &problem) // a proxy's answer is no problem document
	said := &LookupError{Status: resp.StatusCode, Detail: problem.Detail, Request: resp.Header.Get("Request-Id")}
	for _, e := range problem.Errors {
		said.Detail += "; " + e.Location + ": " + e.Message
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		said.After = time.Duration(s) * time.Second
	}
	return said
}

// readAnswers reads what the broker answers. Members that are not known are left
// alone: later versions may add some.
func readAnswers(b []byte) ([]LookupAnswer, error) {
	var in struct {
		Answers []struct {
			Subscription broker.SubscriptionID `json:"subscription"`
			Agreement    broker.AgreementID    `json:"agreement"`
			Dataset      broker.DatasetID      `json:"dataset"`
			Outcome      LookupOutcome         `json:"outcome"`
			Decision     string                `json:"decision"`
			Reasons      []LookupReason        `json:"reasons"`
			Records      []event               `json:"records"`
			RetryAfter   int                   `json:"retryAfter"`
		} `json:"answers"`
	}
	if len(b) > lookupBytes || json.Unmarshal(b, &in) != nil {
		return nil, errors.New("consumers: the answer is none that this version knows")
	}
	out := make([]LookupAnswer, len(in.Answers))
	for i := range in.Answers {
		a := &in.Answers[i]
		out[i] = LookupAnswer{Subscription: a.Subscription, Agreement: a.Agreement, Dataset: a.Dataset, Outcome: a.Outcome, Reasons: a.Reasons,
			RetryAfter: time.Duration(a.RetryAfter) * time.Second}
		switch a.Outcome {
		case LookupFound, LookupNothing, LookupRefused, LookupUnavailable:
		default: // nothing is made of what is not understood
			return nil, fmt.Errorf("consumers: answer %d has an outcome that this version does not know", i+1)
		}
		var err error
		if a.Decision != "" {
			if out[i].Decision, err = broker.ParseDigest(a.Decision); err != nil {
				return nil, fmt.Errorf("consumers: answer %d: its decision is none", i+1)
			}
		}
		for j := range a.Records {
			e := &a.Records[j]
			e.Mailbox = "lookup"
			d, err := e.delivery()
			if err != nil || d.Subscription != a.Subscription {
				return nil, fmt.Errorf("consumers: answer %d, record %d is none of its subscription", i+1, j+1)
			}
			d.Mailbox = ""
			out[i].Records = append(out[i].Records, d)
		}
	}
	return out, nil
}
