package consumers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// What a page of a feed may be, and how long the broker holds a request that finds
// nothing.
const (
	feedPage      = 500
	feedWait      = 30 * time.Second
	feedPageBytes = 64 << 20
)

// feedTopic stands in a checkpoint in place of a Kafka topic.
const feedTopic = "feed"

// feed is a mailbox as the broker's HTTP API shows it.
type feed struct {
	r      *Receiver
	client *http.Client
	base   string
	token  string // empty: to be asked for
	cursor string // to go on from
	from   string // to begin with, where there is no cursor
}

// page is one answer.
type page struct {
	Deliveries []event `json:"deliveries"`
	Next       string  `json:"next"`
	More       bool    `json:"more"`
}

// event is a delivery in CloudEvents' JSON format. Members that are not known are
// left alone, because later versions may add some.
type event struct {
	SpecVersion  string          `json:"specversion"`
	ID           string          `json:"id"`
	Source       string          `json:"source"`
	Type         string          `json:"type"`
	Time         string          `json:"time"`
	ContentType  string          `json:"datacontenttype"`
	Mailbox      string          `json:"mailbox"`
	Subscription string          `json:"subscription"`
	Agreement    string          `json:"agreement"`
	Decision     string          `json:"decision"`
	Dataset      string          `json:"dataset"`
	Provider     string          `json:"provider"`
	RecordKind   string          `json:"recordkind"`
	Of           string          `json:"of"`
	Provisional  bool            `json:"provisional"`
	Notice       bool            `json:"notice"`
	Denied       bool            `json:"denied"`
	Backfill     bool            `json:"backfill"`
	Traceparent  string          `json:"traceparent"`
	Data         json.RawMessage `json:"data"`
}

// delivery reads the event as a message on Kafka is read: by the same rules.
func (e *event) delivery() (Delivery, error) {
	h := make([]header, 0, attributes)
	add := func(name, value string) {
		if value != "" {
			h = append(h, header{Key: name, Value: []byte(value)})
		}
	}
	add("ce_specversion", e.SpecVersion)
	add("ce_id", e.ID)
	add("ce_source", e.Source)
	add("ce_type", e.Type)
	add("ce_time", e.Time)
	add("content-type", e.ContentType)
	add("ce_mailbox", e.Mailbox)
	add("ce_subscription", e.Subscription)
	add("ce_agreement", e.Agreement)
	add("ce_dataset", e.Dataset)
	add("ce_provider", e.Provider)
	add("ce_decision", e.Decision)
	add("ce_recordkind", e.RecordKind)
	add("ce_of", e.Of)
	for name, is := range map[string]bool{"ce_provisional": e.Provisional, "ce_notice": e.Notice, "ce_denied": e.Denied, "ce_backfill": e.Backfill} {
		if is {
			add(name, "true")
		}
	}
	add("ce_traceparent", e.Traceparent)
	return parse(h, e.Data)
}

// receiveFeed is Receive over HTTP.
func (r *Receiver) receiveFeed(ctx context.Context, handler Handler) (err error) {
	f := &feed{r: r, client: r.cfg.HTTP, base: strings.TrimSuffix(r.cfg.URL, "/") + "/feeds/" + string(r.cfg.Mailbox)}
	if f.client == nil {
		f.client = &http.Client{Timeout: feedWait + 30*time.Second}
	}
	if err := f.begin(ctx); err != nil {
		return err
	}
	defer func() { // what was handled is not to come again
		if serr := r.save(ctx); serr != nil && (err == nil || errors.Is(err, ctx.Err())) {
			err = serr
		}
	}()
	caughtUp := false
	for {
		p, err := f.next(ctx, r.cfg.Follow && caughtUp)
		if gone := (*GoneError)(nil); errors.As(err, &gone) && r.cfg.OnGone != nil {
			start, err := r.cfg.OnGone(ctx, gone)
			if err != nil {
				return err
			}
			if f.cursor, f.from, err = "", start.query(), nil; f.from == "" {
				return gone // the checkpoint is what is gone
			}
			continue
		}
		if err != nil {
			return err
		}
		ds := make([]Delivery, len(p.Deliveries))
		for i := range p.Deliveries {
			d, err := p.Deliveries[i].delivery()
			if err == nil && d.Mailbox != r.cfg.Mailbox {
				err = errors.New("it is addressed to another mailbox")
			}
			if err != nil {
				// Those before it are good.
				if herr := r.process(ctx, ds[:i], handler); herr != nil {
					return quiet(herr)
				}
				return &MessageError{Position{Topic: feedTopic, Offset: int64(i)}, err}
			}
			ds[i] = d
		}
		// The cursor moves when all of the page is handled. If it fails before, the page
		// comes again, and what of it was handled is known as repeats.
		if err := r.process(ctx, ds, handler); err != nil {
			return quiet(err)
		}
		f.cursor, r.cursor = p.Next, p.Next
		r.advanced++
		if r.unsaved >= r.cfg.CheckpointEvery || !p.More {
			if err := r.save(ctx); err != nil {
				return err
			}
		}
		if !p.More && !caughtUp {
			caughtUp = true
			r.cfg.Notify(CaughtUp)
			if !r.cfg.Follow {
				return nil
			}
		}
	}
}

