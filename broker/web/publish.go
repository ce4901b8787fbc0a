package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/intake"
	"datafordeler/broker/jsondoc"
)

// The forms in which events are taken.
const (
	mediaEvent  = "application/cloudevents+json"
	mediaBatch  = "application/cloudevents-batch+json"
	mediaNDJSON = "application/x-ndjson"
)

// Publishing is what the door for providers asks of the broker.
type Publishing struct {
	// Limits are those that intake holds records to.
	Limits intake.Limits
	Hasher intake.Hasher
	// Target is a dataset as it is declared now. Nil means that there is none.
	Target func(broker.DatasetID) (*Target, error)
	// Write hands one event over. It may wait while too many are under way. done is
	// called once: with nil when the event is durable. When ctx ends and done was
	// not called, the event may still be written.
	Write func(ctx context.Context, e SourceEvent, done func(partition int32, offset int64, err error))
	// Full says why nothing more can be kept just now; nil when it can.
	Full func() error
}

// Target is a dataset that is published to.
type Target struct {
	Dataset *intake.Dataset
	// Subject is where the payload says what it is about; empty for nowhere.
	Subject broker.Pointer
	// Elsewhere: the records stay with their provider, and nothing is published.
	Elsewhere bool
}

// SourceEvent is an event for the source topic of a dataset.
type SourceEvent struct {
	Dataset broker.DatasetID
	// Key goes with it; nil where it is about nothing. Place decides on the partition.
	Key, Place []byte
	Headers    []intake.Header
	Value      []byte
}

// Status is what became of one event.
type Status string

// What may become of an event.
const (
	Accepted Status = "accepted" // durable
	Rejected Status = "rejected" // never taken; sending it again changes nothing
	Failed   Status = "failed"   // not known to be durable: send it again, under the same id
)

// Result is what became of one event. It repeats nothing of the event.
type Result struct {
	Index    int                  `json:"index" doc:"the event's place in the request, from 0; in a stream that of its line"`
	Status   Status               `json:"status" enum:"accepted,rejected,failed"`
	Position *EventPosition       `json:"position,omitempty" doc:"where an accepted event stands"`
	Reason   broker.RejectionCode `json:"reason,omitempty" doc:"why it was rejected, for programs"`
	Pointer  string               `json:"pointer,omitempty" doc:"where in the payload, as a JSON Pointer, where that is known"`
	Detail   string               `json:"detail,omitempty" doc:"why, for people; it holds no value of the event"`
}

// EventPosition is where an event stands in its dataset's source topic.
type EventPosition struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
}

// Results answer a batch. The last line of a stream is Results without the list.
type Results struct {
	Accepted int      `json:"accepted"`
	Rejected int      `json:"rejected"`
	Failed   int      `json:"failed"`
	Results  []Result `json:"results,omitempty"`
	// Stopped ends a stream early: the events from Next on were not looked at.
	Stopped string `json:"stopped,omitempty" doc:"why a stream ended early"`
	Next    *int   `json:"next,omitempty" doc:"the place of the first line that was not looked at"`
}

func (r *Results) count(res []Result) {
	for i := range res {
		switch res[i].Status {
		case Accepted:
			r.Accepted++
		case Rejected:
			r.Rejected++
		case Failed:
			r.Failed++
		}
	}
}

// RejectedProblem answers a single event that was rejected.
type RejectedProblem struct {
	Problem
	Reason  broker.RejectionCode `json:"reason"`
	Pointer string               `json:"pointer,omitempty"`
}

// Bounds on a request. A stream has no end, and holds no more than a chunk.
const (
	batchBytes    = 16 << 20
	batchEvents   = 10_000
	chunkBytes    = 1 << 20
	chunkEvents   = 500
	publishBudget = 192 << 20 // bytes of events that all requests together hold
)

// publisher serves POST /datasets/{dataset}/events.
type publisher struct {
	Publishing
	server *Server
	budget *semaphore.Weighted
	events *prometheus.CounterVec // dataset, status, reason

	// How long a client may take, so that a slow one holds nothing for ever.
	wait  time.Duration // for the next bytes
	body  time.Duration // for a body, or a stream's line
	write time.Duration // until Kafka has it; for the client to take an answer
	room  time.Duration // in the queue for room in memory
}

