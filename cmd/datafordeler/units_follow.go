package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/access/grant"
	"datafordeler/broker/registry"
	"datafordeler/providers"
	"datafordeler/providers/poller"
)

// unitFollower keeps the registry in step with Enhetsregisteret's list of updates, by the
// poller that providers use. How far it came stands in the registry's log.
type unitFollower struct {
	source, list, actor string
	token               providers.TokenSource
	from                int64
	interval            time.Duration
	// alive is how often it says that it reads on, where there is nothing new.
	alive  time.Duration
	once   bool
	node   *node
	log    *slog.Logger
	client http.Client
}

func (f *unitFollower) check() error {
	p, err := url.Parse(f.list)
	switch {
	case err != nil || p.Scheme != "https" && p.Scheme != "http" || p.Host == "" || p.User != nil:
		return errors.New("--list: want an address such as https://data.brreg.no/enhetsregisteret/api/oppdateringer/enheter, without credentials")
	case p.Scheme == "http" && !grant.Loopback(f.list):
		return errors.New("--list: what the register tells travels by https")
	case f.from < 0:
		return errors.New("--from: the register's updates are counted from 1")
	case f.interval <= 0:
		return errors.New("--interval: want a time above 0, such as 30s")
	}
	return nil
}

func (f *unitFollower) run(ctx context.Context, std stdio) error {
	at, err := f.Load(ctx)
	if err != nil {
		return err
	}
	if at.Seq == 0 && f.from == 0 {
		return usagef("%q was not followed before: say --from N, the register's number of the update to begin with, and import what ended before that", f.source)
	}
	f.client.Timeout = 30 * time.Second
	p, err := poller.New(poller.Config{List: f.read, Event: unitEvent, Publisher: f, Checkpoint: f, From: max(1, f.from), Interval: f.interval, Log: f.log})
	if err != nil {
		return err
	}
	if !f.once {
		fmt.Fprintf(std.err, "following %s, until Ctrl-C\n", f.source)
		return p.Run(ctx)
	}
	for more := true; more; {
		if more, err = p.Poll(ctx); err != nil {
			return err
		}
	}
	if at, err = f.Load(ctx); err == nil {
		fmt.Fprintf(std.out, "%s, to update %d\n", f.source, at.Seq)
	}
	return err
}

// Load is how far the registry's log says that the list was followed.
func (f *unitFollower) Load(ctx context.Context) (c poller.Checkpoint, err error) {
	if _, err := f.node.control.Latest(ctx); err != nil {
		return c, err
	}
	f.node.control.View(func(st *registry.State) {
		if u, ok := st.UnitsFollowed(); ok && u.Source == f.source {
			c.Seq = u.Sequence
		}
	})
	return c, nil
}

// Save says in the log how far it came.
func (f *unitFollower) Save(ctx context.Context, c poller.Checkpoint) error {
	_, _, err := f.node.endUnits(ctx, f.actor, broker.OrganisationSubject, nil, &registry.UnitSync{Source: f.source, Sequence: c.Seq})
	return err
}

// Publish records what the updates say.
func (f *unitFollower) Publish(ctx context.Context, events ...providers.Event) error {
	last := map[string]int{}
	var all []unitChange
	for _, e := range events {
		u := unitChange{id: e.Key, what: unitWord(e.Type), on: e.Time}
		if i, twice := last[u.id]; twice { // the later one counts
			all[i] = u
			continue
		}
		last[u.id] = len(all)
		all = append(all, u)
	}
	changed, _, err := f.node.endUnits(ctx, f.actor, broker.OrganisationSubject, all, nil)
	if changed > 0 {
		f.log.Info("organisations have ended, or are restored", "changes", changed)
	}
	return err
}

