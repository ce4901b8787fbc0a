package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/access"
)

// fakeLog is a log of one partition in memory.
type fakeLog struct {
	mu      sync.Mutex
	topic   [16]byte
	low     int64
	boxes   []broker.MailboxID // by offset, from 0
	changed chan struct{}
	waiting chan struct{} // told of each Read that waits
}

func newFakeLog() *fakeLog {
	return &fakeLog{topic: [16]byte{7}, changed: make(chan struct{}), waiting: make(chan struct{}, 100)}
}

func (l *fakeLog) add(boxes ...broker.MailboxID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.boxes = append(l.boxes, boxes...)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *fakeLog) Topic() [16]byte                                                   { return l.topic }
func (l *fakeLog) Partition(broker.MailboxID) int32                                  { return 3 }
func (l *fakeLog) After(context.Context, broker.MailboxID, time.Time) (int64, error) { return 2, nil }

func (l *fakeLog) Bounds(context.Context, broker.MailboxID) (int64, int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.low, int64(len(l.boxes)), nil
}

func (l *fakeLog) Read(ctx context.Context, m broker.MailboxID, from int64, most, _ int, wait time.Duration) (ds []Delivery, next int64, more bool, err error) {
	for {
		l.mu.Lock()
		high, changed := int64(len(l.boxes)), l.changed
		switch {
		case from < l.low:
			l.mu.Unlock()
			return nil, from, false, &OffsetError{}
		case from > high:
			l.mu.Unlock()
			return nil, from, false, &OffsetError{Newer: true}
		}
		for ; from < high && len(ds) < most; from++ {
			if l.boxes[from] == m {
				ds = append(ds, Delivery{Offset: from, Value: fmt.Appendf(nil, "{\"n\":\n%d}", from), Headers: []Header{
					{"ce_specversion", []byte("1.0")}, {"ce_id", fmt.Appendf(nil, "%032x", from)}, {"content-type", []byte("application/json")},
					{"ce_mailbox", []byte(m)}, {"ce_provisional", []byte("true")}, {"door", []byte("inside only")},
				}})
			}
		}
		l.mu.Unlock()
		if len(ds) > 0 || wait <= 0 {
			return ds, from, from < high, nil
		}
		l.waiting <- struct{}{}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, from, false, ctx.Err()
		}
	}
}

// fakeDoor withholds by offset.
type fakeDoor struct {
	mu       sync.Mutex
	withhold map[int64]bool
	err      error
}

func (d *fakeDoor) Admit(_ context.Context, _ broker.MailboxID, ds []Delivery) ([]bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]bool, len(ds))
	for i := range ds {
		out[i] = !d.withhold[ds[i].Offset]
	}
	return out, d.err
}

type feedRig struct {
	*Server
	log   *fakeLog
	door  *fakeDoor
	boxes map[broker.MailboxID]*broker.Mailbox
	url   string
}

const feedBox = broker.MailboxID("958935420-a")

