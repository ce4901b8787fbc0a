// Package remote reads a running broker's ledger over HTTP, as the source of a
// ledger.Verifier. It believes nothing that it reads: the verifier does the judging.
package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"datafordeler/broker/ledger"
)

// Client asks a broker.
type Client struct {
	base  *url.URL
	token func() (string, error)
	http  *http.Client
	pause time.Duration
}

// New makes a client of the API at address. token gives what proves who asks, each
// time anew: tokens end; nil where none is sent. A token goes out encrypted only, but
// for a broker on this machine.
func New(address string, token func() (string, error)) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.User != nil || u.Fragment != "" {
		return nil, errors.New("want the address of a broker's API, such as https://broker.example")
	}
	ip := net.ParseIP(u.Hostname())
	if local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback(); u.Scheme == "http" && !local {
		return nil, errors.New("want https: over http anybody between could read the token, and the ledger's pseudonyms")
	}
	return &Client{base: u, token: token, pause: time.Second, http: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the broker sends on to another address: name that one")
		},
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: 5 * time.Minute, TLSHandshakeTimeout: 15 * time.Second,
			DialContext: (&net.Dialer{Timeout: 15 * time.Second}).DialContext},
	}}, nil
}

// answerError is an answer that is not 200.
type answerError struct {
	path   string
	status int
	detail string
}

func (e *answerError) Error() string {
	return fmt.Sprintf("GET %s: the broker answers %d%s", e.path, e.status, e.detail)
}

// passing reports whether it may be otherwise the next time.
func passing(err error) bool {
	if a, ok := errors.AsType[*answerError](err); ok {
		return a.status == http.StatusUnauthorized || a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable || a.status == http.StatusBadGateway
	}
	return ledger.NameOf(err) == "" && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

func (c *Client) get(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	u := c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if c.token != nil {
		token, err := c.token()
		if err != nil {
			return nil, err
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	if w.StatusCode == http.StatusOK {
		return w.Body, nil
	}
	defer w.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(w.Body, 300))
	detail := ""
	if text := strings.TrimSpace(strings.Map(printable, string(b))); text != "" {
		detail = ": " + text
	}
	return nil, &answerError{path, w.StatusCode, detail}
}

// printable keeps an answer's control characters off the terminal.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return ' '
	}
	return r
}

// tries is how often in a row nothing may come before the client gives up.
const tries = 5

// again asks until there is an answer that does not pass, or tries are over.
func (c *Client) again(ctx context.Context, path string, query url.Values) (body io.ReadCloser, err error) {
	for n := range tries {
		if body, err = c.get(ctx, path, query); err == nil || !passing(err) {
			return body, err
		}
		if !c.wait(ctx, n) {
			return nil, ctx.Err()
		}
	}
	return nil, err
}

// wait waits before the nth asking after the first; false: ctx ended.
func (c *Client) wait(ctx context.Context, n int) bool {
	select {
	case <-time.After(c.pause << n):
		return true
	case <-ctx.Done():
		return false
	}
}

// Head is the newest signed head, as the broker says; nil where it has none.
func (c *Client) Head(ctx context.Context) ([]byte, error) {
	body, err := c.again(ctx, "/ledger/checkpoint", nil)
	if a, ok := errors.AsType[*answerError](err); ok && a.status == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, 64<<10))
	return b, err
}

