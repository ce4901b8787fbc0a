package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/registry"
)

// Lookups decides and answers questions about one subject. It is used by several
// goroutines.
type Lookups interface {
	// LookUp answers each item by itself, in their order, with a decision that is
	// durable. An error is that none was answered: a *Problem for the caller, a
	// *HeldBack where nothing is decided just now, or another.
	LookUp(ctx context.Context, items []LookupItem, subject string) ([]LookupAnswer, error)
	// LookUpTogether answers each item on several subjects at once, by the rule across
	// subjects that its rights package has, with a durable decision for each subject.
	// Its errors are those of LookUp.
	LookUpTogether(ctx context.Context, items []LookupItem, subjects []string) ([]LookupAnswer, error)
}

// LookupItem is one question.
type LookupItem struct {
	Subscription broker.SubscriptionID
	Records      int // at the most
}

// HeldBack says that nothing is handed over just now. It passes.
type HeldBack struct {
	Why error
	// Stands is true where a decision stands in the log all the same, or may.
	Stands bool
}

func (e *HeldBack) Error() string { return e.Why.Error() }

func (e *HeldBack) Unwrap() error { return e.Why }

// LookupAnswer is the answer to one question. Nothing of another's shows in it.
type LookupAnswer struct {
	Subscription broker.SubscriptionID `json:"subscription"`
	Agreement    broker.AgreementID    `json:"agreement"`
	Dataset      broker.DatasetID      `json:"dataset"`
	Outcome      string                `json:"outcome" enum:"found,nothing,refused,unavailable,answered,unanswered" doc:"found: records has them. nothing: none concerns the subscription. refused: reasons says why. unavailable: it could not be found out, and nothing was decided; ask again. Of several subjects together, answered: answer has it; unanswered: it cannot be answered, and of whom or why is not told"`
	Decision     string                `json:"decision,omitempty" doc:"the decision, under which the ledger says why; of found, that of the newest record"`
	Reasons      []LookupReason        `json:"reasons,omitempty" doc:"why it was refused, all of them"`
	Records      []json.RawMessage     `json:"records,omitempty" doc:"CloudEvents 1.0 in JSON, the newest first, reduced to the fields that are agreed; each with its delivery's id and its decision"`
	Refused      []LookupRefused       `json:"refused,omitempty" doc:"records that may not be handed over, and why"`
	Answer       json.RawMessage       `json:"answer,omitempty" doc:"on all subjects together, by the rule of the rights package: an object"`
	Subjects     []LookupSubject       `json:"subjects,omitempty" doc:"of several subjects together: where it is answered, all of them; where it is refused, those of whom it is"`
	Request      string                `json:"request,omitempty" doc:"of several subjects together: under which their decisions stand in the log. The last two digits are 00 here, and there a subject's place"`
	Why          string                `json:"why,omitempty" doc:"why it is unavailable"`
	Status       int                   `json:"status,omitempty" doc:"of unavailable: 503, or 504 where a provider took too long"`
	RetryAfter   int                   `json:"retryAfter,omitempty" doc:"of unavailable: after so many seconds, where that is known"`
}

// LookupRefused is a record that may not be handed over.
type LookupRefused struct {
	Decision string         `json:"decision"`
	Reasons  []LookupReason `json:"reasons"`
}

// LookupSubject is one of several subjects that were asked about together.
type LookupSubject struct {
	Place    int            `json:"place" doc:"in the question, from 1 on"`
	Decision string         `json:"decision" doc:"the decision on this subject, under which the ledger says why"`
	Reasons  []LookupReason `json:"reasons,omitempty" doc:"why it was refused, of what the asker knows itself: its cases, consents and agreement"`
}

// LookupReason is a reason for a refusal, in words.
type LookupReason struct {
	Code    broker.Reason     `json:"code"`
	Message map[string]string `json:"message,omitempty" doc:"by language: nb, nn, en"`
	Remedy  map[string]string `json:"remedy,omitempty" doc:"what to do about it, by language"`
}

const (
	bundleMost = 20
	// togetherMost is how many subjects there may be, times questions.
	togetherMost = 40
	recordsMost  = 100
)

type lookupIn struct {
	Body struct {
		Subject  string   `json:"subject,omitempty" minLength:"1" maxLength:"64" doc:"whom it is about: a national identity number, an organisation number, or a property's id"`
		Subjects []string `json:"subjects,omitempty" minItems:"1" maxItems:"20" doc:"several, instead of one: a household. They are answered together, by the rule across subjects that the rights package has; each is decided by itself"`
		LookupName
		Bundle []LookupName `json:"bundle,omitempty" maxItems:"20" doc:"several questions about the same subject, instead of one; each is decided by itself"`
	}
}

