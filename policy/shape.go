package policy

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"datafordeler/broker"
)

// shaper finds the shape of terms: their static input with stand-ins for the texts
// and times that the policy can do no more with than tell equal from unequal. What
// is left of a policy for one shape is what is left for all terms of that shape,
// with their own texts and times put back. So ten thousand agreements like one
// another are evaluated partially once.
//
// Why that holds: equal values get equal stand-ins and unequal ones unequal; what
// the policy's text mentions, and every number that could be a count, a place in a
// list or lies among the policy's own numbers, stands for itself; and where
// evaluation would order a stand-in (lt, lte, gt, gte) or measure it (count), watch
// sees it, and the shape is not used.
type shaper struct {
	a     *analysis
	exact bool   // no stand-ins
	key   []byte // the shape, one to one

	texts  []string // in order of stand-ins
	textAt map[string]int
	times  []int64
	timeAt map[int64]int
}

// shape reads terms. A second reading of the same terms gives the same.
func (a *analysis) shape(t *broker.Terms) *shaper {
	s := &shaper{a: a, exact: a.exact, textAt: map[string]int{}, timeAt: map[int64]int{}}
	exact := s.exact
	s.read(t)
	if s.exact != exact { // something looks like a stand-in
		s = &shaper{a: a, exact: true}
		s.read(t)
	}
	return s
}

func (s *shaper) read(t *broker.Terms) {
	s.key = make([]byte, 0, 1024)
	s.flag(s.exact)
	a, d, p := &t.Agreement, t.Dataset, t.Package
	part(s, "agreement.id", a.ID)
	part(s, "agreement.provider", a.Provider)
	part(s, "agreement.consumer", a.Consumer)
	part(s, "agreement.supplier", a.Supplier)
	part(s, "agreement.dataset", a.Dataset)
	if s.reads("agreement.rightsPackage") {
		s.text(a.Package.ID)
		s.number(int64(a.Package.Version))
	}
	part(s, "agreement.purpose", a.Purpose)
	parts(s, "agreement.bases", a.Bases)
	if s.reads("agreement.responsibility") {
		s.text(string(a.Responsibility.ProviderController))
		s.text(string(a.Responsibility.ConsumerController))
	}
	if s.reads("agreement.cost") {
		s.text(string(a.Cost.Model))
		s.text(string(a.Cost.Payer))
		s.number(a.Cost.Ceiling)
	}
	part(s, "agreement.corrections", a.Corrections)
	part(s, "agreement.status", a.Status)
	if s.reads("agreement.valid") {
		s.span(a.Valid)
	}
	part(s, "agreement.framework", a.Framework)

	part(s, "subscription.id", t.Subscription.ID)
	part(s, "subscription.agreement", t.Subscription.Agreement)
	part(s, "subscription.mailbox", t.Subscription.Mailbox)
	if s.reads("subscription.suspended") {
		s.flag(t.Subscription.Suspended)
	}
	part(s, "mailbox.id", t.Mailbox.ID)
	part(s, "mailbox.organisation", t.Mailbox.Organisation)
	part(s, "mailbox.channel", t.Mailbox.Channel)
	if s.reads("mailbox.suspended") {
		s.flag(t.Mailbox.Suspended)
	}
	part(s, "dataset.id", d.ID)
	part(s, "dataset.owner", d.Owner)
	part(s, "dataset.purpose", d.Purpose)
	part(s, "dataset.accessRights", d.AccessRights)
	part(s, "dataset.subject", d.Subject.Kind)
	part(s, "rightsPackage.id", p.ID)
	if s.reads("rightsPackage.version") {
		s.number(int64(p.Version))
	}
	part(s, "rightsPackage.dataset", p.Dataset)
	parts(s, "rightsPackage.fields", p.Fields)
	part(s, "consumer.number", t.Consumer.Number)
	parts(s, "consumer.types", t.Consumer.Types)

	s.flag(t.Frozen)
	s.count(len(t.Bases))
	for i := range t.Bases {
		b := &t.Bases[i]
		for _, text := range [...]string{string(b.ID), string(b.Type), b.ELI, b.Paragraph, b.GDPR} {
			s.text(text)
		}
		list(s, b.Sides)
		list(s, b.Datasets)
		list(s, b.Purposes)
		list(s, b.Recipients)
		s.flag(b.RequiresCase)
		s.span(b.Valid)
		s.number(toMillis(b.Assessed.Review))
		if s.flag(b.About != nil); b.About != nil {
			s.text(b.About.Attribute)
			s.text(b.About.From)
			s.text(b.About.To)
		}
	}
	s.count(len(t.Delegations))
	for i := range t.Delegations {
		g := &t.Delegations[i]
		s.text(string(g.ID))
		s.text(string(g.From))
		s.text(string(g.To))
		list(s, g.Datasets)
		s.span(g.Valid)
	}
}

func (s *shaper) reads(part string) bool {
	_, unread := s.a.unread[part]
	return !unread
}

func part[T ~string](s *shaper, name string, v T) {
	if s.reads(name) {
		s.text(string(v))
	}
}

func parts[T ~string](s *shaper, name string, v []T) {
	if s.reads(name) {
		list(s, v)
	}
}

func list[T ~string](s *shaper, v []T) {
	s.count(len(v))
	for i := range v {
		s.text(string(v[i]))
	}
}

func (s *shaper) span(i broker.Interval) {
	s.number(fromMillis(i.From))
	s.number(toMillis(i.To))
}

func (s *shaper) count(n int) { s.key = binary.AppendUvarint(s.key, uint64(n)) }

func (s *shaper) flag(v bool) {
	b := byte(0)
	if v {
		b = 1
	}
	s.key = append(s.key, b)
}

