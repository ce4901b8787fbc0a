package providers

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
)

// scramMechanism logs in by SCRAM without channel binding (RFC 5802, with the
// hash functions of RFC 7677): the password itself never travels, and the
// server has to show that it knows it too.
type scramMechanism struct{ login SASL }

// errLogin is a login that trying again would not mend.
var errLogin = errors.New("login failed")

// Name is the mechanism's name in Kafka's handshake.
func (m scramMechanism) Name() string { return strings.ToUpper(m.login.Mechanism) }

// Start sends the first message.
func (m scramMechanism) Start(context.Context) (sasl.StateMachine, []byte, error) {
	return m.start(rand.Text())
}

func (m scramMechanism) start(nonce string) (sasl.StateMachine, []byte, error) {
	password, err := m.login.Password()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: password: %w", errLogin, err)
	}
	for _, s := range []string{m.login.Username, password} {
		for i := range len(s) {
			// Beyond ASCII, SASLprep (RFC 4013) would be needed for all to
			// agree on the bytes.
			if s[i] < 0x20 || s[i] > 0x7e {
				return nil, nil, fmt.Errorf("%w: user name and password must be printable ASCII", errLogin)
			}
		}
	}
	newHash, size := sha256.New, sha256.Size
	if m.login.Mechanism == "scram-sha-512" {
		newHash, size = sha512.New, sha512.Size
	}
	user := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(m.login.Username)
	first := "n=" + user + ",r=" + nonce
	return &scramSession{newHash: newHash, size: size, password: password, nonce: nonce, first: first}, []byte("n,," + first), nil
}

type scramSession struct {
	newHash         func() hash.Hash
	size            int
	password        string
	nonce           string
	first           string
	serverSignature []byte // set once the proof was sent
}

// Next answers the server's two messages.
func (s *scramSession) Next(_ context.Context, challenge []byte) (bool, []byte, error) {
	fields := map[byte]string{}
	for part := range strings.SplitSeq(string(challenge), ",") {
		if len(part) > 1 && part[1] == '=' {
			fields[part[0]] = part[2:]
		}
	}
	if fields['e'] != "" {
		return false, nil, fmt.Errorf("%w: the server says %q", errLogin, fields['e'])
	}
	if s.serverSignature != nil {
		v, err := base64.StdEncoding.DecodeString(fields['v'])
		if err != nil || !hmac.Equal(v, s.serverSignature) {
			return false, nil, fmt.Errorf("%w: the server could not show that it knows the password", errLogin)
		}
		return true, nil, nil
	}
	salt, err := base64.StdEncoding.DecodeString(fields['s'])
	rounds, rerr := strconv.Atoi(fields['i'])
	// Kafka asks for 4,096 to 16,384 rounds; a rogue server must be able to ask
	// neither for so few that the proof betrays the password nor for so many
	// that the client hangs.
	if err != nil || rerr != nil || len(salt) == 0 || rounds < 4096 || rounds > 1_000_000 ||
		!strings.HasPrefix(fields['r'], s.nonce) || len(fields['r']) == len(s.nonce) {
		return false, nil, fmt.Errorf("%w: the server's first message is not as RFC 5802 wants it", errLogin)
	}
	salted, err := pbkdf2.Key(s.newHash, s.password, salt, rounds, s.size)
	if err != nil {
		return false, nil, fmt.Errorf("%w: %w", errLogin, err)
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(s.newHash, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	clientKey := mac(salted, "Client Key")
	h := s.newHash()
	h.Write(clientKey)
	last := "c=biws,r=" + fields['r'] // biws is "n,," in base 64: no channel binding
	auth := s.first + "," + string(challenge) + "," + last
	proof := bytes.Clone(clientKey)
	for i, b := range mac(h.Sum(nil), auth) {
		proof[i] ^= b
	}
	s.serverSignature = mac(mac(salted, "Server Key"), auth)
	return false, []byte(last + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}
