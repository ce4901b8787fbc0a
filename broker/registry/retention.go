package registry

import (
	"fmt"
	"time"

	"datafordeler/broker"
)

// Retention is how long each topic that holds records of persons keeps them, by
// what is declared. Zero and negative durations mean for ever.
type Retention struct {
	Source, Rejected map[broker.DatasetID]Kept
	// Mailbox has those that receive by Kafka, each with a topic of its own;
	// Deliveries is the one topic behind all feeds and webhooks.
	Mailbox    map[broker.MailboxID]Kept
	Deliveries Kept
}

// Kept is for how long, and what says so.
type Kept struct {
	For time.Duration
	Why string // "dataset inntekt", "mailbox m1", "configuration"
}

// RetentionDefaults hold where nothing is declared.
type RetentionDefaults struct{ Source, Rejected, Deliveries time.Duration }

const byConfiguration = "configuration"

// Retention resolves what datasets and mailboxes declare.
//
// Kafka keeps by topic. A topic that carries several datasets keeps for the
// shortest of their times: a promise that data goes must hold whoever else is in
// the topic, while a consumer that is away for longer loses only its place in a
// mailbox, and the record stands in the source. Every subscription counts that
// ever was, ended ones too, since what it brought may still be there.
func (s *State) Retention(def RetentionDefaults) *Retention {
	r := &Retention{
		Source: map[broker.DatasetID]Kept{}, Rejected: map[broker.DatasetID]Kept{},
		Mailbox: map[broker.MailboxID]Kept{},
	}
	inMailbox := map[broker.DatasetID]Kept{}
	for id, d := range s.datasets {
		var declared broker.Retention
		if d.Retention != nil {
			declared = *d.Retention
		}
		why := "dataset " + string(id)
		r.Source[id] = orDefault(declared.SourceDays, why, def.Source)
		r.Rejected[id] = orDefault(declared.RejectedDays, why, def.Rejected)
		inMailbox[id] = orDefault(declared.DeliveriesDays, why, def.Deliveries)
	}
	carried := map[broker.MailboxID]Kept{}
	var shared *Kept
	for _, sub := range sorted(s.subscriptions) {
		a, m := s.agreements[sub.Agreement], s.mailboxes[sub.Mailbox]
		if a == nil || m == nil {
			continue // refuse admits no such subscription
		}
		k := inMailbox[a.Dataset]
		if old, ok := carried[m.ID]; ok {
			k = shorter(old, k)
		}
		carried[m.ID] = k
		if m.Channel != broker.KafkaChannel {
			if shared != nil {
				k = shorter(*shared, k)
			}
			shared = &k
		}
	}
	r.Deliveries = Kept{def.Deliveries, byConfiguration}
	if shared != nil {
		r.Deliveries = *shared
	}
	for id, m := range s.mailboxes {
		if m.Channel != broker.KafkaChannel {
			continue
		}
		k, ok := carried[id]
		if !ok { // nothing comes into it yet
			k = Kept{def.Deliveries, byConfiguration}
		}
		if m.RetentionDays > 0 {
			k = shorter(k, Kept{days(m.RetentionDays), "mailbox " + string(id)})
		}
		r.Mailbox[id] = k
	}
	return r
}

// shorter is the stricter of two; the first where they are equal.
func shorter(a, b Kept) Kept {
	if b.For > 0 && (a.For <= 0 || b.For < a.For) {
		return b
	}
	return a
}

func orDefault(declared int32, why string, def time.Duration) Kept {
	if declared > 0 {
		return Kept{days(declared), why}
	}
	return Kept{def, byConfiguration}
}

func days(n int32) time.Duration { return time.Duration(n) * 24 * time.Hour }

// maxRetention is ten years, in days: the broker passes records on, and is no
// archive.
const maxRetention = 3650

func (w *world) retention(a at, d *broker.Dataset) {
	r := d.Retention
	if r == nil {
		return
	}
	if *r == (broker.Retention{}) {
		w.at(a, "retention", "retention says nothing", "give sourceDays, rejectedDays or deliveriesDays, or leave it out for the defaults")
	}
	w.days(a, "retention/sourceDays", r.SourceDays)
	w.days(a, "retention/rejectedDays", r.RejectedDays)
	w.days(a, "retention/deliveriesDays", r.DeliveriesDays)
}

// days also refuses a 0 that somebody wrote: it would be the default, and is
// hardly what was meant.
func (w *world) days(a at, path string, n int32) {
	written := n != 0
	if a.doc != nil {
		_, written = a.doc.lines[path]
	}
	if written && (n < 1 || n > maxRetention) {
		w.at(a, path, fmt.Sprintf("%s is %d", path, n), fmt.Sprintf("want 1 to %d days, or leave it out for the default", maxRetention))
	}
}

func (w *world) mailboxRetention(a at, m *broker.Mailbox) {
	w.days(a, "retentionDays", m.RetentionDays)
	if m.RetentionDays != 0 && m.Channel != broker.KafkaChannel {
		w.at(a, "retentionDays", fmt.Sprintf("retentionDays on channel %s", m.Channel),
			"want it with channel: kafka only; feeds and webhooks share a topic, which keeps for the shortest that its datasets declare (retention: {deliveriesDays: …})")
	}
}

// standsTooLong finds a mailbox that says it keeps for longer than a dataset in
// it allows. The shorter would hold, and its owner would count on the longer.
func (w *world) standsTooLong(a at, s *broker.Subscription, g *broker.Agreement, m *broker.Mailbox) {
	if g == nil || m == nil || m.RetentionDays == 0 {
		return
	}
	d := w.datasets[g.Dataset]
	if d == nil || d.Retention == nil || d.Retention.DeliveriesDays == 0 || m.RetentionDays <= d.Retention.DeliveriesDays {
		return
	}
	a = w.on(a, KindDataset, string(d.ID))
	w.at(a, "mailbox", fmt.Sprintf("mailbox %s keeps for %d days, and dataset %s lets its deliveries stand for %d", m.ID, m.RetentionDays, d.ID, d.Retention.DeliveriesDays),
		"lower retentionDays of the mailbox, or leave it out")
}
