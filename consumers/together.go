package consumers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"datafordeler/broker"
)

// The outcomes of a question about several subjects together, beside LookupRefused and
// LookupUnavailable.
const (
	LookupAnswered LookupOutcome = "answered" // Answer has it
	// LookupUnanswered: everyone may be asked about, and there is no answer. Of whom or
	// why is not told: it would be something of somebody's record.
	LookupUnanswered LookupOutcome = "unanswered"
)

// TogetherAnswer is the answer to one question about several subjects.
type TogetherAnswer struct {
	Subscription broker.SubscriptionID
	Agreement    broker.AgreementID
	Dataset      broker.DatasetID
	Outcome      LookupOutcome
	// Answer is on all of them, by the rule of the rights package: a JSON object.
	Answer json.RawMessage
	// Subjects are all of them where it is answered, and where it is refused those of
	// whom it is.
	Subjects []TogetherSubject
	// Request is under which the decisions stand in the log; its last byte is 0 here, and
	// there the subject's place. It is zero where nothing was decided.
	Request broker.Digest
	// RetryAfter is when to ask again what was unavailable; 0 where that is not known.
	RetryAfter time.Duration
}

// TogetherSubject is one of those who were asked about.
type TogetherSubject struct {
	Place    int               `json:"place"` // in the question, from 1 on
	Decision broker.DecisionID `json:"decision"`
	Reasons  []LookupReason    `json:"reasons,omitempty"` // why it was refused
}

// Together asks one or several questions about several subjects, as one household: each
// question, under a subscription whose rights package has a rule across subjects, has
// one answer on all of them. Each subject is decided by itself, and there is an answer
// only where every one is permitted. It tries again when Lookup does.
func (l *Lookups) Together(ctx context.Context, subjects []string, questions ...LookupQuestion) ([]TogetherAnswer, error) {
	body := struct {
		Subjects []string         `json:"subjects"`
		Bundle   []LookupQuestion `json:"bundle"`
	}{subjects, questions}
	return put(ctx, l, body, len(questions), func(b []byte) ([]TogetherAnswer, error) { return readTogether(b, len(subjects)) })
}

// readTogether reads what the broker answers on so many subjects. Members that are not
// known are left alone: later versions may add some.
func readTogether(b []byte, subjects int) ([]TogetherAnswer, error) {
	var in struct {
		Answers []struct {
			Subscription broker.SubscriptionID `json:"subscription"`
			Agreement    broker.AgreementID    `json:"agreement"`
			Dataset      broker.DatasetID      `json:"dataset"`
			Outcome      LookupOutcome         `json:"outcome"`
			Answer       json.RawMessage       `json:"answer"`
			Subjects     []struct {
				Place    int            `json:"place"`
				Decision string         `json:"decision"`
				Reasons  []LookupReason `json:"reasons"`
			} `json:"subjects"`
			Request    string `json:"request"`
			RetryAfter int    `json:"retryAfter"`
		} `json:"answers"`
	}
	if len(b) > lookupBytes || json.Unmarshal(b, &in) != nil {
		return nil, errors.New("consumers: the answer is none that this version knows")
	}
	out := make([]TogetherAnswer, len(in.Answers))
	for i := range in.Answers {
		a := &in.Answers[i]
		out[i] = TogetherAnswer{Subscription: a.Subscription, Agreement: a.Agreement, Dataset: a.Dataset, Outcome: a.Outcome, Answer: a.Answer,
			RetryAfter: time.Duration(a.RetryAfter) * time.Second}
		switch a.Outcome {
		case LookupAnswered, LookupUnanswered, LookupRefused, LookupUnavailable:
		default: // nothing is made of what is not understood
			return nil, fmt.Errorf("consumers: answer %d has an outcome that this version does not know", i+1)
		}
		if has := bytes.HasPrefix(bytes.TrimSpace(a.Answer), []byte("{")); has != (a.Outcome == LookupAnswered) || has && len(a.Subjects) != subjects {
			return nil, fmt.Errorf("consumers: answer %d does not fit its outcome", i+1)
		}
		var err error
		if a.Request != "" {
			if out[i].Request, err = broker.ParseDigest(a.Request); err != nil {
				return nil, fmt.Errorf("consumers: answer %d: its request is none", i+1)
			}
		}
		for _, s := range a.Subjects {
			id, err := broker.ParseDigest(s.Decision)
			if err != nil || s.Place < 1 || s.Place > subjects {
				return nil, fmt.Errorf("consumers: answer %d: of subject %d", i+1, s.Place)
			}
			out[i].Subjects = append(out[i].Subjects, TogetherSubject{s.Place, id, s.Reasons})
		}
	}
	return out, nil
}
