package providers

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
)

// MaxLine is the longest line that ReadNDJSON takes, in bytes, without its end.
const MaxLine = 16 << 20

// LineError is a line that could not be read as an event.
type LineError struct {
	Line int // from 1
	Err  error
}

// Error names the line and what is wrong with it, never what it says.
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap gives the cause.
func (e *LineError) Unwrap() error { return e.Err }

// ReadNDJSON reads an event from each line that is not blank. A line is either
// a CloudEvent in structured JSON (it has "specversion") or the bare payload.
//
// Of a CloudEvent, "partitionkey", or else "subject", becomes Event.Key and is
// not sent on as an attribute, since it is likely a person's number.
//
// A line that cannot be read yields a *LineError, and reading goes on with the
// next one. Where the reader itself fails, the error is yielded last.
func ReadNDJSON(r io.Reader) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		br := bufio.NewReaderSize(r, 64<<10)
		for n := 1; ; n++ {
			line, err := readLine(br)
			if err != nil && !errors.Is(err, errLongLine) && err != io.EOF {
				yield(Event{}, fmt.Errorf("reading line %d: %w", n, err))
				return
			}
			end := err == io.EOF
			if n == 1 {
				line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")) // some editors' mark of UTF-8
			}
			line = bytes.TrimSpace(line)
			switch {
			case errors.Is(err, errLongLine):
				if !yield(Event{}, &LineError{n, err}) {
					return
				}
			case len(line) > 0:
				e, err := parseLine(line)
				if err != nil {
					e, err = Event{}, &LineError{n, err}
				}
				e.line = n
				if !yield(e, err) {
					return
				}
			}
			if end {
				return
			}
		}
	}
}

var errLongLine = fmt.Errorf("the line is longer than %d bytes", MaxLine)

// readLine returns one line as its own copy. A line that is too long is read to
// its end without being kept.
func readLine(br *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := br.ReadSlice('\n')
		if len(line)+len(part) > MaxLine+1 {
			long, line = true, nil
		}
		if !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case long && (err == nil || err == io.EOF):
			return nil, errLongLine
		}
		return line, err
	}
}

// parseLine takes over the line's bytes.
func parseLine(line []byte) (Event, error) {
	if line[0] != '{' || !bytes.Contains(line, []byte("specversion")) {
		if !json.Valid(line) {
			return Event{}, errNotJSON
		}
		return Event{Data: line}, nil
	}
	members, err := topLevel(line)
	if err != nil {
		return Event{}, err
	}
	if _, ok := members["specversion"]; !ok {
		return Event{Data: line}, nil // the word stands somewhere deeper
	}
	return parseCloudEvent(members)
}

var errNotJSON = errors.New("not JSON")

// topLevel reads the members of an object; a name that stands twice is an
// error, since readers differ on which of the two counts.
func topLevel(b []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errNotJSON
	}
	members := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errNotJSON
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return nil, errNotJSON
		}
		if _, twice := members[name]; twice {
			return nil, errors.New("a member's name stands twice")
		}
		members[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, errNotJSON
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errNotJSON
	}
	return members, nil
}

func parseCloudEvent(members map[string]json.RawMessage) (Event, error) {
	var e Event
	var subject, partitionKey, contentType, when string
	var hasData bool
	for name, raw := range members {
		if name == "data" {
			if string(raw) != "null" { // CloudEvents' JSON format: as if absent
				e.Data, hasData = raw, true
			}
			continue
		}
		if !validAttributeName(name) && name != "data_base64" {
			return Event{}, errors.New("an attribute's name is not 1 to 40 of a–z and 0–9 (CloudEvents 1.0)")
		}
		if string(raw) == "null" {
			continue
		}
		value, err := scalar(raw)
		if err != nil {
			return Event{}, fmt.Errorf("attribute %q %w", name, err)
		}
		switch name {
		case "specversion":
			if value != "1.0" {
				return Event{}, errors.New(`specversion is not "1.0"`)
			}
		case "id":
			e.ID = value
		case "source":
			e.Source = value
		case "type":
			e.Type = value
		case "time":
			when = value
		case "subject":
			subject = value
		case "partitionkey":
			partitionKey = value
		case "dataschema":
			e.DataSchema = value
		case "datacontenttype":
			contentType = value
		case "data_base64":
			if e.Data, err = base64.StdEncoding.DecodeString(value); err != nil {
				return Event{}, errors.New("data_base64 is not base 64")
			}
			if d := members["data"]; d != nil && string(d) != "null" {
				return Event{}, errors.New("data and data_base64 exclude each other")
			}
			hasData = true
		case AttributeSupersedes:
			e.Supersedes = value
		case AttributeRetracts:
			e.Retracts = value
		case AttributeProvisional:
			if value != "true" && value != "false" {
				return Event{}, errors.New("provisional is neither true nor false")
			}
			e.Provisional = value == "true"
		case AttributeTraceparent:
			e.Traceparent = value
		default:
			if e.Extensions == nil {
				e.Extensions = map[string]string{}
			}
			e.Extensions[name] = value
		}
	}
	if !hasData {
		return Event{}, errors.New("the CloudEvent has no data")
	}
	if !jsonContent(contentType) {
		return Event{}, errors.New("datacontenttype is not JSON")
	}
	if when != "" {
		t, err := time.Parse(time.RFC3339, when)
		if err != nil {
			return Event{}, errors.New("time does not follow RFC 3339")
		}
		e.Time = t
	}
	if e.Key = partitionKey; e.Key == "" {
		e.Key = subject
	}
	return e, nil
}

// scalar is an attribute's text: CloudEvents attributes are strings, booleans
// and integers.
func scalar(raw json.RawMessage) (string, error) {
	switch raw[0] {
	case '"':
		var s string
		err := json.Unmarshal(raw, &s)
		if err != nil {
			err = errors.New("is not a string")
		}
		return s, err
	case '{', '[':
		return "", errors.New("is neither a string, a boolean nor an integer")
	case 't', 'f':
		return string(raw), nil
	}
	if bytes.ContainsAny(raw, ".eE") || len(raw) > 11 {
		return "", errors.New("is not a 32-bit integer")
	}
	return string(raw), nil
}

// jsonContent tells whether a media type is JSON; the default is.
func jsonContent(mediaType string) bool {
	t, _, _ := strings.Cut(mediaType, ";")
	t = strings.ToLower(strings.TrimSpace(t))
	return t == "" || t == "application/json" || t == "text/json" || strings.HasSuffix(t, "+json")
}
