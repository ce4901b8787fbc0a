package registry

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"datafordeler/broker"
)

// world is the state with the declarations laid over it: what would be, if all
// were applied. Every rule is asked of all of it, so that a declaration that
// breaks something registered before is a fault as well.
type world struct {
	catalogue
	docs    map[docKey]*Document // of what the declarations declare
	schemas map[broker.DatasetID][]*jsonschema.Schema
	faults  Faults
	faulty  map[*Document]bool
	// promises are the deeds that make a thing which is not declared itself.
	promises map[docKey]*Document
}

type docKey struct {
	kind Kind
	id   string
}

func newWorld(s *State, docs []Document) *world {
	w := &world{
		catalogue: s.catalogue.clone(),
		docs:      map[docKey]*Document{},
		schemas:   map[broker.DatasetID][]*jsonschema.Schema{},
		faulty:    map[*Document]bool{},
		promises:  map[docKey]*Document{},
	}
	var later []*Document
	for i := range docs {
		d := &docs[i]
		k := docKey{d.Kind, d.ID()}
		if other := w.docs[k]; other != nil {
			w.at(at{doc: d}, "", fmt.Sprintf("%s %q is declared at %s:%d as well", d.Kind, k.id, other.File, other.Line), "keep one")
			continue
		}
		w.docs[k] = d
		// Subscriptions are tied to their mailboxes when they are put, in order.
		switch v := d.Body.(type) {
		case *broker.Subscription:
			w.subscriptions[v.ID] = v
		case *broker.Agreement:
			w.agreements[v.ID] = v
		case *broker.Cosignature, *broker.FrameworkApproval, *broker.Invitation:
		case *broker.AgreementStep:
			if w.agreements[v.Agreement] == nil && v.Terms != nil {
				w.promised(d, *v.Terms)
			}
		case *broker.Accession:
			later = append(later, d) // a framework may be declared below it
		default:
			w.put(v)
		}
	}
	for _, d := range later {
		v := d.Body.(*broker.Accession)
		if f := w.frameworks[v.Framework]; f != nil && w.agreements[v.Agreement] == nil {
			w.promised(d, agreementOf(f, v))
		}
	}
	return w
}

// promised lays down an agreement that a deed makes, so that what rests on it is not
// told that there is none. What is wrong with it is said where the deed stands.
func (w *world) promised(d *Document, a broker.Agreement) {
	w.agreements[a.ID] = &a
	w.promises[docKey{KindAgreement, string(a.ID)}] = d
}

// at is a declared thing, or a registered one, whose doc is nil.
type at struct {
	doc  *Document
	what string // "agreement a1"
	// cause is a declared thing that a registered one rests on: what breaks
	// the second is in the first.
	cause *Document
}

func (w *world) of(kind Kind, id string) at {
	k := docKey{kind, id}
	if d := w.promises[k]; d != nil {
		return at{doc: d, what: string(kind) + " " + id}
	}
	return at{doc: w.docs[k], what: string(kind) + " " + id}
}

// on names what a thing rests on.
func (w *world) on(a at, kind Kind, id string) at {
	if a.cause == nil {
		a.cause = w.docs[docKey{kind, id}]
	}
	return a
}

func (w *world) at(a at, path, what, remedy string) {
	switch {
	case a.doc != nil:
		w.faulty[a.doc] = true
		w.faults = append(w.faults, Fault{a.doc.File, a.doc.line(path), what, remedy})
	case a.cause != nil:
		w.faulty[a.cause] = true
		w.faults = append(w.faults, Fault{a.cause.File, a.cause.Line, fmt.Sprintf("with this, %s: %s", a.what, what), remedy})
	default:
		w.faults = append(w.faults, Fault{What: a.what + ": " + what, Remedy: remedy})
	}
}

// validate asks every rule of everything.
func (w *world) validate() {
	for _, o := range sorted(w.organisations) {
		w.organisation(o)
	}
	for _, d := range sorted(w.datasets) {
		w.dataset(d)
	}
	for _, v := range sorted(w.assessments) {
		w.legalAssessment(v)
	}
	for _, b := range sorted(w.bases) {
		w.basis(b)
	}
	for _, ref := range w.packageRefs() {
		w.rightsPackage(w.packages[ref])
	}
	for _, m := range sorted(w.mailboxes) {
		w.mailbox(m)
	}
	for _, a := range sorted(w.agreements) {
		w.agreement(a)
	}
	w.overlaps()
	for _, s := range sorted(w.subscriptions) {
		w.subscription(s)
	}
	w.sharedMailboxes()
	for _, d := range sorted(w.delegations) {
		w.delegation(d)
	}
	for _, r := range sorted(w.roles) {
		w.role(r)
	}
	for _, t := range sorted(w.tables) {
		w.truthTable(t)
	}
}

// name checks an identifier that becomes part of a topic name or a key.
func (w *world) name(a at, path, id string) {
	if err := broker.CheckName(id); err != nil {
		w.at(a, path, err.Error(), "")
	}
}

