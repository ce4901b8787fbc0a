package devidp

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"datafordeler/broker"
	"datafordeler/broker/access"
)

const (
	grantType = "urn:ietf:params:oauth:grant-type:jwt-bearer" // RFC 7523
	// longest is how long a grant may last, and lasts how long a token does.
	longest = 120 * time.Second
	lasts   = 2 * time.Minute
	// skew is how far a client's clock may be off.
	skew = 10 * time.Second
	// maxUsed bounds the grants that are remembered; they are forgotten as they end.
	maxUsed = 100_000
)

var (
	methods = []string{"RS256", "RS384", "RS512"}
	levels  = []string{"idporten-loa-low", "idporten-loa-substantial", "idporten-loa-high"}
)

// fault is an error of OAuth (RFC 6749 section 5.2).
type fault struct{ code, why string }

func (f *fault) Error() string { return f.code + ": " + f.why }

func refuse(w http.ResponseWriter, err error) {
	var f *fault
	if !errors.As(err, &f) {
		answer(w, http.StatusInternalServerError, map[string]string{"error": "server_error", "error_description": err.Error()})
		return
	}
	answer(w, http.StatusBadRequest, map[string]string{"error": f.code, "error_description": f.why})
}

// grant answers a machine: a signed grant in, a token out.
func (i *Issuer) grant(w http.ResponseWriter, r *http.Request) {
	token, scope, err := i.exchange(r)
	if err != nil {
		i.log.Info("a grant was refused", "why", err)
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"access_token": token, "token_type": "Bearer", "expires_in": int(lasts.Seconds()), "scope": scope,
	})
}

func (i *Issuer) exchange(r *http.Request) (token, scope string, err error) {
	if err := r.ParseForm(); err != nil {
		return "", "", &fault{"invalid_request", "the body is not a form, or too long"}
	}
	if r.PostForm.Get("grant_type") != grantType {
		return "", "", &fault{"unsupported_grant_type", "want grant_type=" + grantType}
	}
	var claims jwt.MapClaims
	client, err := i.read(r.PostForm.Get("assertion"), &claims)
	if err != nil {
		return "", "", err
	}
	now := i.clock()
	scope, _ = claims["scope"].(string)
	asked := strings.Fields(scope)
	if len(asked) == 0 {
		return "", "", &fault{"invalid_scope", "the grant asks for no scope"}
	}
	for _, s := range asked {
		if !slices.Contains(client.Scopes, s) && !(i.config.AnyClient && client.key == nil) {
			return "", "", &fault{"invalid_scope", "the client may not have the scope " + s}
		}
	}
	out := jwt.MapClaims{
		"iss": i.Maskinporten(), "client_amr": "private_key_jwt", "token_type": "Bearer", "client_id": client.ID, "scope": scope,
		"consumer": actor(client.Organisation), "aud": "unspecified", "iat": now.Unix(), "exp": now.Add(lasts).Unix(), "jti": unique(),
	}
	if on, ok := claims["consumer_org"]; ok {
		number, _ := on.(string)
		consumer, err := broker.ParseOrgNumber(number)
		switch {
		case err != nil:
			return "", "", &fault{"invalid_grant", "consumer_org: " + err.Error()}
		case consumer == client.Organisation: // its own
		case client.key != nil && !slices.Contains(client.Consumers, consumer):
			return "", "", &fault{"invalid_grant", "consumer_org has not delegated to the client's organisation"}
		default:
			out["consumer"], out["supplier"], out["delegation_source"] = actor(consumer), actor(client.Organisation), i.DelegationSource()
		}
	}
	if resource, ok := claims["resource"]; ok {
		out["aud"] = resource
	}
	token, err = i.sign(out)
	return token, scope, err
}

func actor(n broker.OrgNumber) map[string]string {
	return map[string]string{"authority": "iso6523-actorid-upis", "ID": "0192:" + string(n)}
}

