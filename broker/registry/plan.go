package registry

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"datafordeler/broker"
)

// Action is what applying does to one declared thing.
type Action string

// The actions.
const (
	Create Action = "create"
	Update Action = "update"
	Same   Action = "same"
)

// Step is one declaration of a plan.
type Step struct {
	Action Action
	Kind   Kind
	ID     string
	File   string
	Line   int
	// Diff has a line for each value that an update changes, by its path:
	// "cost/ceiling: 40 → 50".
	Diff []string
}

// Plan is what applying declarations to a state would do. Events are to be
// appended in order, in one transaction, on the revision On: if another change
// comes first they all lose, and a new plan is made.
type Plan struct {
	On     broker.Revision
	Steps  []Step
	Events []Event
	after  *State // the catalogue as it would be
}

// maxEvent keeps a control event within what Kafka takes by default (1 MiB with
// headers), in bytes.
const maxEvent = 900_000

// NewPlan holds state and declarations together against every rule. The error is
// [Faults], all of them, and then there is no plan.
func NewPlan(s *State, docs []Document, actor string, now time.Time) (*Plan, error) {
	if err := checkActor(actor); err != nil {
		return nil, err
	}
	w := newWorld(s, docs)
	w.validate()

	ordered := make([]*Document, 0, len(w.docs))
	for _, d := range w.docs {
		ordered = append(ordered, d)
	}
	slices.SortFunc(ordered, func(a, b *Document) int {
		return cmp.Or(cmp.Compare(a.Kind.rank(), b.Kind.rank()), cmp.Compare(a.ID(), b.ID()))
	})
	// A scratch state takes the puts one by one, so that what Fold would refuse
	// is known before anything is written.
	scratch := &State{catalogue: s.catalogue.clone(), withdrawn: s.withdrawn, leased: s.leased, credentials: s.credentials, regime: s.regime.clone(), units: s.units}
	p := &Plan{On: s.revision, after: scratch}
	var changes []Change
	for _, d := range ordered {
		step := Step{Action: Create, Kind: d.Kind, ID: d.ID(), File: d.File, Line: d.Line}
		scratch.fill(d.Body)
		if old := s.standingAs(d.Body); old != nil {
			step.Action = Same
			if !equal(old, d.Body) {
				step.Action, step.Diff = Update, diff(old, d.Body)
			}
		}
		p.Steps = append(p.Steps, step)
		if step.Action == Same {
			continue
		}
		if f, ok := d.Body.(*broker.Framework); ok && !f.FourEyes && scratch.AsksFourEyes(f.Provider, f.Dataset) {
			w.at(at{doc: d}, "", fmt.Sprintf("framework %s: its provider, or its dataset, asks for four eyes", f.ID), "say fourEyes: true, and have another function approve the terms (kind: approval)")
		}
		c := change(d.Kind.put(), d.Body)
		if !w.faulty[d] {
			reason := scratch.refuse(d.Body, c.Type)
			if reason == "" {
				reason = scratch.refuseAt(d.Body, now)
			}
			if reason != "" {
				w.at(at{doc: d}, "", reason, "")
				w.faulty[d] = true
			}
			if len(c.Data) > maxEvent {
				w.at(at{doc: d}, "", fmt.Sprintf("%s %s is %d bytes as a control event; the most is %d", d.Kind, d.ID(), len(c.Data), maxEvent), "shorten its schemas, or split the dataset")
			}
		}
		switch d.Kind {
		case KindCosignature, KindApproval, KindInvitation, KindStep, KindAccession:
			if !w.faulty[d] { // what was refused cannot be done, and what rests on it says so too
				scratch.applyRegime(d.Body, &Event{At: now, Actor: actor})
			}
		default:
			scratch.put(d.Body)
		}
		changes = append(changes, c)
	}
	if err := w.faults.err(); err != nil {
		return nil, err
	}
	var err error
	p.Events, err = s.Link(now, actor, changes...)
	return p, err
}

