package evidence

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker/keys"
	"datafordeler/broker/ledger"
)

// Key is the secret key that signs the ledger's heads, and beside it a note of
// the last head signed. Both stand in files apart from the data, so that an old
// copy of the data does not take them along.
type Key struct {
	signer note.Signer
	public string
	origin string
	head   keys.File
	fork   keys.File // proof that a witness holds another history; see fork.go
}

// OpenKey reads the signing key at path, or makes it for this origin where there
// is none. Every instance that may sign needs a copy of the file.
func OpenKey(path, origin string) (k *Key, created bool, err error) {
	file := keys.File(path)
	b, err := file.Read()
	if errors.Is(err, fs.ErrNotExist) {
		secret, _, err := ledger.GenerateKey(origin, ledger.LogKey)
		if err != nil {
			return nil, false, fmt.Errorf("making the ledger's key: %w", err)
		}
		switch err := file.Create([]byte(secret + "\n")); {
		case err == nil:
			created = true
		case !errors.Is(err, fs.ErrExist): // else another instance was first
			return nil, false, fmt.Errorf("making the ledger's key %s: %w", path, err)
		}
		b, err = file.Read()
		if err != nil {
			return nil, false, fmt.Errorf("the ledger's key: %w", err)
		}
	} else if err != nil {
		return nil, false, fmt.Errorf("the ledger's key: %w", err)
	}
	secret := strings.TrimSpace(string(b))
	signer, err := note.NewSigner(secret)
	if err != nil { // its text is not shown: it is a secret
		return nil, false, fmt.Errorf("the ledger's key %s is not one: put a copy of the right file there", path)
	}
	if signer.Name() != origin {
		return nil, false, fmt.Errorf("the ledger's key %s is for the origin %q, and the configuration says %q (ledger.origin)", path, signer.Name(), origin)
	}
	public, err := ledger.VKey(secret)
	if err != nil {
		return nil, false, fmt.Errorf("the ledger's key %s: %w", path, err)
	}
	return &Key{signer: signer, public: public, origin: origin, head: keys.File(path + ".head"), fork: forkFile(path)}, created, nil
}

// Public is the verifier key (C2SP signed-note), to be given to whoever checks.
func (k *Key) Public() string { return k.public }

// head is the last one signed by a holder of this copy of the key.
type head struct {
	Size int64     `json:"size"`
	Root tlog.Hash `json:"root"`
}

// last is the last head signed; of size 0 if none was.
func (k *Key) last() (h head, err error) {
	b, err := k.head.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return head{}, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err != nil {
		return head{}, fmt.Errorf("the note of the last signed head, %s: %w", k.head, err)
	}
	return h, nil
}

// sign signs a head, once it is noted durably that it was: after a crash the note
// may be ahead of what was published, never behind. It refuses to go back behind
// the note, and to sign at all once a witness proved another history. That the new head continues the old one is for the caller to know.
func (k *Key) sign(c ledger.Checkpoint) ([]byte, error) {
	if err := k.forked(); err != nil {
		return nil, err
	}
	last, err := k.last()
	if err != nil {
		return nil, err
	}
	switch {
	case c.Size < last.Size, c.Size == last.Size && c.Root != last.Root:
		return nil, &RegressError{Signed: last.Size, Have: c.Size, Note: k.head.String()}
	case c.Size > last.Size:
		b, err := json.Marshal(head{c.Size, c.Root})
		if err != nil {
			return nil, err
		}
		write := k.head.Replace
		if last.Size == 0 {
			write = k.replaceOrCreate
		}
		if err := write(b); err != nil {
			return nil, fmt.Errorf("noting the head to be signed: %w", err)
		}
	}
	return ledger.SignCheckpoint(c, k.signer)
}

func (k *Key) replaceOrCreate(b []byte) error {
	err := k.head.Create(b)
	if errors.Is(err, fs.ErrExist) {
		return k.head.Replace(b)
	}
	return err
}

// RegressError is a ledger that does not continue what was signed before: its
// data were set back, or are another ledger's.
type RegressError struct {
	Signed, Have int64  // entries
	Note         string // where it stands what was signed
}

func (e *RegressError) Error() string {
	return fmt.Sprintf("a head over %d entries was signed before, and the ledger that stands here, with %d, does not continue it: "+
		"its data were set back or replaced (what was signed stands in %s). Restore the newer data. If they were removed on purpose, "+
		"begin another ledger: move the ledger's key and the file with .head after its name away, and tell those who check", e.Signed, e.Have, e.Note)
}