// noPerson refuses texts in which a person's number could stand.
func (w *world) noPerson(a at, path string, texts ...string) {
	for _, t := range texts {
		if elevenDigits(t) {
			w.at(a, path, "eleven digits in a row could be a person's number", "leave it out, or name a function instead")
		}
	}
}

func (w *world) knownOrg(a at, path string, n broker.OrgNumber) bool {
	if w.organisations[n] != nil {
		return true
	}
	if _, err := broker.ParseOrgNumber(string(n)); err != nil {
		w.at(a, path, err.Error(), "")
	} else {
		w.at(a, path, fmt.Sprintf("organisation %s is not declared", n), "declare it with kind: organisation, or correct the number")
	}
	return false
}

func (w *world) knownDataset(a at, path string, id broker.DatasetID) *broker.Dataset {
	d := w.datasets[id]
	if d == nil {
		w.at(a, path, fmt.Sprintf("dataset %q is not declared", string(id)), "declare it with kind: dataset"+known(sorted(w.datasets), func(d *broker.Dataset) string { return string(d.ID) }))
	}
	return d
}

// known names what there is, where that is little enough to help.
func known[V any](all []V, id func(V) string) string {
	if len(all) == 0 || len(all) > 8 {
		return ", or correct the name"
	}
	var s []string
	for _, v := range all {
		s = append(s, id(v))
	}
	return ", or name one of " + strings.Join(s, ", ")
}

func (w *world) interval(a at, path string, i broker.Interval) {
	if i.Check() != nil {
		w.at(a, path, fmt.Sprintf("the interval ends (%s) before it begins, or as it does (%s)", day(i.To), day(i.From)), "let it end after it begins, or leave out to")
	}
}

// day writes a time as it may have been declared: a date where it is midnight in
// Norway.
func day(t time.Time) string {
	if t.IsZero() {
		return "always"
	}
	t = t.In(oslo)
	if t.Equal(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, oslo)) {
		return t.Format(time.DateOnly)
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// oslo is where declared dates begin; broker links the zone database in.
var oslo = func() *time.Location {
	l, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		panic(err)
	}
	return l
}()

func oneOf[T ~string](w *world, a at, path string, v T, allowed ...T) {
	if slices.Contains(allowed, v) {
		return
	}
	var s []string
	for _, x := range allowed {
		if x != "" {
			s = append(s, string(x))
		}
	}
	w.at(a, path, fmt.Sprintf("%s is %q", path, string(v)), "want one of "+strings.Join(s, ", "))
}

func (w *world) organisation(o *broker.Organisation) {
	a := w.of(KindOrganisation, string(o.Number))
	if _, err := broker.ParseOrgNumber(string(o.Number)); err != nil {
		w.at(a, "number", err.Error(), "look it up in Enhetsregisteret")
	}
	if o.Name == "" {
		w.at(a, "name", "an organisation has a name", "")
	}
	w.noPerson(a, "name", o.Name)
	w.noPerson(a, "contact", o.Contact)
	for i, t := range o.Types {
		w.name(a, "types/"+strconv.Itoa(i), t)
	}
}

var extensionName = regexp.MustCompile(`^[a-z0-9]{1,20}$`)

// takenExtensions have a meaning of their own, in CloudEvents or to the broker,
// and maxExtensions is how many one dataset's attributes may come from: both as
// intake has them.
var takenExtensions = []string{
	"specversion", "id", "source", "type", "subject", "time", "data", "datacontenttype", "dataschema",
	"traceparent", "supersedes", "retracts", "provisional",
	"dataclassification", "dataregulation", "datacategory",
}

const maxExtensions = 16

