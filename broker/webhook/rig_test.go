package webhook

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/deliver"
	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
)

// rig is a log, a registry and a journal in memory, and senders on them, in a bubble
// whose clock nobody waits for.
type rig struct {
	t  *testing.T
	mu sync.Mutex // guards all below

	deliveries []web.Delivery
	oldest     int64
	arrived    chan struct{}

	state   *registry.State
	changed chan struct{}

	journal  [][]byte
	broken   bool // the journal takes nothing
	senders  []*Sender
	withheld map[broker.DeliveryID]bool // the door's
	door     func(id broker.DeliveryID) (bool, error)

	cfg       Config
	endpoints map[string]http.HandlerFunc // by host
}

const org = "964338531"

var caller = access.Caller{Organisation: org, Client: "test"}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, arrived: make(chan struct{}), state: registry.New(), changed: make(chan struct{}), cfg: Defaults(),
		endpoints: map[string]http.HandlerFunc{}, withheld: map[broker.DeliveryID]bool{}}
	r.do(put(t, broker.Organisation{Number: org, Name: "Bergen"}), put(t, broker.Mailbox{ID: "m", Organisation: org, Channel: broker.Webhook}))
	return r
}

func put(t *testing.T, v any) registry.Change {
	t.Helper()
	c, err := registry.Put(v)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (r *rig) do(changes ...registry.Change) {
	r.t.Helper()
	if _, err := r.Append(context.Background(), func(st *registry.State) ([]registry.Event, error) { return st.Link(time.Now(), "test", changes...) }); err != nil {
		r.t.Fatal(err)
	}
}

// View, Append, Latest and Changed are the Control's.
func (r *rig) View(fn func(*registry.State)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn(r.state)
}

func (r *rig) Append(_ context.Context, plan func(*registry.State) ([]registry.Event, error)) (broker.Revision, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	events, err := plan(r.state)
	if err != nil {
		return 0, err
	}
	for _, e := range events {
		if ok, err := r.state.Fold(e); err != nil || !ok {
			return 0, fmt.Errorf("not accepted: %v %v", r.state.Check(e), err)
		}
	}
	close(r.changed)
	r.changed = make(chan struct{})
	return r.state.Revision(), nil
}

func (r *rig) Latest(context.Context) (broker.Revision, error) { return 0, nil }

func (r *rig) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// journal is the Journal of one sender.
type journal struct{ *rig }

func (j journal) Append(_ context.Context, partition int32, values ...[]byte) (int64, error) {
	r := j.rig
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken {
		return 0, io.ErrClosedPipe
	}
	for _, v := range values {
		r.journal = append(r.journal, v)
		for _, s := range r.senders {
			if err := s.Fold(partition, int64(len(r.journal)-1), v); err != nil {
				r.t.Error(err)
			}
		}
	}
	return int64(len(r.journal) - 1), nil
}

// The log of deliveries. Its one partition is all mailboxes'.
type deliveries struct{ *rig }

func (deliveries) Topic() [16]byte                  { return [16]byte{1} }
func (deliveries) Partition(broker.MailboxID) int32 { return 0 }
func (d deliveries) After(context.Context, broker.MailboxID, time.Time) (int64, error) {
	panic("not asked")
}

func (d deliveries) Bounds(context.Context, broker.MailboxID) (int64, int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.oldest, int64(len(d.rig.deliveries)), nil
}

func (d deliveries) Read(ctx context.Context, m broker.MailboxID, from int64, most, bytes int, wait time.Duration) (ds []web.Delivery, next int64, more bool, err error) {
	until := time.Now().Add(wait)
	for {
		d.mu.Lock()
		arrived := d.arrived
		if from < d.oldest {
			d.mu.Unlock()
			return nil, from, false, &web.OffsetError{}
		}
		for ; from < int64(len(d.rig.deliveries)) && len(ds) < most; from++ {
			if x := d.rig.deliveries[from]; string(x.Headers[0].Value) == string(m) {
				ds = append(ds, x)
			}
		}
		d.mu.Unlock()
		if len(ds) > 0 || wait == 0 || !time.Now().Before(until) {
			return ds, from, false, nil
		}
		timer := time.NewTimer(time.Until(until))
		select {
		case <-arrived:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, from, false, ctx.Err()
		}
		timer.Stop()
	}
}

func idOf(n int) (id broker.DeliveryID) {
	id[0], id[1], id[2], id[3] = 0xaa, byte(n>>16), byte(n>>8), byte(n)
	return id
}

// deliver puts a delivery on one subject in a mailbox, and returns its number.
func (r *rig) deliver(m broker.MailboxID, subject byte) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.deliveries)
	door := deliver.AppendDoor(nil, &broker.Record{HasSubject: true, Subject: broker.SubjectKey{subject}}, broker.PackageRef{ID: "r", Version: 1})
	r.deliveries = append(r.deliveries, web.Delivery{Offset: int64(n), Value: fmt.Appendf(nil, `{"subject":%d,"n":%d}`, subject, n), Headers: []web.Header{
		{Key: "ce_mailbox", Value: []byte(m)}, {Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(idOf(n).String())},
		{Key: "ce_dataset", Value: []byte("inntekt")}, {Key: "content-type", Value: []byte("application/json")}, {Key: deliver.DoorHeader, Value: door},
	}})
	close(r.arrived)
	r.arrived = make(chan struct{})
	return n
}

