package main

import (
	"os"
	"testing"
)

// TestAgreeGuide runs the guide as its reader would.
func TestAgreeGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/guides/agree-by-steps.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := runGuide(t, string(text)); n < 20 {
		t.Errorf("%d commands", n)
	}
}
