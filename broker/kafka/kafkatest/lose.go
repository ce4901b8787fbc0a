package kafkatest

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// LoseMarkers takes the last batch off partitions' logs, each of which must be
// the marker that ended a transaction, on a node (counted from 0) that was
// killed. When the node is restarted all is as if Kafka had recorded the end of
// the transaction and never told those partitions (KAFKA-20734).
func (c *Cluster) LoseMarkers(t testing.TB, i int, partitions ...string) {
	t.Helper()
	n := c.nodes[i]
	<-n.exited
	for _, p := range partitions {
		if err := cutMarker(filepath.Join(n.dir, "data", p)); err != nil {
			t.Fatalf("losing the last marker of %s: %v", p, err)
		}
	}
}

// cutMarker cuts the last segment before its last batch, and forgets what Kafka
// has noted of producers from there on; it makes that anew from the log.
func cutMarker(dir string) error {
	segments, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(segments) == 0 {
		return fmt.Errorf("no log in %s: %v", dir, err)
	}
	path := slices.Max(segments)
	log, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// Of a batch: offset 8, length 4, leader epoch 4, magic 1, checksum 4,
	// attributes 2; the rest does not matter here.
	const header = 61
	at, last := 0, -1
	for at+header <= len(log) {
		length := 12 + int(binary.BigEndian.Uint32(log[at+8:]))
		if length < header || at+length > len(log) {
			break // preallocated, or torn by the kill
		}
		last, at = at, at+length
	}
	if last < 0 {
		return fmt.Errorf("%s is empty", path)
	}
	const control = 1 << 5
	if binary.BigEndian.Uint16(log[last+21:])&control == 0 {
		return fmt.Errorf("%s does not end with a marker", path)
	}
	offset := binary.BigEndian.Uint64(log[last:])
	if err := os.Truncate(path, int64(last)); err != nil {
		return err
	}
	snapshots, err := filepath.Glob(filepath.Join(dir, "*.snapshot"))
	if err != nil {
		return err
	}
	for _, s := range snapshots {
		of, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(s), ".snapshot"), 10, 64)
		if err != nil || of > offset {
			if err := os.Remove(s); err != nil {
				return err
			}
		}
	}
	return nil
}
