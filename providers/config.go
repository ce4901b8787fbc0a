package providers

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"

	"datafordeler/broker"
)

// Config says what to publish to, and as whom. Dataset, Source and either Brokers
// or URL are required; the rest has defaults.
type Config struct {
	// Brokers are host:port addresses of Kafka to begin with; the rest of the
	// cluster is discovered.
	Brokers []string
	// URL is that of the broker's HTTP API, such as https://datafordeler.example:
	// the other way to publish. Over it, what the broker rejects is known at once.
	URL string
	// Token gives the access token for each request over HTTP; see Maskinporten.
	Token TokenSource
	// HTTPClient makes the requests; by default one with TLS below. It must not
	// follow redirects to where the token does not belong.
	HTTPClient *http.Client
	// Prefix stands before all of the broker's topic names; usually empty.
	Prefix string
	// Dataset is what is published to; it has been registered by its owner.
	Dataset broker.DatasetID
	// Source is the URI of the publishing system, the CloudEvents source of
	// events that name none. Changing it makes every event a new one.
	Source string
	// Type is the CloudEvents type of events that name none.
	Type string
	// Subject is where in the payload the key stands, for events without one.
	// Where the pointer meets an array it takes the first element that has one.
	Subject broker.Pointer
	// Schema is a JSON Schema, drafts 4 to 2020-12 ($schema names the draft;
	// without it, 2020-12). Events that it does not admit are refused before
	// anything is sent. Empty: not checked here, but the broker always does.
	Schema []byte
	// SchemaURI is what events that follow Schema say in DataSchema. If set,
	// events that name another schema are left for the broker to check.
	SchemaURI string

	// TLS encrypts the connections to Kafka (nil: plain TCP), and says over HTTP whom
	// to trust (nil: whom the system trusts).
	TLS *tls.Config
	// SASL says who is publishing. Nil: nobody in particular.
	SASL *SASL

	// BatchSize is the most events in one batch, default 2,000.
	BatchSize int
	// BatchBytes is the most bytes in one batch before compression, default
	// 900,000; the topic's max.message.bytes must be larger.
	BatchBytes int
	// Compression is "", "gzip", "snappy", "lz4" or "zstd".
	Compression string
	// RequestTimeout bounds one attempt, default 10 s.
	RequestTimeout time.Duration
	// Timeout bounds all attempts to write an event, default 30 s from when
	// Publish is called. A context may be stricter.
	Timeout time.Duration
	// ClientID names this client in Kafka's logs and quotas.
	ClientID string
	// MaxPending is the most bytes that calls under way may hold, default 64 MiB.
	// Publish waits for room. One larger call goes alone.
	MaxPending int64
	// Log gets a line for each attempt that failed, and at its debug level for each
	// batch. Nothing in it is from an event. Nil: none.
	Log *slog.Logger
}

// SASL is a login with Kafka. Without TLS, PLAIN shows the password to whoever
// can read the network, and is refused.
type SASL struct {
	// Mechanism is "scram-sha-256", "scram-sha-512" (RFC 5802, RFC 7677) or
	// "plain" (RFC 4616).
	Mechanism string
	Username  string
	// Password is asked for at each login, so that a new one needs no restart.
	Password func() (string, error)
}

func (c Config) withDefaults() Config {
	if c.BatchSize == 0 {
		c.BatchSize = 2000
	}
	if c.BatchBytes == 0 {
		c.BatchBytes = 900_000
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = 10 * time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.ClientID == "" {
		c.ClientID = "datafordeler-provider"
	}
	if c.MaxPending == 0 {
		c.MaxPending = 64 << 20
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// check reports every fault at once.
func (c Config) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch {
	case len(c.Brokers) == 0 && c.URL == "":
		fault("Brokers: none given; name at least one as host:port, or give the URL of the HTTP API")
	case len(c.Brokers) > 0 && c.URL != "":
		fault("Brokers and URL: publish over the one or the other")
	case c.URL != "":
		if err := checkURL(c.URL); err != nil {
			fault("URL: %w", err)
		}
		if c.Token == nil {
			fault("Token: nobody comes in without one; see Maskinporten")
		}
		if c.SASL != nil {
			fault("SASL: that is Kafka's; over HTTP the Token says who publishes")
		}
	}
	if c.MaxPending < 0 {
		fault("MaxPending: %d is below 0", c.MaxPending)
	}
	for _, b := range c.Brokers {
		if host, port, err := net.SplitHostPort(b); err != nil || host == "" || port == "" {
			fault("Brokers: %q is no address; write host:port", b)
		}
	}
	if err := broker.CheckName(string(c.Dataset)); err != nil {
		fault("Dataset: %w", err)
	}
	if c.Source == "" {
		fault("Source: empty; give the URI of the system that publishes, such as urn:example:payroll")
	} else if _, err := url.Parse(c.Source); err != nil || checkText(c.Source, maxAttribute) != nil {
		fault("Source: not a URI reference (RFC 3986)")
	} else if elevenDigits(c.Source) {
		fault("Source: holds eleven digits in a row, which could be a person's number; name a system")
	}
	if _, err := c.Subject.Tokens(); err != nil {
		fault("Subject: %w", err)
	}
	if c.BatchSize < 1 || c.BatchSize > 100_000 {
		fault("BatchSize: %d; write 1 to 100,000", c.BatchSize)
	}
	if c.BatchBytes < 1024 || c.BatchBytes > 64<<20 {
		fault("BatchBytes: %d; write 1,024 to 67,108,864", c.BatchBytes)
	}
	if c.RequestTimeout < 0 || c.Timeout < 0 {
		fault("RequestTimeout and Timeout: a negative time is none")
	}
	if _, err := compression(c.Compression); err != nil {
		faults = append(faults, err)
	}
	if c.SASL != nil {
		if _, err := c.SASL.mechanism(c.TLS != nil); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func compression(name string) (kafka.Compression, error) {
	switch name {
	case "":
		return 0, nil
	case "gzip":
		return kafka.Gzip, nil
	case "snappy":
		return kafka.Snappy, nil
	case "lz4":
		return kafka.Lz4, nil
	case "zstd":
		return kafka.Zstd, nil
	}
	return 0, fmt.Errorf("Compression: %q is not known; write gzip, snappy, lz4, zstd or nothing", name)
}

func (s *SASL) mechanism(encrypted bool) (sasl.Mechanism, error) {
	if s.Username == "" || s.Password == nil {
		return nil, errors.New("SASL: Username and Password are both needed")
	}
	switch s.Mechanism {
	case "scram-sha-256", "scram-sha-512":
		return scramMechanism{*s}, nil
	case "plain":
		if !encrypted {
			return nil, errors.New("SASL: plain sends the password as it is; set TLS too, or use scram-sha-512")
		}
		password, err := s.Password()
		if err != nil {
			return nil, fmt.Errorf("SASL: password: %w", err)
		}
		return plain.Mechanism{Username: s.Username, Password: password}, nil
	}
	return nil, fmt.Errorf("SASL: mechanism %q is not known; write scram-sha-256, scram-sha-512 or plain", s.Mechanism)
}
