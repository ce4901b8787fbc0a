package witness

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrInUse is that another process holds the state.
var ErrInUse = errors.New("another process holds this witness's state")

// File is a Store in a file, with a lock file beside it. The kernel frees the
// lock when the process ends, however it ends.
type File struct {
	path string
	disk disk
	lock *os.File
}

// CreateFile makes the state of a witness that has cosigned nothing. It never
// writes over a file that stands.
func CreateFile(path, vkey string) error {
	b, err := NewState(vkey)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("witness state %s: %w", path, fs.ErrExist)
	}
	f, err := lockFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := os.Lstat(path); err == nil { // another process was first
		return fmt.Errorf("witness state %s: %w", path, fs.ErrExist)
	}
	return f.Save(b)
}

// OpenFile takes the lock of a state that exists; [ErrInUse] when another
// process has it. Close gives it back.
func OpenFile(path string) (*File, error) {
	real, err := filepath.EvalSymlinks(path) // two names for one file, one lock
	if err != nil {
		return nil, fmt.Errorf("witness state: %w", err)
	}
	return lockFile(real)
}

func lockFile(path string) (*File, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("witness state: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", path, ErrInUse)
		}
		return nil, fmt.Errorf("lock %s: %w; the file system must support flock", lock.Name(), err)
	}
	return &File{path: path, disk: osDisk{}, lock: lock}, nil
}

// Close gives the lock back. Nothing may be saved afterwards.
func (f *File) Close() error { return f.lock.Close() }

// String is the path.
func (f *File) String() string { return f.path }

// Load reads the state.
func (f *File) Load() ([]byte, error) { return f.disk.read(f.path) }

// Save replaces the state.
func (f *File) Save(b []byte) error { return f.replace(f.path, b) }

// Evidence writes a file beside the state; one that stands is left as it is.
func (f *File) Evidence(name string, b []byte) error {
	path := f.path + "." + name
	if _, err := f.disk.read(path); err == nil {
		return nil
	}
	return f.replace(path, b)
}

// replace makes b durable under a temporary name, then gives it its name, then
// makes that durable. A crash before the rename leaves the old file, one after it
// the old or the new; only after the last step it is the new for certain.
func (f *File) replace(path string, b []byte) error {
	temporary := path + ".new" // one: the lock keeps others away
	if err := f.disk.write(temporary, b); err != nil {
		return err
	}
	if err := f.disk.sync(temporary); err != nil {
		return err
	}
	if err := f.disk.rename(temporary, path); err != nil {
		return err
	}
	return f.disk.sync(filepath.Dir(path))
}

// disk is the file system, so that a test can take the power away at any call.
type disk interface {
	read(path string) ([]byte, error)
	// write makes or replaces a file's content, which a crash may lose.
	write(path string, b []byte) error
	// sync makes a file's content, or a directory's names, durable.
	sync(path string) error
	rename(from, to string) error
}

type osDisk struct{}

// maxState bounds what is read: some 50,000 logs.
const maxState = 64 << 20

func (osDisk) read(path string) ([]byte, error) {
	h, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	b, err := io.ReadAll(io.LimitReader(h, maxState+1))
	if err == nil && len(b) > maxState {
		err = fmt.Errorf("%s has more than %d bytes", path, maxState)
	}
	return b, err
}

func (osDisk) write(path string, b []byte) error { return os.WriteFile(path, b, 0o600) }

func (osDisk) sync(path string) error {
	h, err := os.Open(path)
	if err != nil {
		return err
	}
	err = h.Sync() // what was written by another handle too (fsync, POSIX.1-2024)
	return errors.Join(err, h.Close())
}

func (osDisk) rename(from, to string) error { return os.Rename(from, to) }
