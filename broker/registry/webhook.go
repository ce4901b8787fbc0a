package registry

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"datafordeler/broker"
)

// Webhook is where a mailbox's owner wants its deliveries sent. Its secret stands
// nowhere: it follows from the keystore, the mailbox and Generation, which counts up
// and never comes again, not even after the webhook was removed.
type Webhook struct {
	Mailbox    broker.MailboxID `json:"mailbox"`
	URL        string           `json:"url"`
	Generation int              `json:"generation"`
}

// WebhookProof says that an endpoint answered its challenge. Endpoint is the revision
// that set it, so that a late answer proves no other.
type WebhookProof struct {
	Mailbox  broker.MailboxID `json:"mailbox"`
	Endpoint broker.Revision  `json:"endpoint"`
}

// WebhookRotation begins a new secret. Until Overlap both sign.
type WebhookRotation struct {
	Mailbox    broker.MailboxID `json:"mailbox"`
	Generation int              `json:"generation"`
	Overlap    time.Time        `json:"overlap"`
}

// WebhookStop takes an endpoint out of use until it is proven again.
type WebhookStop struct {
	Mailbox  broker.MailboxID `json:"mailbox"`
	Endpoint broker.Revision  `json:"endpoint"`
	Reason   string           `json:"reason"`
}

// WebhookRemoval takes the webhook back.
type WebhookRemoval struct {
	Mailbox broker.MailboxID `json:"mailbox"`
}

// SetWebhook names the endpoint of a mailbox, and its first secret's generation:
// [State.WebhookGeneration] says which.
func SetWebhook(w Webhook) Change { return change(WebhookSet, w) }

// ProveWebhook puts an endpoint in use.
func ProveWebhook(m broker.MailboxID, endpoint broker.Revision) Change {
	return change(WebhookProven, WebhookProof{m, endpoint})
}

// RotateWebhook begins the next secret.
func RotateWebhook(m broker.MailboxID, generation int, overlap time.Time) Change {
	return change(WebhookRotated, WebhookRotation{m, generation, overlap.UTC()})
}

// StopWebhook takes an endpoint out of use.
func StopWebhook(m broker.MailboxID, endpoint broker.Revision, reason string) Change {
	return change(WebhookStopped, WebhookStop{m, endpoint, reason})
}

// RemoveWebhook takes the webhook back.
func RemoveWebhook(m broker.MailboxID) Change { return change(WebhookRemoved, WebhookRemoval{m}) }

// WebhookState is what the registry knows of a mailbox's webhook.
type WebhookState struct {
	Webhook
	// Endpoint is the revision that set the URL: it names what is proven.
	Endpoint broker.Revision `json:"endpoint"`
	// Changed is the last revision that changed anything here.
	Changed broker.Revision `json:"changed"`
	Set     time.Time       `json:"set"`
	SetBy   string          `json:"setBy"`
	Proven  time.Time       `json:"proven"`  // zero: not, or not any more
	Stopped time.Time       `json:"stopped"` // zero: it was not taken out of use
	Why     string          `json:"why"`     // it was stopped
	// Previous is the generation that signs beside this one until Overlap; 0 is none.
	Previous int       `json:"previous"`
	Overlap  time.Time `json:"overlap"`
	Removed  bool      `json:"removed"`
}

// maxWebhookURL is in bytes.
const maxWebhookURL = 2000

// CheckWebhookURL says what no endpoint's address may be. What addresses may be
// reached is for whoever sends.
func CheckWebhookURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case len(text) > maxWebhookURL:
		return fmt.Errorf("the URL is longer than %d bytes", maxWebhookURL)
	case err != nil || u.Opaque != "" || u.Host == "" || u.Hostname() == "":
		return fmt.Errorf("write a whole URL, such as https://mottak.example.no/datafordeler")
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("write a URL that begins with https://")
	case u.User != nil:
		return fmt.Errorf("the URL holds a name or a password: deliveries are signed instead, and the signature is yours to check")
	case u.Fragment != "" || strings.Contains(text, "#"):
		return fmt.Errorf("the URL has a part after #, which is never sent")
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return fmt.Errorf("the URL has characters that must be escaped")
	case elevenDigits(text):
		return fmt.Errorf("the URL holds eleven digits in a row: it could be a person's number")
	}
	return nil
}

