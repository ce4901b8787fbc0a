package flow

import (
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/intake"
	"datafordeler/broker/jsondoc"
	"datafordeler/broker/match"
	"datafordeler/broker/registry"
)

// Question is about one subject, under one subscription.
type Question struct {
	Subscription broker.SubscriptionID
	Subject      broker.SubjectKey
	// Found are records on the subject, the newest first; none where there is none.
	Found []*Found
	// Unread is true where no record was looked for, because it was to be refused
	// whatever there is, or another of its household was.
	Unread bool
	// Household is a number that it shares with the other questions of its household,
	// of one subscription and different subjects; 0 where it is asked by itself.
	Household int

	request broker.Digest // under which its decisions stand
}

// Found is a record that was looked up, as intake reads it. It is used by one
// goroutine at a time.
type Found struct {
	message intake.Message
	by      *intake.Dataset
	rec     broker.Record
	doc     jsondoc.Doc
}

// Record is what intake made of it.
func (f *Found) Record() *broker.Record { return &f.rec }

// Answer is what was decided on a question, and is durable.
type Answer struct {
	// Decision is that of Outcome.
	Decision broker.DecisionID
	// Outcome is policy's where no record was found, or none is in scope; and where
	// all that were found are refused, that of the newest.
	Outcome *broker.Outcome
	// Nothing is true where no record was found, or none that concerns the subscription,
	// and the caller may know it.
	Nothing bool
	// Records are those that may be handed over, the newest first; Refused are the
	// others, in their order.
	Records []LookedUp
	Refused []RefusedRecord
	// Request is under which its decisions stand in the log.
	Request broker.Digest
	// Together is the answer on all of its household, a JSON object; nil where there is
	// none. A household's questions have no Records, Refused or Nothing.
	Together []byte
	// Again asks to look for records after all, and to ask anew: what was to be
	// refused is not, by now. Nothing was decided.
	Again bool
	// Revision and Time are what it was decided at.
	Revision broker.Revision
	Time     time.Time
}

// LookedUp is a record that may be handed over, reduced to what its consumer may see.
type LookedUp struct {
	Decision    broker.DecisionID
	Delivery    broker.DeliveryID
	Of          broker.DeliveryID // what it corrects or retracts; zero for an original
	Kind        broker.RecordKind
	Type        string
	Time        time.Time
	Provisional bool
	Shielded    bool
	Data        []byte // JSON
}

// RefusedRecord is a record that may not be handed over, and why.
type RefusedRecord struct {
	Decision broker.DecisionID
	Outcome  *broker.Outcome
}

// row is a decision on its way to the log.
type row struct {
	kind     broker.DecisionKind
	single   deliver.Single
	decision deliver.Decision
	durable  bool

	question int // of the asked one; −1 for a delivery at a door
	route    *route
	facts    broker.Facts // what it rests on; cases and consents are asked for anew
	subject  broker.SubjectKey
	until    time.Time // the earliest end of what a permit rests on; zero for none
	data     []byte    // reduced
	found    *Found
	withheld *row // what took the permit back
	again    bool // it is what took one back
}

// Accept reads a message of a dataset as the stream does: by the same declaration,
// schema and limits. A rejection is that of intake.
func (c *Committer) Accept(id broker.DatasetID, m *intake.Message) (*Found, error) {
	ds, err := c.dataset(id)
	if err != nil {
		return nil, err
	}
	f := &Found{message: *m}
	return f, f.read(c.broker, ds)
}

func (f *Found) read(b *Broker, ds *intake.Dataset) error {
	if rejection := ds.Accept(&f.message, b.hasher, &f.rec, &f.doc); rejection != nil {
		return rejection
	}
	f.by = ds
	return nil
}

func (c *Committer) dataset(id broker.DatasetID) (ds *intake.Dataset, err error) {
	c.broker.control.View(func(st *registry.State) {
		var w *world
		if w, err = c.broker.worlds.at(st); err == nil {
			ds = w.datasets[id]
		}
	})
	if err != nil {
		return nil, &HeldError{err}
	}
	if ds == nil {
		return nil, &broker.Rejection{Code: broker.RejectUnknownDataset, Detail: "the dataset is not declared"}
	}
	return ds, nil
}

// InScope reports whether a record concerns a subscription, as far as is known now.
func (c *Committer) InScope(sub broker.SubscriptionID, f *Found) (in bool) {
	c.broker.control.View(func(st *registry.State) {
		if t := st.Terms(sub); t != nil {
			st.Consult(&f.rec)
			in = match.ScopeOf(t).Holds(&f.rec, st)
		}
	})
	return in
}

