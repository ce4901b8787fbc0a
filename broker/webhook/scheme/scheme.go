// Package scheme signs what webhooks send, and verifies it, by the Standard Webhooks
// specification (standardwebhooks.com, 1.0): headers webhook-id, webhook-timestamp
// and webhook-signature. What is signed is id.timestamp.body. A signature is v1, an
// HMAC with SHA-256 under a secret that both know, or v1a, Ed25519 (RFC 8032), which
// the receiver can verify and not make. Broker and SDK share it; it is standard
// library only.
package scheme

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers.
const (
	IDHeader        = "Webhook-Id"
	TimestampHeader = "Webhook-Timestamp"
	SignatureHeader = "Webhook-Signature"
)

// Prefixes of keys as text.
const (
	secretPrefix = "whsec_"
	publicPrefix = "whpk_"
)

// Bounds of a secret, in bytes.
const (
	secretLeast = 24
	secretMost  = 64
)

// ChallengeType is the type of what is sent to prove an endpoint: a JSON object with
// type and challenge, signed as a delivery is. The endpoint answers 200 with the same
// challenge: {"challenge":"…"}.
const ChallengeType = "datafordeler.challenge"

// Challenge is the body of a challenge, and of its answer, whose type is not looked at.
type Challenge struct {
	Type      string `json:"type,omitempty"`
	Challenge string `json:"challenge"`
}

// Key signs with one generation of a mailbox's keys.
type Key struct {
	Secret  []byte             // of v1
	Private ed25519.PrivateKey // of v1a; nil: none
}

// SecretText is a secret as its owner gets it.
func SecretText(secret []byte) string {
	return secretPrefix + base64.StdEncoding.EncodeToString(secret)
}

// PublicText is a public key as its owner gets it.
func PublicText(key ed25519.PublicKey) string {
	return publicPrefix + base64.StdEncoding.EncodeToString(key)
}

// Verifier is what a receiver holds: a secret, or a public key.
type Verifier struct {
	secret []byte
	public ed25519.PublicKey
}

// ParseVerifier reads a secret (whsec_…) or a public key (whpk_…). Its errors do not
// repeat it.
func ParseVerifier(text string) (Verifier, error) {
	if rest, ok := strings.CutPrefix(text, publicPrefix); ok {
		b, err := base64.StdEncoding.Strict().DecodeString(rest)
		if err != nil || len(b) != ed25519.PublicKeySize {
			return Verifier{}, errors.New("the public key is damaged: whpk_ is followed by 32 bytes in base64")
		}
		return Verifier{public: b}, nil
	}
	rest, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return Verifier{}, errors.New("this is no webhook secret: it begins with whsec_, or a public key with whpk_")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(rest)
	if err != nil || len(b) < secretLeast || len(b) > secretMost {
		return Verifier{}, fmt.Errorf("the secret is damaged: whsec_ is followed by %d to %d bytes in base64", secretLeast, secretMost)
	}
	return Verifier{secret: b}, nil
}

// content is what is signed.
func content(id, timestamp string, body []byte) []byte {
	b := make([]byte, 0, len(id)+len(timestamp)+len(body)+2)
	b = append(append(b, id...), '.')
	b = append(append(b, timestamp...), '.')
	return append(b, body...)
}

// Sign sets the three headers. Each key adds its signatures: during a rotation the
// new one stands first.
func Sign(h http.Header, id string, at time.Time, body []byte, keys ...Key) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	signed := content(id, timestamp, body)
	var all []string
	for _, k := range keys {
		mac := hmac.New(sha256.New, k.Secret)
		mac.Write(signed)
		all = append(all, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		if k.Private != nil {
			all = append(all, "v1a,"+base64.StdEncoding.EncodeToString(ed25519.Sign(k.Private, signed)))
		}
	}
	h.Set(IDHeader, id)
	h.Set(TimestampHeader, timestamp)
	h.Set(SignatureHeader, strings.Join(all, " "))
}

// What is wrong with a message that was not sent by who knows the key, or not now.
var (
	ErrHeaders   = errors.New("webhook-id, webhook-timestamp and webhook-signature must each stand there once")
	ErrTimestamp = errors.New("webhook-timestamp is further from this clock than is allowed: the message is old, or sent again by somebody, or a clock is wrong")
	ErrSignature = errors.New("no signature in webhook-signature is by this key over this message")
)

// mostSignatures bounds what is looked at in one header.
const mostSignatures = 16

// Verify says who sent the message: nil where one signature is by one of the keys and
// the timestamp is no further than tolerance from now. It takes as long wherever the
// signatures differ.
func Verify(h http.Header, body []byte, now time.Time, tolerance time.Duration, keys ...Verifier) (id string, err error) {
	for _, name := range [...]string{IDHeader, TimestampHeader, SignatureHeader} {
		if v := h.Values(name); len(v) != 1 || v[0] == "" {
			return "", ErrHeaders
		}
	}
	id, timestamp := h.Get(IDHeader), h.Get(TimestampHeader)
	// The id is not to hold what would make two messages one content.
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || strconv.FormatInt(seconds, 10) != timestamp || strings.Contains(id, ".") {
		return "", ErrHeaders
	}
	const century = 100 * 365 * 24 * 3600
	if d := seconds - now.Unix(); d > century || d < -century || time.Duration(max(d, -d))*time.Second > tolerance {
		return "", ErrTimestamp
	}
	signed := content(id, timestamp, body)
	good := false
	n := 0
	for part := range strings.FieldsSeq(h.Get(SignatureHeader)) {
		if n++; n > mostSignatures {
			break
		}
		version, text, _ := strings.Cut(part, ",")
		signature, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			continue
		}
		for _, k := range keys {
			switch {
			case version == "v1" && k.secret != nil:
				mac := hmac.New(sha256.New, k.secret)
				mac.Write(signed)
				good = hmac.Equal(mac.Sum(nil), signature) || good
			case version == "v1a" && k.public != nil:
				good = ed25519.Verify(k.public, signed, signature) || good
			}
		}
	}
	if !good {
		return "", ErrSignature
	}
	return id, nil
}
