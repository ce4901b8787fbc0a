package web

import (
	"errors"
	"time"
)

// Config is the HTTP API's part of the configuration.
type Config struct {
	// Listen is host:port of the HTTP API; "" turns it off. Beyond this machine it
	// wants a certificate, or a proxy before it that has one.
	Listen string `yaml:"listen"`
	// Certificate and Key are PEM files, for HTTPS. Without them it is HTTP.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// RatePerSecond is how many requests a second one client may make; 0 is no limit.
	RatePerSecond float64 `yaml:"rate_per_second"`
	// Burst is how many it may make at once.
	Burst int `yaml:"burst"`
	// BodyBytes is how long a request's body may be, where its operation has no
	// limit of its own.
	BodyBytes int64 `yaml:"body_bytes"`
	// DrainTimeout is how long requests under way may take when the server stops.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// Defaults are for one instance on this machine.
func Defaults() Config {
	return Config{RatePerSecond: 200, Burst: 400, BodyBytes: 1 << 20, DrainTimeout: 10 * time.Second}
}

// Validate names what is wrong, with its key.
func (c Config) Validate() error {
	var faults []error
	fault := func(wrong bool, says string) {
		if wrong {
			faults = append(faults, errors.New(says))
		}
	}
	fault((c.Certificate == "") != (c.Key == ""), "certificate: it and key belong together; give both, or neither")
	fault(c.RatePerSecond < 0, "rate_per_second: is below 0; 0 is no limit")
	fault(c.RatePerSecond > 0 && c.Burst < 1, "burst: must be 1 or more where there is a rate")
	fault(c.BodyBytes < 1, "body_bytes: must be 1 or more")
	fault(c.DrainTimeout <= 0, "drain_timeout: must be above 0")
	return errors.Join(faults...)
}
