package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
	"datafordeler/policy"
)

// Decision is a decision as it is written in JSON.
type Decision struct {
	ID           broker.DecisionID     `json:"id"`
	Kind         string                `json:"kind" enum:"stream,backfill,lookup,door,notice" doc:"stream: when the record was published; backfill: afterwards, on a record published before; lookup: to somebody who asked; door: withheld after all; notice: whether a consumer is told, without data, that what it was delivered has been corrected or retracted"`
	Request      *broker.Digest        `json:"request,omitempty" doc:"of a lookup: decisions with the same one were answered together"`
	Dataset      broker.DatasetID      `json:"dataset"`
	TopicID      broker.Digest         `json:"topic_id"`
	Partition    int32                 `json:"partition"`
	Offset       int64                 `json:"offset" doc:"of the record in its source partition; -1 where it does not lie in the log, as a lookup's may not"`
	Event        broker.EventHash      `json:"event,omitzero" doc:"keyed hash of the event's id; without it a lookup found nothing, or was refused"`
	Record       string                `json:"record" doc:"new, correction or retraction"`
	Subscription broker.SubscriptionID `json:"subscription"`
	Agreement    broker.AgreementID    `json:"agreement"`
	Outcome      string                `json:"outcome" enum:"permit,deny"`
	Reasons      []broker.Reason       `json:"reasons,omitempty" doc:"why it was denied"`
	Bases        []broker.LegalBasisID `json:"bases,omitempty" doc:"the legal bases of a permit"`
	Package      broker.PackageRef     `json:"package"`
	Fields       []broker.Pointer      `json:"fields,omitempty" doc:"what left, as JSON Pointers"`
	Shielded     bool                  `json:"shielded,omitempty"`
	Notice       bool                  `json:"notice,omitempty" doc:"a permit that only told the consumer of a correction or retraction, without data"`
	Delivery     *broker.DeliveryID    `json:"delivery,omitempty"`
	Policy       string                `json:"policy" doc:"digest of the policy that decided"`
	Revision     broker.Revision       `json:"revision" doc:"of the registry"`
	Time         time.Time             `json:"time"`
	Subject      *broker.Pseudonym     `json:"subject,omitempty" doc:"pseudonym, under the key of the period"`
	Period       string                `json:"period"`
}

// NewDecision writes a decision.
func NewDecision(d *broker.Decision) Decision {
	j := Decision{
		ID: d.ID, Kind: d.Kind.String(), Dataset: d.Position.Dataset, TopicID: d.Position.TopicID, Partition: d.Position.Partition,
		Offset: d.Position.Offset, Event: d.Event, Record: d.RecordKind.String(), Subscription: d.Subscription, Agreement: d.Agreement,
		Outcome: OutcomeWord(d), Reasons: d.Outcome.Reasons, Bases: d.Outcome.Bases, Package: d.Package, Fields: d.Fields,
		Shielded: d.Shielded, Policy: d.PolicyDigest, Revision: d.Revision, Time: d.Time, Period: d.Period,
	}
	j.Notice = isNotice(d)
	if !d.Delivery.IsZero() {
		j.Delivery = &d.Delivery
	}
	if !d.Request.IsZero() {
		j.Request = &d.Request
	}
	if !d.Subject.IsZero() {
		j.Subject = &d.Subject
	}
	return j
}

// isNotice reports whether a permit let no data leave: the consumer was told that a
// record was corrected or retracted, as its agreement wants it.
func isNotice(d *broker.Decision) bool {
	return d.Outcome.Permit && d.RecordKind != broker.Original && len(d.Fields) == 0 && !d.Shielded && d.Kind != broker.LookupDecision
}

// OutcomeWord is permit or deny.
func OutcomeWord(d *broker.Decision) string {
	if d.Outcome.Permit {
		return "permit"
	}
	return "deny"
}

// Hit is a decision that was found, with the parties of its agreement.
type Hit struct {
	Decision
	Consumer broker.OrgNumber `json:"consumer"`
	Provider broker.OrgNumber `json:"provider"`
	Supplier broker.OrgNumber `json:"supplier,omitempty"`
	// Where it stands in the log of decisions.
	LogPartition int32 `json:"log_partition"`
	LogOffset    int64 `json:"log_offset"`
	LogIndex     int   `json:"log_index"`
}

