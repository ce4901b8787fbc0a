// Command datafordeler is the broker and its tools: one binary, one small file
// for each command.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// command is one word on the command line.
type command struct {
	name    string
	summary string
	help    string // usage and examples
	run     func(ctx context.Context, std stdio, args []string) error
}

// stdio is what a command reads and writes; tests pass their own.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

func commands() []command {
	return []command{
		demoCommand(),
		serveCommand(),
		registryCommand(),
		needCommand(),
		agreementCommand(),
		frameworkCommand(),
		freezeCommand(),
		protectionCommand(),
		unitsCommand(),
		publishCommand(),
		consumeCommand(),
		lookupCommand(),
		obligationsCommand(),
		policyCommand(),
		decisionsCommand(),
		witnessCommand(),
		auditCommand(),
		rebuildCommand(),
		keysCommand(),
		retentionCommand(),
		backfillCommand(),
		benchCommand(),
		asyncapiCommand(),
		tokenCommand(),
		devIDPCommand(),
		kafkaCommand(),
		configCommand(),
		versionCommand(),
	}
}

func main() {
	// A reader that has had enough (| head) must not end the process before the
	// embedded engine is closed: writing fails instead, and the command returns.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, stdio{os.Stdin, os.Stdout, os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}

// Exit codes: 0 done, 1 failed, 2 called wrongly or configured wrongly.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

// usageError is the caller's to mend: flags, arguments, configuration.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func run(ctx context.Context, std stdio, args []string) int {
	if len(args) == 0 || args[0] == "help" && (len(args) == 1 || args[1] == "help") || args[0] == "-h" || args[0] == "--help" {
		printHelp(std.out)
		if len(args) == 0 {
			return exitUsage
		}
		return exitOK
	}
	name, rest := args[0], args[1:]
	if name == "--version" {
		name = "version"
	}
	if name == "help" {
		name, rest = args[1], []string{"--help"}
	}
	for _, c := range commands() {
		if c.name != name {
			continue
		}
		err := c.run(ctx, std, rest)
		var usage usageError
		switch {
		case err == nil:
			return exitOK
		case errors.Is(err, flag.ErrHelp):
			fmt.Fprint(std.out, c.help)
			return exitOK
		case errors.As(err, &usage):
			fmt.Fprintf(std.err, "datafordeler %s: %v\nSee: datafordeler %s --help\n", c.name, err, c.name)
			return exitUsage
		case errors.Is(err, syscall.EPIPE):
			return exitFailed // nobody reads on: nothing to say, nor to whom
		}
		fmt.Fprintf(std.err, "datafordeler %s: %v\n", c.name, err)
		return exitFailed
	}
	fmt.Fprintf(std.err, "datafordeler: there is no command%s. See: datafordeler help\n", quoted(name))
	return exitUsage
}

func printHelp(w io.Writer) {
	fmt.Fprint(w, "Datafordeler: shares records from providers with consumers, under law, and can prove it.\n\nUsage: datafordeler COMMAND [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-11s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\nEach command tells more: datafordeler COMMAND --help\n")
}