// read holds a grant to RFC 7523 and to Maskinporten's bounds.
func (i *Issuer) read(assertion string, claims *jwt.MapClaims) (*Client, error) {
	bad := func(why string) error { return &fault{"invalid_grant", why} }
	var client *Client
	parser := jwt.NewParser(jwt.WithValidMethods(methods), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(skew),
		jwt.WithTimeFunc(i.clock), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())
	token, _, err := parser.ParseUnverified(assertion, claims)
	if err != nil {
		return nil, bad("the assertion is not a JWT")
	}
	iss, _ := claims.GetIssuer()
	if client = i.clients[iss]; client == nil && i.config.AnyClient {
		number, _, _ := strings.Cut(iss, "-")
		if n, err := broker.ParseOrgNumber(number); err == nil {
			client = &Client{ID: iss, Organisation: n}
		}
	}
	if client == nil {
		return nil, &fault{"invalid_client", "no client is called as iss says"}
	}
	if client.key != nil {
		again := jwt.MapClaims{}
		if _, err := parser.ParseWithClaims(assertion, &again, func(*jwt.Token) (any, error) { return client.key, nil }); err != nil {
			return nil, &fault{"invalid_client", "the assertion is not signed by the client's key, with RS256, RS384 or RS512"}
		}
	} else if !slices.Contains(methods, token.Method.Alg()) {
		return nil, bad("the assertion is not signed with RS256, RS384 or RS512")
	}
	if err := jwt.NewValidator(jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(skew), jwt.WithTimeFunc(i.clock)).Validate(claims); err != nil {
		return nil, bad("the grant has ended, or has not begun, or does not say when: " + err.Error())
	}
	exp, _ := claims.GetExpirationTime()
	iat, _ := claims.GetIssuedAt()
	jti, _ := (*claims)["jti"].(string)
	aud, _ := claims.GetAudience()
	switch {
	case len(aud) != 1 || aud[0] != i.Maskinporten():
		return nil, bad("the grant is not for " + i.Maskinporten() + " (aud)")
	case iat == nil || exp.Sub(iat.Time) > longest:
		return nil, bad("the grant lasts longer than 120 seconds, or does not say when it was made")
	case jti == "":
		return nil, bad("the grant has no jti")
	}
	if !i.once(client.ID, jti, exp.Add(skew)) {
		return nil, bad("the grant was used before (jti); make a new one")
	}
	return client, nil
}

// once reports whether a grant is new, and remembers it until it has ended.
func (i *Issuer) once(client, jti string, until time.Time) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.clock()
	sum := sha256.Sum256([]byte(client + "\x00" + jti))
	key := string(sum[:])
	if end, ok := i.used[key]; ok && now.Before(end) {
		return false
	}
	if len(i.used) >= maxUsed {
		for k, end := range i.used {
			if !now.Before(end) {
				delete(i.used, k)
			}
		}
		if len(i.used) >= maxUsed {
			return false
		}
	}
	i.used[key] = until
	return true
}

// login answers for a citizen who is synthetic, without asking who it is.
func (i *Issuer) login(w http.ResponseWriter, r *http.Request) {
	token, err := i.welcome(r)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"id_token": token, "token_type": "Bearer", "expires_in": int(lasts.Seconds())})
}

func (i *Issuer) welcome(r *http.Request) (string, error) {
	if err := r.ParseForm(); err != nil {
		return "", &fault{"invalid_request", "the body is not a form, or too long"}
	}
	pid, client, acr := r.PostForm.Get("pid"), r.PostForm.Get("client_id"), r.PostForm.Get("acr")
	if !access.Synthetic(pid) {
		return "", &fault{"invalid_request", "pid: want the number of a synthetic person (80 added to the month), in the body; nobody else logs in here"}
	}
	if client == "" && len(i.config.Logins) == 1 {
		client = i.config.Logins[0]
	}
	if !slices.Contains(i.config.Logins, client) {
		return "", &fault{"invalid_client", "client_id: no site of that name; the issuer is started with those that there are"}
	}
	if acr == "" {
		acr = levels[1]
	}
	if !slices.Contains(levels, acr) {
		return "", &fault{"invalid_request", "acr: want one of " + strings.Join(levels, ", ")}
	}
	now := i.clock()
	sub := sha256.Sum256([]byte(i.IDPorten() + client + pid))
	return i.sign(jwt.MapClaims{
		"iss": i.IDPorten(), "aud": client, "sub": encode(sub[:]), "pid": pid, "acr": acr, "amr": []string{"TestID"},
		"sid": unique(), "iat": now.Unix(), "exp": now.Add(lasts).Unix(), "jti": unique(),
	})
}
