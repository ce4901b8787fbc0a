package consentfeed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var begun = time.Date(2026, 5, 4, 10, 30, 0, 0, time.UTC)

func event(i int, t Type) Event {
	return Event{fmt.Sprintf("0b1c2d3e-4f50-4a39-9a9b-%012x", i), t, begun.Add(time.Duration(i) * time.Second)}
}

// fake is a feed whose pages are named by the number of the entry before them, as
// Altinn's are by that entry's identifier.
type fake struct {
	events []Event
	gone   map[int]bool // entries that were taken out of it
	size   int
	shift  int // of numbers, where the feed is another
}

func (f *fake) get(_ context.Context, page string) (p Page, err error) {
	from := 0
	if page != "" {
		if from, err = strconv.Atoi(strings.TrimPrefix(page, "after-")); err != nil {
			return p, ErrGap
		}
	}
	last := 0
	for i := from; i < len(f.events) && len(p.Events) < f.size; i++ {
		if !f.gone[i] {
			p.Events, last = append(p.Events, f.events[i]), i+1
		}
	}
	if len(p.Events) == f.size {
		p.Next = fmt.Sprint("after-", last)
	}
	return p, nil
}

// Whatever the pages' size, and however the feed grows between readings, each entry is
// taken once and in order; and what was taken and is gone is said.
func TestReaderTakesAllOnce(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		f := &fake{size: rapid.IntRange(1, 5).Draw(r, "size"), gone: map[int]bool{}}
		reader := Reader{Get: f.get}
		at, taken := Place{}, 0
		for range rapid.IntRange(1, 8).Draw(r, "rounds") {
			for range rapid.IntRange(0, 7).Draw(r, "grows by") {
				f.events = append(f.events, event(len(f.events), Used))
			}
			if rapid.Bool().Draw(r, "restarts") {
				reader = Reader{Get: f.get}
			}
			for more := true; more; {
				b, err := reader.Read(t.Context(), at)
				if err != nil {
					r.Fatal(err)
				}
				n := rapid.IntRange(min(1, len(b.Events)), len(b.Events)).Draw(r, "takes")
				for _, e := range b.Events[:n] {
					if e != f.events[taken] {
						r.Fatalf("entry %d is %+v", taken, e)
					}
					taken++
				}
				if len(b.Events) > 0 {
					at = b.After(n)
				}
				more = b.More || n < len(b.Events)
			}
			if taken != len(f.events) {
				r.Fatalf("%d of %d taken", taken, len(f.events))
			}
		}
		if taken == 0 {
			return
		}
		if at.Entries == 0 {
			r.Fatalf("a place %+v from which nothing is read again", at)
		}
		f.gone[taken-1-rapid.IntRange(0, at.Entries-1).Draw(r, "goes")] = true
		if rapid.Bool().Draw(r, "another comes") {
			f.events = append(f.events, event(len(f.events), Used))
		}
		if _, err := reader.Read(t.Context(), at); !errors.Is(err, ErrGap) {
			r.Fatalf("a gap: %v", err)
		}
	})
}

func TestReaderOfWhatIsNoFeed(t *testing.T) {
	// A full page that names itself, or one that comes before.
	for _, next := range []string{"b", ""} {
		pages := map[string]Page{"": {[]Event{event(0, Used)}, "a"}, "a": {[]Event{event(1, Used)}, "b"}, "b": {[]Event{event(2, Used)}, "a"}}
		if next == "b" {
			pages["b"] = Page{[]Event{event(2, Used)}, "b"}
		}
		r := Reader{Get: func(_ context.Context, page string) (Page, error) { return pages[page], nil }}
		at := Place{}
		var err error
		for i := 0; err == nil; i++ {
			if i > 5 {
				t.Fatal("it goes round for ever")
			}
			var b *Batch
			if b, err = r.Read(t.Context(), at); err == nil {
				at = b.After(len(b.Events))
			}
		}
		if !strings.Contains(err.Error(), "goes round") {
			t.Error(err)
		}
		if r.Anew(); r.been != nil {
			t.Error("it is not read anew")
		}
	}
	// A page behind that cannot be had, right after it was named, is no gap: to begin anew
	// would come to it again.
	for _, wrong := range []error{ErrGap, errors.New("the feed answers 503")} {
		r := Reader{Get: func(_ context.Context, page string) (Page, error) {
			if page == "" {
				return Page{[]Event{event(0, Used)}, "a"}, nil
			}
			return Page{}, wrong
		}}
		if _, err := r.Read(t.Context(), PlaceIn("", []Event{event(0, Used)})); err == nil || errors.Is(err, ErrGap) || !strings.Contains(err.Error(), wrong.Error()) {
			t.Error(err)
		}
	}
}

