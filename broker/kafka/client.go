package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// clientID is how the broker's connections show in Kafka's logs and quotas.
const clientID = "datafordeler"

// Options are what every client of the engine needs, with opts last, which win.
func (e *Engine) Options(opts ...kgo.Opt) []kgo.Opt {
	base := []kgo.Opt{
		kgo.SeedBrokers(e.seeds...),
		kgo.ClientID(clientID),
		kgo.WithLogger(clientLog{e.log}),
		// The client's own telemetry would go to the cluster's operator; the
		// broker's goes to its metrics page.
		kgo.DisableClientMetrics(),
	}
	if e.tls != nil {
		base = append(base, kgo.DialTLSConfig(e.tls))
	}
	if e.dial != nil {
		base = append(base, kgo.Dialer(e.dial))
	}
	if e.sasl != nil {
		base = append(base, kgo.SASL(e.sasl))
	}
	return append(base, opts...)
}

// NewClient makes a client of the engine. opts come last and win. The caller
// closes it. It connects when first used; see [Engine.Ready].
func (e *Engine) NewClient(opts ...kgo.Opt) (*kgo.Client, error) {
	cl, err := kgo.NewClient(e.Options(opts...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return cl, nil
}

// Ready waits until a broker answers, or until ctx ends, and then says which
// brokers did not.
func (e *Engine) Ready(ctx context.Context) error {
	cl, err := e.NewClient()
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		err := cl.Ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer from Kafka at %s: %w; check brokers, tls and sasl in the configuration, and that the cluster is up", strings.Join(e.seeds, ", "), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Config is nil where no TLS is asked for.
func (t TLS) Config() (*tls.Config, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file: %s holds no certificate in PEM form", t.CAFile)
		}
	}
	if t.CertFile != "" {
		// Read once now so that a fault shows at the start, and again at each
		// connection so that a renewed certificate needs no restart.
		if _, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile); err != nil {
			return nil, fmt.Errorf("tls.cert_file and tls.key_file: %w", err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
			return &cert, err
		}
	}
	return c, nil
}

func (s SASL) mechanism() (sasl.Mechanism, error) {
	if s == (SASL{}) {
		return nil, nil
	}
	auth := func(context.Context) (scram.Auth, error) {
		pass, err := s.Password()
		return scram.Auth{User: s.Username, Pass: pass}, err
	}
	if _, err := s.Password(); err != nil {
		return nil, err
	}
	if s.Mechanism == ScramSHA256 {
		return scram.Sha256(auth), nil
	}
	return scram.Sha512(auth), nil
}

// Password is the first line of the file, as it is now.
func (s SASL) Password() (string, error) {
	b, err := os.ReadFile(s.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("sasl.password_file: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", errors.New("sasl.password_file: " + s.PasswordFile + " is empty; write the password on its first line")
	}
	return line, nil
}

// clientLog hands the client library's log to slog. Its ordinary messages are
// about single requests, so they count as debugging here.
type clientLog struct{ log *slog.Logger }

// harmless are the library's warnings of what is no fault here, by how they
// begin. A warning that nobody can act on hides the next one that matters.
var harmless = []string{
	// A commit of the revision for idle partitions was answered while the group
	// handed out its partitions anew. What is committed is committed; the library
	// has only lost the place where it would have noted it, which nobody reads.
	"received an OffsetCommitResponse after our group session has ended",
}

func (l clientLog) Level() kgo.LogLevel {
	ctx := context.Background()
	switch {
	case l.log.Enabled(ctx, slog.LevelDebug):
		return kgo.LogLevelInfo
	case l.log.Enabled(ctx, slog.LevelWarn):
		return kgo.LogLevelWarn
	default:
		return kgo.LogLevelError
	}
}

func (l clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	to := slog.LevelDebug
	switch level {
	case kgo.LogLevelError:
		to = slog.LevelError
	case kgo.LogLevelWarn:
		to = slog.LevelWarn
		if slices.ContainsFunc(harmless, func(begins string) bool { return strings.HasPrefix(msg, begins) }) {
			to = slog.LevelDebug
		}
	}
	l.log.Log(context.Background(), to, "kafka client: "+msg, keyvals...)
}

// Admin is a client for topics, offsets and groups. The caller closes it.
func (e *Engine) Admin() (*kadm.Client, error) {
	cl, err := e.NewClient()
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(cl), nil
}

// EnsureTopics makes topics where they are missing; see [EnsureTopics].
func (e *Engine) EnsureTopics(ctx context.Context, specs ...TopicSpec) error {
	adm, err := e.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	return EnsureTopics(ctx, adm, specs...)
}