func newFeedRig(t *testing.T, edit func(*Options)) *feedRig {
	f := &feedRig{Server: testServer(t, edit), log: newFakeLog(), door: &fakeDoor{withhold: map[int64]bool{}}, boxes: map[broker.MailboxID]*broker.Mailbox{
		feedBox: {ID: feedBox, Channel: broker.Feed}, "958935420-k": {Channel: broker.KafkaChannel}, "958935420-w": {Channel: broker.Webhook},
		"958935420-s": {Channel: broker.Feed, Suspended: true},
	}}
	f.RegisterFeeds(FeedOptions{Deliveries: f.log, Door: f.door, Open: 2, Heartbeat: time.Hour,
		Mailbox: func(m broker.MailboxID) *broker.Mailbox { return f.boxes[m] }})
	server := httptest.NewServer(f.Handler())
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

type feedPage struct {
	Deliveries []struct {
		ID          string
		Mailbox     string
		Provisional bool
		Data        struct{ N int64 }
	}
	Next string
	More bool
}

func (f *feedRig) page(t *testing.T, query string) (p feedPage, body string) {
	t.Helper()
	w := ask(f.Server, "GET", "/feeds/"+string(feedBox)+query, "oslo")
	if w.Code != 200 {
		t.Fatalf("%s: %d %s", query, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err, w.Body)
	}
	return p, w.Body.String()
}

func (p feedPage) numbers() (out []int64) {
	for _, d := range p.Deliveries {
		out = append(out, d.Data.N)
	}
	return out
}

// What a delivery says of itself only where it is so, is true and no string.
func TestEventFlags(t *testing.T) {
	d := Delivery{Value: []byte("null"), Headers: []Header{{"ce_recordkind", []byte("correction")}, {"ce_notice", []byte("true")}, {"ce_denied", []byte("true")}, {"ce_backfill", []byte("true")}}}
	if got, want := string(AppendEvent(nil, &d)), `{"recordkind":"correction","notice":true,"denied":true,"backfill":true,"data":null}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestFeedPages(t *testing.T) {
	f := newFeedRig(t, nil)
	p, body := f.page(t, "")
	if body != `{"deliveries":[],"next":"`+p.Next+`","more":false}`+"\n" {
		t.Errorf("an empty feed: %s", body)
	}
	f.log.add(feedBox, "other", feedBox, "other", feedBox)
	p, body = f.page(t, "?after="+p.Next+"&limit=2")
	if fmt.Sprint(p.numbers()) != "[0 2]" || !p.More || strings.Contains(body, "inside") || !p.Deliveries[0].Provisional || p.Deliveries[0].Mailbox != string(feedBox) {
		t.Errorf("%s", body)
	}
	last, _ := f.page(t, "?after="+p.Next)
	if fmt.Sprint(last.numbers()) != "[4]" || last.More {
		t.Errorf("%+v", last)
	}
	if again, _ := f.page(t, "?after="+p.Next); again.Next != last.Next {
		t.Errorf("the same question had another answer: %+v", again)
	}
	// Another instance, or this one after a restart, reads the same cursors.
	other := newFeedRig(t, nil)
	other.log.add(feedBox, "other", feedBox, "other", feedBox, feedBox)
	if p, _ := other.page(t, "?after="+last.Next); fmt.Sprint(p.numbers()) != "[5]" {
		t.Errorf("%+v", p)
	}
	for query, want := range map[string]string{"?from=oldest": "[0 2 4]", "?from=newest": "[]", "?from=2026-11-05": "[2 4]"} {
		if p, _ := f.page(t, query); fmt.Sprint(p.numbers()) != want {
			t.Errorf("%s: %v", query, p.numbers())
		}
	}
}

func TestFeedRefusals(t *testing.T) {
	f := newFeedRig(t, nil)
	f.log.add(feedBox, feedBox)
	f.log.low = 1
	cursor := func(offset int64, edit func(*Cursor)) string {
		c := Cursor{Feed: feedOf(feedBox), Topic: f.log.topic, Partition: 3, Offset: offset}
		if edit != nil {
			edit(&c)
		}
		return "?after=" + c.String()
	}
	for _, c := range []struct {
		name, path, token string
		status            int
		says              string
	}{
		{"another's", "964338531-b", "oslo", 403, "no mailbox of that name is yours"},
		{"none, and nobody's", "nothing", "oslo", 403, "no mailbox of that name is yours"},
		{"by Kafka", "958935420-k", "oslo", 409, "mailbox.958935420-k"},
		{"by webhook", "958935420-w", "oslo", 409, "webhook"},
		{"suspended", "958935420-s", "oslo", 409, "suspended"},
		{"no cursor", string(feedBox) + "?after=12", "oslo", 400, "damaged"},
		{"another feed's cursor", string(feedBox) + cursor(1, func(c *Cursor) { c.Feed = "mailbox/b" }), "oslo", 400, "another feed"},
		{"both", string(feedBox) + cursor(1, nil) + "&from=oldest", "oslo", 400, "exclude"},
		{"limit", string(feedBox) + "?limit=15810412345", "oslo", 400, "1 to 1000"},
		{"wait", string(feedBox) + "?wait=61", "oslo", 400, "0 to 60"},
		{"from", string(feedBox) + "?from=yesterday", "oslo", 400, "oldest, newest"},
		{"older than what is kept", string(feedBox) + cursor(0, nil), "oslo", 410, CursorGone},
		{"a log that was made anew", string(feedBox) + cursor(1, func(c *Cursor) { c.Topic[0]++ }), "oslo", 410, CursorGone},
		{"other buckets", string(feedBox) + cursor(1, func(c *Cursor) { c.Partition = 2 }), "oslo", 410, CursorGone},
		{"past the end", string(feedBox) + cursor(3, nil), "oslo", 409, CursorAhead},
	} {
		w := ask(f.Server, "GET", "/feeds/"+c.path, c.token)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) || strings.Contains(w.Body.String(), "15810412345") {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		if link := w.Header().Get("Link"); (w.Code == 410) != (link == "</feeds/"+string(feedBox)+`?from=oldest>; rel="first"`) {
			t.Errorf("%s: Link %q", c.name, link)
		}
	}
	f.door.err = fmt.Errorf("control cannot be read")
	if w := ask(f.Server, "GET", "/feeds/"+string(feedBox)+cursor(1, nil), "oslo"); w.Code != 500 || strings.Contains(w.Body.String(), "control") {
		t.Errorf("a door that fails: %d %s", w.Code, w.Body)
	}
}

func (f *feedRig) get(t *testing.T, ctx context.Context, query string, headers ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", f.url+"/feeds/"+string(feedBox)+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer oslo")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func decodePage(t *testing.T, resp *http.Response) (p feedPage) {
	t.Helper()
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode, err)
	}
	return p
}

// A long poll wakes up at its own deliveries, and not at others' or withheld ones.
func TestFeedLongPoll(t *testing.T) {
	f := newFeedRig(t, nil)
	f.door.withhold[1] = true
	got := make(chan feedPage)
	go func() { got <- decodePage(t, f.get(t, t.Context(), "?wait=60")) }()
	<-f.log.waiting
	f.log.add("other")
	<-f.log.waiting
	f.log.add(feedBox) // is withheld
	<-f.log.waiting
	f.log.add(feedBox)
	if p := <-got; fmt.Sprint(p.numbers()) != "[2]" {
		t.Errorf("%+v", p)
	}
	// Suspended while it waits: nothing is handed over, nothing passed over.
	status := make(chan int)
	go func() { status <- f.get(t, t.Context(), "?wait=60&from=newest").StatusCode }()
	<-f.log.waiting
	f.boxes[feedBox].Suspended = true
	f.log.add(feedBox)
	if s := <-status; s != 409 {
		t.Errorf("suspended: %d", s)
	}
}

// A server that is about to stop answers who waits, with a cursor to go on from.
func TestFeedDrain(t *testing.T) {
	f := newFeedRig(t, nil)
	f.log.add("other")
	got := make(chan feedPage)
	go func() { got <- decodePage(t, f.get(t, t.Context(), "?wait=60")) }()
	<-f.log.waiting
	stream := f.get(t, t.Context(), "", "Accept", "text/event-stream")
	<-f.log.waiting
	// A third at once is one too many.
	if w := ask(f.Server, "GET", "/feeds/"+string(feedBox), "oslo"); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	p := <-got
	if c, err := ParseCursor(feedOf(feedBox), p.Next); err != nil || c.Offset != 1 {
		t.Errorf("%+v %v", c, err)
	}
	lines := bufio.NewScanner(stream.Body)
	last := ""
	for lines.Scan() {
		if lines.Text() != "" {
			last = lines.Text()
		}
	}
	if last != ": the server stops; come again" || lines.Err() != nil {
		t.Errorf("the stream ended with %q, %v", last, lines.Err())
	}
}

// events reads deliveries from a stream, and returns the id that a browser would
// come again with.
func events(t *testing.T, lines *bufio.Scanner, n int) (got []string, id string) {
	t.Helper()
	for len(got) < n && lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			id = v
		}
		if v, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			got = append(got, v)
		}
	}
	if len(got) < n {
		t.Fatalf("the stream ended after %v: %v", got, lines.Err())
	}
	return got, id
}

func TestFeedStream(t *testing.T) {
	f := newFeedRig(t, nil)
	f.log.add(feedBox, "other", feedBox, feedBox)
	f.door.withhold[2] = true
	ctx, leave := context.WithCancel(t.Context())
	resp := f.get(t, ctx, "", "Accept", "text/event-stream")
	if resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatal(resp.StatusCode, resp.Header)
	}
	got, id := events(t, bufio.NewScanner(resp.Body), 1)
	if !strings.HasSuffix(got[0], `"data":{"n":0}}`) {
		t.Errorf("%q", got)
	}
	leave()
	// It comes again with the id of the last event that it has seen.
	lines := bufio.NewScanner(f.get(t, t.Context(), "?from=", "Accept", "text/event-stream", "Last-Event-ID", id).Body)
	if got, _ = events(t, lines, 1); !strings.HasSuffix(got[0], `"data":{"n":3}}`) {
		t.Errorf("%q", got)
	}
	f.log.add("other", feedBox)
	if got, _ = events(t, lines, 1); !strings.HasSuffix(got[0], `"data":{"n":5}}`) {
		t.Errorf("%q", got)
	}
}

// A stream does not outlive the token that opened it.
func TestFeedStreamEndsWithItsToken(t *testing.T) {
	f := newFeedRig(t, func(o *Options) {
		o.Guard.(*fakeGuard).callers["oslo"] = access.Caller{Organisation: "958935420", Expires: time.Now().Add(300 * time.Millisecond)}
	})
	lines := bufio.NewScanner(f.get(t, t.Context(), "", "Accept", "text/event-stream").Body)
	last := ""
	for lines.Scan() {
		if lines.Text() != "" {
			last = lines.Text()
		}
	}
	if !strings.Contains(last, "the token has ended") {
		t.Errorf("the stream ended with %q, %v", last, lines.Err())
	}
}
