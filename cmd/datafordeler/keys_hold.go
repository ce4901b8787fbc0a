package main

import (
	"fmt"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/keys"
	"datafordeler/broker/registry"
)

// destroyedPeriods are the months whose keys control says are gone.
func destroyedPeriods(st *registry.State) []string {
	var out []string
	for _, d := range st.DestroyedPeriods() {
		out = append(out, d.Period)
	}
	return out
}

// endPeriods destroys in memory and in the keystore what control says is
// destroyed. It comes from the log and from nothing else, so each instance, each
// copy and each restored backup ends where it should, whoever was away when it
// was decided. Memory goes first: it is what decides.
func (n *node) endPeriods() error {
	var periods []string
	n.control.View(func(st *registry.State) { periods = destroyedPeriods(st) })
	if len(periods) == n.ended {
		return nil
	}
	n.ring.Forget(periods...)
	path := n.cfg.keystorePath()
	gone, err := keys.Destroy(keys.File(path), periods...)
	if err != nil {
		return fmt.Errorf("the keys of %s were destroyed, by an event in control, and may still stand in %s, which could not be rewritten: %w: "+
			"make the file writable, or put a copy there that lacks them (datafordeler keys backup, on an instance that could)", strings.Join(periods, ", "), path, err)
	}
	if n.ended = len(periods); len(gone) > 0 {
		n.log.Warn("destroyed period keys here, as control says: copies of the keystore must lose them too", "keystore", path, "periods", gone)
	}
	return nil
}

// follow keeps what this process holds at what control says, from when it was
// opened until control closes: period keys and, for an instance, topics.
func (n *node) follow() {
	defer close(n.followed)
	var structure broker.Revision
	var last map[string]time.Duration
	if n.mode == kafka.Own {
		n.control.View(func(st *registry.State) { structure, last = st.Structure(), n.retentions(st) })
	}
	for {
		changed := n.control.Changed()
		if n.control.Err() != nil {
			return
		}
		var retry <-chan time.Time
		fail := func(err error) {
			n.log.Error("held back; trying again in a minute", "err", err)
			retry = time.After(time.Minute)
		}
		if n.ring != nil {
			if err := n.endPeriods(); err != nil {
				fail(err)
			}
		}
		if n.mode == kafka.Own {
			var now map[string]time.Duration
			var at broker.Revision
			n.control.View(func(st *registry.State) {
				if at = st.Structure(); at != structure {
					now = n.retentions(st)
				}
			})
			var err error
			if now != nil && differ(last, now) {
				err = n.ensureTopics(n.life)
			}
			if err != nil {
				fail(err)
			} else if now != nil {
				structure, last = at, now
			}
		}
		select {
		case <-changed:
		case <-retry:
		}
	}
}

// retentions are the declared retentions by topic.
func (n *node) retentions(st *registry.State) map[string]time.Duration {
	out := map[string]time.Duration{}
	kept := flow.Retention(n.cfg.Config, st)
	topics := n.cfg.Topics()
	out[topics.Deliveries()] = kept.Deliveries.For
	for d := range kept.Source {
		out[topics.Source(string(d))] = kept.Source[d].For
		out[topics.Rejected(string(d))] = kept.Rejected[d].For
	}
	for m, k := range kept.Mailbox {
		out[topics.Mailbox(string(m))] = k.For
	}
	return out
}

// differ reports whether a topic that was there keeps for another time. One that
// is new gets its own with it.
func differ(was, is map[string]time.Duration) bool {
	for topic, d := range was {
		if now, ok := is[topic]; ok && now != d {
			return true
		}
	}
	return false
}
