package web

import (
	"bytes"
	"container/list"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
)

const idempotencyHeader = "Idempotency-Key"

// Once says that an operation is done once for each Idempotency-Key of a caller
// (draft-ietf-httpapi-idempotency-key-header-07): whoever sends the same request with
// the same key again gets the first answer again, and nothing happens.
//
// Answers are kept in the memory of one instance: they may hold a password or a
// person's data, which do not belong on a disk. So the promise is this instance's,
// until it stops or the time is over. What must hold across instances the operation
// does itself, from [IdempotencyOf].
type Once struct {
	// Keep is how long an answer is kept; 0 is 10 minutes.
	Keep time.Duration
	// Refusals keeps answers of 400 to 499 too, except 401, 408, 409, 413 and 429. Without
	// it only success is kept, and whoever was refused may try again with the key.
	Refusals bool
	// Again, if not nil, is asked before an answer is given again: it is handed the
	// request, with its body. Its error is answered instead. It is for what may not
	// be handed over any more, such as data whose legal basis has ended.
	Again func(r *http.Request) error
}

// Problem types of Idempotency-Key, for programs.
const (
	KeyReused  = "urn:datafordeler:problem:idempotency-key-reused"
	KeyRunning = "urn:datafordeler:problem:idempotency-key-running"
	KeyDone    = "urn:datafordeler:problem:idempotency-key-done"
)

// IdempotencyOf is a digest of who calls and of the Idempotency-Key they sent. It is
// the same on every instance. ok is false where there is no key, or where the
// operation takes none.
func IdempotencyOf(ctx context.Context) (digest [32]byte, ok bool) {
	v := visitOf(ctx)
	return v.once, v.once != [32]byte{}
}

const (
	onceKeep       = 10 * time.Minute
	onceAnswer     = 256 << 10 // bytes of one answer that are kept
	onceCaller     = 8 << 20   // bytes of one caller's answers
	onceCallerMost = 10_000    // answers of one caller
	onceAll        = 64 << 20  // bytes of all answers
	onceOverhead   = 600       // bytes of an answer beside its body and headers, about
	onceBodyWait   = 5 * time.Second
)

// answers are those that were given under a key. A caller that has too many loses its
// own oldest first; nobody's makes another's go, but for the bound of all.
type answers struct {
	secret   []byte // of this process: what was asked cannot be guessed from memory alone
	body     int64
	wait     time.Duration // for a body to come
	clock    func() time.Time
	outcomes *prometheus.CounterVec

	mu      sync.Mutex // guards all below
	entries map[[32]byte]*onceEntry
	byAge   list.List // of *onceEntry that are done, the oldest first
	callers map[[32]byte]*onceShare
	bytes   int
}

// onceShare is what one caller has of the room.
type onceShare struct {
	byAge list.List // of *onceEntry that are done, the oldest first
	bytes int
}

type onceEntry struct {
	key, caller, asked [32]byte
	ends               time.Time // when it is done
	done               bool
	status             int // 0: the answer was too long to keep
	header             http.Header
	body               []byte
	size               int
	all, own           *list.Element // its places in byAge
}

func newAnswers(body int64) *answers {
	a := &answers{
		secret: make([]byte, 32), body: body, wait: onceBodyWait, clock: time.Now, entries: map[[32]byte]*onceEntry{}, callers: map[[32]byte]*onceShare{},
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "datafordeler_http_idempotency_total", Help: "Requests with an Idempotency-Key, by outcome: first, repeated, running, reused; and answers let go before their time: evicted.",
		}, []string{"outcome"}),
	}
	_, _ = rand.Read(a.secret) // it never fails
	return a
}

