package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLawGuide runs the guide as its reader would.
func TestLawGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/guides/check-the-law.md")
	if err != nil {
		t.Fatal(err)
	}
	demo, err := filepath.Abs("../../deploy/demo")
	if err != nil {
		t.Fatal(err)
	}
	if n := runGuide(t, strings.ReplaceAll(string(text), "-f deploy/demo", "-f "+demo)); n > 10 {
		t.Errorf("%d commands", n)
	}
}
