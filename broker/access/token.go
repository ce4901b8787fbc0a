package access

import (
	"encoding/base64"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

const (
	// maxToken bounds a token, in bytes. Maskinporten's are below 2,000.
	maxToken = 16 << 10
	// maxNesting bounds objects and arrays in a token; Altinn's consents need 5.
	maxNesting = 16
	maxKid     = 200
	maxClient  = 128
)

func denied(why string) *TokenError { return &TokenError{Why: why} }

// bearer takes the token from an Authorization header (RFC 6750 section 2.1).
func bearer(authorization string) (string, error) {
	if authorization == "" {
		return "", &TokenError{Missing: true, Why: "there is no token; send Authorization: Bearer and a token of Maskinporten or ID-porten"}
	}
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", denied("the Authorization header is not of the kind Bearer")
	}
	return strings.TrimLeft(token, " "), nil
}

// unverified is what a token says of itself before its signature is checked: only
// whom to ask for the key.
type unverified struct {
	kid, alg, iss string
}

// look reads a token's outside, strictly, and trusts nothing of it.
func look(token string) (unverified, error) {
	var u unverified
	switch {
	case len(token) > maxToken:
		return u, denied("the token is longer than 16384 bytes")
	case token == "":
		return u, &TokenError{Missing: true, Why: "the Authorization header has no token"}
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return u, denied("the token is not a signed JWT of three parts")
	}
	var docs [2]jsondoc.Doc
	for i := range docs {
		b, err := base64.RawURLEncoding.Strict().DecodeString(parts[i])
		if err != nil || strings.ContainsAny(parts[i], "\r\n") { // the decoder skips line ends
			return u, denied("the token is not base64url")
		}
		if err := docs[i].Parse(b, maxNesting); err != nil || docs[i].Node(0).Kind != jsondoc.Object {
			return u, denied("the token's parts are not JSON objects, or have a name twice")
		}
	}
	if sig, err := base64.RawURLEncoding.Strict().DecodeString(parts[2]); err != nil || len(sig) == 0 || strings.ContainsAny(parts[2], "\r\n") {
		return u, denied("the token has no signature")
	}
	head, body := &docs[0], &docs[1]
	// What says where to find a key, or brings one, is not looked at elsewhere
	// either; a token with it is made to try somebody. crit must be understood or
	// refused (RFC 7515 section 4.1.11), and nothing is understood.
	for _, name := range []string{"jku", "jwk", "x5u", "x5c", "crit", "zip", "enc", "b64"} {
		if head.Find(0, name) >= 0 {
			return u, denied("the token's header holds " + name + ", which does not count here")
		}
	}
	var ok bool
	if u.alg, ok = textAt(head, 0, "alg"); !ok || !slices.Contains(algorithms, u.alg) {
		return u, denied("the token's alg is not RS256, RS384 or RS512")
	}
	if u.kid, ok = textAt(head, 0, "kid"); !ok || u.kid == "" || len(u.kid) > maxKid {
		return u, denied("the token's header has no usable kid")
	}
	if i := head.Find(0, "typ"); i >= 0 {
		typ, _ := textAt(head, 0, "typ")
		if !strings.EqualFold(typ, "JWT") && !strings.EqualFold(typ, "at+jwt") {
			return u, denied("the token's typ is not JWT: it is a token for something else")
		}
	}
	if u.iss, ok = textAt(body, 0, "iss"); !ok {
		return u, denied("the token has no issuer (iss)")
	}
	return u, nil
}

// textAt is a member's text; ok is false where there is none, or it is not text.
func textAt(d *jsondoc.Doc, object int, name string) (string, bool) {
	i := d.Find(object, name)
	if i < 0 || d.Node(i).Kind != jsondoc.String {
		return "", false
	}
	return string(d.AppendText(nil, i)), true
}

// claims are a token's, by their exact names. encoding/json takes "EXP" for "exp",
// so it does not read them.
type claims struct {
	doc jsondoc.Doc
}

// UnmarshalJSON reads all of it, strictly.
func (c *claims) UnmarshalJSON(b []byte) error {
	if err := c.doc.Parse(slices.Clone(b), maxNesting); err != nil {
		return err
	}
	if c.doc.Node(0).Kind != jsondoc.Object {
		return errors.New("claims are an object")
	}
	return nil
}

var errClaim = errors.New("a claim is not of its kind")

func (c *claims) date(name string) (*jwt.NumericDate, error) {
	i := c.doc.Find(0, name)
	if i < 0 {
		return nil, nil
	}
	if c.doc.Node(i).Kind != jsondoc.Number {
		return nil, errClaim
	}
	f, err := strconv.ParseFloat(string(c.doc.Bytes(i)), 64)
	if err != nil || !(f > 0 && f < 253402300800) { // the year 10000
		return nil, errClaim
	}
	return &jwt.NumericDate{Time: time.Unix(int64(math.Floor(f)), 0)}, nil
}

