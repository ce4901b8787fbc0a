package access

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// tokenBy is one of Oslo's, signed by a key under a name, from the doors' time on.
func (d *doors) tokenBy(t testing.TB, kid string) string {
	now := d.clock.Now().Unix()
	m := with(machine(d.machine.URL+"/"), "iat", now, "exp", now+120)
	key := keyA()
	if kid == "b" {
		key = keyB()
	}
	return sign(key, fmt.Sprintf(`{"alg":"RS256","kid":%q}`, kid), jsonText(t, m))
}

// outcome says how a token fared: ok, refused or unknown.
func (d *doors) outcome(token string) string {
	_, err := d.Verify(context.Background(), token)
	var bad *TokenError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &bad):
		return "refused"
	}
	return "unknown"
}

func (d *doors) want(t *testing.T, token, want string) {
	t.Helper()
	if got := d.outcome(token); got != want {
		t.Fatalf("at %s: %s, want %s", d.clock.Now().Format(time.TimeOnly), got, want)
	}
}

func unavailable(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "down", http.StatusServiceUnavailable)
}

// A new key is found when a token names it; a key that is gone counts no more from
// the next reading, also for tokens that were verified before.
func TestKeyRotation(t *testing.T) {
	d := newDoors(t, func(c *Config) { c.MaxAge = 24 * time.Hour })
	a := d.tokenBy(t, "a")
	now := t0.Unix()
	long := sign(keyA(), goodHead, jsonText(t, with(machine(d.machine.URL+"/"), "exp", now+20*3600)))
	d.want(t, a, "ok")
	d.want(t, long, "ok")
	d.machine.set(func() { d.machine.keys["b"] = keyB() })
	d.want(t, d.tokenBy(t, "b"), "refused") // the keys were read just now
	d.clock.forward(fetchPause)
	d.want(t, d.tokenBy(t, "b"), "ok")
	d.want(t, d.tokenBy(t, "a"), "ok")
	d.want(t, long, "ok")
	d.machine.set(func() { delete(d.machine.keys, "a") })
	d.want(t, d.tokenBy(t, "a"), "ok") // until they are read again
	d.clock.forward(time.Hour)
	d.want(t, d.tokenBy(t, "b"), "ok") // which has them read, and does not wait
	d.wait.Wait()
	d.want(t, long, "refused")
	d.want(t, d.tokenBy(t, "a"), "refused")
	d.want(t, d.tokenBy(t, "b"), "ok")
}

// Whatever kids strangers make up, the issuer is asked once in a while.
func TestUnknownKidsAreBounded(t *testing.T) {
	d := newDoors(t, nil)
	d.want(t, d.tokenBy(t, "a"), "ok")
	d.clock.forward(fetchPause)
	asked := d.machine.asked.Load()
	var wait sync.WaitGroup
	for i := range 200 {
		wait.Go(func() {
			if got := d.outcome(sign(keyB(), fmt.Sprintf(`{"alg":"RS256","kid":"k%d"}`, i), jsonText(t, machine(d.machine.URL+"/")))); got != "refused" {
				t.Error(got)
			}
		})
	}
	wait.Wait()
	if n := d.machine.asked.Load() - asked; n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// While the issuer is down its known keys count for as long as is stated, and then
// nobody comes in; what cannot be known is no refusal.
func TestIssuerDown(t *testing.T) {
	d := newDoors(t, nil)
	d.machine.set(func() { d.machine.down = unavailable })
	d.want(t, d.tokenBy(t, "a"), "unknown")
	d.want(t, d.tokenBy(t, "a"), "unknown")
	if n := d.machine.asked.Load(); n != 0 {
		t.Errorf("asked for keys %d times, with no metadata", n)
	}
	d.machine.set(func() { d.machine.down = nil })
	d.want(t, d.tokenBy(t, "a"), "unknown") // not yet asked again
	d.clock.forward(fetchPause)
	d.want(t, d.tokenBy(t, "a"), "ok")

	d.machine.set(func() { d.machine.down = unavailable })
	for range 23 {
		d.clock.forward(time.Hour)
		d.want(t, d.tokenBy(t, "a"), "ok")
		d.wait.Wait()
		d.want(t, d.tokenBy(t, "b"), "unknown") // perhaps it is new
	}
	old := d.tokenBy(t, "a")
	d.clock.forward(time.Hour - time.Second)
	d.want(t, old, "refused") // it has ended
	fresh := d.tokenBy(t, "a")
	d.want(t, fresh, "ok")
	d.wait.Wait()
	d.clock.forward(time.Second)
	d.want(t, fresh, "unknown") // remembered or not
	d.machine.set(func() { d.machine.down = nil })
	d.clock.forward(fetchPause)
	d.want(t, fresh, "ok")
	d.want(t, d.tokenBy(t, "b"), "refused")
	// The other issuer was never concerned.
	if n := d.login.asked.Load(); n != 0 {
		t.Errorf("the other issuer was asked %d times", n)
	}
}

// An issuer that answers what it should not is as good as one that does not answer.
func TestIssuerAnswersWrongly(t *testing.T) {
	for name, harm := range map[string]func(*doors){
		"another issuer's metadata": func(d *doors) { d.machine.meta = map[string]any{"issuer": "https://other.example/"} },
		"no issuer in the metadata": func(d *doors) { d.machine.meta = map[string]any{"issuer": nil} },
		"keys at another host":      func(d *doors) { d.machine.meta = map[string]any{"jwks_uri": d.login.URL + "/jwk"} },
		"keys in a file":            func(d *doors) { d.machine.meta = map[string]any{"jwks_uri": "file:///etc/passwd"} },
		"no keys":                   func(d *doors) { d.machine.meta = map[string]any{"jwks_uri": 7} },
		"an empty set":              func(d *doors) { clear(d.machine.keys) },
		"a redirection": func(d *doors) {
			d.machine.down = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, d.login.URL+r.URL.Path, http.StatusFound)
			}
		},
		"too much": func(d *doors) { d.machine.meta = map[string]any{"x": strings.Repeat("x", maxAnswer)} },
		"not JSON": func(d *doors) {
			d.machine.down = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }
		},
		"nothing": func(d *doors) { d.machine.down = func(http.ResponseWriter, *http.Request) {} },
		"cut off": func(d *doors) {
			d.machine.down = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoors(t, nil)
			d.machine.set(func() { harm(d) })
			d.want(t, d.tokenBy(t, "a"), "unknown")
			if n := d.login.all.Load(); n != 0 {
				t.Errorf("another was asked %d times", n)
			}
		})
	}
}

