package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker"
	"datafordeler/broker/access"
)

// Delivery is a committed delivery as it lies in the log. Those who read a feed
// share it: nobody changes it.
type Delivery struct {
	Offset  int64
	Headers []Header // a CloudEvent in Kafka's binary mode
	Value   []byte   // JSON
}

// Header is one header of a delivery.
type Header struct {
	Key   string
	Value []byte
}

// Deliveries is the log of all mailboxes' deliveries, and how many read it at once
// is no matter. main fills it.
type Deliveries interface {
	// Topic is the log's id: offsets mean something in this one only.
	Topic() [16]byte
	// Partition is where a mailbox's deliveries lie.
	Partition(m broker.MailboxID) int32
	// Read returns committed deliveries of one mailbox from an offset on, as soon as
	// there are some, at most so many and about so many bytes; and the offset to read
	// on from, which may have moved where there are none. more is that a bound ended
	// it, and not the log. It waits so long. Its error is ctx's, if that ends first; a
	// *OffsetError where the log does not hold the offset; or another.
	Read(ctx context.Context, m broker.MailboxID, from int64, most, bytes int, wait time.Duration) (ds []Delivery, next int64, more bool, err error)
	// Bounds are the oldest offset kept, and the one after the newest committed.
	Bounds(ctx context.Context, m broker.MailboxID) (oldest, next int64, err error)
	// After is the offset of the first delivery at or after a time.
	After(ctx context.Context, m broker.MailboxID, at time.Time) (int64, error)
}

// OffsetError says that the log does not hold an offset: it is older than what is
// kept, or newer than what there is.
type OffsetError struct{ Newer bool }

func (e *OffsetError) Error() string {
	if e.Newer {
		return "the log does not reach so far"
	}
	return "the log does not go back so far"
}

// Doorkeeper asks once more whether deliveries may be handed over.
type Doorkeeper interface {
	// Admit says which deliveries may be handed over to the mailbox at this moment.
	// What may not has been written down when it returns. An error is that nothing
	// may be handed over.
	Admit(ctx context.Context, m broker.MailboxID, ds []Delivery) (permits []bool, err error)
}

// FeedOptions are what feeds need.
type FeedOptions struct {
	Deliveries Deliveries
	Door       Doorkeeper
	// Mailbox finds a mailbox as it is declared now; nil if there is none.
	Mailbox func(broker.MailboxID) *broker.Mailbox
	// Frozen says why a mailbox is frozen; "" where it is not. nil: none is.
	Frozen func(broker.MailboxID) string
	// Open is how many requests may wait or be answered at once for one mailbox; 0 is 16.
	Open int
	// Heartbeat is how often a silent stream says that it lives; 0 is 15 s.
	Heartbeat time.Duration
}

// Feeds hands over what is in mailboxes, over HTTP.
type Feeds struct {
	FeedOptions
	server *Server

	handed   *prometheus.CounterVec // by way
	open     *prometheus.GaugeVec   // by way
	withheld prometheus.Counter

	mu  sync.Mutex
	now map[broker.MailboxID]int // requests open; guarded by mu
}

const (
	feedBytes     = 1 << 20          // of one answer, about
	feedWaitMost  = 60               // seconds
	feedLimitMost = 1000             // deliveries in one answer
	feedWrite     = 30 * time.Second // for a reader to take what it was sent
)

// Problem types of feeds, for programs.
const (
	CursorGone  = "urn:datafordeler:problem:cursor-gone"
	CursorAhead = "urn:datafordeler:problem:cursor-ahead"
)

