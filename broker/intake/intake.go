// Package intake turns what a provider published into a Record, or into a
// rejection that its provider can act on. It reads CloudEvents 1.0 in Kafka's
// binary and structured mode, strict JSON (see jsondoc), and the dataset's JSON
// Schemas; it finds the subject and the attributes; it tells repeats.
//
// Accept is a pure function of a message and the dataset's declaration, and
// Window a pure function of the log, so that what was decided about a record
// can be found again by reading it again.
//
// Nothing that intake says holds a value from a record, nor a name that the
// dataset's schemas do not declare: both may be a person's number.
package intake

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"datafordeler/broker"
)

// Limits bound what a record may be and how far back repeats are known.
type Limits struct {
	// MaxBytes is the largest record, its value and headers together. Kafka's
	// own limit, message.max.bytes, is by default 1,048,588; what is below that
	// leaves room for a rejection or delivery to carry more than the record did.
	MaxBytes int `yaml:"max_bytes"`
	// MaxDepth is how many objects and arrays a payload may nest.
	MaxDepth int `yaml:"max_depth"`
	// Window is how many offsets back, in its partition, an event's id is
	// known. Each takes about 60 bytes of memory in each partition owned, and
	// is read again when a partition is taken over.
	Window int `yaml:"window"`
	// WindowAge is how far back by the log's timestamps an event's id is known.
	// It must not exceed the source topic's retention, or else a restart could
	// forget what the running broker knew.
	WindowAge time.Duration `yaml:"window_age"`
}

// Defaults are 900,000 bytes, 64 levels, 100,000 records and 24 hours.
func Defaults() Limits {
	return Limits{MaxBytes: 900_000, MaxDepth: 64, Window: 100_000, WindowAge: 24 * time.Hour}
}

// Bounds beyond which a setting is a mistake.
const (
	maxMaxBytes = 64 << 20
	maxMaxDepth = 1_000
	maxWindow   = 50_000_000
)

// Validate says which settings cannot work, all of them.
func (l Limits) Validate() error {
	var errs []error
	check := func(name string, value, low, high int) {
		if value < low || value > high {
			errs = append(errs, fmt.Errorf("%s is %d: want %d to %d", name, value, low, high))
		}
	}
	check("max_bytes", l.MaxBytes, 1, maxMaxBytes)
	check("max_depth", l.MaxDepth, 1, maxMaxDepth)
	check("window", l.Window, 1, maxWindow)
	if l.WindowAge < time.Millisecond {
		errs = append(errs, fmt.Errorf("window_age is %s: want a millisecond or more, such as 24h", l.WindowAge))
	}
	return errors.Join(errs...)
}

// Hasher makes keyed hashes; the keystore has one. It must be safe for
// concurrent use if Accept is used so, and may not keep source or id: they are
// parts of the message, which its owner uses anew.
type Hasher interface {
	// Event is the hash that stands for an event's id in all that is kept.
	Event(dataset broker.DatasetID, source, id string) broker.EventHash
	// Subject is the stable matching key of a subject.
	Subject(kind broker.SubjectKind, id string) broker.SubjectKey
}

// Header is a Kafka record header.
type Header struct {
	Key   string
	Value []byte
}

// HeadersOf is a client's headers as this package's, without a copy: the type's
// constraint is that both are the same in memory (spec, "Type identity"), so that
// only their names differ. A copy of them took as long as reading them did.
func HeadersOf[H ~struct {
	Key   string
	Value []byte
}](hs []H) []Header {
	return unsafe.Slice((*Header)(unsafe.Pointer(unsafe.SliceData(hs))), len(hs))
}

// Message is a Kafka record as it was read. Its slices are only read, but the
// accepted Record's Data is a part of Value.
type Message struct {
	broker.Position
	Timestamp time.Time // of the log
	Headers   []Header
	Value     []byte
}

func reject(code broker.RejectionCode, detail string) *broker.Rejection {
	return &broker.Rejection{Code: code, Detail: detail}
}

func rejectf(code broker.RejectionCode, format string, args ...any) *broker.Rejection {
	return &broker.Rejection{Code: code, Detail: fmt.Sprintf(format, args...)}
}
