package access

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Verifier says who a token speaks for. Any number of goroutines may use it.
type Verifier struct {
	config  Config
	clock   func() time.Time
	issuers map[string]*trusted // by URL
	seen    *seen
	metrics *Metrics
	end     context.CancelFunc
	wait    sync.WaitGroup
}

// trusted is an issuer whose tokens count.
type trusted struct {
	Issuer
	keys   *keyring
	parser *jwt.Parser
}

// newVerifier makes a verifier. It asks no issuer before the first token comes.
// The client is nil outside tests.
func newVerifier(cfg Config, clock func() time.Time, client *http.Client, m *Metrics) (*Verifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if client == nil {
		client = newClient()
	}
	life, end := context.WithCancel(context.Background())
	v := &Verifier{config: cfg, clock: clock, issuers: map[string]*trusted{}, seen: newSeen(cfg.CachedTokens), metrics: m, end: end}
	for _, i := range cfg.Issuers {
		t := &trusted{Issuer: i}
		t.keys = &keyring{
			issuer: &t.Issuer, refresh: cfg.KeysRefresh, keep: cfg.KeysKeep, clock: clock, client: client,
			life: life, wait: &v.wait, metrics: m,
		}
		t.parser = jwt.NewParser(
			jwt.WithValidMethods(i.algorithms()), jwt.WithStrictDecoding(), jwt.WithIssuer(i.URL), jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(), jwt.WithLeeway(cfg.Leeway), jwt.WithTimeFunc(clock),
		)
		v.issuers[i.URL] = t
	}
	return v, nil
}

// Close ends what is being asked of issuers, and waits for it.
func (v *Verifier) Close() {
	v.end()
	v.wait.Wait()
}

// Verify says who a token speaks for. The error is a *TokenError where the token
// does not count; another one says that it could not be found out.
func (v *Verifier) Verify(ctx context.Context, token string) (Caller, error) {
	sum := sha256.Sum256([]byte(token))
	if s, ok := v.seen.get(sum, v.clock()); ok && s.keys == s.by.keys.current() {
		v.metrics.token("remembered")
		return s.caller, nil
	}
	s, err := v.verify(ctx, token)
	var bad *TokenError
	switch {
	case errors.As(err, &bad):
		v.metrics.token("refused")
		return Caller{}, err
	case err != nil:
		v.metrics.token("unknown")
		return Caller{}, err
	}
	v.metrics.token("verified")
	v.seen.put(sum, s)
	return s.caller, nil
}

// claims are those of a token whose signature, issuer and times count.
func (v *Verifier) claims(ctx context.Context, token string) (issuer *trusted, c *claims, set *keySet, err error) {
	says, err := look(token)
	if err != nil {
		return nil, nil, nil, err
	}
	issuer = v.issuers[says.iss]
	if issuer == nil {
		return nil, nil, nil, denied("the token is of an issuer that does not count here")
	}
	set, err = issuer.keys.find(ctx, says.kid)
	if errors.Is(err, errUnknownKey) {
		return nil, nil, nil, denied("the token is signed by a key that its issuer has not published")
	}
	if err != nil {
		return nil, nil, nil, err
	}
	c = new(claims)
	if _, err := issuer.parser.ParseWithClaims(token, c, set.keys.KeyfuncCtx(ctx)); err != nil {
		return nil, nil, nil, denied(whyNot(err))
	}
	return issuer, c, set, nil
}

func (v *Verifier) verify(ctx context.Context, token string) (*verified, error) {
	issuer, c, set, err := v.claims(ctx, token)
	if err != nil {
		return nil, err
	}
	caller, err := c.caller(&issuer.Issuer, v.config.ScopePrefix, v.config.MaxAge)
	if err != nil {
		return nil, err
	}
	return &verified{caller: caller, by: issuer, keys: set}, nil
}

// whyNot is what a caller is told. The library's own words may quote the token.
func whyNot(err error) string {
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return "the token has ended; get a new one"
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return "the token does not count yet; is the clock right where it was made?"
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return "the token's signature does not fit"
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return "the token does not say when it ends (exp)"
	}
	return "the token cannot be read"
}

// verified is a token that counted, under the keys that its issuer had then.
type verified struct {
	caller Caller
	by     *trusted
	keys   *keySet
}

// seen are the tokens that were verified last, by the hash of their text. A token
// is taken for what it was as long as it lasts and its issuer's keys are those that
// it was verified with.
type seen struct {
	most int

	mu     sync.Mutex
	tokens map[[sha256.Size]byte]*list.Element
	recent list.List // of *remembered, the latest first
}

type remembered struct {
	sum [sha256.Size]byte
	*verified
}

func newSeen(most int) *seen {
	return &seen{most: most, tokens: map[[sha256.Size]byte]*list.Element{}}
}

func (s *seen) get(sum [sha256.Size]byte, now time.Time) (*verified, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.tokens[sum]
	if e == nil {
		return nil, false
	}
	r := e.Value.(*remembered)
	if !now.Before(r.caller.Expires) {
		s.recent.Remove(e)
		delete(s.tokens, sum)
		return nil, false
	}
	s.recent.MoveToFront(e)
	return r.verified, true
}

func (s *seen) put(sum [sha256.Size]byte, v *verified) {
	if s.most == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.tokens[sum]; e != nil {
		e.Value.(*remembered).verified = v
		s.recent.MoveToFront(e)
		return
	}
	if s.recent.Len() >= s.most {
		last := s.recent.Back()
		delete(s.tokens, last.Value.(*remembered).sum)
		s.recent.Remove(last)
	}
	s.tokens[sum] = s.recent.PushFront(&remembered{sum, v})
}
