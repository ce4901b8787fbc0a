package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"datafordeler/broker/keys"
	"datafordeler/broker/ledger"
	"datafordeler/broker/ledger/witness"
)

func witnessCommand() command {
	return command{
		name:    "witness",
		summary: "cosign the ledger of another, so that its operator cannot change it",
		help: `Usage: datafordeler witness --make-key FILE --name NAME [--state FILE]
       datafordeler witness --key FILE --listen ADDR --log VKEY|FILE [--log …]
                            [--state FILE] [--verbose]

A witness signs the head of a log only when it is shown that all it signed before
is still in it. It keeps one head for each log, and no personal data. The protocol
is C2SP's (c2sp.org/tlog-witness), so it serves other logs too.

  --make-key FILE  make the witness's secret key, once, and an empty state; print
                   the public key (vkey), which is for everybody
  --name NAME      what the witness is called: a URL without scheme that is yours
  --key FILE       the secret key; nobody but its owner may be able to read it
  --listen ADDR    host:port; put a proxy with TLS before it
  --log VKEY|FILE  a log's public key, whose name is the log's origin; or a file
                   of them, one a line, each with the origin before it where that
                   is another. Two keys of one origin: it is changing its key
  --state FILE     what was signed last; default: the key's file and .state. It
                   must never be lost, shared or set back to an older copy
  --verbose        log each cosignature

  POST /add-checkpoint     cosign; see c2sp.org/tlog-witness
  GET  /HASH/checkpoint    a log's last head, cosigned; HASH is the SHA-256 of
                           the origin, in hexadecimal
  GET  /healthz            what was seen, and how many requests had which end

SIGTERM or Ctrl-C ends it when the requests under way are answered.

Examples:
  datafordeler witness --make-key witness.key --name witness.digdir.example
  datafordeler witness --key witness.key --listen 127.0.0.1:8090 --log ledger.vkey
`,
		run: runWitness,
	}
}

func runWitness(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("witness")
	makeKey := fs.String("make-key", "", "")
	name := fs.String("name", "", "")
	key := fs.String("key", "", "")
	listen := fs.String("listen", "", "")
	state := fs.String("state", "", "")
	verbose := fs.Bool("verbose", false, "")
	var logs []string
	fs.Func("log", "", func(s string) error { logs = append(logs, s); return nil })
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *makeKey != "" {
		if *key != "" || *listen != "" || len(logs) > 0 {
			return usagef("--make-key goes with --name and --state only")
		}
		return makeWitness(std, *makeKey, *name, *state)
	}
	switch {
	case *name != "":
		return usagef("--name goes with --make-key: a witness's name is part of its key")
	case *key == "":
		return usagef("--key is missing; make one with --make-key FILE --name NAME")
	case *listen == "":
		return usagef("--listen is missing, such as 127.0.0.1:8090")
	case len(logs) == 0:
		return usagef("--log is missing: the public key of the log to watch, or a file with it")
	}
	watched, err := readLogs(logs)
	if err != nil {
		return usageError{err}
	}
	return serveWitness(ctx, std, *key, *listen, statePath(*key, *state), watched, *verbose)
}

func statePath(key, state string) string {
	if state == "" {
		return key + ".state"
	}
	return state
}

// makeWitness makes a key and the state that belongs to it. Both are made once,
// together: a key whose state is lost must not sign again.
func makeWitness(std stdio, path, name, state string) error {
	if err := ledger.CheckName(name); err != nil {
		return usagef("--name: %w", err)
	}
	state = statePath(path, state)
	for _, f := range []string{path, state} {
		if _, err := os.Lstat(f); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s stands already: nothing is written over; a new witness has new files", f)
		}
	}
	skey, vkey, err := ledger.GenerateKey(name, ledger.WitnessKey)
	if err != nil {
		return err
	}
	if err := witness.CreateFile(state, vkey); err != nil {
		return err
	}
	if err := keys.File(path).Create([]byte(skey + "\n")); err != nil {
		os.Remove(state) // it was made just now, for this key
		return fmt.Errorf("write key: %w", err)
	}
	_, err = fmt.Fprintln(std.out, vkey)
	return err
}

// readLogs reads public keys from the command line and from files.
func readLogs(args []string) ([]witness.Log, error) {
	var logs []witness.Log
	add := func(origin, vkey string) error {
		v, err := ledger.ParseVerifier(vkey)
		if err != nil {
			return err
		}
		if ledger.KindOf(v) != ledger.LogKey {
			return fmt.Errorf("%s is a witness's key, not a log's", v.Name())
		}
		if origin == "" {
			origin = v.Name()
		}
		i := slices.IndexFunc(logs, func(l witness.Log) bool { return l.Origin == origin })
		if i < 0 {
			logs = append(logs, witness.Log{Origin: origin})
			i = len(logs) - 1
		}
		if slices.ContainsFunc(logs[i].Keys, func(o note.Verifier) bool { return o.Name() == v.Name() && o.KeyHash() == v.KeyHash() }) {
			return fmt.Errorf("the key %s+%08x is named twice", v.Name(), v.KeyHash())
		}
		logs[i].Keys = append(logs[i].Keys, v)
		return nil
	}
	for _, arg := range args {
		if strings.Count(arg, "+") >= 2 { // a key; no reasonable file is called so
			if err := add("", arg); err != nil {
				return nil, fmt.Errorf("--log: %w", err)
			}
			continue
		}
		b, err := os.ReadFile(arg)
		if err != nil {
			return nil, fmt.Errorf("--log: neither a public key nor a file: %w", err)
		}
		n, some := 0, false
		for text := range strings.Lines(string(b)) {
			n++
			line := strings.TrimSpace(text)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			some = true
			origin := ""
			if i := strings.LastIndex(line, " "); i >= 0 {
				origin, line = strings.TrimSpace(line[:i]), line[i+1:]
			}
			if err := add(origin, line); err != nil {
				return nil, fmt.Errorf("--log: %s, line %d: %w", arg, n, err)
			}
		}
		if !some {
			return nil, fmt.Errorf("--log: %s has no key", arg)
		}
	}
	return logs, nil
}

func serveWitness(ctx context.Context, std stdio, key, listen, state string, logs []witness.Log, verbose bool) error {
	b, err := keys.File(key).Read()
	if err != nil {
		return fmt.Errorf("key %s: %w", filepath.Base(key), err)
	}
	store, err := witness.OpenFile(state)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w. A witness that does not know what it signed must not sign: find its state, or make a new witness with a new key", err)
	}
	if err != nil {
		return err
	}
	defer store.Close()
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	log := commandLog(std.err, level)
	w, err := witness.New(witness.Config{Key: strings.TrimSpace(string(b)), Logs: logs, Store: store, Slog: log})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	fmt.Fprintf(std.out, "witness    %s\nlistening  http://%s\n", w.VKey(), l.Addr())
	for _, s := range w.Seen() {
		fmt.Fprintf(std.out, "log        %s, size %d\n", s.Origin, s.Size)
	}
	server := w.Server()
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	// What has been asked is answered; the state is durable before each answer,
	// so nothing is lost should this take too long.
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	err = server.Shutdown(drain)
	if e := <-done; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	log.Info("witness stopped", "counts", w.Counts())
	return err
}
