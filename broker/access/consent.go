package access

import (
	"context"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/jsondoc"
)

// ConsentGrant is a citizen's consent as a token of Altinn's proves it: one element
// of authorization_details (RFC 9396) of the type urn:altinn:consent.
type ConsentGrant struct {
	// ID is Altinn's own.
	ID string
	// From is who consented.
	From Person
	// To is the organisation that may rely on it; the token's consumer.
	To broker.OrgNumber
	// Given and Until bound it. It never counts before it was given.
	Given, Until time.Time
	// Rights are what was consented to.
	Rights []ConsentRight
}

// ConsentRight is one resource of Altinn's resource register that was consented to.
type ConsentRight struct {
	Resource string
	// Metadata bound it further, such as inntektsaar, in the words that the citizen saw.
	Metadata map[string]string
}

const (
	consentType  = "urn:altinn:consent"
	resourceType = "urn:altinn:resource"
	personPrefix = "urn:altinn:person:identifier-no:"
	maxRights    = 50
	maxMetadata  = 1_000 // bytes of one value
)

// Consents says what a consent token of Maskinporten proves. Its signature, issuer,
// times and audience are held to as for any token; that it has no scope of this
// broker does not matter, since it lets nobody in. The error is a *TokenError where
// the token does not count; another one says that it could not be found out.
func (v *Verifier) Consents(ctx context.Context, token string) ([]ConsentGrant, error) {
	issuer, c, _, err := v.claims(ctx, token)
	if err != nil {
		return nil, err
	}
	if issuer.Kind == IDPorten {
		return nil, denied("the token is a citizen's login, not a consent: get a consent token from Maskinporten")
	}
	if _, err := c.ends(v.config.MaxAge); err != nil {
		return nil, err
	}
	if _, err := c.audience(&issuer.Issuer); err != nil {
		return nil, err
	}
	consumer, err := c.actor("consumer")
	if err != nil {
		return nil, err
	}
	return c.consents(consumer, v.clock(), v.config.Leeway)
}

func (c *claims) consents(consumer broker.OrgNumber, now time.Time, leeway time.Duration) ([]ConsentGrant, error) {
	d := &c.doc
	list := d.Find(0, "authorization_details")
	if list < 0 || d.Node(list).Kind != jsondoc.Array {
		return nil, denied("the token holds no consent (authorization_details)")
	}
	var all []ConsentGrant
	for i := range elements(d, list) {
		if d.Node(i).Kind != jsondoc.Object {
			return nil, denied("the token's authorization_details are not objects")
		}
		if t, _ := textAt(d, i, "type"); t != consentType {
			continue // of something else
		}
		g, err := consent(d, i, now, leeway)
		if err != nil {
			return nil, err
		}
		if g.To != consumer {
			return nil, denied("the consent was given to another organisation than the token's consumer")
		}
		if slices.ContainsFunc(all, func(o ConsentGrant) bool { return o.ID == g.ID }) {
			return nil, denied("the token holds one consent twice")
		}
		all = append(all, g)
	}
	if len(all) == 0 {
		return nil, denied("the token holds no consent (authorization_details of the type " + consentType + ")")
	}
	return all, nil
}

// elements are the nodes of an array or object.
func elements(d *jsondoc.Doc, array int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for k := array + 1; k < int(d.Node(array).Next); k = int(d.Node(k).Next) {
			if !yield(k) {
				return
			}
		}
	}
}

