package web

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker/access"
)

// Whoever sends without end, too much, too deep or too slowly is cut off with an
// answer that says so, and others are served meanwhile. The waits are short here, and
// nothing is measured: a cut that does not come hangs the test.
func TestHostileRequests(t *testing.T) {
	s := testServer(t, func(o *Options) { o.Config.Listen, o.Config.BodyBytes = "127.0.0.1:0", 64<<10 })
	s.headerWait, s.answers.wait = 100*time.Millisecond, 100*time.Millisecond
	type in struct {
		Body struct {
			Do any `json:"do,omitempty"`
		}
	}
	Register(s, huma.Operation{OperationID: "make", Method: "POST", Path: "/make", MaxBodyBytes: 64 << 10}, Rule{Action: access.ReadSelf, Once: &Once{}},
		func(context.Context, *in) (*struct{}, error) { return nil, nil })
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	others := func(when string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.Addr()+"/whoami", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer bergen")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(when, err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: another is answered %d", when, resp.StatusCode)
		}
	}
	head := func(more string) string {
		return "POST /make HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer oslo\r\nContent-Type: application/json\r\n" + more + "\r\n"
	}
	deep := strings.Repeat("[", 30_000)
	for _, c := range []struct {
		name  string
		sends string
		more  string // then this again and again, until it is cut off
		want  string // the answer's status line has it; "" is that the connection just ends
	}{
		{"a head that does not end", "GET /whoami HTTP/1.1\r\nHost: x\r\n", "", ""},
		{"a line that does not end", "GET", "", "400"},
		{"a head without bounds", "GET /whoami HTTP/1.1\r\nHost: x\r\n", "X-More: " + strings.Repeat("a", 1000) + "\r\n", "431"},
		{"a body that does not come", head("Content-Length: 100\r\nIdempotency-Key: a\r\n") + "{", "", "408"},
		{"a body that is said to be too long", head("Content-Length: 1000000\r\nIdempotency-Key: b\r\n"), strings.Repeat(" ", 1000), "413"},
		{"a body that is too long, without a key", head("Content-Length: 1000000\r\n"), strings.Repeat(" ", 1000), "413"},
		{"chunks without end", head("Transfer-Encoding: chunked\r\nIdempotency-Key: c\r\n"), "400\r\n" + strings.Repeat(" ", 1024) + "\r\n", "413"},
		{"chunks without end, without a key", head("Transfer-Encoding: chunked\r\n"), "400\r\n" + strings.Repeat(" ", 1024) + "\r\n", "413"},
		{"a length and chunks", head("Transfer-Encoding: chunked\r\nContent-Length: 3\r\nConnection: close\r\n") + "0\r\n\r\n", "", "4"},
		{"two lengths", head("Content-Length: 3\r\nContent-Length: 4\r\n") + "{}", "", "400"},
		{"nesting without end", head(fmt.Sprintf("Content-Length: %d\r\nConnection: close\r\n", len(deep))) + deep, "", "4"},
		{"nothing that is HTTP", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", "", "400"},
	} {
		conn := dial()
		if _, err := io.WriteString(conn, c.sends); err != nil {
			t.Fatal(c.name, err)
		}
		others(c.name)
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for c.more != "" {
				if _, err := io.WriteString(conn, c.more); err != nil {
					return
				}
			}
		}()
		var got bytes.Buffer
		line, _ := bufio.NewReader(io.TeeReader(conn, &got)).ReadString('\n') // it may be reset after the answer
		conn.Close()
		<-stop
		if c.want == "" && line != "" && !strings.Contains(line, "408") {
			t.Errorf("%s: %q", c.name, line)
		}
		if c.want != "" && !strings.HasPrefix(line, "HTTP/1.1 "+c.want) {
			t.Errorf("%s: %q, want %s", c.name, line, c.want)
		}
		others("after " + c.name)
	}
	// Many connections that say nothing hold up nobody, and end by themselves.
	var many []net.Conn
	for range 300 {
		many = append(many, dial())
	}
	others("beside 300 silent connections")
	for _, c := range many {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a silent connection was answered")
		}
	}
}
