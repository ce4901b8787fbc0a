package kafkatest

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

const diesWithParent = true

func syscallKillSelf() error { return syscall.Kill(os.Getpid(), syscall.SIGKILL) }

// running reports whether the process is there and is Java; a zombie or another
// process that got its number is not.
func running(pid int) bool {
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(cmdline, []byte("kafka.Kafka"))
}
