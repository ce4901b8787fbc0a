package main

import (
	"errors"
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

// forgetPeriods drops from memory what control says is destroyed, and says which
// that is; nil where all of it is gone here already.
func (n *node) forgetPeriods() (periods []string) {
	n.control.View(func(st *registry.State) { periods = destroyedPeriods(st) })
	if len(periods) == n.ended {
		return nil
	}
	n.ring.Forget(periods...)
	return periods
}

// endPeriods destroys in memory and in the keystore what control says is
// destroyed. It comes from the log and from nothing else, so each instance, each
// copy and each restored backup ends where it should, whoever was away when it
// was decided.
func (n *node) endPeriods() error {
	periods := n.forgetPeriods()
	if len(periods) == 0 {
		return nil
	}
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

// retryAfter is how long follow leaves what failed alone.
const retryAfter = time.Minute

// follow keeps what this process holds at what control says, from when it was
// opened until control closes: period keys and, for an instance, topics.
func (n *node) follow() {
	defer close(n.followed)
	kept := keeper{node: n}
	n.control.View(func(st *registry.State) {
		kept.structure, kept.last = st.Structure(), n.byTopic(flow.Retention(n.cfg.Config, st))
	})
	var again time.Time // when to try again what failed
	for {
		changed := n.control.Changed()
		if n.control.Err() != nil {
			return
		}
		if time.Now().Before(again) {
			n.forgetPeriods() // that cannot fail, and waits for nobody
		} else if err := errors.Join(n.endPeriods(), kept.keep()); err != nil {
			again = time.Now().Add(retryAfter)
			n.log.Error("this instance is not as control says, and tries again in a minute", "err", err)
		} else {
			again = time.Time{}
		}
		var retry <-chan time.Time
		if !again.IsZero() {
			retry = time.After(time.Until(again))
		}
		select {
		case <-changed:
		case <-retry:
		}
	}
}

// keeper brings about retentions that were declared anew.
type keeper struct {
	*node
	structure broker.Revision
	last      map[string]time.Duration
}

func (k *keeper) keep() error {
	if k.mode != kafka.Own {
		return nil // a command: who changes the registry sets the topics
	}
	var now map[string]time.Duration
	at := k.structure
	k.control.View(func(st *registry.State) {
		if at = st.Structure(); at != k.structure {
			now = k.byTopic(flow.Retention(k.cfg.Config, st))
		}
	})
	if at == k.structure {
		return nil
	}
	if differ(k.last, now) {
		if err := k.ensureTopics(k.life); err != nil {
			return err
		}
	}
	k.structure, k.last = at, now
	return nil
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
