package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/access/grant"
	"datafordeler/broker/consentfeed"
	"datafordeler/broker/registry"
)

// consentFeed is what is done with another system's feed of consents.
func consentFeed(ctx context.Context, std stdio, verb string, args []string) (err error) {
	if verb == "follow" {
		err = registryConsentFollow(ctx, std, args)
	} else {
		err = registryConsentStatus(ctx, std, args)
	}
	if errors.Is(err, flag.ErrHelp) { // it has more to say than the registry's has room for
		_, err = fmt.Fprint(std.out, consentFollowHelp)
	}
	return err
}

const consentFollowHelp = `Usage: datafordeler registry consent follow --source NAME --feed URL --actor NAME
                                            [--token-file FILE | --issuer URL --client ID --client-key FILE [--kid NAME]]
                                            [--interval 1m] [--once] [--again] [--ignore TYPE] [--wait 30s]
       datafordeler registry consent status [--json]

follow reads Altinn's feed of what happens to the consents of one organisation, whose
token it shows, and withdraws here what was revoked or deleted there. What nobody has
brought yet is remembered, and its proof refused. It goes on from where the registry's
log says that it came to. One follower for each organisation, under a name of its own.
  --source NAME   what the feed is called in the registry's log, such as altinn-testbanken
  --feed URL      https://platform.altinn.no/accessmanagement/api/v1/enterprise/consentrequests/events
  --interval D    how often it is asked when there is nothing new; what happened comes
                  some five minutes after it did
  --once          read to the feed's end, and stop
  --again         begin at the feed's beginning; what was taken before changes nothing
  --ignore TYPE   a type of event that this program does not know, and that you have found
                  not to end a consent; more of them: again
  --wait D        how long to wait for withdrawals to bind
How it gets a token, with the scope altinn:consentrequests.read:
  --token-file FILE  one that something else keeps fresh
  --issuer URL --client ID --client-key FILE --kid NAME  as for datafordeler token
An event of a type that is not known is named and kept for later, and what comes after it
is taken all the same. Where the feed does not hold any more what was read of it last,
that is said and counted, and it is read from its beginning.
An hour without news is said too, so that status and the metrics datafordeler_consent_feed_…
tell a follower that has ended from a feed in which nothing happens.
status shows how far each feed was read, and what stands in its way.
` + placeHelp + `
Examples:
  datafordeler registry consent follow --source altinn-testbanken --actor "drift" --config broker.yaml \
    --feed https://platform.tt02.altinn.no/accessmanagement/api/v1/enterprise/consentrequests/events \
    --issuer https://test.maskinporten.no/ --client 107c6f58-… --kid 2026-1 --client-key client.pem
  datafordeler registry consent status --config broker.yaml
`

// consentFollower keeps consents in step with where they were given. How far it came
// stands in the registry's log, in the write that withdraws.
type consentFollower struct {
	source, actor string
	feed          consentfeed.Source
	ignore        map[consentfeed.Type]bool
	interval      time.Duration
	wait          time.Duration
	// alive is how often it says that it reads on, where there is nothing new.
	alive       time.Duration
	once, again bool
	node        *node
	log         *slog.Logger

	reader consentfeed.Reader
	at     consentfeed.Place
	// gap: the feed was found not to go on, which the log does not say yet. anew: since
	// then its end has not been seen.
	gap, anew bool
	// unknown is the type that the log's place is held before; "" is none.
	unknown consentfeed.Type
	ended   int             // consents that were heard of for the first time
	rev     broker.Revision // of the last withdrawal that is not known to bind
}

func registryConsentFollow(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("registry consent follow")
	where := placeFlags(fs)
	f := consentFollower{ignore: map[consentfeed.Type]bool{}, alive: time.Hour}
	fs.StringVar(&f.source, "source", "", "")
	fs.StringVar(&f.actor, "actor", "", "")
	fs.StringVar(&f.feed.URL, "feed", "", "")
	token := tokenFlags(fs)
	fs.DurationVar(&f.interval, "interval", time.Minute, "")
	fs.DurationVar(&f.wait, "wait", 30*time.Second, "")
	fs.BoolVar(&f.once, "once", false, "")
	fs.BoolVar(&f.again, "again", false, "")
	fs.Func("ignore", "", func(s string) error {
		f.ignore[consentfeed.Type(strings.ToLower(s))] = true
		return nil
	})
	err := parse(fs, args, 0, 0)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return usageError{err}
	}
	if f.feed.Token, err = token.source("follows", "altinn:consentrequests.read"); err != nil {
		return err
	}
	f.feed.Client = &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	f.node, f.log = n, commandLog(std.err, slog.LevelInfo)
	f.reader.Get = f.feed.Get
	return f.run(ctx, std)
}

