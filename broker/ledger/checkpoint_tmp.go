package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint: replaced by checkpoint.go.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
}

func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

func ParseCheckpoint(text string) (c Checkpoint, err error) {
	l := strings.Split(text, "\n")
	if len(l) < 4 {
		return c, errors.New("malformed checkpoint")
	}
	c.Origin = l[0]
	if c.Size, err = strconv.ParseInt(l[1], 10, 64); err != nil {
		return c, err
	}
	c.Root, err = tlog.ParseHash(l[2])
	return c, err
}

func SignCheckpoint(c Checkpoint, s ...note.Signer) ([]byte, error) {
	return note.Sign(&note.Note{Text: c.Text()}, s...)
}

type Policy struct {
	Origin    string
	Log       note.Verifier
	Witnesses []note.Verifier
	Need      int
}

func (p *Policy) Open(msg []byte) (c Checkpoint, cosigners []string, err error) {
	n, err := note.Open(msg, note.VerifierList(append([]note.Verifier{p.Log}, p.Witnesses...)...))
	if err != nil {
		return c, nil, err
	}
	signed := false
	for _, s := range n.Sigs {
		if s.Name == p.Log.Name() && s.Hash == p.Log.KeyHash() {
			signed = true
		} else {
			cosigners = append(cosigners, s.Name)
		}
	}
	if !signed {
		return c, nil, &note.UnverifiedNoteError{Note: n}
	}
	if c, err = ParseCheckpoint(n.Text); err != nil {
		return c, nil, err
	}
	if c.Origin != p.Origin {
		return c, nil, fmt.Errorf("checkpoint of %q", c.Origin)
	}
	return c, cosigners, nil
}