func TestGet(t *testing.T) {
	code, body := http.StatusOK, `{"data":[]}`
	var asked *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r
		if code == http.StatusFound {
			w.Header().Set("Location", "https://elsewhere.example/")
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}))
	defer server.Close()
	s := Source{URL: server.URL + "/events?eventType=revoked", Client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if _, err := s.Get(t.Context(), "AZ+/=="); err != nil || asked.URL.Query().Get("continuationToken") != "AZ+/==" || asked.URL.Query().Get("eventType") != "revoked" || asked.Header.Get("Authorization") != "" {
		t.Errorf("%v: asked for %v", err, asked.URL)
	}
	s.Token = func(context.Context) (string, error) { return "secret", nil }
	if _, err := s.Get(t.Context(), ""); err != nil || asked.URL.Query().Has("continuationToken") || asked.Header.Get("Authorization") != "Bearer secret" {
		t.Errorf("%v: asked for %v", err, asked.URL)
	}
	for _, x := range []struct {
		code int
		page string
		want string
		gap  bool
	}{
		{http.StatusUnauthorized, "x", "answers 401", false},
		{http.StatusFound, "", "answers 302", false},
		{http.StatusServiceUnavailable, "x", "answers 503", false},
		{http.StatusBadRequest, "", "answers 400", false},
		{http.StatusBadRequest, "x", "its own name of a page", true},
		{http.StatusGone, "x", "its own name of a page", true},
	} {
		code = x.code
		if _, err := s.Get(t.Context(), x.page); err == nil || !strings.Contains(err.Error(), x.want) || errors.Is(err, ErrGap) != x.gap || strings.Contains(err.Error(), server.URL) {
			t.Errorf("%d: %v", x.code, err)
		}
	}
	code, body = http.StatusOK, `{"data":[`+strings.Repeat(" ", largestPage)+`]}`
	if _, err := s.Get(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "has more than") {
		t.Error(err)
	}
	s.Token = func(context.Context) (string, error) { return "", errors.New("the key is gone") }
	if _, err := s.Get(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "no token: the key is gone") {
		t.Error(err)
	}
	s.Token = nil
	server.Close()
	if _, err := s.Get(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "cannot be reached") || strings.Contains(err.Error(), "eventType") {
		t.Error(err)
	}
}

