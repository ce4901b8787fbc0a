package webhook

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker/webhook/scheme"
)

// Every way to write an address that is not on the internet.
var inside = []string{
	"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "100.100.100.200", "100.127.255.255", "169.254.169.254",
	"172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
	"224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
	"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:10.0.0.1",
	"64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2001:10::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1",
	"fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "4000::1",
}

var outside = []string{"8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.167.1.1", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8"}

func TestAddresses(t *testing.T) {
	for _, a := range inside {
		if public(netip.MustParseAddr(a)) {
			t.Errorf("%s counts as the internet", a)
		}
	}
	for _, a := range outside {
		if !public(netip.MustParseAddr(a)) {
			t.Errorf("%s does not count as the internet", a)
		}
	}
	if public(netip.Addr{}) || public(netip.MustParseAddr("2606:4700::1%a")) {
		t.Error("no address, or one with a zone, counts as the internet")
	}
	// What the standard library knows to be no host of the internet, never is.
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")
		for _, a := range []netip.Addr{netip.AddrFrom4([4]byte(b[:4])), netip.AddrFrom16([16]byte(b))} {
			u := a.Unmap()
			if public(a) && (!u.IsGlobalUnicast() || u.IsPrivate() || u.IsLoopback() || u.IsLinkLocalUnicast() || u.IsMulticast()) {
				t.Fatalf("%v counts as the internet", a)
			}
			if public(a) != public(u) || a.Is4() && public(a) != public(netip.AddrFrom16(a.As16())) {
				t.Fatalf("%v and %v differ", a, u)
			}
		}
	})
}

func TestCheckURL(t *testing.T) {
	g := NewGuard(Defaults())
	for _, u := range []string{"https://mottak.example.no/a?b=c", "https://mottak.example.no:8443/", "https://8.8.8.8/", "https://[2606:4700::1111]/"} {
		if err := g.CheckURL(u); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	for u, want := range map[string]string{
		"http://mottak.example.no/": "https", "https://mottak.example.no:22/": "port", "https://mottak.example.no:0/": "port", "https://user@mottak.example.no/": "password",
		"https://127.0.0.1/": "internet", "https://[::1]/": "internet", "https://[::ffff:10.0.0.1]/": "internet", "http://localhost/": "https",
		"https://[fe80::1%25eth0]/": "internet", "file:///etc/passwd": "whole URL", "gopher://a.example/": "https",
	} {
		if err := g.CheckURL(u); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", u, err, want)
		}
	}
	dev := Defaults()
	dev.Loopback = true
	g = NewGuard(dev)
	for u, ok := range map[string]bool{"http://127.0.0.1:8099/": true, "http://localhost:8099/": true, "http://[::1]:1/": true, "http://mottak.example.no:80/": false, "http://10.0.0.1/": false, "http://8.8.8.8/": false} {
		if err := g.CheckURL(u); (err == nil) != ok {
			t.Errorf("%s: %v", u, err)
		}
	}
}

// Names lead where they like, and to another place the next time: what is dialled is
// what was looked at, each time.
func TestRebinding(t *testing.T) {
	reached := 0
	private := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	defer private.Close()
	port := private.Listener.Addr().(*net.TCPAddr).Port
	cfg := Defaults()
	cfg.Ports = []int{port}
	for _, a := range append([]string{"127.0.0.1", "::ffff:127.0.0.1", "localhost"}, inside...) {
		g := NewGuard(cfg)
		asked := 0
		g.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
			asked++
			if a == "localhost" {
				return []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}, nil
			}
			return []netip.Addr{netip.MustParseAddr(a)}, nil
		}
		client := g.Client(5 * time.Second)
		url := "http://rebinds.example:" + private.URL[strings.LastIndex(private.URL, ":")+1:]
		got, _ := post(t.Context(), client, url, "application/json", "a", nil, time.Now(), nil)
		if got.outcome != Forbidden || strings.Contains(got.why, a) {
			t.Errorf("%s: %+v", a, got)
		}
		literal := "http://" + net.JoinHostPort(a, "1")
		if strings.Contains(a, "%") || a == "localhost" {
			continue
		}
		if got, _ := post(t.Context(), client, literal, "application/json", "a", nil, time.Now(), nil); got.outcome != Forbidden {
			t.Errorf("%s: %+v", literal, got)
		}
	}
	// First an address that is allowed, then, for the next connection, one that is not.
	g := NewGuard(cfg)
	allowed := true
	g.allow = func(netip.AddrPort) bool { return allowed }
	g.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	client := g.Client(5 * time.Second)
	url := "http://rebinds.example:" + private.URL[strings.LastIndex(private.URL, ":")+1:]
	if got, _ := post(t.Context(), client, url, "application/json", "a", nil, time.Now(), nil); got.outcome != Accepted || reached != 1 {
		t.Fatalf("%+v %d", got, reached)
	}
	client.CloseIdleConnections()
	allowed = false
	if got, _ := post(t.Context(), client, url, "application/json", "a", nil, time.Now(), nil); got.outcome != Forbidden || reached != 1 {
		t.Errorf("%+v %d", got, reached)
	}
	// The second look, whatever the first one said.
	if err := g.control("tcp", "169.254.169.254:80", nil); !errors.Is(err, ErrForbidden) {
		t.Error(err)
	}
	if err := g.control("tcp", "not an address", nil); !errors.Is(err, ErrForbidden) {
		t.Error(err)
	}
	if err := NewGuard(Defaults()).control("tcp", "8.8.8.8:22", nil); !errors.Is(err, ErrForbidden) {
		t.Error("a port that is none of endpoints")
	}
}

