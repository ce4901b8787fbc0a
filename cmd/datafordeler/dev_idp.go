package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.yaml.in/yaml/v3"

	"datafordeler/broker/access"
	"datafordeler/broker/access/devidp"
)

func devIDPCommand() command {
	return command{
		name:    "dev-idp",
		summary: "issue tokens on this machine, for demonstrations and tests",
		help: `Usage: datafordeler dev-idp [--listen 127.0.0.1:0] [--config FILE] [--login CLIENT] [--insecure-any-client]

A local issuer with the claims of Maskinporten and ID-porten, until Ctrl-C. What it
issues proves nothing: it answers on this machine only, its keys end with it, and
its citizens are synthetic. It prints the part of a broker's configuration that lets
its tokens in.
  --config FILE           the clients that may ask: YAML, as below
  --login CLIENT          a site that citizens log in to, where FILE names none
  --insecure-any-client   let everybody be anybody: a client that is not listed is
                          called NUMBER or NUMBER-name, of the organisation that it
                          says it is, and has any scope

  /maskinporten/  its metadata, keys (jwk) and token endpoint, which takes the
                  JWT-bearer grant: datafordeler token makes one
  /idporten/      the same for citizens; POST pid=… to /idporten/token, in the body,
                  gives the id token of a synthetic person (80 added to the month)

clients:
  - id: oslo-fagsystem
    organisation: "958935420"
    key: |                       # openssl rsa -in client.pem -pubout
      -----BEGIN PUBLIC KEY-----
      …
    scopes: [datafordeler:receive, datafordeler:lookup]
    consumers: ["964338531"]     # for whom it may ask as a supplier
logins: [innbygger]

Examples:
  datafordeler dev-idp --listen 127.0.0.1:8765 --insecure-any-client
  datafordeler token --issuer http://127.0.0.1:8765/maskinporten/ --client 958935420-test --scope datafordeler:receive
`,
		run: devIDP,
	}
}

func devIDP(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("dev-idp")
	listen := fs.String("listen", "127.0.0.1:0", "")
	file := fs.String("config", "", "")
	login := fs.String("login", "", "")
	anyClient := fs.Bool("insecure-any-client", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	var cfg devidp.Config
	if *file != "" {
		var err error
		if cfg, err = devidp.LoadConfig(*file); err != nil {
			return usagef("--config: %w", err)
		}
	}
	if *login != "" {
		cfg.Logins = append(cfg.Logins, *login)
	}
	cfg.AnyClient = *anyClient
	if len(cfg.Clients) == 0 && len(cfg.Logins) == 0 && !cfg.AnyClient {
		return usagef("nobody could have a token; name clients in --config, a site in --login, or let everybody be anybody with --insecure-any-client")
	}
	l, err := devidp.Listen(*listen)
	if err != nil {
		return usagef("--listen: %w", err)
	}
	i, err := devidp.New(cfg, devidp.Options{})
	if err != nil {
		_ = l.Close()
		return err
	}
	i.SetBase("http://" + l.Addr().String())
	s := &http.Server{Handler: i.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	fmt.Fprintf(std.err, "issuing tokens that prove nothing, at %s and %s, until Ctrl-C\n", i.Maskinporten(), i.IDPorten())
	trust := struct {
		Access struct {
			Issuers []access.Issuer `yaml:"issuers"`
		} `yaml:"access"`
	}{}
	trust.Access.Issuers = i.Trust()
	b, err := yaml.Marshal(trust)
	if err == nil {
		_, err = std.out.Write(b)
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-ended:
			return err
		}
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = errors.Join(err, s.Shutdown(stop))
	if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}
