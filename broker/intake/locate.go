package intake

import (
	"sync"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// Locator reads whom accepted records are about, again and without judging them
// again. It needs no schema, so that making one costs nothing.
type Locator struct {
	ds   Dataset
	path jsondoc.Path
	mu   sync.Mutex // a Locator is one's own, mostly
	work scratch
}

// NewLocator makes one for a dataset's declaration.
func NewLocator(ds *broker.Dataset) (*Locator, error) {
	tokens, err := ds.Subject.Pointer.Tokens()
	if err != nil {
		return nil, err
	}
	return &Locator{ds: Dataset{id: ds.ID, kind: ds.Subject.Kind, subjectPointer: string(ds.Subject.Pointer)}, path: tokens}, nil
}

// Locate gives of a message that Accept gave nil for the same Position, Event, Kind,
// Of, Time, Subject and HasSubject. ok is false for what cannot have been accepted
// under this declaration: it may have changed since.
func (l *Locator) Locate(msg *Message, h Hasher, rec *broker.Record, doc *jsondoc.Doc) (ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*rec = broker.Record{Position: msg.Position}
	w := &l.work
	defer w.wipe()
	e := event{maxDepth: maxMaxDepth}
	if e.read(msg, doc) != nil || e.required() != nil {
		return false
	}
	l.ds.identify(&e, h, rec, w)
	if rec.Event.IsZero() || l.ds.describe(&e, h, rec, w) != nil {
		return false
	}
	if l.ds.kind == broker.NoSubject {
		return true
	}
	if doc.Parse(e.data, maxMaxDepth) != nil {
		return false
	}
	value, problem := w.along(doc, l.path)
	return l.ds.takeSubject(value, problem, h, rec) == nil
}

// along is single for a path that no validation watched.
func (w *scratch) along(doc *jsondoc.Doc, path jsondoc.Path) (value []byte, problem valueProblem) {
	path.Scalars(doc, func(i int) bool {
		switch kind := doc.Node(i).Kind; {
		case kind == jsondoc.Null:
		case kind == jsondoc.Object:
			problem = notScalar
		case len(value) > 0:
			if string(value) != string(scalar(doc, i, &w.other)) {
				problem = severalValues
			}
		default:
			value = scalar(doc, i, &w.text)
		}
		return problem == noProblem
	})
	return value, problem
}
