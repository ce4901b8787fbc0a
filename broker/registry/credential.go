package registry

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
)

// Credential is a login with Kafka that an organisation issued to itself: for one
// mailbox that it receives in, or for one dataset that it owns. Its secret stands
// nowhere here; Kafka has a salted hash of it.
//
// A credential says who comes, never that it may: what that rests on is asked of
// the rest of the state each time, by [State.KafkaAccess].
type Credential struct {
	ID           string           `json:"id"` // df-<organisation>-<16 letters or digits>
	Organisation broker.OrgNumber `json:"organisation"`
	Client       string           `json:"client,omitempty"` // of the token that asked for it
	Mailbox      broker.MailboxID `json:"mailbox,omitempty"`
	Dataset      broker.DatasetID `json:"dataset,omitempty"`
}

// CredentialEnd takes a credential back, from At on, which may lie ahead: a new one
// can be brought into use beside the old. A later one may bring the end nearer,
// never put it off.
type CredentialEnd struct {
	ID     string    `json:"id"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// IssuedCredential is a credential with when and by whom it was issued, and when
// it ends.
type IssuedCredential struct {
	Credential
	At    time.Time `json:"at"`
	Actor string    `json:"actor"`
	Ends  time.Time `json:"ends"` // zero: not said
}

// IssueCredential records a credential before Kafka learns its secret.
func IssueCredential(c Credential) Change { return change(CredentialIssued, c) }

// EndCredential takes one back.
func EndCredential(id string, at time.Time, reason string) Change {
	return change(CredentialRevoked, CredentialEnd{id, at.UTC(), reason})
}

var credentialID = regexp.MustCompile(`^df-([0-9]{9})-[a-z0-9]{16}$`)

func (s *State) refuseCredential(v *Credential) string {
	m := credentialID.FindStringSubmatch(v.ID)
	switch {
	case m == nil || m[1] != string(v.Organisation):
		return "a credential is named df-<its organisation's number>-<16 letters or digits>"
	case s.organisations[v.Organisation] == nil:
		return unknown("organisation", v.Organisation)
	case (v.Mailbox == "") == (v.Dataset == ""):
		return "a credential is for one mailbox or for one dataset"
	}
	if _, ok := s.credentials[v.ID]; ok {
		return fmt.Sprintf("credential %s was issued before: a new one has a new name", v.ID)
	}
	if len(v.Client) > 200 || elevenDigits(v.Client) {
		return "the client is longer than 200 bytes, or holds eleven digits in a row: it could be a person's number"
	}
	if v.Mailbox != "" {
		b := s.mailboxes[v.Mailbox]
		switch {
		case b == nil:
			return unknown("mailbox", v.Mailbox)
		case b.Organisation != v.Organisation:
			return fmt.Sprintf("mailbox %s belongs to %s, not to %s", v.Mailbox, b.Organisation, v.Organisation)
		case b.Channel != broker.KafkaChannel:
			return fmt.Sprintf("mailbox %s does not receive by Kafka", v.Mailbox)
		}
	} else {
		d := s.datasets[v.Dataset]
		switch {
		case d == nil:
			return unknown("dataset", v.Dataset)
		case d.Owner != v.Organisation:
			return fmt.Sprintf("dataset %s belongs to %s, not to %s", v.Dataset, d.Owner, v.Organisation)
		}
	}
	return name(v.ID)
}

func (s *State) refuseCredentialEnd(v *CredentialEnd) string {
	c, ok := s.credentials[v.ID]
	switch {
	case !ok:
		return fmt.Sprintf("no credential %q was issued", v.ID)
	case v.At.IsZero():
		return "a credential ends at a time"
	case !c.Ends.IsZero() && !v.At.Before(c.Ends):
		return fmt.Sprintf("credential %s ends before that already", v.ID)
	case strings.TrimSpace(v.Reason) == "":
		return "a credential is taken back for a reason"
	}
	return faultyReason(v.Reason)
}

// Credentials lists all that were ever issued, by name.
func (s *State) Credentials() []IssuedCredential {
	out := make([]IssuedCredential, 0, len(s.credentials))
	for _, id := range slices.Sorted(maps.Keys(s.credentials)) {
		out = append(out, s.credentials[id])
	}
	return out
}

// KafkaRevision is the last revision that may have changed what credentials are
// worth; only the clock can besides.
func (s *State) KafkaRevision() broker.Revision { return max(s.structure, s.logins) }

// Standing is what a credential is worth at a time.
type Standing int

// The three.
const (
	// Stands: it may be used.
	Stands Standing = iota + 1
	// Held: not now, but what it rests on may come back, so its secret is kept.
	Held
	// Over: for good. It has ended, or what it rested on has.
	Over
)

// String is for people.
func (s Standing) String() string {
	switch s {
	case Stands:
		return "stands"
	case Held:
		return "held"
	case Over:
		return "over"
	}
	return "unknown"
}

// KafkaAccess is a credential's standing, and why it does not stand.
type KafkaAccess struct {
	IssuedCredential
	Standing Standing
	Why      string // "" where it stands
}

// KafkaAccess is what each credential is worth at a time, by name; and when the
// next of these answers changes by the clock alone, zero if none does.
//
// None stands of an organisation that is no more. One for a dataset stands while its
// organisation owns the dataset, and it does not stay with its provider. One for a mailbox
// stands while the mailbox receives by Kafka, is not suspended, and some subscription in it
// is in force: not suspended or frozen, under an agreement that is active and valid, whose
// parties are all there still, and with a valid delegation of the dataset where a supplier
// receives.
func (s *State) KafkaAccess(at time.Time) (all []KafkaAccess, next time.Time) {
	if len(s.credentials) == 0 {
		return nil, time.Time{}
	}
	j := judge{s: s, clock: clock{at: at}, subscriptions: map[broker.MailboxID][]*broker.Subscription{}, given: map[pair][]*broker.Delegation{}}
	for _, sub := range s.Subscriptions() {
		j.subscriptions[sub.Mailbox] = append(j.subscriptions[sub.Mailbox], sub)
	}
	for _, d := range s.Delegations() {
		j.given[pair{d.From, d.To}] = append(j.given[pair{d.From, d.To}], d)
	}
	for _, c := range s.Credentials() {
		a := KafkaAccess{IssuedCredential: c, Standing: Stands}
		switch {
		case !c.Ends.IsZero() && !j.before(c.Ends):
			a.Standing, a.Why = Over, "it was taken back"
		case s.gone(c.Organisation): // until that is found to be a mistake
			a.Standing, a.Why = Held, fmt.Sprintf("organisation %s is no more, says the register of legal entities", c.Organisation)
		case c.Mailbox != "":
			a.Standing, a.Why = j.mailbox(s.mailboxes[c.Mailbox])
		case s.datasets[c.Dataset].Owner != c.Organisation:
			a.Standing, a.Why = Over, "the dataset has another owner"
		case s.datasets[c.Dataset].Endpoint != nil:
			a.Standing, a.Why = Held, "the dataset stays with its provider: nothing is published"
		}
		all = append(all, a)
	}
	return all, j.next
}

// judge is a state at a time, with what finds its parts.
type judge struct {
	s *State
	clock
	subscriptions map[broker.MailboxID][]*broker.Subscription
	given         map[pair][]*broker.Delegation
}

// clock is a time, and the first moment after it that it was compared with.
type clock struct{ at, next time.Time }

// before reports that it is not t yet.
func (c *clock) before(t time.Time) bool {
	if !c.at.Before(t) {
		return false
	}
	if c.next.IsZero() || t.Before(c.next) {
		c.next = t
	}
	return true
}

// within says whether the time lies in the interval, and whether it is past it.
func (c *clock) within(i broker.Interval) (in, past bool) {
	if c.before(i.From) {
		return false, false
	}
	if !i.To.IsZero() && !c.before(i.To) {
		return false, true
	}
	return true, false
}

func (j *judge) mailbox(m *broker.Mailbox) (Standing, string) {
	subs := j.subscriptions[m.ID]
	best, why := Over, ""
	if len(subs) == 0 {
		best, why = Held, "no subscription delivers to the mailbox"
	}
	// All of them are looked at, so that the clock knows every moment that counts.
	for _, sub := range subs {
		if st, says := j.subscription(sub); st < best || why == "" {
			best, why = st, says
		}
	}
	switch {
	case best == Over:
		return Over, why
	case m.Channel != broker.KafkaChannel:
		return Held, "the mailbox does not receive by Kafka"
	case m.Suspended:
		return Held, "the mailbox is suspended"
	case len(j.s.FrozenBy(FreezeMailbox, string(m.ID))) > 0:
		return Held, "the mailbox is frozen"
	case best == Held:
		return Held, why
	}
	return Stands, ""
}

func (j *judge) subscription(sub *broker.Subscription) (Standing, string) {
	a := j.s.agreements[sub.Agreement]
	if a.Status == broker.Ended {
		return Over, fmt.Sprintf("agreement %s has ended", a.ID)
	}
	in, past := j.within(a.Valid)
	standing, why := Stands, ""
	if a.Supplier != "" {
		standing, why = j.delegation(a)
	}
	switch {
	case standing == Over:
		return Over, why
	case j.s.partyEnded(a):
		return Held, fmt.Sprintf("agreement %s has a party that is no more, says the register of legal entities", a.ID)
	case a.Status != broker.Active:
		return Held, fmt.Sprintf("agreement %s is %s", a.ID, a.Status)
	case past:
		return Held, fmt.Sprintf("agreement %s is past its interval", a.ID) // it may be prolonged
	case !in:
		return Held, fmt.Sprintf("agreement %s is not in force yet", a.ID)
	case sub.Suspended:
		return Held, fmt.Sprintf("subscription %s is suspended", sub.ID)
	case j.s.stopped(sub, a):
		return Held, fmt.Sprintf("what subscription %s gets is frozen", sub.ID)
	}
	return standing, why
}

// delegation judges the supplier's leave to receive under an agreement. A
// withdrawal is for good: who delegates anew has its supplier issue anew.
func (j *judge) delegation(a *broker.Agreement) (Standing, string) {
	stands, withdrawn := false, false
	for _, d := range j.given[pair{a.Consumer, a.Supplier}] {
		if !slices.Contains(d.Datasets, a.Dataset) {
			continue
		}
		if w, ok := j.s.withdrawn[d.ID]; ok && !j.before(w.At) {
			withdrawn = true
			continue
		}
		if in, _ := j.within(d.Valid); in {
			stands = true
		}
	}
	switch {
	case stands:
		return Stands, ""
	case withdrawn:
		return Over, fmt.Sprintf("the delegation from %s to %s was withdrawn", a.Consumer, a.Supplier)
	}
	return Held, fmt.Sprintf("no delegation from %s to %s covers dataset %s now", a.Consumer, a.Supplier, a.Dataset)
}
