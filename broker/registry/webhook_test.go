package registry

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"datafordeler/broker"
)

func webhookState(t *testing.T) *State {
	t.Helper()
	s := New()
	fold(t, s, must(s.Link(now, "test",
		must(Put(broker.Organisation{Number: "964338531", Name: "Bergen"})),
		must(Put(broker.Mailbox{ID: "w", Organisation: "964338531", Channel: broker.Webhook})),
		must(Put(broker.Mailbox{ID: "f", Organisation: "964338531", Channel: broker.Feed})),
	))...)
	return s
}

func TestWebhookIsRefused(t *testing.T) {
	for url, want := range map[string]string{
		"":                                      "whole URL",
		"mottak.example.no":                     "whole URL",
		"ftp://mottak.example.no/":              "begins with https",
		"https:mottak.example.no":               "whole URL",
		"https://":                              "whole URL",
		"https://:443/":                         "whole URL",
		"https://kari:hemmelig@example.no/":     "name or a password",
		"https://mottak.example.no/#a":          "after #",
		"https://mottak.example.no/#":           "after #",
		"https://mottak.example.no/15810412345": "eleven digits",
		"https://mottak.example.no/æ":           "must be escaped",
		"https://mottak.example.no/ a":          "must be escaped",
		"https://mottak.example.no/" + strings.Repeat("a", 2000): "longer",
	} {
		s := webhookState(t)
		err := s.Check(must(s.Link(now, "test", SetWebhook(Webhook{Mailbox: "w", URL: url, Generation: 1})))[0])
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", url, err, want)
		}
	}
	const good = "https://mottak.example.no/df"
	for _, c := range []struct {
		change Change
		want   string
	}{
		{SetWebhook(Webhook{Mailbox: "x", URL: good, Generation: 1}), "not registered"},
		{SetWebhook(Webhook{Mailbox: "f", URL: good, Generation: 1}), "does not receive by webhook"},
		{SetWebhook(Webhook{Mailbox: "w", URL: good, Generation: 2}), "generation 1, not 2"},
		{ProveWebhook("w", 3), "no webhook"},
		{RotateWebhook("w", 1, now), "no webhook"},
		{StopWebhook("w", 3, "x"), "no webhook"},
		{RemoveWebhook("w"), "no webhook"},
	} {
		s := webhookState(t)
		if err := s.Check(must(s.Link(now, "test", c.change))[0]); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.change, err, c.want)
		}
	}
}

// Whatever is done in whatever order: only what was set last can be in use, a secret's
// generation never comes again, and what was stopped or removed is not in use.
func TestWebhookFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		do := func(c ...Change) (accepted bool) {
			events, err := s.Link(now, "test", c...)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				if accepted, err = s.Fold(e); err != nil {
					t.Fatal(err)
				}
			}
			return accepted
		}
		o, _ := Put(broker.Organisation{Number: "964338531", Name: "Bergen"})
		m, _ := Put(broker.Mailbox{ID: "w", Organisation: "964338531", Channel: broker.Webhook})
		do(o, m)
		there, proven, generation, endpoint := false, false, 0, broker.Revision(0)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			structure := s.Structure()
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				g := rapid.IntRange(0, 5).Draw(t, "generation")
				want := generation
				if !there {
					want++
				}
				if got := do(SetWebhook(Webhook{Mailbox: "w", URL: "https://a.example/", Generation: g})); got != (g == want) {
					t.Fatalf("set of generation %d: %v, want %d", g, got, want)
				} else if got {
					there, proven, generation, endpoint = true, false, g, s.Revision()
				}
			case 1:
				at := endpoint - broker.Revision(rapid.IntRange(0, 1).Draw(t, "older"))
				want := there && !proven && at == endpoint
				if got := do(ProveWebhook("w", at)); got != want {
					t.Fatalf("proven: %v, want %v", got, want)
				} else if got {
					proven = true
				}
			case 2:
				g := generation + rapid.IntRange(0, 2).Draw(t, "more")
				want := there && g == generation+1
				if got := do(RotateWebhook("w", g, now.Add(time.Hour))); got != want {
					t.Fatalf("rotated: %v, want %v", got, want)
				} else if got {
					generation = g
					if w, _ := s.Webhook("w"); w.Previous != g-1 || !w.Overlap.Equal(now.Add(time.Hour)) {
						t.Fatalf("%+v", w)
					}
				}
			case 3:
				if got := do(StopWebhook("w", endpoint, "410")); got != (there && proven) {
					t.Fatalf("stopped: %v", got)
				}
				proven = false
			case 4:
				if got := do(RemoveWebhook("w")); got != there {
					t.Fatalf("removed: %v", got)
				}
				there, proven = false, false
			}
			w, ok := s.Webhook("w")
			if ok != there || w.Generation != generation && generation > 0 && ok || ok && w.Proven.IsZero() == proven || s.Structure() != structure {
				t.Fatalf("%+v %v, want there %v, proven %v, generation %d", w, ok, there, proven, generation)
			}
			if ok && w.Endpoint != endpoint {
				t.Fatalf("endpoint %d, want %d", w.Endpoint, endpoint)
			}
		}
	})
}
