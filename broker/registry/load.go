package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"datafordeler/broker"
)

// Kind is what a declaration declares.
type Kind string

// The kinds, in the order in which they rest on one another.
const (
	KindOrganisation Kind = "organisation"
	KindDataset      Kind = "dataset"
	KindBasis        Kind = "basis"
	KindPackage      Kind = "package"
	KindMailbox      Kind = "mailbox"
	KindNeed         Kind = "need"
	KindCosignature  Kind = "cosignature"
	KindFramework    Kind = "framework"
	KindApproval     Kind = "approval" // of a framework's terms
	KindInvitation   Kind = "invitation"
	KindAgreement    Kind = "agreement"
	KindStep         Kind = "step"
	KindAccession    Kind = "accession"
	KindSubscription Kind = "subscription"
	KindDelegation   Kind = "delegation"
	KindRole         Kind = "role"
	KindAssessment   Kind = "assessment"
	KindTruthTable   Kind = "truthtable"
)

// Kinds lists them in that order.
func Kinds() []Kind {
	return []Kind{KindOrganisation, KindDataset, KindAssessment, KindBasis, KindPackage, KindMailbox, KindNeed, KindCosignature, KindFramework, KindApproval, KindInvitation,
		KindAgreement, KindStep, KindAccession, KindSubscription, KindDelegation, KindRole, KindTruthTable}
}

// put is the event type that declares the kind. Most kinds are things, which may
// change; some are deeds, which are done once.
func (k Kind) put() Type {
	switch k {
	case KindCosignature:
		return NeedCosigned
	case KindApproval:
		return FrameworkApproved
	case KindInvitation:
		return FrameworkInvited
	case KindStep:
		return AgreementStepped
	case KindAccession:
		return FrameworkAcceded
	}
	return Type(k) + ".put"
}

func (k Kind) rank() int { return slices.Index(Kinds(), k) }

// Document is one declaration, as read from a file.
type Document struct {
	File string
	Line int // of its first key
	Kind Kind
	// Body points to the struct of package broker by that kind.
	Body any

	lines map[string]int    // of each value, by its path: "schemas/0/version"
	rows  map[string]string // of a truth table, by name: where each stands
}

// ID is the name of what is declared; a rights package's has its version.
func (d *Document) ID() string { return idOf(d.Body) }

func idOf(body any) string {
	switch v := body.(type) {
	case *broker.Organisation:
		return string(v.Number)
	case *broker.Dataset:
		return string(v.ID)
	case *broker.LegalBasis:
		return string(v.ID)
	case *broker.RightsPackage:
		return v.ID + "/" + strconv.Itoa(v.Version)
	case *broker.Mailbox:
		return string(v.ID)
	case *broker.Agreement:
		return string(v.ID)
	case *broker.Subscription:
		return string(v.ID)
	case *broker.Delegation:
		return string(v.ID)
	case *broker.Role:
		return string(v.ID)
	case *broker.LegalAssessment:
		return string(v.ID)
	case *broker.TruthTable:
		return string(v.ID)
	case *broker.Need:
		return string(v.ID)
	case *broker.Cosignature:
		return string(v.Need) + "/" + string(v.Organisation)
	case *broker.Framework:
		return string(v.ID)
	case *broker.FrameworkApproval:
		return string(v.Framework)
	case *broker.Invitation:
		if len(v.Organisations) > 0 {
			return string(v.Framework) + "/" + string(v.Organisations[0])
		}
		return string(v.Framework)
	case *broker.Accession:
		return string(v.Agreement)
	case *broker.AgreementStep:
		return fmt.Sprintf("%s/%04d", v.Agreement, v.Number) // in order
	}
	return ""
}

// line is where the value at path stands, or the nearest that holds it.
func (d *Document) line(path string) int {
	for path != "" {
		if n, ok := d.lines[path]; ok {
			return n
		}
		path = path[:max(0, strings.LastIndexByte(path, '/'))]
	}
	return d.Line
}

