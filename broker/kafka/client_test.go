package kafka

import (
	"bytes"
	"go/build"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestClientLog: what the library warns of is warned of, but for what is known
// to be harmless; and that still is what the library says.
func TestClientLog(t *testing.T) {
	var out bytes.Buffer
	log := clientLog{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))}
	for _, begins := range harmless {
		log.Log(kgo.LogLevelWarn, begins+", and so on")
	}
	if out.Len() > 0 {
		t.Errorf("a harmless warning reached the log: %s", &out)
	}
	log.Log(kgo.LogLevelWarn, "unable to read", "topic", "decisions")
	if got := out.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "unable to read") {
		t.Errorf("a warning is missing from the log: %q", got)
	}
	out.Reset()
	log.Log(kgo.LogLevelError, harmless[0])
	if !strings.Contains(out.String(), "level=ERROR") {
		t.Errorf("an error is missing from the log: %q", out.String())
	}

	pkg, err := build.Import("github.com/twmb/franz-go/pkg/kgo", ".", 0)
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, name := range pkg.GoFiles {
		b, err := os.ReadFile(filepath.Join(pkg.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		source.Write(b)
	}
	for _, begins := range harmless {
		if !strings.Contains(source.String(), `"`+begins) {
			t.Errorf("the library has no message that begins with %q any more: take it off the list", begins)
		}
	}
}