// ofRecord are the reasons that a record itself may give: without one, nothing is
// known of them.
var ofRecord = []broker.Reason{"record_outside_period", "corrections_not_agreed", "ceiling_reached", broker.ReasonPolicyError, broker.ReasonNotMinimisable, broker.ReasonDerivation, broker.ReasonTooLarge, broker.ReasonHousehold}

// Refused reports whether a question is refused whatever records there are. Then
// nobody need look for them: what is not read cannot leak, not even by the time that
// it takes. It decides nothing; Decide does, for a Question that is Unread.
func (c *Committer) Refused(ctx context.Context, sub broker.SubscriptionID, subject broker.SubjectKey) (refused bool, err error) {
	if err := c.learn(ctx); err != nil {
		return false, err
	}
	c.broker.control.View(func(st *registry.State) {
		var w *world
		if w, err = c.broker.worlds.at(st); err != nil {
			err = &HeldError{err}
			return
		}
		in := &instant{world: w, state: st, now: c.broker.now()}
		if st.At().After(in.now) {
			in.now = st.At()
		}
		r := w.routes[st.Terms(sub)]
		if r == nil {
			refused = true
			return
		}
		var x asking
		refused = whatever(x.ask(context.WithoutCancel(ctx), c.broker, in, r, subject, blank(r, in.now)))
	})
	return refused, err
}

// blank is a question without a record: as if about one of a period that the bases
// reach, or else the period would hide what else is missing, such as a case, and
// who may not ask would learn whether there is a record.
func blank(r *route, now time.Time) *broker.Facts {
	f := &broker.Facts{Time: now, Attributes: make([]string, len(r.terms.Dataset.Attributes)), Usage: broker.Usage{Granted: 1}}
	for i := range r.terms.Bases {
		about := r.terms.Bases[i].About
		if about == nil {
			continue
		}
		if at := r.terms.Dataset.AttributeIndex(about.Attribute); at >= 0 {
			f.Attributes[at] = max(f.Attributes[at], cmp.Or(about.From, about.To, "0"))
		}
	}
	return f
}

// whatever reports whether it is a denial that no record would change.
func whatever(o *broker.Outcome) bool {
	return !o.Permit && slices.ContainsFunc(o.Reasons, func(r broker.Reason) bool { return !slices.Contains(ofRecord, r) })
}

// Decide decides and commits the questions of one request, each by itself, and
// answers them in their order. Where it fails, no question is answered.
func (c *Committer) Decide(ctx context.Context, questions []Question) ([]Answer, error) {
	a := &asked{questions: questions}
	_, _ = rand.Read(a.request[:]) // it never fails; and is not the client's, who could make two decisions look like one
	if err := a.households(); err != nil {
		return nil, err
	}
	if err := c.ask(ctx, a); err != nil {
		return nil, err
	}
	return a.answers, nil
}

// decide makes the rows of all at one instant, or says whose ceilings need more of a
// lease first.
func (c *Committer) decide(ctx context.Context, all []*asked) (in *instant, short []shortage, err error) {
	b := c.broker
	// A cancelled evaluation would be an error, and an error is a denial.
	ctx = context.WithoutCancel(ctx)
	b.control.View(func(st *registry.State) {
		if in, err = c.instant(st); err != nil {
			return
		}
		c.asking.memo.Reset()
		t := &turn{c: c, in: in, used: map[broker.AgreementID]int64{}, demand: map[broker.AgreementID]int64{}}
		for _, a := range all {
			a.err, a.rows, a.answers, a.outcomes = nil, a.rows[:0], make([]Answer, len(a.questions)), make([]*broker.Outcome, len(a.held))
			a.news, a.combined = make([]bool, len(a.held)), make([][]byte, len(a.questions))
			for i := range a.questions {
				if a.err = t.question(ctx, a, i); a.err != nil {
					a.rows, a.answers = a.rows[:0], nil // the others know nothing of it
					break
				}
				t.together(a, i)
			}
			if err = t.door(ctx, a); err != nil {
				return
			}
		}
		for id, n := range t.demand {
			want := c.usage[id] + n
			if want > st.Granted(id, c.lease, 0) && st.Unleased(id) > 0 {
				parts := int64(1)
				if g := st.Agreement(id); g != nil {
					parts += b.partitionsOf(st, g.Dataset)
				}
				short = append(short, shortage{leaseKey{id, c.lease, 0}, want, c.spent[id].add(n, time.Now()).ahead(), parts})
			}
		}
	})
	return in, short, err
}

// turn is what one instant's decisions add up to.
type turn struct {
	c      *Committer
	in     *instant
	used   map[broker.AgreementID]int64 // permits under ceilings, of this turn
	demand map[broker.AgreementID]int64 // and those that were denied for the lease
}

