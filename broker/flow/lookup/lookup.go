// Package lookup finds what there is on one subject, and has it decided: from the
// retained source log, by the index of subjects, or from the provider's own endpoint
// where a dataset stays with its provider. What is decided and what leaves is the
// Committer's; this package only fetches, and hands over nothing by itself.
//
// Nothing is looked for where a question is refused whatever there is: what is not
// read cannot leak, and the provider is not told who was asked about.
//
// If you look for
//   - the walk of one request: lookup.go;
//   - several subjects asked about together: household.go;
//   - a provider's endpoint, and when it is not asked any more: provider.go, breaker.go.
package lookup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// Positions finds where the records on a subject lie, the newest first. It is used by
// several goroutines.
type Positions interface {
	// Latest returns when all that was decided before the call can be found.
	Latest(ctx context.Context) error
	Current(ctx context.Context, dataset broker.DatasetID, subject broker.SubjectKey, most int) ([]broker.Position, error)
}

// Options are what a Service is made of.
type Options struct {
	Committer *flow.Committer
	View      func(func(*registry.State))
	Hasher    intake.Hasher
	Topics    kafka.Topics
	Engine    *kafka.Engine
	// Positions is nil where the index is turned off: then nothing of the log is found,
	// and said to be unavailable.
	Positions Positions
	// Providers asks providers' own endpoints; nil asks none.
	Providers *Providers
	Log       *slog.Logger
}

// Service answers lookups. Any number of goroutines may use it.
type Service struct {
	Options
	fetcher *kafka.Fetcher
	items   *prometheus.CounterVec // source, outcome
	reading *prometheus.HistogramVec
}

