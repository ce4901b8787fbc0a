package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"datafordeler/broker"
)

// stream reads events line by line, and answers each chunk of them when it is
// durable. The next chunk is not read before: a client that sends faster than Kafka
// writes waits on its connection. It holds one chunk and one line.
func (d *publisher) stream(job *publishJob, body *pacedBody, w http.ResponseWriter, r *http.Request) error {
	rc := http.NewResponseController(w)
	// HTTP/1.1 lets a server answer while the request goes on; Go's asks to be told.
	_ = rc.EnableFullDuplex()
	w.Header().Set("Content-Type", mediaNDJSON)
	in := &lineReader{r: bufio.NewReaderSize(body, 256<<10), most: d.largestLine()}
	var (
		out    = bufio.NewWriterSize(w, 32<<10)
		total  Results
		failed bool
	)
	enc := json.NewEncoder(out)
	tell := func(v any) { _ = enc.Encode(v) } // the flush has the error
	flush := func() error {
		_ = rc.SetWriteDeadline(time.Now().Add(d.write))
		if err := out.Flush(); err != nil {
			return err
		}
		return rc.Flush()
	}
	for {
		items, next, err := d.chunk(job, in)
		results := make([]Result, len(items))
		d.put(r.Context(), job, items, results)
		total.count(results)
		for i := range results {
			tell(&results[i])
			failed = failed || results[i].Status == Failed
		}
		why := ""
		switch {
		case failed:
			why = "events could not be written; send those that failed, and what follows, again"
		case err == io.EOF:
			tell(&total)
			return flush()
		case errors.Is(err, os.ErrDeadlineExceeded):
			why = fmt.Sprintf("nothing came for %v, or a line took longer than %v", d.wait, d.body)
			if errors.Is(context.Cause(r.Context()), errTokenEnded) {
				why = errTokenEnded.Why
			}
		case err != nil:
			why = "the stream broke off"
		default:
			select {
			case <-d.server.Draining():
				why = "this instance stops; go on with another"
			default:
			}
		}
		if why != "" {
			total.Stopped, total.Next = why, &next
			tell(&total)
			body.cut()
			return flush()
		}
		if len(items) > 0 {
			if err := flush(); err != nil {
				body.cut()
				return err // the client has gone
			}
		}
	}
}

// chunk reads and judges what has come, up to a bound; at least one line, unless
// reading ends. next is the place of the first line that it did not take.
func (d *publisher) chunk(job *publishJob, in *lineReader) (items []item, next int, err error) {
	size := 0
	for {
		line, long, err := in.next()
		if err != nil && (err != io.EOF || len(line) == 0 && !long) {
			return items, in.n, err // a line that broke off is none
		}
		at := in.n
		in.n++
		switch {
		case long:
			items = append(items, item{index: at, rejected: rejection(broker.RejectTooLarge,
				fmt.Sprintf("the line has more than %d bytes; a record has at most %d", d.largestLine(), d.Limits.MaxBytes))})
		case len(bytes.TrimSpace(line)) > 0:
			items = append(items, job.structured(at, line))
			size += len(line)
		}
		if err != nil || len(items) > 0 && (len(items) == chunkEvents || size >= chunkBytes || !in.another()) {
			return items, in.n, err
		}
	}
}

// lineReader reads the lines of a stream.
type lineReader struct {
	r    *bufio.Reader
	most int
	n    int // lines taken
}

// next is a line as its own copy. One that is too long is read to its end and not kept.
func (l *lineReader) next() (line []byte, long bool, err error) {
	for {
		part, err := l.r.ReadSlice('\n')
		if long = long || len(line)+len(part) > l.most; long {
			line = nil
		} else {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, long, err
		}
	}
}

// another reports whether a whole line has come already.
func (l *lineReader) another() bool {
	have, _ := l.r.Peek(l.r.Buffered())
	return bytes.IndexByte(have, '\n') >= 0
}

// pacedBody reads a request's body within a time: the next bytes within one, a line
// or the whole body within another. It ends with the request's context.
type pacedBody struct {
	ctx   context.Context
	rc    *http.ResponseController
	body  io.Reader
	wait  time.Duration
	line  time.Duration
	whole bool      // the body is one line
	begun time.Time // when the line under way began; zero between lines
	over  bool
	stop  func() bool
}

func newPacedBody(w http.ResponseWriter, r *http.Request, wait, line time.Duration) *pacedBody {
	b := &pacedBody{ctx: r.Context(), rc: http.NewResponseController(w), body: r.Body, wait: wait, line: line}
	b.stop = context.AfterFunc(b.ctx, b.interrupt)
	return b
}

func (b *pacedBody) interrupt() { _ = b.rc.SetReadDeadline(time.Unix(1, 0)) }

// Read reads on. That a connection knows no deadlines is no error.
func (b *pacedBody) Read(p []byte) (int, error) {
	deadline := time.Now().Add(b.wait)
	if end := b.begun.Add(b.line); !b.begun.IsZero() && end.Before(deadline) {
		deadline = end
	}
	_ = b.rc.SetReadDeadline(deadline)
	if b.ctx.Err() != nil { // perhaps just before the deadline was set
		b.interrupt()
		return 0, os.ErrDeadlineExceeded
	}
	n, err := b.body.Read(p)
	switch i := bytes.LastIndexByte(p[:n], '\n'); {
	case n == 0 || b.whole:
	case i == n-1:
		b.begun = time.Time{}
	case i >= 0 || b.begun.IsZero():
		b.begun = time.Now()
	}
	if err == io.EOF {
		b.end()
	}
	return n, err
}

// end lifts the deadline: the server watches the connection while it is answered.
func (b *pacedBody) end() {
	if !b.over && b.stop() {
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	b.over = true
}

// cut ends the reading for good: what still comes on the connection is not waited for.
func (b *pacedBody) cut() {
	b.stop()
	b.over = true
	b.interrupt()
}

// all is the whole body.
func (b *pacedBody) all(most int64) ([]byte, error) {
	b.whole, b.begun = true, time.Now()
	text, err := io.ReadAll(io.LimitReader(b, most+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.cut()
		return nil, NewProblem(http.StatusRequestTimeout, "the body did not come in time; nothing was published")
	case err != nil:
		b.cut()
		return nil, NewProblem(http.StatusBadRequest, "the body broke off; nothing was published")
	case int64(len(text)) > most:
		b.cut()
		return nil, tooLarge(most)
	}
	return text, nil
}
