package webhook

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
	"datafordeler/broker/webhook/scheme"
)

// How a mailbox's endpoint stands.
const (
	StatusNone      = "none"
	StatusUnproven  = "unproven"
	StatusInUse     = "in-use"
	StatusPaused    = "paused"
	StatusStopped   = "stopped"
	StatusSuspended = "suspended"
	StatusFrozen    = "frozen"
)

var _ web.Webhooks = (*Sender)(nil)

// patience is how long an owner's order may take.
const patience = 45 * time.Second

func (s *Sender) status(m broker.MailboxID) string {
	_, why := s.endpoint(m)
	if why != "" {
		return why
	}
	if p := s.book.progressOf(m); p != nil && p.Failures >= breaker {
		return StatusPaused
	}
	return StatusInUse
}

// key makes the keys of one generation.
func (s *Sender) key(m broker.MailboxID, generation int) scheme.Key {
	return scheme.Key{
		Secret:  s.Keys.Webhook("v1", m, generation),
		Private: ed25519.NewKeyFromSeed(s.Keys.Webhook("v1a", m, generation)),
	}
}

// of finds a mailbox's webhook as it stands now.
func (s *Sender) of(ctx context.Context, m broker.MailboxID) (w registry.WebhookState, err error) {
	if _, err := s.Control.Latest(ctx); err != nil {
		return w, err
	}
	s.Control.View(func(st *registry.State) { w, err = find(st, m) })
	return w, err
}

func find(st *registry.State, m broker.MailboxID) (registry.WebhookState, error) {
	if err := receives(st, m); err != nil {
		return registry.WebhookState{}, err
	}
	w, ok := st.Webhook(m)
	if !ok {
		return w, web.NewProblem(http.StatusNotFound, "the mailbox has no webhook: set one with PUT")
	}
	return w, nil
}

func receives(st *registry.State, m broker.MailboxID) error {
	if b := st.Mailbox(m); b == nil {
		return web.NewProblem(http.StatusNotFound, "there is no mailbox of that name")
	} else if b.Channel != broker.Webhook {
		return web.NewProblem(http.StatusConflict, "the mailbox receives by "+string(b.Channel)+": have it declared with the channel webhook")
	}
	return nil
}

// change appends what an owner does, if the registry takes it.
func (s *Sender) change(ctx context.Context, c access.Caller, plan func(*registry.State) (*registry.Change, error)) error {
	_, err := s.Control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		change, err := plan(st)
		if err != nil || change == nil {
			return nil, err
		}
		events, err := st.Link(s.now(), c.Actor(), *change)
		if err != nil { // a client's name that does not do for an actor
			events, err = st.Link(s.now(), "organisation "+string(c.Acting()), *change)
		}
		if err != nil {
			return nil, err
		}
		var refused *registry.RefusedError
		if err := st.Check(events[0]); errors.As(err, &refused) {
			return nil, web.NewProblem(http.StatusConflict, refused.Reason)
		} else if err != nil {
			return nil, err
		}
		return events, nil
	})
	return err
}

// matches says whether what the caller knows is what stands (RFC 9110, 13.1.1).
func matches(match string, version broker.Revision) error {
	if match == "" {
		p := web.NewProblem(http.StatusPreconditionRequired, "name the ETag of what you change in If-Match: GET tells it")
		return p
	}
	if strings.TrimSpace(match) == "*" {
		return nil
	}
	for tag := range strings.SplitSeq(match, ",") {
		if strings.TrimSpace(tag) == web.WebhookETag(int64(version)) {
			return nil
		}
	}
	return web.NewProblem(http.StatusPreconditionFailed, "the webhook was changed since: GET it, and decide again")
}

// Set names the endpoint of a mailbox.
func (s *Sender) Set(ctx context.Context, c access.Caller, m broker.MailboxID, url, match string) (v web.WebhookView, secret string, err error) {
	if err := s.Guard.CheckURL(url); err != nil {
		return v, "", web.NewProblem(http.StatusUnprocessableEntity, err.Error())
	}
	created := false
	err = s.change(ctx, c, func(st *registry.State) (*registry.Change, error) {
		if err := receives(st, m); err != nil {
			return nil, err
		}
		w, ok := st.Webhook(m)
		if created = !ok; ok {
			if w.URL == url && match == "" {
				return nil, nil // asked again
			}
			if err := matches(match, w.Changed); err != nil {
				return nil, err
			}
			if w.URL == url {
				return nil, nil
			}
		} else if match != "" {
			return nil, web.NewProblem(http.StatusPreconditionFailed, "there is no webhook to change: leave If-Match out")
		}
		change := registry.SetWebhook(registry.Webhook{Mailbox: m, URL: url, Generation: st.WebhookGeneration(m)})
		return &change, nil
	})
	if err != nil {
		return v, "", err
	}
	w, err := s.of(ctx, m)
	if err != nil {
		return v, "", err
	}
	if created {
		secret = scheme.SecretText(s.key(m, w.Generation).Secret)
	}
	return s.viewOf(&w), secret, nil
}

// View is how a mailbox's webhook stands.
func (s *Sender) View(ctx context.Context, m broker.MailboxID) (web.WebhookView, error) {
	w, err := s.of(ctx, m)
	if err != nil {
		return web.WebhookView{}, err
	}
	return s.viewOf(&w), nil
}