// Admit is the door's.
func (r *rig) Admit(_ context.Context, _ broker.MailboxID, ds []web.Delivery) ([]bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	permits := make([]bool, len(ds))
	for i := range ds {
		id, _ := identify(&ds[i])
		permits[i] = !r.withheld[id]
		if r.door != nil {
			ok, err := r.door(id)
			if err != nil {
				permits[i] = true // whatever it says, it is an error
				return permits, err
			}
			permits[i] = permits[i] && ok
		}
	}
	return permits, nil
}

// RoundTrip calls endpoints.
func (r *rig) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	h := r.endpoints[req.URL.Host]
	r.mu.Unlock()
	if h == nil {
		return nil, io.ErrUnexpectedEOF
	}
	w := &answer{header: http.Header{}, code: 200}
	ended := make(chan struct{})
	go func() { defer close(ended); h(w, req) }()
	select {
	case <-ended:
	case <-req.Context().Done():
		<-ended
		return nil, req.Context().Err()
	}
	if w.code == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{StatusCode: w.code, Header: w.header, Body: io.NopCloser(&w.body), Request: req}, nil
}

// start begins an instance; the function that it returns ends it, as a crash does
// where that is asked.
func (r *rig) start() (s *Sender, end func(crash bool)) {
	ctx, stop := context.WithCancel(context.Background())
	s = New(Options{Config: r.cfg, Control: r, Journal: journal{r}, Keys: keys.NewTest(1), Door: r, Deliveries: deliveries{r}, Transport: r})
	r.mu.Lock()
	r.broken = false
	for i, v := range r.journal {
		if err := s.Fold(0, int64(i), v); err != nil {
			r.t.Error(err)
		}
	}
	r.senders = append(r.senders, s)
	r.mu.Unlock()
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			r.t.Error(err)
		}
	})
	running.Go(func() { s.Own(ctx, 0, func(int64) {}) })
	return s, func(crash bool) {
		r.mu.Lock()
		r.broken = crash
		r.mu.Unlock()
		stop()
		running.Wait()
	}
}

// prove sets an endpoint and puts it in use.
func (r *rig) prove(m broker.MailboxID, url string) {
	r.t.Helper()
	generation := 0
	r.View(func(st *registry.State) { generation = st.WebhookGeneration(m) })
	r.do(registry.SetWebhook(registry.Webhook{Mailbox: m, URL: url, Generation: generation}))
	var at broker.Revision
	r.View(func(st *registry.State) { w, _ := st.Webhook(m); at = w.Endpoint })
	r.do(registry.ProveWebhook(m, at))
}

func bubble(t *testing.T, fn func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { fn(newRig(t)) })
}