func TestParse(t *testing.T) {
	const entry = `{"consentRequestId":"3FA85F64-5717-4562-b3fc-2c963f66afa6","eventType":"Revoked","changedDate":"2026-05-04T10:30:00+02:00","more":1}`
	p, err := Parse([]byte(`{"links":{"next":"https://elsewhere.example/x?ContinuationToken=AZ%2B%2F%3D%3D&eventType=revoked"},"data":[` + entry + `]}`))
	want := Event{"3fa85f64-5717-4562-b3fc-2c963f66afa6", Revoked, time.Date(2026, 5, 4, 8, 30, 0, 0, time.UTC)}
	if err != nil || p.Next != "AZ+/==" || len(p.Events) != 1 || p.Events[0] != want {
		t.Errorf("%+v, %v", p, err)
	}
	for _, empty := range []string{`{"data":[]}`, `{"links":{},"data":[]}`, `{"links":{"next":null},"data":[]}`, `{"links":null,"data":[]}`} {
		if p, err := Parse([]byte(empty)); err != nil || p.Next != "" || len(p.Events) != 0 {
			t.Errorf("%s: %+v, %v", empty, p, err)
		}
	}
	changed := func(old, new string) string { return `{"data":[` + strings.Replace(entry, old, new, 1) + `]}` }
	for in, want := range map[string]string{
		``:                               "is not",
		`[]`:                             "is not",
		`{}`:                             "is not",
		`{"data":null}`:                  "is not",
		`{"data":{}}`:                    "is not",
		changed(`"2026-05-04T`, `"kl. `): "is not",
		changed(`"3FA85F64-5717-4562-b3fc-2c963f66afa6"`, `"01019012345"`):        "no consentRequestId",
		changed(`"3FA85F64-5717`, `"3FA85F64 5717`):                               "no consentRequestId",
		changed(`"3FA85F64`, `"3GA85F64`):                                         "no consentRequestId",
		changed(`consentRequestId`, `id`):                                         "no consentRequestId",
		changed(`"Revoked"`, `"01019012345"`):                                     "no eventType",
		changed(`"Revoked"`, `""`):                                                "no eventType",
		changed(`"Revoked"`, `"`+strings.Repeat("x", 51)+`"`):                     "no eventType",
		changed(`2026-05-04T10:30:00+02:00`, `9999-12-31T23:30:00-02:00`):         "no changedDate",
		changed(`2026-05-04T10:30:00+02:00`, `0000-01-01T00:30:00+02:00`):         "no changedDate",
		changed(`changedDate`, `date`):                                            "no changedDate",
		`{"links":{"next":"https://elsewhere.example/x"},"data":[]}`:              "without continuationToken",
		`{"links":{"next":"?continuationToken=a&continuationToken=b"},"data":[]}`: "without continuationToken",
		`{"links":{"next":"%"},"data":[]}`:                                        "by no address",
	} {
		if p, err := Parse([]byte(in)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "01019012345") || len(p.Events) > 1 {
			t.Errorf("%s: %+v, %v", in, p, err)
		}
	}
}

func TestMeaning(t *testing.T) {
	for typ, want := range map[Type]Meaning{
		Created: Stands, Accepted: Stands, Rejected: Stands, Used: Stands, Revoked: Ended, Deleted: Ended, Expired: Lapsed,
		"": Unknown, "paused": Unknown, "Revoked": Unknown,
	} {
		if got := typ.Meaning(); got != want {
			t.Errorf("%s: %v", typ, got)
		}
	}
}

// What is read can be written again to the same, holds only what may stand in a log, and
// has a place that tells it from a page that differs.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"data":[]}`, `{"links":{"next":"https://a.example/?continuationToken=x"},"data":[{"consentRequestId":"3fa85f64-5717-4562-b3fc-2c963f66afa6","eventType":"revoked","changedDate":"2026-05-04T10:30:00Z"}]}`,
		`{"data":[{"consentRequestId":"","eventType":"Used","changedDate":"2026-05-04T10:30:00+02:00"}]}`, `{"data":[{}]}`, `{"links":[]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		type entry struct {
			Consent string    `json:"consentRequestId"`
			Type    Type      `json:"eventType"`
			At      time.Time `json:"changedDate"`
		}
		all := []entry{}
		for _, e := range p.Events {
			if !isUUID(e.Consent) || e.At.IsZero() {
				t.Fatalf("%+v", e)
			}
			all = append(all, entry(e))
		}
		text, err := json.Marshal(map[string]any{"data": all})
		if err != nil {
			t.Fatal(err)
		}
		q, err := Parse(text)
		if err != nil || PlaceIn("", q.Events) != PlaceIn("", p.Events) {
			t.Fatalf("%+v, %v", q, err)
		}
		if n := len(p.Events); n > 0 && PlaceIn("", p.Events[:n-1]) == PlaceIn("", p.Events) {
			t.Fatal("a place that does not tell how much was taken")
		}
	})
}
