package subscriber_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"datafordeler/broker"
	"datafordeler/consumers"
	"datafordeler/consumers/subscriber"
)

// feed has four deliveries, two a page, and then says nothing more. The last is a notice of
// what is denied now.
func feed(t *testing.T) consumers.Config {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := 0
		_, _ = fmt.Sscanf(r.URL.Query().Get("after"), "c%d", &at)
		if at == 4 && r.URL.Query().Has("wait") {
			<-r.Context().Done()
			return
		}
		end := min(4, at+2)
		var lines []string
		for n := at; n < end; n++ {
			if n == 3 {
				lines = append(lines, fmt.Sprintf(`{"specversion":"1.0","id":"%032x","source":"urn:datafordeler:dataset:inntekt","type":"t","datacontenttype":"application/json","mailbox":"oslo","subscription":"s","agreement":"a","dataset":"inntekt","provider":"313876144","decision":"%032x","recordkind":"retraction","of":"%032x","notice":true,"denied":true,"backfill":true,"data":null}`, n, n+9, 1))
				continue
			}
			lines = append(lines, fmt.Sprintf(`{"specversion":"1.0","id":"%032x","source":"urn:datafordeler:dataset:inntekt","type":"t","datacontenttype":"application/json","mailbox":"oslo","subscription":"s","agreement":"a","dataset":"inntekt","provider":"313876144","decision":"%032x","recordkind":"original","data":{"n":%d}}`, n, n+9, n))
		}
		fmt.Fprintf(w, `{"deliveries":[%s],"next":"c%d","more":%t}`, strings.Join(lines, ","), end, end < 4)
	}))
	t.Cleanup(s.Close)
	return consumers.Config{URL: s.URL, Token: func(context.Context) (string, error) { return "t", nil }, Checkpoints: consumers.MemoryStore(), Backoff: time.Millisecond}
}

func take(t *testing.T, out <-chan *message.Message, want string) *message.Message {
	t.Helper()
	select {
	case m, ok := <-out:
		if !ok || string(m.Payload) != want {
			t.Fatalf("%v %v, want %s", ok, m, want)
		}
		return m
	case <-time.After(time.Minute):
		t.Fatal("nothing came")
	}
	return nil
}

// Order, one at a time, again after a Nack, and after a restart what was not
// acknowledged.
func TestSubscriber(t *testing.T) {
	cfg := feed(t)
	failed := func(m broker.MailboxID, err error) { t.Errorf("%s: %v", m, err) }
	s := subscriber.New(cfg, failed)
	out, err := s.Subscribe(t.Context(), "oslo")
	if err != nil {
		t.Fatal(err)
	}
	m := take(t, out, `{"n":0}`)
	if m.UUID != strings.Repeat("0", 32) || m.Metadata.Get(subscriber.Agreement) != "a" || m.Metadata.Get(subscriber.Kind) != "original" {
		t.Errorf("%+v", m)
	}
	m.Ack()
	m = take(t, out, `{"n":1}`)
	m.Nack()
	<-m.Context().Done()
	take(t, out, `{"n":1}`).Ack()
	m = take(t, out, `{"n":2}`)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := <-out; ok {
		t.Error("the channel is open after Close")
	}
	if m.Context().Err() == nil {
		t.Error("the message's context outlives its subscription")
	}
	if _, err := s.Subscribe(t.Context(), "oslo"); err == nil {
		t.Error("it is closed, and subscribed")
	}
	s = subscriber.New(cfg, failed)
	ctx, cancel := context.WithCancel(t.Context())
	if out, err = s.Subscribe(ctx, "oslo"); err != nil {
		t.Fatal(err)
	}
	take(t, out, `{"n":2}`).Ack()
	m = take(t, out, "null")
	for _, flag := range []string{subscriber.Notice, subscriber.Denied, subscriber.Backfill} {
		if m.Metadata.Get(flag) != "true" {
			t.Errorf("%s is %q", flag, m.Metadata.Get(flag))
		}
	}
	m.Ack()
	cancel()
	if _, ok := <-out; ok {
		t.Error("the channel is open after its context")
	}
	if _, err := s.Subscribe(t.Context(), "Not A Name"); err == nil {
		t.Error("a mailbox that cannot be was taken")
	}
}

func TestFailureIsTold(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }))
	defer s.Close()
	told := make(chan error, 1)
	sub := subscriber.New(consumers.Config{URL: s.URL, Token: func(context.Context) (string, error) { return "t", nil }}, func(_ broker.MailboxID, err error) { told <- err })
	out, err := sub.Subscribe(t.Context(), "oslo")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := <-out; ok || <-told == nil {
		t.Error("it did not end")
	}
}
