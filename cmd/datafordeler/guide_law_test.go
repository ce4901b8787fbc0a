package main

import "testing"

// TestLawGuide runs the guide as its reader would.
func TestLawGuide(t *testing.T) {
	if n := runDemoGuide(t, "check-the-law"); n > 10 {
		t.Errorf("%d commands", n)
	}
}