func (f *consentFollower) check() error {
	u, err := url.Parse(f.feed.URL)
	switch {
	case f.source == "":
		return errors.New("--source is missing: what is the feed called in the registry's log?")
	case f.actor == "":
		return errors.New("--actor is missing: who decides this? It stands in the registry's log")
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil:
		return errors.New("--feed: want an address such as https://platform.altinn.no/…/consentrequests/events, without credentials")
	case u.Scheme == "http" && !grant.Loopback(f.feed.URL):
		return errors.New("--feed: a token goes along, so it travels by https")
	case f.interval <= 0 || f.wait <= 0:
		return errors.New("--interval and --wait: want a time above 0, such as 1m")
	}
	for t := range f.ignore {
		if t.Meaning() != consentfeed.Unknown {
			return fmt.Errorf("--ignore: what %s means is known here", t)
		}
	}
	return nil
}

func (f *consentFollower) run(ctx context.Context, std stdio) error {
	if err := f.load(ctx); err != nil {
		return err
	}
	if !f.once {
		fmt.Fprintf(std.err, "following %s, until Ctrl-C\n", f.source)
	}
	for failures := 0; ; {
		more, err := f.poll(ctx)
		if err == nil && !more {
			err = f.bound(ctx, std)
		}
		wait := f.interval
		switch {
		case ctx.Err() != nil && !f.once:
			return nil
		case f.once && err != nil:
			return err
		case f.once && !more:
			return f.report(std)
		case err != nil:
			failures++
			most := min(time.Second<<min(failures, 9), 5*time.Minute)
			wait = most/2 + rand.N(most/2+1)
			f.log.Error("the feed of consents could not be followed; withdrawals in it do not bind yet; it is tried again", "source", f.source, "failures", failures, "wait", wait, "err", err)
		case more:
			failures = 0
			continue
		default:
			failures = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// load finds how far the registry's log says that the feed was read.
func (f *consentFollower) load(ctx context.Context) error {
	if _, err := f.node.control.Latest(ctx); err != nil {
		return err
	}
	f.node.control.View(func(st *registry.State) {
		if s, ok := st.ConsentFeed(f.source); ok && !f.again {
			f.at = consentfeed.Place{Page: s.Page, Entries: s.Entries, Digest: s.Digest}
		}
	})
	return nil
}

// poll takes what is new in one page; more says that there may be another.
func (f *consentFollower) poll(ctx context.Context) (more bool, err error) {
	b, err := f.reader.Read(ctx, f.at)
	if errors.Is(err, consentfeed.ErrGap) {
		f.log.Error("the feed of consents has a gap; it is read from its beginning, and what was taken out of it can only be found by asking Altinn", "source", f.source, "err", err)
		twice := f.anew
		f.at, f.gap, f.anew, f.unknown = consentfeed.Place{}, true, true, ""
		f.reader.Anew()
		if twice {
			return false, fmt.Errorf("before its end was seen again: %w", err)
		}
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if len(b.Events) > 0 || f.gap || !b.More && f.silent() {
		if err := f.take(ctx, b); err != nil {
			return false, err
		}
		f.at = b.After(len(b.Events))
	}
	f.anew = f.anew && b.More
	return b.More, nil
}

// silent reports whether it is long since it said that it reads on: whoever watches cannot
// tell a follower that has ended from a feed without news.
func (f *consentFollower) silent() (silent bool) {
	f.node.control.View(func(st *registry.State) {
		s, ok := st.ConsentFeed(f.source)
		silent = !ok || time.Since(s.At) >= f.alive
	})
	return silent
}

// consentBatch is how many events of the feed are one write.
const consentBatch = 100

// take records what ended, and with the last of it how far the feed was read: up to the
// first event of a type that is not known, or not at all where one came before.
func (f *consentFollower) take(ctx context.Context, b *consentfeed.Batch) error {
	reached, held := len(b.Events), f.unknown != ""
	unknown := f.unknown
	for i, e := range b.Events {
		if e.Type.Meaning() != consentfeed.Unknown || f.ignore[e.Type] {
			continue
		}
		f.log.Error("the feed of consents has an event of a type that is not known here, which may be that a consent ended; upgrade this program, or see what it means and --ignore it",
			"source", f.source, "type", e.Type, "at", e.At)
		if unknown == "" {
			reached, unknown = i, e.Type
		}
	}
	place := b.After(reached)
	said := registry.ConsentFeed{Source: f.source, Page: place.Page, Entries: place.Entries, Digest: place.Digest, Gap: f.gap, Unknown: string(unknown)}
	if reached > 0 {
		said.Last = b.Events[reached-1].At
	} else if n := len(b.Before); n > 0 {
		said.Last = b.Before[n-1].At
	}
	for events, last := b.Events, false; !last; {
		some := events[:min(consentBatch, len(events))]
		events = events[len(some):]
		last = len(events) == 0
		ended, withdrawn := 0, 0
		rev, err := f.node.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
			now := notBefore(st, time.Now())
			changes := endings(st, some, now)
			ended, withdrawn = count(changes, registry.ConsentEnded), count(changes, registry.ConsentWithdrawn)
			s, ok := st.ConsentFeed(f.source)
			silent := !ok || now.Sub(s.At) >= f.alive
			switch {
			case !last:
			case !held && (said.Gap || s.ConsentFeed != said || silent):
				changes = append(changes, registry.FollowConsents(said))
			case held && silent: // it is no further
				s.Gap = false
				changes = append(changes, registry.FollowConsents(s.ConsentFeed))
			}
			return st.Link(now, f.actor, changes...)
		})
		if err != nil {
			return err
		}
		f.ended += ended
		if withdrawn > 0 {
			f.rev = rev
		}
		if ended+withdrawn > 0 {
			f.log.Info("consents have ended where they were given", "source", f.source, "heard of", ended, "withdrawn", withdrawn, "revision", rev)
		}
	}
	f.gap, f.unknown = false, unknown
	return nil
}

// endings are what events of the feed make of the registry. Each consent ends once: the
// first event that says so counts.
func endings(st *registry.State, events []consentfeed.Event, now time.Time) (changes []registry.Change) {
	seen := map[string]bool{}
	for _, e := range events {
		switch e.Type.Meaning() {
		case consentfeed.Ended, consentfeed.Lapsed:
			if !seen[e.Consent] {
				changes = append(changes, st.EndForeign(e.Consent, e.At, now, e.Type.Meaning() == consentfeed.Lapsed)...)
			}
			seen[e.Consent] = true
		case consentfeed.Stands, consentfeed.Unknown: // the latter is named and kept for later
		}
	}
	return changes
}

func count(changes []registry.Change, t registry.Type) (n int) {
	for _, c := range changes {
		if c.Type == t {
			n++
		}
	}
	return n
}

// bound waits for what was withdrawn to bind.
func (f *consentFollower) bound(ctx context.Context, std stdio) error {
	if f.rev == 0 {
		return nil
	}
	if err := f.node.reportBinding(ctx, std, f.rev, f.wait); err != nil {
		return err
	}
	f.rev = 0
	return nil
}

// report is the last word of a single reading.
func (f *consentFollower) report(std stdio) error {
	fmt.Fprintf(std.out, "%s, read to its end: %s consents were heard to have ended\n", f.source, thousands(int64(f.ended)))
	if f.unknown != "" {
		return fmt.Errorf("the feed %s has events of type %s, which is not known here, and which may be that a consent ended: upgrade this program, or see what it means and --ignore %s", f.source, f.unknown, f.unknown)
	}
	return nil
}

func registryConsentStatus(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("registry consent status")
	where := placeFlags(fs)
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	var s struct {
		Feeds []registry.ConsentFeedState `json:"feeds"`
		Ended int                         `json:"ended"` // consents that are known to have ended where they were given
	}
	s.Feeds = []registry.ConsentFeedState{}
	n.control.View(func(st *registry.State) { s.Feeds, s.Ended = append(s.Feeds, st.ConsentFeeds()...), st.ConsentsEnded() })
	if *asJSON {
		return printJSON(std.out, s, true)
	}
	if len(s.Feeds) == 0 {
		fmt.Fprintln(std.out, "no feed of consents has been followed: what is withdrawn in Altinn is not heard of")
	}
	for _, f := range s.Feeds {
		to := "nothing stood in it"
		if !f.Last.IsZero() {
			to = "to what happened on " + f.Last.Format(time.RFC3339)
		}
		fmt.Fprintf(std.out, "%s, read on %s: %s\n", f.Source, f.At.Format(time.RFC3339), to)
		if f.Unknown != "" {
			fmt.Fprintf(std.out, "  HELD before an event of type %s, which is not known here\n", f.Unknown)
		}
		if f.Gaps > 0 {
			fmt.Fprintf(std.out, "  %d gaps, the last on %s\n", f.Gaps, f.LastGap.Format(time.RFC3339))
		}
	}
	fmt.Fprintf(std.out, "%s consents are known to have ended where they were given\n", thousands(int64(s.Ended)))
	return nil
}
