package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/sasl"
)

// Mode says how a command means to use the embedded engine. It has no meaning
// on Apache Kafka.
type Mode int

const (
	// Own is for the broker itself: the data directory must be free.
	Own Mode = iota
	// Attach is for every other command: it reaches the engine that has the
	// data directory open, or opens the directory itself where none has.
	Attach
)

// The files in an embedded engine's data directory, beside the engine's own.
const (
	lockFile    = "engine.lock"    // held by the owner; its text is the owner's pid
	addressFile = "engine.address" // where the owner serves, while it does
	runningFile = "engine.running" // there from opening until a clean stop
	engineDir   = "kafka"          // the engine's records
)

// Engine is a Kafka to work with: a cluster, or the embedded engine, run by
// this process or another. Its methods may be called from several goroutines.
type Engine struct {
	log      *slog.Logger
	embedded bool
	seeds    []string
	tls      *tls.Config
	sasl     sasl.Mechanism
	dial     func(ctx context.Context, network, address string) (net.Conn, error) // nil: the network's

	// For the embedded engine; data is "" on a cluster.
	data     string
	reserve  uint64
	statfs   func(dir string) (free uint64, err error) // replaced by tests
	cluster  *kfake.Cluster                            // nil where another process owns the engine
	lock     *os.File
	recovery Recovery

	mu     sync.Mutex
	broken error // the first failed write that the engine reported
	closed bool
}

// Open validates cfg and opens the engine that it names.
//
// On Apache Kafka it reads the TLS and SASL files and connects nowhere yet. On
// the embedded engine it takes the data directory or, with [Attach], finds the
// process that has it; after an unclean stop it first settles what the stop
// tore, see [Engine.Recovery]. ctx bounds the opening only.
func Open(ctx context.Context, cfg Config, log *slog.Logger, mode Mode) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka configuration: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{log: log, statfs: diskFree, dial: cfg.Dial}
	if cfg.Engine == EngineKafka {
		e.seeds = cfg.Brokers
		var err1, err2 error
		e.tls, err1 = cfg.TLS.Config()
		e.sasl, err2 = cfg.SASL.mechanism()
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("kafka configuration: %w", err)
		}
		return e, nil
	}
	data, err := filepath.Abs(cfg.Data)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", cfg.Data, err)
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w; name one that this user can write to", err)
	}
	e.embedded, e.data, e.reserve = true, data, uint64(cfg.Reserve)
	if mode == Attach {
		if err := e.attach(ctx, cfg.Listen); err != nil {
			return nil, err
		}
		return e, nil
	}
	lock, err := takeLock(filepath.Join(data, lockFile))
	if err != nil {
		return nil, err
	}
	if lock == nil {
		return nil, fmt.Errorf("data directory %s is in use by %s; stop that process first, or name another directory", data, owner(data))
	}
	e.lock = lock
	if err := e.start(cfg.Listen); err != nil {
		return nil, err
	}
	return e, nil
}

// owner says who holds the lock, for an error message.
func owner(data string) string {
	b, err := os.ReadFile(filepath.Join(data, lockFile))
	if pid := strings.TrimSpace(string(b)); err == nil && pid != "" {
		return "process " + pid
	}
	return "another process"
}

// attachLimit bounds how long a command waits for an owner that is starting or
// stopping: it has the lock but serves no address.
const attachLimit = 30 * time.Second