// New opens a service. The caller closes it.
func New(o Options) (*Service, error) {
	s := &Service{Options: o,
		items: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "datafordeler_lookups_total",
			Help: "Questions about one subject, by source (log, provider) and outcome: found, nothing, refused, unavailable."}, []string{"source", "outcome"}),
		reading: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "datafordeler_lookup_read_seconds",
			Help:    "To find and read what there is on one subject, before it is decided, by source.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5}}, []string{"source"}),
	}
	if o.Engine != nil {
		var err error
		if s.fetcher, err = o.Engine.Fetcher(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close lets go of its connections.
func (s *Service) Close() {
	if s.fetcher != nil {
		s.fetcher.Close()
	}
}

// Collectors are for main to register.
func (s *Service) Collectors() []prometheus.Collector {
	all := []prometheus.Collector{s.items, s.reading}
	if s.Providers != nil {
		all = append(all, s.Providers.Collectors()...)
	}
	return all
}

// Item is one question of a request.
type Item struct {
	Subscription broker.SubscriptionID
	// Records is how many there are to be at the most.
	Records int
}

// Result is the answer to one of them.
type Result struct {
	flow.Answer
	Terms *broker.Terms
	// Unavailable says why it could not be found out what there is. Nothing was decided.
	Unavailable error
}

// ErrUnavailable: what there is could not be found out just now.
var ErrUnavailable = errors.New("what there is on the subject could not be found out just now")

const (
	source   = "log"
	provider = "provider"
	// looked is how many records on one subject are looked at for some in scope.
	looked = 200
	// tries is how often a question is asked anew that is no longer to be refused.
	tries = 3
)

// LookUp answers each item by itself, in their order: what comes of one shows in no
// other. Its error is of all of them, and then none was answered.
func (s *Service) LookUp(ctx context.Context, items []Item, subject string) ([]Result, error) {
	results := make([]Result, len(items))
	todo := make([]int, len(items))
	for i := range items {
		todo[i] = i
	}
	for range tries {
		questions := make([]flow.Question, len(todo))
		errs := make([]error, len(todo))
		var g sync.WaitGroup
		for n, i := range todo {
			g.Go(func() { questions[n], errs[n] = s.ask(ctx, &items[i], &results[i], subject) })
		}
		g.Wait()
		var asked []flow.Question
		var at []int
		for n, i := range todo {
			if held, ok := errors.AsType[*flow.HeldError](errs[n]); ok {
				return nil, held
			}
			if errs[n] != nil {
				results[i].Unavailable = errs[n]
				continue
			}
			asked, at = append(asked, questions[n]), append(at, i)
		}
		todo = nil
		if len(asked) == 0 {
			break
		}
		answers, err := s.Committer.Decide(ctx, asked)
		if err != nil {
			return nil, err
		}
		for n, i := range at {
			if results[i].Answer = answers[n]; answers[n].Again {
				todo = append(todo, i)
			}
		}
		if len(todo) == 0 {
			break
		}
	}
	for i := range results {
		r := &results[i]
		if r.Again {
			r.Unavailable = fmt.Errorf("%w: what it rests on keeps changing", ErrUnavailable)
		}
		s.count(r)
	}
	return results, nil
}

func (s *Service) count(r *Result) {
	from, outcome := source, "refused"
	if r.Terms != nil && r.Terms.Dataset.Endpoint != nil {
		from = provider
	}
	switch {
	case r.Unavailable != nil:
		outcome = "unavailable"
		if r.Terms != nil {
			s.Log.Error("a lookup could not be answered", "subscription", r.Terms.Subscription.ID, "dataset", r.Terms.Dataset.ID, "source", from, "err", r.Unavailable)
		}
	case len(r.Records) > 0:
		outcome = "found"
	case r.Nothing:
		outcome = "nothing"
	}
	s.items.WithLabelValues(from, outcome).Inc()
}

// ask finds what there is, where it may be of use.
func (s *Service) ask(ctx context.Context, item *Item, r *Result, subject string) (flow.Question, error) {
	s.View(func(st *registry.State) { r.Terms = st.Terms(item.Subscription) })
	if r.Terms == nil {
		return flow.Question{}, fmt.Errorf("%w: the subscription is not declared", ErrUnavailable)
	}
	ds := r.Terms.Dataset
	own := s.Hasher.Subject(ds.Subject.Kind, subject)
	q := flow.Question{Subscription: item.Subscription, Subject: own, Unread: true}
	for _, w := range s.whom(ds, own, subject) {
		refused, err := s.Committer.Refused(ctx, item.Subscription, w.key)
		if err != nil {
			return q, err
		}
		if refused {
			continue
		}
		found, err := s.find(ctx, ds, item, w.key, w.id)
		if err != nil {
			return q, err
		}
		if q.Subject, q.Unread = w.key, false; len(found) > 0 {
			q.Found = found
			break
		}
	}
	return q, nil
}

// asked is a subject, and its identifier where that is known.
type asked struct {
	key broker.SubjectKey
	id  string
}

// whom is who is asked about by a subject's identifier, until there is something: where
// the dataset follows, whoever took it over before the subject itself. What there is on
// the one is decided as about that one.
func (s *Service) whom(ds *broker.Dataset, key broker.SubjectKey, id string) (all []asked) {
	all = []asked{{key, id}}
	if !ds.Subject.Follow {
		return all
	}
	s.View(func(st *registry.State) {
		for _, k := range st.Successors(ds.ID, key) {
			// A property's is known to nobody but its provider, which is asked by the old one.
			if u, ended := st.Ended(broker.OrgNumber(id)); ended && u.Successor != "" && s.Hasher.Subject(ds.Subject.Kind, string(u.Successor)) == k {
				id = string(u.Successor)
			} else if id = ""; ds.Endpoint != nil {
				break
			}
			all = append(all, asked{k, id})
		}
	})
	slices.Reverse(all)
	return all
}

// find reads what there is on a subject.
func (s *Service) find(ctx context.Context, ds *broker.Dataset, item *Item, key broker.SubjectKey, subject string) (found []*flow.Found, err error) {
	begun, from := time.Now(), source
	if ds.Endpoint != nil {
		from = provider
		found, err = s.fromProvider(ctx, ds, subject, item.Records)
	} else {
		found, err = s.fromLog(ctx, ds.ID, item, key)
	}
	s.reading.WithLabelValues(from).Observe(time.Since(begun).Seconds())
	return found, err
}

func (s *Service) fromLog(ctx context.Context, ds broker.DatasetID, item *Item, subject broker.SubjectKey) ([]*flow.Found, error) {
	if s.Positions == nil {
		return nil, fmt.Errorf("%w: the index of positions is turned off", ErrUnavailable)
	}
	if err := s.Positions.Latest(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// Most often the newest is in scope. Those that are not are passed over.
	var found []*flow.Found
	at, most := 0, max(item.Records, 8)
	for {
		positions, err := s.Positions.Current(ctx, ds, subject, most)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		for ; at < len(positions) && len(found) < item.Records; at++ {
			f, err := s.read(ctx, &positions[at], subject)
			switch {
			case err != nil:
				return nil, err
			case f != nil && s.Committer.InScope(item.Subscription, f):
				found = append(found, f)
			}
		}
		if len(found) >= item.Records || len(positions) < most || most >= looked {
			return found, nil
		}
		most = min(looked, 4*most)
	}
}

// read reads one record; nil where retention has taken it since it was found.
func (s *Service) read(ctx context.Context, p *broker.Position, subject broker.SubjectKey) (*flow.Found, error) {
	r, err := s.fetcher.Record(ctx, s.Topics.Source(string(p.Dataset)), kadm.TopicID(p.TopicID), p.Partition, p.Offset)
	if _, gone := errors.AsType[*kafka.GoneError](err); gone {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	f, err := s.Committer.Accept(p.Dataset, &intake.Message{Position: *p, Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: r.Value})
	if rejection, ok := errors.AsType[*broker.Rejection](err); ok {
		// Accepted when it came; its dataset is declared otherwise now.
		return nil, fmt.Errorf("%w: a record of %s/%d does not fit what is declared by now: %s", ErrUnavailable, p.Dataset, p.Partition, rejection.Code)
	}
	if err != nil {
		return nil, err
	}
	if rec := f.Record(); !rec.HasSubject || rec.Subject != subject {
		return nil, fmt.Errorf("%w: the index of positions names a record of %s/%d, offset %d, that is about another; rebuild it", ErrUnavailable, p.Dataset, p.Partition, p.Offset)
	}
	return f, nil
}

func (s *Service) fromProvider(ctx context.Context, ds *broker.Dataset, subject string, most int) ([]*flow.Found, error) {
	if s.Providers == nil {
		return nil, fmt.Errorf("%w: this instance asks no provider's endpoint (lookups.providers)", ErrUnavailable)
	}
	events, err := s.Providers.Ask(ctx, ds, subject, most)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var found []*flow.Found
	for _, e := range events {
		f, err := s.Committer.Accept(ds.ID, &intake.Message{Position: broker.Position{Dataset: ds.ID, Offset: broker.Nowhere}, Timestamp: time.Now(),
			Headers: []intake.Header{{Key: "content-type", Value: []byte("application/cloudevents+json")}}, Value: e})
		if rejection, ok := errors.AsType[*broker.Rejection](err); ok {
			return nil, fmt.Errorf("%w: the provider's answer is no record of the dataset: %s at %q", ErrUnavailable, rejection.Code, rejection.Pointer)
		}
		if err != nil {
			return nil, err
		}
		if rec := f.Record(); !rec.HasSubject || rec.Subject != s.Hasher.Subject(ds.Subject.Kind, subject) {
			return nil, fmt.Errorf("%w: the provider answered about another subject than it was asked about", ErrUnavailable)
		}
		found = append(found, f)
	}
	return found, nil
}
