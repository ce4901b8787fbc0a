package flow

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"datafordeler/broker"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// A control topic is kept for ever, and folding ten million events takes minutes. An
// instance therefore writes down now and then what it has folded, and begins from that:
//
//	file   = header registry.Image digest
//	header = one line of JSON, imageHeader
//	digest = SHA-256 of all before it, 32 bytes
//
// The log alone decides. An image that is damaged, of another topic, of another version,
// or not of this log is put aside, with a warning, and the log is folded from its
// beginning. See docs/decisions/0033-images-of-the-registry.md.

// imageHeader ties an image to a place in a log.
type imageHeader struct {
	Topic string        `json:"topic"`
	ID    broker.Digest `json:"topicId"`
	// Next is the offset after the last one that was folded.
	Next int64 `json:"next"`
	// Last is the offset of the last event that was accepted; -1 before any. The event
	// there is the state's head, or this is not its log.
	Last int64 `json:"last"`
	// Refused and Lost are the offsets of the events that were not accepted.
	Refused []int64 `json:"refused"`
	Lost    []int64 `json:"lost"`
}

const (
	// imageLeast is how many offsets have to be new before another image is worth its
	// while, and imageShare which part of the log: to fold a twentieth takes seconds.
	imageLeast = 50_000
	imageShare = 20
	// imageAtEnd is imageLeast for an instance that stops in order.
	imageAtEnd = 10_000
	// imageTemporary is for how long another process may be writing one.
	imageTemporary = time.Hour
)

// errNoImage says why there is none to begin from.
type errNoImage struct{ error }

func (e errNoImage) Unwrap() error { return e.error }

// begin takes the image in a file, if it is of this log, as where to fold from.
func (c *Control) begin(ctx context.Context, path string, end int64) error {
	header, state, err := readImage(path)
	if err != nil {
		return err
	}
	id, err := c.topicID(ctx)
	switch {
	case err != nil:
		return err
	case header.Topic != c.topic || header.ID != id:
		return errNoImage{fmt.Errorf("it is of another topic, %s", header.Topic)}
	case header.Next > end:
		return errNoImage{fmt.Errorf("it is of %d offsets, and topic %s ends at %d", header.Next, c.topic, end)}
	case header.Last < 0 != (state.Revision() == 0) || header.Last >= header.Next:
		return errNoImage{errors.New("it contradicts itself")}
	}
	if header.Last >= 0 {
		found := false
		if err := c.engine.Each(ctx, kafka.Span{Topic: c.topic, From: header.Last, To: header.Last + 1, ID: [16]byte(id)}, func(r *kgo.Record) error {
			e, err := registry.Decode(r.Value)
			found = err == nil && r.Offset == header.Last && e.Hash() == state.Head()
			return nil
		}); err != nil {
			return err
		}
		if !found {
			return errNoImage{fmt.Errorf("what stands at offset %d of topic %s is not what it ends with", header.Last, c.topic)}
		}
	}
	c.state, c.next, c.last = state, header.Next, header.Last
	for refused, offsets := range map[bool][]int64{true: header.Refused, false: header.Lost} {
		for _, o := range offsets {
			c.passed[o] = refused
		}
	}
	c.imaged, c.imagedAt = state.Revision(), header.Next
	return nil
}

func (c *Control) topicID(ctx context.Context) (broker.Digest, error) {
	details, err := kafka.Describe(ctx, c.adm, c.topic)
	if err != nil {
		return broker.Digest{}, err
	}
	return broker.Digest(details[c.topic].ID), nil
}

// readImage reads a file whole before it believes any of it.
func readImage(path string) (header imageHeader, state *registry.State, err error) {
	f, err := os.Open(path)
	if err != nil {
		return header, nil, errNoImage{err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return header, nil, errNoImage{err}
	}
	size := info.Size() - sha256.Size
	if size < 0 {
		return header, nil, errNoImage{errors.New("it is cut off")}
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, size)); err != nil {
		return header, nil, errNoImage{err}
	}
	want := make([]byte, sha256.Size)
	if _, err := f.ReadAt(want, size); err != nil {
		return header, nil, errNoImage{err}
	}
	if !bytes.Equal(h.Sum(nil), want) {
		return header, nil, errNoImage{errors.New("it is damaged")}
	}
	in := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 1<<16)
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &header)
	}
	if err == nil {
		state, err = registry.ReadImage(in)
	}
	if err == nil {
		if _, more := in.Peek(1); more != io.EOF {
			err = errors.New("something follows it")
		}
	}
	if err != nil {
		return header, nil, errNoImage{err}
	}
	return header, state, nil
}