// RegisterFeeds adds the feeds of mailboxes.
func (s *Server) RegisterFeeds(o FeedOptions) *Feeds {
	if o.Open == 0 {
		o.Open = 16
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 15 * time.Second
	}
	f := &Feeds{FeedOptions: o, server: s, now: map[broker.MailboxID]int{},
		handed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "datafordeler_feed_deliveries_total", Help: "Deliveries handed over by feeds, by way: page or stream.",
		}, []string{"way"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "datafordeler_feed_open", Help: "Requests of feeds that are waiting or being answered, by way.",
		}, []string{"way"}),
		withheld: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "datafordeler_feed_withheld_total", Help: "Deliveries that a feed did not hand over, because what they rested on had ended; the log names each.",
		}),
	}
	one, most := 1.0, float64(feedLimitMost)
	zero, wait := 0.0, float64(feedWaitMost)
	text := &huma.Schema{Type: "string"}
	s.Handle(huma.Operation{
		OperationID: "feed", Method: http.MethodGet, Path: "/feeds/{mailbox}", Tags: []string{"receive"},
		Summary: "The deliveries of a mailbox, in order",
		Description: "Each delivery is a CloudEvent. Keep `next` once its deliveries are handled, and give it back as `after`. " +
			"The same delivery may come again, with the same id. With `Accept: text/event-stream` it is a stream of Server-Sent Events, whose ids are cursors.",
		Parameters: []*huma.Param{
			{Name: "mailbox", In: "path", Required: true, Schema: text},
			{Name: "after", In: "query", Schema: text, Description: "go on from this cursor, that `next` said"},
			{Name: "from", In: "query", Schema: text, Description: "without a cursor: `oldest` (the default), `newest`, or from what was delivered at or after a time, such as 2026-11-05 or 2026-11-05T12:00:00Z"},
			{Name: "limit", In: "query", Schema: &huma.Schema{Type: "integer", Minimum: &one, Maximum: &most, Default: 100}, Description: "how many deliveries at the most"},
			{Name: "wait", In: "query", Schema: &huma.Schema{Type: "integer", Minimum: &zero, Maximum: &wait, Default: 0}, Description: "how many seconds to wait where there is nothing yet"},
			{Name: "Last-Event-ID", In: "header", Schema: text, Description: "as `after`, for streams that go on"},
		},
		Responses: map[string]*huma.Response{
			"200": {Description: "what there is; nothing is an empty list", Content: map[string]*huma.MediaType{
				"application/json": {Schema: &huma.Schema{Type: "object", Required: []string{"deliveries", "next", "more"}, Properties: map[string]*huma.Schema{
					"deliveries": {Type: "array", Items: &huma.Schema{Type: "object", Description: "a CloudEvent 1.0 in JSON"}},
					"next":       {Type: "string", Description: "the cursor to go on from"},
					"more":       {Type: "boolean", Description: "there is more to get at once"},
				}}},
				"text/event-stream": {},
			}},
			"409": {Description: "the mailbox is suspended or frozen, or receives in another way; or the cursor is past what this broker has (type " + CursorAhead + ")"},
			"410": {Description: "the cursor is older than what is kept (type " + CursorGone + "); the header Link says where to begin anew"},
		},
	}, Rule{Action: access.Receive}, f.serve)
	return f
}

// Collectors are for main to register.
func (f *Feeds) Collectors() []prometheus.Collector {
	return []prometheus.Collector{f.handed, f.open, f.withheld}
}

func (f *Feeds) serve(w http.ResponseWriter, r *http.Request) error {
	m := broker.MailboxID(r.PathValue("mailbox"))
	if err := f.usable(m); err != nil {
		return err
	}
	q := r.URL.Query()
	limit, err := queryNumber(q.Get("limit"), "limit", 1, feedLimitMost, 100)
	if err != nil {
		return err
	}
	wait, err := queryNumber(q.Get("wait"), "wait", 0, feedWaitMost, 0)
	if err != nil {
		return err
	}
	way := "page"
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		way = "stream"
	}
	leave, err := f.enter(w, m, way)
	if err != nil {
		return err
	}
	defer leave()
	// Whoever waits is answered before the server stops.
	ctx, stop := context.WithCancelCause(r.Context())
	defer stop(nil)
	go func() {
		select {
		case <-f.server.Draining():
			stop(errDraining)
		case <-ctx.Done():
		}
	}()
	after := q.Get("after")
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		after = last
	}
	at, err := f.begin(ctx, m, after, q.Get("from"))
	if err != nil {
		return f.problem(w, r, err)
	}
	if way == "stream" {
		return f.stream(ctx, w, r, m, at, limit)
	}
	return f.page(ctx, w, r, m, at, limit, time.Duration(wait)*time.Second)
}

var errDraining = errors.New("the server stops")

// usable says why nothing can be read from a mailbox.
func (f *Feeds) usable(m broker.MailboxID) error {
	box := f.Mailbox(m)
	switch {
	case box == nil: // the guard lets nobody get here, or an operator
		return NewProblem(http.StatusNotFound, "there is no mailbox of that name")
	case box.Suspended:
		return NewProblem(http.StatusConflict, "the mailbox is suspended, so nothing is handed over; what is in it stays until its retention ends. Ask the broker's operator")
	case f.Frozen != nil && f.Frozen(m) != "":
		return NewProblem(http.StatusConflict, "the mailbox is frozen, so nothing is handed over; what is in it stays until its retention ends. The reason given: "+f.Frozen(m))
	case box.Channel == broker.KafkaChannel:
		return NewProblem(http.StatusConflict, "the mailbox receives by Kafka: read its topic, mailbox."+string(m)+", or have it declared with the channel feed")
	case box.Channel == broker.Webhook:
		return NewProblem(http.StatusConflict, "the mailbox receives by webhook; have it declared with the channel feed to read it here")
	}
	return nil
}