// digest hashes texts so that no two lists of them are the same bytes.
func digest(secret []byte, parts ...[]byte) (out [32]byte) {
	h := hmac.New(sha256.New, secret)
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

// readKey takes a key as the draft has it, a quoted string (RFC 8941 section 3.3.3), or
// without its quotes, as most clients send it. The two are the same key.
func readKey(values []string) (string, error) {
	bad := NewProblem(http.StatusBadRequest, idempotencyHeader+": send one key of 1 to 200 printable characters without quotes, spaces, commas or backslashes within, such as a new UUID")
	if len(values) != 1 {
		return "", bad
	}
	key := values[0]
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	if key == "" || len(key) > 200 {
		return "", bad
	}
	for i := range len(key) {
		switch c := key[i]; {
		case c <= ' ', c >= 0x7f, c == '"', c == '\\', c == ',':
			return "", bad
		}
	}
	return key, nil
}

// serve answers a request that has a key. The caller has been let in.
func (s *answers) serve(a *answer, r *http.Request, v *visit, o Once, pattern string, next http.HandlerFunc) error {
	key, err := readKey(r.Header.Values(idempotencyHeader))
	if err != nil {
		return err
	}
	control := http.NewResponseController(a)
	_ = control.SetReadDeadline(time.Now().Add(s.wait))
	body, err := io.ReadAll(http.MaxBytesReader(a, r.Body, s.body))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return NewProblem(http.StatusRequestEntityTooLarge, "the body is longer than "+strconv.FormatInt(s.body, 10)+" bytes")
	} else if err != nil {
		return NewProblem(http.StatusRequestTimeout, "the body did not come in time")
	}
	_ = control.SetReadDeadline(time.Time{})
	again := func() *http.Request {
		q := r.Clone(r.Context())
		q.Body = io.NopCloser(bytes.NewReader(body))
		return q
	}
	c := &v.caller
	caller := digest(nil, []byte(c.Organisation), []byte(c.Supplier), []byte(c.Client), []byte(c.Person.Number()))
	e := &onceEntry{
		caller: caller,
		key:    digest(nil, caller[:], []byte(key)),
		asked:  digest(s.secret, []byte(pattern), []byte(r.URL.EscapedPath()), []byte(r.URL.RawQuery), []byte(r.Header.Get("Content-Type")), body),
	}
	if first := s.claim(e); first != nil {
		return s.repeat(a, again, o, first, e)
	}
	v.once = e.key
	s.outcomes.WithLabelValues("first").Inc()
	kept := &keeping{answer: a}
	finished := false
	// One that fell over is done by nobody: the key is free again.
	defer func() { s.settle(e, kept, finished && o.keeps(a.status), o.Keep) }()
	next(kept, again())
	finished = true
	return nil
}

func (o *Once) keeps(status int) bool {
	switch {
	case status >= 200 && status < 300:
		return true
	case status < 400 || status >= 500 || !o.Refusals:
		return false
	}
	switch status {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return false
	}
	return true
}

// claim takes the key for e, or returns who has it. What it returns is read under the
// lock only, or once it is done: then it does not change.
func (s *answers) claim(e *onceEntry) *onceEntry {
	now := s.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for first := s.byAge.Front(); first != nil && !now.Before(first.Value.(*onceEntry).ends); first = s.byAge.Front() {
		s.drop(first.Value.(*onceEntry))
	}
	if first := s.entries[e.key]; first != nil {
		if first.done && !now.Before(first.ends) { // kept behind one that lasts longer
			s.drop(first)
		} else {
			was := *first
			return &was
		}
	}
	s.entries[e.key] = e
	return nil
}