func quiet(err error) error {
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

// begin finds out where to go on.
func (f *feed) begin(ctx context.Context) error {
	r := f.r
	if f.cursor = r.cursor; f.cursor != "" {
		return nil // as far as this Receiver came
	}
	f.from = r.cfg.From.query()
	if r.cfg.From.at != atCheckpoint || r.cfg.Checkpoints == nil {
		return nil
	}
	c, err := r.cfg.Checkpoints.Load(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errCheckpoint, err)
	case c == nil:
		return nil
	case c.Version != checkpointVersion:
		return fmt.Errorf("%w: it has version %d, and this client knows %d", errCheckpoint, c.Version, checkpointVersion)
	case c.Mailbox != r.cfg.Mailbox:
		return fmt.Errorf("%w: it is of mailbox %q, not %q; give each mailbox its own", errCheckpoint, c.Mailbox, r.cfg.Mailbox)
	case c.Topic != feedTopic:
		return fmt.Errorf("%w: it is of Kafka topic %q, and this reads over HTTP; begin anew with From", errCheckpoint, c.Topic)
	}
	r.window = newWindow(r.cfg.Window, c.Recent)
	f.cursor, r.cursor = c.Cursor, c.Cursor
	return nil
}

// query is the start in the words of the API.
func (s Start) query() string {
	switch s.at {
	case atBeginning:
		return "oldest"
	case atEnd:
		return "newest"
	case atTime:
		return s.time.UTC().Format(time.RFC3339)
	}
	return ""
}

// next asks for a page until there is an answer that is one, or that waiting does
// not mend.
func (f *feed) next(ctx context.Context, wait bool) (*page, error) {
	cfg := &f.r.cfg
	q := url.Values{"limit": {strconv.Itoa(feedPage)}}
	if wait {
		q.Set("wait", strconv.Itoa(int(feedWait.Seconds())))
	}
	if f.cursor != "" {
		q.Set("after", f.cursor)
	} else if f.from != "" {
		q.Set("from", f.from)
	}
	began, away, refused := time.Now(), false, false
	for try := 0; ; try++ {
		p, after, err := f.ask(ctx, q)
		var status *statusError
		switch {
		case err == nil:
			if away {
				cfg.Notify(KafkaBack)
			}
			return p, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.As(err, &status) && status.code == http.StatusUnauthorized && !refused:
			refused, f.token = true, "" // it has ended; a new one once
			continue
		case errors.As(err, &status) && !status.passing():
			return nil, f.fault(status)
		case time.Since(began) < cfg.Patience:
		case !cfg.Follow:
			return nil, fmt.Errorf("the broker at %s did not answer within %v (is it running, and is the address right?): %w", cfg.URL, cfg.Patience, err)
		case !away:
			away = true
			cfg.Notify(KafkaAway)
		}
		select {
		case <-time.After(max(after, pause(cfg.Backoff, try))):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// pause is how long to wait before try+1: it doubles from least up to a hundred
// times that, less up to half of it by lot, so that many do not come at once.
func pause(least time.Duration, try int) time.Duration {
	d := min(least<<min(try, 20), 100*least)
	return d - rand.N(d/2+1)
}

// statusError is an answer of the API that is no page.
type statusError struct {
	code   int
	kind   string // the problem's type
	detail string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the broker answered %d: %s", e.code, e.detail)
}

func (e *statusError) passing() bool {
	return e.code >= 500 || e.code == http.StatusTooManyRequests || e.code == http.StatusRequestTimeout
}

// fault is an answer in the SDK's words.
func (f *feed) fault(e *statusError) error {
	switch {
	case e.code == http.StatusGone, e.kind == "urn:datafordeler:problem:cursor-ahead":
		return &GoneError{Wanted: Position{Topic: feedTopic}, Earliest: -1, Latest: -1, Reason: e.detail}
	case e.code == http.StatusForbidden, e.code == http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrNoMailbox, e)
	}
	return e
}

func (f *feed) ask(ctx context.Context, q url.Values) (p *page, after time.Duration, err error) {
	if f.token == "" {
		if f.token, err = f.r.cfg.Token(ctx); err != nil {
			return nil, 0, fmt.Errorf("getting a token: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base+"?"+q.Encode(), nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", f.r.cfg.ClientID)
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, feedPageBytes+1))
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		var problem struct{ Type, Detail string }
		_ = json.Unmarshal(body, &problem) // a proxy's answer is no problem document
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			after = min(time.Duration(s)*time.Second, time.Minute)
		}
		return nil, after, &statusError{resp.StatusCode, problem.Type, problem.Detail}
	}
	p = &page{}
	if len(body) > feedPageBytes || json.Unmarshal(body, p) != nil || p.Next == "" || !bytes.Contains(body, []byte(`"deliveries"`)) {
		return nil, 0, errors.New("the answer is not a page of a feed; is the address that of the broker's API?")
	}
	return p, 0, nil
}

// checkFeed reports what is wrong with a configuration for HTTP.
func (c Config) checkFeed(fault func(string, ...any)) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		fault("URL: it is no address of an API; write https://HOST")
	}
	if c.Token == nil {
		fault("Token: it is needed with URL; give a function that gets a token")
	}
	if len(c.Brokers) > 0 || c.TLS != nil || c.SASL != nil {
		fault("URL and Brokers (with TLS and SASL) exclude each other: receive over HTTP, or by Kafka")
	}
}
