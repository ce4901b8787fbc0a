package torture_test

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel end an instance when the test does, however it
// does: a test that runs out of time leaves no broker behind.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
