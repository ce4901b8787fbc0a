//go:build unix

package keys

import (
	"os"
	"syscall"
)

// flock waits for the exclusive lock on an open file or directory.
func flock(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			return err
		}
	}
}
