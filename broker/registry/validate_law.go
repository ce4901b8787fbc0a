package registry

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"datafordeler/broker"
)

var (
	gdprArticle = regexp.MustCompile(`^A(6-1-[a-f]|9-2-[a-j])$`)
	orgLike     = regexp.MustCompile(`^[0-9]{9}$`)
)

func (w *world) basis(b *broker.LegalBasis) {
	a := w.of(KindBasis, string(b.ID))
	w.name(a, "id", string(b.ID))
	oneOf(w, a, "type", b.Type, broker.Lov, broker.Samtykke)
	if len(b.Sides) == 0 {
		w.at(a, "sides", "a legal basis has at least one side", "want disclosure, collection or confidentiality")
	}
	for i, s := range b.Sides {
		oneOf(w, a, "sides/"+strconv.Itoa(i), s, broker.Disclosure, broker.Collection, broker.Confidentiality)
	}
	if b.Title == "" {
		w.at(a, "title", "a legal basis has a title", "")
	}
	w.eli(a, "eli", b.ELI)
	if !gdprArticle.MatchString(b.GDPR) {
		w.at(a, "gdpr", fmt.Sprintf("gdpr is %q", b.GDPR), "want the article in DPV's notation: A6-1-a for consent, A6-1-c for a legal obligation, A6-1-e for a public task")
	}
	for i, d := range b.Datasets {
		path := "datasets/" + strconv.Itoa(i)
		ds := w.knownDataset(a, path, d)
		a := w.on(a, KindDataset, string(d))
		if ds != nil && b.About != nil && ds.AttributeIndex(b.About.Attribute) < 0 {
			w.at(a, "about/attribute", fmt.Sprintf("dataset %s has no attribute %q", d, b.About.Attribute), "name one of its attributes, or declare it there")
		}
	}
	for i, p := range b.Purposes {
		w.name(a, "purposes/"+strconv.Itoa(i), string(p))
	}
	for i, r := range b.Recipients {
		path := "recipients/" + strconv.Itoa(i)
		if orgLike.MatchString(r) {
			w.knownOrg(a, path, broker.OrgNumber(r))
		} else {
			w.name(a, path, r)
		}
	}
	w.interval(a, "valid", b.Valid)
	if b.About != nil && b.About.To != "" && b.About.To < b.About.From {
		w.at(a, "about", fmt.Sprintf("about ends (%s) before it begins (%s)", b.About.To, b.About.From), "ISO 8601 periods order as text does")
	}
	if b.ConsentResource != "" && b.Type != broker.Samtykke {
		w.at(a, "consentResource", "only a legal basis of the type samtykke has a resource for consent", "leave it out, or make it two legal bases")
	}
	w.noPerson(a, "consentResource", b.ConsentResource)
	w.consentMetadata(a, b)
	w.assessment(a, "assessed", &b.Assessed)
}

const maxConsentMetadata = 20

// consentMetadata: a recorded consent counts for every basis with its dataset and
// purpose, so those must ask for the same.
func (w *world) consentMetadata(a at, b *broker.LegalBasis) {
	const path = "consentMetadata"
	switch {
	case len(b.ConsentMetadata) > 0 && b.ConsentResource == "":
		w.at(a, path, "no consent is asked for by a resource, so none is bounded", "give consentResource, or leave it out")
	case len(b.ConsentMetadata) > maxConsentMetadata:
		w.at(a, path, fmt.Sprintf("there are %d", len(b.ConsentMetadata)), fmt.Sprintf("want %d at the most", maxConsentMetadata))
	}
	for _, name := range slices.Sorted(maps.Keys(b.ConsentMetadata)) {
		value := b.ConsentMetadata[name]
		if name == "" || value == "" || len(name)+len(value) > 1_000 {
			w.at(a, path, "metadata have a name and a value, of 1000 bytes together at the most", fmt.Sprintf("give the value that was consented to, or %q for any", broker.AnyMetadata))
		}
		w.noPerson(a, path, name, value)
	}
	if b.Type != broker.Samtykke {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(w.bases)) {
		o := w.bases[id]
		if o.Type != broker.Samtykke || o.ID >= b.ID || maps.Equal(o.ConsentMetadata, b.ConsentMetadata) {
			continue
		}
		share := func(p broker.Purpose) bool { return slices.Contains(o.Purposes, p) }
		if slices.ContainsFunc(o.Datasets, func(d broker.DatasetID) bool { return slices.Contains(b.Datasets, d) }) && slices.ContainsFunc(b.Purposes, share) {
			w.at(w.on(a, KindBasis, string(o.ID)), path, fmt.Sprintf("a consent for the same dataset and purpose counts for the legal basis %s too, which bounds it by other metadata", o.ID),
				"bound both alike, or give each a purpose of its own")
		}
	}
}

