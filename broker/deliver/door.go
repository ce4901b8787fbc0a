package deliver

import (
	"encoding/binary"
	"errors"

	"datafordeler/broker"
)

// DoorHeader is the header of a delivery in the topic that mailboxes share. A door
// that hands the delivery over later asks policy again with what stands in it, and
// hands it to nobody. Mailboxes with a topic of their own, which their owners read
// by themselves, do not have it.
const DoorHeader = "door"

// Door is what of a record the law rests on, beside what a delivery's other headers
// say of it.
type Door struct {
	TopicID   broker.Digest // of the source
	Partition int32
	Offset    int64
	Event     broker.EventHash
	// Subject is the record's under the stable matching key; zero where it has none.
	Subject broker.SubjectKey
	// Package is the rights package by which the delivery was reduced.
	Package broker.PackageRef
	// Attributes in the order of the dataset's.
	Attributes []string
}

const doorVersion = 1

var errDoor = errors.New("a delivery's header door is damaged, or of a newer version")

// DoorBytes is the most that AppendDoor writes.
func DoorBytes(rec *broker.Record, p broker.PackageRef) int {
	n := 1 + 3*16 + 5*binary.MaxVarintLen64 + len(p.ID)
	for _, a := range rec.Attributes {
		n += binary.MaxVarintLen32 + len(a)
	}
	return n
}

// AppendDoor writes what the law rests on: version 1; 16 bytes each of the source's
// topic id, the event and the subject; uvarints of partition and offset; the
// package's name as a string and its version; how many attributes, and each as a
// string. A string is a uvarint length and its bytes.
func AppendDoor(dst []byte, rec *broker.Record, p broker.PackageRef) []byte {
	dst = append(dst, doorVersion)
	dst = append(dst, rec.TopicID[:]...)
	dst = append(dst, rec.Event[:]...)
	var none broker.SubjectKey
	if rec.HasSubject {
		dst = append(dst, rec.Subject[:]...)
	} else {
		dst = append(dst, none[:]...)
	}
	dst = binary.AppendUvarint(dst, uint64(uint32(rec.Partition)))
	dst = binary.AppendUvarint(dst, uint64(rec.Offset))
	dst = appendString(dst, p.ID)
	dst = binary.AppendUvarint(dst, uint64(p.Version))
	dst = binary.AppendUvarint(dst, uint64(len(rec.Attributes)))
	for _, a := range rec.Attributes {
		dst = appendString(dst, a)
	}
	return dst
}

// ReadDoor reads what AppendDoor wrote, all of it or an error. What is read shares
// no memory with b.
func ReadDoor(b []byte) (Door, error) {
	c := cursor{what: DoorHeader, b: b}
	if c.byte() != doorVersion {
		return Door{}, errDoor
	}
	var d Door
	copy(d.TopicID[:], c.take(16))
	copy(d.Event[:], c.take(16))
	copy(d.Subject[:], c.take(16))
	partition, offset := c.uvarint(), c.uvarint()
	d.Partition, d.Offset = int32(uint32(partition)), int64(offset)
	d.Package.ID = c.string()
	d.Package.Version = int(c.uvarint())
	n := c.count(1)
	for range n {
		d.Attributes = append(d.Attributes, c.string())
	}
	if c.end() != nil || partition > 1<<31-1 || d.Offset < 0 || d.Package.Version < 0 {
		return Door{}, errDoor
	}
	return d, nil
}