// maxFile is the largest declaration or schema file, in bytes.
const maxFile = 16 << 20

// Load reads declarations: YAML files of one or more documents, each with a kind
// and the fields of that kind's struct by their JSON names. Of a directory it
// reads the files that end in .yaml or .yml, not those of directories below.
// Dates are as [broker.ParseTime] has them. A dataset's schema stands under
// document, or in a file that "file" names, relative to the YAML file and not
// above it. Fields whose emptiness means something must be there, if only to
// say that there is nothing: bases: [], cost: {}.
//
// The error is [Faults], all of them, or says which file cannot be read.
func Load(paths ...string) ([]Document, error) {
	files, err := find(paths)
	if err != nil {
		return nil, err
	}
	var docs []Document
	var faults Faults
	for _, f := range files {
		b, err := readFile(f)
		if err != nil {
			return nil, err
		}
		d, bad := read(f, b)
		docs, faults = append(docs, d...), append(faults, bad...)
	}
	if err := faults.err(); err != nil {
		return nil, err
	}
	return docs, nil
}

func find(paths []string) ([]string, error) {
	var files []string
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("%w: name a YAML file or a directory of them", err)
		}
		if !info.IsDir() {
			files = append(files, filepath.Clean(p))
			continue
		}
		entries, err := os.ReadDir(p)
		if err != nil {
			return nil, err
		}
		n := len(files)
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml") {
				files = append(files, filepath.Join(p, e.Name()))
			}
		}
		if len(files) == n {
			return nil, fmt.Errorf("%s has no .yaml file: name the directory that holds the declarations", p)
		}
	}
	if len(files) == 0 {
		return nil, errors.New("no declarations: name a YAML file or a directory of them")
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("is not a file")}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d MiB", path, maxFile>>20)
	}
	return b, err
}

var yamlLine = regexp.MustCompile(`^yaml: (?:unmarshal errors:\n\s*)?line (\d+): `)

// read reads the documents of one file.
func read(file string, b []byte) (docs []Document, faults Faults) {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	for {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return docs, faults
		}
		if err != nil {
			f := Fault{File: file, What: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
			if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
				f.Line, _ = strconv.Atoi(m[1])
				f.What = "not YAML: " + err.Error()[len(m[0]):]
			}
			return docs, append(faults, f)
		}
		if d, bad := document(file, &n); len(bad) > 0 {
			faults = append(faults, bad...)
		} else if d != nil {
			docs = append(docs, *d)
		}
	}
}

// document reads one; nil and no fault for an empty one.
func document(file string, n *yaml.Node) (*Document, Faults) {
	if n.Kind == yaml.DocumentNode {
		n = n.Content[0]
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil, nil
	}
	r := &reader{doc: Document{File: file, Line: n.Line, lines: map[string]int{}}}
	if n.Kind != yaml.MappingNode {
		r.fault(n, "a declaration is a mapping of kind and fields", "")
		return nil, r.faults
	}
	rest := *n
	rest.Content = nil
	var kind *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "kind" && kind == nil {
			kind = n.Content[i+1]
			continue
		}
		rest.Content = append(rest.Content, n.Content[i], n.Content[i+1])
	}
	if kind == nil {
		r.fault(n, "a declaration without a kind", "begin it with one of kind: "+kindList())
		return nil, r.faults
	}
	r.doc.Kind = Kind(kind.Value)
	body, ok := empty(r.doc.Kind.put())
	if !ok || r.doc.Kind.rank() < 0 {
		r.fault(kind, fmt.Sprintf("kind %q is not known", kind.Value), "want one of "+kindList())
		return nil, r.faults
	}
	r.doc.Body = body
	r.value(&rest, reflect.ValueOf(body).Elem(), "")
	return &r.doc, r.faults
}

func kindList() string {
	var s []string
	for _, k := range Kinds() {
		s = append(s, string(k))
	}
	return strings.Join(s, ", ")
}
