package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker"
	"datafordeler/broker/access"
)

// KafkaCredential is a login with Kafka, without its secret.
type KafkaCredential struct {
	Name      string     `json:"name" doc:"names it here, to revoke or replace it"`
	Username  string     `json:"username" doc:"the user to log in as"`
	Issued    time.Time  `json:"issued"`
	IssuedBy  string     `json:"issuedBy" doc:"which client of which organisation asked for it"`
	Ends      *time.Time `json:"ends,omitempty" doc:"when it stops; left out where that is not said"`
	InUse     bool       `json:"inUse" doc:"whether Kafka lets it do anything now"`
	WhyNotNow string     `json:"whyNotNow,omitempty" doc:"why it does not"`
}

// IssuedKafkaCredential is what its owner needs to come to Kafka. The password is
// told this once.
type IssuedKafkaCredential struct {
	Name           string   `json:"name" doc:"names it here, to revoke or replace it"`
	Username       string   `json:"username"`
	Password       string   `json:"password" doc:"told this once, and kept by nobody: lose it, and issue another"`
	Mechanism      string   `json:"mechanism" doc:"of SASL" example:"SCRAM-SHA-512"`
	Bootstrap      []string `json:"bootstrapServers" doc:"host:port addresses to begin with"`
	TLS            bool     `json:"tls" doc:"whether connections are encrypted: SASL_SSL, else SASL_PLAINTEXT"`
	CACertificates string   `json:"caCertificates,omitempty" doc:"PEM: whom to trust to be Kafka; left out where it is whom everybody trusts"`
	Topic          string   `json:"topic" doc:"to read from, or to publish to"`
	RejectedTopic  string   `json:"rejectedTopic,omitempty" doc:"where a provider reads what was refused, and why"`
	GroupPrefix    string   `json:"groupPrefix" doc:"what the name of your consumer group must begin with, if you use one"`
	InUse          bool     `json:"inUse" doc:"whether Kafka lets it do anything now"`
	WhyNotNow      string   `json:"whyNotNow,omitempty" doc:"why it does not"`
}

// KafkaCredentialOrder is how a login is to be issued.
type KafkaCredentialOrder struct {
	// Replaces, if not "", is a login of the same resource, which ends after Overlap.
	Replaces string
	Overlap  time.Duration
	// Once, if not zero, is of the caller and their Idempotency-Key: of all orders
	// with the same one, on whichever instance, one makes a login. The others are
	// refused by a [KeyDone]: a password is told once.
	Once [32]byte
}

// KafkaCredentials issues and takes back logins. The caller may do so for the
// resource: that has been asked. Its errors for the caller are [*Problem]s.
type KafkaCredentials interface {
	// Issue makes a login. Once it returns, Kafka lets it in.
	Issue(ctx context.Context, c access.Caller, r access.Resource, o KafkaCredentialOrder) (IssuedKafkaCredential, error)
	// List is those that have not ended, by when they were issued.
	List(ctx context.Context, r access.Resource) ([]KafkaCredential, error)
	// Revoke ends one. Once it returns, Kafka serves it no more.
	Revoke(ctx context.Context, c access.Caller, r access.Resource, name string) error
}

// RegisterKafkaCredentials adds them: an organisation's own logins with Kafka, for
// each of its mailboxes that receive there and for each dataset that it publishes.
func (s *Server) RegisterKafkaCredentials(k KafkaCredentials) {
	const mailboxes, datasets = "/mailboxes/{mailbox}/kafka-credentials", "/datasets/{dataset}/kafka-credentials"
	receive, publish := Rule{Action: access.Receive}, Rule{Action: access.PublishRecords}
	c := credentials{k}
	once := func(r Rule) Rule {
		r.Once = &Once{}
		return r
	}

	Register(s, issuing("mailbox", mailboxes, "receive from a mailbox"), once(receive), func(ctx context.Context, in *struct {
		Mailbox broker.MailboxID `path:"mailbox" doc:"a mailbox of the caller's that receives by Kafka"`
		Body    *credentialOrder
	}) (*issuedCredential, error) {
		return c.issue(ctx, access.Resource{Mailbox: in.Mailbox}, in.Body)
	})
	Register(s, issuing("dataset", datasets, "publish to a dataset"), once(publish), func(ctx context.Context, in *struct {
		Dataset broker.DatasetID `path:"dataset" doc:"a dataset of the caller's"`
		Body    *credentialOrder
	}) (*issuedCredential, error) {
		return c.issue(ctx, access.Resource{Dataset: in.Dataset}, in.Body)
	})
	Register(s, listing("mailbox", mailboxes), receive, func(ctx context.Context, in *struct {
		Mailbox broker.MailboxID `path:"mailbox" doc:"a mailbox of the caller's that receives by Kafka"`
	}) (*listedCredentials, error) {
		return c.list(ctx, access.Resource{Mailbox: in.Mailbox})
	})
	Register(s, listing("dataset", datasets), publish, func(ctx context.Context, in *struct {
		Dataset broker.DatasetID `path:"dataset" doc:"a dataset of the caller's"`
	}) (*listedCredentials, error) {
		return c.list(ctx, access.Resource{Dataset: in.Dataset})
	})
	Register(s, revoking("mailbox", mailboxes), receive, func(ctx context.Context, in *struct {
		Mailbox    broker.MailboxID `path:"mailbox" doc:"a mailbox of the caller's that receives by Kafka"`
		Credential string           `path:"credential" maxLength:"80" doc:"the name that it was issued under"`
	}) (*struct{}, error) {
		return nil, k.Revoke(ctx, CallerOf(ctx), access.Resource{Mailbox: in.Mailbox}, in.Credential)
	})
	Register(s, revoking("dataset", datasets), publish, func(ctx context.Context, in *struct {
		Dataset    broker.DatasetID `path:"dataset" doc:"a dataset of the caller's"`
		Credential string           `path:"credential" maxLength:"80" doc:"the name that it was issued under"`
	}) (*struct{}, error) {
		return nil, k.Revoke(ctx, CallerOf(ctx), access.Resource{Dataset: in.Dataset}, in.Credential)
	})
}