// enter bounds what slow readers of one mailbox can hold.
func (f *Feeds) enter(w http.ResponseWriter, m broker.MailboxID, way string) (leave func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now[m] >= f.Open {
		w.Header().Set("Retry-After", "1")
		return nil, NewProblem(http.StatusTooManyRequests, fmt.Sprintf("%d requests for this mailbox are open already; read it with fewer at once", f.Open))
	}
	f.now[m]++
	f.open.WithLabelValues(way).Inc()
	return func() {
		f.open.WithLabelValues(way).Dec()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.now[m]--; f.now[m] == 0 {
			delete(f.now, m)
		}
	}, nil
}

func feedOf(m broker.MailboxID) string { return "mailbox/" + string(m) }

func (f *Feeds) cursor(m broker.MailboxID, offset int64) string {
	return Cursor{Feed: feedOf(m), Topic: f.Deliveries.Topic(), Partition: f.Deliveries.Partition(m), Offset: offset}.String()
}

// begin is the offset that a request begins with. It has been looked at: the log
// holds it, or ends with it.
func (f *Feeds) begin(ctx context.Context, m broker.MailboxID, after, from string) (int64, error) {
	if after != "" && from != "" {
		return 0, NewProblem(http.StatusBadRequest, "after and from exclude each other: go on from a cursor, or begin anew")
	}
	if after != "" {
		c, err := ParseCursor(feedOf(m), after)
		if err != nil {
			return 0, NewProblem(http.StatusBadRequest, err.Error())
		}
		if c.Topic != f.Deliveries.Topic() || c.Partition != f.Deliveries.Partition(m) {
			return 0, &OffsetError{}
		}
		return c.Offset, nil
	}
	switch from {
	case "", "oldest":
		oldest, _, err := f.Deliveries.Bounds(ctx, m)
		return oldest, err
	case "newest":
		_, next, err := f.Deliveries.Bounds(ctx, m)
		return next, err
	}
	t, err := broker.ParseTime(from)
	if err != nil {
		return 0, NewProblem(http.StatusBadRequest, "from: write oldest, newest, or a time such as 2026-11-05 or 2026-11-05T12:00:00Z")
	}
	return f.Deliveries.After(ctx, m, t)
}

// problem is what an error is answered with, where the answer has not begun.
func (f *Feeds) problem(w http.ResponseWriter, r *http.Request, err error) error {
	var at *OffsetError
	switch {
	case errors.As(err, &at) && at.Newer:
		p := NewProblem(http.StatusConflict, "the cursor is past what this broker has. Its log was set back, or the cursor is of another broker: begin anew with ?from=, and expect deliveries that you have had")
		p.Type, p.Title = CursorAhead, "Cursor ahead of the log"
		return p
	case errors.As(err, &at):
		p := NewProblem(http.StatusGone, "the cursor is older than what is kept. Begin anew: ?from=oldest, or ?from= with a date; and order from the provider what you missed")
		p.Type, p.Title = CursorGone, "Cursor no longer kept"
		w.Header().Set("Link", "<"+r.URL.EscapedPath()+`?from=oldest>; rel="first"`)
		return p
	case errors.Is(err, context.DeadlineExceeded) && r.Context().Err() != nil:
		return context.Cause(r.Context()) // the token has ended
	}
	return err
}

// admitted reads deliveries and drops those that may not be handed over any more.
func (f *Feeds) admitted(ctx context.Context, m broker.MailboxID, from int64, most int, wait time.Duration) (ds []Delivery, next int64, more bool, err error) {
	ds, next, more, err = f.Deliveries.Read(ctx, m, from, most, feedBytes, wait)
	if err != nil || len(ds) == 0 {
		return nil, next, more, err
	}
	// It may have been suspended while the request waited.
	if err := f.usable(m); err != nil {
		return nil, from, false, err
	}
	permits, err := f.Door.Admit(ctx, m, ds)
	if err == nil && len(permits) != len(ds) {
		err = errors.New("the door did not answer for each delivery")
	}
	if err != nil {
		return nil, from, false, err
	}
	kept := make([]Delivery, 0, len(ds))
	for i := range ds {
		if permits[i] {
			kept = append(kept, ds[i])
		}
	}
	f.withheld.Add(float64(len(ds) - len(kept)))
	return kept, next, more, nil
}

