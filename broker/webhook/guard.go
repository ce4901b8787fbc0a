package webhook

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"syscall"
	"time"

	"datafordeler/broker/registry"
)

// Guard keeps endpoints away from the broker's own surroundings. Whoever has a
// mailbox names an address, and the broker calls it: without a guard that would be a
// way to everything that the broker can reach and its owner cannot (server-side
// request forgery). What counts is the address that is dialled, at that moment, not
// what its name meant when it was looked at.
type Guard struct {
	ports    []int
	loopback bool
	lookup   func(ctx context.Context, network, host string) ([]netip.Addr, error)
	allow    func(netip.AddrPort) bool // tests: besides what is public
}

// NewGuard makes the guard of a configuration.
func NewGuard(c Config) *Guard {
	return &Guard{ports: c.Ports, loopback: c.Loopback, lookup: net.DefaultResolver.LookupNetIP}
}

// ErrForbidden says that an endpoint is, or has come to be, at an address that the
// broker does not call.
var ErrForbidden = errors.New("the endpoint's address is not on the internet")

// forbidden are addresses that are global by their form and still nobody's on the
// internet (IANA's special-purpose registries; RFC 6890 and its followers).
var forbidden = func() (all []netip.Prefix) {
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
		"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"168.63.129.16/32", // a cloud's own services, on an address that looks public
		"2001::/23",        // Teredo, benchmarking, ORCHID
		"2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
	} {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}()

// internet is the part of IPv6 that is given to networks: what lies outside it
// (loopback, mapped and translated IPv4, private, link-local, multicast) is not.
var internet = netip.MustParsePrefix("2000::/3")

// public reports whether an address is one of the internet.
func public(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	if !a.IsValid() || a.Is6() && !internet.Contains(a) {
		return false
	}
	return !slices.ContainsFunc(forbidden, func(p netip.Prefix) bool { return p.Contains(a) })
}

// reachable says whether the broker may call an address.
func (g *Guard) reachable(a netip.AddrPort) bool {
	switch {
	case g.allow != nil && g.allow(a):
		return true
	case g.loopback && a.Addr().Zone() == "" && a.Addr().Unmap().IsLoopback():
		return true
	}
	return public(a.Addr()) && slices.Contains(g.ports, int(a.Port()))
}

// CheckURL says why an endpoint cannot have a URL; an address that its name leads to
// is looked at each time that it is called.
func (g *Guard) CheckURL(text string) error {
	if err := registry.CheckWebhookURL(text); err != nil {
		return err
	}
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	literal, err := netip.ParseAddr(u.Hostname())
	isAddr := err == nil
	local := g.loopback && (u.Hostname() == "localhost" || isAddr && literal.Unmap().IsLoopback())
	if u.Scheme != "https" && !local {
		return errors.New("write a URL that begins with https://: what is delivered is not for everybody on the way")
	}
	if isAddr && !local && !public(literal) {
		return errors.New("the URL's address is not one of the internet, and the broker calls no other")
	}
	port := u.Port()
	if port == "" && u.Scheme == "https" {
		port = "443"
	}
	if n, err := strconv.Atoi(port); !local && (err != nil || !slices.Contains(g.ports, n)) {
		return fmt.Errorf("the URL's port is not one that endpoints may have: %v", g.ports)
	}
	return nil
}

// dial connects to one of the addresses that a name has now, if the broker may call it.
func (g *Guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	if literal, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{literal}
	} else if addrs, err = g.lookup(ctx, "ip", host); err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Control: g.control}
	err = ErrForbidden
	for _, a := range addrs {
		// The address, not the name: a name may mean another one the next moment.
		to := netip.AddrPortFrom(a.Unmap(), uint16(n))
		if !g.reachable(to) {
			continue
		}
		var conn net.Conn
		if conn, err = dialer.DialContext(ctx, network, to.String()); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// control looks once more at what the system is about to connect to, whichever way it
// got there.
func (g *Guard) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !g.reachable(to) {
		return ErrForbidden
	}
	return nil
}

// Client calls endpoints. It follows no redirect, asks no proxy, keeps no cookies and
// reads little of an answer.
func (g *Guard) Client(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // not the environment's either
			DialContext:            g.dial,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // nothing small that unpacks to much
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  timeout,
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConns:           256,
			MaxIdleConnsPerHost:    4,
			IdleConnTimeout:        30 * time.Second,
		},
	}
}
