package devidp

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"go.yaml.in/yaml/v3"

	"datafordeler/broker"
)

// Config is who may have tokens of the local issuer.
type Config struct {
	// Clients are the machines that may ask.
	Clients []Client `yaml:"clients"`
	// Logins are the client ids of sites that citizens log in to.
	Logins []string `yaml:"logins"`
	// AnyClient lets everybody be anybody. A client that is not listed is called
	// NUMBER or NUMBER-name, of the organisation that it says it is; its signature
	// is not checked.
	AnyClient bool `yaml:"-"`
}

// Client is one machine of one organisation.
type Client struct {
	// ID is its client_id.
	ID string `yaml:"id"`
	// Organisation is whose it is.
	Organisation broker.OrgNumber `yaml:"organisation"`
	// Key is its public key, PEM (PKIX).
	Key string `yaml:"key"`
	// Scopes are what it may ask for.
	Scopes []string `yaml:"scopes"`
	// Consumers are organisations that have delegated to it.
	Consumers []broker.OrgNumber `yaml:"consumers"`

	key *rsa.PublicKey
}

// LoadConfig reads a YAML file.
func LoadConfig(path string) (Config, error) {
	var c Config
	b, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	if err := c.Check(); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Check names what is wrong, and reads the clients' keys.
func (c *Config) Check() error {
	seen := map[string]bool{}
	for i := range c.Clients {
		at := &c.Clients[i]
		where := fmt.Sprintf("clients[%d]", i)
		if at.ID == "" || seen[at.ID] {
			return fmt.Errorf("%s.id: is empty, or stands twice", where)
		}
		seen[at.ID] = true
		for _, n := range slices.Concat([]broker.OrgNumber{at.Organisation}, at.Consumers) {
			if _, err := broker.ParseOrgNumber(string(n)); err != nil {
				return fmt.Errorf("%s: %w", where, err)
			}
		}
		var err error
		if at.key, err = publicKey(at.Key); err != nil {
			return fmt.Errorf("%s.key: %w", where, err)
		}
	}
	return nil
}

func publicKey(text string) (*rsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("want a public key in PEM: openssl rsa -in client.pem -pubout")
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < 2048 {
		return nil, errors.New("want an RSA key of 2048 bits or more")
	}
	return key, nil
}
