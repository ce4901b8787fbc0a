package archive

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"datafordeler/broker/ledger"
)

// Reader reads an archive, once, as the source of a ledger.Verifier. Its files are
// held to the manifest on the way; faults are ledger's, with the name FileChanged
// or Truncated.
type Reader struct {
	// Manifest is what the archive says of itself.
	Manifest *Manifest

	fsys        fs.FS
	entries     *unzipped // the file under way
	file        int       // how many files of entries were begun
	left        int64     // entries left in it
	lines       int64     // lines left of the entry
	checkpoints *unzipped
	notes       int64 // checkpoints left
	done        bool
}

// Open opens an archive: os.DirFS of its directory, or a zip file's.
func Open(fsys fs.FS) (*Reader, error) {
	m, err := readManifest(fsys)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return &Reader{Manifest: m, fsys: fsys, notes: m.Checkpoints.Count}, nil
}

// Close closes what is open. What it returns is of no consequence to who has read.
func (r *Reader) Close() error { return errors.Join(r.entries.close(), r.checkpoints.close()) }

// Entry is the next entry's line.
func (r *Reader) Entry() ([]byte, error) {
	if r.lines > 0 {
		return nil, fmt.Errorf("archive: %d lines of the entry before were not read", r.lines)
	}
	for r.left == 0 {
		if r.entries != nil {
			if err := r.entries.end(); err != nil {
				return nil, err
			}
			r.entries = nil
		}
		if r.file == len(r.Manifest.Files) {
			return nil, io.EOF
		}
		f := &r.Manifest.Files[r.file]
		var err error
		if r.entries, err = unzip(r.fsys, f); err != nil {
			return nil, err
		}
		r.file++
		r.left = f.Count
	}
	line, err := r.entries.next()
	if err != nil {
		return nil, err
	}
	r.left--
	// What cannot be read as an entry is for the verifier to name.
	if e, err := ledger.ParseEntry(line); err == nil {
		r.lines = e.Lines
	}
	return line, nil
}

// Line is the next line of the entry.
func (r *Reader) Line() ([]byte, error) {
	if r.lines == 0 {
		return nil, io.EOF
	}
	r.lines--
	return r.entries.next()
}

// Checkpoint is the next signed checkpoint.
func (r *Reader) Checkpoint() ([]byte, error) {
	if r.checkpoints == nil && !r.done {
		var err error
		if r.checkpoints, err = unzip(r.fsys, &r.Manifest.Checkpoints); err != nil {
			return nil, err
		}
	}
	if r.notes == 0 {
		if !r.done {
			r.done = true
			u := r.checkpoints
			r.checkpoints = nil
			if err := u.end(); err != nil {
				return nil, err
			}
		}
		return nil, io.EOF
	}
	line, err := r.checkpoints.next()
	if err != nil {
		return nil, err
	}
	r.notes--
	return ledger.ParseNoteLine(line)
}

// unzipped is a file that is being read. As many bytes are unpacked as the
// manifest says, and no more: what was packed very tightly cannot make reading
// unbounded work.
type unzipped struct {
	*File
	from  fs.File
	sum   hash.Hash
	bytes int64
	zip   *gzip.Reader
	text  int64
	lines *ledger.Lines
}

func unzip(fsys fs.FS, f *File) (*unzipped, error) {
	from, err := fsys.Open(f.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ledger.NewFault(ledger.FileChanged, "%s is missing", f.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	u := &unzipped{File: f, from: from, sum: sha256.New()}
	if u.zip, err = gzip.NewReader(bufio.NewReaderSize(packed{u}, 1<<16)); err != nil {
		from.Close()
		return nil, u.fault(err)
	}
	u.lines = ledger.NewLines(u)
	return u, nil
}

// packed reads the file as it is.
type packed struct{ u *unzipped }

func (p packed) Read(b []byte) (int, error) {
	n, err := p.u.from.Read(b)
	p.u.sum.Write(b[:n])
	if p.u.bytes += int64(n); p.u.bytes > p.u.Bytes {
		return 0, ledger.NewFault(ledger.FileChanged, "%s has more bytes than the %d that the manifest lists", p.u.Name, p.u.Bytes)
	}
	return n, err
}

// Read reads what is unpacked.
func (u *unzipped) Read(b []byte) (int, error) {
	n, err := u.zip.Read(b)
	if u.text += int64(n); u.text > u.Text {
		return 0, ledger.NewFault(ledger.FileChanged, "%s unpacks to more than the %d bytes that the manifest lists", u.Name, u.Text)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = u.fault(err)
	}
	return n, err
}

// fault names what is wrong with a file that cannot be unpacked.
func (u *unzipped) fault(err error) error {
	if _, corrupt := errors.AsType[flate.CorruptInputError](err); corrupt || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) {
		return ledger.NewFault(ledger.FileChanged, "%s: %w", u.Name, err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return ledger.NewFault(ledger.Truncated, "%s ends before it is unpacked", u.Name)
	}
	return err
}

// next is the next line, which there must be.
func (u *unzipped) next() ([]byte, error) {
	line, err := u.lines.Next()
	if errors.Is(err, io.EOF) {
		return nil, ledger.NewFault(ledger.Truncated, "%s ends before its last line", u.Name)
	}
	return line, err
}

// end wants the file to end, and to be the one that the manifest lists.
func (u *unzipped) end() error {
	defer u.close()
	if _, err := u.lines.Next(); err == nil {
		return ledger.NewFault(ledger.FileChanged, "%s has more lines than the manifest lists", u.Name)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	if u.bytes != u.Bytes || u.text != u.Text || hex.EncodeToString(u.sum.Sum(nil)) != u.SHA256 {
		return ledger.NewFault(ledger.FileChanged, "%s is not the file that the manifest lists", u.Name)
	}
	return nil
}

func (u *unzipped) close() error {
	if u == nil {
		return nil
	}
	return u.from.Close()
}
