package kafka

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncDisk makes everything under dir's file system durable.
func syncDisk(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
