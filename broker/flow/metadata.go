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
}

const metadataVersion = "v1"

func (m metadata) String() string {
	return fmt.Sprintf("%s r=%d t=%s d=%d", metadataVersion, m.revision, m.topic, m.decisions)
}

func parseMetadata(s string) (metadata, error) {
	var m metadata
	var topic string
	rest, ok := strings.CutPrefix(s, metadataVersion+" ")
	if !ok {
		return m, fmt.Errorf("offset metadata %q: want version %s; the consumer group is used by something else, or by a newer datafordeler", s, metadataVersion)
	}
	if n, err := fmt.Sscanf(rest, "r=%d t=%s d=%d", &m.revision, &topic, &m.decisions); n != 3 {
		return m, fmt.Errorf("offset metadata %q: %v", s, err)
	}
	return m, m.topic.UnmarshalText([]byte(topic))
}