func (w *world) assessment(a at, path string, s *broker.Assessment) {
	if s.By == "" {
		w.at(a, path, "an assessment says which function made it", "give by")
	}
	w.noPerson(a, path, s.By, s.Note)
	w.restsOn(a, path, s)
	if !s.Review.IsZero() && !s.At.IsZero() && s.Review.Before(s.At) {
		w.at(a, path+"/review", "the assessment is to be reviewed before it was made", "correct at or review")
	}
}

func (w *world) packageRefs() []broker.PackageRef {
	return slices.SortedFunc(maps.Keys(w.packages), func(a, b broker.PackageRef) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Version, b.Version))
	})
}

func (w *world) rightsPackage(p *broker.RightsPackage) {
	a := w.on(w.of(KindPackage, idOf(p)), KindDataset, string(p.Dataset))
	w.name(a, "id", p.ID)
	if p.Version < 1 {
		w.at(a, "version", fmt.Sprintf("version is %d", p.Version), "count from 1")
	}
	if p.Title == "" {
		w.at(a, "title", "a rights package has a title", "")
	}
	w.assessment(a, "assessment", &p.Assessment)
	if len(p.Fields)+len(p.Derivations) == 0 && p.Household == nil {
		w.at(a, "fields", "a rights package with no field permits nothing", "name the fields that may leave, or say in derivations what is answered from them")
	}
	w.derivedAlone(a, p)
	d := w.knownDataset(a, "dataset", p.Dataset)
	if d == nil || a.doc == nil && a.cause == nil {
		return // what was registered together fits together
	}
	pointer := func(path string, f broker.Pointer) (declared bool) {
		if _, err := f.Tokens(); err != nil {
			w.at(a, path, err.Error(), "")
		} else if f == "" {
			w.at(a, path, "the empty pointer is the whole record, with whatever is added to it later", "name the fields")
		} else if !w.declares(d.ID, f, false) {
			w.at(a, path, fmt.Sprintf("the schema of dataset %s has no %s", d.ID, f), "correct the pointer, or declare a schema version that has it")
		} else {
			return true
		}
		return false
	}
	for i, f := range p.Fields {
		path := "fields/" + strconv.Itoa(i)
		if pointer(path, f) {
			w.leaf(a, path, d, f)
		}
		if mark.Covers(f) {
			w.at(a, path, string(mark)+" is the broker's own, set when it shields a record", "leave it out")
		}
		for _, o := range p.Fields[:i] {
			if f == "" || o == "" {
				continue
			}
			if o.Covers(f) || f.Covers(o) {
				w.at(a, path, fmt.Sprintf("%s and %s: one permits the other already", o, f), "keep the one that is meant: the narrower, unless all below the wider may leave")
			}
		}
	}
	for i := range p.Derivations {
		w.derivation(a, "derivations/"+strconv.Itoa(i), d, &p.Derivations[i])
	}
	if h := p.Household; h != nil {
		for i := range h.Each {
			w.derivation(a, "household/each/"+strconv.Itoa(i), d, &h.Each[i])
		}
	}
	for i := range p.Filter {
		w.condition(a, "filter/"+strconv.Itoa(i), d, &p.Filter[i])
	}
	if s := p.Shielding; s != nil {
		w.condition(a, "shielding/when", d, &s.When)
		// A value spelled in a way that nobody thought of must shield.
		if len(s.When.In) > 0 {
			w.at(a, "shielding/when", fmt.Sprintf("shielding where %s is one of a list leaves every other spelling unshielded", s.When.Attribute), `say which values are NOT protected, with notIn: notIn: ["false"]`)
		}
		if slices.Contains(s.When.NotIn, "") {
			w.at(a, "shielding/when", fmt.Sprintf("the empty value in notIn leaves a record without %s unshielded", s.When.Attribute), "leave it out: what is not known is protected")
		}
		for i, f := range s.Remove {
			if p.Derivation(f) == nil {
				pointer("shielding/remove/"+strconv.Itoa(i), f)
			}
		}
		if s.Body == (len(s.Remove) > 0) {
			w.at(a, "shielding", "shielding removes named fields or the whole body", "give remove, or body: true, not both")
		}
	}
}

