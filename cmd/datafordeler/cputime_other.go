//go:build !unix

package main

import "time"

// processorTime is time by the clock, where nothing better is known.
func processorTime() time.Duration { return time.Since(started) }

var started = time.Now()