func (e *Engine) attach(ctx context.Context, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, attachLimit)
	defer cancel()
	for {
		lock, err := takeLock(filepath.Join(e.data, lockFile))
		if err != nil {
			return err
		}
		if lock != nil {
			e.lock = lock
			return e.start(listen)
		}
		if addr, err := os.ReadFile(filepath.Join(e.data, addressFile)); err == nil {
			var d net.Dialer
			if conn, err := d.DialContext(ctx, "tcp", string(addr)); err == nil {
				conn.Close()
				e.seeds = []string{string(addr)}
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("data directory %s is held by %s, which serves no Kafka address: %w; look at what it is doing, or stop it", e.data, owner(e.data), ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// start runs the engine in this process, which holds the lock. On error it has
// let go of everything.
func (e *Engine) start(listen string) (err error) {
	defer func() {
		if err != nil {
			e.lock.Close()
		}
	}()
	dir := filepath.Join(e.data, engineDir)
	running := filepath.Join(e.data, runningFile)
	// An address left here is of a process that is gone: the lock is ours.
	if err := os.Remove(filepath.Join(e.data, addressFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("data directory: %w", err)
	}
	if _, err := os.Stat(running); err == nil {
		e.recovery, err = repair(dir)
		if err != nil {
			return fmt.Errorf("data directory %s was not closed cleanly and cannot be settled: %w", e.data, err)
		}
		e.recovery.Unclean = true
		e.log.Warn("the embedded engine was not closed cleanly; settled what it left", "data", e.data, "recovery", e.recovery)
	}
	// From here until a clean stop, a kill leaves the mark behind.
	if err := writeSynced(running, nil); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	e.cluster, err = kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.DataDir(dir),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) { return net.Listen(network, listen) }),
		kfake.ClusterID("datafordeler-embedded"),
		kfake.WithLogger(engineLog{e}),
		kfake.BrokerConfigs(map[string]string{
			// Every topic of ours states its retention; a topic that somebody
			// else made must not lose records because ours do.
			"log.retention.ms": "-1",
			// A consumer that was away must find its place again: ten years.
			"offsets.retention.minutes": "5256000",
		}),
	)
	if err != nil {
		return fmt.Errorf("start the embedded engine on %s in %s: %w", listen, dir, err)
	}
	// The engine looks at retention once an hour: one that is never up for so
	// long would keep everything.
	e.cluster.ApplyRetention()
	e.seeds = e.cluster.ListenAddrs()
	if err := writeSynced(filepath.Join(e.data, addressFile), []byte(e.seeds[0])); err != nil {
		e.cluster.Close()
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// Brokers are the addresses to reach the engine at.
func (e *Engine) Brokers() []string { return e.seeds }

// Embedded reports whether this is the embedded engine, here or in another
// process.
func (e *Engine) Embedded() bool { return e.embedded }

// Owner reports whether the embedded engine runs in this process.
func (e *Engine) Owner() bool { return e.cluster != nil }

// Recovery says what was settled when this process opened the data directory.
// Where it is unclean, the offsets that consumer groups committed may lie
// before what the same transactions decided and delivered: flow has to read
// back its last decisions of each source partition and go on after them. On
// Apache Kafka, and in a process that attached, it is zero.
func (e *Engine) Recovery() Recovery { return e.recovery }

// Err is the first write of records, markers or offsets that the embedded
// engine failed to make, or nil. Some of these it answers with success, so
// whoever commits has to ask here after committing, and to stop on an error:
// restarting settles the data directory. Always nil on Apache Kafka and in a
// process that attached.
func (e *Engine) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.broken
}

// DiskFree gives the free bytes on the embedded engine's disk, and whether
// they have fallen below the reserve, in which case no transaction is to
// begin. The error names the directory; on an error low is true. On Apache
// Kafka, whose disks are its operator's, it gives 0, false and no error.
func (e *Engine) DiskFree() (free uint64, low bool, err error) {
	if !e.embedded {
		return 0, false, nil
	}
	free, err = e.statfs(e.data)
	if err != nil {
		return 0, true, fmt.Errorf("free disk of %s: %w", e.data, err)
	}
	return free, free < e.reserve, nil
}

// Close stops the embedded engine if this process runs it: it writes what it
// has in memory, makes it durable and frees the data directory. Clients should
// be closed before. Closing twice is harmless.
func (e *Engine) Close() error {
	e.mu.Lock()
	done := e.closed || e.cluster == nil
	e.closed = true
	e.mu.Unlock()
	if done {
		return nil
	}
	e.cluster.Close()
	defer e.lock.Close()
	addrErr := os.Remove(filepath.Join(e.data, addressFile))
	if err := e.Err(); err != nil {
		// Leave the mark, so that the next start settles the directory.
		return errors.Join(fmt.Errorf("the embedded engine in %s did not stop cleanly: %w; the next start settles it", e.data, err), addrErr)
	}
	if err := syncDisk(e.data); err != nil {
		return errors.Join(fmt.Errorf("make %s durable: %w; the next start settles it", e.data, err), addrErr)
	}
	return errors.Join(os.Remove(filepath.Join(e.data, runningFile)), addrErr)
}

// writeSynced writes a file whole or not at all, and durably.
func writeSynced(path string, data []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// engineLog hands the embedded engine's log to slog, and remembers the failed
// writes in it, because the log is the only place where some of them show.
type engineLog struct{ e *Engine }

func (l engineLog) Logf(level kfake.LogLevel, format string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn: // its own timings; nothing that an operator could act on
		to = slog.LevelInfo
	}
	lost := isFailedWrite(format)
	if !lost && !l.e.log.Enabled(context.Background(), to) {
		return
	}
	msg := fmt.Sprintf(format, args...)
	l.e.log.Log(context.Background(), to, "embedded engine: "+msg)
	if lost {
		l.e.mu.Lock()
		if l.e.broken == nil {
			l.e.broken = fmt.Errorf("embedded engine: %s", msg)
		}
		l.e.mu.Unlock()
	}
}

// isFailedWrite knows the engine's messages on records, offsets, producers or
// topics that did not reach the disk.
func isFailedWrite(format string) bool {
	for _, begins := range []string{"persist ", "compact ", "endTx:", "save session state", "rebuildSegments"} {
		if strings.HasPrefix(format, begins) {
			return true
		}
	}
	return false
}
