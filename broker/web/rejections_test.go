package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/deliver"
)

// fakeRejections holds [start, start+len) of rejections.
type fakeRejections struct {
	topic   [16]byte
	start   int64
	records []RejectedRecord
	blocks  chan struct{} // closed when a read waits
}

func (l *fakeRejections) Topic() [16]byte                      { return l.topic }
func (l *fakeRejections) First(context.Context) (int64, error) { return l.start, nil }

func (l *fakeRejections) Read(ctx context.Context, from int64, most int, wait time.Duration) ([]RejectedRecord, int64, error) {
	end := l.start + int64(len(l.records))
	switch {
	case from < l.start || from > end:
		return nil, from, &LogGone{l.start, end}
	case from == end && wait > 0:
		close(l.blocks)
		<-ctx.Done()
		return nil, from, ctx.Err()
	}
	to := min(from+int64(most), end)
	return l.records[from-l.start : to-l.start], to, nil
}

func (l *fakeRejections) add(n int) {
	for range n {
		i := len(l.records)
		pos := broker.Position{Dataset: "inntekt", Partition: 2, Offset: int64(i)}
		l.records = append(l.records, RejectedRecord{ID: fmt.Sprint("e", i), Source: "urn:x",
			Value: deliver.AppendRejection(nil, pos, &broker.Rejection{Code: broker.RejectSchema, Detail: "d", Pointer: "/a"}, time.Unix(int64(i), 0))})
	}
}

func rejectionsServer(t testing.TB, log *fakeRejections) *Server {
	s, _ := publishing(t, nil)
	s.guard.(*fakeGuard).allow = func(c access.Caller, a access.Action, r access.Resource) error {
		if a == access.ReadRejections && c.Organisation == "974761076" {
			return nil
		}
		return &access.Refusal{Action: a, Why: "no dataset of that name is yours"}
	}
	s.RegisterRejections(Rejections{Open: func(_ context.Context, id broker.DatasetID) (RejectionLog, error) {
		switch id {
		case "inntekt":
			return log, nil
		case "broken":
			return nil, errors.New("kafka is gone")
		}
		return nil, nil
	}})
	return s
}

func page(t testing.TB, s *Server, query string) (RefusedPage, int, Problem) {
	t.Helper()
	w := ask(s, "GET", "/datasets/inntekt/rejections"+query, "tax")
	var p RefusedPage
	var problem Problem
	if err := errors.Join(json.Unmarshal(w.Body.Bytes(), &p), json.Unmarshal(w.Body.Bytes(), &problem)); err != nil {
		t.Fatal(err, w.Body)
	}
	return p, w.Code, problem
}

func TestRejections(t *testing.T) {
	log := &fakeRejections{topic: [16]byte{1}, start: 5}
	s := rejectionsServer(t, log)
	empty, code, _ := page(t, s, "")
	if code != 200 || empty.Rejections == nil || len(empty.Rejections) != 0 || empty.Next == "" {
		t.Fatalf("an empty feed: %d %+v", code, empty)
	}
	log.add(3)
	got, _, _ := page(t, s, "?limit=2&after="+empty.Next)
	if len(got.Rejections) != 2 {
		t.Fatalf("%+v", got)
	}
	want := RefusedRecord{Reason: broker.RejectSchema, Detail: "d", Pointer: "/a", Partition: 2, Offset: 1, At: time.Unix(1, 0).UTC(), ID: "e1", Source: "urn:x"}
	if got.Rejections[1] != want {
		t.Errorf("%+v", got.Rejections[1])
	}
	rest, _, _ := page(t, s, "?after="+got.Next)
	if len(rest.Rejections) != 1 || rest.Rejections[0].ID != "e2" {
		t.Errorf("%+v", rest)
	}
	// What is older than what is kept is gone, and where to go on is said.
	log.start, log.records = 7, log.records[2:]
	_, code, p := page(t, s, "?after="+empty.Next)
	if code != 410 || p.Resync == "" {
		t.Fatalf("%d %+v", code, p)
	}
	if again, code, _ := page(t, s, "?after="+p.Resync); code != 200 || len(again.Rejections) != 1 {
		t.Errorf("resync: %d %+v", code, again)
	}
	// Beyond the end.
	beyond := Cursor{Feed: "rejections/inntekt", Topic: log.topic, Offset: 9}
	if _, code, _ := page(t, s, "?after="+beyond.String()); code != 409 {
		t.Errorf("beyond the end: %d", code)
	}
	// A topic made anew.
	log.topic = [16]byte{2}
	if _, code, p := page(t, s, "?after="+rest.Next); code != 410 || p.Resync == "" {
		t.Errorf("made anew: %d", code)
	}
	other := Cursor{Feed: "rejections/other", Topic: log.topic, Offset: 7}
	for _, after := range []string{"x", other.String(), person} {
		_, code, p := page(t, s, "?after="+url.QueryEscape(after))
		if code != 400 || strings.Contains(p.Detail, person) {
			t.Errorf("after=%s: %d %+v", after, code, p)
		}
	}
	for path, code := range map[string]int{"/datasets/none/rejections": 404, "/datasets/broken/rejections": 500, "/datasets/inntekt/rejections?limit=0": 422, "/datasets/inntekt/rejections?wait=99": 422} {
		if w := ask(s, "GET", path, "tax"); w.Code != code {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := ask(s, "GET", "/datasets/inntekt/rejections", "other"); w.Code != 403 {
		t.Errorf("another's: %d", w.Code)
	}
}

// A long poll is answered when the server stops, with the cursor that it came with.
func TestRejectionsDrain(t *testing.T) {
	log := &fakeRejections{topic: [16]byte{1}, blocks: make(chan struct{})}
	s := rejectionsServer(t, log)
	first, _, _ := page(t, s, "")
	go func() {
		<-log.blocks
		s.Close()
	}()
	if got, code, _ := page(t, s, "?wait=55&after="+first.Next); code != 200 || got.Next != first.Next {
		t.Errorf("%d %+v", code, got)
	}
}

// Read page by page, of whatever sizes, nothing is left out and nothing comes twice.
func TestRejectionPages(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		log := &fakeRejections{topic: [16]byte{1}, start: rapid.Int64Range(0, 1<<40).Draw(rt, "start")}
		s := rejectionsServer(t, log)
		after, seen := "", 0
		for range rapid.IntRange(1, 10).Draw(rt, "pages") {
			log.add(rapid.IntRange(0, 4).Draw(rt, "more"))
			got, _, _ := page(t, s, fmt.Sprintf("?limit=%d%s", rapid.IntRange(1, 5).Draw(rt, "limit"), after))
			for _, r := range got.Rejections {
				if r.ID != fmt.Sprint("e", seen) {
					rt.Fatalf("%s comes where e%d is due", r.ID, seen)
				}
				seen++
			}
			after = "&after=" + got.Next
		}
	})
}
