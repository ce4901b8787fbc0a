package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

const elsewhere = "0b1c2d3e-4f50-4a39-9a9b-0d3b6b2c7a11"

// given is the state of everything with one consent of Altinn's, which lasts an hour.
func given(t *testing.T) (*State, ForeignConsent, func(...Change)) {
	s, _ := everything(t)
	do := func(changes ...Change) {
		t.Helper()
		fold(t, s, must(s.Link(s.At(), "test", changes...))...)
	}
	do(must(Put(broker.LegalBasis{ID: "samtykke-d", Type: broker.Samtykke, Sides: []broker.Side{broker.Disclosure}, Title: "Samtykke", GDPR: "A6-1-a",
		Datasets: []broker.DatasetID{"d", "e"}, Purposes: []broker.Purpose{"laan"}, ConsentResource: "laan-i-banken", Assessed: broker.Assessment{By: "test"}})))
	f := ForeignConsent{External: elsewhere, Subject: subjectNamed("a"), Consumer: "964338531",
		Valid: broker.Interval{From: s.At().Add(-time.Hour), To: s.At().Add(time.Hour)}, Rights: rights("laan-i-banken")}
	return s, f, do
}

// What was withdrawn elsewhere before anybody brought it is not given here, by
// whichever writer: the fold itself refuses it.
func TestConsentThatEndedElsewhere(t *testing.T) {
	s, f, do := given(t)
	_, before, err := s.TakeConsent(f)
	if err != nil || len(before) != 2 {
		t.Fatal(len(before), err)
	}
	known := s.ConsentsEnded()
	do(s.EndForeign(strings.ToUpper(elsewhere), s.At().Add(time.Hour), s.At(), false)...)
	if !s.EndedElsewhere(elsewhere) || s.ConsentsEnded() != known+1 {
		t.Error("it is not known to have ended")
	}
	if _, changes, err := s.TakeConsent(f); !errors.Is(err, ErrConsentEnded) || len(changes) != 0 {
		t.Errorf("%d changes, %v", len(changes), err)
	}
	var refused *RefusedError
	if err := s.Check(must(s.Link(s.At(), "test", before[0]))[0]); !errors.As(err, &refused) || refused.Reason != ErrConsentEnded.Error() {
		t.Errorf("a writer that had not heard of it: %v", err)
	}
	if more := s.EndForeign(elsewhere, s.At(), s.At(), true); len(more) != 0 {
		t.Errorf("heard of again: %d changes", len(more))
	}
	f.External = "0b1c2d3e-4f50-4a39-9a9b-0d3b6b2c7a12"
	if _, changes, err := s.TakeConsent(f); err != nil || len(changes) != 2 {
		t.Errorf("another: %d changes, %v", len(changes), err)
	}
}

// A withdrawal that was heard of counts from when it was, and never from a time to come;
// a consent that lapsed was withdrawn by nobody.
func TestEndForeign(t *testing.T) {
	for _, x := range []struct {
		name   string
		at     time.Duration // from now
		now    time.Duration // from when the state is
		lapsed bool
		want   time.Duration // when it is withdrawn, from then; 0 not at all
	}{
		{"withdrawn", -time.Minute, 0, false, -time.Minute},
		{"withdrawn by a clock that is ahead", time.Hour, time.Second, false, time.Second},
		{"withdrawn after it was over", 0, 2 * time.Hour, false, 2 * time.Hour},
		{"lapsed by its own validity", 0, time.Hour, true, 0},
		{"lapsed before its validity", 0, time.Hour - 1, true, time.Hour - 1},
	} {
		s, f, do := given(t)
		_, changes, err := s.TakeConsent(f)
		if err != nil {
			t.Fatal(err)
		}
		do(changes...)
		at := s.At()
		now := at.Add(x.now)
		do(s.EndForeign(elsewhere, now.Add(x.at), now, x.lapsed)...)
		for _, d := range []broker.DatasetID{"d", "e"} {
			got := s.Consents(nil, "964338531", d, "laan", f.Subject)[0].Withdrawn
			if x.want == 0 && !got.IsZero() || x.want != 0 && !got.Equal(at.Add(x.want)) {
				t.Errorf("%s: withdrawn %v, want %v after %v", x.name, got, x.want, at)
			}
		}
		if !s.EndedElsewhere(elsewhere) {
			t.Errorf("%s: its proof still counts", x.name)
		}
	}
}

