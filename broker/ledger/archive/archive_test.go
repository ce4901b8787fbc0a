package archive

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker"
	"datafordeler/broker/ledger"
)

const origin = "log.example/ledger"

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// mapFiles makes files in memory.
func mapFiles(fsys fstest.MapFS) Create {
	return func(name string) (io.WriteCloser, error) { return &memFile{fsys: fsys, name: name}, nil }
}

type memFile struct {
	bytes.Buffer
	fsys fstest.MapFS
	name string
}

func (m *memFile) Close() error {
	m.fsys[m.name] = &fstest.MapFile{Data: m.Bytes()}
	return nil
}

// write writes an archive of batches entries, of two decisions each.
func write(t *testing.T, create Create, entries int) *ledger.Policy {
	skey, vkey, err := ledger.GenerateKey("log.example", ledger.LogKey)
	if err != nil {
		t.Fatal(err)
	}
	signer := must(note.NewSigner(skey))
	w := must(NewWriter(create, origin, []string{vkey}, time.Unix(1_800_000_000, 0)))
	w.maxEntries = 7
	tree := must(ledger.NewTree(nil, 0))
	sequence := ledger.NewSequence()
	put := func(e ledger.Entry, lines ...[]byte) {
		if err := sequence.Accept(&e); err != nil {
			t.Fatal(err)
		}
		line := ledger.AppendEntry(nil, &e)
		if err := w.Entry(line); err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			if err := w.Line(l); err != nil {
				t.Fatal(err)
			}
		}
		if err := tree.Append(tlog.RecordHash(line)); err != nil {
			t.Fatal(err)
		}
	}
	var control ledger.ControlBuilder
	control.Begin(ledger.Chain{})
	event := must(control.Add(0, []byte(`{"v":1,"seq":1,"on":0,"prev":"00000000000000000000000000000000","at":"2026-11-22T09:00:00Z","actor":"test","type":"keystore.registered","data":{"check":"x"}}`), false))
	e, _ := control.End()
	put(e, event)
	var b ledger.Builder
	next := int64(0)
	for i := range entries - 1 {
		h := ledger.Head{Kind: "stream", Dataset: "inntekt", TopicID: broker.Digest{1}, First: next, Last: next, Records: 1, Policy: "p", Revision: 1, Time: time.Unix(1_800_000_000, 0)}
		var lines [][]byte
		kind := broker.StreamDecision
		if i%10 >= 5 && i%10 <= 7 { // of ten entries one is of each other kind
			kind = broker.BackfillDecision + broker.DecisionKind(i%10-5)
		}
		if kind == broker.StreamDecision {
			lines = append(lines, bytes.Clone(b.Begin(&h, ledger.Place{Offset: int64(i)}, [32]byte{1})))
			next++
		} else {
			one := ledger.SinglesHead{Kind: kind, Decisions: 2, Policy: "p", Revision: 1, Time: h.Time}
			lines = append(lines, bytes.Clone(b.BeginSingles(&one, ledger.Place{Offset: int64(i)}, [32]byte{1})))
		}
		for _, sub := range []broker.SubscriptionID{"a", "b"} {
			d := broker.Decision{Kind: kind, Position: broker.Position{Dataset: h.Dataset, TopicID: h.TopicID, Offset: h.First}, Subscription: sub,
				PolicyDigest: "p", Revision: 1, Time: h.Time, Event: broker.Digest{byte(i), 1}}
			d.ID = broker.NewDecisionID(d.Kind, d.Position.TopicID, 0, d.Position.Offset, sub)
			if kind == broker.LookupDecision {
				d.Request = broker.Digest{byte(i), 2}
				d.ID = broker.NewLookupID(d.Request, d.Event, &d.Position, sub)
			}
			d.Outcome.Reasons = []broker.Reason{"no_open_case"}
			lines = append(lines, bytes.Clone(b.Add(&d)))
		}
		put(b.End(), lines...)
		if i%5 == 4 || i == entries-2 {
			c := ledger.Checkpoint{Origin: origin, Size: tree.Size(), Root: tree.Root()}
			if err := w.Checkpoint(must(ledger.SignCheckpoint(c, signer))); err != nil {
				t.Fatal(err)
			}
		}
	}
	m := must(w.Close())
	if m.Entries != int64(entries) || m.Decisions != int64(2*(entries-1)) || m.Lines != int64(3*(entries-1)+1) || len(m.Files) != (entries+6)/7 {
		t.Errorf("manifest %+v", m)
	}
	return must(ledger.NewPolicy(origin, []string{vkey}, 0))
}

