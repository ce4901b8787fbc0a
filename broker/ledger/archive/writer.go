package archive

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"datafordeler/broker/ledger"
)

//go:embed README.txt
var readme []byte

// A file of entries ends after this many, or when it has unpacked this long.
const (
	fileEntries = 100_000
	fileText    = 256 << 20
)

// Create makes a file of an archive, by its name with slashes. What was written is
// durable once Close returns.
type Create func(name string) (io.WriteCloser, error)

// Dir makes the files in a directory of the file system, which must be empty or
// not be there. They are readable for their owner only: an archive holds
// pseudonyms.
func Dir(path string) (Create, error) {
	if err := os.MkdirAll(filepath.Join(path), 0o700); err != nil {
		return nil, err
	}
	have, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	if len(have) > 0 {
		return nil, fmt.Errorf("%s is not empty: give a new directory", path)
	}
	if err := os.Mkdir(filepath.Join(path, entriesFolder), 0o700); err != nil {
		return nil, err
	}
	return func(name string) (io.WriteCloser, error) {
		f, err := os.OpenFile(filepath.Join(path, filepath.FromSlash(name)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return durable{f}, err
	}, nil
}

type durable struct{ *os.File }

func (d durable) Close() error { return errors.Join(d.Sync(), d.File.Close()) }

// Writer writes an archive. It is used by one goroutine.
//
//	w.Entry(…), then w.Line(…) for each of its lines; w.Checkpoint(…) at any time
//	w.Close()
//
// The manifest is written last, by Close: what has none is no archive. A Writer
// that is not closed leaves files open; Abort closes them.
type Writer struct {
	create      Create
	manifest    Manifest
	entries     *zipped
	checkpoints *zipped
	left        int64 // lines of the entry that are to come
	line        []byte
	err         error // the first; nothing is written after it
	// Limits of a file; tests have smaller ones.
	maxEntries, maxText int64
}

// NewWriter begins an archive of the log with that origin, with the keys to show.
func NewWriter(create Create, origin string, keys []string, made time.Time) (*Writer, error) {
	w := &Writer{create: create, manifest: Manifest{Format: Format, Origin: origin, Keys: keys, Made: made.UTC(), Files: []File{}}, maxEntries: fileEntries, maxText: fileText}
	if w.manifest.Keys == nil {
		w.manifest.Keys = []string{}
	}
	f, err := create(readmeName)
	if err == nil {
		_, err = f.Write(readme)
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		w.checkpoints, err = newZipped(create, File{Name: checkpointsName})
	}
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return w, nil
}

// Entry begins the next entry. Its lines follow through Line.
func (w *Writer) Entry(line []byte) error {
	if w.err != nil {
		return w.err
	}
	e, err := ledger.ParseEntry(line)
	if err == nil && w.left > 0 {
		err = fmt.Errorf("%d lines of entry %d were not written", w.left, w.manifest.Entries-1)
	}
	if err == nil && w.entries != nil && (w.entries.Count >= w.maxEntries || w.entries.Text >= w.maxText) {
		err = w.end()
	}
	if err == nil && w.entries == nil {
		w.entries, err = newZipped(w.create, File{Name: entriesName(w.manifest.Entries), First: w.manifest.Entries})
	}
	if err != nil {
		return w.fail(err)
	}
	w.entries.Count++
	w.manifest.Entries++
	w.manifest.Lines += e.Lines
	w.manifest.Decisions += e.Batch.Decisions
	w.left = e.Lines
	return w.fail(w.entries.line(line))
}

// Line writes the entry's next line.
func (w *Writer) Line(line []byte) error {
	if w.err != nil {
		return w.err
	}
	if w.left == 0 {
		return w.fail(fmt.Errorf("entry %d has no more lines", w.manifest.Entries-1))
	}
	w.left--
	return w.fail(w.entries.line(line))
}

// Checkpoint writes the next signed checkpoint.
func (w *Writer) Checkpoint(note []byte) error {
	if w.err != nil {
		return w.err
	}
	w.line = ledger.AppendNoteLine(w.line[:0], note)
	if _, err := ledger.ParseNoteLine(w.line); err != nil {
		return w.fail(err)
	}
	w.checkpoints.Count++
	return w.fail(w.checkpoints.line(w.line))
}

// Close ends the archive and writes its manifest, which it returns.
func (w *Writer) Close() (*Manifest, error) {
	if w.err == nil && w.left > 0 {
		w.fail(fmt.Errorf("%d lines of entry %d were not written", w.left, w.manifest.Entries-1))
	}
	if w.err == nil && w.entries != nil {
		w.fail(w.end())
	}
	if w.err != nil {
		w.Abort()
		return nil, w.err
	}
	var err error
	w.manifest.Checkpoints, err = w.checkpoints.end()
	w.checkpoints = nil
	if err != nil {
		return nil, w.fail(err)
	}
	text, err := json.MarshalIndent(&w.manifest, "", "  ")
	if err != nil {
		return nil, w.fail(err)
	}
	f, err := w.create(manifestName)
	if err == nil {
		_, err = f.Write(append(text, '\n'))
		err = errors.Join(err, f.Close())
	}
	return &w.manifest, w.fail(err)
}

// Abort closes the files of an archive that will have no manifest.
func (w *Writer) Abort() {
	for _, z := range []*zipped{w.entries, w.checkpoints} {
		if z != nil {
			_, _ = z.end() // there is no archive whatever it says
		}
	}
	w.entries, w.checkpoints = nil, nil
	w.fail(errors.New("it was given up"))
}

func (w *Writer) end() error {
	f, err := w.entries.end()
	w.entries = nil
	w.manifest.Files = append(w.manifest.Files, f)
	return err
}

func (w *Writer) fail(err error) error {
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("archive: %w", err)
	}
	return w.err
}

// zipped is a file under way.
type zipped struct {
	File
	to   io.WriteCloser
	sum  hash.Hash
	zip  *gzip.Writer
	text *bufio.Writer
}

func newZipped(create Create, f File) (*zipped, error) {
	to, err := create(f.Name)
	if err != nil {
		return nil, err
	}
	z := &zipped{File: f, to: to, sum: sha256.New()}
	// No time and no name in it: the same ledger gives the same bytes.
	z.zip, err = gzip.NewWriterLevel(z, gzip.BestSpeed)
	z.text = bufio.NewWriterSize(z.zip, 1<<16)
	return z, err
}

// Write takes what was packed.
func (z *zipped) Write(p []byte) (int, error) {
	n, err := z.to.Write(p)
	z.sum.Write(p[:n])
	z.Bytes += int64(n)
	return n, err
}

func (z *zipped) line(line []byte) error {
	z.Text += int64(len(line)) + 1
	z.text.Write(line) // its error is sticky
	return z.text.WriteByte('\n')
}

func (z *zipped) end() (File, error) {
	err := errors.Join(z.text.Flush(), z.zip.Close(), z.to.Close())
	z.SHA256 = hex.EncodeToString(z.sum.Sum(nil))
	return z.File, err
}
