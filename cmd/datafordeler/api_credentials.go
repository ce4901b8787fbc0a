package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
	"datafordeler/broker/web"
)

// kafkaCredentials issues and takes back logins with Kafka, for broker/web.
type kafkaCredentials struct {
	*kafkaAccess // nil where Kafka has no lists that are this broker's to keep
	cfg          kafka.Config
}

// mostCredentials is how many logins a mailbox or a dataset may have at a time.
const mostCredentials = 8

// credentialPatience is how long an order that has begun goes on, whether or not
// its caller still listens: half of one would be of no use to anybody.
const credentialPatience = 45 * time.Second

var errNoLogins = web.NewProblem(http.StatusConflict, "this broker issues no logins: its Kafka has no access lists that it keeps")

// of says whether a credential is of the resource that the request names.
func of(c registry.Credential, r access.Resource) bool {
	return c.Mailbox == r.Mailbox && c.Dataset == r.Dataset
}

// Issue records the credential, gives it its secret, and lets it in: in this order,
// so that there is no login with Kafka of which the registry does not know.
func (k *kafkaCredentials) Issue(ctx context.Context, c access.Caller, r access.Resource, o web.KafkaCredentialOrder) (web.IssuedKafkaCredential, error) {
	var none web.IssuedKafkaCredential
	if k.kafkaAccess == nil {
		return none, errNoLogins
	}
	if _, err := k.lists.Look(ctx); errors.Is(err, kafka.ErrNoAccessLists) {
		return none, errNoLogins
	} else if err != nil {
		return none, err
	}
	trust, err := k.certificates()
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), credentialPatience)
	defer cancel()
	name, secret := kafka.NewCredential(string(c.Acting()))
	if o.Once != [32]byte{} {
		name = kafka.CredentialName(string(c.Acting()), o.Once)
	}
	credential := registry.Credential{ID: name, Organisation: c.Acting(), Client: c.Client, Mailbox: r.Mailbox, Dataset: r.Dataset}
	_, err = k.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		if err := k.mayIssue(st, r, name, o.Replaces); err != nil {
			return nil, err
		}
		events, err := k.link(st, c, registry.IssueCredential(credential))
		if err != nil && credential.Client != "" {
			credential.Client = "" // a name that could be a person's number is not written down
			events, err = k.link(st, c, registry.IssueCredential(credential))
		}
		return events, err
	})
	if err != nil {
		return none, err
	}
	if err := k.lists.SetSecret(ctx, name, secret); err != nil {
		return none, errors.Join(err, k.append(ctx, c, registry.EndCredential(name, k.now(), "it could not be given a secret")))
	}
	if o.Replaces != "" {
		if err := k.retire(ctx, c, o.Replaces, k.now().Add(o.Overlap), "replaced by "+name); err != nil {
			return none, err
		}
	}
	if _, _, err := k.keep(ctx); err != nil {
		return none, err
	}
	grant := kafka.Grant{Credential: name, Dataset: string(r.Dataset), Mailbox: string(r.Mailbox)}
	out := web.IssuedKafkaCredential{
		Name: name, Username: k.topics.User(name), Password: secret, Mechanism: "SCRAM-SHA-512",
		Bootstrap: k.cfg.Brokers, TLS: !k.cfg.Clients.PlainText, CACertificates: trust, Topic: grant.Topic(k.topics), GroupPrefix: grant.Groups(k.topics),
	}
	if len(k.cfg.Clients.Brokers) > 0 {
		out.Bootstrap = k.cfg.Clients.Brokers
	}
	if r.Dataset != "" {
		out.RejectedTopic = k.topics.Rejected(string(r.Dataset))
	}
	for _, a := range k.worth() {
		if a.ID != name {
			continue
		}
		if a.Standing == registry.Over {
			return none, web.NewProblem(http.StatusConflict, "no login was issued: "+a.Why)
		}
		out.InUse, out.WhyNotNow = a.Standing == registry.Stands, a.Why
	}
	return out, nil
}

// mayIssue refuses an order that cannot be, or that has been carried out.
func (k *kafkaCredentials) mayIssue(st *registry.State, r access.Resource, name, replaces string) error {
	live := 0
	for _, o := range st.Credentials() {
		if o.ID == name { // by the same key: names that are drawn do not meet
			return k.issuedBefore(o, r)
		}
		if of(o.Credential, r) && k.live(o) {
			live++
		}
	}
	if live >= mostCredentials {
		return web.NewProblem(http.StatusConflict, fmt.Sprintf("there are %d logins already, which is the most: revoke one first", live))
	}
	if replaces != "" {
		if _, err := k.find(st, r, replaces); err != nil {
			return err
		}
	}
	return nil
}

