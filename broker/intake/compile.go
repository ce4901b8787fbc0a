package intake

import (
	"fmt"
	"strings"
	"sync"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// Dataset is a declared dataset, compiled. It is read-only and may be used by
// any number of goroutines.
type Dataset struct {
	id      broker.DatasetID
	limits  Limits
	schemas []declared
	current *declared
	// known are the member names that the schemas declare: the only ones that
	// may stand in a rejection.
	known map[string]struct{}

	kind           broker.SubjectKind
	subjectPointer string

	attributes []attribute
	extensions []string // names of the CloudEvents extensions among the attributes

	// watched are the places in the payload that validation notes on its way:
	// the subject's, where there is one, and then the attributes'.
	watched []broker.Pointer
	scratch sync.Pool // of *scratch
}

// subjectWatch is the subject's index in Dataset.watched.
const subjectWatch = 0

type attribute struct {
	name      string
	pointer   string
	watch     int // in Dataset.watched, when extension is −1
	extension int // in Dataset.extensions, or −1
	register  bool
	optional  bool
}

// Compile prepares a dataset's declaration. Schemas are compiled as their
// $schema says, 2020-12 where it says nothing. A $ref may lead within the
// schema, or to a JSON Schema meta-schema, never to a file or the network.
// Format is asserted in every draft: a format that a provider declares is a
// promise to its consumers, and not to depend on the draft's year.
func Compile(ds *broker.Dataset, limits Limits) (*Dataset, error) {
	if err := limits.Validate(); err != nil {
		return nil, err
	}
	d := &Dataset{id: ds.ID, limits: limits, known: map[string]struct{}{}, kind: ds.Subject.Kind}
	fail := func(format string, args ...any) (*Dataset, error) {
		return nil, fmt.Errorf("dataset %q: %w", ds.ID, fmt.Errorf(format, args...))
	}
	d.scratch.New = func() any { return new(scratch) }

	tokens, err := ds.Subject.Pointer.Tokens()
	if err != nil {
		return fail("subject: %w", err)
	}
	d.subjectPointer = string(ds.Subject.Pointer)
	switch ds.Subject.Kind {
	case broker.NoSubject:
		if len(tokens) > 0 {
			return fail("the subject's kind is %q, yet it has a pointer", broker.NoSubject)
		}
	case broker.Person, broker.OrganisationSubject, broker.PropertySubject:
		if len(tokens) == 0 {
			return fail("the subject's kind is %q, and there is no pointer to it", ds.Subject.Kind)
		}
		d.watched = append(d.watched, ds.Subject.Pointer)
	default:
		return fail("subject kind %q: want person, organisation, property or none", ds.Subject.Kind)
	}

	for i, a := range ds.Attributes {
		if ds.AttributeIndex(a.Name) != i {
			return fail("the attribute %q is declared twice", a.Name)
		}
		if _, err := a.Pointer.Tokens(); err != nil {
			return fail("attribute %q: %w", a.Name, err)
		}
		out := attribute{name: a.Name, pointer: string(a.Pointer), extension: -1, optional: a.Optional}
		switch {
		case a.Register != "":
			if a.Register != broker.ProtectionRegister || a.Pointer != "" || a.Extension != "" || ds.Subject.Kind != broker.Person {
				return fail("attribute %q: a register is %q, of a dataset on persons, with neither pointer nor extension", a.Name, broker.ProtectionRegister)
			}
			out.register = true
		case (a.Pointer == "") == (a.Extension == ""):
			return fail("attribute %q: give one of pointer, extension and register", a.Name)
		case a.Extension != "":
			if err := checkExtension(a.Extension); err != nil {
				return fail("attribute %q: %w", a.Name, err)
			}
			out.extension = d.extensionIndex(a.Extension)
		default:
			out.watch = len(d.watched)
			d.watched = append(d.watched, a.Pointer)
		}
		d.attributes = append(d.attributes, out)
	}
	if len(d.extensions) > maxExtensions {
		return fail("attributes come from %d CloudEvents extensions; at most %d are taken", len(d.extensions), maxExtensions)
	}
	if err := d.compileSchemas(ds); err != nil {
		return fail("%w", err)
	}
	return d, nil
}

// checkExtension holds to CloudEvents 1.0: a–z and 0–9, of no core attribute's name.
func checkExtension(name string) error {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return fmt.Errorf("extension %q: CloudEvents names are written with a–z and 0–9", name)
		}
	}
	if _, ours := coreAttribute(name); ours || name == "subject" || name == "data" {
		return fmt.Errorf("extension %q: the name has a meaning of its own in CloudEvents or to the broker; declare another", name)
	}
	return nil
}

func (d *Dataset) extensionIndex(name string) int {
	for i, e := range d.extensions {
		if e == name {
			return i
		}
	}
	d.extensions = append(d.extensions, name)
	return len(d.extensions) - 1
}

// safePointer writes tokens as a JSON Pointer that ends before the first name
// that no schema of the dataset declares.
func safePointer(tokens []jsondoc.Token, known map[string]struct{}) string {
	for i, t := range tokens {
		if _, ok := known[t.Name]; t.Index < 0 && !ok {
			tokens = tokens[:i]
			break
		}
	}
	return jsondoc.FormatPointer(tokens)
}

// versions lists the declared schemas for a message.
func (d *Dataset) versions() string {
	var b strings.Builder
	for i := range d.schemas {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(d.schemas[i].version)
		if d.schemas[i].uri != "" {
			b.WriteString(" (" + d.schemas[i].uri + ")")
		}
	}
	return b.String()
}
