package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"flag"
	"fmt"
	"os"
	"strings"

	"datafordeler/broker/access"
	"datafordeler/broker/access/grant"
	"datafordeler/providers"
)

// httpConnection is the flags for the broker's HTTP API in place of Kafka.
type httpConnection struct {
	url *string
	tokenConnection
}

// tokenConnection is the flags for how to get a token.
type tokenConnection struct {
	file, issuer, client, key, kid *string
}

func httpFlags(fs *flag.FlagSet) httpConnection {
	return httpConnection{fs.String("url", "", ""), tokenFlags(fs)}
}

func tokenFlags(fs *flag.FlagSet) tokenConnection {
	text := func(name string) *string { return fs.String(name, "", "") }
	return tokenConnection{text("token-file"), text("issuer"), text("client"), text("client-key"), text("kid")}
}

// given reports whether one of them was: each belongs to a URL.
func (h httpConnection) given() bool {
	return *h.url+*h.file+*h.issuer+*h.client+*h.key+*h.kid != ""
}

// provide fills in where to publish and how to get a token.
func (h httpConnection) provide(cfg *providers.Config) (err error) {
	if *h.url == "" {
		return usagef("--url is missing: a token is for the broker's HTTP API")
	}
	cfg.Token, err = h.source("publishes", access.Defaults().ScopeOf(access.PublishRecords))
	cfg.URL = *h.url
	return err
}

// source is where tokens with a scope come from; does says what for.
func (h tokenConnection) source(does, scope string) (providers.TokenSource, error) {
	switch {
	case *h.file != "" && *h.issuer+*h.client+*h.key+*h.kid != "":
		return nil, usagef("--token-file and --issuer exclude each other")
	case *h.file != "":
		token := tokenFrom(*h.file)
		if _, err := token(context.Background()); err != nil {
			return nil, usagef("--token-file: %w", err)
		}
		return token, nil
	case *h.issuer == "" || *h.client == "":
		return nil, usagef("who %s? Give --token-file FILE, or --issuer URL and --client ID", does)
	}
	c := &grant.Client{Issuer: *h.issuer, ID: *h.client, KeyID: *h.kid, Scopes: []string{scope}}
	var err error
	switch {
	case *h.key != "":
		if c.Key, err = readKey(*h.key); err != nil {
			return nil, usagef("--client-key: %w", err)
		}
	case grant.Loopback(c.Issuer):
		// Only an issuer that does not check it takes a key that nobody registered.
		if c.Key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return nil, err
		}
	default:
		return nil, usagef("--client-key is missing")
	}
	return (&grant.Source{Client: c}).Token, nil
}

// tokenFrom reads a token from a file whenever one is asked for.
func tokenFrom(path string) providers.TokenSource {
	return func(context.Context) (string, error) {
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		if !info.Mode().IsRegular() || info.Size() > maxKeyFile {
			return "", fmt.Errorf("%s is not a file of at most %d bytes", path, maxKeyFile)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		token := strings.TrimSpace(string(b))
		if token == "" || strings.ContainsAny(token, " \r\n\t") {
			return "", fmt.Errorf("%s does not hold one token", path)
		}
		return token, nil
	}
}
