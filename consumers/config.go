package consumers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"datafordeler/broker"
)

// Config says what to receive. Mailbox is required, and either Brokers or URL.
type Config struct {
	// URL is the broker's HTTP API, such as https://deling.example.no: the mailbox is
	// read as a feed. Nothing of Kafka is needed then.
	URL string
	// Token gets an access token for URL. It is asked again when one has ended.
	Token func(context.Context) (string, error)
	// HTTP is the client to ask URL with; nil is one with a timeout.
	HTTP *http.Client
	// OnGone says where to begin anew when what comes next is not kept any more, with
	// URL only. Nil: Receive ends with the *GoneError.
	OnGone func(context.Context, *GoneError) (Start, error)

	// Attempts is how often the handler gets a delivery that it fails on, default 1:
	// then Receive ends with a *HandlerError.
	Attempts int
	// Backoff is the pause before the second attempt, default 100 ms. It doubles, up
	// to a hundred times as long.
	Backoff time.Duration
	// DeadLetter takes what the handler failed on Attempts times, so that the others
	// go on. When it returns nil, the delivery counts as handled. Nil: there is none.
	DeadLetter func(ctx context.Context, d Delivery, failed error) error
	// Key tells which deliveries must keep their order between each other: mostly the
	// subject, wherever it lies in Data. Nil: all of them.
	Key func(Delivery) string
	// Concurrency is how many handlers run at once, with Key and URL; default 8.
	Concurrency int
	// Log is told of retries and dead letters, by the ids of deliveries; nil is nobody.
	Log *slog.Logger

	// Brokers are host:port addresses to begin with; the rest of the cluster
	// is discovered.
	Brokers []string
	// Prefix stands before all of the broker's topic names; usually empty.
	Prefix string
	// Mailbox is what is received.
	Mailbox broker.MailboxID
	// From is where to begin. The zero value goes on from the checkpoint, or
	// begins at the beginning where there is none.
	From Start
	// Follow: go on waiting at the end, also while Kafka is away. Otherwise
	// Receive returns nil when it has handed over what was there when it began.
	Follow bool
	// Window is how many ids are remembered to know repeats by, default 20,000.
	Window int
	// Checkpoints keeps the position and the window. Nil: they are forgotten
	// with the Receiver.
	Checkpoints Store
	// CheckpointEvery is how many deliveries lie between checkpoints at the
	// most, default 500; the last one is also kept when Receive returns, and
	// when it has handed over all there is. At a crash, so many may come again.
	CheckpointEvery int
	// Patience is how long Kafka may be away before Receive gives up (or, with
	// Follow, says so), default 15 s.
	Patience time.Duration
	// Notify, if set, is told what Receive would otherwise pass over in
	// silence: Kafka gone and back, the end reached. It must not block.
	Notify func(Notice)

	// TLS encrypts the connections. Nil: plain TCP.
	TLS *tls.Config
	// SASL says who is receiving. Nil: nobody in particular.
	SASL *SASL
	// ClientID names this client in Kafka's logs and quotas.
	ClientID string
}

// SASL is a login with Kafka.
type SASL struct {
	// Mechanism is "scram-sha-256", "scram-sha-512" (RFC 5802, RFC 7677) or
	// "plain" (RFC 4616, only with TLS).
	Mechanism string
	Username  string
	// Password is asked for at each login, so that a new one needs no restart.
	Password func() (string, error)
}

// Start is where to begin.
type Start struct {
	at   startKind
	time time.Time
}

type startKind int

const (
	atCheckpoint startKind = iota
	atBeginning
	atEnd
	atTime
)

// FromCheckpoint goes on where the checkpoint is, or begins at the beginning.
func FromCheckpoint() Start { return Start{} }

// FromBeginning begins with the oldest delivery kept, whatever the checkpoint.
func FromBeginning() Start { return Start{at: atBeginning} }

// FromEnd takes only what is delivered from now on, whatever the checkpoint.
func FromEnd() Start { return Start{at: atEnd} }

// FromTime begins with what was delivered at or after t (by Kafka's record
// timestamps, in milliseconds), whatever the checkpoint.
func FromTime(t time.Time) Start { return Start{at: atTime, time: t} }

