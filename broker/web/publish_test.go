package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/broker/keys"
	"datafordeler/providers"
)

const incomeSchema = `{"type":"object","required":["norskident","beloep"],"additionalProperties":false,
	"properties":{"norskident":{"type":["string","array"]},"beloep":{"type":"number"},"tekst":{"type":"string"}}}`

func incomeTarget(t testing.TB) *Target {
	t.Helper()
	ds := &broker.Dataset{ID: "inntekt", Current: "1", Schemas: []broker.Schema{{Version: "1", Document: json.RawMessage(incomeSchema)}},
		Subject:    broker.SubjectRule{Kind: broker.Person, Pointer: "/norskident"},
		Attributes: []broker.Attribute{{Name: "kommune", Extension: "kommune", Optional: true}}}
	compiled, err := intake.Compile(ds, intake.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	return &Target{Dataset: compiled, Subject: ds.Subject.Pointer}
}

// log stands for Kafka: it keeps what it is told to, in order.
type fakeSource struct {
	mu     sync.Mutex
	events []SourceEvent
	fail   func(SourceEvent) error // of what it does not keep
	mute   bool                    // it keeps, and never answers
}

func (l *fakeSource) write(_ context.Context, e SourceEvent, done func(int32, int64, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		if err := l.fail(e); err != nil {
			go done(0, 0, err)
			return
		}
	}
	l.events = append(l.events, e)
	if !l.mute {
		go done(1, int64(len(l.events)-1), nil)
	}
}

func (l *fakeSource) ids() (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		for _, h := range e.Headers {
			if h.Key == "ce_id" {
				ids = append(ids, string(h.Value))
			}
		}
	}
	return ids
}

func publishing(t testing.TB, write func(context.Context, SourceEvent, func(int32, int64, error))) (*Server, *publisher) {
	t.Helper()
	target := incomeTarget(t)
	o := Options{Config: Defaults(), Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Guard: &fakeGuard{
		callers: map[string]access.Caller{"tax": {Organisation: "974761076", Client: "payroll"}, "other": {Organisation: "958935420"}},
		allow: func(c access.Caller, a access.Action, r access.Resource) error {
			if a == access.PublishRecords && c.Organisation != "974761076" {
				return &access.Refusal{Action: a, Why: "no dataset of that name is yours"}
			}
			return nil
		},
	}}
	o.Config.RatePerSecond = 0
	s := New(o)
	d := s.publishing(Publishing{
		Limits: intake.Defaults(), Hasher: keys.NewTest(1), Write: write,
		Target: func(id broker.DatasetID) (*Target, error) {
			if id != "inntekt" {
				return nil, nil
			}
			return target, nil
		},
	})
	return s, d
}

