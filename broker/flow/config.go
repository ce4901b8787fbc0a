package flow

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"datafordeler/broker/deliver"
)

// Config is the part of the broker's configuration on its loops.
type Config struct {
	// Group is the consumer group that all instances of one broker share.
	Group string `yaml:"group"`
	// Slot tells the instances of a group apart: its transactional ids are
	// <group>-<slot>, <group>-<slot>/1 and so on, one a session: where Kafka has
	// access lists, allow those that begin with <group>-<slot>. Give each instance its own, and the same one after a
	// restart: then a transaction left open by a kill is ended at once, and
	// not after TransactionTimeout. Two instances on one slot fence each other.
	Slot string `yaml:"slot"`
	// Sessions is how many memberships in the group, each with transactions of
	// its own, the instance has: while one commits, another computes. 0 is one
	// a processor, four at the most; more than there are source partitions do
	// nothing.
	Sessions int `yaml:"sessions"`
	// MaxRecords is the most records in one transaction.
	MaxRecords int `yaml:"max_records"`
	// TransactionTime is how long a transaction should take at the most: under
	// load it has as many records, MaxRecords at the most, as fit into this. A
	// withdrawal waits for the transactions under way.
	TransactionTime time.Duration `yaml:"transaction_time"`
	// Gather is the shortest time from the beginning of one transaction to that
	// of the next, where there is little to do: records that come within it go
	// into one, which costs less. A record that comes after a pause goes at once.
	Gather time.Duration `yaml:"gather"`
	// Idle is the longest that an instance without records waits before it
	// looks up, for its health and its metrics.
	Idle time.Duration `yaml:"idle"`
	// SessionTimeout is how long a silent instance keeps its partitions.
	SessionTimeout time.Duration `yaml:"session_timeout"`
	// TransactionTimeout is after how long Kafka aborts an open transaction. A
	// withdrawal waits for that long at the most for a frozen instance.
	TransactionTimeout time.Duration `yaml:"transaction_timeout"`
	// Workers is how many partitions are computed at once; 0 is one a processor.
	Workers int `yaml:"workers"`
	// MaxDelivery is the largest delivery in bytes; a larger one is denied by name.
	MaxDelivery int `yaml:"max_delivery"`
	// Backfill is of records that were published before somebody came to have a
	// right to them.
	Backfill BackfillConfig `yaml:"backfill"`
}

// BackfillConfig is how fast backfill goes.
type BackfillConfig struct {
	// RecordsPerSecond is how many earlier records, and cases and consents that have
	// none, an instance looks at in a second, at the most, beside the stream. 0 holds
	// backfill.
	RecordsPerSecond int `yaml:"records_per_second"`
}

// Defaults are for one instance.
func Defaults() Config {
	return Config{
		Group:              "datafordeler",
		Slot:               "0",
		MaxRecords:         20_000,
		TransactionTime:    100 * time.Millisecond,
		Gather:             5 * time.Millisecond,
		Idle:               time.Second,
		SessionTimeout:     10 * time.Second,
		TransactionTimeout: 10 * time.Second,
		MaxDelivery:        deliver.MaxBatch,
		Backfill:           BackfillConfig{RecordsPerSecond: 5_000},
	}
}

// Validate names the first fault and its remedy.
func (c Config) Validate() error {
	switch {
	case c.Group == "":
		return fmt.Errorf("group: name the consumer group that all instances share, such as \"datafordeler\"")
	case c.Slot == "":
		return fmt.Errorf("slot: give each instance a slot of its own, such as \"0\"")
	case strings.Contains(c.Slot, "/"):
		return fmt.Errorf("slot: %q has a slash, which the transactional ids of further sessions use", c.Slot)
	case c.Sessions < 0 || c.Sessions > 64:
		return fmt.Errorf("sessions: %d is outside 0 to 64", c.Sessions)
	case c.MaxRecords < 1 || c.MaxRecords > 1_000_000:
		return fmt.Errorf("max_records: %d is outside 1 to 1,000,000", c.MaxRecords)
	case c.TransactionTime < time.Millisecond || c.TransactionTime > time.Minute:
		return fmt.Errorf("transaction_time: %v is outside 1ms to 1m", c.TransactionTime)
	case c.Gather < 0 || c.Gather > time.Second:
		return fmt.Errorf("gather: %v is outside 0 to 1s", c.Gather)
	case c.Idle < time.Millisecond || c.Idle > time.Minute:
		return fmt.Errorf("idle: %v is outside 1ms to 1m", c.Idle)
	case c.SessionTimeout < time.Second:
		return fmt.Errorf("session_timeout: %v is below 1s", c.SessionTimeout)
	case c.TransactionTimeout < time.Second || c.TransactionTimeout > 15*time.Minute:
		return fmt.Errorf("transaction_timeout: %v is outside 1s to 15m (Kafka's own limit)", c.TransactionTimeout)
	case c.Workers < 0:
		return fmt.Errorf("workers: %d is negative", c.Workers)
	case c.Backfill.RecordsPerSecond < 0 || c.Backfill.RecordsPerSecond > 1_000_000:
		return fmt.Errorf("backfill.records_per_second: %d is outside 0 to 1,000,000", c.Backfill.RecordsPerSecond)
	case c.MaxDelivery < 1_000 || c.MaxDelivery > deliver.MaxBatch:
		return fmt.Errorf("max_delivery: %d is outside 1,000 to %d", c.MaxDelivery, deliver.MaxBatch)
	}
	return nil
}

// sessions is how many there are to be.
func (c Config) sessions() int {
	if c.Sessions > 0 {
		return c.Sessions
	}
	return min(runtime.GOMAXPROCS(0), 4)
}

// SessionCount is how many there are to be, for those who measure against them.
func (c Config) SessionCount() int { return c.sessions() }

// transactionalID names session n. It is the same after a restart, so that
// what it left open is ended when it begins.
func (c Config) transactionalID(n int) string {
	id := c.Group + "-" + c.Slot
	if n > 0 {
		id += "/" + strconv.Itoa(n)
	}
	return id
}