// leaf refuses a field in which an object can stand: what a later schema version
// adds to the object, or a provider to an open one, would leave as well.
func (w *world) leaf(a at, path string, d *broker.Dataset, f broker.Pointer) {
	versions := w.versions(d.ID)
	if isLeaf(versions, f) {
		return
	}
	remedy := "give it a type in the schema that is neither object nor a list of them, or name the members that the schema has below it"
	if below, more := leavesBelow(versions, f); len(below) > 0 {
		names := make([]string, len(below))
		for i, p := range below {
			names[i] = string(p)
		}
		remedy = "name its fields one by one: " + strings.Join(names, ", ")
		if more {
			remedy += ", and others"
		}
	}
	w.at(a, path, fmt.Sprintf("%s may be an object by the schema of dataset %s, and all that is ever added to it would leave", f, d.ID), remedy)
}

func (w *world) condition(a at, path string, d *broker.Dataset, c *broker.Condition) {
	if d.AttributeIndex(c.Attribute) < 0 {
		w.at(a, path+"/attribute", fmt.Sprintf("dataset %s has no attribute %q", d.ID, c.Attribute), "name one of its attributes, or declare it there")
	}
	if len(c.In)+len(c.NotIn) == 0 {
		w.at(a, path, "a condition that lists no value always holds", "give in or notIn")
	}
	w.noPerson(a, path, c.In...)
	w.noPerson(a, path, c.NotIn...)
}

// mark is where the broker says that it shielded a record: minimise takes no
// package that names it.
const mark broker.Pointer = "/skjermet"

func (w *world) mailbox(m *broker.Mailbox) {
	a := w.of(KindMailbox, string(m.ID))
	w.name(a, "id", string(m.ID))
	w.knownOrg(a, "organisation", m.Organisation)
	if m.Client == "" {
		w.at(a, "client", "a mailbox belongs to one client", "name the client that fetches from it")
	}
	w.noPerson(a, "client", m.Client)
	oneOf(w, a, "channel", m.Channel, broker.Feed, broker.Webhook, broker.KafkaChannel)
	if m.Partitions < 0 || m.Partitions > 4 || m.Partitions > 0 && m.Channel != broker.KafkaChannel {
		w.at(a, "partitions", fmt.Sprintf("partitions is %d on channel %s", m.Partitions, m.Channel), "want 1 to 4, and only with channel: kafka")
	}
	w.mailboxRetention(a, m)
}

