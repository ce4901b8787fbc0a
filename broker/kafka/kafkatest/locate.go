package kafkatest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// locate finds Java and Kafka's jars, or fails the test with what to run, or
// skips it where the environment says that there is to be no Kafka.
func locate(t testing.TB) java {
	t.Helper()
	skipIfTold(t)
	binary, err := exec.LookPath("java")
	if err != nil {
		t.Fatal("this test needs a Java runtime, 17 or newer: run `make tools` as root, or install one (Debian: default-jre-headless); DATAFORDELER_NO_KAFKA=1 skips such tests")
	}
	top, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(top, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(top)
		if up == top {
			t.Fatal("this test looks for Kafka's jars beside go.mod, and there is none above the working directory; run it inside the module")
		}
		top = up
	}
	dir := filepath.Join(top, ".cache", "kafka")
	if _, err := os.Stat(filepath.Join(dir, ".complete")); err != nil {
		t.Fatalf("this test needs Apache Kafka in %s: run `make kafka`; DATAFORDELER_NO_KAFKA=1 skips such tests", dir)
	}
	return java{binary: binary, classpath: filepath.Join(dir, "*")}
}

func skipIfTold(t testing.TB) {
	t.Helper()
	if os.Getenv("DATAFORDELER_NO_KAFKA") == "1" {
		t.Skip("DATAFORDELER_NO_KAFKA=1: not tested on Apache Kafka")
	}
}

// kcatLimit bounds one run of kcat.
const kcatLimit = 2 * time.Minute

// Kcat runs kcat, a client of another make (librdkafka), with args and gives
// its standard output. It fails the test if kcat fails or takes too long. To
// read what is there and no more, pass -C -e and an explicit -X
// isolation.level.
func Kcat(t testing.TB, args ...string) []byte {
	t.Helper()
	skipIfTold(t)
	binary, err := exec.LookPath("kcat")
	if err != nil {
		t.Fatal("this test needs kcat: run `make tools` as root, or install it (Debian: kcat); DATAFORDELER_NO_KAFKA=1 skips such tests")
	}
	ctx, cancel := context.WithTimeout(context.Background(), kcatLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, faults bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &faults
	if err := cmd.Run(); err != nil {
		t.Fatalf("kcat %q: %v\n%s", args, err, faults.Bytes())
	}
	return out.Bytes()
}
