package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/broker/truthtable/check"
	"datafordeler/broker/web"
	"datafordeler/providers/synthetic"
)

// addCommands adds what changes the registry over HTTP to the API.
func (d *doors) addCommands(lists *kafkaAccess) (more []prometheus.Collector, end func(), err error) {
	n := d.node
	adm, err := n.engine.Admin()
	if err != nil {
		return nil, nil, err
	}
	b := flow.NewBinder(flow.Barrier{Adm: adm, Control: n.control, Topics: n.cfg.Topics(), Group: n.cfg.Flow.Group})
	d.orders = &commandAPI{Verifier: d.guard.Verifier, node: n, binder: b, lists: lists}
	d.server.RegisterCommands(d.orders)
	return b.Collectors(), func() {
		b.Close()
		adm.Close()
	}, nil
}

// commandAPI changes the registry for broker/web.
type commandAPI struct {
	*access.Verifier // for Consents

	node   *node
	binder *flow.Binder
	lists  *kafkaAccess // nil where Kafka has no lists that are this broker's to keep
}

// commandPatience is how long a command that has begun goes on, whether or not its
// caller still listens.
const commandPatience = 20 * time.Second

func (k *commandAPI) Latest(ctx context.Context) error {
	_, err := k.node.control.Latest(ctx)
	return err
}

func (k *commandAPI) Do(ctx context.Context, actor string, plan web.Plan) (done web.Done, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commandPatience)
	defer cancel()
	control := k.node.control
	// What is so already is told by the newest there is.
	if err := k.Latest(ctx); err != nil {
		return done, err
	}
	var refused *registry.RefusedError
	done.Begun = time.Now()
	done.Revision, err = control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		now := notBefore(st, time.Now())
		changes, err := plan(st, now)
		if done.Changed = len(changes) > 0; err != nil || !done.Changed {
			return nil, err
		}
		events, err := st.Link(now, actor, changes...)
		if err != nil {
			return nil, err
		}
		if err := st.Check(events[0]); errors.As(err, &refused) {
			return nil, web.NewConflict(st.Revision(), refused.Reason)
		}
		return events, err
	})
	if failed, ok := errors.AsType[*check.Failed](err); ok { // signed-off truth tables stand in the way
		return done, web.NewConflict(control.Revision(), failed.Error())
	}
	if errors.Is(err, flow.ErrMaybeRecorded) { // no conflict: it may bind already
		k.node.log.Error("a command's change may have been recorded, and nobody could tell", "err", err)
		return done, web.NewProblem(http.StatusServiceUnavailable, "it could not be told whether the change was recorded: send it again; where it was, a second time changes nothing")
	}
	if errors.Is(err, flow.ErrConflict) || errors.Is(err, context.DeadlineExceeded) && control.Err() == nil {
		return done, web.NewConflict(control.Revision(), "other changes kept coming first; read what has changed, and try again")
	}
	return done, err
}

func (k *commandAPI) Await(ctx context.Context, done web.Done, kind string) (time.Duration, bool, error) {
	var lists broker.Revision // the last that may have changed who reads at Kafka itself
	k.node.control.View(func(st *registry.State) { lists = st.KafkaRevision() })
	if k.lists != nil && lists >= done.Revision {
		// They are shut out before it is said to bind.
		if _, _, err := k.lists.keep(ctx); err != nil && !errors.Is(err, kafka.ErrNoAccessLists) {
			k.node.log.Error("a change is recorded, and Kafka's access lists are not in step with it yet", "revision", done.Revision, "err", err)
			return 0, false, nil
		}
	}
	took, err := k.binder.Await(ctx, done.Revision, kind, done.Begun)
	switch {
	case err == nil:
		return took, true, nil
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, flow.ErrBinderFull):
		return 0, false, nil
	}
	return 0, false, err
}

func (k *commandAPI) Binding(ctx context.Context, rev broker.Revision) (web.Binding, bool, error) {
	if rev > k.node.control.Revision() {
		if err := k.Latest(ctx); err != nil || rev > k.node.control.Revision() {
			return web.Binding{}, false, err
		}
	}
	b, err := k.binder.State(ctx, rev)
	return web.Binding(b), true, err
}

// Keyed uses the key that hashes events: what comes of it means nothing to anybody else.
func (k *commandAPI) Keyed(text string) broker.Digest {
	return k.node.ring.Event("", "idempotency-key", text)
}

func (k *commandAPI) Subject(kind broker.SubjectKind, id string) (broker.SubjectKey, error) {
	ok := false
	switch kind {
	case broker.Person:
		ok = synthetic.ValidNationalID(id)
	case broker.OrganisationSubject:
		_, err := broker.ParseOrgNumber(id)
		ok = err == nil
	case broker.NoSubject:
	default:
		ok = id != ""
	}
	if !ok {
		return broker.SubjectKey{}, web.NewProblem(http.StatusUnprocessableEntity, "the dataset is about subjects of kind "+string(kind)+", and this is no identifier of one")
	}
	return k.node.ring.Subject(kind, id), nil
}
