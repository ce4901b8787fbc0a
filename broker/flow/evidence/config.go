package evidence

import (
	"fmt"
	"time"
)

// Config is the part of the configuration on the ledger.
type Config struct {
	// Origin names the ledger, for all time and everybody: a name under a domain
	// that is yours, without https://, such as datafordeler.example.no/log. It
	// cannot be changed once a head is signed.
	Origin string `yaml:"origin"`
	// Key is the file with the secret key that signs the ledger's heads, with
	// mode 0600, outside the data directory. Left empty, it stands beside the
	// keystore, with .ledger after its name. Made on the first run; give every
	// instance a copy, for any of them may come to sign. Beside it, with .head
	// after its name, stands a note of the last head signed.
	Key string `yaml:"key"`
	// Every is how often a head is signed while decisions are made.
	Every time.Duration `yaml:"every"`
	// StopAfter is for how long decisions may be made without a head that covers
	// them; then deliveries are held until there is one. 0 never holds them for
	// that. A ledger that contradicts itself, or what was signed, holds them at once.
	StopAfter time.Duration `yaml:"stop_after"`
	// Witnesses cosign heads: independent parties whom the operator cannot
	// make sign two that contradict each other.
	Witnesses []Witness `yaml:"witnesses,omitempty"`
	// Need is how many of the witnesses must have cosigned a head for it to
	// count.
	Need int `yaml:"need"`
	// Patience is how long a witness is waited for.
	Patience time.Duration `yaml:"patience"`
}

// Witness is an independent party that cosigns.
type Witness struct {
	// Key is its public key, as its operator gives it out: name+hash+key.
	Key string `yaml:"key"`
	// URL is where it is asked, without /add-checkpoint.
	URL string `yaml:"url"`
}

// Defaults sign each second, without witnesses.
func Defaults() Config {
	return Config{Origin: "datafordeler.localhost/ledger", Every: time.Second, StopAfter: 15 * time.Minute, Patience: 5 * time.Second}
}

// Validate names the first fault and its remedy.
func (c Config) Validate() error {
	switch {
	case c.Origin == "":
		return fmt.Errorf("origin: is empty; write a name under a domain that is yours, such as datafordeler.example.no/log")
	case c.Every < 100*time.Millisecond || c.Every > time.Hour:
		return fmt.Errorf("every: %v is outside 100ms to 1h", c.Every)
	case c.StopAfter != 0 && c.StopAfter < 10*c.Every:
		return fmt.Errorf("stop_after: %v is less than ten times every (%v), so that a short pause would hold deliveries; write more, or 0 for never", c.StopAfter, c.Every)
	case c.Need < 0 || c.Need > len(c.Witnesses):
		return fmt.Errorf("need: %d of %d witnesses; write a number from 0 to %d", c.Need, len(c.Witnesses), len(c.Witnesses))
	case c.Patience < 100*time.Millisecond || c.Patience > time.Minute:
		return fmt.Errorf("patience: %v is outside 100ms to 1m", c.Patience)
	}
	for i, w := range c.Witnesses {
		if w.Key == "" || w.URL == "" {
			return fmt.Errorf("witnesses[%d]: needs its key and its url", i)
		}
	}
	return nil
}
