package flow

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/intake"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// What consumers ask for in a scenario, of one instance or the other: lookups, bundles
// of them, households, and what lies in a feed.

// about is a subject by its name in the scenario: p and a number, or an organisation.
func (s *scenario) about(name string) broker.SubjectKey {
	if strings.HasPrefix(name, "p") {
		return s.ring.Subject(broker.Person, s.person(name))
	}
	return s.ring.Subject(broker.OrganisationSubject, name)
}

// named has the scenario's names for identity numbers.
func (s *scenario) named(text string) string {
	for id, name := range s.subjects {
		text = strings.ReplaceAll(text, id, name)
	}
	return text
}

func (s *scenario) datasets() (out []string) {
	s.control.View(func(st *registry.State) {
		for _, d := range st.Datasets() {
			if d.Endpoint == nil {
				out = append(out, string(d.ID))
			}
		}
	})
	return out
}

func (s *scenario) kafkaMailboxes() (out []string) {
	s.control.View(func(st *registry.State) {
		for _, m := range st.Mailboxes() {
			if m.Channel == broker.KafkaChannel {
				out = append(out, string(m.ID))
			}
		}
	})
	return out
}

// ask does what a consumer asks for, and prints it with the decisions that it made.
func (s *scenario) ask(b *Broker, words []string) string {
	if b == nil {
		s.t.Fatalf("%v: the instance is not running", words)
	}
	s.t.Cleanup(b.Committer().Close)
	var out strings.Builder
	switch words[0] {
	case "lookup": // lookup SUBJECT SUBSCRIPTION…: a bundle, where there are several
		s.lookUp(&out, b, words[1], words[2:])
	case "household": // household SUBSCRIPTION SUBJECT…
		s.together(&out, b, words[1], words[2:])
	case "read": // read MAILBOX: all that lies there, from the beginning, as a feed hands it over
		s.readFeed(&out, b, broker.MailboxID(words[1]))
	default:
		s.t.Fatalf("no question %q", words[0])
	}
	if news := s.news(); news != "nothing\n" {
		out.WriteString(news)
	}
	return out.String()
}

// question finds what there is on a subject, unless it is to be refused whatever there is.
func (s *scenario) question(b *Broker, sub, subject string) Question {
	c := b.Committer()
	q := Question{Subscription: broker.SubscriptionID(sub), Subject: s.about(subject)}
	refused, err := c.Refused(s.ctx, q.Subscription, q.Subject)
	if err != nil {
		s.t.Fatal(err)
	}
	if q.Unread = refused; refused {
		return q
	}
	var ds broker.DatasetID
	s.control.View(func(st *registry.State) { ds = st.Terms(q.Subscription).Dataset.ID })
	adm, err := s.engine.Admin()
	if err != nil {
		s.t.Fatal(err)
	}
	defer adm.Close()
	topic := s.topics.Source(string(ds))
	known, err := kafka.TopicIDs(s.ctx, adm, topic)
	if err != nil {
		s.t.Fatal(err)
	}
	var found []*Found
	if err := each(s.ctx, s.engine, topic, func(r *kgo.Record) error {
		f, err := c.Accept(ds, &intake.Message{Position: broker.Position{Dataset: ds, TopicID: known[topic], Partition: r.Partition, Offset: r.Offset},
			Timestamp: r.Timestamp, Headers: intake.HeadersOf(r.Headers), Value: slices.Clone(r.Value)})
		if err != nil || f.rec.Subject != q.Subject || !c.InScope(q.Subscription, f) {
			return nil // rejected, or of no concern
		}
		if f.rec.Kind != broker.Original {
			found = slices.DeleteFunc(found, func(o *Found) bool { return o.rec.Event == f.rec.Of })
		}
		if f.rec.Kind != broker.Retraction {
			found = append(found, f)
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	if n := len(found); n > 0 {
		q.Found = found[n-1:]
	}
	return q
}

func (s *scenario) decideOn(b *Broker, questions []Question) []Answer {
	answers, err := b.Committer().Decide(s.ctx, questions)
	if err != nil {
		s.t.Fatal(err)
	}
	return answers
}

func (s *scenario) lookUp(out *strings.Builder, b *Broker, subject string, subs []string) {
	var questions []Question
	for _, sub := range subs {
		questions = append(questions, s.question(b, sub, subject))
	}
	for i, a := range s.decideOn(b, questions) {
		switch {
		case len(a.Records) > 0:
			fmt.Fprintf(out, "answer %s found %s\n", subs[i], s.named(string(a.Records[0].Data)))
		case a.Nothing:
			fmt.Fprintf(out, "answer %s nothing\n", subs[i])
		default:
			fmt.Fprintf(out, "answer %s refused %v\n", subs[i], a.Outcome.Reasons)
		}
	}
}

func (s *scenario) together(out *strings.Builder, b *Broker, sub string, subjects []string) {
	var questions []Question
	unread := false
	for _, name := range subjects {
		q := s.question(b, sub, name)
		q.Household = 1
		unread = unread || q.Unread
		questions = append(questions, q)
	}
	for i := range questions {
		if unread {
			questions[i].Unread, questions[i].Found = true, nil
		}
	}
	answers := s.decideOn(b, questions)
	if a := answers[0].Together; a != nil {
		fmt.Fprintf(out, "answer %s answered %s\n", sub, a)
		return
	}
	told := 0
	for i := range answers {
		if why := answers[i].Told(); len(why) > 0 {
			told++
			fmt.Fprintf(out, "answer %s refused of number %d %v\n", sub, i+1, why)
		}
	}
	if told == 0 {
		fmt.Fprintf(out, "answer %s unanswered\n", sub)
	}
}

func (s *scenario) readFeed(out *strings.Builder, b *Broker, mailbox broker.MailboxID) {
	var held []Held
	var values []string
	all := s.heldFrom()
	at := 0
	if err := each(s.ctx, s.engine, s.topics.Deliveries(), func(r *kgo.Record) error {
		if all[at].Mailbox == mailbox {
			held, values = append(held, all[at]), append(values, s.named(string(r.Value)))
		}
		at++
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	outcomes, err := b.Doorkeeper().Admit(s.ctx, held, make([]broker.DecisionID, len(held)))
	if err != nil {
		s.t.Fatal(err)
	}
	var lines []string
	for i, o := range outcomes {
		if o.Permit {
			lines = append(lines, fmt.Sprintf("handed over %s %s\n", held[i].Subscription, values[i]))
		} else {
			lines = append(lines, fmt.Sprintf("withheld %s %v\n", held[i].Subscription, o.Reasons))
		}
	}
	slices.Sort(lines)
	if len(lines) == 0 {
		lines = append(lines, "the feed is empty\n")
	}
	out.WriteString(strings.Join(lines, ""))
}

// gone records an organisation's end, and that its successor follows it as a subject.
func (s *scenario) gone(words []string) string {
	on, err := time.Parse(time.DateOnly, words[1])
	if err != nil {
		s.t.Fatal(err)
	}
	u := registry.UnitEnd{Organisation: broker.OrgNumber(words[0]), On: on}
	changes := []registry.Change{}
	if len(words) > 2 {
		u.Successor = broker.OrgNumber(words[2])
		changes = append(changes, registry.SucceedSubject(registry.SubjectSuccession{Subject: s.about(words[0]), Successor: s.about(words[2])}))
	}
	s.change(append(changes, registry.EndUnit(u))...)
	return s.bound()
}
