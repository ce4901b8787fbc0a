package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/access/grant"
)

func tokenCommand() command {
	return command{
		name:    "token",
		summary: "get an organisation's token from Maskinporten, or from a local issuer",
		help: `Usage: datafordeler token --issuer URL --client ID --key FILE --scope SCOPES
                          [--kid NAME] [--consumer-org NUMBER] [--resource URL] [--out FILE]

Signs a grant with the client's key, gets a token for it and prints that. It lasts
two minutes or so. Whoever has it can act as the client: keep it out of logs.
  --issuer URL          whom to ask, as it calls itself: https://maskinporten.no/,
                        https://test.maskinporten.no/, or what dev-idp says
  --client ID           the client_id that was registered with it
  --key FILE            the client's RSA key, PEM (PKCS #8 or #1), not encrypted; a
                        local issuer that lets everybody be anybody needs none
  --kid NAME            the name under which the key was registered
  --scope SCOPES        such as "datafordeler:receive datafordeler:lookup"
  --consumer-org NUMBER the organisation for which a supplier asks
  --resource URL        the API that the token is for, where the broker wants to be named
  --out FILE            write it there, with mode 0600, and print nothing

Examples:
  datafordeler token --issuer https://test.maskinporten.no/ --client 107c6f58-… --kid 2026-1 --key client.pem --scope datafordeler:receive
  curl -H "Authorization: Bearer $(datafordeler token …)" https://deling.example.no/whoami
`,
		run: getToken,
	}
}

// maxKeyFile bounds a key file, in bytes: a mistaken file is refused, not read.
const maxKeyFile = 64 << 10

func getToken(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("token")
	c := grant.Client{}
	fs.StringVar(&c.Issuer, "issuer", "", "")
	fs.StringVar(&c.ID, "client", "", "")
	key := fs.String("key", "", "")
	fs.StringVar(&c.KeyID, "kid", "", "")
	scope := fs.String("scope", "", "")
	fs.StringVar(&c.ConsumerOrg, "consumer-org", "", "")
	fs.StringVar(&c.Resource, "resource", "", "")
	out := fs.String("out", "", "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	for _, f := range []struct{ name, value string }{{"issuer", c.Issuer}, {"client", c.ID}, {"scope", *scope}} {
		if f.value == "" {
			return usagef("--%s is missing", f.name)
		}
	}
	if c.ConsumerOrg != "" {
		if _, err := broker.ParseOrgNumber(c.ConsumerOrg); err != nil {
			return usagef("--consumer-org: %w", err)
		}
	}
	c.Scopes = strings.Fields(*scope)
	var err error
	switch {
	case *key != "":
		if c.Key, err = readKey(*key); err != nil {
			return usagef("--key: %w", err)
		}
	case grant.Loopback(c.Issuer):
		// Only an issuer that does not check it takes a key that nobody registered.
		if c.Key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return err
		}
	default:
		return usagef("--key is missing")
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	t, err := c.Fetch(ctx)
	var unreachable *url.Error
	if errors.As(err, &unreachable) {
		return fmt.Errorf("--issuer: %s does not answer: %w; see that the address is right, and that it can be reached from here", c.Issuer, unreachable.Err)
	}
	if err != nil {
		return err
	}
	if *out == "" {
		_, err = fmt.Fprintln(std.out, t.Text)
		return err
	}
	return writeSecret(*out, t.Text+"\n")
}

func readKey(path string) (*rsa.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeyFile {
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", path, maxKeyFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	k, err := grant.ReadKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// writeSecret writes a file that its owner alone can read, in place of what stood
// there, whatever mode that had.
func writeSecret(path, text string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".token-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.WriteString(text); err != nil {
		_ = f.Close()
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
