package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

func newLogger(w io.Writer, c Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %q is not debug, info, warn or error", c.Level)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch c.Format {
	case "text":
		return slog.New(newThinned(slog.NewTextHandler(w, opts))), nil
	case "json":
		return slog.New(newThinned(slog.NewJSONHandler(w, opts))), nil
	}
	return nil, fmt.Errorf("log.format: %q is not text or json", c.Format)
}

// commandLog is for commands that end: what they have to say is their output
// and their error, and of the rest only what a person should look at.
func commandLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(newThinned(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})))
}

// thinned passes on the same warning of the Kafka client about the same address
// once in a while only: it tries a broker that is gone several times a second,
// and the one line that matters must not drown.
type thinned struct {
	slog.Handler
	seen *seen
}

type seen struct {
	mu   sync.Mutex
	last map[string]time.Time
}

const thinPeriod = 30 * time.Second

func newThinned(h slog.Handler) thinned {
	return thinned{h, &seen{last: map[string]time.Time{}}}
}

// Handle drops a warning that was given within the period. Below and above
// warnings nothing is dropped: who asks for debug messages wants them all, and
// errors always count.
func (t thinned) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn && strings.HasPrefix(r.Message, "kafka client: ") {
		key := r.Message
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "addr" {
				key += " " + a.Value.String()
			}
			return true
		})
		t.seen.mu.Lock()
		last, known := t.seen.last[key]
		drop := known && r.Time.Sub(last) < thinPeriod
		if !drop {
			t.seen.last[key] = r.Time
		}
		t.seen.mu.Unlock()
		if drop {
			return nil
		}
	}
	return t.Handler.Handle(ctx, r)
}

func (t thinned) WithAttrs(a []slog.Attr) slog.Handler {
	return thinned{t.Handler.WithAttrs(a), t.seen}
}
func (t thinned) WithGroup(g string) slog.Handler { return thinned{t.Handler.WithGroup(g), t.seen} }