// repeat answers a request whose key was used before.
func (s *answers) repeat(a *answer, again func() *http.Request, o Once, first, now *onceEntry) error {
	if !hmac.Equal(first.asked[:], now.asked[:]) {
		s.outcomes.WithLabelValues("reused").Inc()
		p := NewProblem(http.StatusUnprocessableEntity, "this Idempotency-Key was used for another request: send a new key with what is new, and the same body with the same key")
		p.Type = KeyReused
		return p
	}
	if !first.done {
		s.outcomes.WithLabelValues("running").Inc()
		a.Header().Set("Retry-After", "1")
		p := NewProblem(http.StatusConflict, "the first request with this Idempotency-Key is still being answered: send it again after the seconds that Retry-After names")
		p.Type = KeyRunning
		return p
	}
	if o.Again != nil {
		if err := o.Again(again()); err != nil {
			return err
		}
	}
	s.outcomes.WithLabelValues("repeated").Inc()
	if first.status == 0 {
		p := NewProblem(http.StatusConflict, "the request with this Idempotency-Key has been done, and its answer was too long to be kept")
		p.Type = KeyDone
		return p
	}
	to := a.Header()
	for name, values := range first.header {
		if name != requestIDHeader {
			to[name] = values
		}
	}
	to.Set("Idempotency-Replayed", "true")
	a.WriteHeader(first.status)
	_, _ = a.Write(first.body)
	return nil
}

// settle keeps the answer, or frees the key.
func (s *answers) settle(e *onceEntry, k *keeping, keep bool, last time.Duration) {
	if last == 0 {
		last = onceKeep
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !keep {
		delete(s.entries, e.key)
		return
	}
	e.done, e.ends = true, s.clock().Add(last)
	if !k.tooLong {
		e.status, e.header, e.body = k.answer.status, k.header, k.body
	}
	e.size = onceOverhead + len(e.body)
	for name, values := range e.header {
		for _, v := range values {
			e.size += len(name) + len(v)
		}
	}
	share := s.callers[e.caller]
	if share == nil {
		share = &onceShare{}
		s.callers[e.caller] = share
	}
	e.all, e.own = s.byAge.PushBack(e), share.byAge.PushBack(e)
	s.bytes += e.size
	share.bytes += e.size
	for share.bytes > onceCaller || share.byAge.Len() > onceCallerMost {
		s.evict(share.byAge.Front().Value.(*onceEntry))
	}
	for s.bytes > onceAll {
		s.evict(s.byAge.Front().Value.(*onceEntry))
	}
}

func (s *answers) evict(e *onceEntry) {
	if s.clock().Before(e.ends) {
		s.outcomes.WithLabelValues("evicted").Inc()
	}
	s.drop(e)
}

// drop forgets one that is done. The lock is held.
func (s *answers) drop(e *onceEntry) {
	delete(s.entries, e.key)
	share := s.callers[e.caller]
	s.byAge.Remove(e.all)
	share.byAge.Remove(e.own)
	s.bytes -= e.size
	if share.bytes -= e.size; share.byAge.Len() == 0 {
		delete(s.callers, e.caller)
	}
}

// keeping is an answer that is kept as it is written.
type keeping struct {
	*answer
	header  http.Header
	body    []byte
	tooLong bool
}

func (k *keeping) WriteHeader(status int) {
	if k.answer.status == 0 && status >= 200 {
		k.header = k.Header().Clone()
	}
	k.answer.WriteHeader(status)
}

func (k *keeping) Write(b []byte) (int, error) {
	if k.answer.status == 0 {
		k.WriteHeader(http.StatusOK)
	}
	if len(k.body)+len(b) > onceAnswer {
		k.tooLong, k.body = true, nil
	}
	if !k.tooLong {
		k.body = append(k.body, b...)
	}
	// Whoever asked may be gone: what was done is done, and they come again for it.
	_, _ = k.answer.Write(b)
	return len(b), nil
}

func describeOnce(op *huma.Operation, o *Once) {
	last := o.Keep
	if last == 0 {
		last = onceKeep
	}
	op.Parameters = append(op.Parameters, &huma.Param{
		Name: idempotencyHeader, In: "header", Schema: &huma.Schema{Type: "string"},
		Description: "a key of your own, such as a new UUID: the same request with the same key is done once, and answered the same again for " + last.String() +
			". An instance keeps its answers in memory only. Another request with the key is 422, and one whose first is still being answered is 409",
	})
}