func (w *world) agreement(g *broker.Agreement) {
	a := w.of(KindAgreement, string(g.ID))
	w.name(a, "id", string(g.ID))
	w.name(a, "purpose", string(g.Purpose))
	w.knownOrg(a, "provider", g.Provider)
	w.knownOrg(a, "consumer", g.Consumer)
	for path, n := range map[string]broker.OrgNumber{
		"supplier":                          g.Supplier,
		"cost/payer":                        g.Cost.Payer,
		"responsibility/providerController": g.Responsibility.ProviderController,
		"responsibility/consumerController": g.Responsibility.ConsumerController,
	} {
		if n != "" {
			w.knownOrg(a, path, n)
		}
	}
	w.responsibility(a, &g.Responsibility)
	if g.Supplier != "" && g.Supplier == g.Consumer {
		w.at(a, "supplier", "the supplier is the consumer itself", "leave supplier out")
	}
	if w.knownDataset(a, "dataset", g.Dataset) != nil {
		switch p := w.packages[g.Package]; {
		case p == nil:
			w.at(a, "package", fmt.Sprintf("rights package %s version %d is not declared", g.Package.ID, g.Package.Version), "declare it with kind: package, or correct id and version")
		case p.Dataset != g.Dataset:
			w.at(a, "package", fmt.Sprintf("rights package %s is on dataset %s, not on %s", p.ID, p.Dataset, g.Dataset), "name a package on the agreement's dataset")
		}
	}
	for i, b := range g.Bases {
		path := "bases/" + strconv.Itoa(i)
		if w.bases[b] == nil {
			w.at(a, path, fmt.Sprintf("legal basis %q is not declared", string(b)), "declare it with kind: basis, or correct the name")
		}
		if slices.Contains(g.Bases[:i], b) {
			w.at(a, path, fmt.Sprintf("legal basis %q stands twice", string(b)), "keep one")
		}
	}
	w.justification(a, g)
	w.withdrawalDuty(a, g.Bases, g.OnWithdrawal)
	w.visibility(a, g.Visibility)
	oneOf(w, a, "cost/model", g.Cost.Model, "", broker.Free, broker.PerRecord, broker.PerInhab, broker.YearlyBand, broker.PoolShare, broker.JoiningFee)
	if g.Cost.Ceiling < 0 {
		w.at(a, "cost/ceiling", fmt.Sprintf("ceiling is %d", g.Cost.Ceiling), "want a number of deliveries, or leave it out for no ceiling")
	}
	oneOf(w, a, "corrections", g.Corrections, broker.DeliverCorrections, broker.NotifyCorrections, broker.RefuseCorrections)
	oneOf(w, a, "status", g.Status, broker.Proposed, broker.Accepted, broker.Active, broker.Suspended, broker.Ended)
	w.interval(a, "valid", g.Valid)
	if g.Framework != "" && w.frameworks[g.Framework] == nil && (w.agreements[g.Framework] == nil || g.Framework == g.ID) {
		w.at(a, "framework", fmt.Sprintf("framework agreement %q is not declared", string(g.Framework)), "declare it, or correct the name")
	}
}

// overlaps finds agreements on the same thing at the same time: of two answers to
// one question, neither could be cited.
func (w *world) overlaps() {
	type key struct {
		provider, consumer broker.OrgNumber
		dataset            broker.DatasetID
		purpose            broker.Purpose
	}
	same := map[key][]*broker.Agreement{}
	for _, g := range sorted(w.agreements) {
		if g.Status != broker.Ended {
			k := key{g.Provider, g.Consumer, g.Dataset, g.Purpose}
			same[k] = append(same[k], g)
		}
	}
	for _, l := range same {
		for i, g := range l {
			for _, o := range l[:i] {
				if !g.Valid.Overlaps(o.Valid) {
					continue
				}
				a, other := w.of(KindAgreement, string(g.ID)), o
				if a.doc == nil { // say it where it can be corrected
					a, other = w.of(KindAgreement, string(o.ID)), g
				}
				w.at(a, "valid", fmt.Sprintf("overlaps agreement %s: same provider, consumer, dataset and purpose, at the same time", other.ID), "end one (status: ended), or let its interval stop where the other begins")
			}
		}
	}
}

