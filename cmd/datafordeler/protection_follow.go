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
	"slices"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/access/grant"
	"datafordeler/broker/registry"
	"datafordeler/providers"
	"datafordeler/providers/poller"
	"datafordeler/providers/synthetic"
)

// follower keeps the registry in step with the population register's list of events,
// by the poller that providers use. How far it came stands in the registry's log.
type follower struct {
	source, list, documents, actor string
	token                          providers.TokenSource
	from                           int64
	interval                       time.Duration
	// alive is how often it says that it reads on, where there is nothing new.
	alive time.Duration
	once  bool
	node  *node
	log   *slog.Logger

	client http.Client
	ended  bool // the last page that was read was the list's last
}

const documentMark = "{persondokument}"

func (f *follower) check() error {
	for _, u := range []struct{ flag, text string }{{"list", f.list}, {"documents", strings.Replace(f.documents, documentMark, "x", 1)}} {
		p, err := url.Parse(u.text)
		if err != nil || p.Scheme != "https" && p.Scheme != "http" || p.Host == "" || p.User != nil {
			return fmt.Errorf("--%s: want an address such as https://folkeregisteret.example/…, without credentials", u.flag)
		}
		if p.Scheme == "http" && !grant.Loopback(u.text) {
			return fmt.Errorf("--%s: what the register tells travels by https", u.flag)
		}
	}
	switch {
	case strings.Count(f.documents, documentMark) != 1:
		return fmt.Errorf("--documents: want %s in it, once", documentMark)
	case f.from < 0:
		return errors.New("--from: the register's events are counted from 1")
	case f.interval <= 0:
		return errors.New("--interval: want a time above 0, such as 30s")
	}
	return nil
}

func (f *follower) run(ctx context.Context, std stdio) error {
	at, err := f.Load(ctx)
	if err != nil {
		return err
	}
	if at.Seq == 0 && f.from == 0 {
		return usagef("nothing was imported from %q: import the register's list first (datafordeler protection import), or say --from N if the list of events holds everybody from there on", f.source)
	}
	f.client.Timeout = 30 * time.Second
	list := poller.HTTPList{URL: f.list, Token: f.token, Client: &f.client}
	p, err := poller.New(poller.Config{
		List: func(ctx context.Context, from int64, limit int) ([]poller.Entry, error) {
			page, err := list.Page(ctx, from, limit)
			if err != nil {
				return nil, err
			}
			f.ended = len(page) < limit
			return page, f.reached(ctx, page)
		},
		Event: f.event, Publisher: f, Checkpoint: f, From: max(1, f.from), Interval: f.interval, Log: f.log,
	})
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
		fmt.Fprintf(std.out, "%s, to event %d\n", f.source, at.Seq)
	}
	return err
}

// followerAlive is how often a register's follower says at the least that it lives.
const followerAlive = time.Hour

// reached says in the log that there is no more, where the page that ended the list was
// full: what follows it is the last entry again. It says so anew now and then, because
// whoever watches cannot tell a follower that has ended from a register without news.
func (f *follower) reached(ctx context.Context, page []poller.Entry) error {
	at, err := f.Load(ctx)
	if err != nil || !f.ended || len(page) != 1 || page[0].Seq != at.Seq || f.known() && !f.silent() {
		return err
	}
	return f.Save(ctx, at)
}

func (f *follower) known() (known bool) {
	f.node.control.View(func(st *registry.State) { known = st.Protection(broker.SubjectKey{}) != "" })
	return known
}

func (f *follower) silent() (silent bool) {
	f.node.control.View(func(st *registry.State) {
		p, ok := st.ProtectionFollowed()
		silent = ok && p.Source == f.source && time.Since(p.At) >= f.alive
	})
	return silent
}

// Load is how far the registry's log says that the list was followed.
func (f *follower) Load(ctx context.Context) (c poller.Checkpoint, err error) {
	if _, err := f.node.control.Latest(ctx); err != nil {
		return c, err
	}
	f.node.control.View(func(st *registry.State) {
		if p, ok := st.ProtectionFollowed(); ok && p.Source == f.source {
			c.Seq = p.Sequence
		}
	})
	return c, nil
}

