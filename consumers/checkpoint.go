package consumers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"datafordeler/broker"
)

// Checkpoint is how far a mailbox has been handled, and what was handled last.
type Checkpoint struct {
	Version int              `json:"version"`
	Mailbox broker.MailboxID `json:"mailbox"`
	Topic   string           `json:"topic"`
	// TopicID tells a topic from one made anew under its name (KIP-516).
	TopicID string `json:"topicId"`
	// Next is the offset to go on from, by partition.
	Next map[int32]int64 `json:"next,omitempty"`
	// Cursor is where to go on in a feed. Topic is "feed" then.
	Cursor string `json:"cursor,omitempty"`
	// Recent are the ids handled last, oldest first: the window in which
	// repeats are known.
	Recent []broker.DeliveryID `json:"recent,omitempty"`
}

const checkpointVersion = 1

// Store keeps a checkpoint. One Receiver uses it at a time.
type Store interface {
	// Load returns what Save kept last, or nil where nothing was.
	Load(ctx context.Context) (*Checkpoint, error)
	// Save keeps the checkpoint, whole or not at all: once it returns nil it
	// must survive a crash of the machine, and after an error or a crash
	// inside, Load must return this one or the one before. It does not keep
	// hold of the argument.
	Save(ctx context.Context, c *Checkpoint) error
}

// FileStore keeps the checkpoint in a file, with mode 0600. It is written
// beside and renamed into place.
func FileStore(path string) Store { return fileStore(path) }

type fileStore string

// Load reads the file.
func (path fileStore) Load(context.Context) (*Checkpoint, error) {
	b, err := os.ReadFile(string(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	var c Checkpoint
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w; move it away to begin anew, from the place that From names", path, err)
	}
	return &c, nil
}

// Save writes the file, and the directory's entry, through to the disk.
func (path fileStore) Save(_ context.Context, c *Checkpoint) (err error) {
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	dir := filepath.Dir(string(path))
	f, err := os.CreateTemp(dir, filepath.Base(string(path))+".*.tmp") // mode 0600
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
			err = fmt.Errorf("checkpoint: %w", err)
		}
	}()
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), string(path))
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// window remembers the last ids in a ring.
type window struct {
	ring []broker.DeliveryID
	next int // where the next one goes, once the ring is full
	max  int
	seen map[broker.DeliveryID]struct{}
}

func newWindow(max int, recent []broker.DeliveryID) *window {
	w := &window{max: max, seen: make(map[broker.DeliveryID]struct{})}
	for _, id := range recent {
		w.add(id)
	}
	return w
}

func (w *window) has(id broker.DeliveryID) bool {
	_, ok := w.seen[id]
	return ok
}

func (w *window) add(id broker.DeliveryID) {
	if w.has(id) {
		return
	}
	if len(w.ring) < w.max {
		w.ring = append(w.ring, id)
	} else {
		delete(w.seen, w.ring[w.next])
		w.ring[w.next] = id
		w.next = (w.next + 1) % w.max
	}
	w.seen[id] = struct{}{}
}

// recent is what newWindow makes the same window from.
func (w *window) recent() []broker.DeliveryID {
	out := make([]broker.DeliveryID, 0, len(w.ring))
	out = append(out, w.ring[w.next:]...)
	return append(out, w.ring[:w.next]...)
}