// unitEvent reads an update. One of a type that is not known stops the follower: it may
// say that somebody is no more.
func unitEvent(_ context.Context, e poller.Entry) (*providers.Event, error) {
	var u struct {
		Date   string `json:"dato"`
		Number string `json:"organisasjonsnummer"`
		Type   string `json:"endringstype"`
	}
	if json.Unmarshal(e.Raw, &u) != nil {
		return nil, errors.New("the entry is no update of the register of legal entities")
	}
	if _, err := broker.ParseOrgNumber(u.Number); err != nil {
		return nil, errors.New("the entry's organisasjonsnummer is none")
	}
	out := &providers.Event{Key: u.Number, Type: string(unitDeleted)}
	switch u.Type {
	case "Endring", "Ukjent":
		return nil, nil
	case "Ny":
		out.Type = string(unitRestored) // where it had ended before
	case "Sletting", "Fjernet":
	default:
		return nil, fmt.Errorf("the entry's endringstype %.40q is not known to this program: upgrade it, or see what the register means by it", u.Type)
	}
	var err error
	if out.Time, err = time.Parse(time.RFC3339, u.Date); err != nil {
		return nil, errors.New("the entry's dato is no time as 2026-11-01T04:05:06.000Z")
	}
	return out, nil
}

const largestUnitPage = 64 << 20 // bytes

// read reads a page. One that holds no more than what was read before is the list's end:
// that it is still read is said now and then, because whoever watches cannot tell a
// follower that has ended from a register without news.
func (f *unitFollower) read(ctx context.Context, from int64, limit int) ([]poller.Entry, error) {
	page, err := f.page(ctx, from, limit)
	if err != nil || len(page) != 1 || limit == 1 {
		return page, err
	}
	silent := false
	f.node.control.View(func(st *registry.State) {
		u, ok := st.UnitsFollowed()
		silent = ok && u.Source == f.source && u.Sequence == page[0].Seq && time.Since(u.At) >= f.alive
	})
	if silent {
		err = f.Save(ctx, poller.Checkpoint{Seq: page[0].Seq})
	}
	return page, err
}

// page reads from an update on, that one included.
func (f *unitFollower) page(ctx context.Context, from int64, limit int) ([]poller.Entry, error) {
	u, err := url.Parse(f.list)
	if err != nil {
		return nil, errors.New("the list's URL is none")
	}
	q := u.Query()
	q.Set("oppdateringsid", strconv.FormatInt(from, 10))
	q.Set("size", strconv.Itoa(limit))
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if f.token != nil {
		token, err := f.token(ctx)
		if err != nil {
			return nil, fmt.Errorf("no token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, largestUnitPage+1))
	if err != nil {
		return nil, err
	}
	if len(body) > largestUnitPage {
		return nil, fmt.Errorf("a page has more than %d bytes", largestUnitPage)
	}
	return readUnitPage(body)
}

// readUnitPage reads a page in the form of HAL, in which an empty one has no list at all
// but says that it has no elements.
func readUnitPage(body []byte) ([]poller.Entry, error) {
	var page struct {
		Embedded *struct {
			Units []json.RawMessage `json:"oppdaterteEnheter"`
		} `json:"_embedded"`
		Page *struct {
			Total *int64 `json:"totalElements"`
		} `json:"page"`
	}
	if json.Unmarshal(body, &page) != nil {
		return nil, errors.New("the page is no list of updates")
	}
	if page.Embedded == nil || page.Embedded.Units == nil {
		if page.Page == nil || page.Page.Total == nil || *page.Page.Total != 0 {
			return nil, errors.New("the page has no _embedded.oppdaterteEnheter, and does not say that it is empty")
		}
		return nil, nil
	}
	out := make([]poller.Entry, len(page.Embedded.Units))
	for i, raw := range page.Embedded.Units {
		var one struct {
			ID int64 `json:"oppdateringsid"`
		}
		if json.Unmarshal(raw, &one) != nil || one.ID < 1 {
			return nil, fmt.Errorf("entry %d of the page has no oppdateringsid, an integer above 0", i)
		}
		out[i] = poller.Entry{Seq: one.ID, Raw: raw}
	}
	return out, nil
}