// Publishing adds the door for providers. The collectors are for main to register.
func (s *Server) Publishing(p Publishing) []prometheus.Collector {
	return s.publishing(p).collectors()
}

func (s *Server) publishing(p Publishing) *publisher {
	d := &publisher{
		Publishing: p, server: s, budget: semaphore.NewWeighted(publishBudget),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "datafordeler_http_published_events_total",
			Help: "Events that providers sent to the HTTP API, by dataset, what became of them, and the reason of those rejected.",
		}, []string{"dataset", "status", "reason"}),
		wait: time.Minute, body: 30 * time.Second, write: 30 * time.Second, room: 5 * time.Second,
	}
	s.Handle(publishOperation(s.api.OpenAPI().Components.Schemas), Rule{Action: access.PublishRecords}, d.serve)
	return d
}

func (d *publisher) collectors() []prometheus.Collector { return []prometheus.Collector{d.events} }

func publishOperation(schemas huma.Registry) huma.Operation {
	of := func(v any) *huma.Schema { return huma.SchemaFromType(schemas, reflect.TypeOf(v)) }
	event := &huma.Schema{Type: "object", Description: "a CloudEvent 1.0 in its JSON format; id, source, type and specversion are required", AdditionalProperties: true}
	content := func(media string, s *huma.Schema) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{media: {Schema: s}}
	}
	retry := map[string]*huma.Param{"Retry-After": {Description: "seconds to wait", Schema: &huma.Schema{Type: "integer"}}}
	return huma.Operation{
		OperationID: "publish", Method: http.MethodPost, Path: "/datasets/{dataset}/events", Tags: []string{"provider"},
		Summary: "Publish events to a dataset of your own",
		Description: "Accepted means durable: all in-sync replicas have the event. Rejected means that nothing was kept of it, and the answer says why. " +
			"Failed means that it is not known to be durable. Send failed events again with the same id, in the same order: repeats are dropped. " +
			"An event that was sent before is accepted here, and dropped as a repeat later. Events of one subject keep the order of the request.",
		Parameters: []*huma.Param{{Name: "dataset", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}}},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			mediaEvent:         {Schema: event},
			mediaBatch:         {Schema: &huma.Schema{Type: "array", Items: event, Description: "at most 10,000 events and 16 MiB"}},
			mediaNDJSON:        {Schema: &huma.Schema{Type: "string", Description: "a CloudEvent in JSON on each line, without end; each is answered on a line of its own while the stream goes on"}},
			"application/json": {Schema: &huma.Schema{Type: "object", Description: "the payload, with the attributes in headers ce-id, ce-source, ce-type, ce-specversion and so on", AdditionalProperties: true}},
		}},
		Responses: map[string]*huma.Response{
			"200": {Description: "what became of each event", Content: map[string]*huma.MediaType{
				"application/json": {Schema: &huma.Schema{OneOf: []*huma.Schema{of(Result{}), of(Results{})}}},
				mediaNDJSON:        {Schema: of(Result{})},
			}},
			"400": {Description: "the batch is no JSON array of events", Content: content("application/problem+json", of(Problem{}))},
			"404": {Description: "the dataset is not registered", Content: content("application/problem+json", of(Problem{}))},
			"413": {Description: "the body is too large", Content: content("application/problem+json", of(Problem{}))},
			"415": {Description: "none of the four forms", Content: content("application/problem+json", of(Problem{}))},
			"422": {Description: "the single event was rejected", Content: content("application/problem+json", of(RejectedProblem{}))},
			"503": {Description: "events could not be written; send them again, with the same ids", Headers: retry, Content: map[string]*huma.MediaType{
				"application/problem+json": {Schema: of(Problem{})}, "application/json": {Schema: of(Results{})}}},
		},
	}
}

