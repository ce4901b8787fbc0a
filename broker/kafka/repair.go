package kafka

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// After a kill the embedded engine's directory may hold transactions that are
// neither committed nor aborted. The engine, when it loads them, treats each as
// aborted, but only in memory: it writes no marker. That is not enough, for
// three reasons, each with a test:
//
//   - a client drops the records of an aborted transaction until it meets the
//     abort marker, so without one it also drops what the same producer
//     commits afterwards;
//   - the next commit of the same producer would, after a second kill, be read
//     as the missing marker and commit the torn records;
//   - a kill between the markers of two partitions leaves a transaction
//     committed in one and aborted in the other.
//
// So repair writes the missing markers itself, in the files, before the engine
// opens them: a commit where the transaction was already being committed
// (some partition has its commit marker, which the engine writes only once
// everything in the transaction is on file), an abort everywhere else. It also
// cuts off what was half written, and moves the producers' epochs on so that a
// client that outlived the engine is refused rather than told that its lost
// transaction succeeded.
//
// Running it again after a kill in the middle of it gives the same outcome.

// Recovery is what was settled after an unclean stop.
type Recovery struct {
	// Unclean says that the last process to own the directory did not close it.
	Unclean bool
	// Aborted and Committed count transactions that were open on disk and have
	// been aborted, or committed because their commit had begun.
	Aborted, Committed int
	// Markers counts the markers written, at most one per open transaction and
	// partition.
	Markers int
	// TruncatedBytes were half-written at the ends of files and are cut off.
	// Nothing in them had been acknowledged, unless the machine itself stopped.
	TruncatedBytes int64
}

// LogValue shows the counts in one group.
func (r Recovery) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Bool("unclean", r.Unclean),
		slog.Int("aborted", r.Aborted),
		slog.Int("committed", r.Committed),
		slog.Int("markers", r.Markers),
		slog.Int64("truncated_bytes", r.TruncatedBytes),
	)
}

// txn identifies a transaction: since KIP-890 a producer's epoch goes up with
// each one.
type txn struct {
	producer int64
	epoch    int16
}

// partition is what a scan of one partition's files found.
type partition struct {
	dir      string
	segment  string       // the file to append to, without its extension; "" where there is none
	next     int64        // the offset that the next batch gets
	leader   int32        // leader epoch of the last batch
	open     map[txn]bool // transactions with records and no marker after them
	outcomes map[txn]bool // markers: true for commit
	reused   map[txn]bool // transactions that had a marker and then went on
	cut      int64        // bytes cut off
}

// repair settles the engine's directory after an unclean stop. Nobody else may
// have it open.
func repair(dir string) (Recovery, error) {
	r := Recovery{Unclean: true}
	parts, err := scanPartitions(dir)
	if err != nil {
		return r, err
	}
	producers, cut, err := readProducers(filepath.Join(dir, "pids.log"))
	if err != nil {
		return r, err
	}
	r.TruncatedBytes += cut
	if cut, err = cutLog(filepath.Join(dir, "groups.log")); err != nil {
		return r, err
	}
	r.TruncatedBytes += cut
	// Both are of the last clean stop. Loaded now, they would make the engine
	// take new batches for repeats, and bring back settled transactions.
	for _, stale := range []string{"seq_windows.json", "session_state.json"} {
		if err := os.Remove(filepath.Join(dir, stale)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return r, err
		}
	}

	outcomes := decide(parts, producers)
	// Fences before markers: if this is interrupted, the transactions are still
	// open on disk and are settled, the same way, by the next start.
	if err := fence(filepath.Join(dir, "pids.log"), outcomes, producers); err != nil {
		return r, err
	}
	for _, p := range parts {
		r.TruncatedBytes += p.cut
		for _, t := range slices.SortedFunc(maps.Keys(p.open), compareTxn) {
			if err := p.mark(t, outcomes[t]); err != nil {
				return r, fmt.Errorf("end a transaction in %s: %w", p.dir, err)
			}
			r.Markers++
		}
	}
	for _, commit := range outcomes {
		if commit {
			r.Committed++
		} else {
			r.Aborted++
		}
	}
	return r, nil
}

