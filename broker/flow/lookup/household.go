package lookup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/registry"
)

// Together is the answer to one question about several subjects.
type Together struct {
	Terms *broker.Terms
	// Answers are one for each subject, in their order. What they say of a record is for
	// nobody but the log: who asked is told Answer, or Refused, or that there is none.
	Answers []flow.Answer
	// Answer is a JSON object; nil where there is none.
	Answer []byte
	// Unavailable says why it could not be found out what there is. Nothing was decided.
	Unavailable error
}

// Refused reports whether some are refused whatever records there are.
func (t *Together) Refused() bool {
	return t.Answer == nil && slices.ContainsFunc(t.Answers, func(a flow.Answer) bool { return len(a.Told()) > 0 })
}

// LookUpTogether asks about several subjects at once under each item, whose packages
// have a rule across subjects, and answers each by itself. Where one subject is refused
// whatever records there are, no record of any is read, and no provider is asked. Its
// error is of all items, and then none was answered.
func (s *Service) LookUpTogether(ctx context.Context, items []Item, subjects []string) ([]Together, error) {
	results := make([]Together, len(items))
	todo := make([]int, len(items))
	for i := range items {
		todo[i] = i
	}
	for range tries {
		var questions []flow.Question
		var at []int // of each question, its item
		households := 0
		for _, i := range todo {
			members, err := s.household(ctx, items[i].Subscription, &results[i], subjects)
			if held, ok := errors.AsType[*flow.HeldError](err); ok {
				return nil, held
			}
			results[i].Answers, results[i].Answer, results[i].Unavailable = nil, nil, err
			if len(members) > 0 {
				households++
			}
			for k := range members {
				members[k].Household = households
				questions, at = append(questions, members[k]), append(at, i)
			}
		}
		todo = todo[:0]
		if len(questions) == 0 {
			break
		}
		answers, err := s.Committer.Decide(ctx, questions)
		if err != nil {
			return nil, err
		}
		for k, i := range at {
			r := &results[i]
			r.Answers, r.Answer = append(r.Answers, answers[k]), answers[k].Together
			if answers[k].Again && !slices.Contains(todo, i) {
				todo = append(todo, i)
			}
		}
		if len(todo) == 0 {
			break
		}
	}
	for i := range results {
		r := &results[i]
		if slices.Contains(todo, i) {
			r.Answers, r.Answer, r.Unavailable = nil, nil, fmt.Errorf("%w: what it rests on keeps changing", ErrUnavailable)
		}
		s.countTogether(r)
	}
	return results, nil
}

func (s *Service) countTogether(t *Together) {
	r := Result{Terms: t.Terms, Unavailable: t.Unavailable}
	if t.Answer != nil {
		r.Records = make([]flow.LookedUp, 1)
	}
	s.count(&r)
}

// household finds what there is on each subject, where it may be of use.
func (s *Service) household(ctx context.Context, sub broker.SubscriptionID, r *Together, subjects []string) ([]flow.Question, error) {
	s.View(func(st *registry.State) { r.Terms = st.Terms(sub) })
	if r.Terms == nil {
		return nil, fmt.Errorf("%w: the subscription is not declared", ErrUnavailable)
	}
	if h := r.Terms.Package.Household; h == nil || len(subjects) < h.AtLeast() || len(subjects) > h.Most {
		return nil, fmt.Errorf("%w: its package has no rule across so many subjects any more", ErrUnavailable)
	}
	out := make([]flow.Question, len(subjects))
	unread := false
	for i, id := range subjects {
		out[i] = flow.Question{Subscription: sub, Subject: s.Hasher.Subject(r.Terms.Dataset.Subject.Kind, id)}
		refused, err := s.Committer.Refused(ctx, sub, out[i].Subject)
		if err != nil {
			return nil, err
		}
		unread = unread || refused // of the others it is asked all the same: how long it takes tells nothing
	}
	if unread {
		for i := range out {
			out[i].Unread = true
		}
		return out, nil
	}
	errs := make([]error, len(out))
	var g sync.WaitGroup
	for i := range out {
		g.Go(func() {
			out[i].Found, errs[i] = s.find(ctx, r.Terms.Dataset, &Item{sub, 1}, out[i].Subject, subjects[i])
		})
	}
	g.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