// LookupName names what is asked under.
type LookupName struct {
	Subscription string `json:"subscription,omitempty" maxLength:"200" doc:"the subscription that looks up"`
	Agreement    string `json:"agreement,omitempty" maxLength:"200" doc:"or its agreement, where that has one such subscription"`
	Records      int    `json:"records,omitempty" minimum:"1" maximum:"100" doc:"how many at the most, the newest first; 1 where it is left out"`
}

type lookupOut struct {
	RetryAfter string `header:"Retry-After" doc:"where some are unavailable, and it is known for how long"`
	Body       struct {
		Answers []LookupAnswer `json:"answers" doc:"one for each question, in their order"`
	}
}

// RegisterLookups adds the questions about one subject.
func (s *Server) RegisterLookups(l Lookups) {
	Register(s, huma.Operation{OperationID: "lookUp", Method: http.MethodPost, Path: "/lookups", Tags: []string{"look up"},
		Summary: "What there is on one subject, now", Errors: []int{400, 401, 403, 409, 413, 422, 429, 503}, MaxBodyBytes: 16 << 10,
		Description: "Asks under a subscription that says `lookup: true`, or under several with `bundle`. Each question is decided by the same law as a delivery, its records are reduced to the agreed fields, " +
			"and its decision is durable before it is answered. The subject stands in the body and nowhere else. To ask again is to ask anew: each time is a decision of its own, " +
			"so Idempotency-Key is not taken, and no answer is kept here. On 503 nothing is handed over; a decision may stand in the log all the same.",
	}, Rule{Action: access.LookUp}, func(ctx context.Context, in *lookupIn) (*lookupOut, error) {
		b := &in.Body
		subject, subjects := b.Subject, b.Subjects
		b.Subject, b.Subjects = "", nil
		if (subject == "") == (len(subjects) == 0) {
			return nil, lookupFault("body", "name one subject, or several with subjects, and not both")
		}
		items, err := s.lookupItems(ctx, b.LookupName, b.Bundle, len(subjects))
		if err != nil {
			return nil, err
		}
		var answers []LookupAnswer
		if len(subjects) > 0 {
			answers, err = l.LookUpTogether(ctx, items, subjects)
		} else {
			answers, err = l.LookUp(ctx, items, subject)
		}
		if err != nil {
			return nil, err
		}
		out := &lookupOut{}
		out.Body.Answers = answers
		retry := 0
		for i := range answers {
			retry = max(retry, answers[i].RetryAfter)
		}
		if retry > 0 {
			out.RetryAfter = strconv.Itoa(retry)
		}
		return out, nil
	})
}

// lookupItems are the questions of a request, each of which its caller may ask. Who
// names what is another's, or nothing, is told the same, and nothing is decided.
// together is how many subjects it is about, where it is about several.
func (s *Server) lookupItems(ctx context.Context, one LookupName, bundle []LookupName, together int) ([]LookupItem, error) {
	names, place := bundle, "body.bundle[%d]"
	single := one != LookupName{}
	switch {
	case single && len(bundle) > 0:
		return nil, lookupFault("body", "name one subscription, or a bundle of them, and not both")
	case !single && len(bundle) == 0:
		return nil, lookupFault("body", "name a subscription, an agreement or a bundle of them")
	case len(bundle) > bundleMost:
		return nil, lookupFault("body.bundle", fmt.Sprintf("a bundle has %d questions at the most", bundleMost))
	case single:
		names, place = []LookupName{one}, "body"
	}
	if together*len(names) > togetherMost {
		return nil, lookupFault("body", fmt.Sprintf("%d subjects in %d questions; want at most %d of both together, multiplied", together, len(names), togetherMost))
	}
	items := make([]LookupItem, len(names))
	for i, n := range names {
		where := place
		if !single {
			where = fmt.Sprintf(place, i)
		}
		if n.Records < 0 || n.Records > recordsMost {
			return nil, lookupFault(where+".records", fmt.Sprintf("want 1 to %d", recordsMost))
		}
		if n.Subscription == "" && n.Agreement == "" {
			return nil, lookupFault(where, "name a subscription or an agreement")
		}
		r := access.Resource{Subscription: broker.SubscriptionID(n.Subscription), Agreement: broker.AgreementID(n.Agreement)}
		if err := s.Allow(ctx, access.LookUp, r); err != nil {
			return nil, err
		}
		sub, why := s.lookupSubscription(r, n.Records, together)
		if why != "" {
			return nil, lookupFault(where, why)
		}
		if slices.ContainsFunc(items[:i], func(o LookupItem) bool { return o.Subscription == sub }) {
			return nil, lookupFault(where, "the same subscription stands twice")
		}
		items[i] = LookupItem{sub, max(1, n.Records)}
	}
	return items, nil
}