func post(s *Server, path, token, media, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	r.Header.Set("Content-Type", media)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

const person = "15910095789" // month + 80: nobody's

func event(id string, more string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"urn:test:payroll","type":"no.test.inntekt.v1","data":{"norskident":%q,"beloep":1}%s}`, id, person, more)
}

func TestPublishSingle(t *testing.T) {
	deep := strings.Repeat("[", 2000) + strings.Repeat("]", 2000)
	for _, c := range []struct {
		name, path, token, media, body string
		headers                        []string
		status                         int
		says                           string
		written                        int
	}{
		{name: "structured", body: event("a", ""), status: 200, says: `"status":"accepted","position":{"partition":1,"offset":0}`, written: 1},
		{name: "structured with a charset", media: mediaEvent + "; charset=utf-8", body: event("a", ""), status: 200, written: 1},
		{name: "binary", media: "application/json", body: `{"norskident":"15910095789","beloep":2}`, headers: []string{"ce-specversion", "1.0", "ce-id", "b%20c", "ce-source", "urn:test", "ce-type", "t"}, status: 200, written: 1},
		{name: "binary without a type", media: "application/json", body: `{"norskident":"15910095789","beloep":2}`, headers: []string{"ce-specversion", "1.0", "ce-id", "b", "ce-source", "urn:test"}, status: 422, says: "attribute type is missing"},
		{name: "binary, a header twice", media: "application/json", body: `{"norskident":"15910095789","beloep":2}`, headers: []string{"ce-specversion", "1.0", "ce-id", "b", "ce-id", "c", "ce-source", "urn:test", "ce-type", "t"}, status: 422, says: "stands there twice"},
		{name: "binary, broken encoding", media: "application/json", body: `{}`, headers: []string{"ce-id", "%zz"}, status: 422, says: "percent-encoded"},
		{name: "binary, no JSON", media: "text/plain", body: `x`, headers: []string{"ce-specversion", "1.0", "ce-id", "b", "ce-source", "urn:test", "ce-type", "t"}, status: 422, says: `"reason":"content_type"`},
		{name: "schema", body: strings.Replace(event("a", ""), `"beloep":1`, `"beloep":"x"`, 1), status: 422, says: `"reason":"schema_violation","pointer":"/beloep"`},
		{name: "no subject", body: strings.Replace(event("a", ""), `"15910095789"`, `"nobody"`, 1), status: 422, says: `"reason":"no_subject","pointer":"/norskident"`},
		{name: "several subjects", body: strings.Replace(event("a", ""), `"15910095789"`, `["15910095789","15910095788"]`, 1), status: 422, says: `"reason":"several_subjects"`},
		{name: "malformed", body: `{"specversion":`, status: 422, says: `"reason":"malformed_json"`},
		{name: "no object", body: `[]`, status: 422, says: `"reason":"not_cloudevent"`},
		{name: "a name twice", body: `{"id":"a","id":"b"}`, status: 422, says: `"reason":"duplicate_name"`},
		{name: "too deep", body: `{"data":` + deep + `}`, status: 422, says: `"reason":"too_deep"`},
		{name: "unknown schema", body: event("a", `,"dataschema":"urn:other"`), status: 422, says: `"reason":"unknown_schema"`},
		{name: "a source with a number", body: strings.Replace(event("a", ""), "urn:test:payroll", "urn:"+person, 1), status: 422, says: "eleven digits"},
		{name: "a name with a number", body: event("a", `,"x15910095789":"y"`), status: 422, says: "naming conventions"},
		{name: "an attribute that is an object", body: event("a", `,"x":{}`), status: 422, says: "neither a string"},
		{name: "retracts itself", body: event("a", `,"retracts":"a"`), status: 422, says: "own id"},
		{name: "data twice", body: event("a", `,"data_base64":"e30="`), status: 422, says: "both data and data_base64"},
		{name: "broken base64", body: `{"specversion":"1.0","id":"a","source":"s","type":"t","data_base64":"%"}`, status: 422, says: "data_base64 is not base64"},
		{name: "another's dataset", token: "other", body: event("a", ""), status: 403, says: "no dataset of that name is yours"},
		{name: "no dataset", path: "/datasets/none/events", body: event("a", ""), status: 404, says: "not registered"},
		{name: "no form", media: "text/plain", body: "x", status: 415, says: mediaBatch},
		{name: "compressed", body: "x", headers: []string{"Content-Encoding", "gzip"}, status: 415, says: "not compressed"},
		{name: "too large for an event", body: event("a", `,"x":"`+strings.Repeat("x", 1_300_000)+`"`), status: 413, says: "larger than"},
		{name: "too large for a record", body: strings.Replace(event("a", ""), `"beloep":1`, `"beloep":1,"tekst":"`+strings.Repeat("x", 900_000)+`"`, 1), status: 422, says: `"reason":"too_large"`},
	} {
		log := &fakeSource{}
		s, _ := publishing(t, log.write)
		if c.path == "" {
			c.path = "/datasets/inntekt/events"
		}
		if c.media == "" {
			c.media = mediaEvent
		}
		if c.token == "" {
			c.token = "tax"
		}
		w := post(s, c.path, c.token, c.media, c.body, c.headers...)
		body := w.Body.String()
		if w.Code != c.status || !strings.Contains(body, c.says) || len(log.events) != c.written {
			t.Errorf("%s: %d, %d written: %.300s", c.name, w.Code, len(log.events), body)
		}
		if strings.Contains(body, person) {
			t.Errorf("%s: the answer repeats a number", c.name)
		}
		if w.Code >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %s", c.name, w.Header().Get("Content-Type"))
		}
	}
}

func TestPublishBatch(t *testing.T) {
	log := &fakeSource{fail: func(e SourceEvent) error {
		if bytes.Contains(e.Value, []byte("13")) && bytes.Contains(e.Value, []byte(`"beloep":13`)) {
			return errors.New("kafka is gone")
		}
		return nil
	}}
	s, _ := publishing(t, log.write)
	amount := func(id string, n int) string {
		return strings.Replace(event(id, ""), `"beloep":1`, fmt.Sprintf(`"beloep":%d`, n), 1)
	}
	other := strings.Replace(event("e", ""), person, "15910095788", 1)
	w := post(s, "/datasets/inntekt/events", "tax", mediaBatch, "["+strings.Join([]string{amount("a", 1), `{"id":1}`, amount("b", 13), amount("c", 2), other}, ",")+"]")
	var out Results
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, r := range out.Results {
		if r.Index != i {
			t.Errorf("result %d is of event %d", i, r.Index)
		}
		got = append(got, string(r.Status))
	}
	if want := []string{"accepted", "rejected", "failed", "failed", "accepted"}; !slices.Equal(got, want) || w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v, want %v", w.Code, got, want)
	}
	if out.Accepted != 2 || out.Rejected != 1 || out.Failed != 2 || out.Results[3].Detail != heldBack {
		t.Errorf("%+v", out)
	}
	for _, body := range []string{"", "{}", "[", "[1,]", "[] []", "[{}"} {
		if w := post(s, "/datasets/inntekt/events", "tax", mediaBatch, body); w.Code != 400 {
			t.Errorf("batch %q: %d", body, w.Code)
		}
	}
	if w := post(s, "/datasets/inntekt/events", "tax", mediaBatch, "["+strings.Repeat("0,", batchEvents)+"0]"); w.Code != 413 {
		t.Errorf("too many: %d", w.Code)
	}
	if w := post(s, "/datasets/inntekt/events", "tax", mediaBatch, "[]"); w.Code != 200 {
		t.Errorf("an empty batch: %d", w.Code)
	}
}

// An event that Kafka has not answered for in time is not vouched for.
func TestNoAnswerIsNotAccepted(t *testing.T) {
	log := &fakeSource{mute: true}
	s, d := publishing(t, log.write)
	d.write = time.Millisecond
	if w := post(s, "/datasets/inntekt/events", "tax", mediaEvent, event("a", "")); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func streamLines(t testing.TB, body io.Reader) (results []Result, end *Results) {
	t.Helper()
	in := bufio.NewScanner(body)
	for in.Scan() {
		if bytes.Contains(in.Bytes(), []byte(`"status"`)) {
			var r Result
			if err := json.Unmarshal(in.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			results = append(results, r)
			continue
		}
		end = new(Results)
		if err := json.Unmarshal(in.Bytes(), end); err != nil {
			t.Fatal(err)
		}
	}
	return results, end
}

func TestPublishStream(t *testing.T) {
	log := &fakeSource{}
	s, _ := publishing(t, log.write)
	body := event("a", "") + "\n\n" + event("b", "") + "\r\n{\n" + strings.Repeat("x", 1_400_000) + "\n" + event("c", "")
	w := post(s, "/datasets/inntekt/events", "tax", mediaNDJSON, body)
	results, end := streamLines(t, w.Body)
	if w.Code != 200 || end == nil || end.Accepted != 3 || end.Rejected != 2 || end.Stopped != "" {
		t.Fatalf("%d %+v", w.Code, end)
	}
	for i, want := range []struct {
		line   int
		reason broker.RejectionCode
	}{{0, ""}, {2, ""}, {3, broker.RejectMalformedJSON}, {4, broker.RejectTooLarge}, {5, ""}} {
		if r := results[i]; r.Index != want.line || r.Reason != want.reason {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	if got := log.ids(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("written: %v", got)
	}
}

// A stream is answered while it goes on, and ends early where events fail.
func TestPublishStreamGoesOn(t *testing.T) {
	log := &fakeSource{fail: func(e SourceEvent) error {
		if bytes.Contains(e.Value, []byte("13")) && bytes.Contains(e.Value, []byte(`"beloep":13`)) {
			return errors.New("kafka is gone")
		}
		return nil
	}}
	s, _ := publishing(t, log.write)
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	pr, pw := io.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", srv.URL+"/datasets/inntekt/events", pr)
	req.Header.Set("Authorization", "Bearer tax")
	req.Header.Set("Content-Type", mediaNDJSON)
	go io.WriteString(pw, event("a", "")+"\n")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewScanner(resp.Body)
	for _, id := range []string{"b", "c"} {
		if !in.Scan() || !strings.Contains(in.Text(), "accepted") {
			t.Fatalf("%s %v", in.Text(), in.Err())
		}
		fmt.Fprintln(pw, event(id, ""))
	}
	in.Scan()
	fmt.Fprintln(pw, strings.Replace(event("d", ""), `"beloep":1`, `"beloep":13`, 1))
	in.Scan()
	if !strings.Contains(in.Text(), `"failed"`) {
		t.Error(in.Text())
	}
	if !in.Scan() || !strings.Contains(in.Text(), `"stopped"`) || !strings.Contains(in.Text(), `"next":4`) {
		t.Error(in.Text())
	}
	pw.Close()
}

// Whoever sends slowly, or stops sending, is let go.
func TestSlowClients(t *testing.T) {
	log := &fakeSource{}
	s, d := publishing(t, log.write)
	d.wait, d.body = 30*time.Millisecond, 30*time.Millisecond
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	for _, c := range []struct{ media, body, says string }{
		{mediaNDJSON, event("a", "") + "\n", `"stopped":"nothing came`},
		{mediaNDJSON, event("a", "") + "\n{", `"stopped":"nothing came`},
		{mediaEvent, "{", "408 Request Timeout"},
		{mediaBatch, "[", "408 Request Timeout"},
		{"text/plain", "x", "415"},
	} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /datasets/inntekt/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer tax\r\nContent-Type: %s\r\nContent-Length: 100000\r\n\r\n%s", c.media, c.body)
		answer, err := io.ReadAll(conn) // it ends, since the server closes
		if !strings.Contains(string(answer), c.says) {
			t.Errorf("%s %q: %v %s", c.media, c.body, err, answer)
		}
		conn.Close()
	}
}

