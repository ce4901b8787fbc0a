package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme runs the README's commands on a demonstration's data, as its reader is told
// to: all but those that need a broker's address, and those that go on until they are
// ended, which the guides run.
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
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
	sh := func(command string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s\n%v\n%s", command, err, out)
		}
		return string(out)
	}
	sh("datafordeler demo --once --people 300 --data data")
	_, line, _ := strings.Cut(blockOf(t, "receive-deliveries.md", "json", 0), "\n")
	if err := os.WriteFile(filepath.Join(dir, "records.ndjson"), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`"id":"([0-9a-f]{32})"`).FindStringSubmatch(sh("datafordeler decisions --data data --json"))
	if id == nil {
		t.Fatal("no decision")
	}
	n := 0
	for _, block := range regexp.MustCompile("(?ms)^```\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(block[1]) {
			switch {
			case !strings.HasPrefix(line, "datafordeler "), strings.Contains(line, "$BROKER"), strings.HasPrefix(line, "datafordeler serve "):
				continue
			}
			n++
			sh(strings.ReplaceAll(line, "--decision ID", "--decision "+id[1]))
		}
	}
	if n < 12 {
		t.Errorf("%d commands of the README were run", n)
	}
}
