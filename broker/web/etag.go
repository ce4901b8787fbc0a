package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// ETag is a strong entity tag with its quotes (RFC 9110 section 8.8.3): the same tag
// is the same bytes. "" is that there is nothing.
type ETag string

// TagOf is the tag of a representation. What it is made of is not seen in it: the
// tag may be logged.
func TagOf(representation []byte) ETag {
	sum := sha256.Sum256(representation)
	return ETag(`"` + hex.EncodeToString(sum[:16]) + `"`)
}

// TagOfJSON is the tag of what v is in JSON. v must encode the same way each time:
// structs and slices do, and maps do because their keys are sorted.
func TagOfJSON(v any) (ETag, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return TagOf(b), nil
}

// Problem types of preconditions, for programs.
const (
	PreconditionFailed  = "urn:datafordeler:problem:precondition-failed"
	PreconditionMissing = "urn:datafordeler:problem:precondition-required"
)

// errNotModified is how an operation says 304. It is no error of the caller's.
var errNotModified = &Problem{Type: "about:blank", Title: http.StatusText(http.StatusNotModified), Status: http.StatusNotModified}

// Tagged is for operations that read. It names the tag of what is about to be
// answered; its error, which the operation returns as it is, answers 304 where the
// caller has that already (If-None-Match), or 400 or 412 (If-Match). Call it after
// what may refuse: a condition is judged only where the answer would have been 200.
func Tagged(ctx context.Context, current ETag) error {
	v := visitOf(ctx)
	if err := v.ifMatch(current); err != nil {
		return err
	}
	have, _, err := v.tags("If-None-Match")
	if err != nil {
		return err
	}
	v.set("ETag", string(current))
	if have.holds(current, true) {
		return errNotModified
	}
	return nil
}

// MayChange is for operations that change or make one thing: current is the thing's
// tag now, "" where there is none. Call it where nothing can come between it and the
// change: under the lock, or in the closure that decides what is appended.
//
//   - If-Match that does not name current (`*`: anything that is there) → 412.
//   - If-None-Match: `*` where there is something, or one that names it → 412.
//   - required, something is there, and neither header was sent → 428 (RFC 6585):
//     who edits says what they have seen, so that nobody's change is lost. To make
//     what is not there yet needs no condition.
//
// After the change, tell the new tag with [Changed].
func MayChange(ctx context.Context, current ETag, required bool) error {
	v := visitOf(ctx)
	if err := v.ifMatch(current); err != nil {
		return err
	}
	have, none, err := v.tags("If-None-Match")
	if err != nil {
		return err
	}
	if have.holds(current, true) {
		return failedPrecondition("there is one already, and the request asks that there be none (If-None-Match): read it, and send If-Match with its ETag to change it")
	}
	_, match, err := v.tags("If-Match")
	if err != nil {
		return err
	}
	if required && current != "" && !none && !match {
		p := NewProblem(http.StatusPreconditionRequired, "say which version you change: read it, and send its ETag as If-Match, so that nobody else's change is lost")
		p.Type = PreconditionMissing
		return p
	}
	return nil
}

// Changed names the tag of what there is after a change, in the answer.
func Changed(ctx context.Context, now ETag) { visitOf(ctx).set("ETag", string(now)) }

// writeTagged answers with a document that may be kept, and asked for again by its
// tag. It is its caller's own: what stands between keeps it for nobody.
func writeTagged(w http.ResponseWriter, r *http.Request, contentType string, doc []byte) error {
	w.Header().Set("Cache-Control", "private, no-cache")
	if err := Tagged(r.Context(), TagOf(doc)); err != nil {
		return err
	}
	w.Header().Set("Content-Type", contentType)
	_, err := w.Write(doc)
	return err
}

func failedPrecondition(why string) *Problem {
	p := NewProblem(http.StatusPreconditionFailed, why)
	p.Type = PreconditionFailed
	return p
}

func (v *visit) ifMatch(current ETag) error {
	want, given, err := v.tags("If-Match")
	if err != nil || !given {
		return err
	}
	if !want.holds(current, false) {
		return failedPrecondition("it is not what you have seen any more (If-Match): read it again, and decide anew")
	}
	return nil
}

func (v *visit) set(name, value string) {
	if v.answer != nil && value != "" {
		v.answer.Set(name, value)
	}
}

// tags reads a conditional header; given is whether there is one. All its lines are
// one list (RFC 9110 section 5.3).
func (v *visit) tags(name string) (l tagList, given bool, err error) {
	lines := v.header.Values(name)
	if len(lines) == 0 {
		return l, false, nil
	}
	if l, err = parseTags(strings.Join(lines, ",")); err != nil {
		return l, true, NewProblem(http.StatusBadRequest, name+": write * or the tags as ETag gave them, with their quotes and commas between")
	}
	return l, true, nil
}

// tagList is the value of If-Match or If-None-Match.
type tagList struct {
	any  bool // *
	tags []taggedAs
}

type taggedAs struct {
	tag  ETag
	weak bool
}

// holds says whether a thing's tag is in the list: by the strong comparison, or by
// the weak one (RFC 9110 section 8.8.3.2). Our own tags are strong, so what tells
// the two apart is only how the caller wrote it.
func (l tagList) holds(current ETag, weakly bool) bool {
	if current == "" {
		return false
	}
	return l.any || slices.ContainsFunc(l.tags, func(t taggedAs) bool { return t.tag == current && (weakly || !t.weak) })
}

var errTags = errors.New("not a list of entity tags")

// mostTags bounds a list. Ours is one, or the few that a client has kept.
const mostTags = 100

// parseTags reads `*` or a list of entity tags (RFC 9110 section 8.8.3): strict in
// the tags, and, as section 5.6.1 wants, forgiving of empty elements of the list.
func parseTags(s string) (l tagList, err error) {
	const space = " \t"
	if strings.Trim(s, space) == "*" {
		return tagList{any: true}, nil
	}
	for {
		s = strings.TrimLeft(s, space+",")
		if s == "" {
			break
		}
		var t taggedAs
		if rest, ok := strings.CutPrefix(s, "W/"); ok {
			s, t.weak = rest, true
		}
		if s == "" || s[0] != '"' {
			return tagList{}, errTags
		}
		end := strings.IndexByte(s[1:], '"')
		if end < 0 || strings.ContainsFunc(s[1:1+end], func(r rune) bool { return r < 0x21 || r == 0x7f }) {
			return tagList{}, errTags
		}
		t.tag, s = ETag(s[:end+2]), strings.TrimLeft(s[end+2:], space)
		if s != "" && s[0] != ',' || len(l.tags) == mostTags {
			return tagList{}, errTags
		}
		l.tags = append(l.tags, t)
	}
	if len(l.tags) == 0 {
		return tagList{}, errTags
	}
	return l, nil
}