func (d *publisher) serve(w http.ResponseWriter, r *http.Request) error {
	id := broker.DatasetID(r.PathValue("dataset"))
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return NewProblem(http.StatusUnsupportedMediaType, "Content-Encoding: bodies are taken as they are, not compressed")
	}
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	form := strings.ToLower(strings.TrimSpace(media))
	most := int64(batchBytes)
	switch {
	case form == mediaEvent || form != mediaBatch && form != mediaNDJSON && hasAttributes(r.Header):
		most = int64(d.largestLine())
	case form == mediaBatch:
	case form == mediaNDJSON:
		most = 2*chunkBytes + int64(d.largestLine())
	default:
		return NewProblem(http.StatusUnsupportedMediaType, "Content-Type: send "+mediaEvent+", "+mediaBatch+", "+mediaNDJSON+", or JSON with ce- headers (CloudEvents, binary mode)")
	}
	if form != mediaNDJSON && r.ContentLength > most {
		return tooLarge(most)
	}
	job, err := d.begin(id)
	if err != nil {
		return err
	}
	// What one request may hold is taken before its body is read.
	hold := most
	if form != mediaNDJSON && r.ContentLength >= 0 {
		hold = r.ContentLength
	}
	release, err := d.hold(w, r, hold)
	if err != nil {
		return err
	}
	defer release()
	body := newPacedBody(w, r, d.wait, d.body)
	defer body.end()
	if form == mediaNDJSON {
		return d.stream(job, body, w, r)
	}
	text, err := body.all(most)
	if err != nil {
		return err
	}
	if form == mediaBatch {
		return d.batch(job, text, w, r)
	}
	res := []Result{{}}
	items := []item{job.structured(0, text)}
	if form != mediaEvent {
		items[0] = job.binary(0, r.Header, text)
	}
	d.put(r.Context(), job, items, res)
	return d.answerOne(w, r, res[0])
}

func hasAttributes(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, "Ce-") {
			return true
		}
	}
	return false
}

func tooLarge(most int64) *Problem {
	return NewProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes; send fewer events at once, or a stream (%s)", most, mediaNDJSON))
}

// largestLine is the room for one event in JSON: its payload may stand in base64,
// and its attributes may be escaped.
func (d *publisher) largestLine() int { return d.Limits.MaxBytes/3*4 + 64<<10 }

// begin finds the dataset.
func (d *publisher) begin(id broker.DatasetID) (*publishJob, error) {
	target, err := d.Target(id)
	if err != nil {
		return nil, err
	}
	if target == nil {
		return nil, NewProblem(http.StatusNotFound, "the dataset is not registered; its owner does that, with datafordeler registry apply")
	}
	if target.Elsewhere {
		return nil, NewProblem(http.StatusConflict, "the dataset stays with its provider: it is declared with an endpoint, where lookups go, and nothing of it is kept here; to publish instead, its owner declares it without the endpoint, with datafordeler registry apply")
	}
	tokens, err := target.Subject.Tokens()
	if err != nil {
		return nil, err
	}
	return &publishJob{d: d, id: id, target: target, subject: tokens}, nil
}

// hold takes room in memory, or says when to come again.
func (d *publisher) hold(w http.ResponseWriter, r *http.Request, n int64) (func(), error) {
	if d.Full != nil {
		if err := d.Full(); err != nil {
			d.server.log.Error("events are not taken", "err", err)
			return nil, again(w, 30, "the broker has no room on its disk for more; try again later")
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), d.room)
	defer cancel()
	if d.budget.Acquire(ctx, n) != nil {
		return nil, again(w, 1, "too much is being published at once; send it again after the seconds that Retry-After names")
	}
	return func() { d.budget.Release(n) }, nil
}

func again(w http.ResponseWriter, seconds int, why string) *Problem {
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	return NewProblem(http.StatusServiceUnavailable, why)
}