// What is written is the same, byte for byte and in the same partition, whether it
// comes over HTTP in whichever form or from the SDK over Kafka.
func TestSameAsSDK(t *testing.T) {
	cfg := kafka.Defaults()
	cfg.Data, cfg.SourcePartitions = t.TempDir(), 7
	engine, err := kafka.Open(t.Context(), cfg, slog.New(slog.DiscardHandler), kafka.Own)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	if err := engine.EnsureTopics(t.Context(), cfg.SourceSpec("inntekt")); err != nil {
		t.Fatal(err)
	}
	producer, err := engine.NewProducer(0)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close(t.Context())
	var got SourceEvent
	s, _ := publishing(t, func(ctx context.Context, e SourceEvent, done func(int32, int64, error)) {
		got = e
		out := kafka.Outgoing{Topic: cfg.Topics().Source("inntekt"), Key: e.Key, Place: e.Place, Value: e.Value}
		for _, h := range e.Headers {
			out.Headers = append(out.Headers, kafka.Header(h))
		}
		producer.Produce(ctx, out, done)
	})
	sdk, err := providers.New(providers.Config{Brokers: engine.Brokers(), Dataset: "inntekt", Source: "urn:test", Type: "t", Subject: "/norskident"})
	if err != nil {
		t.Fatal(err)
	}
	defer sdk.Close()
	cl, err := engine.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	starts := func() map[int32]int64 { // the partitions' ends
		adm, err := engine.Admin()
		if err != nil {
			t.Fatal(err)
		}
		defer adm.Close()
		ends, err := kafka.CommittedEnds(t.Context(), adm, cfg.Topics().Source("inntekt"))
		if err != nil {
			t.Fatal(err)
		}
		return ends[cfg.Topics().Source("inntekt")]
	}
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		who := fmt.Sprintf("159100%05d", rapid.IntRange(0, 99999).Draw(rt, "person"))
		subject, _ := json.Marshal(who)
		switch rapid.IntRange(0, 2).Draw(rt, "form of the subject") {
		case 1:
			subject = []byte(`["` + who + `"]`)
		case 2:
			subject = []byte(`[null,"` + who + `"]`)
		}
		e := providers.Event{
			ID: fmt.Sprint("e", n), Data: fmt.Appendf(nil, `{"norskident":%s, "beloep":1.50}`, subject),
			Provisional: rapid.Bool().Draw(rt, "provisional"),
		}
		if rapid.Bool().Draw(rt, "with a key") {
			e.Key = rapid.StringMatching(`[a-zæø0-9 ]{1,20}`).Draw(rt, "key")
		}
		if rapid.Bool().Draw(rt, "with a time") {
			e.Time = time.Unix(rapid.Int64Range(0, 1<<32).Draw(rt, "time"), rapid.Int64Range(0, 999_999_999).Draw(rt, "nanos")).In(time.FixedZone("", 3600))
		}
		if rapid.Bool().Draw(rt, "corrects") {
			e.Supersedes = rapid.StringMatching(`[a-zæ%"\\]{1,9}`).Draw(rt, "of")
		}
		if rapid.Bool().Draw(rt, "with extensions") {
			e.Extensions = map[string]string{"kommune": "0301", "a": "æ%20", "z9": "true"}
		}
		before := starts()
		if err := sdk.Publish(t.Context(), e); err != nil {
			rt.Fatal(err)
		}
		after := starts()
		at := int32(-1)
		for p := range after {
			if after[p] > before[p] {
				at = p
			}
		}
		attributes := map[string]any{"specversion": "1.0", "id": e.ID, "source": "urn:test", "type": "t"}
		if e.Key != "" {
			attributes["partitionkey"] = e.Key
		}
		if !e.Time.IsZero() {
			attributes["time"] = e.Time.Format(time.RFC3339Nano)
		}
		if e.Supersedes != "" {
			attributes["supersedes"] = e.Supersedes
		}
		if e.Provisional {
			attributes["provisional"] = true
		}
		for k, v := range e.Extensions {
			attributes[k] = v
		}
		var w *httptest.ResponseRecorder
		form := rapid.SampledFrom([]string{mediaEvent, mediaBatch, mediaNDJSON, "application/json", "base64"}).Draw(rt, "form")
		switch form {
		case "application/json":
			var headers []string
			for k, v := range attributes {
				headers = append(headers, "ce-"+k, percent(fmt.Sprint(v)))
			}
			w = post(s, "/datasets/inntekt/events", "tax", form, string(e.Data), headers...)
		case "base64":
			attributes["data_base64"] = base64.StdEncoding.EncodeToString(e.Data)
			body, _ := json.Marshal(attributes)
			w = post(s, "/datasets/inntekt/events", "tax", mediaEvent, string(body))
		default:
			attributes["data"] = "DATA"
			body, _ := json.Marshal(attributes)
			text := strings.Replace(string(body), `"DATA"`, string(e.Data), 1)
			if form == mediaBatch {
				text = "[" + text + "]"
			}
			w = post(s, "/datasets/inntekt/events", "tax", form, text)
		}
		if w.Code != 200 || !strings.Contains(w.Body.String(), fmt.Sprintf(`"position":{"partition":%d,"offset":%d}`, at, after[at])) {
			rt.Fatalf("%s: %d %s, want partition %d, offset %d", form, w.Code, w.Body, at, after[at])
		}
		// The record that the SDK wrote is read back, and compared with what HTTP wrote.
		want := readOne(rt, engine, cfg.Topics().Source("inntekt"), at, before[at])
		if !bytes.Equal(want.Key, got.Key) || !bytes.Equal(want.Value, got.Value) || fmt.Sprint(want.Headers) != fmt.Sprint(got.Headers) {
			rt.Errorf("%s:\nHTTP %s %s %s\n SDK %s %s %s", form, got.Key, got.Headers, got.Value, want.Key, want.Headers, want.Value)
		}
	})
}