func (w *world) subscription(s *broker.Subscription) {
	a := w.on(w.of(KindSubscription, string(s.ID)), KindMailbox, string(s.Mailbox))
	w.name(a, "id", string(s.ID))
	g := w.agreements[s.Agreement]
	if g == nil {
		w.at(a, "agreement", fmt.Sprintf("agreement %q is not declared", string(s.Agreement)), "declare it with kind: agreement, or correct the name")
	}
	m := w.mailboxes[s.Mailbox]
	switch {
	case s.Mailbox == "" && !s.Lookup:
		w.at(a, "", "the subscription neither delivers into a mailbox nor looks up", "name a mailbox; or say lookup: true, to ask for one subject at a time")
	case m == nil && s.Mailbox != "":
		w.at(a, "mailbox", fmt.Sprintf("mailbox %q is not declared", string(s.Mailbox)), "declare it with kind: mailbox, or correct the name")
	}
	if g != nil && m != nil && m.Organisation != g.Receiver() {
		w.at(a, "mailbox", fmt.Sprintf("mailbox %s belongs to %s, but agreement %s is received by %s", m.ID, m.Organisation, g.ID, g.Receiver()), "name a mailbox of the receiver: the supplier where there is one, else the consumer")
	}
	if n := s.CatchesUp(); n < 0 || n > broker.MaxCatchUp {
		w.at(a, "catchUp", fmt.Sprintf("catchUp is %d", n), fmt.Sprintf("say how many of a subject's newest records a later case or consent brings: 0 to %d", broker.MaxCatchUp))
	}
	w.standsTooLong(a, s, g, m)
	w.scope(a, s, g)
	w.lookup(s, g)
}

// lookup: what a subscription that looks up, a rule across subjects, or a dataset that
// stays with its provider, asks for.
func (w *world) lookup(s *broker.Subscription, g *broker.Agreement) {
	if g != nil && s.Mailbox != "" {
		if p := w.packages[g.Package]; p != nil && p.Household != nil {
			a := w.on(w.of(KindSubscription, string(s.ID)), KindAgreement, string(g.ID))
			w.at(a, "mailbox", fmt.Sprintf("rights package %s version %d answers on several subjects together, and so nothing of one record is ever delivered", p.ID, p.Version), "leave mailbox out, and say lookup: true")
		}
	}
	if g == nil || w.datasets[g.Dataset] == nil {
		return
	}
	d := w.datasets[g.Dataset]
	a := w.on(w.of(KindSubscription, string(s.ID)), KindDataset, string(d.ID))
	if s.Lookup && d.Subject.Kind == broker.NoSubject {
		w.at(a, "lookup", fmt.Sprintf("dataset %s has no subjects to look up", d.ID), "leave lookup out, and receive in a mailbox")
	}
	if s.Mailbox != "" && d.Endpoint != nil {
		w.at(a, "mailbox", fmt.Sprintf("dataset %s stays with its provider, so nothing of it is ever delivered into a mailbox", d.ID), "leave mailbox out, and say lookup: true")
	}
}

func (w *world) scope(a at, s *broker.Subscription, g *broker.Agreement) {
	sc := s.Scope
	oneOf(w, a, "scope/kind", sc.Kind, broker.ScopeAll, broker.ScopeAttribute, broker.ScopeListed)
	if (sc.Kind == broker.ScopeAttribute) != (sc.Attribute != "") || (sc.Kind == broker.ScopeAttribute) != (len(sc.Values) > 0) {
		w.at(a, "scope", fmt.Sprintf("scope %s with attribute %q and %d values", sc.Kind, sc.Attribute, len(sc.Values)), "kind: attribute has both, the others have neither")
	}
	w.noPerson(a, "scope/values", sc.Values...)
	if slices.Contains(sc.Values, "") {
		w.at(a, "scope/values", "an empty value would match every record that lacks the attribute", "leave it out")
	}
	if g == nil || w.datasets[g.Dataset] == nil {
		return
	}
	d := w.datasets[g.Dataset]
	a = w.on(w.of(KindSubscription, string(s.ID)), KindDataset, string(d.ID))
	if sc.Attribute != "" && d.AttributeIndex(sc.Attribute) < 0 {
		w.at(a, "scope/attribute", fmt.Sprintf("dataset %s has no attribute %q", d.ID, sc.Attribute), "name one of its attributes, or declare it there")
	}
	if sc.Kind == broker.ScopeListed && d.Subject.Kind == broker.NoSubject {
		w.at(a, "scope/kind", fmt.Sprintf("dataset %s has no subjects to list", d.ID), "use kind: all or attribute")
	}
}

