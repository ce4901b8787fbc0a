package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"datafordeler/broker/access"
	"datafordeler/broker/access/devidp"
)

// demoIssuer issues the tokens of a demonstration that stays up: anybody on this
// machine may be any organisation. What it opens holds synthetic records only.
type demoIssuer struct {
	issuer *devidp.Issuer
	server *http.Server
}

// openDemoIssuer starts an issuer, and has the configuration trust it.
func openDemoIssuer(cfg *Config, listen string, log *slog.Logger) (*demoIssuer, error) {
	i, err := devidp.New(devidp.Config{AnyClient: true, Logins: []string{"demo"}}, devidp.Options{Log: log})
	if err != nil {
		return nil, err
	}
	l, err := devidp.Listen(listen)
	if err != nil {
		return nil, fmt.Errorf("--issuer: %w; choose a free address of this machine, or \"\" for no HTTP API", err)
	}
	i.SetBase("http://" + l.Addr().String())
	d := &demoIssuer{issuer: i, server: &http.Server{Handler: i.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}}
	go func() {
		if err := d.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the demonstration's issuer of tokens has ended", "err", err)
		}
	}()
	cfg.Access = access.Defaults()
	cfg.Access.Issuers = i.Trust()
	return d, nil
}

func (d *demoIssuer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = d.server.Shutdown(ctx)
}

// explain says how to come in.
func (d *demoIssuer) explain(out io.Writer, api string) {
	fmt.Fprintf(out, `
The HTTP API: http://%[2]s/docs. Its tokens come from an issuer of the
demonstration's own, which lets you be any organisation. Oslo is 958935420:
  TOKEN=$(datafordeler token --issuer %[1]s --client 958935420-demo --scope datafordeler:receive)
  curl -H "Authorization: Bearer $TOKEN" http://%[2]s/whoami
  curl -H "Authorization: Bearer $TOKEN" "http://%[2]s/feeds/oslo-sosialhjelp?limit=2"
To look up one of those that stand there, whose number is read from standard input:
  datafordeler token --issuer %[1]s --client 958935420-demo --scope datafordeler:lookup --out token.txt
  datafordeler lookup --url http://%[2]s --token-file token.txt --subscription oslo-sosialhjelp,oslo-eiendomsskatt
`, d.issuer.Maskinporten(), api)
}
