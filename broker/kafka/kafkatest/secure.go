package kafkatest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// authority vouches for the nodes of one secure cluster.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// lifetime is of a test's certificates.
const lifetime = 24 * time.Hour

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "datafordeler test authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, err
}

// node is a key and a certificate for 127.0.0.1, as Kafka reads them.
func (a *authority) node(serial int64) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_ = pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: secret}) // a buffer takes all
	_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	b.Write(a.pem)
	return b.Bytes(), nil
}

// log4jAccess notes each question that is put to the access lists.
const log4jAccess = `      - {name: kafka.authorizer.logger, level: DEBUG}
`

// secured adds a listener with TLS and a login, and access lists.
func (n *node) secured(p map[string]string, ca *authority) error {
	keys, err := ca.node(int64(n.id) + 1)
	if err != nil {
		return err
	}
	store := filepath.Join(n.dir, "keys.pem")
	if err := os.WriteFile(store, keys, 0o600); err != nil {
		return err
	}
	p["listeners"] += ",CLIENTS://" + n.secure
	p["advertised.listeners"] += ",CLIENTS://" + n.secure
	p["listener.security.protocol.map"] += ",CLIENTS:SASL_SSL"
	p["inter.broker.listener.name"] = "PLAINTEXT"
	p["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
	p["super.users"] = "User:ANONYMOUS" // nodes and tests, at the ordinary listener
	p["listener.name.clients.ssl.keystore.type"] = "PEM"
	p["listener.name.clients.ssl.keystore.location"] = store
	p["listener.name.clients.sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
	p["listener.name.clients.scram-sha-512.sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	return nil
}

// Clients are the addresses of a secure cluster for those who log in.
func (c *Cluster) Clients() []string {
	var out []string
	for _, n := range c.nodes {
		out = append(out, n.secure)
	}
	return out
}

// TLS is how to reach them.
func (c *Cluster) TLS() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(c.ca.cert)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// CAFile is a file, of the test's own, with the certificate that vouches for them.
func (c *Cluster) CAFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, c.ca.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Question is one that Kafka put to its access lists.
type Question struct{ Principal, Operation, Resource, Pattern, Name, Request string }

var question = regexp.MustCompile(`Principal = (\S+) is (Allowed|Denied) operation = (\S+) from host = \S+ on resource = (\w+):(\w+):(\S*) for request = (\w+)`)

// Questions are those put so far, each once, with how they were answered.
func (c *Cluster) Questions(t testing.TB) (allowed, denied map[Question]bool) {
	t.Helper()
	allowed, denied = map[Question]bool{}, map[Question]bool{}
	for _, n := range c.nodes {
		log, err := os.ReadFile(n.logPath)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range question.FindAllSubmatch(log, -1) {
			q := Question{string(m[1]), string(m[3]), string(m[4]), string(m[5]), string(m[6]), string(m[7])}
			if string(m[2]) == "Allowed" {
				allowed[q] = true
			} else {
				denied[q] = true
			}
		}
	}
	return allowed, denied
}

// String is one line.
func (q Question) String() string {
	return fmt.Sprintf("%s %s %s:%s for %s", q.Principal, q.Operation, q.Resource, q.Name, q.Request)
}