// Source reads the entries from, and before to, and the heads of those sizes. ctx
// bounds all reading. Where a connection breaks off, it asks again from the entry
// that it was at. The caller closes it.
func (c *Client) Source(ctx context.Context, from, to int64) (*Source, error) {
	s := &Source{ctx: ctx, client: c, next: from, to: to}
	if err := s.spool(from); err != nil {
		return nil, err
	}
	if from == to {
		return s, nil
	}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// spool fetches the heads into a file of its own: they are needed as slowly as the
// entries are checked, and no broker keeps a connection open for that.
func (s *Source) spool(from int64) (err error) {
	if s.headsFile, err = os.CreateTemp("", "datafordeler-heads-*"); err != nil {
		return err
	}
	for n := range tries {
		var body io.ReadCloser
		if body, err = s.client.again(s.ctx, "/ledger/checkpoints", span(from, s.to)); err != nil {
			break
		}
		if _, err = s.headsFile.Seek(0, io.SeekStart); err == nil {
			if err = s.headsFile.Truncate(0); err == nil {
				_, err = io.Copy(s.headsFile, body)
			}
		}
		body.Close()
		if err == nil || s.ctx.Err() != nil {
			break
		}
		if !s.client.wait(s.ctx, n) {
			break
		}
	}
	if err == nil {
		_, err = s.headsFile.Seek(0, io.SeekStart)
	}
	if err != nil {
		s.Close()
		return err
	}
	s.heads = ledger.NewLines(s.headsFile)
	return nil
}

func span(from, to int64) url.Values {
	return url.Values{"from": {strconv.FormatInt(from, 10)}, "to": {strconv.FormatInt(to, 10)}}
}

// Source is a ledger.Source.
type Source struct {
	ctx       context.Context
	client    *Client
	headsFile *os.File
	heads     *ledger.Lines

	body  io.Closer // nil where the connection broke
	lines *ledger.Lines
	next  int64  // the entry that is read next
	to    int64  // the entry after the last
	entry []byte // the one under way
	has   int64  // lines it has, and
	given int64  // how many were handed out
	fails int    // in a row
}

// Close ends the connections, and removes what was kept.
func (s *Source) Close() {
	s.headsFile.Close()
	os.Remove(s.headsFile.Name())
	if s.body != nil {
		s.body.Close()
	}
}

func (s *Source) open() error {
	body, err := s.client.again(s.ctx, "/ledger/entries", span(s.next, s.to))
	if err != nil {
		return err
	}
	s.body, s.lines = body, ledger.NewLines(body)
	return nil
}

// broke reports whether to ask again after an error, and waits before that.
func (s *Source) broke(err error) bool {
	s.body.Close()
	s.body = nil
	if s.fails++; s.fails > tries || s.ctx.Err() != nil || !passing(err) && ledger.NameOf(err) != ledger.Truncated {
		return false
	}
	return s.client.wait(s.ctx, s.fails-1)
}

// Entry is the next entry's line.
func (s *Source) Entry() ([]byte, error) {
	if s.next >= s.to {
		return nil, io.EOF
	}
	for {
		if s.body == nil {
			if err := s.open(); err != nil {
				return nil, err
			}
		}
		line, err := s.lines.Next()
		if errors.Is(err, io.EOF) {
			return nil, err // the verifier says what is missing
		}
		if err != nil {
			if s.broke(err) {
				continue
			}
			return nil, err
		}
		s.entry = append(s.entry[:0], line...)
		s.has, s.given, s.fails = 0, 0, 0
		if e, err := ledger.ParseEntry(line); err == nil { // else the verifier's to name
			s.has = e.Lines
		}
		s.next++
		return s.entry, nil
	}
}

// Line is the next line of the entry.
func (s *Source) Line() ([]byte, error) {
	if s.given >= s.has {
		return nil, io.EOF
	}
	for {
		if s.body == nil {
			if err := s.back(); err != nil {
				if s.body != nil && s.broke(err) {
					continue
				}
				return nil, err
			}
		}
		line, err := s.lines.Next()
		if err == nil {
			s.given++
			s.fails = 0
			return line, nil
		}
		if errors.Is(err, io.EOF) || !s.broke(err) {
			return nil, err
		}
	}
}

// back asks for the entry under way once more, and passes over what was handed out.
// The lines that follow are held to the same entry, whose root the verifier checks.
func (s *Source) back() error {
	s.next--
	err := s.open()
	s.next++
	if err != nil {
		return err
	}
	line, err := s.lines.Next()
	if err != nil {
		return err
	}
	if !bytes.Equal(line, s.entry) {
		return ledger.NewFault(ledger.EntryChanged, "entry %d is another one when it is asked for once more", s.next-1)
	}
	for range s.given {
		if _, err := s.lines.Next(); err != nil {
			return err
		}
	}
	return nil
}

// Checkpoint is the next signed head.
func (s *Source) Checkpoint() ([]byte, error) {
	line, err := s.heads.Next()
	if err != nil {
		return nil, err
	}
	return ledger.ParseNoteLine(line)
}
