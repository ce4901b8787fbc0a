package archive

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"datafordeler/broker/ledger"
)

// Format is the format of archives that are written.
const Format = "datafordeler-archive-1"

// The files of an archive.
const (
	manifestName    = "manifest.json"
	readmeName      = "README.txt"
	checkpointsName = "checkpoints.ndjson.gz"
	entriesFolder   = "entries"
)

// entriesName is the file of the entries from first on.
func entriesName(first int64) string { return fmt.Sprintf("%s/%012d.ndjson.gz", entriesFolder, first) }

// Manifest lists what is in an archive.
type Manifest struct {
	Format string `json:"format"`
	// Origin names the log, and Keys are verifier keys: the log's first, then
	// those of witnesses. Who trusts them because they stand here trusts whoever
	// made the archive.
	Origin string    `json:"origin"`
	Keys   []string  `json:"keys"`
	Made   time.Time `json:"made"`
	// Entries, Lines and Decisions are how many there are in all files.
	Entries   int64 `json:"entries"`
	Lines     int64 `json:"lines"`
	Decisions int64 `json:"decisions"`
	// Files hold the entries, in order; Checkpoints the signed checkpoints.
	Files       []File `json:"files"`
	Checkpoints File   `json:"checkpoints"`
}

// File is one gzipped file.
type File struct {
	Name string `json:"name"`
	// First is the number of its first entry or checkpoint, from 0, and Count how
	// many there are.
	First int64 `json:"first"`
	Count int64 `json:"count"`
	// Bytes and SHA256 are of the file as it is, Text is the bytes of what it
	// unpacks to.
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	Text   int64  `json:"text"`
}

// maxManifest bounds what is read of a manifest, in bytes: 200,000 files.
const maxManifest = 64 << 20

// readManifest reads it and holds it to itself.
func readManifest(fsys fs.FS) (*Manifest, error) {
	f, err := fsys.Open(manifestName)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: this is no archive, or the export that made it did not come to its end", manifestName, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", manifestName, err)
	}
	m := &Manifest{}
	if err := json.Unmarshal(b, m); err != nil || len(b) > maxManifest {
		return nil, ledger.NewFault(ledger.UnknownFormat, "%s is not the manifest of an archive", manifestName)
	}
	if m.Format != Format {
		return nil, ledger.NewFault(ledger.UnknownFormat, "an archive in format %q: this version reads %s", m.Format, Format)
	}
	next := int64(0)
	for _, f := range m.Files {
		if f.Name != entriesName(next) || f.First != next || f.Count < 1 || f.Count > m.Entries-next {
			return nil, ledger.NewFault(ledger.FileChanged, "%s: file %q does not go on where the one before it ends, at entry %d", manifestName, f.Name, next)
		}
		next += f.Count
	}
	if next != m.Entries || m.Checkpoints.Name != checkpointsName || m.Checkpoints.First != 0 {
		return nil, ledger.NewFault(ledger.FileChanged, "%s: the files hold %d entries of %d, and checkpoints are in %q", manifestName, next, m.Entries, m.Checkpoints.Name)
	}
	for _, f := range append(m.Files[:len(m.Files):len(m.Files)], m.Checkpoints) {
		if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != 32 || f.SHA256 != strings.ToLower(f.SHA256) || f.Bytes < 0 || f.Text < 0 || f.Count < 0 {
			return nil, ledger.NewFault(ledger.FileChanged, "%s: %s has no proper sum or size", manifestName, f.Name)
		}
	}
	return m, nil
}
