package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWebhookGuide runs the guide as its reader would: broker, endpoint and provider in
// processes of their own, up to a delivery that the endpoint took.
func TestWebhookGuide(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs a broker")
	}
	text, err := os.ReadFile("../../docs/guides/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	demo, err := filepath.Abs("../../deploy/demo")
	if err != nil {
		t.Fatal(err)
	}
	guide := strings.ReplaceAll(string(text), "-f deploy/demo", "-f "+demo)
	runGuide(t, guide, "127.0.0.1:8080", "127.0.0.1:8765", "127.0.0.1:8099")
}