// maxEndpointMillis is as long as a person waits.
const maxEndpointMillis = 30_000

// endpoint: where a dataset stays with its provider, nothing of it lies here.
func (w *world) endpoint(a at, d *broker.Dataset) {
	e := d.Endpoint
	if e == nil {
		return
	}
	u, err := url.Parse(e.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(e.URL, "#") {
		w.at(a, "endpoint/url", "the endpoint is no https address, or it has credentials, a query or a fragment", "write it like https://data.example.no/lookup")
	}
	w.noPerson(a, "endpoint/url", e.URL)
	if e.TimeoutMillis < 0 || e.TimeoutMillis > maxEndpointMillis {
		w.at(a, "endpoint/timeoutMillis", fmt.Sprintf("timeoutMillis is %d", e.TimeoutMillis), fmt.Sprintf("want 1 to %d, or leave it out for 2000", maxEndpointMillis))
	}
	if d.Subject.Kind == broker.NoSubject {
		w.at(a, "endpoint", "a dataset without subjects has nothing to look up", "leave endpoint out, and publish")
	}
	if d.Partitions != 0 || d.Retention != nil {
		w.at(a, "endpoint", "a dataset that stays with its provider has neither partitions nor retention: nothing of it lies here", "leave partitions and retention out")
	}
}

// sharedMailboxes: what one consumer may read must not lie with what is another's.
func (w *world) sharedMailboxes() {
	consumers := map[broker.MailboxID]*broker.Subscription{}
	consumer := func(s *broker.Subscription) broker.OrgNumber {
		if g := w.agreements[s.Agreement]; g != nil {
			return g.Consumer
		}
		return ""
	}
	for _, s := range sorted(w.subscriptions) {
		if s.Mailbox == "" {
			continue
		}
		o := consumers[s.Mailbox]
		if o == nil {
			consumers[s.Mailbox] = s
			continue
		}
		if c, d := consumer(s), consumer(o); c != d && c != "" && d != "" {
			a := w.of(KindSubscription, string(s.ID))
			if a.doc == nil {
				a, o = w.of(KindSubscription, string(o.ID)), s
			}
			w.at(a, "mailbox", fmt.Sprintf("mailbox %s serves subscription %s of another organisation (%s)", s.Mailbox, o.ID, consumer(o)), "give each organisation a mailbox of its own")
		}
	}
}

func (w *world) delegation(d *broker.Delegation) {
	a := w.of(KindDelegation, string(d.ID))
	w.name(a, "id", string(d.ID))
	w.knownOrg(a, "from", d.From)
	w.knownOrg(a, "to", d.To)
	if d.From == d.To {
		w.at(a, "to", "an organisation does not delegate to itself", "name the supplier")
	}
	for i, id := range d.Datasets {
		w.knownDataset(a, "datasets/"+strconv.Itoa(i), id)
	}
	w.interval(a, "valid", d.Valid)
}

func (w *world) role(r *broker.Role) {
	a := w.of(KindRole, string(r.ID))
	w.name(a, "id", string(r.ID))
	w.knownOrg(a, "organisation", r.Organisation)
	oneOf(w, a, "role", r.Role, broker.Auditor, broker.Operator)
	w.interval(a, "valid", r.Valid)
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