func compareTxn(a, b txn) int {
	return cmp.Or(cmp.Compare(a.producer, b.producer), cmp.Compare(a.epoch, b.epoch))
}

// decide gives each open transaction its outcome: commit if its commit had
// begun, which shows as a marker in another partition or as the producer log's
// note of its end. A client older than KIP-890 keeps its epoch from one
// transaction to the next; there a marker may be of an earlier one, so those
// are aborted.
func decide(parts []*partition, producers producerLog) map[txn]bool {
	outcomes := make(map[txn]bool)
	for _, p := range parts {
		for t := range p.open {
			if _, done := outcomes[t]; done {
				continue
			}
			commit := producers.ended[t]
			for _, q := range parts {
				commit = commit || q.outcomes[t]
			}
			for _, q := range parts {
				commit = commit && !q.reused[t]
			}
			outcomes[t] = commit
		}
	}
	return outcomes
}

func scanPartitions(dir string) ([]*partition, error) {
	root := filepath.Join(dir, "partitions")
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "meta.json")); err != nil && len(entries) > 0 {
		return nil, fmt.Errorf("%w; there are records but not the file that describes them: restore the directory from a backup", err)
	}
	var parts []*partition
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		p, err := scanPartition(filepath.Join(root, e.Name()))
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// scanPartition reads the header of every batch and every marker, cuts a
// half-written batch off the last segment and completes the index files.
func scanPartition(dir string) (*partition, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var bases []int64
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".dat"); ok {
			if base, err := strconv.ParseInt(name, 10, 64); err == nil {
				bases = append(bases, base)
			}
		}
	}
	slices.Sort(bases)
	p := &partition{dir: dir, open: make(map[txn]bool), outcomes: make(map[txn]bool), reused: make(map[txn]bool)}
	for i, base := range bases {
		path := filepath.Join(dir, strconv.FormatInt(base, 10))
		n, err := p.scanSegment(path, i == len(bases)-1)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			p.segment = path
		}
	}
	return p, nil
}