func (s *State) refuseWebhook(v *Webhook) string {
	b := s.mailboxes[v.Mailbox]
	switch {
	case b == nil:
		return unknown("mailbox", v.Mailbox)
	case b.Channel != broker.Webhook:
		return fmt.Sprintf("mailbox %s does not receive by webhook", v.Mailbox)
	case v.Generation != s.WebhookGeneration(v.Mailbox):
		return fmt.Sprintf("the secret of mailbox %s is of generation %d, not %d", v.Mailbox, s.WebhookGeneration(v.Mailbox), v.Generation)
	}
	if err := CheckWebhookURL(v.URL); err != nil {
		return err.Error()
	}
	return ""
}

// standing finds a webhook that was not removed.
func (s *State) standing(m broker.MailboxID) (WebhookState, string) {
	w, ok := s.webhooks[m]
	if !ok || w.Removed {
		return w, fmt.Sprintf("mailbox %s has no webhook", m)
	}
	return w, ""
}

func (s *State) refuseWebhookChange(m broker.MailboxID, p payload) string {
	w, none := s.standing(m)
	if none != "" {
		return none
	}
	switch v := p.(type) {
	case *WebhookProof:
		if v.Endpoint != w.Endpoint {
			return fmt.Sprintf("mailbox %s has another endpoint by now", m)
		}
		if !w.Proven.IsZero() {
			return fmt.Sprintf("the endpoint of mailbox %s is proven already", m)
		}
	case *WebhookRotation:
		if v.Generation != w.Generation+1 {
			return fmt.Sprintf("the next secret of mailbox %s is of generation %d, not %d", m, w.Generation+1, v.Generation)
		}
	case *WebhookStop:
		if v.Endpoint != w.Endpoint || w.Proven.IsZero() {
			return fmt.Sprintf("the endpoint of mailbox %s is another by now, or is not in use", m)
		}
		if strings.TrimSpace(v.Reason) == "" {
			return "an endpoint is taken out of use for a reason"
		}
		return faultyReason(v.Reason)
	}
	return ""
}

// applyWebhook changes what is known of one webhook. refuse has had its say.
func (s *State) applyWebhook(p payload, e *Event) {
	s.hooked = e.Seq
	switch v := p.(type) {
	case *Webhook:
		old := s.webhooks[v.Mailbox]
		w := WebhookState{Webhook: *v, Endpoint: e.Seq, Changed: e.Seq, Set: e.At, SetBy: e.Actor}
		if !old.Removed {
			w.Previous, w.Overlap = old.Previous, old.Overlap
		}
		s.webhooks[v.Mailbox] = w
	case *WebhookProof:
		w := s.webhooks[v.Mailbox]
		w.Proven, w.Stopped, w.Why, w.Changed = e.At, time.Time{}, "", e.Seq
		s.webhooks[v.Mailbox] = w
	case *WebhookRotation:
		w := s.webhooks[v.Mailbox]
		w.Previous, w.Overlap, w.Generation, w.Changed = w.Generation, v.Overlap, v.Generation, e.Seq
		s.webhooks[v.Mailbox] = w
	case *WebhookStop:
		w := s.webhooks[v.Mailbox]
		w.Proven, w.Stopped, w.Why, w.Changed = time.Time{}, e.At, v.Reason, e.Seq
		s.webhooks[v.Mailbox] = w
	case *WebhookRemoval:
		w := s.webhooks[v.Mailbox]
		s.webhooks[v.Mailbox] = WebhookState{Webhook: Webhook{Mailbox: v.Mailbox, Generation: w.Generation}, Changed: e.Seq, Removed: true}
	default:
		panic(fmt.Sprintf("registry: %T is nothing of a webhook", p))
	}
}

// Webhook is a mailbox's webhook; ok is false where there is none.
func (s *State) Webhook(m broker.MailboxID) (w WebhookState, ok bool) {
	w, none := s.standing(m)
	return w, none == ""
}

// WebhookGeneration is the generation that setting a mailbox's endpoint must name:
// the one that stands, or the next where the webhook is new.
func (s *State) WebhookGeneration(m broker.MailboxID) int {
	w, none := s.standing(m)
	if none != "" {
		return w.Generation + 1
	}
	return w.Generation
}

// WebhookRevision is the last revision that may have changed who is sent what where;
// only the clock can besides.
func (s *State) WebhookRevision() broker.Revision { return max(s.structure, s.hooked) }
