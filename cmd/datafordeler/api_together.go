package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"

	"datafordeler/broker"
	finding "datafordeler/broker/flow/lookup"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
)

// LookUpTogether answers on several subjects at once.
func (l *lookupAPI) LookUpTogether(ctx context.Context, items []web.LookupItem, subjects []string) ([]web.LookupAnswer, error) {
	asked := make([]finding.Item, len(items))
	ids := slices.Clone(subjects)
	var fault error
	l.view(func(st *registry.State) {
		for i, x := range items {
			asked[i] = finding.Item{Subscription: x.Subscription, Records: 1}
			if t := st.Terms(x.Subscription); t != nil && fault == nil {
				ids, fault = membersOf(t.Dataset, ids)
			}
		}
	})
	if fault != nil {
		return nil, fault
	}
	results, err := l.service.LookUpTogether(ctx, asked, ids)
	if err != nil {
		return nil, heldBack(err)
	}
	answers := make([]web.LookupAnswer, len(results))
	for i := range results {
		if answers[i], err = l.together(items[i].Subscription, &results[i]); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// membersOf are subjects as a dataset names them, each once.
func membersOf(ds *broker.Dataset, subjects []string) ([]string, error) {
	out := make([]string, len(subjects))
	for i, s := range subjects {
		ids, err := subjectsOf(ds, []listedID{{s, 1}})
		if err != nil {
			// Never the error itself: it may repeat what was asked for.
			return nil, web.SubjectFault(i+1, fmt.Sprintf("dataset %s is about subjects of kind %s, and this is no identifier of one", ds.ID, ds.Subject.Kind))
		}
		if out[i] = ids[0]; slices.Contains(out[:i], out[i]) {
			return nil, web.SubjectFault(i+1, "the same subject stands twice")
		}
	}
	return out, nil
}

// together says what the asker may know. Of a household that is refused it is told the
// reasons that lie with itself, and of whom. Of one that cannot be answered it is told
// nothing more: why would be something of somebody's record.
func (l *lookupAPI) together(sub broker.SubscriptionID, r *finding.Together) (web.LookupAnswer, error) {
	a := web.LookupAnswer{Subscription: sub, Outcome: "unavailable"}
	if r.Terms != nil {
		a.Agreement, a.Dataset = r.Terms.Agreement.ID, r.Terms.Dataset.ID
	}
	if r.Unavailable != nil {
		a.Why, a.Status = "what there is on the subjects could not be found out just now; nothing was decided", http.StatusServiceUnavailable
		if p, ok := errors.AsType[*finding.ProviderError](r.Unavailable); ok {
			a.Why, a.RetryAfter = "the provider did not answer", int(math.Ceil(p.After.Seconds()))
			if p.Timeout {
				a.Status = http.StatusGatewayTimeout
			}
		}
		return a, nil
	}
	if len(r.Answers) == 0 {
		return a, errors.New("a question has no answer")
	}
	request, _ := broker.HouseholdOf(r.Answers[0].Request)
	a.Request = request.String()
	refused := r.Refused()
	for i := range r.Answers {
		x := &r.Answers[i]
		told := x.Told()
		if r.Answer == nil && len(told) == 0 {
			continue
		}
		a.Subjects = append(a.Subjects, web.LookupSubject{Place: i + 1, Decision: x.Decision.String(), Reasons: l.words(told)})
	}
	switch {
	case r.Answer != nil:
		a.Outcome, a.Answer = "answered", r.Answer
	case refused:
		a.Outcome = "refused"
	default:
		a.Outcome = "unanswered"
	}
	return a, nil
}
