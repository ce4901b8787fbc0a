package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// Kind says what a key signs. Its number is the signature type of the signed
// note format (https://c2sp.org/signed-note): it stands in the key's text and in
// its id, so a key of one kind never passes for one of the other.
type Kind byte

const (
	// LogKey signs a log's checkpoints: Ed25519 over the note's text.
	LogKey Kind = 0x01
	// WitnessKey cosigns checkpoints of others: Ed25519 over the time and the
	// note's text (https://c2sp.org/tlog-cosignature, cosignature/v1).
	WitnessKey Kind = 0x04
)

// cosignatureSize is the timestamp and the Ed25519 signature, in bytes.
const cosignatureSize = 8 + ed25519.SignatureSize

// key is the public half of a key with its name, and a note.Verifier.
type key struct {
	name   string
	hash   uint32
	kind   Kind
	public ed25519.PublicKey
}

func newKey(name string, kind Kind, public ed25519.PublicKey) *key {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{'\n', byte(kind)})
	h.Write(public)
	return &key{name, binary.BigEndian.Uint32(h.Sum(nil)), kind, public}
}

func (k *key) Name() string    { return k.name }
func (k *key) KeyHash() uint32 { return k.hash }

// Verify reports whether sig is k's over a note's text.
func (k *key) Verify(text, sig []byte) bool {
	if k.kind == LogKey {
		return len(sig) == ed25519.SignatureSize && ed25519.Verify(k.public, text, sig)
	}
	if len(sig) != cosignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	return at <= math.MaxInt64 && ed25519.Verify(k.public, cosigned(int64(at), text), sig[8:])
}

// vkey is the key's text, for others to verify with.
func (k *key) vkey() string { return keyText(k, k.public) }

func keyText(k *key, material []byte) string {
	return fmt.Sprintf("%s+%08x+%s", k.name, k.hash, base64.StdEncoding.EncodeToString(append([]byte{byte(k.kind)}, material...)))
}

// cosigned is the message that a cosignature signs. It names no cosigner, which
// is why one public key may serve one cosigner only.
func cosigned(seconds int64, text []byte) []byte {
	return fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", seconds, text)
}

// CheckName says what keeps name from naming a key: it may be neither empty nor
// hold spaces or plus signs. It should be a URL without scheme, such as
// witness.digdir.example.
func CheckName(name string) error {
	if name == "" || !utf8.ValidString(name) || strings.ContainsRune(name, '+') || strings.ContainsFunc(name, unicode.IsSpace) || strings.ContainsFunc(name, control) {
		return fmt.Errorf("%q cannot name a key: a name is text without spaces and plus signs, such as witness.digdir.example", name)
	}
	return nil
}

// GenerateKey makes a key pair: skey is the secret half, for [NewCosigner] or
// note.NewSigner; vkey the public one, for [ParseVerifier].
func GenerateKey(name string, kind Kind) (skey, vkey string, err error) {
	if err := CheckName(name); err != nil {
		return "", "", err
	}
	if kind != LogKey && kind != WitnessKey {
		return "", "", fmt.Errorf("key %s: no kind of key has number 0x%02x", name, byte(kind))
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return "", "", fmt.Errorf("key %s: %w", name, err)
	}
	k := newKey(name, kind, public)
	return "PRIVATE+KEY+" + keyText(k, private.Seed()), k.vkey(), nil
}

// parseKey takes a key's text apart: name, id, kind and 32 bytes of material.
func parseKey(text string) (name string, hash uint32, kind Kind, material []byte, err error) {
	name, rest, _ := strings.Cut(text, "+")
	hash16, key64, found := strings.Cut(rest, "+")
	if !found || len(hash16) != 8 {
		return "", 0, 0, nil, errors.New("not of the form NAME+ID+BASE64")
	}
	if err := CheckName(name); err != nil {
		return "", 0, 0, nil, err
	}
	id, err := strconv.ParseUint(hash16, 16, 32)
	if err != nil {
		return "", 0, 0, nil, fmt.Errorf("key %s: the id is not eight hexadecimal digits", name)
	}
	b, err := strict64.DecodeString(key64)
	if err != nil || len(b) == 0 || base64.StdEncoding.EncodeToString(b) != key64 { // the decoder passes over line ends
		return "", 0, 0, nil, fmt.Errorf("key %s: the key is not base64", name)
	}
	kind, material = Kind(b[0]), b[1:]
	if kind != LogKey && kind != WitnessKey {
		return "", 0, 0, nil, fmt.Errorf("key %s: signature type 0x%02x is not supported; Ed25519 keys of a log (0x01) or a witness (0x04) are", name, byte(kind))
	}
	if len(material) != ed25519.PublicKeySize { // a seed is as long
		return "", 0, 0, nil, fmt.Errorf("key %s: %d bytes of key where Ed25519 has %d", name, len(material), ed25519.PublicKeySize)
	}
	return name, uint32(id), kind, material, nil
}

