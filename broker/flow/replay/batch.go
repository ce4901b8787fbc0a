package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
)

// entry is one record of the topic decisions.
type entry struct {
	part      *part
	revision  broker.Revision
	first     int64
	records   int64
	nanos     int64
	partition int32 // where it lies in decisions
	offset    int64
	value     []byte
}

// moment is what all batches of one revision share.
type moment struct {
	past       *past
	own, other *world // other is nil without a candidate
	otherErr   error
}

// batch is one record of decisions on its way through.
type batch struct {
	*run
	p    *part
	e    *entry
	at   *moment
	head deliver.BatchHeader

	accepts, otherAccepts *intake.Dataset // the latter nil where it is the same
	pseudonyms            bool            // whether the period's key still exists

	rejectedAt                            []int64 // what remains of the head's
	records, repeated, rejected, outOfSet int64
	trustedRepeats, trustedRejects        int64

	row    int64 // the offset of the row under way; −1 for none
	sound  bool  // its record was read and accepted
	answer int   // in the judge's answers: the next to compare
	prior  map[broker.AgreementID]int64
}

// replayBatch computes one record of decisions again. An error stops the replay;
// what is wrong with the batch is in the part's tally.
func (r *run) replayBatch(ctx context.Context, e *entry, at *moment) error {
	p := e.part
	b := &batch{run: r, p: p, e: e, at: at, row: -1}
	var err error
	if b.head, _, err = deliver.DecodeHeader(e.value); err != nil {
		b.fault(e.first, "", "encoding", "a record of decisions", err.Error())
		p.lose(-1)
		return nil
	}
	h := &b.head
	size := h.Records
	leave := func(what, why string) error {
		p.tally.unable(what, why, 1, size)
		p.lose(h.Last + 1)
		return nil
	}
	switch src := &p.source; {
	case src.err != "":
		return leave("source", src.err)
	case src.topicID != h.TopicID:
		return leave("source", "the topic of "+string(h.Dataset)+" was deleted and made again since")
	case h.First < src.start:
		return leave("source", fmt.Sprintf("the records of %s/%d before offset %d are gone: retention", h.Dataset, h.Partition, src.start))
	case h.Last >= src.end:
		return leave("source", fmt.Sprintf("the topic of %s/%d ends at offset %d", h.Dataset, h.Partition, src.end))
	case h.Kind != broker.StreamDecision.String():
		return leave("kind", "decisions of kind "+h.Kind)
	}
	state := at.past.state
	declared := state.Dataset(h.Dataset)
	if declared == nil {
		b.fault(h.First, "", "dataset", "decided", fmt.Sprintf("not registered at revision %d", h.Revision))
		p.lose(h.Last + 1)
		return nil
	}
	if b.accepts, err = r.rules.dataset(declared, h.Limits); err != nil {
		return leave("control", fmt.Sprintf("dataset %s cannot be compiled: %v", h.Dataset, err))
	}
	if r.candidate() {
		if at.otherErr != nil {
			return leave("candidate", at.otherErr.Error())
		}
		if r.redeclared[h.Dataset] {
			if b.otherAccepts, err = r.otherRules.dataset(at.other.state.Dataset(h.Dataset), h.Limits); err != nil {
				return leave("candidate", fmt.Sprintf("dataset %s cannot be compiled: %v", h.Dataset, err))
			}
		}
	} else {
		if at.own.digest != h.Policy {
			b.fault(h.First, "", "policy", h.Policy, at.own.digest)
		}
		if at.own.engine == nil {
			return leave("policy", at.own.unable)
		}
	}
	if h.First > p.next && p.next >= 0 && r.Every <= 1 {
		p.tally.unable("gap", fmt.Sprintf("no decisions on %s/%d stand for some offsets", h.Dataset, h.Partition), 0, h.First-p.next)
	}
	b.usage()
	err = b.read(ctx)
	switch {
	case errors.As(err, new(*kafka.GoneError)):
		return leave("source", "records were deleted while they were read: retention")
	case err != nil:
		return err
	}
	p.window.Commit()
	p.next = h.Last + 1
	b.settle()
	return nil
}