// page answers with one list.
func (f *Feeds) page(ctx context.Context, w http.ResponseWriter, r *http.Request, m broker.MailboxID, at int64, limit int, wait time.Duration) error {
	until := time.Now().Add(wait)
	var ds []Delivery
	more := false
	for {
		found, next, rest, err := f.admitted(ctx, m, at, limit, max(0, time.Until(until)))
		if err != nil && context.Cause(ctx) != errDraining {
			return f.problem(w, r, err)
		}
		ds, more = found, rest
		at = max(at, next)
		// What was withheld is passed over, and the wait goes on.
		if len(ds) > 0 || more || err != nil || time.Until(until) <= 0 {
			break
		}
	}
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(feedWrite))
	defer control.SetWriteDeadline(time.Time{}) // the connection's next answer has its own
	w.Header().Set("Content-Type", "application/json")
	// One that is short goes out in one piece, with its length.
	const short = 16 << 10
	out := bufio.NewWriterSize(w, short)
	_, _ = out.WriteString(`{"deliveries":[`)
	var line []byte
	for i := range ds {
		if i > 0 {
			_ = out.WriteByte(',')
		}
		line = appendEvent(line[:0], &ds[i])
		_, _ = out.Write(line)
	}
	line = fmt.Appendf(line[:0], `],"next":%q,"more":%t}`+"\n", f.cursor(m, at), more)
	if a, ok := w.(interface{ begun() bool }); ok && !a.begun() && len(line) <= out.Available() {
		w.Header().Set("Content-Length", strconv.Itoa(out.Buffered()+len(line)))
	}
	_, _ = out.Write(line)
	if out.Flush() == nil && control.Flush() == nil { // or it went away: it comes again with its old cursor
		f.handed.WithLabelValues("page").Add(float64(len(ds)))
	}
	return nil
}

// stream sends Server-Sent Events (HTML, 9.2) until the caller leaves, its token
// ends or the server stops. Each event's id is the cursor after it.
func (f *Feeds) stream(ctx context.Context, w http.ResponseWriter, r *http.Request, m broker.MailboxID, at int64, limit int) error {
	control := http.NewResponseController(w)
	var line []byte
	begun := false
	send := func(b []byte) bool {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("X-Accel-Buffering", "no") // proxies that would hold it back
			b = append([]byte("retry: 1000\n\n"), b...)
		}
		_ = control.SetWriteDeadline(time.Now().Add(feedWrite))
		_, err := w.Write(b)
		return err == nil && control.Flush() == nil
	}
	for wait := time.Duration(0); ; wait = f.Heartbeat {
		ds, next, _, err := f.admitted(ctx, m, at, limit, wait)
		switch {
		case err != nil && !begun && context.Cause(ctx) != errDraining:
			return f.problem(w, r, err)
		case err != nil:
			// Whoever reads comes again with its last id, and learns why.
			why := "something failed here; come again"
			switch {
			case context.Cause(ctx) == errDraining:
				why = "the server stops; come again"
			case r.Context().Err() != nil:
				why = "the token has ended; get a new one and come again"
			default:
				_ = f.server.failed(ctx, huma.Operation{OperationID: "feed"}, err)
			}
			send([]byte(": " + why + "\n\n"))
			return nil
		}
		line = line[:0]
		for i := range ds {
			line = append(line, "id: "...)
			line = append(line, f.cursor(m, ds[i].Offset+1)...)
			line = append(line, "\nevent: delivery\ndata: "...)
			line = appendEvent(line, &ds[i])
			line = append(line, "\n\n"...)
		}
		if len(ds) == 0 || next > ds[len(ds)-1].Offset+1 {
			// An event without data moves the reader's position and tells it nothing.
			line = append(line, "id: "...)
			line = append(line, f.cursor(m, next)...)
			line = append(line, "\n: alive\n\n"...)
		}
		if !send(line) {
			return nil
		}
		at = next
		f.handed.WithLabelValues("stream").Add(float64(len(ds)))
	}
}

func queryNumber(text, name string, least, most, otherwise int) (int, error) {
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, NewProblem(http.StatusBadRequest, fmt.Sprintf("%s: write a whole number from %d to %d", name, least, most))
	}
	return n, nil
}
