package witness

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Handler serves the protocol:
//
//	POST /add-checkpoint       tlog-witness
//	GET  /HASH/checkpoint      the last head of a log, cosigned; HASH is the
//	                           origin's SHA-256 in hexadecimal
//	GET  /healthz              what the witness has seen, and its counts
//
// The second lets anybody compare what a log shows them with what it showed the
// witness. It is from the editor's draft of tlog-witness, beyond version 1.0.
func (w *Witness) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", w.serveAdd)
	mux.HandleFunc("GET /{hash}/checkpoint", w.serveHead)
	mux.HandleFunc("GET /healthz", w.serveHealth)
	return mux
}

// Server is an http.Server for Handler with bounds on time and headers. Bodies
// are bounded by the handler.
func (w *Witness) Server() *http.Server {
	return &http.Server{
		Handler:           w.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second,
		IdleTimeout:       2 * time.Minute, // logs come every few seconds: keep their connections
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
	}
}

func (w *Witness) serveAdd(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxRequest))
	if err != nil {
		w.counts.malformed.Add(1)
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			answer(rw, http.StatusRequestEntityTooLarge, fmt.Sprintf("a request has at most %d bytes\n", maxRequest))
			return
		}
		answer(rw, http.StatusBadRequest, "the request was not read to its end\n")
		return
	}
	line, err := w.AddCheckpoint(body)
	var no *Refusal
	switch {
	case err == nil:
		answer(rw, http.StatusOK, string(line))
	case errors.As(err, &no) && no.Sized:
		rw.Header().Set("Content-Type", sizeType)
		rw.WriteHeader(no.Status)
		fmt.Fprintf(rw, "%d\n", no.Size)
	case errors.As(err, &no):
		answer(rw, no.Status, no.Why+"\n")
	default:
		answer(rw, http.StatusInternalServerError, "internal error\n")
	}
}

func (w *Witness) serveHead(rw http.ResponseWriter, r *http.Request) {
	for origin := range w.logs {
		if fmt.Sprintf("%x", sha256.Sum256([]byte(origin))) != r.PathValue("hash") {
			continue
		}
		switch b, err := w.Head(origin); {
		case err != nil:
			w.log.Error("the last head could not be cosigned", "log", origin, "err", err)
			answer(rw, http.StatusInternalServerError, "the witness could not sign\n")
		case b == nil:
			answer(rw, http.StatusNotFound, "nothing of this log has been cosigned yet\n")
		default:
			answer(rw, http.StatusOK, string(b))
		}
		return
	}
	answer(rw, http.StatusNotFound, "this log is not watched here\n")
}

// Health is the answer of /healthz.
type Health struct {
	OK  bool   `json:"ok"`
	Why string `json:"why,omitempty"`
	// Witness is the public key.
	Witness string `json:"witness"`
	Logs    []Seen `json:"logs"`
	Counts  Counts `json:"counts"`
}

func (w *Witness) serveHealth(rw http.ResponseWriter, _ *http.Request) {
	h := Health{OK: true, Witness: w.VKey(), Logs: w.Seen(), Counts: w.Counts()}
	rw.Header().Set("Content-Type", "application/json")
	if err := w.Healthy(); err != nil {
		h.OK, h.Why = false, "the last head could not be written down, so nothing new is cosigned"
		rw.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(rw).Encode(h)
}

func answer(rw http.ResponseWriter, status int, text string) {
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	rw.WriteHeader(status)
	_, _ = io.Copy(rw, strings.NewReader(text))
}