// A record batch (Kafka protocol, record batch version 2) begins with a fixed
// header of 61 bytes: offset 8, length 4 (of what follows), leader epoch 4,
// magic 1, CRC 4, attributes 2, last offset delta 4, two timestamps 16,
// producer id 8, producer epoch 2, sequence 4, record count 4.
const (
	batchHeader       = 61
	attrTransactional = 0x10
	attrControl       = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// scanSegment gives the number of batches. last says that it is the segment
// being written to, the only one where a kill can leave half a batch.
func (p *partition) scanSegment(path string, last bool) (batches int, err error) {
	f, err := os.OpenFile(path+".dat", os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	var index []byte
	var pos int64
	head := make([]byte, batchHeader)
	for pos < info.Size() {
		size, ok, err := readBatchHead(f, head, pos, info.Size(), last)
		if err != nil {
			return 0, err
		}
		if !ok {
			if !last {
				return 0, fmt.Errorf("%s.dat is damaged at byte %d and later records follow it; this is no trace of a kill but of the disk: restore the directory from a backup", path, pos)
			}
			p.cut += info.Size() - pos
			if err := f.Truncate(pos); err != nil {
				return 0, err
			}
			break
		}
		attrs := binary.BigEndian.Uint16(head[21:])
		t := txn{int64(binary.BigEndian.Uint64(head[43:])), int16(binary.BigEndian.Uint16(head[51:]))}
		switch {
		case attrs&attrControl != 0:
			commit, err := readMarker(f, pos, size)
			if err != nil {
				return 0, fmt.Errorf("%s.dat, byte %d: %w", path, pos, err)
			}
			p.outcomes[t] = commit
			delete(p.open, t)
		case attrs&attrTransactional != 0:
			if _, ended := p.outcomes[t]; ended {
				p.reused[t] = true
			}
			p.open[t] = true
		}
		p.next = int64(binary.BigEndian.Uint64(head)) + int64(int32(binary.BigEndian.Uint32(head[23:]))) + 1
		p.leader = int32(binary.BigEndian.Uint32(head[12:]))
		index = append(index, indexEntry(p.leader, attrs&attrTransactional != 0 && attrs&attrControl == 0)...)
		batches++
		pos += size
	}
	return batches, completeIndex(path+".idx", index)
}

// readBatchHead reads the header at pos into head. It reports false where no
// whole batch lies there. Batches of the segment being written to are checked
// to the last byte, because after a power cut their pages may be missing.
func readBatchHead(f *os.File, head []byte, pos, end int64, check bool) (size int64, ok bool, err error) {
	if end-pos < batchHeader {
		return 0, false, nil
	}
	if _, err := f.ReadAt(head, pos); err != nil {
		return 0, false, err
	}
	size = 12 + int64(int32(binary.BigEndian.Uint32(head[8:])))
	if size < batchHeader || pos+size > end || head[16] != 2 {
		return 0, false, nil
	}
	if check {
		body := make([]byte, size-21)
		if _, err := f.ReadAt(body, pos+21); err != nil {
			return 0, false, err
		}
		if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(head[17:]) {
			return 0, false, nil
		}
	}
	return size, true, nil
}

func readMarker(f *os.File, pos, size int64) (commit bool, err error) {
	raw := make([]byte, size-batchHeader)
	if _, err := f.ReadAt(raw, pos+batchHeader); err != nil {
		return false, err
	}
	var rec kmsg.Record
	if err := rec.ReadFrom(raw); err != nil {
		return false, fmt.Errorf("unreadable transaction marker: %w", err)
	}
	var key kmsg.ControlRecordKey
	if err := key.ReadFrom(rec.Key); err != nil {
		return false, fmt.Errorf("unreadable transaction marker: %w", err)
	}
	switch key.Type {
	case kmsg.ControlRecordKeyTypeCommit:
		return true, nil
	case kmsg.ControlRecordKeyTypeAbort:
		return false, nil
	default:
		return false, fmt.Errorf("transaction marker of unknown type %d", key.Type)
	}
}

// The engine keeps 15 bytes of index for each batch, by position: version,
// low byte of the CRC-32C of the rest, leader epoch 4, a timestamp 8 that it
// does not read back, and whether the batch is in a transaction.
const indexSize = 15

func indexEntry(leader int32, inTxn bool) []byte {
	e := make([]byte, indexSize)
	e[0] = 1
	binary.LittleEndian.PutUint32(e[2:], uint32(leader))
	if inTxn {
		e[14] = 1
	}
	e[1] = byte(crc32.Checksum(e[2:], castagnoli))
	return e
}

// completeIndex cuts what belongs to no batch and adds what is missing. The
// engine writes a batch before its entry: killed in between, it would take the
// batch for one outside any transaction, and later entries for the wrong ones.
func completeIndex(path string, want []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	have := min(info.Size()/indexSize*indexSize, int64(len(want)))
	if err := f.Truncate(have); err != nil {
		return errors.Join(err, f.Close())
	}
	_, err = f.WriteAt(want[have:], have)
	return errors.Join(err, f.Close())
}

// mark ends a transaction in this partition.
func (p *partition) mark(t txn, commit bool) error {
	raw := marker(t, commit, p.next, p.leader, time.Now())
	for _, w := range []struct {
		ext  string
		data []byte
	}{{".dat", raw}, {".idx", indexEntry(p.leader, false)}} {
		f, err := os.OpenFile(p.segment+w.ext, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(w.data)
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	p.next++
	return nil
}

// marker is a control batch of one record that ends a transaction.
func marker(t txn, commit bool, offset int64, leader int32, now time.Time) []byte {
	key := kmsg.ControlRecordKey{Type: kmsg.ControlRecordKeyTypeAbort}
	if commit {
		key.Type = kmsg.ControlRecordKeyTypeCommit
	}
	end := kmsg.EndTxnMarker{}
	rec := kmsg.Record{Key: key.AppendTo(nil), Value: end.AppendTo(nil)}
	// The length is a varint of one byte and does not count itself.
	rec.Length = int32(len(rec.AppendTo(nil))) - 1
	b := kmsg.RecordBatch{
		FirstOffset: offset, PartitionLeaderEpoch: leader, Magic: 2,
		Attributes:     attrControl | attrTransactional,
		FirstTimestamp: now.UnixMilli(), MaxTimestamp: now.UnixMilli(),
		ProducerID: t.producer, ProducerEpoch: t.epoch, FirstSequence: -1,
		NumRecords: 1, Records: rec.AppendTo(nil),
	}
	b.Length = int32(len(b.AppendTo(nil))) - 12
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], castagnoli))
	return raw
}

// The engine's logs of producers and of groups are sequences of: length 4 (of
// version and data), CRC-32C 4 (of the same), version 2, data in JSON; integers
// little-endian.
const logHeader = 10

// producerEntry is one line of the engine's log of producers.
type producerEntry struct {
	Type   string `json:"type"`
	PID    int64  `json:"pid"`
	Epoch  int16  `json:"epoch"`
	Commit *bool  `json:"commit,omitempty"`
}

type producerLog struct {
	epoch map[int64]int16 // the last epoch of each producer
	ended map[txn]bool    // noted ends: true for commit
}

func readProducers(path string) (l producerLog, cut int64, err error) {
	l = producerLog{epoch: make(map[int64]int16), ended: make(map[txn]bool)}
	if cut, err = cutLog(path); err != nil {
		return l, cut, err
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return l, cut, nil
	}
	if err != nil {
		return l, cut, err
	}
	for data := range logEntries(raw) {
		var e producerEntry
		if err := json.Unmarshal(data, &e); err != nil {
			return l, cut, fmt.Errorf("%s: %w", path, err)
		}
		l.epoch[e.PID] = e.Epoch
		if e.Type == "endtx" && e.Commit != nil {
			l.ended[txn{e.PID, e.Epoch}] = *e.Commit
		}
	}
	return l, cut, nil
}

// logEntries yields the data of each whole entry.
func logEntries(raw []byte) func(func(data []byte) bool) {
	return func(yield func([]byte) bool) {
		for {
			n := logEntry(raw)
			if n == 0 || !yield(raw[logHeader:n]) {
				return
			}
			raw = raw[n:]
		}
	}
}

// logEntry is the size of the whole entry at the front of raw, or 0.
func logEntry(raw []byte) int {
	if len(raw) < logHeader {
		return 0
	}
	length := int64(binary.LittleEndian.Uint32(raw))
	if length < 2 || 8+length > int64(len(raw)) {
		return 0
	}
	if crc32.Checksum(raw[8:8+length], castagnoli) != binary.LittleEndian.Uint32(raw[4:]) {
		return 0
	}
	return int(8 + length)
}

// cutLog cuts a half-written entry off a log. The engine would read up to it,
// but append after it, and never see what comes later.
func cutLog(path string) (cut int64, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	whole := 0
	for n := logEntry(raw); n > 0; n = logEntry(raw[whole:]) {
		whole += n
	}
	if whole == len(raw) {
		return 0, nil
	}
	return int64(len(raw) - whole), os.Truncate(path, int64(whole))
}

// fence moves each settled producer two epochs on, so that a client that
// outlived the engine can neither add to a settled transaction nor be told that
// it succeeded. One epoch would not do: the engine takes a commit from one
// epoch back for a repeat, while the group offsets in it are lost either way.
func fence(path string, outcomes map[txn]bool, producers producerLog) error {
	var out []byte
	for t, commit := range outcomes {
		last, known := producers.epoch[t.producer]
		to := int16(min(int(t.epoch)+2, math.MaxInt16))
		if !known || last >= to {
			continue
		}
		data, err := json.Marshal(producerEntry{Type: "endtx", PID: t.producer, Epoch: to, Commit: &commit})
		if err != nil {
			return err
		}
		head := make([]byte, logHeader)
		binary.LittleEndian.PutUint32(head, uint32(2+len(data)))
		binary.LittleEndian.PutUint16(head[8:], 1)
		entry := append(head, data...)
		binary.LittleEndian.PutUint32(entry[4:], crc32.Checksum(entry[8:], castagnoli))
		out = append(out, entry...)
	}
	if len(out) == 0 {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(out)
	return errors.Join(err, f.Sync(), f.Close())
}
