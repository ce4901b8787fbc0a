//go:build unix && !linux

package kafka

import "golang.org/x/sys/unix"

// syncDisk asks for everything to be made durable.
func syncDisk(string) error {
	unix.Sync()
	return nil
}
