package ledger

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Source hands a verifier a ledger, in order. What it returns is valid until the
// next call: of Entry or Line, or of Checkpoint. io.EOF is the end. Entry and Line
// are called from one goroutine, Checkpoint from another.
type Source interface {
	// Entry is the next entry's line. The lines of the one before were read.
	Entry() ([]byte, error)
	// Line is the next line of the entry.
	Line() ([]byte, error)
	// Checkpoint is the next signed checkpoint, in the order of the topic.
	Checkpoint() ([]byte, error)
}

// Stream is a Source of two streams of text: one of entries, each line followed by
// its lines; one of checkpoints, each a JSON string on a line. They are what
// archives hold and brokers serve.
type Stream struct{ entries, checkpoints *Lines }

// NewStream reads from two streams.
func NewStream(entries, checkpoints io.Reader) *Stream {
	return &Stream{NewLines(entries), NewLines(checkpoints)}
}

// Entry is the next entry's line.
func (s *Stream) Entry() ([]byte, error) { return s.entries.Next() }

// Line is the next line of the entry.
func (s *Stream) Line() ([]byte, error) { return s.entries.Next() }

// Checkpoint is the next signed checkpoint.
func (s *Stream) Checkpoint() ([]byte, error) {
	line, err := s.checkpoints.Next()
	if err != nil {
		return nil, err
	}
	return ParseNoteLine(line)
}

// maxNote is the largest signed checkpoint, in bytes: room for a hundred
// cosignatures.
const maxNote = 64 << 10

// AppendNoteLine appends a signed checkpoint as a JSON string, without a line
// break.
func AppendNoteLine(dst, note []byte) []byte { return appendText(dst, string(note)) }

// ParseNoteLine undoes AppendNoteLine.
func ParseNoteLine(line []byte) ([]byte, error) {
	if len(line) > 2*maxNote {
		return nil, &formatError{fmt.Sprintf("a checkpoint of %d bytes", len(line))}
	}
	var note string
	if err := json.Unmarshal(line, &note); err != nil || len(note) > maxNote || string(appendText(nil, note)) != string(line) {
		return nil, &formatError{"a checkpoint's line is not a JSON string, as it would be written"}
	}
	return []byte(note), nil
}

// Lines reads a stream of text line by line, none longer than MaxLine.
type Lines struct{ r *bufio.Reader }

// NewLines reads from r, ahead of what is asked for.
func NewLines(r io.Reader) *Lines { return &Lines{bufio.NewReaderSize(r, 1<<17)} }

// Next is the next line, without its line break: valid until the next call. At the
// end the error is io.EOF; a stream that ends within a line is a fault.
func (l *Lines) Next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	var long []byte
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(long)+len(line) > MaxLine {
			return nil, &formatError{fmt.Sprintf("a line of more than %d bytes", MaxLine)}
		}
		long = append(long, line...)
		line, err = l.r.ReadSlice('\n')
	}
	switch {
	case err == nil && len(long)+len(line) > MaxLine+1:
		return nil, &formatError{fmt.Sprintf("a line of more than %d bytes", MaxLine)}
	case err == nil:
		long = append(long, line...)
		return long[:len(long)-1], nil
	case errors.Is(err, io.EOF) && len(long)+len(line) == 0:
		return nil, io.EOF
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fault(Truncated, "the stream ends in the middle of a line")
	}
	return nil, err
}
