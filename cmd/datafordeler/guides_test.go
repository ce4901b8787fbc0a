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

// TestGuides runs every guide as its reader would: it saves the files, and runs every
// command, each of which has to print what the guide says. A guide that has no command is
// a fault too: then nothing would tell that it is out of date.
func TestGuides(t *testing.T) {
	guides, err := filepath.Glob("../../docs/guides/*.md")
	if err != nil || len(guides) == 0 {
		t.Fatalf("guides %v, %v", guides, err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	// These take a party from nothing to its first record, and that is to be short.
	most := map[string]int{"publish-records": 10, "receive-deliveries": 10, "look-up": 10}
	for _, path := range guides {
		name := strings.TrimSuffix(filepath.Base(path), ".md")
		limit, short := most[name]
		delete(most, name)
		if !bytes.Contains(readme, []byte("docs/guides/"+name+".md")) {
			t.Errorf("nobody finds %s: the README does not name it", name)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			switch n := runGuide(t, string(text)); {
			case n == 0:
				t.Error("no command of it is run: write them in a console block")
			case short && n > limit:
				t.Errorf("%d commands, of at most %d", n, limit)
			}
		})
	}
	if len(most) > 0 {
		t.Errorf("no guide of the name: %v", most)
	}
}

var (
	guideBlock = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")
	guideFile  = regexp.MustCompile(`^(?:#|//) ([\w.-]+)\n`)
	guidePort  = regexp.MustCompile(`\b127\.0\.0\.1:[1-9]\d*\b`)
)

// runGuide runs a guide in a directory of its own, where the folders deploy and policy are
// those of the repository, and counts the commands. Addresses on loopback are replaced by
// free ones. A code block whose first line is a comment with a file's name is that file. A
// console block has commands after "$ ", and below each lines that it prints: whole and in
// this order, other lines may come between, and … stands for anything. One with none below
// it prints nothing. A command that ends with & goes on until the guide ends.
func runGuide(t *testing.T, text string) (commands int) {
	t.Helper()
	dir := t.TempDir()
	for _, folder := range []string{"deploy", "policy"} {
		from, err := filepath.Abs("../../" + folder)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(from, filepath.Join(dir, folder)); err != nil {
			t.Fatal(err)
		}
	}
	text = guidePort.ReplaceAllStringFunc(text, freeAddresses(t))
	for _, block := range guideBlock.FindAllStringSubmatch(text, -1) {
		body := block[2]
		if name := guideFile.FindStringSubmatch(body); name != nil && block[1] != "console" {
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

// freeAddresses gives each address the same free one each time.
func freeAddresses(t *testing.T) func(string) string {
	t.Helper()
	free := map[string]string{}
	return func(address string) string {
		if free[address] == "" {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			free[address] = l.Addr().String()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		return free[address]
	}
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
			t.Errorf("%s\ndoes not print %q but\n%s", command, missing, out)
		}
		if prints == "" && out.String() != "" {
			t.Errorf("%s\nprints what the guide does not say:\n%s", command, out)
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

// missing is the first line of prints that does not follow those before it, and "" where
// all do.
func (w *watched) missing(prints string) string {
	have := strings.Split(w.String(), "\n")
	for line := range strings.SplitSeq(prints, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		form := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(line)), "…", ".*") + "$")
		for len(have) > 0 && !form.MatchString(strings.TrimSpace(have[0])) {
			have = have[1:]
		}
		if len(have) == 0 {
			return line
		}
		have = have[1:]
	}
	return ""
}
