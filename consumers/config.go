package consumers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"datafordeler/broker"
)

// Config says what to receive. Brokers and Mailbox are required.
type Config struct {
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
	// KafkaAway: nothing was heard for Patience. With Follow, Receive goes on
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
		return "Kafka does not answer; still trying"
	case KafkaBack:
		return "Kafka answers again"
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
	if c.Notify == nil {
		c.Notify = func(Notice) {}
	}
	return c
}

// check reports every fault at once.
func (c Config) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
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
