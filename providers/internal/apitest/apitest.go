// Package apitest runs, for tests of the SDK, what stands on its other side: the
// embedded engine and the HTTP API before it; and reads back what intake would make
// of what was published.
package apitest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/intake"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/kafka"
	"datafordeler/broker/keys"
	"datafordeler/broker/web"
)

// Token is the one that the API takes.
const Token = "token-of-the-provider"

// API is the broker as a provider meets it.
type API struct {
	Engine  *kafka.Engine
	Server  *httptest.Server
	Dataset broker.Dataset

	config   kafka.Config
	compiled *intake.Dataset
	ring     *keys.Ring
}

// Income is a dataset of persons, {"norskident", "beloep"}.
func Income() broker.Dataset {
	return broker.Dataset{ID: "inntekt", Current: "1", Schemas: []broker.Schema{{Version: "1", Document: json.RawMessage(
		`{"type":"object","required":["norskident","beloep"],"properties":{"norskident":{"type":"string"},"beloep":{"type":"number"}}}`)}},
		Subject: broker.SubjectRule{Kind: broker.Person, Pointer: "/norskident"}}
}

// Start runs both until the test ends.
func Start(t testing.TB, ds broker.Dataset) *API {
	t.Helper()
	a := &API{Dataset: ds, ring: keys.NewTest(1), config: kafka.Defaults()}
	a.config.Data, a.config.SourcePartitions = t.TempDir(), 3
	var err error
	if a.compiled, err = intake.Compile(&ds, intake.Defaults()); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if a.Engine, err = kafka.Open(context.Background(), a.config, log, kafka.Own); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Engine.Close() })
	if err := a.Engine.EnsureTopics(t.Context(), a.config.SourceSpec(string(ds.ID))); err != nil {
		t.Fatal(err)
	}
	producer, err := a.Engine.NewProducer(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { producer.Close(context.Background()) })
	cfg := web.Defaults()
	cfg.RatePerSecond = 0
	s := web.New(web.Options{Config: cfg, Guard: guard{}, Log: log, Version: "test"})
	target := &web.Target{Dataset: a.compiled, Subject: ds.Subject.Pointer}
	s.Publishing(web.Publishing{
		Limits: intake.Defaults(), Hasher: a.ring,
		Target: func(id broker.DatasetID) (*web.Target, error) {
			if id != ds.ID {
				return nil, nil
			}
			return target, nil
		},
		Write: func(ctx context.Context, e web.SourceEvent, done func(int32, int64, error)) {
			out := kafka.Outgoing{Topic: a.topic(), Key: e.Key, Place: e.Place, Value: e.Value}
			for _, h := range e.Headers {
				out.Headers = append(out.Headers, kafka.Header(h))
			}
			producer.Produce(ctx, out, done)
		},
	})
	a.Server = httptest.NewServer(s.Handler())
	t.Cleanup(a.Server.Close)
	return a
}

func (a *API) topic() string { return a.config.Topics().Source(string(a.Dataset.ID)) }

// guard knows one provider.
type guard struct{}

func (guard) Identify(_ context.Context, authorization string) (access.Caller, error) {
	if token, _ := strings.CutPrefix(authorization, "Bearer "); token != Token {
		return access.Caller{}, &access.TokenError{Why: "the token does not count"}
	}
	return access.Caller{Organisation: "974761076", Client: "test"}, nil
}

func (guard) Allow(context.Context, access.Caller, access.Action, access.Resource) error { return nil }

// Taken is a record that intake took.
type Taken struct {
	ID      string // the provider's
	Subject string // a hash: the same for the same subject
	Kind    broker.RecordKind
	Data    string
}

// Taken reads the source topic as the broker does: repeats are counted and left
// out. Records of one subject are in the order in which the broker met them.
func (a *API) Taken(t testing.TB) (taken []Taken, repeats int, rejected []broker.Rejection) {
	t.Helper()
	adm, err := a.Engine.Admin()
	if err != nil {
		t.Fatal(err)
	}
	defer adm.Close()
	ends, err := kafka.CommittedEnds(t.Context(), adm, a.topic())
	if err != nil {
		t.Fatal(err)
	}
	for partition, end := range ends[a.topic()] {
		window := intake.NewWindow(intake.Defaults())
		var rec broker.Record
		var doc jsondoc.Doc
		err := a.each(t.Context(), partition, end, func(msg *intake.Message) {
			if no := a.compiled.Accept(msg, a.ring, &rec, &doc); no != nil {
				rejected = append(rejected, *no)
				return
			}
			switch window.Check(rec.Event, rec.Content, msg.Offset, msg.Timestamp) {
			case intake.Fresh:
				one := Taken{Subject: string(rec.Subject[:]), Kind: rec.Kind, Data: string(rec.Data)}
				for _, h := range msg.Headers {
					if h.Key == "ce_id" {
						one.ID = string(h.Value)
					}
				}
				taken = append(taken, one)
			case intake.Repeated:
				repeats++
			case intake.Reused:
				rejected = append(rejected, broker.Rejection{Code: broker.RejectIDReused})
			}
		})
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	return taken, repeats, rejected
}

func (a *API) each(ctx context.Context, partition int32, end int64, fn func(*intake.Message)) error {
	in, err := a.Engine.Reader([]kafka.Span{{Topic: a.topic(), Partition: partition, To: end}})
	if err != nil {
		return err
	}
	defer in.Close()
	for {
		r, err := in.Read(ctx)
		if err != nil {
			return err
		}
		fn(&intake.Message{Position: broker.Position{Dataset: a.Dataset.ID, Partition: partition, Offset: r.Offset},
			Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: r.Value})
	}
}