// get is what is registered under the body's name, or nil.
func (c *catalogue) get(body any) any {
	switch v := body.(type) {
	case *broker.Organisation:
		return orNil(c.organisations[v.Number])
	case *broker.Dataset:
		return orNil(c.datasets[v.ID])
	case *broker.LegalBasis:
		return orNil(c.bases[v.ID])
	case *broker.RightsPackage:
		return orNil(c.packages[v.Ref()])
	case *broker.Mailbox:
		return orNil(c.mailboxes[v.ID])
	case *broker.Agreement:
		return orNil(c.agreements[v.ID])
	case *broker.Subscription:
		return orNil(c.subscriptions[v.ID])
	case *broker.Delegation:
		return orNil(c.delegations[v.ID])
	case *broker.Role:
		return orNil(c.roles[v.ID])
	case *broker.LegalAssessment:
		return orNil(c.assessments[v.ID])
	case *broker.TruthTable:
		return orNil(c.tables[v.ID])
	case *broker.Need:
		return orNil(c.needs[v.ID])
	case *broker.Framework:
		return orNil(c.frameworks[v.ID])
	}
	return nil
}

func orNil[T any](p *T) any {
	if p == nil {
		return nil
	}
	return p
}

// Retention is how long topics would keep records if the plan was carried out.
func (p *Plan) Retention(def RetentionDefaults) *Retention { return p.after.Retention(def) }

// KafkaAccess is what credentials would be worth if the plan was carried out.
func (p *Plan) KafkaAccess(at time.Time) []KafkaAccess {
	all, _ := p.after.KafkaAccess(at)
	return all
}

// Count is how many steps have an action.
func (p *Plan) Count(a Action) int {
	n := 0
	for _, s := range p.Steps {
		if s.Action == a {
			n++
		}
	}
	return n
}

// String is for whoever reads it before it is done: a line for each change, its
// differences below it, and the sum.
func (p *Plan) String() string {
	var b strings.Builder
	for _, s := range p.Steps {
		sign := map[Action]string{Create: "+", Update: "~"}[s.Action]
		if sign == "" {
			continue
		}
		fmt.Fprintf(&b, "%s %s %s (%s:%d)\n", sign, s.Kind, s.ID, s.File, s.Line)
		for _, d := range s.Diff {
			fmt.Fprintf(&b, "    %s\n", d)
		}
	}
	fmt.Fprintf(&b, "%d to create, %d to update, %d as they are, on revision %d\n", p.Count(Create), p.Count(Update), p.Count(Same), p.On)
	return b.String()
}

// diff compares two things value by value, by path.
func diff(old, new any) []string {
	was, is := flatten(old), flatten(new)
	var out []string
	for _, path := range sortedKeys(was) {
		switch v, ok := is[path]; {
		case !ok:
			out = append(out, fmt.Sprintf("%s: %s → (gone)", path, was[path]))
		case v != was[path]:
			out = append(out, fmt.Sprintf("%s: %s → %s", path, was[path], v))
		}
	}
	for _, path := range sortedKeys(is) {
		if _, ok := was[path]; !ok {
			out = append(out, fmt.Sprintf("%s: (new) → %s", path, is[path]))
		}
	}
	slices.Sort(out)
	return out
}

func flatten(v any) map[string]string {
	out := map[string]string{}
	b, err := json.Marshal(v)
	if err != nil {
		return out
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return out
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		if strings.HasPrefix(path, "schemas/") && strings.HasSuffix(path, "/document") && strings.Count(path, "/") == 2 {
			b, _ := json.Marshal(v) // it was JSON
			sum := sha256.Sum256(b)
			out[path] = fmt.Sprintf("schema of %d bytes (%x)", len(b), sum[:4])
			return
		}
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				walk(join(path, k), e)
			}
		case []any:
			for i, e := range v {
				walk(join(path, strconv.Itoa(i)), e)
			}
		default:
			if text, ok := v.(string); ok {
				if rows := tableRows(text); path == "csv" && rows != nil {
					for situation, row := range rows {
						out["csv/"+situation] = row
					}
					return
				}
				if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
					v = day(t)
				}
			}
			b, _ := json.Marshal(v) // it was JSON
			out[path] = string(b)
		}
	}
	walk("", tree)
	return out
}
