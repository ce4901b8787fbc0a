package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// called is what a command answers: its exit code, and what it prints.
func called(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), stdio{strings.NewReader(""), &o, &e}, args)
	return code, o.String(), e.String()
}

// TestCommandsHelp: every command says how it is called and gives examples, of itself, in
// lines that a terminal shows, and stands in the list of all.
func TestCommandsHelp(t *testing.T) {
	code, all, _ := called(t, "help")
	if again, _, _ := called(t, "help", "help"); code != exitOK || again != exitOK {
		t.Errorf("help: exit %d and %d", code, again)
	}
	column := 0
	for _, c := range commands() {
		line := regexp.MustCompile(`(?m)^  ` + c.name + ` +` + regexp.QuoteMeta(c.summary) + `$`).FindString(all)
		if line == "" || c.summary == "" || strings.HasSuffix(c.summary, ".") {
			t.Errorf("%s: its summary is not in the list, or ends with a point: %q", c.name, c.summary)
		}
		if at := strings.Index(line, c.summary); column != 0 && at != column {
			t.Errorf("%s: its summary begins at %d, others at %d", c.name, at, column)
		} else {
			column = at
		}
		for _, ask := range [][]string{{c.name, "--help"}, {c.name, "-h"}, {"help", c.name}} {
			code, out, errs := called(t, ask...)
			if code != exitOK || out != c.help || errs != "" {
				t.Errorf("%v: exit %d, %q", ask, code, errs)
			}
		}
		if !strings.HasPrefix(c.help, "Usage: datafordeler "+c.name) || !strings.HasSuffix(c.help, "\n") {
			t.Errorf("%s: its help does not begin with its usage, or does not end its last line", c.name)
		}
		_, examples, found := strings.Cut(c.help, "\nExamples:\n")
		if !found || !strings.Contains(examples, "datafordeler "+c.name) {
			t.Errorf("%s: its help has no examples", c.name)
		}
		for line := range strings.Lines(c.help) {
			if len([]rune(line)) > 140 || strings.Contains(line, "\t") {
				t.Errorf("%s: a line of its help is too long, or has a tab: %s", c.name, line)
			}
		}
	}
}

// TestCommandsCalledWrongly: whoever calls wrongly is told so with exit code 2, what is
// wrong, and where to read on; nothing is printed as an answer.
func TestCommandsCalledWrongly(t *testing.T) {
	wrong := func(name string, args ...string) {
		t.Helper()
		code, out, errs := called(t, args...)
		if code != exitUsage || out != "" || !strings.HasPrefix(errs, "datafordeler "+name+": ") || !strings.HasSuffix(errs, "\nSee: datafordeler "+name+" --help\n") {
			t.Errorf("%v: exit %d, %q, %q", args, code, out, errs)
		}
	}
	for _, c := range commands() {
		wrong(c.name, c.name, "--no-such-flag")
		wrong(c.name, c.name, "no-such-verb", "or", "one", "argument", "too", "many")
		// Each form that the usage names, with a flag that there is not.
		for _, m := range regexp.MustCompile(`(?m)^(?:Usage:|      ) datafordeler `+c.name+`((?: [a-z][a-z-]*)+)`).FindAllStringSubmatch(c.help, -1) {
			wrong(c.name, append(append([]string{c.name}, strings.Fields(m[1])...), "--no-such-flag")...)
		}
	}
	for _, args := range [][]string{{"no-such-command"}, {"help", "no-such-command"}, {"15910095789"}} {
		code, out, errs := called(t, args...)
		if code != exitUsage || out != "" || !strings.HasSuffix(errs, "See: datafordeler help\n") || strings.Contains(errs, "15910095789") {
			t.Errorf("%v: exit %d, %q, %q", args, code, out, errs)
		}
	}
}

// TestCommandsElsewhere: a broker that is not there, or a directory that nobody made.
func TestCommandsElsewhere(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	for _, args := range [][]string{{"decisions"}, {"rebuild"}, {"retention"}, {"backfill"}, {"asyncapi"}, {"audit", "status"}, {"keys", "list"}, {"registry", "log"}, {"policy", "list"}, {"agreement", "list"}, {"consume", "--mailbox", "m"}} {
		code, _, errs := called(t, append(args, "--data", nowhere)...)
		if code != exitUsage || !strings.Contains(errs, "there is no directory "+nowhere) {
			t.Errorf("%v: exit %d, %s", args, code, errs)
		}
	}
	if _, err := os.Stat(nowhere); err == nil {
		t.Error("one of them made the directory")
	}
	code, _, errs := called(t, "token", "--issuer", "http://127.0.0.1:1/", "--client", "c", "--scope", "s")
	if code != exitFailed || !strings.Contains(errs, "--issuer: http://127.0.0.1:1/ does not answer: ") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

// TestFlagText: package flag's words in the help's, and no number that may be somebody's.
func TestFlagText(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--no", "there is no flag --no here"},
		{"--15910095789", "there is no such flag here"},
		{"--s", "--s wants a value after it"},
		{"--n x", `--n: "x": want a whole number`},
		{"--d 5", `--d: "5": want a duration such as 30s or 24h`},
		{"--b=x", `--b: "x": want true or false, or no value`},
		{"--f x", `--f: "x": want a number`},
		{"--own x", `--own: "x": EOF`},
	} {
		fs := newFlags("x")
		fs.String("s", "", "")
		fs.Int("n", 0, "")
		fs.Duration("d", time.Second, "")
		fs.Bool("b", false, "")
		fs.Float64("f", 0, "")
		fs.Func("own", "", func(string) error { return io.EOF })
		if err := parse(fs, strings.Fields(c.args), 0, 0); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.args, err, c.want)
		}
	}
}