// A caller that gives up while the keys are being read is not let in.
func TestCallerGivesUp(t *testing.T) {
	d := newDoors(t, nil)
	reached, release := make(chan struct{}), make(chan struct{})
	d.machine.set(func() {
		d.machine.down = func(w http.ResponseWriter, r *http.Request) {
			close(reached)
			<-release
			d.machine.down = nil
			unavailable(w, r)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	_, err := d.Verify(ctx, d.tokenBy(t, "a"))
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	d.wait.Wait()
}

func TestReadKeys(t *testing.T) {
	n, e := jwkOf("a", &keyA().PublicKey)["n"].(string), "AQAB"
	key := func(more string) string { return `{"kty":"RSA","kid":"a","n":"` + n + `","e":"` + e + `"` + more + `}` }
	for name, c := range map[string]struct {
		set  string
		kids int // -1 is an error
	}{
		"a key":                         {key(``), 1},
		"with a certificate":            {key(`,"x5c":["MIIgarbage"],"x5u":"http://127.0.0.1:1/","x5t":"x"`), 1},
		"to encrypt with":               {key(`,"use":"enc"`), -1},
		"one to encrypt, one to sign":   {`{"kty":"RSA","use":"enc","kid":"b","n":"x","e":"y"},` + key(``), 1},
		"to sign only":                  {key(`,"key_ops":["sign"]`), -1},
		"to verify":                     {key(`,"key_ops":["verify"]`), 1},
		"of another algorithm":          {key(`,"alg":"PS256"`), -1},
		"of an elliptic curve, and RSA": {`{"kty":"EC","crv":"P-256","kid":"e","x":"AA","y":"AA"},` + key(``), 1},
		"symmetric":                     {`{"kty":"oct","kid":"a","k":"AAAA"}`, -1},
		"no kid":                        {`{"kty":"RSA","n":"` + n + `","e":"AQAB"}`, -1},
		"one kid twice":                 {key(``) + `,` + key(``), -1},
		"a small key":                   {`{"kty":"RSA","kid":"a","n":"` + n[:100] + `","e":"AQAB"}`, -1},
		"an exponent of 1":              {`{"kty":"RSA","kid":"a","n":"` + n + `","e":"AQ"}`, -1},
		"an even exponent":              {`{"kty":"RSA","kid":"a","n":"` + n + `","e":"AQAA"}`, -1},
		"no number":                     {`{"kty":"RSA","kid":"a","n":"*","e":"AQAB"}`, -1},
		"many":                          {strings.Repeat(`{},`, maxKeys) + key(``), -1},
		"a list":                        {`[]`, -1},
	} {
		set, err := readKeys([]byte(`{"keys":[`+c.set+`]}`), algorithms)
		if c.kids < 0 && err == nil || c.kids >= 0 && (err != nil || len(set.kids) != c.kids) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The tokens that are remembered are bounded, and the latest of them are kept.
func TestRememberedTokens(t *testing.T) {
	s := newSeen(3)
	v := &verified{caller: Caller{Expires: t0.Add(time.Minute)}}
	sum := func(i byte) [32]byte { return [32]byte{i} }
	for i := range byte(4) {
		s.put(sum(i), v)
		s.get(sum(0), t0)
	}
	for i, want := range []bool{true, false, true, true} {
		if _, ok := s.get(sum(byte(i)), t0); ok != want {
			t.Errorf("%d: %v", i, ok)
		}
	}
	if _, ok := s.get(sum(0), t0.Add(time.Minute)); ok || len(s.tokens) != 2 || s.recent.Len() != 2 {
		t.Error("a token that ended is remembered")
	}
	none := newSeen(0)
	none.put(sum(0), v)
	if _, ok := none.get(sum(0), t0); ok {
		t.Error("remembered where it should not be")
	}
}