// issuedBefore is what to do about an order whose key has made a login. Its secret is
// nowhere to be had: another instance told it, or nobody heard.
func (k *kafkaCredentials) issuedBefore(o registry.IssuedCredential, r access.Resource) error {
	p := web.NewProblem(http.StatusConflict, "this Idempotency-Key has made login "+o.ID+" already, and its password is told once: "+
		"if you do not have it, revoke that login (DELETE …/kafka-credentials/"+o.ID+"), and send the order with a new key")
	p.Type = web.KeyDone
	switch {
	case !of(o.Credential, r):
		p = web.NewProblem(http.StatusUnprocessableEntity, "this Idempotency-Key has made a login for something else: send a new key with what is new")
		p.Type = web.KeyReused
	case !k.live(o):
		p.Detail = "this Idempotency-Key has made login " + o.ID + ", which has ended: send the order with a new key"
	}
	return p
}

// certificates are those that clients are told to trust.
func (k *kafkaCredentials) certificates() (string, error) {
	file := cmp.Or(k.cfg.Clients.CAFile, k.cfg.TLS.CAFile)
	if file == "" || k.cfg.Clients.PlainText {
		return "", nil
	}
	b, err := os.ReadFile(file)
	return string(b), err
}

func (k *kafkaCredentials) live(c registry.IssuedCredential) bool {
	return c.Ends.IsZero() || k.now().Before(c.Ends)
}

// find is a live credential of the resource.
func (k *kafkaCredentials) find(st *registry.State, r access.Resource, name string) (registry.IssuedCredential, error) {
	for _, c := range st.Credentials() {
		if c.ID == name && of(c.Credential, r) && k.live(c) {
			return c, nil
		}
	}
	return registry.IssuedCredential{}, web.NewProblem(http.StatusNotFound, "no login of that name is in use here; GET lists them")
}

// link makes the event of a change, if the registry takes it.
func (k *kafkaCredentials) link(st *registry.State, c access.Caller, change registry.Change) ([]registry.Event, error) {
	events, err := st.Link(k.now(), c.Actor(), change)
	if err != nil { // a client's name that does not do for an actor
		events, err = st.Link(k.now(), "organisation "+string(c.Acting()), change)
	}
	if err != nil {
		return nil, err
	}
	var refused *registry.RefusedError
	if err := st.Check(events[0]); errors.As(err, &refused) {
		return nil, web.NewProblem(http.StatusConflict, refused.Reason)
	} else if err != nil {
		return nil, err
	}
	return events, nil
}

func (k *kafkaCredentials) append(ctx context.Context, c access.Caller, change registry.Change) error {
	_, err := k.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) { return k.link(st, c, change) })
	return err
}

// retire ends a credential at a time, unless it ends before.
func (k *kafkaCredentials) retire(ctx context.Context, c access.Caller, name string, at time.Time, why string) error {
	_, err := k.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		for _, o := range st.Credentials() {
			if o.ID == name && !o.Ends.IsZero() && !at.Before(o.Ends) {
				return nil, nil
			}
		}
		return k.link(st, c, registry.EndCredential(name, at, why))
	})
	return err
}

// worth is what all credentials are worth now.
func (k *kafkaCredentials) worth() (all []registry.KafkaAccess) {
	k.control.View(func(st *registry.State) { all, _ = st.KafkaAccess(notBefore(st, k.now())) })
	return all
}

// List is those of the resource that have not ended.
func (k *kafkaCredentials) List(ctx context.Context, r access.Resource) ([]web.KafkaCredential, error) {
	if k.kafkaAccess == nil {
		return nil, nil
	}
	if _, err := k.control.Latest(ctx); err != nil {
		return nil, err
	}
	var out []web.KafkaCredential
	for _, a := range k.worth() {
		if !of(a.Credential, r) || !k.live(a.IssuedCredential) {
			continue
		}
		c := web.KafkaCredential{Name: a.ID, Username: k.topics.User(a.ID), Issued: a.At, IssuedBy: a.Actor, InUse: a.Standing == registry.Stands, WhyNotNow: a.Why}
		if !a.Ends.IsZero() {
			c.Ends = &a.Ends
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b web.KafkaCredential) int {
		return cmp.Or(a.Issued.Compare(b.Issued), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

// Revoke ends one at once.
func (k *kafkaCredentials) Revoke(ctx context.Context, c access.Caller, r access.Resource, name string) error {
	if k.kafkaAccess == nil {
		return errNoLogins
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), credentialPatience)
	defer cancel()
	var rev broker.Revision
	rev, err := k.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		if _, err := k.find(st, r, name); err != nil {
			return nil, err
		}
		return k.link(st, c, registry.EndCredential(name, k.now(), "taken back by its owner"))
	})
	if err != nil {
		return err
	}
	if _, _, err := k.keep(ctx); err != nil {
		k.log.Error("a revoked login may still serve: Kafka's access lists are not in step with the registry", "revision", rev, "err", err)
		return web.NewProblem(http.StatusServiceUnavailable, "the login is recorded as revoked, but Kafka has not confirmed it yet: it is tried again until it does")
	}
	return nil
}
