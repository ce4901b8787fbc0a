package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
)

// Rejections is what the feed of refused records asks of the broker. Open gives the
// log of a dataset; nil means that there is no such dataset.
type Rejections struct {
	Open func(context.Context, broker.DatasetID) (RejectionLog, error)
}

// RejectionLog is what intake refused of one dataset, in one order.
type RejectionLog interface {
	// Topic is the id of the topic that the offsets are of.
	Topic() [16]byte
	// First is the oldest offset that is kept.
	First(context.Context) (int64, error)
	// Read returns committed records from an offset on, at most so many, and the
	// offset to read on from. Where there are none it waits for so long. A *LogGone
	// says that the log does not hold the offset.
	Read(ctx context.Context, from int64, most int, wait time.Duration) ([]RejectedRecord, int64, error)
}

// RejectedRecord is a message of the topic rejected.<dataset>.
type RejectedRecord struct {
	Value      []byte
	ID, Source string // as the provider wrote them; may be empty
}

// LogGone says that a log holds [Start, End), and not what was asked for.
type LogGone struct{ Start, End int64 }

func (e *LogGone) Error() string {
	return fmt.Sprintf("the log holds offsets %d to %d only", e.Start, e.End)
}

// RefusedRecord is a record that intake refused, as its provider reads it.
type RefusedRecord struct {
	Reason    broker.RejectionCode `json:"reason" doc:"for programs"`
	Detail    string               `json:"detail" doc:"for people; it holds no value of the record"`
	Pointer   string               `json:"pointer,omitempty" doc:"where in the payload, as a JSON Pointer, where that is known"`
	Partition int32                `json:"partition" doc:"where the record stands in the source topic"`
	Offset    int64                `json:"offset" doc:"where the record stands in the source topic"`
	At        time.Time            `json:"at" doc:"when it was refused"`
	ID        string               `json:"id,omitempty" doc:"the event's id, as you wrote it; not of structured events over Kafka, nor where it is very long"`
	Source    string               `json:"source,omitempty" doc:"the event's source, as you wrote it"`
}

// RefusedPage is a page of the feed.
type RefusedPage struct {
	Rejections []RefusedRecord `json:"rejections"`
	Next       string          `json:"next" doc:"give it as after, to go on; it is there on an empty page too"`
}

const longestWait = 55 // seconds: below what proxies in between allow for

// RegisterRejections adds the feed of refused records.
func (s *Server) RegisterRejections(r Rejections) {
	type in struct {
		Dataset broker.DatasetID `path:"dataset"`
		After   string           `query:"after" doc:"the cursor that the page before named as next; without it, from the oldest that is kept"`
		Limit   int              `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"the most records on the page"`
		Wait    int              `query:"wait" minimum:"0" maximum:"55" doc:"how many seconds to wait for the first, where there is none"`
	}
	type out struct{ Body RefusedPage }
	Register(s, huma.Operation{
		OperationID: "rejections", Method: http.MethodGet, Path: "/datasets/{dataset}/rejections", Tags: []string{"provider"},
		Summary: "What was refused of a dataset of your own, and why",
		Description: "Records that came over Kafka, and those that only the whole stream shows to be wrong (an id used again for other content). " +
			"What the HTTP API itself rejects stands in its answer, and nowhere else: nothing was kept of it.",
		Errors: []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusGone},
	}, Rule{Action: access.ReadRejections}, func(ctx context.Context, q *in) (*out, error) {
		page, err := s.refused(ctx, r, q.Dataset, q.After, q.Limit, time.Duration(min(q.Wait, longestWait))*time.Second)
		if err != nil {
			return nil, err
		}
		return &out{*page}, nil
	})
}

func (s *Server) refused(ctx context.Context, r Rejections, id broker.DatasetID, after string, limit int, wait time.Duration) (*RefusedPage, error) {
	// What waits when the server stops answers with what there is.
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-s.Draining():
			cancel()
		case <-ended:
		}
	}()
	log, err := r.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	if log == nil {
		return nil, NewProblem(http.StatusNotFound, "the dataset is not registered")
	}
	feed := "rejections/" + string(id)
	at := Cursor{Feed: feed, Topic: log.Topic()}
	if after == "" {
		if at.Offset, err = log.First(ctx); err != nil {
			return nil, err
		}
	} else {
		c, err := ParseCursor(feed, after)
		if err != nil {
			return nil, NewProblem(http.StatusBadRequest, "after: "+err.Error())
		}
		if c.Topic != at.Topic {
			if at.Offset, err = log.First(ctx); err != nil {
				return nil, err
			}
			return nil, gone(at, "the topic was made anew since; read it from its beginning")
		}
		at = c
	}
	page := &RefusedPage{Rejections: []RefusedRecord{}}
	records, next, err := log.Read(reading, at.Offset, limit, wait)
	var lost *LogGone
	switch {
	case errors.As(err, &lost) && at.Offset < lost.Start:
		at.Offset = lost.Start
		return nil, gone(at, "what the cursor points to is older than what is kept; some rejections are gone unread")
	case errors.As(err, &lost):
		p := NewProblem(http.StatusConflict, "the cursor points beyond the end of the log: this broker has less than the one that gave it; ask again later, and if it stays so, report it")
		p.Type, p.Title = CursorAhead, "Cursor ahead of the log"
		return nil, p
	case err != nil && reading.Err() != nil && ctx.Err() == nil: // the server stops
		page.Next = at.String()
		return page, nil
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	}
	for i := range records {
		one, err := readRejection(&records[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", feed, err)
		}
		page.Rejections = append(page.Rejections, one)
	}
	at.Offset = next
	page.Next = at.String()
	return page, nil
}

func gone(at Cursor, why string) *Problem {
	p := NewProblem(http.StatusGone, why+"; resync is where to go on")
	p.Type, p.Title = CursorGone, "Cursor no longer kept"
	p.Resync = at.String()
	return p
}

// readRejection reads what deliver.AppendRejection writes.
func readRejection(r *RejectedRecord) (RefusedRecord, error) {
	var v struct {
		V int `json:"v"`
		RefusedRecord
	}
	if err := json.Unmarshal(r.Value, &v); err != nil {
		return RefusedRecord{}, err
	}
	if v.V != 1 {
		return RefusedRecord{}, fmt.Errorf("a rejection of format %d, which this version does not read", v.V)
	}
	v.ID, v.Source = r.ID, r.Source
	return v.RefusedRecord, nil
}
