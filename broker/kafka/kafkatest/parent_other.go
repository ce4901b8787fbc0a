//go:build !linux

package kafkatest

import "os/exec"

// dieWithParent has no counterpart here; a killed test may leave Kafka running.
func dieWithParent(*exec.Cmd) {}