// Save says in the log how far it came. The entry's digest is not kept: it is made of a
// person's number.
func (f *follower) Save(ctx context.Context, c poller.Checkpoint) error {
	_, _, err := f.node.protect(ctx, f.actor, nil, &registry.ProtectionSync{Source: f.source, Sequence: c.Seq, Current: f.ended})
	return err
}

// event is a person's protection now: what the entry was about does not matter, nor
// that the person document is newer than it.
func (f *follower) event(ctx context.Context, e poller.Entry) (*providers.Event, error) {
	id, document, err := readPersonEntry(e.Raw)
	if err != nil {
		return nil, err
	}
	body, err := f.fetch(ctx, strings.Replace(f.documents, documentMark, url.PathEscape(document), 1))
	if err != nil {
		return nil, err
	}
	grade, err := readPersonGrade(body)
	if err != nil {
		return nil, err
	}
	return &providers.Event{Key: id, Type: "protection", Data: []byte(grade)}, nil
}

// Publish records what event found.
func (f *follower) Publish(ctx context.Context, events ...providers.Event) error {
	grades := make(map[broker.SubjectKey]broker.Protection, len(events))
	for _, e := range events {
		grades[f.node.ring.Subject(broker.Person, e.Key)] = broker.Protection(e.Data) // the last on each
	}
	changed, _, err := f.node.protect(ctx, f.actor, grades, nil)
	if changed > 0 {
		f.log.Info("protection has changed", "persons", changed)
	}
	return err
}

const largestPerson = 4 << 20 // bytes

func (f *follower) fetch(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("the person document's address is none")
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
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address
		}
		return nil, fmt.Errorf("the person document: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the person document: it answers %s", resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, largestPerson+1))
	if err == nil && len(b) > largestPerson {
		err = fmt.Errorf("the person document has more than %d bytes", largestPerson)
	}
	return b, err
}

// readPersonEntry reads an entry of Folkeregisteret's list. Its errors hold no values.
func readPersonEntry(raw []byte) (id, document string, err error) {
	var e struct {
		Hendelse struct {
			ID       string `json:"folkeregisteridentifikator"`
			Document string `json:"persondokument"`
		} `json:"hendelse"`
	}
	switch {
	case json.Unmarshal(raw, &e) != nil:
		return "", "", errors.New("the entry is no event of the population register")
	case !synthetic.ValidNationalID(e.Hendelse.ID):
		return "", "", errors.New("the entry's folkeregisteridentifikator is no national identity number")
	case e.Hendelse.Document == "" || len(e.Hendelse.Document) > 200:
		return "", "", errors.New("the entry names no persondokument")
	case strings.Contains(e.Hendelse.Document, e.Hendelse.ID):
		return "", "", errors.New("the entry's persondokument is the person's number, which belongs in no address")
	}
	return e.Hendelse.ID, e.Hendelse.Document, nil
}

// readPersonGrade reads which protection is in force from a person document: the
// adressebeskyttelse that has erGjeldende, or none. A grade of a spelling that is not
// known is taken for the strictest.
func readPersonGrade(body []byte) (broker.Protection, error) {
	var doc map[string]json.RawMessage
	if json.Unmarshal(body, &doc) != nil || doc == nil {
		return "", errors.New("the person document is no JSON object")
	}
	raw, ok := doc["adressebeskyttelse"]
	if !ok || string(raw) == "null" {
		return broker.Unprotected, nil
	}
	var all []struct {
		Grade   *string `json:"graderingsnivaa"`
		Current *bool   `json:"erGjeldende"`
	}
	if json.Unmarshal(raw, &all) != nil {
		return "", errors.New("the person document's adressebeskyttelse is no list")
	}
	strictest := broker.Unprotected
	for _, a := range all {
		if a.Current != nil && !*a.Current {
			continue
		}
		grade := broker.StrictlyConfidential
		if a.Grade != nil && slices.Contains(broker.Protections, broker.Protection(*a.Grade)) {
			grade = broker.Protection(*a.Grade)
		}
		if slices.Index(broker.Protections, grade) > slices.Index(broker.Protections, strictest) {
			strictest = grade
		}
	}
	return strictest, nil
}