// Notice is something to know while Receive goes on.
type Notice int

// The notices.
const (
	// KafkaAway: nothing was heard of Kafka, or of the API, for Patience. With Follow, Receive goes on
	// trying.
	KafkaAway Notice = iota + 1
	// KafkaBack: it was away, and answers again.
	KafkaBack
	// CaughtUp: all that was there when Receive began has been handed over.
	CaughtUp
)

// String says it in words.
func (n Notice) String() string {
	switch n {
	case KafkaAway:
		return "the broker does not answer; still trying"
	case KafkaBack:
		return "the broker answers again"
	case CaughtUp:
		return "caught up"
	}
	return "unknown"
}

func (c Config) withDefaults() Config {
	if c.Window == 0 {
		c.Window = 20_000
	}
	if c.CheckpointEvery == 0 {
		c.CheckpointEvery = 500
	}
	if c.Patience == 0 {
		c.Patience = 15 * time.Second
	}
	if c.ClientID == "" {
		c.ClientID = "datafordeler-consumer"
	}
	if c.Attempts == 0 {
		c.Attempts = 1
	}
	if c.Backoff == 0 {
		c.Backoff = 100 * time.Millisecond
	}
	if c.Concurrency == 0 {
		c.Concurrency = 8
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Notify == nil {
		c.Notify = func(Notice) {}
	}
	return c
}

// check reports every fault at once.
func (c Config) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.URL != "" {
		c.checkFeed(fault)
	} else if len(c.Brokers) == 0 {
		fault("Brokers: none given; name at least one as host:port")
	}
	for _, b := range c.Brokers {
		if host, port, err := net.SplitHostPort(b); err != nil || host == "" || port == "" {
			fault("Brokers: %q is no address; write host:port", b)
		}
	}
	if err := broker.CheckName(string(c.Mailbox)); err != nil {
		fault("Mailbox: %w", err)
	}
	if c.Window < 1 || c.Window > 10_000_000 {
		fault("Window: %d; write 1 to 10,000,000", c.Window)
	}
	if c.CheckpointEvery < 1 {
		fault("CheckpointEvery: %d; write 1 or more", c.CheckpointEvery)
	}
	if c.Patience < 0 {
		fault("Patience: a negative time is none")
	}
	if c.Attempts < 1 || c.Backoff < 0 || c.Concurrency < 1 {
		fault("Attempts and Concurrency: write 1 or more; and for Backoff, no negative time")
	}
	if c.URL != "" && c.Window < feedPage {
		fault("Window: %d; write %d or more, as much as comes at once", c.Window, feedPage)
	}
	if c.SASL != nil {
		if _, err := c.SASL.mechanism(c.TLS != nil); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func (c Config) options() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(c.ClientID),
		kgo.DialTimeout(5 * time.Second),
		kgo.RequestTimeoutOverhead(5 * time.Second),
	}
	if c.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(c.TLS))
	}
	if c.SASL != nil {
		m, _ := c.SASL.mechanism(c.TLS != nil)
		opts = append(opts, kgo.SASL(m))
	}
	return opts
}

func (s *SASL) mechanism(encrypted bool) (sasl.Mechanism, error) {
	if s.Username == "" || s.Password == nil {
		return nil, errors.New("SASL: Username and Password are both needed")
	}
	asScram := func(context.Context) (scram.Auth, error) {
		password, err := s.Password()
		return scram.Auth{User: s.Username, Pass: password}, err
	}
	switch s.Mechanism {
	case "scram-sha-256":
		return scram.Sha256(asScram), nil
	case "scram-sha-512":
		return scram.Sha512(asScram), nil
	case "plain":
		if !encrypted {
			return nil, errors.New("SASL: plain sends the password as it is; set TLS too, or use scram-sha-512")
		}
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := s.Password()
			return plain.Auth{User: s.Username, Pass: password}, err
		}), nil
	}
	return nil, fmt.Errorf("SASL: mechanism %q is not known; write scram-sha-256, scram-sha-512 or plain", s.Mechanism)
}
