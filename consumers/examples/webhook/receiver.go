// Package receiver is an example of a service that is sent its deliveries: an endpoint
// for the broker's webhooks, which says what it was given.
package receiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"datafordeler/broker"
	"datafordeler/consumers"
	"datafordeler/consumers/webhook"
)

// Run serves an endpoint until ctx ends. The secrets that count, one a line, stand in a
// file that is read with each message; what was handled is remembered in another.
func Run(ctx context.Context, out, log io.Writer, listen string, m broker.MailboxID, secrets, seen string) error {
	var mu sync.Mutex
	h, err := webhook.New(ctx, webhook.Config{
		Mailbox: m, Seen: consumers.FileStore(seen), Log: slog.New(slog.NewTextHandler(log, nil)),
		Secrets: func() []string {
			b, _ := os.ReadFile(secrets) // none: nobody's signature counts
			return strings.Fields(string(b))
		},
	}, func(_ context.Context, d consumers.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := fmt.Fprintf(out, "received %s under agreement %s: %d bytes\n", d.ID, d.Agreement, len(d.Data))
		return err
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	fmt.Fprintf(out, "listening at http://%s/\n", l.Addr())
	<-ctx.Done()
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = s.Shutdown(stopping)
	if serr := <-ended; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// Main is Run with a program's arguments. It returns the exit code.
func Main(ctx context.Context, args []string) int {
	if len(args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: webhook-receiver LISTEN MAILBOX SECRETSFILE SEENFILE")
		return 2
	}
	if err := Run(ctx, os.Stdout, os.Stderr, args[0], broker.MailboxID(args[1]), args[2], args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "webhook-receiver:", err)
		return 1
	}
	return 0
}
