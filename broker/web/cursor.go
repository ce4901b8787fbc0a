package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
)

// Cursor is a place in a feed: before the record at Offset. Callers get it as text
// that says nothing to them, give it back as it was, and any instance reads it,
// also after a restart. It opens nothing: who may read is asked each time.
type Cursor struct {
	// Feed names what it is a place in: "mailbox/…", "rejections/…".
	Feed string
	// Topic is the topic's id: an offset means nothing in one made anew.
	Topic     [16]byte
	Partition int32
	Offset    int64
}

// A cursor that does not count, and why.
var (
	ErrCursor     = errors.New("the cursor is damaged, or of a newer version; give back what \"next\" said, letter by letter")
	ErrCursorFeed = errors.New("the cursor is of another feed; each feed has its own")
)

// The first byte of a cursor is its version. Readers read all versions for ever.
const cursorVersion = 1

const (
	cursorFeed = 1 + 16 + 4 + 8 // where the feed's hash stands
	cursorSum  = cursorFeed + 8
	cursorSize = cursorSum + 4
)

// cursorText is strict: one text for each cursor.
var cursorText = base64.RawURLEncoding.Strict()

// String is the cursor as callers get it: 55 characters that need no escaping in a
// URL.
func (c Cursor) String() string {
	b := make([]byte, 0, cursorSize)
	b = append(b, cursorVersion)
	b = append(b, c.Topic[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(c.Partition))
	b = binary.BigEndian.AppendUint64(b, uint64(c.Offset))
	feed := sha256.Sum256([]byte(c.Feed))
	b = append(b, feed[:cursorSum-cursorFeed]...)
	sum := sha256.Sum256(b)
	return cursorText.EncodeToString(append(b, sum[:cursorSize-cursorSum]...))
}

// ParseCursor reads a cursor of a feed: [ErrCursor] if it is none, [ErrCursorFeed]
// if it is another feed's. It does not look whether its topic is there.
func ParseCursor(feed, text string) (Cursor, error) {
	if len(text) != cursorText.EncodedLen(cursorSize) {
		return Cursor{}, ErrCursor
	}
	b, err := cursorText.DecodeString(text)
	// Decoding passes over line ends.
	if err != nil || len(b) != cursorSize || b[0] != cursorVersion {
		return Cursor{}, ErrCursor
	}
	if sum := sha256.Sum256(b[:cursorSum]); !bytes.Equal(b[cursorSum:], sum[:cursorSize-cursorSum]) {
		return Cursor{}, ErrCursor
	}
	partition, offset := binary.BigEndian.Uint32(b[17:]), binary.BigEndian.Uint64(b[21:])
	if partition > math.MaxInt32 || offset > math.MaxInt64 {
		return Cursor{}, ErrCursor
	}
	if of := sha256.Sum256([]byte(feed)); !bytes.Equal(b[cursorFeed:cursorSum], of[:cursorSum-cursorFeed]) {
		return Cursor{}, ErrCursorFeed
	}
	return Cursor{Feed: feed, Topic: [16]byte(b[1:17]), Partition: int32(partition), Offset: int64(offset)}, nil
}
