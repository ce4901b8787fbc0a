package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"time"
)

// The engines that [Config.Engine] may name.
const (
	EngineEmbedded = "embedded"
	EngineKafka    = "kafka"
)

// The SCRAM mechanisms (RFC 5802, RFC 7677) that [SASL.Mechanism] may name.
const (
	ScramSHA256 = "scram-sha-256"
	ScramSHA512 = "scram-sha-512"
)

// Config is the part of the broker's configuration that says how it reaches
// Kafka. Durations are written as Go writes them: 2160h is 90 days.
type Config struct {
	// Engine is "embedded" (a Kafka-protocol server inside the process, on one
	// data directory) or "kafka" (an Apache Kafka cluster, 4.0 or newer).
	Engine string `yaml:"engine"`

	// Brokers are host:port addresses of the cluster to begin with; the rest
	// of the cluster is discovered. Engine kafka only.
	Brokers []string `yaml:"brokers,omitempty"`

	// Data is the embedded engine's data directory; it is made where missing.
	// One process owns it at a time, held by a lock file. Engine embedded only.
	Data string `yaml:"data,omitempty"`

	// Listen is where the embedded engine serves the Kafka protocol. Port 0
	// takes a free port; other commands find it through the data directory.
	// The engine asks nobody who they are, so only loopback addresses are
	// accepted. Engine embedded only.
	Listen string `yaml:"listen,omitempty"`

	// Prefix stands before every topic name, so that several brokers can share
	// a cluster. At most 100 characters of a-z, A-Z, 0-9, '.', '_' and '-'.
	Prefix string `yaml:"prefix,omitempty"`

	// Replication is how many copies of each new topic the cluster keeps; -1
	// leaves it to the cluster's default. The embedded engine keeps one.
	Replication int16 `yaml:"replication"`

	// SourcePartitions is the number of partitions of each dataset's source
	// topic and of the decisions topic. It bounds how many instances can route
	// at once, and cannot be changed once records are published, because
	// records are placed by a hash of their subject.
	SourcePartitions int32 `yaml:"source_partitions"`

	// DeliveryBuckets is the number of partitions of the deliveries topic;
	// mailboxes are placed in them by hash. It cannot be changed later.
	DeliveryBuckets int32 `yaml:"delivery_buckets"`

	// MaxMessageBytes is the largest record batch that a topic takes, in bytes.
	MaxMessageBytes int32 `yaml:"max_message_bytes"`

	// Retention says how long each kind of topic keeps its records where no
	// dataset and no mailbox declares it; see datafordeler retention. Control
	// events, decisions and the ledger are kept for ever.
	Retention Retention `yaml:"retention"`

	// Reserve is the free disk, in bytes, below which the embedded engine is
	// to begin no transaction; see [Engine.DiskFree].
	Reserve int64 `yaml:"reserve"`

	// SASL is who the broker is to Apache Kafka. Engine kafka only.
	SASL SASL `yaml:"sasl,omitempty"`

	// TLS encrypts the connections to Apache Kafka. Engine kafka only.
	TLS TLS `yaml:"tls,omitempty"`

	// Clients is how providers and consumers come to Kafka themselves. Engine kafka
	// only.
	Clients Clients `yaml:"clients,omitempty"`

	// Dial makes the connections in place of the network's own dialler; tests
	// put faults on the wire with it. Not with TLS.
	Dial func(ctx context.Context, network, address string) (net.Conn, error) `yaml:"-"`
}

// Retention says how long records are kept after they were written: for as long
// as that, and at most a thirtieth of it and an hour more (see [RetentionLag]).
// Zero and negative mean for ever.
type Retention struct {
	// Source is for what providers published. It must be at least as long as
	// the window in which repeats are recognised, and it bounds how far back a
	// decision can be computed again.
	Source time.Duration `yaml:"source"`
	// Deliveries is for minimised records waiting in mailboxes.
	Deliveries time.Duration `yaml:"deliveries"`
	// Rejected is for what intake refused.
	Rejected time.Duration `yaml:"rejected"`
}

