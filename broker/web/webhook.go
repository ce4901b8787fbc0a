package web

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
)

// WebhookView is a mailbox's webhook as its owner sees it: never with its secret.
type WebhookView struct {
	URL    string    `json:"url"`
	Status string    `json:"status" enum:"unproven,in-use,paused,stopped,suspended,frozen" doc:"in-use: deliveries are sent; unproven: the endpoint has not answered its challenge; paused: it fails, and is asked more and more seldom; stopped: it answered 410, and must be challenged again; suspended, frozen: the mailbox is; nothing is sent before it goes on"`
	Why    string    `json:"why,omitempty" doc:"why it is stopped"`
	Set    time.Time `json:"set"`
	SetBy  string    `json:"setBy" doc:"which client of which organisation set the URL"`
	// Proven is when the endpoint answered its challenge.
	Proven    *time.Time `json:"proven,omitempty" doc:"when the endpoint answered its challenge"`
	PublicKey string     `json:"publicKey" doc:"for signatures v1a (Ed25519): verifies, and cannot sign"`
	// Overlap is until when the secret before this one signs too.
	Overlap     *time.Time `json:"overlap,omitempty" doc:"until when the previous secret signs beside this one"`
	Waiting     int        `json:"waiting" doc:"deliveries that were read and are not through, as of a second or so ago"`
	Poison      int        `json:"poison" doc:"deliveries that were tried as often as is done, and are yours to replay or drop"`
	LastAttempt *time.Time `json:"lastAttempt,omitempty"`
	LastOutcome string     `json:"lastOutcome,omitempty" doc:"accepted, or why not"`
	NextAttempt *time.Time `json:"nextAttempt,omitempty" doc:"where it is paused: no attempt before this"`
	// Version is the ETag's content.
	Version int64 `json:"-"`
}

// PoisonedView is a delivery that was tried in vain.
type PoisonedView struct {
	ID        broker.DeliveryID `json:"id" doc:"the delivery's, as in webhook-id"`
	First     time.Time         `json:"firstFailure"`
	At        time.Time         `json:"poisoned" doc:"when it was put here"`
	Attempts  int               `json:"attempts"`
	Why       string            `json:"why" doc:"what the last attempt came to"`
	Replaying bool              `json:"replaying" doc:"its replay is ordered, and not through"`
	Offset    int64             `json:"-"`
}

// Webhooks is what owners do with their mailboxes' endpoints. The caller may: that has
// been asked. Its errors for the caller are [*Problem]s.
type Webhooks interface {
	// Set names the endpoint. match is the ETag that the caller knows, "" for none.
	// secret is "" where it stays as it was.
	Set(ctx context.Context, c access.Caller, m broker.MailboxID, url, match string) (view WebhookView, secret string, err error)
	View(ctx context.Context, m broker.MailboxID) (WebhookView, error)
	// Challenge asks the endpoint to prove itself, and puts it in use if it does.
	Challenge(ctx context.Context, c access.Caller, m broker.MailboxID) (WebhookView, error)
	// Rotate makes a new secret. The one before signs too for so long.
	Rotate(ctx context.Context, c access.Caller, m broker.MailboxID, overlap time.Duration) (view WebhookView, secret string, err error)
	Remove(ctx context.Context, c access.Caller, m broker.MailboxID, match string) error
	// Poison lists what stands after an offset, at most so many.
	Poison(ctx context.Context, m broker.MailboxID, after int64, most int) (all []PoisonedView, more bool, err error)
	Replay(ctx context.Context, c access.Caller, m broker.MailboxID, id broker.DeliveryID) error
	Drop(ctx context.Context, c access.Caller, m broker.MailboxID, id broker.DeliveryID) error
}

// AppendEvent writes a delivery as the CloudEvent that feeds and webhooks hand over.
func AppendEvent(dst []byte, d *Delivery) []byte { return appendEvent(dst, d) }

type webhookBody struct {
	WebhookView
	Secret string `json:"secret,omitempty" doc:"for signatures v1 (HMAC): told this once, and kept by nobody; lose it, and rotate"`
}

type webhookAnswer struct {
	Status int
	ETag   string `header:"ETag"`
	Body   webhookBody
}

func answerWebhook(status int, v WebhookView, secret string) *webhookAnswer {
	return &webhookAnswer{status, WebhookETag(v.Version), webhookBody{v, secret}}
}

// WebhookETag is the entity tag of a version.
func WebhookETag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// mostPoison is how many are listed at once.
const mostPoison = 500

func poisonOf(m broker.MailboxID) string { return "poison/" + string(m) }

