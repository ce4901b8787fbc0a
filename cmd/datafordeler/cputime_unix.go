//go:build unix

package main

import (
	"syscall"
	"time"
)

// processorTime is what this process has used of the processors: other processes
// do not lengthen it as they do the time by the clock.
func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return time.Since(started)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var started = time.Now()