func (t *turn) question(ctx context.Context, a *asked, i int) error {
	c, in, q := t.c, t.in, &a.questions[i]
	answer := &a.answers[i]
	answer.Revision, answer.Time, answer.Request = in.revision, in.now, q.request
	r := in.world.routes[in.state.Terms(q.Subscription)]
	if r == nil || !r.terms.Subscription.Lookup {
		// It was checked before; it has changed since. There are no terms to name.
		answer.Again = true
		return nil
	}
	if r.projection.Household() != (q.Household > 0) { // another package by now
		answer.Again = true
		return nil
	}
	ds := in.world.datasets[r.terms.Dataset.ID]
	pseudonym, err := c.broker.hasher.Pseudonym(in.period, q.Subject)
	if err != nil {
		return err // without it there is no evidence
	}
	nowhere := broker.Position{Dataset: r.terms.Dataset.ID, Offset: broker.Nowhere}
	scope := match.ScopeOf(r.terms)
	from := len(a.rows)
	for _, f := range q.Found {
		if f.by != ds { // declared anew since it was read
			if err := f.read(c.broker, ds); err != nil {
				return err
			}
		}
		if f.rec.Subject != q.Subject || !f.rec.HasSubject || f.rec.Dataset != r.terms.Dataset.ID {
			return errOtherSubject
		}
		in.state.Consult(&f.rec)
		if !scope.Holds(&f.rec, in.state) {
			continue
		}
		x := row{kind: broker.LookupDecision, question: i, route: r, subject: q.Subject, found: f,
			single: deliver.Single{Position: f.rec.Position, Event: f.rec.Event, Subject: pseudonym, Kind: f.rec.Kind, Request: q.request},
			facts:  broker.Facts{Time: in.now, Kind: f.rec.Kind, Attributes: f.rec.Attributes}}
		if f.rec.Offset == broker.Nowhere {
			x.single.Position = nowhere
		}
		t.permit(ctx, &x)
		a.rows = append(a.rows, x)
	}
	if len(a.rows) > from {
		return nil
	}
	x := row{kind: broker.LookupDecision, question: i, route: r, subject: q.Subject, facts: *blank(r, in.now),
		single: deliver.Single{Position: nowhere, Subject: pseudonym, Request: q.request}}
	x.decision = deliver.Decision{Terms: r.terms, Outcome: c.asking.ask(ctx, c.broker, in, r, q.Subject, &x.facts)}
	if q.Unread && q.Household == 0 && !whatever(x.decision.Outcome) {
		answer.Again = true
		return nil
	}
	t.relyOn(&x)
	a.rows = append(a.rows, x)
	return nil
}

// permit decides on a record, and reduces it where it may go.
func (t *turn) permit(ctx context.Context, x *row) {
	c, r, id := t.c, x.route, x.route.terms.Agreement.ID
	if r.ceiling {
		x.facts.Usage = broker.Usage{Granted: t.in.state.Granted(id, c.lease, 0), Delivered: c.usage[id] + t.used[id]}
	}
	outcome := c.asking.ask(ctx, c.broker, t.in, r, x.subject, &x.facts)
	x.decision = deliver.Decision{Terms: r.terms, Outcome: outcome}
	if r.ceiling && (outcome.Permit || x.facts.Usage.Delivered >= x.facts.Usage.Granted) {
		t.demand[id]++
	}
	if !outcome.Permit {
		return
	}
	if r.projection.Household() {
		t.part(x)
		return
	}
	data, shielded, err := r.projection.Append(nil, &x.found.doc, x.found.rec.Attributes)
	switch {
	case err != nil:
		x.decision.Outcome = unreduced(err)
		return
	case len(data) > c.broker.cfg.MaxDelivery:
		x.decision.Outcome = denyTooLarge
		return
	}
	x.data, x.decision.Shielded, x.decision.Fields = data, shielded, r.projection.Fields(shielded)
	if r.ceiling {
		t.used[id]++
	}
	t.relyOn(x)
}

// relyOn notes when the earliest ends of what a permit rests on, after it was asked.
func (t *turn) relyOn(x *row) {
	bound := func(to time.Time) {
		if to.After(t.in.now) && (x.until.IsZero() || to.Before(x.until)) {
			x.until = to
		}
	}
	for _, end := range x.route.ends {
		bound(end)
	}
	for i := range x.facts.Cases {
		bound(x.facts.Cases[i].To)
	}
	for i := range x.facts.Consents {
		bound(x.facts.Consents[i].Valid.To)
	}
	x.facts.Cases, x.facts.Consents = nil, nil // they are the scratch's
}