func (s *shaper) text(v string) {
	if at, ok := s.standIn(v); ok {
		s.key = binary.AppendUvarint(append(s.key, 't'), uint64(at))
		return
	}
	s.key = text(append(s.key, '"'), v)
}

// standIn is the place of a text among those that have a stand-in.
func (s *shaper) standIn(v string) (int, bool) {
	if s.exact {
		return 0, false
	}
	if _, ok := s.a.reserved[v]; ok {
		return 0, false
	}
	if strings.HasPrefix(v, placeholder) {
		s.exact = true
		return 0, false
	}
	at, ok := s.textAt[v]
	if !ok {
		at = len(s.texts)
		s.textAt[v], s.texts = at, append(s.texts, v)
	}
	return at, true
}

func (s *shaper) number(v int64) {
	if at, sign := s.standInNumber(v); sign != 0 {
		s.key = binary.AppendUvarint(append(s.key, byte('m'+sign)), uint64(at))
		return
	}
	s.key = binary.AppendVarint(append(s.key, '#'), v)
}

// standInNumber is the place of a number among those that have a stand-in, and on
// which side of the policy's own numbers it and its stand-in are; 0: it has none.
func (s *shaper) standInNumber(v int64) (at, sign int) {
	switch {
	case s.exact:
		return 0, 0
	case v >= standIns || v <= -standIns:
		s.exact = true
		return 0, 0
	case v > bigNumber: // than which none in the policy is greater
		sign = 1
	case v < -bigNumber:
		sign = -1
	default:
		return 0, 0
	}
	at, ok := s.timeAt[v]
	if !ok {
		at = len(s.times)
		s.timeAt[v], s.times = at, append(s.times, v)
	}
	return at, sign
}

// input is the static input of terms in their shape, without what no rule reads.
func (s *shaper) input(t *broker.Terms) (ast.Value, error) {
	in := static(t)
	for name := range s.a.unread {
		part, key, _ := strings.Cut(name, ".")
		delete(in[part].(map[string]any), key)
	}
	return ast.InterfaceToValue(s.disguise(in))
}

func (s *shaper) disguise(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = s.disguise(v[k])
		}
		return v
	case []any:
		for i := range v {
			v[i] = s.disguise(v[i])
		}
		return v
	case string:
		if at, ok := s.standIn(v); ok {
			return placeholder + strconv.Itoa(at) + placeholder
		}
	case int64:
		if at, sign := s.standInNumber(v); sign != 0 {
			return int64(sign) * (standIns + int64(at))
		}
	}
	return v
}

// textOf and numberOf tell what a constant in a residual is: a stand-in's place, or
// -1 for itself.
func (s *shaper) textOf(v string) int {
	if s.exact || !strings.HasPrefix(v, placeholder) {
		return -1
	}
	at, err := strconv.Atoi(strings.Trim(v, placeholder))
	if err != nil || at < 0 || at >= len(s.texts) {
		return -1
	}
	return at
}

func (s *shaper) numberOf(v int64) int {
	if s.exact || v < standIns && v > -standIns {
		return -1
	}
	return int(max(v, -v) - standIns)
}

// restore puts texts back for people to read.
func (s *shaper) restore(text string) string {
	if !strings.Contains(text, placeholder) {
		return text
	}
	var pairs []string
	for i := range s.texts {
		pairs = append(pairs, placeholder+strconv.Itoa(i)+placeholder, s.texts[i])
	}
	for i := range s.times {
		pairs = append(pairs, fmt.Sprint(standIns+int64(i)), fmt.Sprint(s.times[i]))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// watch sees what evaluation does with stand-ins beside telling them apart.
type watch struct {
	s       *shaper
	ordered string // the first expression that did more
}

func (w *watch) Enabled() bool               { return true }
func (w *watch) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

func (w *watch) TraceEvent(evt topdown.Event) {
	if evt.Op != topdown.EvalOp || w.ordered != "" {
		return
	}
	x, ok := evt.Node.(*ast.Expr)
	if !ok || !x.IsCall() {
		return
	}
	var more bool
	switch x.Operator().String() {
	case "lt", "lte", "gt", "gte":
		more = w.ordersStandIn(evt.Plug(x.Operand(0)).Value, evt.Plug(x.Operand(1)).Value)
	case "count":
		v, ok := evt.Plug(x.Operand(0)).Value.(ast.String)
		more = ok && utf8.RuneCountInString(string(v)) > 0 && w.s.textOf(string(v)) >= 0
	}
	if more {
		w.ordered = x.String()
	}
}

// ordersStandIn: an order between known values of which one is, or may hold, a
// stand-in. Stand-ins for numbers are on the same side of the policy's own numbers,
// of counts and of places as what they stand for.
func (w *watch) ordersStandIn(a, b ast.Value) bool {
	kind := func(v ast.Value) byte {
		switch v := v.(type) {
		case ast.Var:
			return 'u'
		case ast.Ref:
			if v.HasPrefix(ast.InputRootRef) && len(v) > 1 && mayBeFact(v[1]) {
				return 'u' // unknown: the comparison is left over
			}
			return 's'
		case ast.Boolean, ast.Null:
			return 'k'
		case ast.String:
			if w.s.textOf(string(v)) >= 0 {
				return 's'
			}
			return 'k'
		case ast.Number:
			if n, ok := integer(v); ok && w.s.numberOf(n) < 0 {
				return 'k'
			}
			return 'n'
		}
		return 's' // a collection may hold anything
	}
	ka, kb := kind(a), kind(b)
	if ka == 'u' || kb == 'u' {
		return false
	}
	if ka == 'n' && kb == 'k' || ka == 'k' && kb == 'n' {
		return false
	}
	return ka != 'k' || kb != 'k'
}
