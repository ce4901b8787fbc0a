package access

import (
	"slices"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// index is what of the registry is asked for at each request. It is read-only, and
// good as long as the registry's structure stands.
type index struct {
	structure broker.Revision
	mailboxes map[broker.MailboxID][]*broker.Agreement // of the subscriptions that deliver into it
	delegated map[pair][]delegation
	consumed  map[broker.OrgNumber][]*broker.Agreement // by their consumer
	parties   map[party]bool                           // who owns, provides or consumes a dataset; "" is any
}

type party struct {
	organisation broker.OrgNumber
	dataset      broker.DatasetID
}

type pair struct{ from, to broker.OrgNumber }

type delegation struct {
	datasets []broker.DatasetID
	valid    broker.Interval
}

func newIndex(st *registry.State) *index {
	x := &index{
		structure: st.Structure(),
		mailboxes: map[broker.MailboxID][]*broker.Agreement{},
		delegated: map[pair][]delegation{},
		consumed:  map[broker.OrgNumber][]*broker.Agreement{},
		parties:   map[party]bool{},
	}
	for _, s := range st.Subscriptions() {
		if a := st.Agreement(s.Agreement); a != nil && s.Mailbox != "" && !slices.Contains(x.mailboxes[s.Mailbox], a) {
			x.mailboxes[s.Mailbox] = append(x.mailboxes[s.Mailbox], a)
		}
	}
	for _, d := range st.Delegations() {
		valid := d.Valid
		if w, ok := st.DelegationWithdrawn(d.ID); ok && (valid.To.IsZero() || w.At.Before(valid.To)) {
			valid.To = w.At // before From too: then it never held
		}
		p := pair{d.From, d.To}
		x.delegated[p] = append(x.delegated[p], delegation{d.Datasets, valid})
	}
	concerns := func(n broker.OrgNumber, d broker.DatasetID) {
		x.parties[party{n, d}], x.parties[party{n, ""}] = true, true
	}
	for _, d := range st.Datasets() {
		concerns(d.Owner, d.ID)
	}
	for _, a := range st.Agreements() {
		concerns(a.Provider, a.Dataset)
		concerns(a.Consumer, a.Dataset)
		x.consumed[a.Consumer] = append(x.consumed[a.Consumer], a)
	}
	return x
}

// delegates reports whether a consumer lets a supplier have a dataset now.
func (x *index) delegates(from, to broker.OrgNumber, d broker.DatasetID, now time.Time) bool {
	return slices.ContainsFunc(x.delegated[pair{from, to}], func(g delegation) bool {
		return g.valid.Contains(now) && slices.Contains(g.datasets, d)
	})
}

// relate reduces a request to what its decision rests on, scope and roles aside.
//
// A supplier's own token for its own mailbox is not by its own hands where the
// mailbox holds another's data: then the delegation is asked for too.
func (x *index) relate(st *registry.State, c *Caller, a Action, r *Resource, now time.Time) (Relation, Via) {
	via := Self
	if c.Supplier != "" {
		via = Undelegated // until a delegation is found for what is named
	}
	if c.Organisation == "" {
		return Other, via
	}
	switch a {
	case PublishRecords, ReadRejections, FreezeDataset, AnswerDeviation:
		return x.owner(st, c, r), via
	case EndDelegation:
		return x.giver(st, c, r), via
	case Receive, StopMailbox:
		return x.receiver(st, c, r, via, now)
	case LookUp, ManageCases, ReportDeviation, GiveReceipt:
		return x.consumer(st, c, r, via, now)
	case AuditOwn, Suspend, Agree:
		return x.party(st, c, r, via, now)
	}
	return Unnamed, via
}

func (x *index) owner(st *registry.State, c *Caller, r *Resource) Relation {
	if r.Dataset == "" {
		return Unnamed
	}
	d := st.Dataset(r.Dataset)
	if *r != (Resource{Dataset: r.Dataset}) || d == nil || d.Owner != c.Organisation {
		return Other
	}
	return Owner
}

// giver is of a delegation.
func (x *index) giver(st *registry.State, c *Caller, r *Resource) Relation {
	if r.Delegation == "" {
		return Unnamed
	}
	d := st.Delegation(r.Delegation)
	if *r != (Resource{Delegation: r.Delegation}) || d == nil || d.From != c.Organisation {
		return Other
	}
	return Owner
}

func (x *index) receiver(st *registry.State, c *Caller, r *Resource, via Via, now time.Time) (Relation, Via) {
	if r.Mailbox == "" {
		return Unnamed, via
	}
	m := st.Mailbox(r.Mailbox)
	if *r != (Resource{Mailbox: r.Mailbox}) || m == nil || m.Organisation != c.Acting() {
		return Other, via
	}
	consumer := st.ReceivesFor(m.ID)
	if consumer == "" { // nothing was ever delivered into it
		consumer = m.Organisation
	}
	if c.Supplier != "" && consumer != c.Organisation {
		return Other, via // the supplier's, but for another consumer
	}
	if consumer == m.Organisation {
		return Receiver, via
	}
	// What has been delegated of what it holds. Each delivery is judged again, by
	// its own agreement, before it is handed out.
	for _, a := range x.mailboxes[m.ID] {
		if a.Supplier == m.Organisation && a.Consumer == consumer && x.delegates(consumer, a.Supplier, a.Dataset, now) {
			return Receiver, Delegated
		}
	}
	return Receiver, Undelegated
}

// agreement is the one that the request names, by itself or by its subscription;
// nil where that is not one.
func agreement(st *registry.State, r *Resource) *broker.Agreement {
	id := r.Agreement
	if r.Subscription != "" {
		s := st.Subscription(r.Subscription)
		if s == nil || id != "" && s.Agreement != id {
			return nil
		}
		id = s.Agreement
	}
	return st.Agreement(id)
}

// acts says by whose hands a caller acts under an agreement of its organisation;
// ok is false where the supplier is not the one that the agreement names.
func (x *index) acts(c *Caller, a *broker.Agreement, now time.Time) (via Via, ok bool) {
	switch {
	case c.Supplier == "":
		return Self, true
	case c.Supplier != a.Supplier || a.Consumer != c.Organisation:
		return Undelegated, false
	case x.delegates(a.Consumer, a.Supplier, a.Dataset, now):
		return Delegated, true
	}
	return Undelegated, true
}

func (x *index) consumer(st *registry.State, c *Caller, r *Resource, via Via, now time.Time) (Relation, Via) {
	if *r == (Resource{}) {
		// To knock, it is enough to be one for whom there is something to ask about:
		// what that is stands in the body, and is judged by itself.
		relation := Unnamed
		for _, a := range x.consumed[c.Organisation] {
			if how, ok := x.acts(c, a, now); ok && (relation == Unnamed || how != Undelegated) {
				relation, via = Consumer, how
				if how != Undelegated {
					break
				}
			}
		}
		return relation, via
	}
	if r.Agreement == "" && r.Subscription == "" {
		return Unnamed, via
	}
	a := agreement(st, r)
	if r.Dataset != "" || r.Mailbox != "" || a == nil || a.Consumer != c.Organisation {
		return Other, via
	}
	via, ok := x.acts(c, a, now)
	if !ok {
		return Other, via
	}
	return Consumer, via
}

// party asks everything that is named. With nothing named, or a dataset alone, it
// is about all that the organisation is party to: that is more than any supplier of
// it may see.
func (x *index) party(st *registry.State, c *Caller, r *Resource, via Via, now time.Time) (Relation, Via) {
	if *r == (Resource{}) {
		if c.Supplier != "" || !x.parties[party{c.Organisation, ""}] {
			return Unnamed, via
		}
		return Party, via
	}
	agreed := r.Agreement != "" || r.Subscription != ""
	if c.Supplier != "" && !agreed && r.Mailbox == "" {
		return Other, via
	}
	if agreed {
		a := agreement(st, r)
		if a == nil || a.Consumer != c.Organisation && a.Provider != c.Organisation || r.Dataset != "" && a.Dataset != r.Dataset {
			return Other, via
		}
		acts, ok := x.acts(c, a, now)
		if !ok {
			return Other, via
		}
		via = acts
	} else if r.Dataset != "" && !x.parties[party{c.Organisation, r.Dataset}] {
		return Other, via
	}
	if r.Mailbox != "" {
		relation, how := x.receiver(st, c, &Resource{Mailbox: r.Mailbox}, via, now)
		switch {
		case relation == Receiver:
			if !agreed || how == Undelegated {
				via = how
			}
		case c.Supplier != "" || st.ReceivesFor(r.Mailbox) != c.Organisation:
			return Other, via
		} // else it is its supplier's mailbox, with its own data
	}
	return Party, via
}
