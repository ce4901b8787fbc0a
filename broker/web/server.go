package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker/access"
	"datafordeler/broker/registry"
)

// Metrics are the API's collectors.
type Metrics struct {
	Requests *prometheus.CounterVec   // operation, status
	Seconds  *prometheus.HistogramVec // operation
	InFlight prometheus.Gauge
}

func newMetrics() Metrics {
	return Metrics{
		Requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "datafordeler_http_requests_total", Help: "Requests of the HTTP API, by operation and status.",
		}, []string{"operation", "status"}),
		Seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "datafordeler_http_request_seconds", Help: "Seconds until a request was answered in full.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"operation"}),
		InFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "datafordeler_http_requests_in_flight", Help: "Requests of the HTTP API that are being answered.",
		}),
	}
}

// Options are what a server needs.
type Options struct {
	Config  Config
	Guard   access.Guard
	Log     *slog.Logger
	Version string // of the program, for the API's document
	// View shows the registry. The state must not be kept.
	View func(func(*registry.State))
}

// Server is the HTTP API of one instance.
type Server struct {
	config    Config
	guard     access.Guard
	log       *slog.Logger
	view      func(func(*registry.State))
	metrics   Metrics
	gate      *gate
	api       huma.API
	clients   *limiter
	strangers *limiter
	answers   *answers
	draining  chan struct{}
	server    *http.Server
	addr      string
	ended     chan error

	headerWait time.Duration // for a request's head to come
}

// New makes a server with the operations that every broker has. Add the others
// before Start.
func New(o Options) *Server {
	problems()
	s := &Server{
		config: o.Config, guard: o.Guard, log: o.Log, view: o.View, metrics: newMetrics(),
		clients:   newLimiter(o.Config.RatePerSecond, o.Config.Burst, 10_000),
		strangers: newLimiter(10*o.Config.RatePerSecond, 10*o.Config.Burst, 10_000), // many clients may stand behind one address
		answers:   newAnswers(o.Config.BodyBytes),
		draining:  make(chan struct{}), ended: make(chan error, 1),
		headerWait: 5 * time.Second,
	}
	s.gate = &gate{server: s, mux: http.NewServeMux(), rules: map[string]Rule{}}
	config := huma.DefaultConfig("Datafordeler", o.Version)
	config.Info.Description = "Publish, receive, look up and audit. Who may do what follows from the registry; the token says who calls."
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil // no links to schemas in answers
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "an access token of Maskinporten, or an id token of ID-porten"},
	}
	s.api = humago.New(s.gate, config)
	s.registerSelf()
	s.registerDocs()
	return s
}

// API is the document and its operations.
func (s *Server) API() huma.API { return s.api }

// Collectors are for main to register.
func (s *Server) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.metrics.Requests, s.metrics.Seconds, s.metrics.InFlight, s.answers.outcomes}
}

// Draining closes when the server is about to stop: whoever waits for news answers
// with what there is.
func (s *Server) Draining() <-chan struct{} { return s.draining }

// Handler is all of the API, for tests.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := s.gate.mux.Handler(r)
		if pattern == "" {
			// One answer for no such path and no such method, in the form of all others.
			s.unknown(w, r)
			return
		}
		s.gate.ServeHTTP(w, r)
	})
}

func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	s.metrics.Requests.WithLabelValues("none", "404").Inc()
	writeProblem(w, NewProblem(http.StatusNotFound, "there is no such operation; /openapi.json lists them all"))
}

// Start listens, so that a bad address is an error at once, and serves until Close.
func (s *Server) Start() error {
	if s.config.Listen == "" {
		return nil
	}
	l, err := net.Listen("tcp", s.config.Listen)
	if err != nil {
		return fmt.Errorf("api.listen: %w; choose a free address, or \"\" for none", err)
	}
	s.server = &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: s.headerWait,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if s.config.Certificate != "" {
		cert, err := tls.LoadX509KeyPair(s.config.Certificate, s.config.Key)
		if err != nil {
			_ = l.Close()
			return fmt.Errorf("api.certificate and api.key: %w", err)
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	}
	s.addr = l.Addr().String()
	go func() { s.ended <- s.server.Serve(l) }()
	return nil
}

// Addr is where it listens, after Start.
func (s *Server) Addr() string { return s.addr }

// Close takes no new request, lets those under way end, and returns.
func (s *Server) Close() error {
	close(s.draining)
	if s.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.config.DrainTimeout)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("api: requests were cut off after api.drain_timeout: %w", errors.Join(err, s.server.Close()))
	}
	if ended := <-s.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