// GetExpirationTime is exp.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.date("exp") }

// GetIssuedAt is iat.
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error) { return c.date("iat") }

// GetNotBefore is nbf.
func (c *claims) GetNotBefore() (*jwt.NumericDate, error) { return c.date("nbf") }

// GetIssuer is iss.
func (c *claims) GetIssuer() (string, error) { return c.text("iss") }

// GetSubject is sub.
func (c *claims) GetSubject() (string, error) { return c.text("sub") }

func (c *claims) text(name string) (string, error) {
	s, ok := textAt(&c.doc, 0, name)
	if !ok && c.doc.Find(0, name) >= 0 {
		return "", errClaim
	}
	return s, nil
}

// GetAudience is aud: one text or a list of them.
func (c *claims) GetAudience() (jwt.ClaimStrings, error) {
	i := c.doc.Find(0, "aud")
	switch {
	case i < 0:
		return nil, nil
	case c.doc.Node(i).Kind == jsondoc.String:
		return jwt.ClaimStrings{string(c.doc.AppendText(nil, i))}, nil
	case c.doc.Node(i).Kind != jsondoc.Array:
		return nil, errClaim
	}
	var all jwt.ClaimStrings
	for k := i + 1; k < int(c.doc.Node(i).Next); k = int(c.doc.Node(k).Next) {
		if c.doc.Node(k).Kind != jsondoc.String {
			return nil, errClaim
		}
		all = append(all, string(c.doc.AppendText(nil, k)))
	}
	return all, nil
}

// caller is who a token of the issuer speaks for. Signature, issuer and times have
// been checked.
func (c *claims) caller(i *Issuer, prefix string, maxAge time.Duration) (Caller, error) {
	exp, err := c.ends(maxAge)
	if err != nil {
		return Caller{}, err
	}
	audience, err := c.audience(i)
	if err != nil {
		return Caller{}, err
	}
	caller := Caller{Expires: exp}
	if i.Kind == IDPorten {
		caller.Client = audience
		err = c.citizen(i, &caller)
	} else {
		err = c.organisation(i, prefix, &caller)
	}
	if err != nil {
		return Caller{}, err
	}
	if !printable(caller.Client) {
		return Caller{}, denied("the token has no usable client_id: 1 to 128 printable characters")
	}
	return caller, nil
}

// ends is when the token does. One that was made to last too long does not count.
func (c *claims) ends(maxAge time.Duration) (time.Time, error) {
	exp, err := c.date("exp")
	if err != nil || exp == nil {
		return time.Time{}, denied("the token does not say when it ends (exp)")
	}
	iat, err := c.date("iat")
	switch {
	case err != nil || iat == nil:
		return time.Time{}, denied("the token does not say when it was made (iat)")
	case exp.Sub(iat.Time) > maxAge:
		return time.Time{}, denied("the token is made to last too long; get one that ends within " + maxAge.String())
	}
	return exp.Time, nil
}

// audience is the one that the token is for.
func (c *claims) audience(i *Issuer) (string, error) {
	all, err := c.GetAudience()
	if err != nil {
		return "", denied("the token's audience (aud) is not text or a list of texts")
	}
	if len(i.Audiences) == 0 {
		if len(all) == 0 || len(all) == 1 && all[0] == "unspecified" {
			return "", nil
		}
		return "", denied("the token is for another audience (aud)")
	}
	k := slices.IndexFunc(all, func(a string) bool { return slices.Contains(i.Audiences, a) })
	if k < 0 {
		return "", denied("the token is for another audience (aud)")
	}
	if i.Kind == IDPorten {
		// OpenID Connect Core section 3.1.3.7: of several audiences, azp says which
		// client it was made for.
		azp, given := textAt(&c.doc, 0, "azp")
		if (len(all) > 1 || c.doc.Find(0, "azp") >= 0) && (!given || !slices.Contains(i.Audiences, azp)) {
			return "", denied("the token was made for another client (azp)")
		}
	}
	return all[k], nil
}

const (
	actorAuthority = "iso6523-actorid-upis"
	actorPrefix    = "0192:"
)