// SASL is a SCRAM login. All fields are set or none is.
type SASL struct {
	// Mechanism is "scram-sha-256" or "scram-sha-512".
	Mechanism string `yaml:"mechanism,omitempty"`
	// Username is the SCRAM user.
	Username string `yaml:"username,omitempty"`
	// PasswordFile holds the password on its first line. It is read at each
	// login, so a new password needs no restart.
	PasswordFile string `yaml:"password_file,omitempty"`
}

// TLS is the encryption of connections. It is on when any field is set.
type TLS struct {
	// CAFile holds the certificates (PEM) that vouch for the cluster; empty
	// with Enabled set means the system's own.
	CAFile string `yaml:"ca_file,omitempty"`
	// CertFile and KeyFile are the broker's own certificate and key (PEM), for
	// a cluster that asks for them. Both are set or neither is.
	CertFile string `yaml:"cert_file,omitempty"`
	KeyFile  string `yaml:"key_file,omitempty"`
	// Enabled turns TLS on without any file.
	Enabled bool `yaml:"enabled,omitempty"`
}

// Clients is how providers and consumers come to Kafka themselves, by logins that
// they issue to themselves through the HTTP API.
type Clients struct {
	// ACL says what becomes of Kafka's access lists. "auto" keeps them in step with
	// the registry and, where the cluster has none, says so and goes on; "required"
	// does not start without them; "off" leaves them to somebody else, and issues no
	// logins.
	ACL string `yaml:"acl,omitempty"`
	// Brokers are the host:port addresses that clients are told, where these are
	// not the broker's own: a listener with SCRAM-SHA-512.
	Brokers []string `yaml:"brokers,omitempty"`
	// CAFile holds the certificates (PEM) that clients are told to trust. Empty: as
	// tls.ca_file.
	CAFile string `yaml:"ca_file,omitempty"`
	// PlainText: clients' listener has no TLS. For trying out: their records can be
	// read on the way.
	PlainText bool `yaml:"plain_text,omitempty"`
}

// What [Clients.ACL] may be; "" is auto.
const (
	ACLAuto     = "auto"
	ACLRequired = "required"
	ACLOff      = "off"
)

const day = 24 * time.Hour

// Defaults is the embedded engine with every setting but the data directory.
func Defaults() Config {
	return Config{
		Engine:           EngineEmbedded,
		Listen:           "127.0.0.1:0",
		Replication:      -1,
		SourcePartitions: 6,
		DeliveryBuckets:  16,
		MaxMessageBytes:  1 << 20,
		Retention:        Retention{Source: 90 * day, Deliveries: 30 * day, Rejected: 30 * day},
		Reserve:          512 << 20,
	}
}

// Topics are the topic names under this configuration.
func (c Config) Topics() Topics { return Topics{Prefix: c.Prefix} }

// Validate reports every fault of the configuration at once, each with its key
// and what to write instead.
func (c Config) Validate() error {
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	switch c.Engine {
	case EngineEmbedded:
		c.validateEmbedded(fault)
	case EngineKafka:
		c.validateCluster(fault)
	default:
		fault("engine", "%q is no engine; write %q or %q", c.Engine, EngineEmbedded, EngineKafka)
	}
	if len(c.Prefix) > maxPrefix {
		fault("prefix", "has %d characters; at most %d, so that topic names stay within Kafka's 249", len(c.Prefix), maxPrefix)
	}
	if i := strings.IndexFunc(c.Prefix, notTopicRune); i >= 0 {
		fault("prefix", "%q has a character that no topic name may have; use a-z, A-Z, 0-9, '.', '_' and '-'", c.Prefix)
	}
	if strings.HasPrefix(c.Prefix, "__") {
		fault("prefix", "%q begins with two underscores, which Kafka keeps for itself; choose another", c.Prefix)
	}
	if c.SourcePartitions < 1 || c.SourcePartitions > maxPartitions {
		fault("source_partitions", "is %d; write a number from 1 to %d", c.SourcePartitions, maxPartitions)
	}
	if c.DeliveryBuckets < 1 || c.DeliveryBuckets > maxPartitions {
		fault("delivery_buckets", "is %d; write a number from 1 to %d", c.DeliveryBuckets, maxPartitions)
	}
	if c.MaxMessageBytes < minMessageBytes || c.MaxMessageBytes > maxMessageBytes {
		fault("max_message_bytes", "is %d; write a number from %d to %d", c.MaxMessageBytes, minMessageBytes, maxMessageBytes)
	}
	if c.Replication != -1 && c.Replication < 1 {
		fault("replication", "is %d; write -1 for the cluster's default, or how many copies to keep", c.Replication)
	}
	for _, r := range []struct {
		key string
		d   time.Duration
	}{{"retention.source", c.Retention.Source}, {"retention.deliveries", c.Retention.Deliveries}, {"retention.rejected", c.Retention.Rejected}} {
		if r.d > 0 && r.d < time.Minute {
			fault(r.key, "is %v; write at least 1m, or -1 to keep for ever", r.d)
		}
	}
	return errors.Join(faults...)
}

