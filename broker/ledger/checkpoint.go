package ledger

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is the head of a log: how many leaves its tree has and what they
// hash to (C2SP tlog-checkpoint, https://c2sp.org/tlog-checkpoint). Signed by the
// log it is a promise that the log has one history only.
type Checkpoint struct {
	// Origin names the log, uniquely and for ever; it should be a URL without
	// scheme, such as datafordeler.example/ledger.
	Origin string
	// Size is the number of leaves.
	Size int64
	// Root is the RFC 6962 root hash of the tree of that size.
	Root tlog.Hash
}

// EmptyRoot is the root hash of a tree without leaves (RFC 6962, section 2.1).
var EmptyRoot = tlog.Hash(sha256.Sum256(nil))

// strict64 takes one spelling of each value only, so that what is equal as a
// value is equal as bytes.
var strict64 = base64.StdEncoding.Strict()

// Text is the checkpoint as the text of a signed note: three lines, the last one
// ended too. No extension lines: no monitor could audit them.
func (c Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatInt(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// Check says what keeps c from being written as a checkpoint.
func (c Checkpoint) Check() error {
	switch {
	case c.Origin == "":
		return errors.New("checkpoint: the origin is empty")
	case strings.ContainsFunc(c.Origin, control) || !utf8.ValidString(c.Origin):
		return fmt.Errorf("checkpoint: the origin %q is not one line of text", c.Origin)
	case c.Size < 0 || c.Size > MaxSize:
		return fmt.Errorf("checkpoint of %s: size %d", c.Origin, c.Size)
	case c.Size == 0 && c.Root != EmptyRoot:
		return fmt.Errorf("checkpoint of %s: a tree without leaves has the root %v, not %v", c.Origin, EmptyRoot, c.Root)
	}
	return nil
}

// control is what a signed note may not hold, other than the ends of its lines.
func control(r rune) bool { return r < 0x20 }

// ParseCheckpoint reads the text of a note as a checkpoint. Extension lines are
// allowed and dropped, so Text does not give them back: signatures are made and
// verified over the text that was read, never over one written anew.
func ParseCheckpoint(text string) (Checkpoint, error) {
	body, ended := strings.CutSuffix(text, "\n")
	if !ended || !utf8.ValidString(text) || strings.ContainsFunc(strings.ReplaceAll(text, "\n", ""), control) {
		return Checkpoint{}, errors.New("checkpoint: not lines of text, each ended by a newline")
	}
	lines := strings.Split(body, "\n")
	if len(lines) < 3 {
		return Checkpoint{}, fmt.Errorf("checkpoint: %d lines where origin, tree size and root hash must stand", len(lines))
	}
	for i, line := range lines {
		if line == "" {
			return Checkpoint{}, fmt.Errorf("checkpoint: line %d is empty", i+1)
		}
	}
	size, err := ParseSize(lines[1])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint of %q: line 2: %w", lines[0], err)
	}
	root, err := ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint of %q: line 3: %w", lines[0], err)
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: root}, nil
}

// MaxSize is the largest tree that is read. The arithmetic of x/mod's tlog never
// ends for a larger one, and a log could sign one to stop whoever checks it.
const MaxSize = 1 << 62

// ParseSize reads a tree size as the C2SP formats write it: decimal digits, no
// sign, no leading zero; at most [MaxSize].
func ParseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > MaxSize || s != strconv.FormatInt(n, 10) {
		return 0, fmt.Errorf("%.40q is no tree size", s)
	}
	return n, nil
}

// ParseHash reads one hash in standard base64 (RFC 4648, section 4), in its one
// canonical spelling.
func ParseHash(s string) (tlog.Hash, error) {
	var h tlog.Hash
	b, err := strict64.DecodeString(s)
	if err != nil || len(b) != len(h) || base64.StdEncoding.EncodeToString(b) != s {
		return h, fmt.Errorf("%.60q is no hash of %d bytes in base64", s, len(h))
	}
	return tlog.Hash(b), nil
}

// SignCheckpoint writes c as a note signed by each signer, in order.
func SignCheckpoint(c Checkpoint, s ...note.Signer) ([]byte, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if len(s) == 0 {
		return nil, fmt.Errorf("checkpoint of %s: nobody signs it", c.Origin)
	}
	msg, err := note.Sign(&note.Note{Text: c.Text()}, s...)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint %d of %s: %w", c.Size, c.Origin, err)
	}
	return msg, nil
}
