// Command service runs the example endpoint until it is told to stop.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	receiver "datafordeler/consumers/examples/webhook"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := receiver.Main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
