// Package webhook receives deliveries that the broker sends to an endpoint.
//
//	h, err := webhook.New(ctx, webhook.Config{
//		Mailbox: "oslo-sosialhjelp",
//		Secrets: func() []string { return []string{os.Getenv("WEBHOOK_SECRET")} },
//		Seen:    consumers.FileStore("/var/lib/barnehage/seen.json"),
//	}, func(ctx context.Context, d consumers.Delivery) error {
//		return store(ctx, d)
//	})
//	…
//	http.Handle("POST /datafordeler", h)
//
// The handler verifies signatures (Standard Webhooks: v1 and v1a), answers the
// broker's challenge, drops repeats, and hands over what package consumers does.
// What the handler fails on is answered 500, and comes again.
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/webhook/scheme"
	"datafordeler/consumers"
)

// What Verify may say.
var (
	ErrHeaders   = scheme.ErrHeaders
	ErrTimestamp = scheme.ErrTimestamp
	ErrSignature = scheme.ErrSignature
)

// Tolerance is how far a message's timestamp may be from this clock, where nothing else
// is said.
const Tolerance = 5 * time.Minute

// Verify says whether the broker sent a message, now: nil, or one of [ErrHeaders],
// [ErrTimestamp] and [ErrSignature], or that the secret is none. secret is a secret
// (whsec_…) or a public key (whpk_…).
func Verify(secret string, headers http.Header, body []byte, tolerance time.Duration) error {
	v, err := scheme.ParseVerifier(secret)
	if err != nil {
		return err
	}
	_, err = scheme.Verify(headers, body, time.Now(), tolerance, v)
	return err
}

// Config says what is received. Mailbox and Secrets are required.
type Config struct {
	Mailbox broker.MailboxID
	// Secrets are those that count now: secrets (whsec_…) or public keys (whpk_…). They
	// are asked for with each message, so that a rotation needs no restart; during one,
	// give both.
	Secrets func() []string
	// Tolerance is how far a timestamp may be from this clock; 0 is [Tolerance].
	Tolerance time.Duration
	// Seen remembers which deliveries were handled; nil forgets with the process.
	Seen consumers.Store
	// Window is how many it remembers; 0 is 20,000.
	Window int
	// BodyBytes is the longest message; 0 is 16 MiB.
	BodyBytes int64
	// Log is told of what was refused or failed, by ids; nil is nobody.
	Log *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Handler is the endpoint.
type Handler struct {
	cfg    Config
	seen   *consumers.Seen
	handle consumers.Handler
}

// New makes an endpoint that hands deliveries to handle, several at once: the broker
// sends those of one subject one after another.
func New(ctx context.Context, cfg Config, handle consumers.Handler) (*Handler, error) {
	if cfg.Secrets == nil || handle == nil {
		return nil, errors.New("webhook: Secrets and a handler are needed")
	}
	if err := broker.CheckName(string(cfg.Mailbox)); err != nil {
		return nil, fmt.Errorf("webhook: Mailbox: %w", err)
	}
	if cfg.Tolerance == 0 {
		cfg.Tolerance = Tolerance
	}
	if cfg.BodyBytes == 0 {
		cfg.BodyBytes = 16 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	seen, err := consumers.OpenSeen(ctx, cfg.Seen, cfg.Mailbox, cfg.Window)
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	return &Handler{cfg, seen, handle}, nil
}

// ServeHTTP answers 204 where a delivery is handled, or was before; 200 with the
// challenge to a challenge; 401 to what is not signed, 400 to what is no delivery of
// the mailbox, and 500 where the handler failed.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	refuse := func(code int, err error) {
		h.cfg.Log.WarnContext(ctx, "a message to the webhook was refused", "status", code, "err", err)
		http.Error(w, http.StatusText(code), code)
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(http.StatusMethodNotAllowed, errors.New("it is no POST"))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.cfg.BodyBytes))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		refuse(http.StatusRequestEntityTooLarge, err)
		return
	case err != nil:
		refuse(http.StatusBadRequest, errors.New("it broke off"))
		return
	}
	var keys []scheme.Verifier
	for _, text := range h.cfg.Secrets() {
		v, err := scheme.ParseVerifier(text)
		if err != nil { // ours, not the sender's: it comes again
			refuse(http.StatusInternalServerError, err)
			return
		}
		keys = append(keys, v)
	}
	id, err := scheme.Verify(r.Header, body, h.cfg.Now(), h.cfg.Tolerance, keys...)
	if err != nil {
		refuse(http.StatusUnauthorized, err)
		return
	}
	var c scheme.Challenge
	if json.Unmarshal(body, &c) == nil && c.Type == scheme.ChallengeType {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(scheme.Challenge{Challenge: c.Challenge})
		return
	}
	d, err := consumers.ParseJSON(body)
	switch {
	case err != nil:
	case d.ID.String() != id:
		err = errors.New("webhook-id is not the delivery's")
	case d.Mailbox != h.cfg.Mailbox:
		err = errors.New("it is addressed to another mailbox")
	}
	if err != nil {
		refuse(http.StatusBadRequest, err)
		return
	}
	_, err = h.seen.Once(ctx, d.ID, func() error {
		if err := h.handle(ctx, d); !errors.Is(err, consumers.ErrStop) {
			return err
		}
		return nil // it is handled, and there is nothing here to stop
	})
	if err != nil {
		h.cfg.Log.ErrorContext(ctx, "a delivery was not handled: it comes again", "delivery", d.ID, "err", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
