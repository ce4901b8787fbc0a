package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"datafordeler/broker"
	"datafordeler/providers/internal/apitest"
)

// The program runs against a real broker's door, twice: the second time on the same
// register. What is rejected is set aside, and holds nothing back.
func TestAOrdningen(t *testing.T) {
	ds := apitest.Income()
	ds.Schemas[0].Document = json.RawMessage(`{"type":"object","required":["norskident","maaned","beloep"],"additionalProperties":false,
		"properties":{"norskident":{"type":"string"},"maaned":{"type":"string","pattern":"^[0-9]{4}-[0-9]{2}$"},"beloep":{"type":"number"}}}`)
	api := apitest.Start(t, ds)
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"access_token":%q,"expires_in":120}`, apitest.Token)
	}))
	defer issuer.Close()
	dir := t.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	report := func(who int, month, amount string) string {
		return fmt.Sprintf(`{"norskident":"159100%05d","maaned":%q,"beloep":%s}`+"\n", who, month, amount)
	}
	args := []string{"-broker", api.Server.URL, "-issuer", issuer.URL, "-client", "c", "-kid", "k", "-key", filepath.Join(dir, "key.pem"), "-db", filepath.Join(dir, "register.db")}
	for _, c := range []struct{ in, want string }{
		{report(1, "2026-10", "41000") + report(2, "2026-10", "39000") + report(1, "october", "1"), "2 events published, 1 set aside\nset aside: rejected: schema_violation at /maaned"},
		{report(1, "2026-10", "42000") + report(2, "2026-10", "null"), "2 events published, 1 set aside"},
	} {
		var out, logs bytes.Buffer
		if err := run(t.Context(), args, strings.NewReader(c.in), &out, &logs); err != nil {
			t.Fatal(err, logs.String())
		}
		if !strings.HasPrefix(out.String(), c.want) {
			t.Errorf("printed %q, want %q", out.String(), c.want)
		}
		if strings.Contains(out.String()+logs.String(), "1591000000") {
			t.Error("a number was printed")
		}
	}
	taken, _, rejected := api.Taken(t)
	kinds := map[broker.RecordKind]int{}
	for _, r := range taken {
		kinds[r.Kind]++
	}
	if len(rejected) > 0 || kinds[broker.Original] != 2 || kinds[broker.Correction] != 1 || kinds[broker.Retraction] != 1 {
		t.Errorf("%v, rejected %v", taken, rejected)
	}
	if err := run(t.Context(), args, strings.NewReader(report(9, "2026-10", "null")), new(bytes.Buffer), new(bytes.Buffer)); err == nil {
		t.Error("what was never reported was taken back")
	}
}