// usage begins both sides with what had been delivered when the batch began. What
// the candidate permitted more, or less, before counts for it alone.
func (b *batch) usage() {
	p, h := b.p, &b.head
	clone := func() map[broker.AgreementID]int64 {
		if h.Usage == nil {
			return map[broker.AgreementID]int64{}
		}
		return maps.Clone(h.Usage)
	}
	if p.after != nil && p.next == h.First && !b.candidate() {
		if !maps.Equal(trim(p.after), trim(h.Usage)) {
			b.fault(h.First, "", "usage", fmt.Sprint(trim(h.Usage)), fmt.Sprint(trim(p.after)))
		}
	}
	p.own.begin(b.at.own, b.at.past.state, h, clone(), b.Log)
	if !b.candidate() {
		return
	}
	p.other.begin(b.at.other, b.at.other.state, h, clone(), b.Log)
	for a, n := range p.drift {
		p.other.usage[a] += n
	}
	b.prior = maps.Clone(p.other.usage)
}

func trim(m map[broker.AgreementID]int64) map[broker.AgreementID]int64 {
	m = maps.Clone(m)
	maps.DeleteFunc(m, func(_ broker.AgreementID, n int64) bool { return n == 0 })
	if m == nil {
		m = map[broker.AgreementID]int64{}
	}
	return m
}

// read goes through the batch's rows and the source's records side by side.
func (b *batch) read(ctx context.Context) error {
	p, h := b.p, &b.head
	if err := p.enter(ctx, b.accepts, h, b.Hasher); err != nil {
		return err
	}
	if err := p.tape.seek(h.First); err != nil {
		return err
	}
	b.rejectedAt = h.RejectedAt
	b.pseudonyms = true
	if _, err := b.Hasher.Pseudonym(h.Period, broker.SubjectKey{}); err != nil {
		b.pseudonyms = false
	}
	given := map[broker.AgreementID]int64{} // what was permitted, as recorded
	ceilings := map[broker.SubscriptionID]bool{}
	for i := range h.Subscriptions {
		ceilings[h.Subscriptions[i].ID] = h.Subscriptions[i].Ceiling
	}
	var stop error // what ends the replay, and not only the batch
	_, err := deliver.Decode(b.e.value, func(d *broker.Decision) error {
		if d.Position.Offset != b.row {
			b.closeRow()
			if stop = b.until(ctx, d.Position.Offset); stop == nil {
				stop = b.openRow(ctx, d)
			}
			if stop != nil {
				return stop
			}
		}
		if len(ceilings) > 0 && d.Outcome.Permit && ceilings[d.Subscription] {
			given[d.Agreement]++
		}
		b.compare(d)
		return nil
	})
	if stop != nil {
		return stop
	}
	b.closeRow()
	if err != nil {
		b.fault(h.First, "", "encoding", "a record of decisions", err.Error())
	}
	if err := b.until(ctx, h.Last+1); err != nil {
		return err
	}
	if b.candidate() {
		for a := range mergedKeys(p.other.usage, given) {
			if more := p.other.usage[a] - b.prior[a] - given[a]; more != 0 {
				if p.drift == nil {
					p.drift = map[broker.AgreementID]int64{}
				}
				p.drift[a] += more
			}
		}
	}
	return nil
}

func mergedKeys(ms ...map[broker.AgreementID]int64) map[broker.AgreementID]bool {
	out := map[broker.AgreementID]bool{}
	for _, m := range ms {
		for a := range m {
			out[a] = true
		}
	}
	return out
}

// until goes past the records before an offset: those without a row.
func (b *batch) until(ctx context.Context, offset int64) error {
	for {
		r, err := b.p.tape.peek(ctx)
		if err != nil {
			return err
		}
		if r == nil || r.Offset >= offset {
			return nil
		}
		b.p.tape.take()
		if err := b.bare(ctx, r); err != nil {
			return err
		}
	}
}

