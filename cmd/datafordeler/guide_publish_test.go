package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestPublishGuide runs the guide as its reader would: it saves the files, and runs
// every command, each of which has to print what the guide says.
func TestPublishGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/guides/publish-records.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := runGuide(t, string(text), "127.0.0.1:8080", "127.0.0.1:8765")
	if commands < 6 || commands > 10 {
		t.Errorf("%d commands", commands)
	}
}

var guideBlock = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// runGuide runs a guide in a directory of its own, its addresses replaced by free
// ones, and counts the commands. A code block whose first line is a comment with a
// file's name is that file. A console block has commands after "$ ", and below each
// lines that it prints, where … stands for anything. A command that ends with & goes
// on until the guide ends.
func runGuide(t *testing.T, text string, addresses ...string) (commands int) {
	t.Helper()
	dir := t.TempDir()
	for _, a := range addresses {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(text, a, l.Addr().String())
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	named := regexp.MustCompile(`^(?:#|//) ([\w.-]+)\n`)
	for _, block := range guideBlock.FindAllStringSubmatch(text, -1) {
		body := block[2]
		if name := named.FindStringSubmatch(body); name != nil && block[1] != "console" {
			if err := os.WriteFile(filepath.Join(dir, name[1]), []byte(strings.TrimPrefix(body, name[0])), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if block[1] != "console" {
			continue
		}
		for part := range strings.SplitSeq(strings.TrimPrefix(body, "$ "), "\n$ ") {
			commands++
			command, prints, _ := strings.Cut(strings.TrimRight(part, "\n"), "\n")
			runGuideCommand(t, dir, command, prints)
		}
	}
	return commands
}

func runGuideCommand(t *testing.T, dir, command, prints string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	command, background := strings.CutSuffix(command, " &")
	if background {
		command = "exec " + command
	}
	out := &watched{changed: make(chan struct{}, 1)}
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if !background {
		defer cancel()
		if err := <-ended; err != nil {
			t.Fatalf("%s\n%v\n%s", command, err, out)
		}
		if missing := out.missing(prints); missing != "" {
			t.Fatalf("%s\ndoes not print %q but\n%s", command, missing, out)
		}
		return
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			t.Errorf("%s\n%v\n%s", command, err, out)
		}
		cancel()
	})
	for out.missing(prints) != "" {
		select {
		case <-out.changed:
		case err := <-ended:
			ended <- err
			t.Fatalf("%s\nended: %v\n%s", command, err, out)
		case <-ctx.Done():
			t.Fatalf("%s\ndoes not print %q but\n%s", command, out.missing(prints), out)
		}
	}
}

// watched is what a command prints, for whoever waits for it.
type watched struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(b)
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// missing is the first line that was not printed.
func (w *watched) missing(prints string) string {
	have := w.String()
	for line := range strings.SplitSeq(prints, "\n") {
		form := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(line)), "…", ".*")
		if line != "" && !regexp.MustCompile(form).MatchString(have) {
			return line
		}
	}
	return ""
}