func TestFeedsAreHeldToTheirWords(t *testing.T) {
	s, _ := everything(t)
	s.foreign.ended[uuidKey{1}] = 1
	digest := broker.Digest{1}
	for want, p := range map[string]payload{
		"by a UUID in small letters":   &ForeignEnd{External: "0B1C2D3E-4f50-4a39-9a9b-0d3b6b2c7a11", At: s.At()},
		"named by a UUID":              &ForeignEnd{External: "01019012345", At: s.At()},
		"ends at a time":               &ForeignEnd{External: elsewhere},
		"is known to have ended":       &ForeignEnd{External: "01000000-0000-0000-0000-000000000000", At: s.At()},
		"a feed is named":              &ConsentFeed{},
		"in 200 bytes":                 &ConsentFeed{Source: strings.Repeat("x", 201)},
		"the feed's name holds eleven": &ConsentFeed{Source: "01019012345"},
		"where it has any":             &ConsentFeed{Source: "x", Entries: 1},
		"their digest":                 &ConsentFeed{Source: "x", Digest: digest},
		"has 0 to":                     &ConsentFeed{Source: "x", Entries: -1, Digest: digest},
		"a page of a feed":             &ConsentFeed{Source: "x", Entries: maxPageEntries + 1, Digest: digest},
		"more than 500 bytes":          &ConsentFeed{Source: "x", Page: strings.Repeat("x", 501)},
		"other signs":                  &ConsentFeed{Source: "x", Page: "a b"},
		"by eleven digits":             &ConsentFeed{Source: "x", Page: "01019012345"},
		"a name may not hold eleven":   &ConsentFeed{Source: "x", Unknown: "a01019012345"},
		"beginning with a letter":      &ConsentFeed{Source: "x", Unknown: "Viewed"},
	} {
		if got := s.refuse(p, ""); !strings.Contains(got, want) || strings.Contains(got, "01019012345") {
			t.Errorf("want %q, got %q", want, got)
		}
	}
	for _, p := range []payload{&ForeignEnd{elsewhere, s.At()}, &ConsentFeed{Source: "x"}, &ConsentFeed{Source: "x", Page: "AZ+/=_-%3D", Entries: 1, Digest: digest, Gap: true, Unknown: "viewed", Last: s.At()}} {
		if got := s.refuse(p, ""); got != "" {
			t.Errorf("%+v: %s", p, got)
		}
	}
}

// How far a feed was followed is the last word on it; gaps are counted for ever.
func TestConsentFeedsAreFollowed(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := New()
		want := map[string]ConsentFeedState{}
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for range rapid.IntRange(1, 10).Draw(r, "events") {
			at = at.Add(time.Second)
			f := ConsentFeed{Source: rapid.SampledFrom([]string{"a", "b"}).Draw(r, "source"), Page: rapid.SampledFrom([]string{"", "x"}).Draw(r, "page"), Gap: rapid.Bool().Draw(r, "gap")}
			if f.Entries = rapid.IntRange(0, 2).Draw(r, "entries"); f.Entries > 0 {
				f.Digest = broker.Digest{byte(f.Entries)}
			}
			w := ConsentFeedState{f, at, "test", want[f.Source].Gaps, want[f.Source].LastGap}
			if f.Gap {
				w.Gaps, w.LastGap = w.Gaps+1, at
			}
			want[f.Source] = w
			e, err := s.Link(at, "test", FollowConsents(f))
			if err != nil {
				r.Fatal(err)
			}
			before := must(json.Marshal(s.foreign.hashed(&s.subjects.times)))
			if ok, err := s.Fold(e[0]); !ok || err != nil {
				r.Fatal(ok, err)
			}
			if bytes.Equal(before, must(json.Marshal(s.foreign.hashed(&s.subjects.times)))) {
				r.Fatal("the hash does not see it")
			}
		}
		if all := s.ConsentFeeds(); len(all) != len(want) {
			r.Fatalf("%d feeds, want %d", len(all), len(want))
		}
		for source, w := range want {
			if got, ok := s.ConsentFeed(source); !ok || got != w {
				r.Fatalf("%+v, want %+v", got, w)
			}
		}
	})
}