// verdict is what intake and the window make of a record, with its payload in
// own.rec and own.doc. wasRejected is what the batch says of it.
func (b *batch) verdict(r *kgo.Record, wasRejected bool) (msg intake.Message, v intake.Verdict, rejection *broker.Rejection) {
	p := b.p
	b.records++
	msg = p.message(r)
	if rejection = b.accepts.Accept(&msg, b.Hasher, &p.own.rec, &p.own.doc); rejection != nil {
		return msg, 0, rejection
	}
	if wasRejected && !p.knows(r.Offset) {
		// As another content under an id that was seen before the window begins:
		// the batch is believed, and the record not remembered.
		b.trustedRejects++
		return msg, intake.Reused, nil
	}
	return msg, p.window.Check(p.own.rec.Event, p.own.rec.Content, r.Offset, r.Timestamp), nil
}

// bare is a record without a row: rejected, repeated, or in nobody's scope.
func (b *batch) bare(ctx context.Context, r *kgo.Record) error {
	p := b.p
	for len(b.rejectedAt) > 0 && b.head.First+b.rejectedAt[0] < r.Offset {
		b.rejectedAt = b.rejectedAt[1:]
	}
	wasRejected := len(b.rejectedAt) > 0 && b.head.First+b.rejectedAt[0] == r.Offset
	msg, v, rejection := b.verdict(r, wasRejected)
	open := false // whether the candidate may have something to say
	switch {
	case rejection != nil || v == intake.Reused:
		b.rejected++
		if !wasRejected {
			b.fault(r.Offset, "", "intake", "accepted", "rejected: "+code(rejection))
		}
		open = rejection != nil
	case wasRejected:
		b.fault(r.Offset, "", "intake", "rejected", v.String())
	case v == intake.Repeated:
		b.repeated++
	case len(p.own.match(&p.own.rec)) == 0:
		b.outOfSet++
		open = true
	case !p.knows(r.Offset):
		b.trustedRepeats++ // the batch is believed: a repeat of what lies before the window's beginning
		b.repeated++
	default:
		for _, n := range p.own.found {
			b.faultFor(r.Offset, b.at.own.numbered[n].terms.Subscription.ID, "decision", noneWord, "in scope")
		}
	}
	if !b.candidate() || !open {
		return nil
	}
	if b.otherAccepts == nil && rejection != nil {
		return nil
	}
	if err := b.askOther(ctx, &msg); err != nil {
		return err
	}
	for i := range p.other.answers {
		a := &p.other.answers[i]
		b.differ(a.terms.Agreement.Consumer, a.terms.Subscription.ID, r.Offset, noneWord, word(a.outcome), "")
	}
	return nil
}

// askOther has the candidate answer for the record that verdict read.
func (b *batch) askOther(ctx context.Context, msg *intake.Message) error {
	p := b.p
	p.other.answers = p.other.answers[:0]
	if b.otherAccepts == nil {
		return p.other.decide(ctx, msg, &p.own.rec, &p.own.doc)
	}
	if b.otherAccepts.Accept(msg, b.Hasher, &p.other.rec, &p.other.doc) != nil {
		return nil
	}
	return p.other.decide(ctx, msg, &p.other.rec, &p.other.doc)
}

// openRow reads the record that a row is about, and answers for it.
func (b *batch) openRow(ctx context.Context, d *broker.Decision) error {
	p := b.p
	b.row, b.sound, b.answer = d.Position.Offset, false, 0
	r, err := p.tape.peek(ctx)
	if err != nil {
		return err
	}
	if r == nil || r.Offset != b.row {
		b.fault(b.row, "", "source", "decided", "no such record stands in the source")
		return nil
	}
	p.tape.take()
	msg, v, rejection := b.verdict(r, false)
	switch {
	case rejection != nil || v == intake.Reused:
		b.rejected++
		b.fault(b.row, "", "intake", "accepted", "rejected: "+code(rejection))
		return nil
	case v == intake.Repeated:
		b.repeated++
		b.fault(b.row, "", "intake", "accepted", "a repeat")
		return nil
	}
	b.sound = true
	if b.candidate() {
		return b.askOther(ctx, &msg)
	}
	if err := b.identity(d); err != nil {
		return err
	}
	return p.own.decide(ctx, &msg, &p.own.rec, &p.own.doc)
}