func consent(d *jsondoc.Doc, i int, now time.Time, leeway time.Duration) (g ConsentGrant, err error) {
	if g.ID, _ = textAt(d, i, "id"); !consentID(g.ID) {
		return g, denied("the consent has no usable id: a UUID")
	}
	from, _ := textAt(d, i, "from")
	number, ok := strings.CutPrefix(from, personPrefix)
	if !ok || !ValidPersonNumber(number) {
		return g, denied("the consent does not say which person gave it (from), or by no valid number")
	}
	g.From = NewPerson(number)
	to := d.Find(i, "to")
	if to < 0 || d.Node(to).Kind != jsondoc.Object {
		return g, denied("the consent does not say to whom it was given (to)")
	}
	authority, _ := textAt(d, to, "authority")
	id, _ := textAt(d, to, "ID")
	org, ok := strings.CutPrefix(id, actorPrefix)
	if authority != actorAuthority || !ok {
		return g, denied("the consent was not given to an organisation that is numbered by " + actorAuthority)
	}
	if g.To, err = broker.ParseOrgNumber(org); err != nil {
		return g, denied("the consent was given to no valid organisation number")
	}
	if g.Given, err = moment(d, i, "consented"); err != nil {
		return g, err
	}
	if g.Until, err = moment(d, i, "validTo"); err != nil {
		return g, err
	}
	switch {
	case g.Given.After(now.Add(leeway)):
		return g, denied("the consent was given in the future; is the clock right?")
	case !g.Until.After(now):
		return g, denied("the consent has ended")
	}
	rights := d.Find(i, "consentRights")
	if rights < 0 || d.Node(rights).Kind != jsondoc.Array {
		return g, denied("the consent does not say to what it was given (consentRights)")
	}
	for r := range elements(d, rights) {
		if len(g.Rights) == maxRights {
			return g, denied("the consent has more than 50 rights")
		}
		right, err := consentRight(d, r)
		if err != nil {
			return g, err
		}
		g.Rights = append(g.Rights, right)
	}
	if len(g.Rights) == 0 {
		return g, denied("the consent says that it was given to nothing (consentRights)")
	}
	return g, nil
}

// consentRight reads a right. One that asks for something else than consent, or for
// several resources at once, is not guessed at.
func consentRight(d *jsondoc.Doc, r int) (right ConsentRight, err error) {
	unusable := denied("the consent has a right that is not the action consent on one " + resourceType)
	if d.Node(r).Kind != jsondoc.Object {
		return right, unusable
	}
	action, resource := d.Find(r, "action"), d.Find(r, "resource")
	if action < 0 || resource < 0 || d.Node(action).Kind != jsondoc.Array || d.Node(resource).Kind != jsondoc.Array {
		return right, unusable
	}
	n := 0
	for a := range elements(d, action) {
		if n++; d.Node(a).Kind != jsondoc.String || string(d.AppendText(nil, a)) != "consent" {
			return right, unusable
		}
	}
	m := 0
	for e := range elements(d, resource) {
		if m++; d.Node(e).Kind != jsondoc.Object {
			return right, unusable
		}
		t, _ := textAt(d, e, "type")
		if right.Resource, _ = textAt(d, e, "value"); t != resourceType || right.Resource == "" {
			return right, unusable
		}
	}
	if n != 1 || m != 1 {
		return right, unusable
	}
	// Both spellings occur; one with both says two things.
	meta, other := d.Find(r, "metadata"), d.Find(r, "metaData")
	if meta >= 0 && other >= 0 {
		return right, denied("the consent has a right with metadata and metaData")
	}
	if meta = max(meta, other); meta < 0 || d.Node(meta).Kind == jsondoc.Null {
		return right, nil
	}
	if d.Node(meta).Kind != jsondoc.Object {
		return right, denied("the consent has a right whose metadata are not an object")
	}
	right.Metadata = map[string]string{}
	for value := range elements(d, meta) {
		name := string(d.Name(value))
		if d.Node(value).Kind != jsondoc.String || int(d.Node(value).End-d.Node(value).Start) > maxMetadata {
			return right, denied("the consent has a right whose metadata are not short texts")
		}
		right.Metadata[name] = string(d.AppendText(nil, value))
	}
	return right, nil
}

// moment reads a time (RFC 3339).
func moment(d *jsondoc.Doc, i int, name string) (time.Time, error) {
	text, _ := textAt(d, i, name)
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, denied("the consent does not say when it begins and ends (consented, validTo)")
	}
	return t.UTC(), nil
}

// consentID reports whether s is a UUID in its usual form (RFC 9562 section 4).
// Another text could be a person's number.
func consentID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return false
			}
		}
	}
	return true
}
