package main

import "testing"

// TestWebhookGuide runs the guide as its reader would: broker, endpoint and provider in
// processes of their own, up to a delivery that the endpoint took.
func TestWebhookGuide(t *testing.T) { runDemoGuide(t, "webhooks") }
