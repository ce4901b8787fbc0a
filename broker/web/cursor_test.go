package web

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawCursor(t *rapid.T) Cursor {
	c := Cursor{
		Feed:      rapid.SampledFrom([]string{"mailbox/oslo", "mailbox/bergen", "rejections/inntekt", ""}).Draw(t, "feed"),
		Partition: rapid.Int32Min(0).Draw(t, "partition"),
		Offset:    rapid.Int64Min(0).Draw(t, "offset"),
	}
	copy(c.Topic[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "topic"))
	return c
}

func TestCursorRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCursor(t)
		text := c.String()
		if back, err := ParseCursor(c.Feed, text); err != nil || back != c {
			t.Fatalf("%+v came back as %+v, %v", c, back, err)
		}
		if _, err := ParseCursor(c.Feed+"x", text); !errors.Is(err, ErrCursorFeed) {
			t.Fatalf("another feed's: %v", err)
		}
		// Any other letter anywhere is found out.
		i := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		other := rapid.SampledFrom([]byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_\n=")).Filter(func(b byte) bool { return b != text[i] }).Draw(t, "letter")
		if _, err := ParseCursor(c.Feed, text[:i]+string(other)+text[i+1:]); !errors.Is(err, ErrCursor) {
			t.Fatalf("changed at %d: %v", i, err)
		}
	})
}

// Cursors are kept for months by those who got them: what one said, it says for ever.
func TestCursorStaysReadable(t *testing.T) {
	const text = "AQABAgMEBQYHCAkKCwwNDg8AAAAHAAAAAAABhqHHZyeQjZgUi9KaCsk"
	want := Cursor{Feed: "mailbox/oslo", Topic: [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, Partition: 7, Offset: 100001}
	if got := want.String(); got != text {
		t.Errorf("it is written as %s", got)
	}
	if got, err := ParseCursor(want.Feed, text); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add("mailbox/oslo", Cursor{Feed: "mailbox/oslo", Partition: 3, Offset: 12}.String())
	f.Add("mailbox/oslo", "")
	f.Add("mailbox/oslo", strings.Repeat("A", 55))
	f.Add("", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")
	f.Fuzz(func(t *testing.T, feed, text string) {
		c, err := ParseCursor(feed, text)
		if err != nil {
			if !errors.Is(err, ErrCursor) && !errors.Is(err, ErrCursorFeed) {
				t.Fatalf("an error that says nothing: %v", err)
			}
			return
		}
		if c.String() != text || c.Offset < 0 || c.Partition < 0 {
			t.Fatalf("%q was read as %+v, which is written %q", text, c, c.String())
		}
	})
}
