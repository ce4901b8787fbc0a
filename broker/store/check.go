package store

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"datafordeler/broker"
)

// What a batch must be. That it is not is its reader's fault, or the log's: it is
// told, and nothing is applied.

// text says what is wrong with a text that both databases are to keep as it is.
func text[S ~string](what string, s S) error {
	if strings.IndexByte(string(s), 0) >= 0 || !utf8.ValidString(string(s)) {
		return fmt.Errorf("%s is not text (UTF-8 without a zero byte)", what)
	}
	return nil
}

func textsOf[S ~string](what string, list []S) error {
	for _, s := range list {
		if err := text(what, s); err != nil {
			return err
		}
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *agreement) check() error {
	err := first(text("an agreement's name", a.name), text("a consumer", a.Consumer), text("a provider", a.Provider), text("a supplier", a.Supplier))
	if err != nil {
		return fmt.Errorf("store: the parties of an agreement: %w", err)
	}
	return nil
}

func (o *outcome) check(sub broker.SubscriptionID) error {
	err := first(text("the subscription", sub), text("the package", o.pack.ID), textsOf("a reason", o.Reasons), textsOf("a basis", o.Bases), textsOf("a field", o.fields))
	if err != nil {
		return fmt.Errorf("store: an answer for a subscription: %w", err)
	}
	return nil
}

// The times that fit into nanoseconds since 1970 in 64 bits, with room.
var (
	earliest = time.Date(1700, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

func (b *Batch) check() error {
	h := &b.Head
	fault := func(format string, args ...any) error {
		return fmt.Errorf("store: decisions, partition %d offset %d: "+format, append([]any{b.LogPartition, b.LogOffset}, args...)...)
	}
	switch {
	case b.LogPartition < 0 || b.LogOffset < 0 || b.LogFrom < 0 || b.LogFrom > b.LogOffset:
		return fault("read from offset %d: that is no place in a log", b.LogFrom)
	case h.Partition < 0 || h.First < 0 || h.Last < h.First-1:
		return fault("it covers partition %d, %d to %d: that is no range", h.Partition, h.First, h.Last)
	case h.Time.Before(earliest) || h.Time.After(latest):
		return fault("its time is %s", h.Time.UTC().Format(time.RFC3339))
	case h.Records < 0 || h.OutOfScope < 0 || h.Repeated < 0 || h.Rejected < 0 || int64(h.Revision) < 0:
		return fault("a count in its head is below zero")
	case h.Kind < broker.StreamDecision || h.Kind > broker.LastDecision:
		return fault("kind %d is not known", h.Kind)
	case h.Kind != broker.StreamDecision && (h.Dataset != "" || h.First != 0 || h.Last != -1 || h.Records != 0 || h.OutOfScope != 0 || h.Repeated != 0 || h.Rejected != 0):
		return fault("it is of kind %s and covers a range: only the stream's does", h.Kind)
	}
	if err := first(text("the dataset", h.Dataset), text("the policy", h.Policy), text("the period", h.Period)); err != nil {
		return fault("%w", err)
	}
	if h.Kind != broker.StreamDecision {
		return b.checkSingles(fault)
	}
	var last *broker.Decision
	for i := range b.Decisions {
		d := &b.Decisions[i]
		switch {
		case d.Kind != h.Kind || d.Position.Dataset != h.Dataset || d.Position.TopicID != h.TopicID || d.Position.Partition != h.Partition,
			d.Revision != h.Revision || d.PolicyDigest != h.Policy || d.Period != h.Period || !d.Time.Equal(h.Time):
			return fault("decision %d is not of its head", i)
		case d.Position.Offset < 0 || d.RecordKind > broker.Retraction:
			return fault("decision %d has offset %d and record kind %d", i, d.Position.Offset, d.RecordKind)
		case d.Position.Offset < h.First || d.Position.Offset > h.Last:
			return fault("decision %d is on offset %d, which its range %d to %d does not hold", i, d.Position.Offset, h.First, h.Last)
		case last != nil && (d.Position.Offset < last.Position.Offset || d.Position.Offset == last.Position.Offset && !sameRecord(d, last)):
			return fault("decision %d is on offset %d, after one on %d: out of order, or two records at one offset", i, d.Position.Offset, last.Position.Offset)
		}
		last = d
	}
	return nil
}

// checkSingles is check for a batch of single decisions. That an id stands there
// twice is no fault: at the door the same delivery may be withheld again.
func (b *Batch) checkSingles(fault func(string, ...any) error) error {
	h := &b.Head
	permits := int64(0)
	for i := range b.Decisions {
		d := &b.Decisions[i]
		p := &d.Position
		nowhere := p.Offset == broker.Nowhere
		switch {
		case d.Kind != h.Kind || d.Revision != h.Revision || d.PolicyDigest != h.Policy || d.Period != h.Period || !d.Time.Equal(h.Time):
			return fault("decision %d is not of its head", i)
		case p.Partition < 0 || p.Offset < broker.Nowhere || d.RecordKind > broker.Retraction:
			return fault("decision %d has partition %d, offset %d and record kind %d", i, p.Partition, p.Offset, d.RecordKind)
		case (h.Kind == broker.LookupDecision) == d.Request.IsZero():
			return fault("decision %d: lookups have a request, and only they", i)
		case nowhere && (h.Kind != broker.LookupDecision || p.TopicID != [16]byte{} || p.Partition != 0):
			return fault("decision %d is of kind %s on what lies nowhere in the log: only a lookup can be", i, h.Kind)
		case p.Dataset == "":
			return fault("decision %d is of no dataset", i)
		case d.Event.IsZero() && !nowhere:
			return fault("decision %d is on a record without an event", i)
		}
		if err := text("the dataset", p.Dataset); err != nil {
			return fault("%w", err)
		}
		if d.Outcome.Permit {
			permits++
		}
	}
	switch {
	case int64(len(b.Decisions)) != h.Decisions || permits != h.Permits:
		return fault("its head counts %d decisions with %d permits, and it has %d with %d", h.Decisions, h.Permits, len(b.Decisions), permits)
	case h.Kind == broker.DoorDecision && permits > 0:
		return fault("a permit at the door is no decision")
	}
	return nil
}

// sameRecord reports whether two decisions are on one record, and for one request.
func sameRecord(a, b *broker.Decision) bool {
	return a.Position == b.Position && a.Request == b.Request && a.Event == b.Event && a.Subject == b.Subject && a.RecordKind == b.RecordKind
}
