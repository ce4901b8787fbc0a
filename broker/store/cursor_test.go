package store

import (
	"encoding/base64"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
)

// FuzzCursor: no text makes the reader of cursors fail otherwise than with
// ErrQuery, and what it takes is what it would have written.
func FuzzCursor(f *testing.F) {
	q := Query{Consumer: "974760673", Ascending: true}
	good := q.cursor(key{time: 1790000000000000000, log: logAt{3, 12345}, index: 7})
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(good + "A")
	f.Add("")
	f.Add(q.cursor(key{time: math.MinInt64, log: logAt{math.MaxInt32, math.MaxInt64}, index: math.MaxInt64}))
	f.Add(base64.RawURLEncoding.EncodeToString(append([]byte{cursorVersion}, make([]byte, 40)...)))
	f.Fuzz(func(t *testing.T, text string) {
		q := q
		q.Cursor = text
		k, err := q.place()
		if err != nil {
			if !errors.Is(err, ErrQuery) || text != "" && len(text) > 20 && strings.Contains(err.Error(), text) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if k.log.partition < 0 || k.log.offset < 0 || k.index < 0 || q.cursor(k) != text {
			t.Fatalf("%q: taken as %+v", text, k)
		}
	})
}

// FuzzDSN: no text makes Open's readers panic or repeat what may be a password.
func FuzzDSN(f *testing.F) {
	for _, s := range []string{"sqlite:/a/b.db", "sqlite:", "postgres://u:p@h/d?search_path=x", "postgres://u:p@[::1/d", "postgres://h:x", "", ":", "postgres:///?host=/tmp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		if rest, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
			if path, err := sqlitePath(rest); err == nil && (!strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0)) {
				t.Fatalf("%q: %q", dsn, path)
			}
			return
		}
		if _, err := pgConfig("postgres://user:hemmelig@" + dsn); err != nil && strings.Contains(err.Error(), "hemmelig") {
			t.Fatalf("%q: %v", dsn, err)
		}
	})
}

// TestCursorOfAnother: a cursor is for its own query only.
func TestCursorOfAnother(t *testing.T) {
	s := open1(t, dbPath(t.TempDir()))
	apply1(t, s, newGen(4).batches(40)...)
	page, err := s.Search(t.Context(), Query{Limit: 2})
	if err != nil || page.Next == "" {
		t.Fatal(err)
	}
	for name, q := range map[string]Query{
		"a filter":       {Consumer: org(1)},
		"the order":      {Ascending: true},
		"no subject":     {Subjects: []broker.Pseudonym{}},
		"a subject":      {Subjects: []broker.Pseudonym{hashOf(1)}},
		"a span of time": {From: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)},
		"a record":       {Record: &RecordPlace{Dataset: "inntekt"}},
	} {
		q.Cursor = page.Next
		if _, err := s.Search(t.Context(), q); !errors.Is(err, ErrQuery) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Another page size is the same query.
	if _, err := s.Search(t.Context(), Query{Limit: 5, Cursor: page.Next}); err != nil {
		t.Error(err)
	}
}

// TestBadQueries: what makes no sense is refused, not answered with everything.
func TestBadQueries(t *testing.T) {
	s := open1(t, dbPath(t.TempDir()))
	apply1(t, s, newGen(4).batches(10)...)
	now := time.Now()
	for name, q := range map[string]Query{
		"limit":        {Limit: MaxLimit + 1},
		"below zero":   {Limit: -1},
		"verdict":      {Verdict: 3},
		"shielded":     {Shielded: 3},
		"kind":         {Kind: 9},
		"version":      {Version: 2},
		"record":       {Record: &RecordPlace{}},
		"time":         {From: now, To: now.Add(-1)},
		"zero subject": {Subjects: []broker.Pseudonym{{}}},
		"subjects":     {Subjects: make([]broker.Pseudonym, maxSubjects+1)},
		"cursor":       {Cursor: "x"},
	} {
		if page, err := s.Search(t.Context(), q); !errors.Is(err, ErrQuery) || len(page.Hits) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// All keys destroyed: no pseudonym, and so nothing.
	if page, err := s.Search(t.Context(), Query{Subjects: []broker.Pseudonym{}}); err != nil || len(page.Hits) > 0 {
		t.Errorf("no pseudonyms: %d hits, %v", len(page.Hits), err)
	}
	if _, ok, err := s.Decision(t.Context(), broker.DecisionID{}); ok || err != nil {
		t.Errorf("the zero decision: %v, %v", ok, err)
	}
}

// TestMistakenKeys: hashes with the same first bits are told apart, also when
// there are more of them than fit a page.
func TestMistakenKeys(t *testing.T) {
	engines(t, func(t *testing.T, dsn func() string) {
		s := open1(t, dsn())
		b := Batch{Head: Head{Kind: broker.StreamDecision, Dataset: "d", First: 0, Last: 99, Records: 100, Time: time.Unix(1790000000, 0), Period: "p", Policy: "x"}}
		twin := func(n byte) (d broker.Digest) { d = hashOf(8); d[15] = n; return d }
		for i := range 100 {
			d := broker.Decision{Kind: broker.StreamDecision, Position: broker.Position{Dataset: "d", Offset: int64(i)}, Event: twin(byte(i)), Subject: twin(byte(200 + i%3)),
				Subscription: "sub-1", Agreement: "agreement-1", PolicyDigest: "x", Time: b.Head.Time, Period: "p"}
			d.ID, d.Delivery = identify(d.Kind, d.Position, d.Event, d.Request, d.Subscription, false)
			b.Decisions = append(b.Decisions, d)
		}
		apply1(t, s, b)
		m := &naive{}
		m.apply([]Batch{b})
		for _, q := range []Query{{Event: twin(50)}, {Event: twin(1), Subjects: []broker.Pseudonym{twin(201)}}, {Subjects: []broker.Pseudonym{twin(202)}, Limit: 5},
			{Subjects: []broker.Pseudonym{twin(200)}, Ascending: true, Limit: 3}, {Event: twin(101)}} {
			got, err := s.Search(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			want, more := m.search(q, nil)
			same(t, "twins", got.Hits, want)
			if more != (got.Next != "") {
				t.Errorf("%+v: more is %v", q, !more)
			}
		}
	})
}
