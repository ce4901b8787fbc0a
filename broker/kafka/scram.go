package kafka

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// scramRounds is the least that RFC 7677 allows. A secret is 130 random bits, which
// no number of rounds makes harder to guess.
const scramRounds = 4096

// NewCredential draws the name of a login for an organisation, as the registry
// wants it, and its secret.
func NewCredential(organisation string) (name, secret string) {
	return "df-" + organisation + "-" + strings.ToLower(rand.Text()[:16]), rand.Text()
}

// CredentialName is the name of the login that one order makes, however often and on
// whichever instance the order comes: once is of who orders and their key.
func CredentialName(organisation string, once [32]byte) string {
	// 80 bits of it: two orders of one organisation that meet are not to be feared.
	return "df-" + organisation + "-" + strings.ToLower(base32.StdEncoding.EncodeToString(once[:10]))
}

// SetSecret gives a credential's user its secret. What Kafka is sent and keeps is
// the secret salted and hashed (RFC 5802), from which nobody can log in elsewhere;
// but who reads it on the way can pass for the user, so the broker's own connection
// wants TLS.
func (a *AccessLists) SetSecret(ctx context.Context, credential, secret string) error {
	user := a.topics.User(credential)
	rs, err := a.adm.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: user, Mechanism: kadm.ScramSha512, Iterations: scramRounds, Password: secret}})
	if err == nil {
		err = rs.Error()
	}
	if err != nil {
		return fmt.Errorf("giving %s a secret: %w", user, explainAccess(err))
	}
	return nil
}

// forget takes users' secrets. One that has none is no error.
func (a *AccessLists) forget(ctx context.Context, users []string) error {
	if len(users) == 0 {
		return nil
	}
	del := make([]kadm.DeleteSCRAM, len(users))
	for i, u := range users {
		del[i] = kadm.DeleteSCRAM{User: u, Mechanism: kadm.ScramSha512}
	}
	rs, err := a.adm.AlterUserSCRAMs(ctx, del, nil)
	if err != nil {
		return fmt.Errorf("removing logins: %w", explainAccess(err))
	}
	for _, r := range rs.Sorted() {
		if r.Err != nil && !errors.Is(r.Err, kerr.ResourceNotFound) {
			return fmt.Errorf("removing the login of %s: %w", r.User, explainAccess(r.Err))
		}
	}
	return nil
}

// users are those of this broker's that have a secret.
func (a *AccessLists) users(ctx context.Context) ([]string, error) {
	all, err := a.adm.DescribeUserSCRAMs(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing logins: %w", explainAccess(err))
	}
	var out []string
	for _, u := range all.Sorted() {
		if u.Err != nil {
			return nil, fmt.Errorf("listing logins: %w", explainAccess(u.Err))
		}
		for _, c := range u.CredInfos {
			if _, ours := a.topics.Credential(u.User); ours && c.Mechanism == kadm.ScramSha512 {
				out = append(out, u.User)
			}
		}
	}
	return out, nil
}
