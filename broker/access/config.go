package access

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config says whose tokens count, and for how long.
type Config struct {
	// Issuers are those whose tokens count. With none, nobody comes in.
	Issuers []Issuer `yaml:"issuers"`
	// ScopePrefix begins the scopes of this broker: with datafordeler they are
	// datafordeler:publish, :receive, :lookup, :manage, :audit and :operate. A token for an
	// organisation without any of them was not made for this broker, and does not
	// count.
	ScopePrefix string `yaml:"scope_prefix"`
	// Leeway is how far another machine's clock may be off: at most 10s.
	Leeway time.Duration `yaml:"leeway"`
	// MaxAge is the longest time for which a token may be made (exp − iat).
	MaxAge time.Duration `yaml:"max_age"`
	// KeysRefresh is how often an issuer's keys are read again. They are also read
	// when a token names an unknown one, but not more often than each 10s.
	KeysRefresh time.Duration `yaml:"keys_refresh"`
	// KeysKeep is how long known keys go on counting while the issuer does not
	// answer. After that nobody with its tokens comes in.
	KeysKeep time.Duration `yaml:"keys_keep"`
	// CachedTokens is how many verified tokens are remembered, so that the same one
	// need not be verified at each request; 0 is none.
	CachedTokens int `yaml:"cached_tokens"`
}

// Kind is what an issuer's tokens prove.
type Kind string

// The kinds of issuer.
const (
	// Maskinporten proves an organisation; its metadata stand at
	// /.well-known/oauth-authorization-server.
	Maskinporten Kind = "maskinporten"
	// IDPorten proves a citizen's login; its metadata stand at
	// /.well-known/openid-configuration.
	IDPorten Kind = "idporten"
	// Plain is another issuer that proves an organisation with the same claims as
	// Maskinporten; its keys stand where jwks says.
	Plain Kind = "plain"
)

// Issuer is one issuer of tokens.
type Issuer struct {
	// Kind is maskinporten (an organisation), idporten (a citizen who is logged in)
	// or plain (an organisation, by another issuer with the claims of Maskinporten).
	Kind Kind `yaml:"kind"`
	// URL is the issuer exactly as it stands in the tokens, such as
	// https://maskinporten.no/ with its slash. https, but for this machine itself.
	URL string `yaml:"url"`
	// JWKS is where its keys are. Left empty, its metadata say where, and that must
	// be at the issuer itself. Kind plain needs it.
	JWKS string `yaml:"jwks"`
	// Audiences are those of which a token must name one (aud); for idporten they
	// are the client ids. Only maskinporten may go without: then a token counts that
	// names no audience, or "unspecified".
	Audiences []string `yaml:"audiences"`
	// Algorithms are the signatures that count, of RS256, RS384 and RS512. Left
	// empty: all three.
	Algorithms []string `yaml:"algorithms"`
	// ACR is the lowest level of a citizen's login that counts. Left empty it is
	// idporten-loa-substantial. Kind idporten only.
	ACR string `yaml:"acr"`
	// DelegationSources are the registers whose delegations to a supplier count
	// (delegation_source), such as https://altinn.no/. With none, no supplier's
	// token counts. The delegation must be recorded in the registry as well.
	DelegationSources []string `yaml:"delegation_sources"`
}

// Defaults name no issuer.
func Defaults() Config {
	return Config{
		ScopePrefix: "datafordeler", Leeway: 10 * time.Second, MaxAge: time.Hour,
		KeysRefresh: time.Hour, KeysKeep: 24 * time.Hour, CachedTokens: 20_000,
	}
}

// algorithms are all that may be configured.
var algorithms = []string{"RS256", "RS384", "RS512"}

// levels are ID-porten's, the lowest first.
var levels = []string{"idporten-loa-low", "idporten-loa-substantial", "idporten-loa-high"}

func (i *Issuer) algorithms() []string {
	if len(i.Algorithms) == 0 {
		return algorithms
	}
	return i.Algorithms
}

// Validate names what is wrong, with its key.
func (c Config) Validate() error {
	var faults []error
	fault := func(wrong bool, says string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Errorf(says, args...))
		}
	}
	urls := map[string]bool{}
	for i := range c.Issuers {
		at := &c.Issuers[i]
		key := fmt.Sprintf("issuers[%d].", i)
		for _, err := range at.faults() {
			faults = append(faults, fmt.Errorf("%s%w", key, err))
		}
		fault(urls[at.URL], "%surl: %s stands twice; keep one", key, at.URL)
		urls[at.URL] = true
	}
	fault(c.ScopePrefix == "" || strings.ContainsAny(c.ScopePrefix, " \t\"\\"), "scope_prefix: want a word, such as datafordeler")
	fault(c.Leeway < 0 || c.Leeway > 10*time.Second, "leeway: want 0s to 10s; set the clock right instead")
	fault(c.MaxAge < time.Minute || c.MaxAge > 24*time.Hour, "max_age: want 1m to 24h")
	fault(c.KeysRefresh < time.Minute, "keys_refresh: want 1m or more")
	fault(c.KeysKeep < c.KeysRefresh || c.KeysKeep > 7*24*time.Hour, "keys_keep: want at least keys_refresh and at most 168h")
	fault(c.CachedTokens < 0 || c.CachedTokens > 1_000_000, "cached_tokens: want 0 to 1000000")
	return errors.Join(faults...)
}

func (i *Issuer) faults() (faults []error) {
	fault := func(wrong bool, says string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Errorf(says, args...))
		}
	}
	switch i.Kind {
	case Maskinporten:
	case IDPorten:
		fault(len(i.Audiences) == 0, "audiences: an id token is made for a client; name the client ids")
		fault(len(i.DelegationSources) > 0, "delegation_sources: a citizen has no supplier; leave it out")
	case Plain:
		fault(i.JWKS == "", "jwks: kind plain needs it")
		fault(len(i.Audiences) == 0, "audiences: kind plain needs them")
	default:
		fault(true, "kind: is %q; want maskinporten, idporten or plain", i.Kind)
	}
	fault(i.ACR != "" && (i.Kind != IDPorten || !slices.Contains(levels, i.ACR)), "acr: is %q; want one of %s, for kind idporten", i.ACR, strings.Join(levels, ", "))
	for _, a := range i.Algorithms {
		fault(!slices.Contains(algorithms, a), "algorithms: %q does not count; want some of %s", a, strings.Join(algorithms, ", "))
	}
	for _, a := range slices.Concat(i.Audiences, i.DelegationSources) {
		fault(a == "", "audiences and delegation_sources: one is empty; leave it out")
	}
	if err := checkURL(i.URL); err != nil {
		fault(true, "url: %w", err)
	}
	if i.JWKS != "" {
		if err := checkURL(i.JWKS); err != nil {
			fault(true, "jwks: %w", err)
		}
	}
	return faults
}

// checkURL holds an address to https, or to this machine.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		return errors.New("want an address such as https://maskinporten.no/")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return errors.New("has a user, a query or a fragment; leave them out")
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return errors.New("want https: keys that come in the open could be anybody's")
}

// loopback reports whether a host is this machine, without asking a name server.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