func (s *Sender) viewOf(w *registry.WebhookState) web.WebhookView {
	v := web.WebhookView{
		URL: w.URL, Status: s.status(w.Mailbox), Why: w.Why, Set: w.Set, SetBy: w.SetBy, Version: int64(w.Changed),
		PublicKey: scheme.PublicText(s.key(w.Mailbox, w.Generation).Private.Public().(ed25519.PublicKey)),
		Poison:    s.book.poisonCount(w.Mailbox),
	}
	set := func(to **time.Time, t time.Time) {
		if !t.IsZero() {
			*to = &t
		}
	}
	set(&v.Proven, w.Proven)
	if w.Previous > 0 && s.now().Before(w.Overlap) {
		set(&v.Overlap, w.Overlap)
	}
	if p := s.book.progressOf(w.Mailbox); p != nil {
		v.Waiting, v.LastOutcome = len(p.Waiting), p.Last
		set(&v.LastAttempt, p.LastAt)
		if s.now().Before(p.Until) {
			set(&v.NextAttempt, p.Until)
		}
	}
	return v
}

// Challenge asks the endpoint to prove itself.
func (s *Sender) Challenge(ctx context.Context, c access.Caller, m broker.MailboxID) (v web.WebhookView, err error) {
	w, err := s.of(ctx, m)
	if err != nil {
		return v, err
	}
	if err := s.Guard.CheckURL(w.URL); err != nil { // the configuration may have changed
		return v, web.NewProblem(http.StatusConflict, err.Error())
	}
	if err := challenge(ctx, s.client, w.URL, s.now(), s.keysOf(&w)); err != nil {
		return v, web.NewProblem(http.StatusConflict, "the endpoint did not prove itself: "+err.Error())
	}
	err = s.change(ctx, c, func(st *registry.State) (*registry.Change, error) {
		now, err := find(st, m)
		if err != nil {
			return nil, err
		}
		if now.Endpoint == w.Endpoint && !now.Proven.IsZero() {
			return nil, nil
		}
		change := registry.ProveWebhook(m, w.Endpoint)
		return &change, nil
	})
	if err != nil {
		return v, err
	}
	return s.View(ctx, m)
}

// Rotate makes a new secret.
func (s *Sender) Rotate(ctx context.Context, c access.Caller, m broker.MailboxID, overlap time.Duration) (v web.WebhookView, secret string, err error) {
	generation := 0
	err = s.change(ctx, c, func(st *registry.State) (*registry.Change, error) {
		w, err := find(st, m)
		if err != nil {
			return nil, err
		}
		generation = w.Generation + 1
		change := registry.RotateWebhook(m, generation, s.now().Add(overlap))
		return &change, nil
	})
	if err != nil {
		return v, "", err
	}
	v, err = s.View(ctx, m)
	return v, scheme.SecretText(s.key(m, generation).Secret), err
}

// Remove takes a webhook back.
func (s *Sender) Remove(ctx context.Context, c access.Caller, m broker.MailboxID, match string) error {
	return s.change(ctx, c, func(st *registry.State) (*registry.Change, error) {
		w, err := find(st, m)
		if err != nil {
			return nil, err
		}
		if match != "" {
			if err := matches(match, w.Changed); err != nil {
				return nil, err
			}
		}
		change := registry.RemoveWebhook(m)
		return &change, nil
	})
}

// Poison lists deliveries that were tried in vain.
func (s *Sender) Poison(ctx context.Context, m broker.MailboxID, after int64, most int) (out []web.PoisonedView, more bool, err error) {
	s.Control.View(func(st *registry.State) { err = receives(st, m) })
	if err != nil {
		return nil, false, err
	}
	all, more := s.book.poisonOf(m, after, most)
	for _, e := range all {
		out = append(out, web.PoisonedView{ID: e.ID, First: e.First, At: e.At, Attempts: e.Tries, Why: e.Why, Replaying: !e.Replaying.IsZero(), Offset: e.Offset})
	}
	return out, more, nil
}

// Replay orders a delivery to be sent again.
func (s *Sender) Replay(ctx context.Context, c access.Caller, m broker.MailboxID, id broker.DeliveryID) error {
	return s.order(ctx, c, m, id, kindReplay)
}

// Drop gives a delivery up.
func (s *Sender) Drop(ctx context.Context, c access.Caller, m broker.MailboxID, id broker.DeliveryID) error {
	return s.order(ctx, c, m, id, kindDrop)
}

// order writes down what an owner orders of one delivery; it is carried out by the
// instance that sends for the mailbox.
func (s *Sender) order(ctx context.Context, c access.Caller, m broker.MailboxID, id broker.DeliveryID, kind string) error {
	var err error
	s.Control.View(func(st *registry.State) { err = receives(st, m) })
	if err != nil {
		return err
	}
	if s.book.poisoned(m, id) == nil {
		return web.NewProblem(http.StatusNotFound, "no such delivery is with the poison of this mailbox")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	partition := s.Deliveries.Partition(m)
	at, err := s.appendAt(ctx, partition, record{Kind: kind, Mailbox: m, ID: id, Actor: c.Actor()})
	if err != nil {
		return err
	}
	return s.awaitFold(ctx, partition, at)
}
