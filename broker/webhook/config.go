package webhook

import (
	"errors"
	"time"
)

// Config is how deliveries are sent to endpoints.
type Config struct {
	// Ports are the ports that an endpoint may have.
	Ports []int `yaml:"ports"`
	// Loopback lets endpoints be on this machine, on any port and by http too. It is
	// for development and the demonstration: never set it where others have mailboxes.
	Loopback bool `yaml:"loopback"`
	// Timeout is how long an endpoint may take to answer, from the connection on.
	Timeout time.Duration `yaml:"timeout"`
	// FirstRetry is the pause after the first failure. It doubles with each, less up
	// to a half by lot.
	FirstRetry time.Duration `yaml:"first_retry"`
	// LongestRetry is the longest pause.
	LongestRetry time.Duration `yaml:"longest_retry"`
	// Attempts is how often a delivery is tried before it is put with the poison. With
	// the other defaults, 18 are about three days.
	Attempts int `yaml:"attempts"`
	// Concurrency is how many subjects of one mailbox are sent at once.
	Concurrency int `yaml:"concurrency"`
	// Waiting is how many deliveries of one mailbox may wait for their turn or their
	// next attempt. When so many do, no more are read for it until some are through.
	Waiting int `yaml:"waiting"`
	// Poison is how many of a mailbox's deliveries may lie with the poison. When so many
	// do, those that fail go on being tried.
	Poison int `yaml:"poison"`
}

// Defaults are for endpoints on the internet.
func Defaults() Config {
	return Config{
		Ports: []int{443, 8443}, Timeout: 15 * time.Second,
		FirstRetry: 10 * time.Second, LongestRetry: 12 * time.Hour, Attempts: 18,
		Concurrency: 8, Waiting: 1000, Poison: 10_000,
	}
}

// Validate names what is wrong, with its key.
func (c Config) Validate() error {
	var faults []error
	fault := func(wrong bool, says string) {
		if wrong {
			faults = append(faults, errors.New(says))
		}
	}
	fault(len(c.Ports) == 0, "ports: must name one at least")
	for _, p := range c.Ports {
		fault(p < 1 || p > 65535, "ports: a port is 1 to 65535")
	}
	fault(c.Timeout <= 0 || c.Timeout > 5*time.Minute, "timeout: must be above 0, and 5m at the most")
	fault(c.FirstRetry <= 0, "first_retry: must be above 0")
	fault(c.LongestRetry < c.FirstRetry, "longest_retry: must be first_retry or more")
	fault(c.Attempts < 1 || c.Attempts > 1000, "attempts: must be 1 to 1000")
	fault(c.Concurrency < 1 || c.Concurrency > 256, "concurrency: must be 1 to 256")
	fault(c.Waiting < 10 || c.Waiting > 5000, "waiting: must be 10 to 5000")
	fault(c.Poison < 1 || c.Poison > 100_000, "poison: must be 1 to 100000")
	return errors.Join(faults...)
}