const (
	maxPrefix       = 100
	maxPartitions   = 10_000
	minMessageBytes = 1 << 20 // a decisions record may reach 900 kB
	maxMessageBytes = 64 << 20
)

func (c Config) validateEmbedded(fault func(key, format string, args ...any)) {
	if c.Data == "" {
		fault("data", "is empty; name the directory where the embedded engine keeps its records")
	}
	if len(c.Brokers) > 0 {
		fault("brokers", "are for engine: kafka; remove them, or write engine: kafka")
	}
	if c.Replication > 1 {
		fault("replication", "is %d; the embedded engine keeps one copy: write -1 or 1", c.Replication)
	}
	if c.Reserve < 0 {
		fault("reserve", "is %d; write a number of bytes, 0 or more", c.Reserve)
	}
	if c.SASL != (SASL{}) {
		fault("sasl", "is for engine: kafka; remove it, or write engine: kafka")
	}
	if c.Clients.ACL != "" || len(c.Clients.Brokers) > 0 || c.Clients.CAFile != "" || c.Clients.PlainText {
		fault("clients", "is for engine: kafka, since the embedded engine asks nobody who they are; remove it, or write engine: kafka")
	}
	if c.TLS != (TLS{}) {
		fault("tls", "is for engine: kafka; remove it, or write engine: kafka")
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		fault("listen", "%q is no address; write one like 127.0.0.1:9092, or 127.0.0.1:0 for any free port", c.Listen)
		return
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		fault("listen", "%q can be reached from other machines, and the embedded engine asks nobody who they are; write a loopback address like 127.0.0.1:%s, or use engine: kafka", c.Listen, port)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > math.MaxUint16 {
		fault("listen", "%q has no port number from 0 to 65535", c.Listen)
	}
}

func (c Config) validateCluster(fault func(key, format string, args ...any)) {
	if len(c.Brokers) == 0 {
		fault("brokers", "are empty; name at least one as host:port")
	}
	addresses := func(key string, all []string) {
		for i, b := range all {
			host, port, err := net.SplitHostPort(b)
			n, perr := strconv.Atoi(port)
			if err != nil || host == "" || perr != nil || n < 1 || n > math.MaxUint16 {
				fault(fmt.Sprintf("%s[%d]", key, i), "%q is no address; write host:port", b)
			}
		}
	}
	addresses("brokers", c.Brokers)
	addresses("clients.brokers", c.Clients.Brokers)
	switch c.Clients.ACL {
	case "", ACLAuto, ACLRequired, ACLOff:
	default:
		fault("clients.acl", "%q is not known; write %q, %q or %q", c.Clients.ACL, ACLAuto, ACLRequired, ACLOff)
	}
	if c.Data != "" {
		fault("data", "is for engine: embedded; remove it, or write engine: embedded")
	}
	if s := c.SASL; s != (SASL{}) {
		if s.Mechanism != ScramSHA256 && s.Mechanism != ScramSHA512 {
			fault("sasl.mechanism", "%q is not supported; write %q or %q", s.Mechanism, ScramSHA256, ScramSHA512)
		}
		if s.Username == "" {
			fault("sasl.username", "is empty; name the SCRAM user")
		}
		if s.PasswordFile == "" {
			fault("sasl.password_file", "is empty; name the file that holds the password")
		}
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		fault("tls", "has one of cert_file and key_file; write both or neither")
	}
}