func percent(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func readOne(t *rapid.T, e *kafka.Engine, topic string, partition int32, offset int64) (out SourceEvent) {
	cl, err := e.NewClient(kafkaAt(topic, partition, offset))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	rec := cl.PollRecords(context.Background(), 1).Records()[0]
	out = SourceEvent{Key: rec.Key, Value: rec.Value}
	for _, h := range rec.Headers {
		out.Headers = append(out.Headers, intake.Header{Key: h.Key, Value: h.Value})
	}
	return out
}

// FuzzPublish sends anything in each of the four forms: whatever comes, nothing is
// written that intake would not accept, and no answer repeats a number.
func FuzzPublish(f *testing.F) {
	for form := range 4 {
		f.Add(form, event("a", ""), "x")
		f.Add(form, "["+event("a", "")+"]", "15910095789")
		f.Add(form, event("a", "")+"\n"+event("b", `,"retracts":"a"`), "%zz")
		f.Add(form, `{"norskident":"15910095789","beloep":1}`, `"a\"b"`)
		f.Add(form, `{"specversion":"1.0","data":[[[[{}]]],"data_base64":"e30="}`, "\x00")
	}
	target := incomeTarget(f)
	log := &fakeSource{}
	s, _ := publishing(f, log.write)
	media := []string{mediaEvent, mediaBatch, mediaNDJSON, "application/json"}
	f.Fuzz(func(t *testing.T, form int, body, header string) {
		if form < 0 || form > 3 {
			return
		}
		log.events = nil
		w := post(s, "/datasets/inntekt/events", "tax", media[form], body, "ce-id", header, "ce-specversion", "1.0", "ce-source", "urn:test", "ce-type", "t", "ce-x", header)
		if w.Code == 500 {
			t.Fatalf("%s", w.Body)
		}
		if strings.Contains(w.Body.String(), person) {
			t.Errorf("a number in %s", w.Body)
		}
		job := publishJob{}
		for _, e := range log.events {
			msg := intake.Message{Headers: e.Headers, Value: e.Value}
			if no := target.Dataset.Accept(&msg, keys.NewTest(1), &job.record, &job.payload); no != nil {
				t.Errorf("written, and intake says %v", no)
			}
		}
	})
}
