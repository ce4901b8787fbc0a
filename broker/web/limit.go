package web

import (
	"container/list"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter bounds how often each client calls. It remembers the clients that called
// last; one that it has forgotten begins with a full allowance, which is what it
// would have had by then.
type limiter struct {
	rate  rate.Limit // requests a second
	burst int
	keep  int // clients remembered

	mu      sync.Mutex
	clients map[string]*list.Element
	recent  list.List // of *limited, the latest first
}

type limited struct {
	client string
	bucket *rate.Limiter
}

func newLimiter(perSecond float64, burst, keep int) *limiter {
	return &limiter{rate: rate.Limit(perSecond), burst: burst, keep: keep, clients: map[string]*list.Element{}}
}

// take asks for one request. When it is refused, wait is how long until one is
// allowed. A rate of 0 is no limit.
func (l *limiter) take(client string, now time.Time) (wait time.Duration, ok bool) {
	if l.rate <= 0 {
		return 0, true
	}
	b := l.bucket(client)
	if b.AllowN(now, 1) {
		return 0, true
	}
	missing := 1 - b.TokensAt(now)
	return time.Duration(math.Ceil(missing / float64(l.rate) * float64(time.Second))), false
}

func (l *limiter) bucket(client string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.clients[client]; e != nil {
		l.recent.MoveToFront(e)
		return e.Value.(*limited).bucket
	}
	if l.recent.Len() >= l.keep {
		last := l.recent.Back()
		delete(l.clients, last.Value.(*limited).client)
		l.recent.Remove(last)
	}
	b := rate.NewLimiter(l.rate, l.burst)
	l.clients[client] = l.recent.PushFront(&limited{client, b})
	return b
}
