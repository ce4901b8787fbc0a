// Package pgtest runs a real PostgreSQL for tests: a server of its own in a
// temporary directory, reached through a socket there, and on no port.
//
// The programs are found on the PATH, or where Debian puts them. PostgreSQL
// refuses to run as root; started by root it runs as the user postgres, or
// nobody. Where there is no PostgreSQL the test fails and says so;
// DATAFORDELER_WITHOUT_POSTGRES="why not" skips it instead, with that reason.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Without is the variable that lets tests be skipped where there is no
// PostgreSQL; its value is the reason, which is printed.
const Without = "DATAFORDELER_WITHOUT_POSTGRES"

// Server is a running PostgreSQL.
type Server struct {
	dir    string
	cmd    *exec.Cmd
	exited chan struct{}
	next   atomic.Int64
}

// programs is the directory of initdb and postgres.
func programs() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			return filepath.Dir(p), nil
		}
	}
	best, highest := "", 0
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	for _, p := range dirs {
		if v, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(p)))); err == nil && v > highest {
			best, highest = filepath.Dir(p), v
		}
	}
	if best == "" {
		return "", errors.New("PostgreSQL is not installed: run 'make tools', or install the Debian package postgresql")
	}
	return best, nil
}

// credential is whom the server runs as; nil is ourselves.
func credential() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

// Start starts a server. Settings are lines such as "fsync=off".
func Start(settings ...string) (_ *Server, err error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	who, err := credential()
	if err != nil {
		return nil, err
	}
	// A socket's path is 107 bytes at most.
	dir, err := os.MkdirTemp("/tmp", "pgtest-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, exited: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	attr := &syscall.SysProcAttr{Credential: who}
	dieWithParent(attr)
	if who != nil {
		if err := os.Chown(dir, int(who.Uid), int(who.Gid)); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(dir, "data")
	init := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "datafordeler", "--auth=trust", "--no-sync", "--no-instructions", "-E", "UTF8", "--locale=C")
	init.Dir, init.SysProcAttr = dir, attr
	if out, err := init.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	args := []string{"-D", data, "-k", dir, "-c", "listen_addresses="}
	for _, v := range settings {
		args = append(args, "-c", v)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = exec.Command(filepath.Join(bin, "postgres"), args...)
	s.cmd.Dir, s.cmd.SysProcAttr, s.cmd.Stdout, s.cmd.Stderr = dir, attr, log, log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.cmd.Wait()
		close(s.exited)
	}()
	if err := s.ready(); err != nil {
		out, _ := os.ReadFile(log.Name())
		s.cmd.Process.Kill()
		<-s.exited
		return nil, fmt.Errorf("postgres: %w\n%s", err, bytes.TrimSpace(out))
	}
	return s, nil
}

// ready waits until the server answers.
func (s *Server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		c, err := pgx.Connect(ctx, s.url(""))
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-s.exited:
			return errors.New("it ended by itself")
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) url(schema string) string {
	q := url.Values{"host": {s.dir}}
	if schema != "" {
		q.Set("search_path", schema)
	}
	return "postgres://datafordeler@/postgres?" + q.Encode()
}

// DSN is the URL of an empty schema of its own, which is yet to be made.
func (s *Server) DSN() string { return s.url("s" + strconv.FormatInt(s.next.Add(1), 10)) }

// Dir is where the server keeps everything.
func (s *Server) Dir() string { return s.dir }

// Stop ends the server and removes its data.
func (s *Server) Stop() error {
	s.cmd.Process.Signal(syscall.SIGINT) // a fast shutdown
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		s.cmd.Process.Kill()
		<-s.exited
	}
	return os.RemoveAll(s.dir)
}

var shared struct {
	sync.Mutex
	server *Server
	err    error
}

// Shared is one server for all tests of a package, which its TestMain must end by
// StopShared. It does not flush to the disk.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		if why := os.Getenv(Without); why != "" {
			shared.err = fmt.Errorf("%s (%s)", why, Without)
		} else {
			shared.server, shared.err = Start("fsync=off", "full_page_writes=off", "autovacuum=off")
		}
	}
	switch {
	case shared.err == nil:
	case os.Getenv(Without) != "":
		t.Skipf("NOT TESTED on PostgreSQL: %v", shared.err)
	default:
		t.Fatalf("no PostgreSQL to test on: %v (or set %s to the reason why not)", shared.err, Without)
	}
	return shared.server
}

// StopShared ends the shared server, if there is one.
func StopShared() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		return nil
	}
	err := shared.server.Stop()
	shared.server = nil
	return err
}