// ParseVerifier reads a public key's text (a vkey), of a log or of a witness.
func ParseVerifier(vkey string) (note.Verifier, error) {
	if strings.HasPrefix(vkey, "PRIVATE+KEY+") {
		return nil, errors.New("this is a secret key; a verifier needs the public one (vkey)") // and it is not shown
	}
	name, hash, kind, material, err := parseKey(vkey)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	k := newKey(name, kind, material)
	if k.hash != hash {
		return nil, fmt.Errorf("public key %s: the id %08x is not that of this name, kind and key, which is %08x", name, hash, k.hash)
	}
	return k, nil
}

// KindOf tells a log's key from a witness's. Zero: not a key of this package.
func KindOf(v note.Verifier) Kind {
	if k, ok := v.(*key); ok {
		return k.kind
	}
	return 0
}

// VKey is the public text of a secret key of either kind.
func VKey(skey string) (string, error) {
	k, _, err := parseSecret(skey)
	if err != nil {
		return "", err
	}
	return k.vkey(), nil
}

// parseSecret reads a secret key's text. Its errors never repeat any of it but
// the name.
func parseSecret(skey string) (*key, ed25519.PrivateKey, error) {
	text, ok := strings.CutPrefix(skey, "PRIVATE+KEY+")
	if !ok {
		return nil, nil, errors.New("secret key: it does not begin with PRIVATE+KEY+")
	}
	name, hash, kind, seed, err := parseKey(text)
	if err != nil {
		return nil, nil, fmt.Errorf("secret key: %w", err)
	}
	private := ed25519.NewKeyFromSeed(seed)
	k := newKey(name, kind, private.Public().(ed25519.PublicKey))
	if k.hash != hash {
		return nil, nil, fmt.Errorf("secret key %s: the id %08x is not that of this name, kind and key", name, hash)
	}
	return k, private, nil
}

// Cosigner signs checkpoints of others with the time (a note.Signer). It checks
// no consistency: that is the witness's work, before it signs.
type Cosigner struct {
	key     *key
	private ed25519.PrivateKey
	now     func() time.Time
}

// NewCosigner reads a witness's secret key. now is the clock; the cosignature
// has its whole seconds.
func NewCosigner(skey string, now func() time.Time) (*Cosigner, error) {
	k, private, err := parseSecret(skey)
	if err != nil {
		return nil, err
	}
	if k.kind != WitnessKey {
		return nil, fmt.Errorf("secret key %s: this is a log's key (0x%02x); a witness has one of its own kind (0x%02x)", k.name, byte(k.kind), byte(WitnessKey))
	}
	return &Cosigner{k, private, now}, nil
}

func (c *Cosigner) Name() string    { return c.key.name }
func (c *Cosigner) KeyHash() uint32 { return c.key.hash }

// Verifier is the public half.
func (c *Cosigner) Verifier() note.Verifier { return c.key }

// VKey is the public half's text.
func (c *Cosigner) VKey() string { return c.key.vkey() }

// At is c with its clock standing at t.
func (c *Cosigner) At(t time.Time) *Cosigner {
	return &Cosigner{c.key, c.private, func() time.Time { return t }}
}

// Sign cosigns the text of a checkpoint; any other text is refused.
func (c *Cosigner) Sign(text []byte) ([]byte, error) {
	if _, err := ParseCheckpoint(string(text)); err != nil {
		return nil, fmt.Errorf("cosign as %s: %w", c.key.name, err)
	}
	at := c.now().Unix()
	if at <= 0 {
		return nil, fmt.Errorf("cosign as %s: the clock shows a time before 1970", c.key.name)
	}
	return append(binary.BigEndian.AppendUint64(nil, uint64(at)), ed25519.Sign(c.private, cosigned(at, text))...), nil
}

// CosignatureTime is the time that a cosignature states. It is worth as much as
// the signature: verify that first.
func CosignatureTime(s note.Signature) (time.Time, error) {
	b, err := base64.StdEncoding.DecodeString(s.Base64)
	if err != nil || len(b) != 4+cosignatureSize {
		return time.Time{}, fmt.Errorf("signature of %s: not a cosignature of type 0x%02x", s.Name, byte(WitnessKey))
	}
	at := binary.BigEndian.Uint64(b[4:])
	if at > math.MaxInt64 {
		return time.Time{}, fmt.Errorf("cosignature of %s: the time %d is beyond 2^63-1", s.Name, at)
	}
	return time.Unix(int64(at), 0).UTC(), nil
}