func verify(t *testing.T, fsys fs.FS, policy *ledger.Policy) (*ledger.Report, error) {
	r, err := Open(fsys)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	v := &ledger.Verifier{Policy: policy}
	return v.Run(t.Context(), r)
}

func TestArchiveInDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	policy := write(t, must(Dir(dir)), 30)
	report, err := verify(t, os.DirFS(dir), policy)
	if err != nil || report.Entries != 30 || report.Decisions != 58 || report.Uncovered != 0 {
		t.Fatalf("%v %+v", err, report)
	}
	info := must(os.Stat(filepath.Join(dir, "entries", "000000000007.ndjson.gz")))
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if _, err := Dir(dir); err == nil {
		t.Error("an archive was begun where there is one")
	}
	// The file that it carries says how to read it.
	text := string(must(os.ReadFile(filepath.Join(dir, readmeName))))
	for _, word := range []string{Format, "rejectedAt", "packageVersion", "RFC 6962", "cosignature/v1"} {
		if !strings.Contains(text, word) {
			t.Errorf("the README does not speak of %s", word)
		}
	}
}

func TestSameLedgerSameBytes(t *testing.T) {
	a, b := fstest.MapFS{}, fstest.MapFS{}
	write(t, mapFiles(a), 20)
	write(t, mapFiles(b), 20)
	for name, f := range a {
		if strings.HasPrefix(name, entriesFolder) && !bytes.Equal(f.Data, b[name].Data) {
			t.Errorf("%s differs", name)
		}
	}
}

func TestDamagedArchives(t *testing.T) {
	second := entriesName(7)
	repack := func(fsys fstest.MapFS, name string, change func([]byte) []byte) {
		text := must(io.ReadAll(must(gzip.NewReader(bytes.NewReader(fsys[name].Data)))))
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(change(text))
		z.Close()
		fsys[name] = &fstest.MapFile{Data: b.Bytes()}
	}
	relist := func(fsys fstest.MapFS, change func(m *Manifest)) {
		var m Manifest
		if err := json.Unmarshal(fsys[manifestName].Data, &m); err != nil {
			panic(err)
		}
		change(&m)
		fsys[manifestName] = &fstest.MapFile{Data: must(json.Marshal(m))}
	}
	for _, c := range []struct {
		name string
		do   func(fsys fstest.MapFS)
		want ledger.FaultName
	}{
		{"a file missing", func(fsys fstest.MapFS) { delete(fsys, second) }, ledger.FileChanged},
		{"a file cut off", func(fsys fstest.MapFS) { fsys[second].Data = fsys[second].Data[:len(fsys[second].Data)/2] }, ledger.Truncated},
		{"a file emptied", func(fsys fstest.MapFS) { fsys[second].Data = nil }, ledger.Truncated},
		{"a file that is not gzip", func(fsys fstest.MapFS) { copy(fsys[second].Data, "hello hello") }, ledger.FileChanged},
		{"a file repacked, with the same content", func(fsys fstest.MapFS) {
			repack(fsys, second, func(b []byte) []byte { return b })
		}, ledger.FileChanged},
		{"two files exchanged", func(fsys fstest.MapFS) { fsys[second], fsys[entriesName(14)] = fsys[entriesName(14)], fsys[second] }, ledger.FileChanged},
		{"checkpoints missing", func(fsys fstest.MapFS) { delete(fsys, checkpointsName) }, ledger.FileChanged},
		{"checkpoints cut off, and the manifest made to fit", func(fsys fstest.MapFS) {
			repack(fsys, checkpointsName, func(b []byte) []byte { return b[:bytes.IndexByte(b, '\n')+1] })
			relist(fsys, func(m *Manifest) { fit(fsys, &m.Checkpoints, 1) })
		}, ""}, // not a fault: what follows is not proved, which the report says
		{"no checkpoints, and the manifest made to fit", func(fsys fstest.MapFS) {
			repack(fsys, checkpointsName, func([]byte) []byte { return nil })
			relist(fsys, func(m *Manifest) { fit(fsys, &m.Checkpoints, 0) })
		}, ledger.NoCheckpoint},
		{"the last file dropped, and the manifest made to fit", func(fsys fstest.MapFS) {
			relist(fsys, func(m *Manifest) {
				last := m.Files[len(m.Files)-1]
				m.Files, m.Entries = m.Files[:len(m.Files)-1], last.First
			})
		}, ledger.BatchMissing},
		{"a line changed, and the manifest made to fit", func(fsys fstest.MapFS) {
			repack(fsys, second, func(b []byte) []byte { return bytes.Replace(b, []byte("no_open_case"), []byte("no_opem_case"), 1) })
			relist(fsys, func(m *Manifest) { fit(fsys, &m.Files[1], 7) })
		}, ledger.RowChanged},
		{"more in a file than is listed", func(fsys fstest.MapFS) {
			repack(fsys, second, func(b []byte) []byte { return append(b, "{}\n"...) })
			relist(fsys, func(m *Manifest) { fit(fsys, &m.Files[1], 7) })
		}, ledger.FileChanged},
		{"a file that unpacks to very much", func(fsys fstest.MapFS) {
			repack(fsys, second, func(b []byte) []byte { return append(b, make([]byte, 100<<20)...) })
			relist(fsys, func(m *Manifest) {
				text := m.Files[1].Text
				fit(fsys, &m.Files[1], 7)
				m.Files[1].Text = text
			})
		}, ledger.FileChanged},
		{"one line without end", func(fsys fstest.MapFS) {
			repack(fsys, second, func([]byte) []byte { return bytes.Repeat([]byte{'x'}, ledger.MaxLine+300<<10) })
			relist(fsys, func(m *Manifest) { fit(fsys, &m.Files[1], 7) })
		}, ledger.UnknownFormat},
		{"a manifest with a hole", func(fsys fstest.MapFS) {
			relist(fsys, func(m *Manifest) { m.Files = append(m.Files[:1], m.Files[2:]...) })
		}, ledger.FileChanged},
		{"a manifest that leads elsewhere", func(fsys fstest.MapFS) {
			relist(fsys, func(m *Manifest) { m.Files[0].Name = "../secret" })
		}, ledger.FileChanged},
		{"a manifest of a newer format", func(fsys fstest.MapFS) {
			relist(fsys, func(m *Manifest) { m.Format = "datafordeler-archive-2" })
		}, ledger.UnknownFormat},
		{"a manifest that is not JSON", func(fsys fstest.MapFS) { fsys[manifestName].Data = []byte("{") }, ledger.UnknownFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := fstest.MapFS{}
			policy := write(t, mapFiles(fsys), 30)
			c.do(fsys)
			report, err := verify(t, fsys, policy)
			if ledger.NameOf(err) != c.want || (err != nil) != (c.want != "") {
				t.Errorf("found %v, want %s", err, c.want)
			}
			if c.want == "" && report.Uncovered != 24 {
				t.Errorf("%d entries are said to be under no checkpoint, want 24", report.Uncovered)
			}
		})
	}
	if _, err := Open(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no manifest: %v", err)
	}
}