func (w *world) dataset(d *broker.Dataset) {
	a := w.of(KindDataset, string(d.ID))
	if a.doc == nil {
		return // it rests on its owner alone, and that is never taken away
	}
	w.name(a, "id", string(d.ID))
	w.name(a, "purpose", string(d.Purpose))
	w.knownOrg(a, "owner", d.Owner)
	oneOf(w, a, "accessRights", d.AccessRights, broker.Public, broker.Restricted, broker.NonPublic)
	if d.Partitions < 0 {
		w.at(a, "partitions", fmt.Sprintf("partitions is %d", d.Partitions), "want 1 or more, or leave it out for the default")
	}
	w.retention(a, d)
	w.endpoint(a, d)
	whole := w.compileAll(a, d)
	// What a record may lack in one version it may have in another, so names
	// are held to all versions together; the subject must be in each.
	lacks := func(path string, p broker.Pointer, each bool) {
		if _, err := p.Tokens(); err != nil {
			w.at(a, path, err.Error(), "")
		} else if whole && !w.declares(d.ID, p, each) {
			w.at(a, path, fmt.Sprintf("the schema has no %s", p), "correct the pointer, or declare a schema version that has it")
		}
	}
	switch d.Subject.Kind {
	case broker.Person, broker.OrganisationSubject, broker.PropertySubject:
		if d.Subject.Pointer == "" {
			w.at(a, "subject", "a subject rule says where the identifier stands", "give pointer, or kind: none")
		} else {
			lacks("subject/pointer", d.Subject.Pointer, true)
		}
	case broker.NoSubject:
		if d.Subject.Pointer != "" {
			w.at(a, "subject/pointer", "a dataset without subjects has no pointer to them", "leave it out, or say the kind")
		}
	default:
		if d.Subject.Follow && d.Subject.Kind != broker.OrganisationSubject && d.Subject.Kind != broker.PropertySubject {
			w.at(a, "subject/follow", "organisations and properties are merged, and nobody else", "leave follow out")
		}
		oneOf(w, a, "subject/kind", d.Subject.Kind, broker.Person, broker.OrganisationSubject, broker.PropertySubject, broker.NoSubject)
	}
	seen, extensions := map[string]bool{}, map[string]bool{}
	for i, at := range d.Attributes {
		path := "attributes/" + strconv.Itoa(i)
		w.name(a, path+"/name", at.Name)
		if seen[at.Name] {
			w.at(a, path+"/name", fmt.Sprintf("attribute %q stands twice", at.Name), "keep one")
		}
		seen[at.Name] = true
		switch {
		case at.Register != "":
			w.register(a, path, d, &at)
		case (at.Pointer == "") == (at.Extension == ""):
			w.at(a, path, fmt.Sprintf("attribute %q comes from the payload, from a CloudEvents extension or from a register", at.Name), "give one of pointer, extension and register")
		case at.Extension != "" && !extensionName.MatchString(at.Extension):
			w.at(a, path+"/extension", fmt.Sprintf("extension %q", at.Extension), "CloudEvents attribute names are 1 to 20 of a–z and 0–9")
		case slices.Contains(takenExtensions, at.Extension):
			w.at(a, path+"/extension", fmt.Sprintf("extension %q has a meaning of its own, in CloudEvents or to the broker", at.Extension), "have the provider send the value under another name")
		case at.Extension != "":
			if extensions[at.Extension] = true; len(extensions) == maxExtensions+1 {
				w.at(a, path+"/extension", fmt.Sprintf("the attributes come from more than %d extensions", maxExtensions), "take some of them from the payload, by pointer")
			}
		case at.Pointer != "":
			lacks(path+"/pointer", at.Pointer, !at.Optional)
		}
	}
	for _, p := range sortedKeys(d.Concepts) {
		lacks("concepts/"+string(p), p, false)
	}
}

// compileAll compiles a dataset's schema versions; false where one failed, so
// that nothing is said to be missing from what could not be read.
func (w *world) compileAll(a at, d *broker.Dataset) bool {
	if len(d.Schemas) == 0 {
		w.at(a, "schemas", "a dataset declares at least one schema version", "")
		return false
	}
	ok, current := true, false
	names := map[string]bool{} // versions and URIs: dataschema may say either
	for i := range d.Schemas {
		s := &d.Schemas[i]
		path := "schemas/" + strconv.Itoa(i)
		if s.Version == "" || names[s.Version] {
			w.at(a, path+"/version", fmt.Sprintf("schema version %q is empty or stands twice", s.Version), "name each version once")
		}
		names[s.Version] = true
		if s.URI != "" && names[s.URI] {
			w.at(a, path+"/uri", fmt.Sprintf("two schema versions go by %s", s.URI), "a record must be able to say which it means")
		}
		names[s.URI] = true
		current = current || s.Version == d.Current
		c, err := compile(s)
		if err != nil {
			w.at(a, path+"/document", schemaFault(err), "")
			ok = false
			continue
		}
		w.schemas[d.ID] = append(w.schemas[d.ID], c)
	}
	if !current {
		w.at(a, "current", fmt.Sprintf("current is %q, which is none of the schema versions", d.Current), "name one of them")
	}
	if !ok {
		delete(w.schemas, d.ID)
	}
	return ok
}

// declares asks the compiled versions of a dataset; none compiled is not a fault
// of the pointer's.
func (w *world) declares(id broker.DatasetID, p broker.Pointer, each bool) bool {
	versions := w.versions(id)
	if len(versions) == 0 {
		return true
	}
	for _, s := range versions {
		if reaches(s, p) != each {
			return !each
		}
	}
	return each
}

// versions are a dataset's compiled schemas; those of a registered dataset are
// compiled when first asked for.
func (w *world) versions(id broker.DatasetID) []*jsonschema.Schema {
	versions, asked := w.schemas[id]
	if !asked && w.docs[docKey{KindDataset, string(id)}] == nil {
		for i := range w.datasets[id].Schemas {
			if c, err := compile(&w.datasets[id].Schemas[i]); err == nil {
				versions = append(versions, c)
			}
		}
		w.schemas[id] = versions
	}
	return versions
}