type credentialOrder struct {
	Replaces       string `json:"replaces,omitempty" maxLength:"80" doc:"the name of a login that this one takes the place of"`
	OverlapSeconds int64  `json:"overlapSeconds,omitempty" minimum:"0" maximum:"604800" doc:"for how many seconds the replaced one goes on beside it; 0: not at all"`
}

type issuedCredential struct{ Body IssuedKafkaCredential }

type listedCredentials struct {
	Body struct {
		Credentials []KafkaCredential `json:"credentials"`
	}
}

func issuing(kind, path, what string) huma.Operation {
	return huma.Operation{
		OperationID: "issue-" + kind + "-kafka-credential", Method: http.MethodPost, Path: path, Tags: []string{"kafka"}, DefaultStatus: http.StatusCreated,
		Summary:     "Issue a login with Kafka, to " + what,
		Description: "The password is told once; with an Idempotency-Key, whoever did not get the answer sends the same again, and gets it from the instance that gave it, for as long as it remembers. From then on, from another instance, or after a restart, it is 409 (urn:datafordeler:problem:idempotency-key-done) and no second login: the password cannot be told again, so revoke the login that it names, and order with a new key. The login outlives the token; it ends with what it rests on, or when it is revoked.",
	}
}

func listing(kind, path string) huma.Operation {
	return huma.Operation{
		OperationID: "list-" + kind + "-kafka-credentials", Method: http.MethodGet, Path: path, Tags: []string{"kafka"},
		Summary: "The logins with Kafka for a " + kind + " that have not ended, without their passwords",
	}
}

func revoking(kind, path string) huma.Operation {
	return huma.Operation{
		OperationID: "revoke-" + kind + "-kafka-credential", Method: http.MethodDelete, Path: path + "/{credential}", Tags: []string{"kafka"}, DefaultStatus: http.StatusNoContent,
		Summary:     "Revoke a login with Kafka",
		Description: "When this has been answered, Kafka serves it no more, on connections that are open either.",
	}
}

type credentials struct{ k KafkaCredentials }

func (c credentials) issue(ctx context.Context, r access.Resource, o *credentialOrder) (*issuedCredential, error) {
	if o == nil {
		o = &credentialOrder{}
	}
	if o.Replaces == "" && o.OverlapSeconds != 0 {
		return nil, NewProblem(http.StatusUnprocessableEntity, "overlapSeconds is for a login that is replaced: name it in replaces")
	}
	order := KafkaCredentialOrder{Replaces: o.Replaces, Overlap: time.Duration(o.OverlapSeconds) * time.Second}
	order.Once, _ = IdempotencyOf(ctx)
	out, err := c.k.Issue(ctx, CallerOf(ctx), r, order)
	if err != nil {
		return nil, err
	}
	return &issuedCredential{out}, nil
}

func (c credentials) list(ctx context.Context, r access.Resource) (*listedCredentials, error) {
	all, err := c.k.List(ctx, r)
	if err != nil {
		return nil, err
	}
	out := &listedCredentials{}
	out.Body.Credentials = append([]KafkaCredential{}, all...) // an empty list is one
	tag, err := TagOfJSON(out.Body)
	if err != nil {
		return nil, err
	}
	return out, Tagged(ctx, tag)
}