// KeepImage writes an image to the file now and then, so that the next start begins from
// it, until stop is called, which writes a last one where much is new. An image that
// cannot be written is logged: nothing rests on it but the time that a start takes.
func (c *Control) KeepImage(path string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			changed := c.Changed()
			c.imageIf(path, imageLeast)
			select {
			case <-changed:
			case <-c.done:
				<-ctx.Done() // folding has ended, and with it what could be new
			case <-ctx.Done():
			}
			if ctx.Err() != nil {
				c.imageIf(path, imageAtEnd)
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// imageIf writes an image where so many offsets are new.
func (c *Control) imageIf(path string, least int64) {
	c.mu.RLock()
	fresh := c.next - c.imagedAt
	due := c.err == nil && fresh >= max(least, c.next/imageShare)
	if least == imageAtEnd {
		due = fresh >= least // what was folded before an error is as good as ever
	}
	c.mu.RUnlock()
	if !due {
		return
	}
	begun := time.Now()
	rev, size, err := c.WriteImage(context.Background(), path)
	if err != nil {
		// Not again at once: a disk that is full stays so for a while.
		c.mu.Lock()
		c.imagedAt = c.next
		c.mu.Unlock()
		c.log.Warn("no image of the registry could be written: the next start folds more of the control topic", "path", path, "err", err)
		return
	}
	c.log.Info("wrote an image of the registry", "path", path, "revision", rev, "bytes", size, "took", time.Since(begun).Round(time.Millisecond))
}

// WriteImage writes an image of what is folded now. The file is whole, or as it was.
func (c *Control) WriteImage(ctx context.Context, path string) (rev broker.Revision, size int64, err error) {
	id, err := c.topicID(ctx)
	if err != nil {
		return 0, 0, err
	}
	c.mu.RLock()
	header := imageHeader{Topic: c.topic, ID: id, Next: c.next, Last: c.last, Refused: []int64{}, Lost: []int64{}}
	for o, refused := range c.passed {
		if refused {
			header.Refused = append(header.Refused, o)
		} else {
			header.Lost = append(header.Lost, o)
		}
	}
	image := c.state.Image()
	c.mu.RUnlock()
	slices.Sort(header.Refused)
	slices.Sort(header.Lost)

	sweepImages(path)
	f, err := os.CreateTemp(filepath.Dir(path), imagePattern(path)) // mode 0600
	if err != nil {
		return 0, 0, err
	}
	size, err = writeImage(f, &header, image)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return 0, 0, errors.Join(err, os.Remove(f.Name()))
	}
	c.mu.Lock()
	c.imaged, c.imagedAt = image.Revision(), header.Next
	c.mu.Unlock()
	return image.Revision(), size, nil
}

func imagePattern(path string) string { return "." + filepath.Base(path) + "-*" }

// sweepImages removes what writers left that were stopped on the way.
func sweepImages(path string) {
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), imagePattern(path))) // it fails for a bad pattern only
	for _, name := range left {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > imageTemporary {
			_ = os.Remove(name) // the next one tries again
		}
	}
}

func writeImage(w io.Writer, header *imageHeader, image *registry.Image) (size int64, err error) {
	line, err := json.Marshal(header)
	if err != nil {
		return 0, err
	}
	h := sha256.New()
	out := &counted{w: io.MultiWriter(w, h)}
	if _, err := out.Write(append(line, '\n')); err != nil {
		return 0, err
	}
	if err := image.Write(out); err != nil {
		return 0, err
	}
	_, err = w.Write(h.Sum(nil))
	return out.n + sha256.Size, err
}

type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// Imaged is the revision of the latest image; 0 before any.
func (c *Control) Imaged() broker.Revision {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.imaged
}

// aside says what becomes of an image that cannot be begun from.
func (c *Control) aside(path string, err error) {
	why, ok := errors.AsType[errNoImage](err)
	if ok && errors.Is(why, fs.ErrNotExist) {
		return // none was written yet
	}
	c.log.Warn("the image of the registry is put aside, and the control topic is folded from its beginning", "path", path, "why", cmp.Or(why.error, err))
}