// NewHit writes what was found.
func NewHit(h *store.Hit) Hit {
	return Hit{NewDecision(&h.Decision), h.Parties.Consumer, h.Parties.Provider, h.Parties.Supplier, h.Place.Partition, h.Place.Offset, h.Place.Index}
}

// HitColumns are the names of a hit's columns in CSV. New ones come last.
var HitColumns = []string{"time", "id", "kind", "dataset", "partition", "offset", "outcome", "reasons", "bases", "consumer", "provider", "supplier",
	"subscription", "agreement", "package", "version", "fields", "shielded", "policy", "revision", "period", "request"}

// Row are a hit's cells.
func (h *Hit) Row() []string {
	request := ""
	if h.Request != nil {
		request = h.Request.String()
	}
	return []string{h.Time.UTC().Format(time.RFC3339Nano), h.ID.String(), h.Kind, string(h.Dataset), fmt.Sprint(h.Partition),
		fmt.Sprint(h.Offset), h.Outcome, Cell(h.Reasons), Cell(h.Bases), string(h.Consumer), string(h.Provider), string(h.Supplier),
		string(h.Subscription), string(h.Agreement), h.Package.ID, fmt.Sprint(h.Package.Version), Cell(h.Fields),
		strconv.FormatBool(h.Shielded), h.Policy, fmt.Sprint(h.Revision), h.Period, request}
}

// Filters are a search in words, as flags and query parameters have them. What is
// empty asks for nothing.
type Filters struct {
	Dataset, Subscription, Agreement, Basis string
	Package                                 string // ID or ID@VERSION
	Consumer, Provider, Supplier            string // organisation numbers
	Decision, Delivery, Event, Request      string // 32 hexadecimal digits
	Partition, Offset                       int64  // of the record; −1: any
	Outcome, Reason, Shielded, Kind, Period string
	From, To                                string
	Oldest                                  bool
	Limit                                   int
	Cursor                                  string
}

// Query reads the filters. Its errors are *QuestionError and repeat no value: it may
// be a person's number.
func (f *Filters) Query() (q store.Query, err error) {
	q = store.Query{Dataset: broker.DatasetID(f.Dataset), Subscription: broker.SubscriptionID(f.Subscription), Agreement: broker.AgreementID(f.Agreement),
		Basis: broker.LegalBasisID(f.Basis), Reason: broker.Reason(f.Reason), Period: f.Period, Ascending: f.Oldest, Limit: f.Limit, Cursor: f.Cursor}
	for _, t := range []struct{ field, text string }{{"dataset", f.Dataset}, {"subscription", f.Subscription}, {"agreement", f.Agreement}, {"basis", f.Basis},
		{"package", f.Package}, {"reason", f.Reason}, {"period", f.Period}, {"from", f.From}, {"to", f.To}} {
		if ElevenDigits(t.text) {
			return q, &QuestionError{t.field, "eleven digits may be a person's number, which is no filter; ask for a subject instead"}
		}
	}
	if q.From, err = parseTime("from", f.From); err != nil {
		return q, err
	}
	if q.To, err = parseTime("to", f.To); err != nil {
		return q, err
	}
	if f.Limit < 1 || f.Limit > store.MaxLimit {
		return q, &QuestionError{"limit", fmt.Sprintf("want 1 to %d; what follows comes with the cursor", store.MaxLimit)}
	}
	switch {
	case f.Partition < 0 && f.Offset < 0:
	case f.Partition < 0 || f.Offset < 0 || f.Dataset == "" || f.Partition > 1<<31-1:
		return q, &QuestionError{"offset", "a record is named by dataset, partition and offset together"}
	default:
		q.Record = &store.RecordPlace{Dataset: q.Dataset, Partition: int32(f.Partition), Offset: f.Offset}
	}
	for _, o := range []struct {
		field, text string
		to          *broker.OrgNumber
	}{{"consumer", f.Consumer, &q.Consumer}, {"provider", f.Provider, &q.Provider}, {"supplier", f.Supplier, &q.Supplier}} {
		if o.text == "" {
			continue
		}
		if *o.to, err = broker.ParseOrgNumber(o.text); err != nil {
			return q, &QuestionError{o.field, "want an organisation number: nine digits whose check digit fits"}
		}
	}
	for _, id := range []struct {
		field, text string
		to          *broker.Digest
	}{{"decision", f.Decision, &q.Decision}, {"delivery", f.Delivery, &q.Delivery}, {"event", f.Event, (*broker.Digest)(&q.Event)}, {"request", f.Request, &q.Request}} {
		if id.text == "" {
			continue
		}
		if err := id.to.UnmarshalText([]byte(id.text)); err != nil {
			return q, &QuestionError{id.field, "want 32 hexadecimal digits, as the JSON of a decision has them"}
		}
	}
	if f.Package != "" {
		id, version, numbered := strings.Cut(f.Package, "@")
		q.Package = id
		if numbered {
			if q.Version, err = strconv.Atoi(version); err != nil || q.Version < 1 || id == "" {
				return q, &QuestionError{"package", "want ID or ID@VERSION"}
			}
		}
	}
	for _, w := range []struct {
		field, got string
		known      []string
		to         *uint8
	}{{"outcome", f.Outcome, []string{"permit", "deny"}, (*uint8)(&q.Verdict)}, {"shielded", f.Shielded, []string{"only", "without"}, (*uint8)(&q.Shielded)},
		{"kind", f.Kind, []string{"stream", "backfill", "lookup", "door", "notice"}, (*uint8)(&q.Kind)}} {
		if w.got == "" {
			continue
		}
		i := slices.Index(w.known, w.got)
		if i < 0 {
			return q, &QuestionError{w.field, "want " + strings.Join(w.known, " or ")}
		}
		*w.to = uint8(i + 1)
	}
	return q, nil
}

