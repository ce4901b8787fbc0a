package webhook

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"datafordeler/broker/webhook/scheme"
)

// Outcome is what became of one attempt. The set is closed: it is a metric's label.
type Outcome string

// The outcomes.
const (
	Accepted    Outcome = "accepted"    // 2xx
	Refused     Outcome = "refused"     // 3xx and 4xx
	Busy        Outcome = "busy"        // 429 and 503
	Failed      Outcome = "failed"      // 5xx
	Gone        Outcome = "gone"        // 410: it wants no more
	Unreachable Outcome = "unreachable" // no connection
	Slow        Outcome = "timeout"     // no answer in time
	Untrusted   Outcome = "untrusted"   // its certificate does not hold
	Forbidden   Outcome = "forbidden"   // its address is not one to call
)

// attempt is an outcome, and what is told of it. Why is of fixed words and a status:
// an endpoint's owner must not learn from it what the broker's network looks like.
type attempt struct {
	outcome Outcome
	why     string
	after   time.Duration // Retry-After; 0: it named none
}

// endpointsOwn reports whether the outcome says something of the endpoint, rather
// than of this one delivery.
func (o Outcome) endpointsOwn() bool {
	switch o {
	case Busy, Failed, Unreachable, Slow, Untrusted, Forbidden:
		return true
	case Accepted, Refused, Gone:
	}
	return false
}

// answerBytes is how much is read of an answer, so that its connection can be used again.
const answerBytes = 16 << 10

// userAgent names the broker to those who run endpoints.
const userAgent = "Datafordeler-Webhooks/1"

// post sends one signed message and says what came of it.
func post(ctx context.Context, client *http.Client, url, contentType, id string, body []byte, now time.Time, keys []scheme.Key) (a attempt, answer []byte) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return attempt{outcome: Forbidden, why: "the endpoint's URL cannot be called"}, nil
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", userAgent)
	scheme.Sign(req.Header, id, now, body, keys...)
	resp, err := client.Do(req)
	if err != nil {
		return faultOf(err), nil
	}
	answer, _ = io.ReadAll(io.LimitReader(resp.Body, answerBytes))
	_ = resp.Body.Close()
	a.why = "it answered " + strconv.Itoa(resp.StatusCode)
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		a.outcome = Accepted
	case code == http.StatusGone:
		a.outcome = Gone
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		a.outcome = Busy
	case code >= 500:
		a.outcome = Failed
	case code >= 300 && code < 400:
		a.outcome, a.why = Refused, a.why+", and redirects are not followed"
	default:
		a.outcome = Refused
	}
	a.after = retryAfter(resp.Header.Get("Retry-After"), now)
	return a, answer
}

// faultOf says in fixed words why there was no answer.
func faultOf(err error) attempt {
	var (
		timeout interface{ Timeout() bool }
		dns     *net.DNSError
	)
	switch {
	case errors.Is(err, ErrForbidden):
		return attempt{outcome: Forbidden, why: "its name leads to no address that the broker calls"}
	case isCertificate(err):
		return attempt{outcome: Untrusted, why: "its certificate does not hold"}
	case errors.As(err, &dns) && dns.IsNotFound:
		return attempt{outcome: Unreachable, why: "its name is not known"}
	case errors.As(err, &timeout) && timeout.Timeout():
		return attempt{outcome: Slow, why: "it did not answer in time"}
	}
	return attempt{outcome: Unreachable, why: "it could not be reached, or broke off"}
}

func isCertificate(err error) bool {
	var (
		verify *tls.CertificateVerificationError
		host   x509.HostnameError
		by     x509.UnknownAuthorityError
		record tls.RecordHeaderError
	)
	return errors.As(err, &verify) || errors.As(err, &host) || errors.As(err, &by) || errors.As(err, &record)
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3); 0 where it says nothing that
// is understood.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// challenge asks an endpoint whether it is its owner's: it must answer with what it
// was sent. The error is for the owner.
func challenge(ctx context.Context, client *http.Client, url string, now time.Time, keys []scheme.Key) error {
	text := rand.Text()
	body, err := json.Marshal(scheme.Challenge{Type: scheme.ChallengeType, Challenge: text})
	if err != nil {
		return err
	}
	a, answer := post(ctx, client, url, "application/json", "challenge-"+rand.Text(), body, now, keys)
	if a.outcome != Accepted {
		return errors.New(a.why)
	}
	var said scheme.Challenge
	if json.Unmarshal(answer, &said) != nil || said.Challenge != text {
		return fmt.Errorf(`%s, but not with the challenge: answer {"challenge":"…"} with what was sent`, a.why)
	}
	return nil
}

// pause is how long to wait before another attempt after so many failures: it doubles,
// less up to a half by lot, and is no shorter than the endpoint asked for; at most
// the longest.
func (c *Config) pause(failures int, after time.Duration, lot float64) time.Duration {
	d := c.FirstRetry
	for range failures - 1 {
		if d >= c.LongestRetry/2 {
			d = c.LongestRetry
			break
		}
		d *= 2
	}
	d -= time.Duration(lot * float64(d) / 2)
	return min(max(d, after), c.LongestRetry)
}
