package witness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker/ledger"
)

// Client asks one witness. It is safe for any number of goroutines.
type Client struct {
	// URL is the witness's submission prefix, such as https://witness.digdir.example.
	URL string
	// Key is the witness's.
	Key note.Verifier
	// HTTP is nil for a client of the package's own, which follows no redirect.
	HTTP *http.Client
}

// ConflictError is that the witness has cosigned another size than the old one
// of the request.
type ConflictError struct {
	// Size is the witness's.
	Size int64
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("the witness has cosigned size %d", e.Size)
}

// RefusedError is any other answer than a cosignature.
type RefusedError struct {
	Status int
	// Text is the beginning of what the witness says, for a person.
	Text string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the witness answered %d: %s", e.Status, e.Text)
}

// defaultHTTP keeps a few connections to each witness open: checkpoints come
// every few seconds.
var defaultHTTP = &http.Client{
	Transport: func() http.RoundTripper {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 2
		t.IdleConnTimeout = time.Minute // less than a witness waits
		return t
	}(),
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 10

// AddCheckpoint submits a checkpoint, signed by its log, with the proof that its
// tree continues the one of size old. It returns the witness's signature line,
// verified; a *ConflictError when the witness has another size, a *RefusedError
// for other answers; anything else is the network or a false answer.
func (c *Client) AddCheckpoint(ctx context.Context, old int64, proof tlog.TreeProof, checkpoint []byte) (lines []byte, err error) {
	if len(proof) > maxProof {
		return nil, fmt.Errorf("a proof of %d hashes; at most %d", len(proof), maxProof)
	}
	address, err := url.JoinPath(c.URL, "add-checkpoint")
	if err != nil {
		return nil, fmt.Errorf("witness address: %w", err)
	}
	body := appendRequest(nil, request{old: old, proof: proof, note: checkpoint})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, b, err := c.do(req)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		if lines, err = ledger.Cosigned(checkpoint, b, c.Key); err != nil {
			return nil, fmt.Errorf("the witness's answer: %w", err)
		}
		return lines, nil
	case resp.StatusCode == http.StatusConflict && resp.Header.Get("Content-Type") == sizeType:
		text, ended := strings.CutSuffix(string(b), "\n")
		size, err := ledger.ParseSize(text)
		if err != nil || !ended {
			return nil, errors.New("the witness's answer: a conflict without a size")
		}
		return nil, &ConflictError{size}
	}
	return nil, &RefusedError{resp.StatusCode, oneLine(b)}
}

// do sends a request and reads the answer, bounded.
func (c *Client) do(req *http.Request) (*http.Response, []byte, error) {
	client := c.HTTP
	if client == nil {
		client = defaultHTTP
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, nil, fmt.Errorf("the witness's answer broke off: %w", err)
	}
	if len(b) > maxAnswer {
		return nil, nil, fmt.Errorf("the witness's answer has more than %d bytes", maxAnswer)
	}
	return resp, b, nil
}

// Head is the last checkpoint of a log that the witness has, as it answers it: who
// reads it checks the signatures. It is nil where the witness has none, does not
// watch the log, or does not answer that question, which version 1.0 of the
// protocol does not have.
func (c *Client) Head(ctx context.Context, origin string) (checkpoint []byte, err error) {
	address, err := url.JoinPath(c.URL, fmt.Sprintf("%x", sha256.Sum256([]byte(origin))), "checkpoint")
	if err != nil {
		return nil, fmt.Errorf("witness address: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, b, err := c.do(req)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusOK:
		return b, nil
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed:
		return nil, nil
	}
	return nil, &RefusedError{resp.StatusCode, oneLine(b)}
}

// oneLine is the beginning of a text from outside, fit for an error.
func oneLine(b []byte) string {
	line, _, _ := strings.Cut(strings.ToValidUTF8(string(b), "?"), "\n")
	line = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return '?'
		}
		return r
	}, line)
	if r := []rune(line); len(r) > 200 {
		line = string(r[:200]) + "…"
	}
	return line
}
