package flow

import (
	"fmt"
	"strings"

	"datafordeler/broker"
)

// metadata stands beside each committed offset, in the consumer group. It is
// what a new owner, and the withdrawal barrier, need to know of a partition.
type metadata struct {
	// revision that the decisions up to the offset were made at, or an earlier
	// one; nothing after it will be decided at an earlier one.
	revision broker.Revision
	// topic is the id of the source topic: a recreated topic has another.
	topic broker.Digest
	// decisions is where, in the decisions partition, reading begins to rebuild
	// the window of repeats and the usage; −1 when nothing was written yet.
	decisions int64
	// backfill is how far backfill has come. Metadata from before there was any has
	// none of it, and begins at its revision.
	backfill progress
}

// progress is how far a partition's backfill has come; see backfill.go.
type progress struct {
	// swept is the revision up to which cases and consents have brought what they bring.
	swept broker.Revision
	// started is the revision up to which subscriptions that begin before they were
	// declared have got all of that, but for the one under way.
	started broker.Revision
	// job is the revision that declared the one under way, 0 for none: it has
	// decided [from, next) of the source's offsets [from, until).
	job         broker.Revision
	next, until int64
	// written is the offset in the decisions partition after the last decisions of
	// backfill: who takes the partition over must be able to read them.
	written int64
	// told is the first offset of the source whose denials may still owe a notice; −1 in
	// what older versions wrote.
	told int64
}

const metadataVersion = "v1"

// String is what is committed. It must stay below 4096 bytes, which is what Kafka
// takes (offset.metadata.max.bytes).
func (m metadata) String() string {
	b := &m.backfill
	return fmt.Sprintf("%s r=%d t=%s d=%d s=%d b=%d j=%d n=%d u=%d w=%d o=%d", metadataVersion, m.revision, m.topic, m.decisions,
		b.swept, b.started, b.job, b.next, b.until, b.written, b.told)
}

func parseMetadata(s string) (metadata, error) {
	var m metadata
	var topic string
	rest, ok := strings.CutPrefix(s, metadataVersion+" ")
	if !ok {
		return m, fmt.Errorf("offset metadata %q: want version %s; the consumer group is used by something else, or by a newer datafordeler", s, metadataVersion)
	}
	b := &m.backfill
	n, err := fmt.Sscanf(rest, "r=%d t=%s d=%d s=%d b=%d j=%d n=%d u=%d w=%d o=%d", &m.revision, &topic, &m.decisions,
		&b.swept, &b.started, &b.job, &b.next, &b.until, &b.written, &b.told)
	switch {
	case n == 3 && strings.Count(rest, " ") == 2: // from before there was backfill
		m.backfill = progress{swept: m.revision, started: m.revision, told: -1}
	case n == 9 && strings.Count(rest, " ") == 8: // from before there were notices
		b.told = -1
	case n != 10:
		return m, fmt.Errorf("offset metadata %q: %v", s, err)
	}
	return m, m.topic.UnmarshalText([]byte(topic))
}