// judge asks again about what was permitted, where the registry has moved since in,
// or something ended by the clock. What is permitted no more gets a row that says so.
// moved is that there was anything to judge.
func (c *Committer) judge(ctx context.Context, in *instant, all []*asked) (now *instant, moved bool, err error) {
	ctx = context.WithoutCancel(ctx)
	c.broker.control.View(func(st *registry.State) {
		if now, err = c.instant(st); err != nil {
			return
		}
		moved = now.revision != in.revision
		c.asking.memo.Reset()
		for _, a := range all {
			for i := range a.rows {
				x := &a.rows[i]
				lapsed := !x.until.IsZero() && !now.now.Before(x.until)
				if x.kind != broker.LookupDecision || !x.decision.Outcome.Permit || x.withheld != nil || !moved && !lapsed {
					continue
				}
				moved = moved || lapsed
				outcome := c.again(ctx, now, x)
				if outcome.Permit {
					continue
				}
				if err = c.withhold(now, x, outcome); err != nil {
					return
				}
			}
			if err = c.withholdHouseholds(now, a); err != nil {
				return
			}
			for i := range a.rows {
				if w := a.rows[i].withheld; w != nil && !w.durable {
					a.rows = append(a.rows, *w)
					w.durable = true // by its copy, which the caller writes next
				}
			}
		}
	})
	return now, moved, err
}

// withhold takes a durable permit back, by a decision of its own.
func (c *Committer) withhold(in *instant, x *row, outcome *broker.Outcome) (err error) {
	w := row{kind: broker.DoorDecision, again: true, question: x.question, route: x.route, subject: x.subject, single: x.single,
		decision: deliver.Decision{Terms: x.route.terms, Outcome: outcome}}
	if w.single.Subject, err = c.broker.hasher.Pseudonym(in.period, x.subject); err != nil {
		return err
	}
	if x.single.Position.Offset == broker.Nowhere { // no door has a place for it
		w.kind = broker.LookupDecision
		_, _ = rand.Read(w.single.Request[:])
		w.single.Request = broker.HouseholdRequest(w.single.Request, 0) // it stands by itself
	} else {
		w.single.Request = broker.Digest{}
	}
	x.withheld = &w
	return nil
}

// again judges a permit once more. Its ceiling has counted it, and is not asked.
func (c *Committer) again(ctx context.Context, in *instant, x *row) *broker.Outcome {
	r := in.world.routes[in.state.Terms(x.route.id)]
	if r == nil || !r.terms.Subscription.Lookup || r.terms.Agreement.ID != x.route.terms.Agreement.ID || r.terms.Dataset != x.route.terms.Dataset {
		return denyPolicyError
	}
	if x.found != nil && !covers(r.terms.Package, x.route.terms.Package) {
		return denyNotMinimisable
	}
	facts := broker.Facts{Time: in.now, Kind: x.facts.Kind, Attributes: x.facts.Attributes, Usage: broker.Usage{Granted: 1}}
	return c.asking.ask(ctx, c.broker, in, r, x.subject, &facts)
}

// answer makes answers of the rows, all of which are durable.
func (c *Committer) answer(all []*asked) {
	for _, a := range all {
		for i := range a.rows {
			x := &a.rows[i]
			if x.question < 0 || x.again {
				continue
			}
			answer := &a.answers[x.question]
			said := x
			if x.withheld != nil {
				said = x.withheld
			}
			id := said.id()
			if answer.Outcome == nil || said.decision.Outcome.Permit {
				answer.Decision, answer.Outcome = id, said.decision.Outcome
			}
			switch {
			case a.questions[x.question].Household > 0:
				continue // of one subject by itself nothing is handed over
			case x.found == nil:
				answer.Nothing = said.decision.Outcome.Permit
				continue
			case !said.decision.Outcome.Permit:
				answer.Refused = append(answer.Refused, RefusedRecord{id, said.decision.Outcome})
				continue
			}
			rec := &x.found.rec
			l := LookedUp{Decision: id, Delivery: broker.NewDeliveryID(rec.Event, x.route.id), Kind: rec.Kind, Type: rec.Type, Time: rec.Time,
				Provisional: rec.Provisional, Shielded: x.decision.Shielded, Data: x.data}
			if rec.Kind != broker.Original {
				l.Of = broker.NewDeliveryID(rec.Of, x.route.id)
			}
			answer.Records = append(answer.Records, l)
		}
		for i := range a.answers {
			if h := a.questions[i].Household; h > 0 {
				a.answers[i].Together = a.combined[h-1]
			}
		}
	}
}

// id is the decision's, as its readers make it.
func (x *row) id() broker.DecisionID {
	p, sub := &x.single.Position, x.decision.Terms.Subscription.ID
	if x.kind == broker.LookupDecision {
		return broker.NewLookupID(x.single.Request, x.single.Event, p, sub)
	}
	return broker.NewDecisionID(x.kind, p.TopicID, p.Partition, p.Offset, sub)
}
