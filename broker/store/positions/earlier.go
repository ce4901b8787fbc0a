package positions

import (
	"context"
	"database/sql"
	"fmt"

	"datafordeler/broker"
)

// Link is a record of a chain, with what single decisions say of it.
type Link struct {
	Entry
	Given map[broker.SubscriptionID]Given
}

// maxLinks bounds how far a chain is followed.
const maxLinks = 64

// Earlier follows a chain from an event that a record on a subject names: that event's
// record, the one that it names itself if it is a correction or retraction, and so on to
// an original. Only records on the same subject are seen. whole is false where one is
// not in the index, because the log does not keep it any more or never had it, or where
// they go round: what lies before it is not known.
func (x *Index) Earlier(ctx context.Context, dataset broker.DatasetID, subject broker.SubjectKey, of broker.EventHash) (links []Link, whole bool, err error) {
	x.mu.RLock()
	v := view{x: x, dataset: dataset, sources: x.sources}
	x.mu.RUnlock()
	if v.tx, err = x.reading.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}); err != nil {
		return nil, false, fmt.Errorf("positions: %w", err)
	}
	defer v.tx.Rollback() // it has read only
	here := firsts{}
	if err = v.query(ctx, x.ofSubject, subject, func(rs *sql.Rows) error {
		e, ok, err := v.entry(rs)
		if ok && err == nil {
			here.add(e)
		}
		return err
	}); err != nil {
		return nil, false, fmt.Errorf("positions: %w", err)
	}
	for len(links) < maxLinks {
		e := here[of]
		if e == nil {
			return links, false, nil
		}
		delete(here, of)
		l := Link{Entry: *e, Given: map[broker.SubscriptionID]Given{}}
		if err := v.query(ctx, x.given, e.Event, func(rs *sql.Rows) error {
			var sub string
			var what int64
			err := rs.Scan(&sub, &what)
			l.Given[broker.SubscriptionID(sub)] |= Given(what)
			return err
		}); err != nil {
			return nil, false, fmt.Errorf("positions: %w", err)
		}
		links = append(links, l)
		if e.Kind == broker.Original {
			return links, true, nil
		}
		of = e.Of
	}
	return links, false, nil
}