// actor reads consumer or supplier: an organisation as ISO 6523 numbers it.
func (c *claims) actor(name string) (broker.OrgNumber, error) {
	i := c.doc.Find(0, name)
	if i < 0 || c.doc.Node(i).Kind != jsondoc.Object {
		return "", denied("the token names no " + name)
	}
	if authority, _ := textAt(&c.doc, i, "authority"); authority != actorAuthority {
		return "", denied("the token's " + name + " is not numbered by " + actorAuthority)
	}
	id, _ := textAt(&c.doc, i, "ID")
	number, ok := strings.CutPrefix(id, actorPrefix)
	if !ok {
		return "", denied("the token's " + name + " is not 0192 and an organisation number")
	}
	n, err := broker.ParseOrgNumber(number)
	if err != nil {
		return "", denied("the token's " + name + " has no valid organisation number")
	}
	return n, nil
}

// organisation reads the claims of Maskinporten. Its pid, where there is one, is of
// somebody who has not logged in: it is not looked at.
func (c *claims) organisation(i *Issuer, prefix string, to *Caller) error {
	var err error
	if to.Organisation, err = c.actor("consumer"); err != nil {
		return err
	}
	source, given := textAt(&c.doc, 0, "delegation_source")
	switch supplied := c.doc.Find(0, "supplier") >= 0; {
	case !supplied && c.doc.Find(0, "delegation_source") >= 0:
		return denied("the token has a delegation_source and no supplier")
	case supplied && !given:
		return denied("the token has a supplier and no delegation_source")
	case supplied && !slices.Contains(i.DelegationSources, source):
		return denied("the token's delegation_source does not count here")
	case supplied:
		if to.Supplier, err = c.actor("supplier"); err != nil {
			return err
		}
		if to.Supplier == to.Organisation {
			return denied("the token's supplier is its consumer")
		}
	}
	if to.Client, err = c.text("client_id"); err != nil {
		return denied("the token has no client_id")
	}
	scope, err := c.text("scope")
	if err != nil {
		return denied("the token's scope is not text")
	}
	to.Scopes = slices.Clip(strings.Fields(scope))
	if !slices.ContainsFunc(to.Scopes, func(s string) bool { return strings.HasPrefix(s, prefix+":") }) {
		return denied("the token has no scope of this broker; ask for one that begins with " + prefix + ":")
	}
	return nil
}

// citizen reads the claims of ID-porten.
func (c *claims) citizen(i *Issuer, to *Caller) error {
	acr, _ := textAt(&c.doc, 0, "acr")
	least := slices.Index(levels, "idporten-loa-substantial")
	if i.ACR != "" {
		least = slices.Index(levels, i.ACR)
	}
	switch have := slices.Index(levels, acr); {
	case have < 0:
		return denied("the token does not say how the login was done (acr), or by no known level")
	case have < least:
		return denied("the login's level (acr) is too low; log in at " + levels[least] + " or higher")
	}
	pid, _ := textAt(&c.doc, 0, "pid")
	if !ValidPersonNumber(pid) {
		return denied("the token names no person (pid), or no valid number")
	}
	to.Person = NewPerson(pid)
	return nil
}

// printable holds a client's name to what can stand in a log.
func printable(s string) bool {
	if s == "" || len(s) > maxClient {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// ValidPersonNumber reports whether s has the form of a national identity number
// or D-number (day + 40), issued or synthetic (month + 80, or + 40 or + 65 as
// other registers of test people have it): a day and month that exist, and both
// check digits. From 2032 the first check digit's sum may leave 0 to 3; both rules
// count.
func ValidPersonNumber(s string) bool {
	if len(s) != 11 {
		return false
	}
	var d [11]int
	for i := range s {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		d[i] = int(s[i] - '0')
	}
	day, month := 10*d[0]+d[1], 10*d[2]+d[3]
	if day > 40 {
		day -= 40
	}
	switch {
	case month > 80:
		month -= 80
	case month > 65:
		month -= 65
	case month > 40:
		month -= 40
	}
	if day < 1 || day > 31 || month < 1 || month > 12 ||
		day > 30 && (month == 4 || month == 6 || month == 9 || month == 11) || month == 2 && (day > 29 || day > 28 && (10*d[4]+d[5])%4 != 0) {
		return false
	}
	k1 := 3*d[0] + 7*d[1] + 6*d[2] + d[3] + 8*d[4] + 9*d[5] + 4*d[6] + 5*d[7] + 2*d[8] + d[9]
	k2 := 5*d[0] + 4*d[1] + 3*d[2] + 2*d[3] + 7*d[4] + 6*d[5] + 5*d[6] + 4*d[7] + 3*d[8] + 2*d[9] + d[10]
	return k1%11 <= 3 && k2%11 == 0
}

// Synthetic reports whether a person's number is one that no person can have: 80
// added to the month.
func Synthetic(s string) bool { return ValidPersonNumber(s) && s[2:4] > "80" }
