package consentfeed

import (
	"context"
	"errors"
	"fmt"
)

// Reader goes through a feed. One goroutine uses it.
type Reader struct {
	// Get gives a page; see [Source.Get].
	Get func(ctx context.Context, page string) (Page, error)

	been map[string]bool // pages left behind, since the last gap
}

// Batch is what is new in one page.
type Batch struct {
	// Page is the page's name, and Before are its entries that were taken before.
	Page   string
	Before []Event
	Events []Event
	// More says that the page is full, so there may be another behind it.
	More bool
}

// After is the place when the first n of the new entries are taken.
func (b *Batch) After(n int) Place {
	return PlaceIn(b.Page, append(b.Before[:len(b.Before):len(b.Before)], b.Events[:n]...))
}

// Read gives what comes after a place: what is new in its page, and where nothing is, and
// the page is full, the page behind it. No events is that there is nothing new; then the
// place stands, so that a page with entries is always read again.
func (r *Reader) Read(ctx context.Context, at Place) (*Batch, error) {
	p, err := r.Get(ctx, at.Page)
	if err != nil {
		return nil, err
	}
	if len(p.Events) < at.Entries || PlaceIn(at.Page, p.Events[:at.Entries]) != at {
		return nil, ErrGap
	}
	b := &Batch{at.Page, p.Events[:at.Entries], p.Events[at.Entries:], p.Next != ""}
	if len(b.Events) > 0 || !b.More {
		return b, nil
	}
	if p.Next == at.Page || r.been[p.Next] {
		return nil, errors.New("the feed goes round: it names a page behind that comes before")
	}
	behind, err := r.Get(ctx, p.Next)
	if errors.Is(err, ErrGap) {
		// It was named a moment ago: to begin anew would come here again.
		return nil, fmt.Errorf("the page behind: %s", err)
	}
	if err != nil {
		return nil, err
	}
	if len(behind.Events) == 0 {
		b.More = false
		return b, nil
	}
	if r.been == nil {
		r.been = map[string]bool{}
	}
	r.been[at.Page] = true
	return &Batch{Page: p.Next, Events: behind.Events, More: behind.Next != ""}, nil
}

// Anew forgets which pages were read: the feed is read from its beginning again.
func (r *Reader) Anew() { r.been = nil }