// RegisterWebhooks adds them: the endpoint that a mailbox's deliveries are sent to, and
// what could not be sent.
func (s *Server) RegisterWebhooks(k Webhooks) {
	const path = "/mailboxes/{mailbox}/webhook"
	const poison = "/mailboxes/{mailbox}/poison"
	rule := Rule{Action: access.Receive}
	type Named struct {
		Mailbox broker.MailboxID `path:"mailbox" doc:"a mailbox of the caller's that receives by webhook"`
	}
	op := func(id, method, path string, status int, summary, description string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, DefaultStatus: status, Tags: []string{"webhooks"}, Summary: summary, Description: description}
	}
	Register(s, op("set-webhook", http.MethodPut, path, http.StatusOK, "Say where a mailbox's deliveries are to be sent",
		"A new webhook gets a secret, which is told this once. A URL that is another is in use only when it has answered its challenge. To change one, name its ETag in If-Match."),
		rule, func(ctx context.Context, in *struct {
			Named
			Match string `header:"If-Match" maxLength:"80" doc:"the ETag of the webhook that is changed; not for a new one"`
			Body  struct {
				URL string `json:"url" minLength:"1" maxLength:"2000" doc:"https, on the internet" example:"https://mottak.example.no/datafordeler"`
			}
		}) (*webhookAnswer, error) {
			v, secret, err := k.Set(ctx, CallerOf(ctx), in.Mailbox, in.Body.URL, in.Match)
			if err != nil {
				return nil, err
			}
			status := http.StatusOK
			if secret != "" {
				status = http.StatusCreated
			}
			return answerWebhook(status, v, secret), nil
		})
	Register(s, op("get-webhook", http.MethodGet, path, http.StatusOK, "Where a mailbox's deliveries are sent, and how that goes", "Never with its secret."),
		rule, func(ctx context.Context, in *struct{ Named }) (*webhookAnswer, error) {
			v, err := k.View(ctx, in.Mailbox)
			if err != nil {
				return nil, err
			}
			return answerWebhook(http.StatusOK, v, ""), nil
		})
	Register(s, op("challenge-webhook", http.MethodPost, path+"/challenge", http.StatusOK, "Have the endpoint prove itself",
		`The broker posts {"type":"datafordeler.challenge","challenge":"…"}, signed as deliveries are. The endpoint answers 2xx with {"challenge":"…"}, the same. Then it is in use.`),
		rule, func(ctx context.Context, in *struct{ Named }) (*webhookAnswer, error) {
			v, err := k.Challenge(ctx, CallerOf(ctx), in.Mailbox)
			if err != nil {
				return nil, err
			}
			return answerWebhook(http.StatusOK, v, ""), nil
		})
	Register(s, op("rotate-webhook", http.MethodPost, path+"/rotate", http.StatusCreated, "Get a new secret",
		"Told this once. For the overlap, all that is sent has signatures by both."),
		rule, func(ctx context.Context, in *struct {
			Named
			Body *struct {
				OverlapSeconds int64 `json:"overlapSeconds,omitempty" minimum:"0" maximum:"604800" default:"86400" doc:"for how many seconds the previous secret signs too"`
			}
		}) (*webhookAnswer, error) {
			overlap := 24 * time.Hour
			if in.Body != nil {
				overlap = time.Duration(in.Body.OverlapSeconds) * time.Second
			}
			v, secret, err := k.Rotate(ctx, CallerOf(ctx), in.Mailbox, overlap)
			if err != nil {
				return nil, err
			}
			return answerWebhook(http.StatusCreated, v, secret), nil
		})
	Register(s, op("remove-webhook", http.MethodDelete, path, http.StatusNoContent, "Take the webhook back",
		"Nothing is sent any more. What is in the mailbox stays until its retention ends."),
		rule, func(ctx context.Context, in *struct {
			Named
			Match string `header:"If-Match" maxLength:"80"`
		}) (*struct{}, error) {
			return nil, k.Remove(ctx, CallerOf(ctx), in.Mailbox, in.Match)
		})
	type poisonList struct {
		Body struct {
			Deliveries []PoisonedView `json:"deliveries"`
			Next       string         `json:"next" doc:"the cursor to go on from"`
			More       bool           `json:"more"`
		}
	}
	Register(s, op("list-poison", http.MethodGet, poison, http.StatusOK, "The deliveries of a mailbox that its endpoint did not take",
		"In the order in which they were delivered. What they hold is kept as long as the mailbox's other deliveries."),
		rule, func(ctx context.Context, in *struct {
			Named
			After string `query:"after" maxLength:"80" doc:"go on from this cursor, that next said"`
			Limit int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
		}) (*poisonList, error) {
			c := Cursor{Feed: poisonOf(in.Mailbox), Offset: 0}
			if in.After != "" {
				var err error
				if c, err = ParseCursor(c.Feed, in.After); err != nil {
					return nil, NewProblem(http.StatusBadRequest, err.Error())
				}
			}
			all, more, err := k.Poison(ctx, in.Mailbox, c.Offset-1, min(max(in.Limit, 1), mostPoison))
			if err != nil {
				return nil, err
			}
			out := &poisonList{}
			out.Body.Deliveries = append([]PoisonedView{}, all...) // an empty list is one
			out.Body.More = more
			if len(all) > 0 {
				c.Offset = all[len(all)-1].Offset + 1
			}
			out.Body.Next = c.String()
			return out, nil
		})
	type one struct {
		Named
		Delivery string `path:"delivery" minLength:"32" maxLength:"32" pattern:"^[0-9a-f]{32}$" doc:"the delivery's id"`
	}
	of := func(in *one) (id broker.DeliveryID, err error) {
		if id.UnmarshalText([]byte(in.Delivery)) != nil {
			return id, NewProblem(http.StatusBadRequest, "a delivery's id is 32 hexadecimal characters")
		}
		return id, nil
	}
	Register(s, op("replay-poison", http.MethodPost, poison+"/{delivery}/replay", http.StatusAccepted, "Send one of them again",
		"It is tried as a new one is, behind what its subject has waiting, and leaves this list when it arrived."),
		rule, func(ctx context.Context, in *one) (*struct{}, error) {
			id, err := of(in)
			if err != nil {
				return nil, err
			}
			return nil, k.Replay(ctx, CallerOf(ctx), in.Mailbox, id)
		})
	Register(s, op("drop-poison", http.MethodDelete, poison+"/{delivery}", http.StatusNoContent, "Give one of them up", "It is not sent."),
		rule, func(ctx context.Context, in *one) (*struct{}, error) {
			id, err := of(in)
			if err != nil {
				return nil, err
			}
			return nil, k.Drop(ctx, CallerOf(ctx), in.Mailbox, id)
		})
}
