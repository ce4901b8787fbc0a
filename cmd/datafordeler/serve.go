package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

func serveCommand() command {
	return command{
		name:    "serve",
		summary: "run the broker against Apache Kafka, or on the embedded engine",
		help: `Usage: datafordeler serve --config FILE

Decides and routes records until SIGTERM or Ctrl-C; then finishes the
transaction under way, leaves the group and exits. Any number of instances may
share a group on Apache Kafka; give each its own slot (flow.slot, or
DATAFORDELER_SLOT in the environment).
It decides by the policy that is active: the first time, run datafordeler policy
activate, and declare who shares what with datafordeler registry apply.

  /healthz   200 while the loop turns
  /readyz    200 while records are being decided; else 503 and why not
  /metrics   Prometheus

Examples:
  datafordeler serve --config broker.yaml
  DATAFORDELER_SLOT=1 datafordeler serve --config broker.yaml
`,
		run: serve,
	}
}

func serve(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("serve")
	file := fs.String("config", "", "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *file == "" {
		return usagef("--config is missing")
	}
	cfg, err := loadConfig(*file)
	if err != nil {
		return err
	}
	log, err := newLogger(std.err, cfg.Log)
	if err != nil {
		return usageError{err}
	}
	// The fold and the engine outlive the signal: the last transaction needs them.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	n, err := openNode(life, cfg, log, kafka.Own, true)
	if err != nil {
		return err
	}
	defer n.close()
	defer n.keepImage()()
	book, err := n.openBook(life)
	if err != nil {
		return err
	}
	read, located := n.newFollowing(), n.newLocating()
	b := n.newBroker(book)
	lists, err := n.newKafkaAccess()
	if err == nil {
		defer lists.close()
		err = lists.begin(life)
	}
	if err != nil {
		book.ledger.Close()
		return err
	}
	api, err := n.newDoors(b, book, lists)
	if err != nil {
		book.ledger.Close()
		return err
	}
	probes, err := serveHTTP(cfg.HTTP.Listen, b, n.control, slices.Concat(book.collectors(), read.collectors(), located.collectors(), api.collectors())...)
	if err != nil {
		book.ledger.Close()
		return err
	}
	defer probes.close()
	if err := api.open(); err != nil {
		book.ledger.Close()
		return err
	}
	defer api.close()
	log.Info("serving", "engine", cfg.Engine, "kafka", n.engine.Brokers(), "http", probes.addr, "group", cfg.Flow.Group, "slot", cfg.Flow.Slot)
	// It sequences until the last transaction has ended, and signs that too if it can.
	sequencing, stop := context.WithCancel(life)
	left, followed, indexed, kept := book.run(sequencing), read.run(sequencing), located.run(sequencing), lists.run(sequencing)
	err = b.Run(ctx)
	book.leave(life, n.log)
	_ = read.settle(life, 2*time.Second) // the rest when an instance runs again
	stop()
	err = errors.Join(err, left())
	followed()
	indexed()
	kept()
	if err == nil {
		log.Info("stopped cleanly", "decisions", b.Totals().Decisions)
	}
	return err
}

// newBroker makes an instance; its decisions are followed in the book, where there
// is one. The index of positions, where there is one, is made before.
func (n *node) newBroker(b *book) *flow.Broker {
	o := flow.Options{
		Config: n.cfg.Flow, Kafka: n.cfg.Config, Intake: n.cfg.Intake,
		Engine: n.engine, Hasher: n.ring, Control: n.control, Log: n.log,
	}
	if b != nil {
		o.Evidence = b.ledger
	}
	if f := n.located.follower; f != nil {
		o.Positions = published{f}
	}
	return flow.New(o)
}

// probes is the small HTTP server for those who run a broker: health and metrics.
type probes struct {
	server *http.Server
	addr   string
}

// serveHTTP listens before it returns, so that a bad address is an error at once.
func serveHTTP(listen string, b *flow.Broker, control *flow.Control, more ...prometheus.Collector) (*probes, error) {
	if listen == "" {
		return &probes{}, nil
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("http.listen: %w; choose a free address, or \"\" for none", err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(b.Metrics().Collectors()...)
	reg.MustRegister(more...)
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		// A loop that stands still for this long is in no ordinary wait.
		const stuck = time.Minute
		if idle := b.Alive(); idle > stuck && b.Started() {
			health(w, http.StatusServiceUnavailable, "the loop has not turned for "+idle.Round(time.Second).String())
			return
		}
		health(w, http.StatusOK, "")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		noPolicy := false
		control.View(func(st *registry.State) { noPolicy = st.Policy() == nil })
		switch held := b.Held(); {
		case held != "":
			health(w, http.StatusServiceUnavailable, held)
		case noPolicy:
			health(w, http.StatusServiceUnavailable, "no policy is active, so nothing is decided: datafordeler policy activate")
		case !b.Started():
			health(w, http.StatusServiceUnavailable, "the broker has not joined its group yet")
		default:
			health(w, http.StatusOK, "")
		}
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // the listener is ours and open: only a bug ends it
		}
	}()
	return &probes{server: s, addr: l.Addr().String()}, nil
}

func health(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		OK  bool   `json:"ok"`
		Why string `json:"why,omitempty"`
	}{status == http.StatusOK, why})
}

func (p *probes) close() {
	if p.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = p.server.Shutdown(ctx)
}