// Whatever an endpoint answers: no redirect is followed, no proxy asked, little is
// read, and what is said of it is of fixed words.
func TestPost(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	secret := bytes.Repeat([]byte{1}, 32)
	verifier, err := scheme.ParseVerifier(scheme.SecretText(secret))
	if err != nil {
		t.Fatal(err)
	}
	redirected := false
	hang := make(chan struct{})
	read := make(chan int64, 1)
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	defer close(hang)
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if id, err := scheme.Verify(r.Header, b, time.Now(), time.Minute, verifier); err != nil || id != "the-id" || string(b) != "{}" || r.Header.Get("Content-Type") != "application/json" {
			w.WriteHeader(401)
		}
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/target", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/target", func(http.ResponseWriter, *http.Request) { redirected = true })
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		chunk := bytes.Repeat([]byte("x"), 64<<10)
		n := int64(0)
		for n < 1<<30 {
			m, err := w.Write(chunk)
			n += int64(m)
			if err != nil {
				break
			}
		}
		read <- n
	})
	mux.HandleFunc("/break", func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) })
	for path, code := range map[string]int{"/204": 204, "/400": 400, "/404": 404, "/410": 410, "/429": 429, "/500": 500, "/503": 503} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "7"); w.WriteHeader(code) })
	}
	tls := httptest.NewTLSServer(mux)
	defer tls.Close()
	cfg := Defaults()
	g := NewGuard(cfg)
	g.allow = func(a netip.AddrPort) bool { return a.Addr().IsLoopback() }
	client := g.Client(2 * time.Second)
	for path, want := range map[string]Outcome{
		"/ok": Accepted, "/204": Accepted, "/redirect": Refused, "/400": Refused, "/404": Refused, "/410": Gone, "/429": Busy, "/503": Busy, "/500": Failed,
		"/hang": Slow, "/break": Unreachable, "/endless": Accepted,
	} {
		client.Timeout = 5 * time.Second
		if path == "/hang" {
			client.Timeout = 50 * time.Millisecond
		}
		got, answer := post(t.Context(), client, server.URL+path, "application/json", "the-id", []byte("{}"), time.Now(), []scheme.Key{{Secret: secret}})
		if got.outcome != want || len(answer) > answerBytes || strings.Contains(got.why, "127.0.0.1") || got.why == "" {
			t.Errorf("%s: %+v, want %s; %d bytes read", path, got, want, len(answer))
		}
		if strings.HasPrefix(path, "/4") && got.after != 7*time.Second {
			t.Errorf("%s: after %v", path, got.after)
		}
	}
	client.Timeout = 5 * time.Second
	if redirected {
		t.Error("a redirect was followed")
	}
	if n := <-read; n > 64<<20 {
		t.Errorf("%d bytes were taken of an endless answer", n)
	}
	if got, _ := post(t.Context(), client, tls.URL+"/ok", "application/json", "a", nil, time.Now(), nil); got.outcome != Untrusted {
		t.Errorf("a certificate of nobody: %+v", got)
	}
	if got, _ := post(t.Context(), client, "http://127.0.0.1:1/", "application/json", "a", nil, time.Now(), nil); got.outcome != Unreachable {
		t.Errorf("nobody listens: %+v", got)
	}
}

func TestConfig(t *testing.T) {
	if err := Defaults().Validate(); err != nil {
		t.Error(err)
	}
	for want, edit := range map[string]func(*Config){
		"ports: must": func(c *Config) { c.Ports = nil }, "ports: a port": func(c *Config) { c.Ports = []int{0} },
		"timeout": func(c *Config) { c.Timeout = 0 }, "first_retry": func(c *Config) { c.FirstRetry = 0 }, "longest_retry": func(c *Config) { c.LongestRetry = 1 },
		"attempts": func(c *Config) { c.Attempts = 0 }, "concurrency": func(c *Config) { c.Concurrency = 0 }, "waiting": func(c *Config) { c.Waiting = 1 }, "poison": func(c *Config) { c.Poison = 0 },
	} {
		c := Defaults()
		edit(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
