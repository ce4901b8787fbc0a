package registry

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
)

// ForeignEnd says that a consent has ended where it was given: from then on no proof of
// it counts here. It is recorded also of consents that nobody brought, because a proof
// lives on for a while after the consent. It names no person.
type ForeignEnd struct {
	// External is the consent's identifier there: a UUID in small letters.
	External string `json:"external"`
	// At is when it ended there.
	At time.Time `json:"at"`
}

// ConsentFeed says how far another system's feed of consents has been followed. Such a
// feed comes in pages, each named by the one before; what is behind the last page that
// held anything is not there yet.
type ConsentFeed struct {
	// Source names the feed: one for each organisation that consents are given to.
	Source string `json:"source"`
	// Page is the feed's own name of the page that was read last and held entries; "" is
	// its first.
	Page string `json:"page,omitempty"`
	// Entries is how many of that page's, from its first, were taken; Digest is of these.
	Entries int           `json:"entries"`
	Digest  broker.Digest `json:"digest,omitzero"`
	// Gap: the feed did not go on where it had been read to, and is read from its
	// beginning again.
	Gap bool `json:"gap,omitempty"`
	// Unknown is the type of the entry that follows, where its reader does not know it:
	// what comes after was taken all the same, and is read again by one that does.
	Unknown string `json:"unknown,omitempty"`
	// Last is when what the last entry tells of happened.
	Last time.Time `json:"last,omitzero"`
}

// ConsentFeedState is how far a feed has been followed, and when that was said.
type ConsentFeedState struct {
	ConsentFeed
	At    time.Time `json:"at"`
	Actor string    `json:"actor"`
	// Gaps counts the times that it did not go on where it had been read to, and LastGap
	// is when that was last so.
	Gaps    int       `json:"gaps"`
	LastGap time.Time `json:"lastGap,omitzero"`
}

type uuidKey [16]byte

// foreign is what is known of consents where they were given.
type foreign struct {
	ended map[uuidKey]instant
	feeds map[string]ConsentFeedState
}

// FollowConsents records how far a feed of consents has been followed.
func FollowConsents(f ConsentFeed) Change { return change(ConsentFollowed, f) }

// EndForeign is what records that a consent has ended where it was given: what was
// recorded of it is withdrawn, and its proof is refused from then on. Nothing, where
// that was recorded before. at is when it ended there, and now is the writer's clock: a
// time to come would not bind yet. Where the consent lapsed, nobody withdrew it: what
// is over by its own validity stands as it is, and lays no duty on its receiver.
func (s *State) EndForeign(external string, at, now time.Time, lapsed bool) []Change {
	if at.After(now) {
		at = now
	}
	changes := s.withdrawForeign(external, at, func(c *broker.Consent) bool { return !lapsed || c.Valid.To.IsZero() || now.Before(c.Valid.To) })
	if external = strings.ToLower(external); !s.EndedElsewhere(external) {
		changes = append(changes, change(ConsentEnded, ForeignEnd{external, at.UTC()}))
	}
	return changes
}

// EndedElsewhere reports whether a consent is known to have ended where it was given.
func (s *State) EndedElsewhere(external string) bool {
	k, ok := parseUUID(strings.ToLower(external))
	if !ok {
		return false
	}
	_, ok = s.foreign.ended[k]
	return ok
}

// ConsentFeed says how far a feed has been followed; ok is false before it was.
func (s *State) ConsentFeed(source string) (f ConsentFeedState, ok bool) {
	f, ok = s.foreign.feeds[source]
	return f, ok
}

// ConsentFeeds are all that were ever followed, by source.
func (s *State) ConsentFeeds() (all []ConsentFeedState) {
	for _, source := range slices.Sorted(maps.Keys(s.foreign.feeds)) {
		all = append(all, s.foreign.feeds[source])
	}
	return all
}

// ConsentsEnded counts the consents that are known to have ended where they were given.
func (s *State) ConsentsEnded() int { return len(s.foreign.ended) }

// parseUUID reads a UUID in its usual form (RFC 9562 section 4), in small letters.
func parseUUID(s string) (k uuidKey, ok bool) {
	if !uuid.MatchString(s) {
		return k, false
	}
	_, err := hex.Decode(k[:], []byte(strings.ReplaceAll(s, "-", "")))
	return k, err == nil
}

func (s *State) refuseForeignEnd(v *ForeignEnd) string {
	_, ok := parseUUID(v.External)
	switch {
	case !ok:
		return "a consent that was given elsewhere is named by a UUID in small letters"
	case v.At.IsZero():
		return "a consent ends at a time"
	case s.EndedElsewhere(v.External):
		return fmt.Sprintf("consent %s is known to have ended where it was given", v.External)
	}
	return ""
}

const (
	maxPage        = 500       // bytes of a page's name
	maxPageEntries = 1_000_000 // more is no page
)

func refuseConsentFeed(v *ConsentFeed) string {
	switch {
	case v.Source == "" || len(v.Source) > maxSource:
		return fmt.Sprintf("a feed is named, in %d bytes at the most", maxSource)
	case elevenDigits(v.Source):
		return "the feed's name holds eleven digits in a row: it could be a person's number"
	case v.Entries < 0 || v.Entries > maxPageEntries || (v.Entries == 0) != v.Digest.IsZero():
		return fmt.Sprintf("a page of a feed has 0 to %d entries, and where it has any their digest", maxPageEntries)
	}
	if v.Unknown != "" {
		if r := name(v.Unknown); r != "" {
			return r
		}
	}
	return refuseFeedPage(v.Page)
}

// refuseFeedPage says what a page's name may not be: it stands in the log for ever.
func refuseFeedPage(page string) string {
	switch {
	case len(page) > maxPage:
		return fmt.Sprintf("the feed names a page in more than %d bytes", maxPage)
	case strings.ContainsFunc(page, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "the feed names a page by other signs than letters, digits and marks of ASCII"
	case elevenDigits(page):
		return "the feed names a page by eleven digits in a row: it could be a person's number"
	}
	return ""
}

func (s *State) applyForeign(p payload, e *Event) {
	switch v := p.(type) {
	case *ForeignEnd:
		k, _ := parseUUID(v.External) // refuse has had its say
		s.foreign.ended[k] = s.subjects.times.pack(v.At.UTC())
	case *ConsentFeed:
		old := s.foreign.feeds[v.Source]
		f := ConsentFeedState{*v, e.At, e.Actor, old.Gaps, old.LastGap}
		if v.Gap {
			f.Gaps, f.LastGap = f.Gaps+1, e.At
		}
		s.foreign.feeds[v.Source] = f
	default:
		panic(fmt.Sprintf("registry: %T is nothing of a consent elsewhere", p))
	}
}

// hashed is all of it in an order that does not depend on maps.
func (f *foreign) hashed(t *times) any {
	type one struct {
		External string
		At       time.Time
	}
	all := []one{}
	for _, k := range slices.SortedFunc(maps.Keys(f.ended), func(a, b uuidKey) int { return bytes.Compare(a[:], b[:]) }) {
		all = append(all, one{hex.EncodeToString(k[:]), t.time(f.ended[k])})
	}
	return []any{all, f.feeds}
}
