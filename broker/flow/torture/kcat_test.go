package torture_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"datafordeler/broker/kafka/kafkatest"
)

// message is a record as kcat prints it.
type message struct {
	offset  int64
	header  string // as printed: key=value, separated by commas
	headers map[string]string
	value   []byte
}

// kcat reads what a read-committed client finds in a partition.
func (r *rig) kcat(topic string, partition int) []message {
	r.t.Helper()
	return parseKcat(r.t, kafkatest.Kcat(r.t, "-C", "-b", strings.Join(r.brokers, ","), "-t", topic, "-p", strconv.Itoa(partition),
		"-o", "beginning", "-e", "-q", "-X", "isolation.level=read_committed", "-X", "check.crcs=true",
		"-f", "%o %S %h\n%s\n"))
}

func parseKcat(t testing.TB, out []byte) (all []message) {
	t.Helper()
	for len(out) > 0 {
		line, rest, ok := bytes.Cut(out, []byte("\n"))
		fields := strings.SplitN(string(line), " ", 3)
		if !ok || len(fields) != 3 {
			t.Fatalf("kcat printed a line that is not understood: %.200q", line)
		}
		m := message{header: fields[2], headers: map[string]string{}}
		var err1, err2 error
		var size int
		m.offset, err1 = strconv.ParseInt(fields[0], 10, 64)
		size, err2 = strconv.Atoi(fields[1])
		if err1 != nil || err2 != nil || len(rest) < max(0, size)+1 {
			t.Fatalf("kcat printed a line that is not understood: %.200q", line)
		}
		m.value = rest[:max(0, size):max(0, size)]
		out = rest[max(0, size)+1:]
		for _, h := range strings.Split(fields[2], ",") {
			if k, v, ok := strings.Cut(h, "="); ok {
				m.headers[k] = v
			}
		}
		all = append(all, m)
	}
	return all
}