// lookupSubscription is the one that is meant, of those that the caller may know of.
func (s *Server) lookupSubscription(r access.Resource, records, together int) (sub broker.SubscriptionID, why string) {
	s.view(func(st *registry.State) {
		defer func() {
			if why == "" {
				why = togetherFault(st.Terms(sub), records, together)
			}
		}()
		if r.Subscription != "" {
			if found := st.Subscription(r.Subscription); found != nil && found.Lookup {
				sub = found.ID
			} else {
				why = "the subscription does not look up; have it declared with lookup: true"
			}
			return
		}
		for _, x := range st.Subscriptions() {
			if x.Agreement != r.Agreement || !x.Lookup {
				continue
			}
			if sub != "" {
				why = "several subscriptions of the agreement look up; name one of them"
				return
			}
			sub = x.ID
		}
		if sub == "" {
			why = "no subscription of the agreement looks up; have one declared with lookup: true"
		}
	})
	return sub, why
}

// togetherFault says what does not fit between a question and its rights package.
func togetherFault(t *broker.Terms, records, together int) string {
	if t == nil || t.Package == nil {
		return "" // it is decided, and denied
	}
	h := t.Package.Household
	switch {
	case h == nil && together > 0:
		return "the rights package has no rule across subjects; ask about one subject at a time"
	case h != nil && together == 0:
		return "the rights package answers on several subjects together; name them in subjects"
	case h == nil:
		return ""
	case together < h.AtLeast() || together > h.Most:
		return fmt.Sprintf("%d subjects; the rights package answers on %d to %d", together, h.AtLeast(), h.Most)
	case records > 1:
		return "the rights package answers on the newest record of each subject; leave records out"
	}
	return ""
}

func lookupFault(where, why string) *Problem {
	p := NewProblem(http.StatusUnprocessableEntity, "the question cannot be asked as it stands")
	p.Faults = []*Fault{{Message: why, Location: where}}
	return p
}

// SubjectFault says that a subject is none of a dataset's kind. place is among several
// subjects, from 1 on; 0 where there is one.
func SubjectFault(place int, why string) *Problem {
	if place > 0 {
		return lookupFault(fmt.Sprintf("body.subjects[%d]", place-1), why)
	}
	return lookupFault("body.subject", why)
}

// LookedUp is what an answer hands over of a record.
type LookedUp struct {
	Delivery, Decision, Of string // Of: the delivery that it changes; "" for an original
	Type                   string
	Time                   time.Time
	Kind                   broker.RecordKind
	Provisional            bool
	Data                   []byte // JSON
}

// LookupEvent writes a record as a delivery would be written, without a mailbox.
func LookupEvent(a *LookupAnswer, provider broker.OrgNumber, r *LookedUp) (json.RawMessage, error) {
	event := struct {
		SpecVersion  string          `json:"specversion"`
		ID           string          `json:"id"`
		Source       string          `json:"source"`
		Type         string          `json:"type"`
		Time         string          `json:"time,omitempty"`
		ContentType  string          `json:"datacontenttype"`
		Subscription string          `json:"subscription"`
		Agreement    string          `json:"agreement"`
		Dataset      string          `json:"dataset"`
		Provider     string          `json:"provider"`
		Decision     string          `json:"decision"`
		Kind         string          `json:"recordkind"`
		Of           string          `json:"of,omitempty"`
		Provisional  bool            `json:"provisional,omitempty"`
		Data         json.RawMessage `json:"data"`
	}{"1.0", r.Delivery, "urn:datafordeler:dataset:" + string(a.Dataset), r.Type, "", "application/json",
		string(a.Subscription), string(a.Agreement), string(a.Dataset), string(provider), r.Decision, r.Kind.String(), r.Of, r.Provisional, r.Data}
	if !r.Time.IsZero() {
		event.Time = r.Time.UTC().Format(time.RFC3339Nano)
	}
	return json.Marshal(event)
}
