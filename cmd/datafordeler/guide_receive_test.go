package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReceiveGuide runs the guide as its reader would, up to the first delivery.
func TestReceiveGuide(t *testing.T) {
	if n := runDemoGuide(t, "receive-deliveries"); n < 6 || n > 10 {
		t.Errorf("%d commands", n)
	}
}

// TestLookUpGuide runs the guide as its reader would: refused without a case, found with one.
func TestLookUpGuide(t *testing.T) {
	if n := runDemoGuide(t, "look-up"); n > 10 {
		t.Errorf("%d commands", n)
	}
}

// runDemoGuide runs a guide that needs the folder of the demonstration, and says how many
// commands it has.
func runDemoGuide(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile("../../docs/guides/" + name + ".md")
	if err != nil {
		t.Fatal(err)
	}
	demo, err := filepath.Abs("../../deploy/demo")
	if err != nil {
		t.Fatal(err)
	}
	guide := strings.ReplaceAll(string(text), "-f deploy/demo", "-f "+demo)
	return runGuide(t, guide, "127.0.0.1:8080", "127.0.0.1:8765", "127.0.0.1:8099")
}