func parseTime(field, text string) (time.Time, error) {
	t, err := broker.ParseTime(text)
	if err != nil {
		return t, &QuestionError{field, "want a time such as 2026-01-31 or 2026-01-31T12:00:00Z"}
	}
	return t, nil
}

// ElevenDigits reports a run of eleven digits or more: a person's number may be one.
func ElevenDigits(s string) bool {
	run := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			run = 0
		} else if run++; run == 11 {
			return true
		}
	}
	return false
}

// Search finds decisions. *QuestionError: a filter names what there is not, which
// would match nothing and look like an answer; or it makes no sense.
func (d *Desk) Search(ctx context.Context, s Scope, q store.Query) (store.Page, error) {
	if err := d.Knows(q.Dataset, q.Subscription, q.Reason); err != nil {
		return store.Page{}, err
	}
	return d.search(ctx, s, q)
}

func (d *Desk) search(ctx context.Context, s Scope, q store.Query) (store.Page, error) {
	if !s.narrow(&q) {
		return store.Page{}, nil
	}
	page, err := d.Store.Search(ctx, q)
	switch {
	case errors.Is(err, store.ErrOldCursor):
		return page, err
	case errors.Is(err, store.ErrCursor):
		return page, &QuestionError{"cursor", "it is none of this question's: take it from the answer that it follows, or begin again without it"}
	case errors.Is(err, store.ErrQuery):
		return page, &QuestionError{"", strings.TrimPrefix(err.Error(), store.ErrQuery.Error()+": ")}
	}
	return page, err
}

// Find is one decision that the asker may see; ErrNotFound otherwise. Other filters
// of q narrow it further.
func (d *Desk) Find(ctx context.Context, s Scope, id broker.DecisionID, q store.Query) (*store.Hit, error) {
	q.Decision, q.Ascending, q.Limit = id, true, 1
	if id.IsZero() {
		return nil, ErrNotFound
	}
	page, err := d.search(ctx, s, q)
	if err == nil && len(page.Hits) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return &page.Hits[0], nil
}

// Knows refuses filters that name what is not registered: they would match nothing,
// and look like an answer.
func (d *Desk) Knows(dataset broker.DatasetID, subscription broker.SubscriptionID, reason broker.Reason) (err error) {
	var active *registry.Policy
	d.Control.View(func(st *registry.State) {
		switch {
		case dataset != "" && st.Dataset(dataset) == nil:
			err = &QuestionError{"dataset", "no dataset of that name is registered"}
		case subscription != "" && st.Terms(subscription) == nil:
			err = &QuestionError{"subscription", "no subscription of that name is registered"}
		}
		active = st.Policy()
	})
	if err != nil || reason == "" || active == nil {
		return err
	}
	engine, err := policy.Compile(policy.Bundle{Modules: active.Modules})
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(engine.Reasons(), func(r policy.ReasonInfo) bool { return r.Code == reason }) {
		return &QuestionError{"reason", "the active policy has no such reason"}
	}
	return nil
}