func fit(fsys fstest.MapFS, f *File, count int64) {
	data := fsys[f.Name].Data
	sum := sha256.Sum256(data)
	f.Count, f.Bytes, f.SHA256 = count, int64(len(data)), hex.EncodeToString(sum[:])
	n := must(io.Copy(io.Discard, must(gzip.NewReader(bytes.NewReader(data)))))
	f.Text = n
}

// A writer that fails, or is misused, leaves no manifest.
func TestWriterFails(t *testing.T) {
	full := errors.New("disk full")
	for n := range 6 {
		fsys := fstest.MapFS{}
		i := 0
		w, err := NewWriter(func(name string) (io.WriteCloser, error) {
			if i++; i > n {
				return nil, full
			}
			return mapFiles(fsys)(name)
		}, origin, nil, time.Time{})
		if err == nil {
			e := ledger.Entry{Type: ledger.ControlEntry, Lines: 1, Revision: 1, Control: ledger.Control{Events: 1}}
			err = errors.Join(w.Entry(ledger.AppendEntry(nil, &e)), w.Line([]byte("{}")))
			_, closed := w.Close()
			err = errors.Join(err, closed)
		}
		if n < 4 && (!errors.Is(err, full) || fsys[manifestName] != nil) || n >= 4 && err != nil {
			t.Errorf("%d files fit: %v", n, err)
		}
	}
	fsys := fstest.MapFS{}
	w := must(NewWriter(mapFiles(fsys), origin, nil, time.Time{}))
	if w.Line([]byte("{}")) == nil {
		t.Error("a line without an entry")
	}
	if _, err := w.Close(); err == nil || fsys[manifestName] != nil {
		t.Errorf("closed after an error: %v", err)
	}
}
