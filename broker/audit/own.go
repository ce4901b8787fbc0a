package audit

import (
	"context"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
)

// OwnQuestion asks what was decided on whoever asks.
type OwnQuestion struct {
	ID       Identifier // a person's
	From, To time.Time
	Limit    int
	Cursor   string
}

// OwnAnswer is a page of it, the newest first.
type OwnAnswer struct {
	Hits []store.Hit
	// Next is the cursor to what follows; "" where nothing does that the person may see.
	Next string
	// Destroyed are months that cannot be searched any more.
	Destroyed []string
}

// Own is what was decided on the person who asks, but for what a law lets them see later:
// neither its number nor its place shows, and there is no telling whether there is any.
func (d *Desk) Own(ctx context.Context, q OwnQuestion) (a OwnAnswer, err error) {
	if q.Limit < 1 || q.Limit > store.MaxLimit {
		return a, &QuestionError{"limit", "want 1 to 1000; what follows comes with the cursor"}
	}
	now := d.now()
	want := store.Query{From: q.From, To: q.To, Cursor: q.Cursor}
	if want.Subjects, a.Destroyed, err = d.Subjects.Pseudonyms(broker.Person, q.ID.Text(), now); err != nil {
		return a, err
	}
	for {
		// As many as are still wanted: so the last that was read is the last that is shown,
		// and the cursor names no other. Then one more, for whether anything follows.
		left := q.Limit - len(a.Hits)
		if want.Limit = left; left == 0 {
			want.Limit = lookAhead
		}
		page, err := d.search(ctx, Everything(), want)
		if err != nil {
			return a, err
		}
		visible := d.visible(page.Hits, now)
		if left == 0 {
			if len(visible) > 0 {
				return a, nil
			}
		} else if a.Hits = append(a.Hits, visible...); len(a.Hits) == q.Limit {
			a.Next = page.Next
		}
		if page.Next == "" {
			a.Next = ""
			return a, nil
		}
		want.Cursor = page.Next
	}
}

// lookAhead is how many are read at once to find whether anything follows.
const lookAhead = 100

// visible are those that the person may see by now.
func (d *Desk) visible(hits []store.Hit, now time.Time) (out []store.Hit) {
	d.Control.View(func(st *registry.State) {
		for _, h := range hits {
			// An agreement that is not known hides what was decided under it.
			if a := st.Agreement(h.Decision.Agreement); a != nil && (a.Visibility == nil || !a.Visible(h.Decision.Time).After(now)) {
				out = append(out, h)
			}
		}
	})
	return out
}
