//go:build unix

package kafka

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// takeLock takes the lock file at path and writes this process's pid in it. It
// gives nil and no error where another process holds it. The kernel frees the
// lock when the process ends, however it ends.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w; name one that this user can write to", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("lock %s: %w; the file system must support flock", path, err)
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err == nil {
			return f, nil
		}
		f.Close()
		return nil, fmt.Errorf("lock file: %w", err)
	}
	f.Close()
	return nil, fmt.Errorf("lock file %s: cannot be written", path)
}

// diskFree gives the bytes that this user may still write under dir.
func diskFree(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil
}
