package scheme

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var at = time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)

const vector = "v1,F403Ozqq5lApHgb6VFIfmCw40LMxJXuBrMKxjABTFRQ="

// A vector that was computed by other means (openssl and Python's hmac): see the
// guide, which shows the commands.
func TestVector(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	h := http.Header{}
	Sign(h, "0123456789abcdef0123456789abcdef", at, []byte(`{"type":"x"}`), Key{Secret: secret})
	if got := h.Get(SignatureHeader); got != vector {
		t.Errorf("signature %s, want %s", got, vector)
	}
	if got := h.Get(TimestampHeader); got != "1793880000" {
		t.Error(got)
	}
	if got := SecretText(secret); got != "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=" {
		t.Error(got)
	}
}

// What is signed verifies, with any of the keys that signed it, and nothing that
// differs from it does.
func TestVerifySign(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := func(name string) Key {
			seed := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, name)
			return Key{seed, ed25519.NewKeyFromSeed(seed)}
		}
		verifiers := func(k Key) (s, p Verifier) {
			s, err := ParseVerifier(SecretText(k.Secret))
			if err != nil {
				t.Fatal(err)
			}
			if p, err = ParseVerifier(PublicText(k.Private.Public().(ed25519.PublicKey))); err != nil {
				t.Fatal(err)
			}
			return s, p
		}
		a, b, other := key("a"), key("b"), key("other")
		if bytes.Equal(a.Secret, other.Secret) || bytes.Equal(b.Secret, other.Secret) {
			t.Skip("the same by lot")
		}
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		id := rapid.StringMatching(`[a-f0-9]{1,32}`).Draw(t, "id")
		h := http.Header{}
		Sign(h, id, at, body, a, b)
		for _, k := range []Key{a, b} {
			s, p := verifiers(k)
			for _, v := range []Verifier{s, p} {
				if got, err := Verify(h, body, at.Add(time.Minute), 5*time.Minute, v); err != nil || got != id {
					t.Fatalf("%q %v", got, err)
				}
			}
		}
		s, p := verifiers(other)
		if _, err := Verify(h, body, at, time.Minute, s, p); !errors.Is(err, ErrSignature) {
			t.Fatalf("another's key: %v", err)
		}
		s, p = verifiers(a)
		off := time.Duration(rapid.Int64Range(61, 1<<33).Draw(t, "off")) * time.Second
		for _, now := range []time.Time{at.Add(off), at.Add(-off)} {
			if _, err := Verify(h, body, now, time.Minute, s, p); !errors.Is(err, ErrTimestamp) {
				t.Fatalf("off by %v: %v", off, err)
			}
		}
		wrong := func(what string, h http.Header, body []byte) {
			if _, err := Verify(h, body, at, time.Hour, s, p); err == nil {
				t.Fatalf("%s verifies", what)
			}
		}
		wrong("a longer body", h, append(bytes.Clone(body), '.'))
		if len(body) > 0 {
			flipped := bytes.Clone(body)
			flipped[rapid.IntRange(0, len(body)-1).Draw(t, "flip")] ^= 1
			wrong("another body", h, flipped)
		}
		edit := func(name, value string) http.Header {
			out := h.Clone()
			out.Set(name, value)
			return out
		}
		wrong("another id", edit(IDHeader, id+"0"), body)
		wrong("another time", edit(TimestampHeader, strconv.FormatInt(at.Unix()+1, 10)), body)
		wrong("a time written otherwise", edit(TimestampHeader, "0"+h.Get(TimestampHeader)), body)
		wrong("another version", edit(SignatureHeader, strings.ReplaceAll(h.Get(SignatureHeader), "v1", "v2")), body)
		twice := h.Clone()
		twice.Add(IDHeader, id)
		wrong("two ids", twice, body)
		for _, name := range []string{IDHeader, TimestampHeader, SignatureHeader} {
			none := h.Clone()
			none.Del(name)
			wrong("no "+name, none, body)
		}
		// A point in an id could move between id and timestamp.
		moved := http.Header{}
		Sign(moved, "a.1", at, body, a)
		wrong("an id with a point", moved, body)
	})
}

func TestParseVerifier(t *testing.T) {
	for _, text := range []string{"", "whsec_", "whsec_AAAA", "whsec_" + strings.Repeat("AAAA", 30), "whpk_AAAA", "whpk_*", "whsec_*", "secret", "whsec_" + strings.Repeat("A", 42) + "B="} {
		if _, err := ParseVerifier(text); err == nil || text != "" && len(text) > 8 && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	secret := bytes.Repeat([]byte{7}, 32)
	h := http.Header{}
	Sign(h, "a", at, []byte("{}"), Key{Secret: secret})
	f.Add(h.Get(IDHeader), h.Get(TimestampHeader), h.Get(SignatureHeader), []byte("{}"))
	f.Add("", "-9223372036854775808", "v1, v1a,AAAA ,", []byte{})
	v, _ := ParseVerifier(SecretText(secret))
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		h := http.Header{IDHeader: {id}, TimestampHeader: {timestamp}, SignatureHeader: {signature}}
		if _, err := Verify(h, body, at, time.Minute, v); err != nil {
			return
		}
		again := http.Header{}
		seconds, _ := strconv.ParseInt(timestamp, 10, 64)
		Sign(again, id, time.Unix(seconds, 0), body, Key{Secret: secret})
		if !strings.Contains(signature, again.Get(SignatureHeader)) {
			t.Errorf("%q %q %q verifies", id, timestamp, signature)
		}
	})
}