// identity holds a row's own columns to the record.
func (b *batch) identity(d *broker.Decision) error {
	rec := &b.p.own.rec
	if rec.Event != d.Event {
		b.fault(b.row, "", "event", d.Event.String(), rec.Event.String())
	}
	if rec.Kind != d.RecordKind {
		b.fault(b.row, "", "kind", d.RecordKind.String(), rec.Kind.String())
	}
	var want broker.Pseudonym
	if rec.HasSubject {
		if !b.pseudonyms {
			b.p.tally.unable("pseudonyms", "the key of "+b.head.Period+" is not in the keystore: destroyed, or never made", 0, 1)
			return nil
		}
		var err error
		if want, err = b.Hasher.Pseudonym(b.head.Period, rec.Subject); err != nil {
			return err
		}
	}
	if want != d.Subject {
		b.fault(b.row, "", "pseudonym", d.Subject.String(), want.String())
	}
	return nil
}

// compare holds one recorded decision to what was computed.
func (b *batch) compare(d *broker.Decision) {
	if !b.sound {
		return
	}
	if b.wanted(d.Subscription) {
		b.p.tally.answered++
	}
	j := &b.p.own
	if b.candidate() {
		j = &b.p.other
	}
	// Both are in the order of names.
	for b.answer < len(j.answers) && j.answers[b.answer].terms.Subscription.ID < d.Subscription {
		b.extra(&j.answers[b.answer])
		b.answer++
	}
	if b.answer == len(j.answers) || j.answers[b.answer].terms.Subscription.ID != d.Subscription {
		if !b.candidate() {
			b.faultFor(b.row, d.Subscription, "decision", recordedWord(d), noneWord)
		} else {
			b.differ(b.consumer(d.Subscription), d.Subscription, b.row, recordedWord(d), noneWord, "")
		}
		return
	}
	a := &j.answers[b.answer]
	b.answer++
	if b.candidate() {
		before, after := recordedWord(d), word(a.outcome)
		what := ""
		if before == after {
			if what, _, _ = unlike(d, a); what == "" {
				return
			}
		}
		b.differ(a.terms.Agreement.Consumer, d.Subscription, b.row, before, after, what)
		return
	}
	if d.Agreement != a.terms.Agreement.ID {
		b.faultFor(b.row, d.Subscription, "agreement", string(d.Agreement), string(a.terms.Agreement.ID))
	}
	if what, recorded, computed := unlike(d, a); what != "" {
		b.faultFor(b.row, d.Subscription, what, recorded, computed)
	}
}

// extra is an answer that no decision stands for.
func (b *batch) extra(a *answer) {
	if !b.candidate() {
		b.faultFor(b.row, a.terms.Subscription.ID, "decision", noneWord, word(a.outcome))
		return
	}
	b.differ(a.terms.Agreement.Consumer, a.terms.Subscription.ID, b.row, noneWord, word(a.outcome), "")
}

func (b *batch) closeRow() {
	if b.row >= 0 && b.sound {
		j := &b.p.own
		if b.candidate() {
			j = &b.p.other
		}
		for ; b.answer < len(j.answers); b.answer++ {
			b.extra(&j.answers[b.answer])
		}
	}
	b.row = -1
}

