package kafkatest

import (
	"os"
	"testing"
)

// Three nodes answer, and go on answering when one is killed.
func TestKillOneOfThree(t *testing.T) {
	if os.Getenv("DATAFORDELER_TORTURE") != "1" {
		t.Skip("half a minute on two cores; `make torture` runs it")
	}
	c := Start(t, Options{Nodes: 3})
	c.Kill(2)
	cl := client(t, c)
	if err := cl.Ping(bounded(t)); err != nil {
		t.Fatal(err)
	}
	c.Restart(t, 2)
	if len(c.Brokers()) != 3 {
		t.Errorf("brokers %v", c.Brokers())
	}
	if c.Logs() == "" {
		t.Error("no logs")
	}
}