// batch answers a JSON array of events.
func (d *publisher) batch(job *publishJob, text []byte, w http.ResponseWriter, r *http.Request) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	notBatch := NewProblem(http.StatusBadRequest, "the body is not a JSON array of CloudEvents; nothing of it was published")
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return notBatch
	}
	// All of it is read before anything is written: a batch that breaks off is none.
	var items []item
	for dec.More() {
		if len(items) == batchEvents {
			return NewProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("the batch has more than %d events; nothing of it was published", batchEvents))
		}
		var one json.RawMessage
		if dec.Decode(&one) != nil {
			return notBatch
		}
		items = append(items, item{index: len(items), text: one})
	}
	if _, err := dec.Token(); err != nil {
		return notBatch
	}
	if _, err := dec.Token(); err != io.EOF {
		return notBatch
	}
	for i := range items {
		items[i] = job.structured(i, items[i].text)
	}
	out := Results{Results: make([]Result, len(items))}
	d.put(r.Context(), job, items, out.Results)
	out.count(out.Results)
	status := http.StatusOK
	if out.Failed > 0 {
		w.Header().Set("Retry-After", "1")
		status = http.StatusServiceUnavailable
	}
	return d.answer(w, status, "application/json", &out)
}

// answerOne answers a request of one event.
func (d *publisher) answerOne(w http.ResponseWriter, r *http.Request, res Result) error {
	switch res.Status {
	case Accepted:
		return d.answer(w, http.StatusOK, "application/json", &res)
	case Rejected:
		p := RejectedProblem{*NewProblem(http.StatusUnprocessableEntity, res.Detail), res.Reason, res.Pointer}
		p.Instance = requestID(r.Context())
		return d.answer(w, p.Status, "application/problem+json", &p)
	case Failed:
		return again(w, 1, res.Detail)
	}
	return errors.New("an event without an answer")
}

func (d *publisher) answer(w http.ResponseWriter, status int, media string, v any) error {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d.write))
	w.Header().Set("Content-Type", media)
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(v)
}

// publishJob is one request. It belongs to one goroutine.
type publishJob struct {
	d       *publisher
	id      broker.DatasetID
	target  *Target
	subject jsondoc.Path

	envelope, payload jsondoc.Doc
	record            broker.Record
}

// item is one event of a request, judged.
type item struct {
	index    int
	text     []byte
	rejected *broker.Rejection
	event    SourceEvent
	order    string // events with the same one keep their order
}

// structured judges an event in JSON.
func (j *publishJob) structured(index int, text []byte) item {
	in, malformed, no := readStructured(&j.envelope, text, j.d.Limits.MaxDepth)
	if malformed {
		msg := intake.Message{Value: text, Headers: []intake.Header{{Key: "content-type", Value: []byte(mediaEvent)}}}
		if why := j.target.Dataset.Accept(&msg, j.d.Hasher, &j.record, &j.payload); why != nil {
			no = why
		} else if no == nil {
			no = rejection(broker.RejectNotCloudEvent, "the event is no CloudEvent in its JSON format")
		}
	}
	if no != nil {
		return item{index: index, rejected: no}
	}
	return j.judge(index, &in)
}

// binary judges an event whose attributes stand in headers.
func (j *publishJob) binary(index int, h http.Header, body []byte) item {
	in, no := readBinary(h, body)
	if no != nil {
		return item{index: index, rejected: no}
	}
	return j.judge(index, &in)
}

// judge asks intake what it would say of the message as it would be written: of
// repeats it cannot say anything here.
func (j *publishJob) judge(index int, in *incoming) item {
	out, no := in.message()
	if no != nil {
		return item{index: index, rejected: no}
	}
	msg := intake.Message{Headers: out.headers, Value: out.value}
	if no := j.target.Dataset.Accept(&msg, j.d.Hasher, &j.record, &j.payload); no != nil {
		return item{index: index, rejected: no}
	}
	about := out.key
	if about == "" {
		about = subjectOf(&j.payload, j.subject)
	}
	e := SourceEvent{Dataset: j.id, Place: []byte(out.id), Headers: out.headers, Value: out.value}
	order := "id " + out.id
	if about != "" {
		e.Key = sourceKey(j.id, about)
		e.Place, order = e.Key, string(e.Key)
	}
	return item{index: index, event: e, order: order}
}
