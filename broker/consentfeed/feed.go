// Package consentfeed reads Altinn's feed of what happens to the consents that are asked
// for by, or given to, one organisation. The feed names consents and says what happened,
// and never who gave them.
//
// It is read as its documentation has it (docs.altinn.studio, authorization, consent:
// "List consent events"): GET gives {"links": {"next": URL}, "data": [{"consentRequestId",
// "eventType", "changedDate"}]}, the oldest first, some hundred a page. next is there when
// a page is full, and names the following one by a continuationToken, which is Altinn's
// own. Entries have no number. They come some minutes after the event, so that none comes
// in between later.
//
// So a place in the feed is a page, and how many of its entries were taken. The page that
// held the last of them is read again each time: where its entries are no longer the same,
// some were taken out, or the feed is another, and [ErrGap] says so. Whoever follows it
// then begins anew; to take an entry twice must do no harm.
package consentfeed

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"datafordeler/broker"
)

// ErrGap says that the feed does not go on where it was read to.
var ErrGap = errors.New("the feed does not hold what was read of it last: what came after may be gone too")

// Event is one entry: something happened to a consent.
type Event struct {
	// Consent is its UUID, in small letters.
	Consent string
	Type    Type
	At      time.Time // UTC
}

// Type is what happened, in Altinn's words, in small letters.
type Type string

// The types that are known.
const (
	Created  Type = "created" // asked for
	Accepted Type = "accepted"
	Rejected Type = "rejected"
	Revoked  Type = "revoked"
	Deleted  Type = "deleted" // the request was
	Expired  Type = "expired"
	Used     Type = "used"
)

// Meaning is what a type means for a consent that somebody relies on.
type Meaning int

// The meanings.
const (
	Unknown Meaning = iota // it may have ended
	Stands                 // nothing has ended
	Ended                  // it was withdrawn
	Lapsed                 // it ended by itself
)

// Meaning says what a type means.
func (t Type) Meaning() Meaning {
	switch t {
	case Created, Accepted, Rejected, Used:
		return Stands // what was rejected never was
	case Revoked, Deleted:
		return Ended
	case Expired:
		return Lapsed
	}
	return Unknown
}

// Place is how far a feed was read.
type Place struct {
	// Page is the continuationToken by which the page was got; "" is the first.
	Page string
	// Entries is how many of its entries were taken, and Digest is of these; zero of none.
	Entries int
	Digest  broker.Digest
}

// Page is what one request gave.
type Page struct {
	Events []Event
	// Next names the following page; "" where this one is not full.
	Next string
}

// Source is where the feed is.
type Source struct {
	// URL of the feed. It may have filters of the feed's own in it.
	URL string
	// Token gives an access token; nil for none.
	Token func(context.Context) (string, error)
	// Client makes the requests. It should give up some time, and follow no redirection:
	// a token goes along.
	Client *http.Client
}

const (
	largestPage   = 16 << 20 // bytes
	tokenParam    = "continuationToken"
	mostTypeBytes = 50
)

// Get reads a page. Its errors hold no values, and no address.
func (s *Source) Get(ctx context.Context, page string) (p Page, err error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return p, errors.New("the feed's address is none")
	}
	if page != "" {
		q := u.Query()
		q.Set(tokenParam, page)
		u.RawQuery = q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return p, errors.New("the feed's address is none")
	}
	req.Header.Set("Accept", "application/json")
	if s.Token != nil {
		token, err := s.Token(ctx)
		if err != nil {
			return p, fmt.Errorf("no token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.Client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address
		}
		return p, fmt.Errorf("the feed cannot be reached: %w", err)
	}
	defer resp.Body.Close()
	switch {
	case page != "" && (resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusGone):
		return p, fmt.Errorf("the feed answers %s to its own name of a page: %w", resp.Status, ErrGap)
	case resp.StatusCode != http.StatusOK:
		return p, fmt.Errorf("the feed answers %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, largestPage+1))
	switch {
	case err != nil:
		return p, fmt.Errorf("the feed broke off: %w", err)
	case len(body) > largestPage:
		return p, fmt.Errorf("the feed's page has more than %d bytes", largestPage)
	}
	return Parse(body)
}

// Parse reads a page. Its errors hold no values.
func Parse(body []byte) (p Page, err error) {
	var page struct {
		Links struct {
			Next *string `json:"next"`
		} `json:"links"`
		Data *[]struct {
			Consent string    `json:"consentRequestId"`
			Type    string    `json:"eventType"`
			At      time.Time `json:"changedDate"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &page) != nil || page.Data == nil {
		return p, errors.New(`the feed's page is not {"links": …, "data": […]} of consentRequestId, eventType and changedDate`)
	}
	for i, e := range *page.Data {
		event := Event{strings.ToLower(e.Consent), Type(strings.ToLower(e.Type)), e.At.UTC()}
		switch {
		case !isUUID(event.Consent):
			return p, fmt.Errorf("entry %d of the feed's page has no consentRequestId, a UUID", i)
		case len(e.Type) > mostTypeBytes || broker.CheckName(string(event.Type)) != nil:
			return p, fmt.Errorf("entry %d of the feed's page has no eventType, a word of at most %d bytes", i, mostTypeBytes)
		case e.At.IsZero() || event.At.Year() < 1 || event.At.Year() > 9999: // another cannot be written again
			return p, fmt.Errorf("entry %d of the feed's page has no changedDate", i)
		}
		p.Events = append(p.Events, event)
	}
	if page.Links.Next == nil || *page.Links.Next == "" {
		return p, nil
	}
	// Only the name is taken of the address: the token is for where the feed is said to be.
	u, err := url.Parse(*page.Links.Next)
	if err != nil {
		return Page{}, errors.New("the feed's page names a next page by no address")
	}
	for name, values := range u.Query() {
		if strings.EqualFold(name, tokenParam) && len(values) == 1 {
			p.Next = values[0]
		}
	}
	if p.Next == "" {
		return Page{}, fmt.Errorf("the feed's page names a next page without %s", tokenParam)
	}
	return p, nil
}

// isUUID reports whether s is a UUID in its usual form (RFC 9562 section 4), in small
// letters. Another text could be a person's number.
func isUUID(s string) bool {
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
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

// PlaceIn is the place after some entries of a page.
func PlaceIn(page string, taken []Event) Place {
	if len(taken) == 0 {
		return Place{Page: page}
	}
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, e := range taken {
		_ = enc.Encode([]string{e.Consent, string(e.Type), e.At.Format(time.RFC3339Nano)}) // texts, into a hash
	}
	return Place{page, len(taken), broker.Digest(h.Sum(nil)[:16])}
}
