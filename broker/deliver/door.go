package deliver

import (
	"bytes"
	"encoding/base64"
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

var doorText = base64.RawURLEncoding.Strict()

var errDoor = errors.New("a delivery's header door is damaged, or of a newer version")

// DoorBytes is the most that AppendDoor writes.
func DoorBytes(rec *broker.Record, p broker.PackageRef) int {
	n := 1 + 3*16 + 5*binary.MaxVarintLen64 + len(p.ID)
	for _, a := range rec.Attributes {
		n += binary.MaxVarintLen32 + len(a)
	}
	return doorText.EncodedLen(n)
}

// AppendDoor writes what the law rests on, in base64url, so that a header stays text
// for whatever prints it: version 1; 16 bytes each of the source's
// topic id, the event and the subject; uvarints of partition and offset; the
// package's name as a string and its version; how many attributes, and each as a
// string. A string is a uvarint length and its bytes.
func AppendDoor(dst []byte, rec *broker.Record, p broker.PackageRef) []byte {
	var room [512]byte // for most; longer ones are allocated
	b := append(room[:0], doorVersion)
	b = append(b, rec.TopicID[:]...)
	b = append(b, rec.Event[:]...)
	var none broker.SubjectKey
	if rec.HasSubject {
		b = append(b, rec.Subject[:]...)
	} else {
		b = append(b, none[:]...)
	}
	b = binary.AppendUvarint(b, uint64(uint32(rec.Partition)))
	b = binary.AppendUvarint(b, uint64(rec.Offset))
	b = appendString(b, p.ID)
	b = binary.AppendUvarint(b, uint64(p.Version))
	b = binary.AppendUvarint(b, uint64(len(rec.Attributes)))
	for _, a := range rec.Attributes {
		b = appendString(b, a)
	}
	return doorText.AppendEncode(dst, b)
}

// ReadDoor reads what AppendDoor wrote, all of it or an error. What is read shares
// no memory with text.
func ReadDoor(text []byte) (Door, error) {
	b, err := doorText.AppendDecode(nil, text)
	if err != nil || bytes.ContainsAny(text, "\r\n") { // the decoder skips line ends
		return Door{}, errDoor
	}
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
