package keys

import (
	"bytes"
	"fmt"
	"testing"

	"datafordeler/broker"
)

// No two uses, mailboxes or generations share a secret, whatever they are called.
func TestWebhookSecrets(t *testing.T) {
	r := NewTest(1)
	seen := map[string]string{}
	for _, use := range []string{"", "v1", "v1a"} {
		for _, m := range []broker.MailboxID{"", "a", "ab", "b", "v1", "1"} {
			for g := range 300 {
				s := r.Webhook(use, m, g)
				name := fmt.Sprintf("%q %q %d", use, m, g)
				if len(s) != 32 || seen[string(s)] != "" {
					t.Fatalf("%s has the secret of %s", name, seen[string(s)])
				}
				seen[string(s)] = name
			}
		}
	}
	if !bytes.Equal(r.Webhook("v1", "a", 1), NewTest(1).Webhook("v1", "a", 1)) || bytes.Equal(r.Webhook("v1", "a", 1), NewTest(2).Webhook("v1", "a", 1)) {
		t.Error("a secret follows from the keystore")
	}
}