// unlike names the first thing in which a recorded decision and an answer differ.
func unlike(d *broker.Decision, a *answer) (what, recorded, computed string) {
	ref := a.terms.Agreement.Package
	switch o := a.outcome; {
	case d.Outcome.Permit != o.Permit:
		return "outcome", recordedWord(d), word(o)
	case !slices.Equal(d.Outcome.Reasons, o.Reasons):
		return "reasons", list(d.Outcome.Reasons), list(o.Reasons)
	case !slices.Equal(d.Outcome.Bases, o.Bases):
		return "bases", list(d.Outcome.Bases), list(o.Bases)
	case d.Package != ref:
		return "package", fmt.Sprintf("%s@%d", d.Package.ID, d.Package.Version), fmt.Sprintf("%s@%d", ref.ID, ref.Version)
	case d.Shielded != a.shielded:
		return "shielded", fmt.Sprint(d.Shielded), fmt.Sprint(a.shielded)
	case o.Permit && !slices.Equal(d.Fields, a.fields):
		return "fields", list(d.Fields), list(a.fields)
	}
	return "", "", ""
}

func list[T ~string](all []T) string {
	var b strings.Builder
	for i, s := range all {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(s))
	}
	return b.String()
}

func word(o *broker.Outcome) string {
	if o.Permit {
		return permitWord
	}
	return string(o.Reasons[0])
}

func recordedWord(d *broker.Decision) string {
	if !d.Outcome.Permit && len(d.Outcome.Reasons) == 0 {
		return "denied without a reason"
	}
	return word(&d.Outcome)
}

func code(r *broker.Rejection) string {
	if r == nil {
		return string(broker.RejectIDReused)
	}
	return string(r.Code)
}

// consumer is whose subscription it was.
func (b *batch) consumer(s broker.SubscriptionID) broker.OrgNumber {
	if t := b.at.past.state.Terms(s); t != nil {
		return t.Agreement.Consumer
	}
	return ""
}

// settle compares what the head counts, and takes the batch into the tally.
func (b *batch) settle() {
	h, t := &b.head, b.p.tally
	t.batches++
	t.records += b.records
	if t.first.IsZero() || h.Time.Before(t.first) {
		t.first = h.Time
	}
	if h.Time.After(t.last) {
		t.last = h.Time
	}
	if b.trustedRepeats > 0 {
		t.unable("repeats", "taken to be repeats, as the batch counts them: the records before the window were not read, or are gone", 0, b.trustedRepeats)
	}
	if b.trustedRejects > 0 {
		t.unable("rejections", "taken to be ids used again, as the batch says: the records before the window were not read, or are gone", 0, b.trustedRejects)
	}
	have := [4]int64{b.records, b.rejected, b.repeated, b.outOfSet}
	want := [4]int64{h.Records, h.Rejected, h.Repeated, h.OutOfScope}
	if !b.p.knows(h.First) && have[2] <= want[2] {
		// Some of those in nobody's scope may have been repeats.
		have[3] += have[2] - want[2]
		have[2] = want[2]
	}
	if have != want {
		b.fault(h.First, "", "counts", countsText(want), countsText(have))
	}
	b.p.after = b.p.own.usage
	if b.candidate() {
		b.p.after = nil
	}
}

func countsText(n [4]int64) string {
	return fmt.Sprintf("%d records, %d rejected, %d repeated, %d out of scope", n[0], n[1], n[2], n[3])
}

func (b *batch) place(offset int64) Place {
	return Place{b.p.key.dataset, b.p.key.partition, offset, b.e.partition, b.e.offset}
}

func (b *batch) fault(offset int64, sub broker.SubscriptionID, what, recorded, computed string) {
	b.p.tally.fault(Fault{b.place(offset), "", sub, what, recorded, computed})
}

func (b *batch) faultFor(offset int64, sub broker.SubscriptionID, what, recorded, computed string) {
	if b.wanted(sub) {
		b.fault(offset, sub, what, recorded, computed)
	}
}

func (b *batch) differ(consumer broker.OrgNumber, sub broker.SubscriptionID, offset int64, before, after, what string) {
	if b.wanted(sub) {
		b.p.tally.differ(diffKey{"", consumer, sub, before, after, what}, b.place(offset))
	}
}
