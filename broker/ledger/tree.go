package ledger

import (
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// Hashes keeps the outer tree's hashes, in the dense order of
// tlog.StoredHashIndex. One goroutine appends; what was appended may be read by
// others at any time.
type Hashes interface {
	tlog.HashReader
	// AppendHashes keeps hashes from index at on. They are durable when it
	// returns without error. After a crash the same hashes may come once more at
	// the same place: that is no error.
	AppendHashes(at int64, hashes []tlog.Hash) error
}

// Tree is the outer tree (RFC 6962): its right edge, and where its hashes are
// kept. It is used by one goroutine.
type Tree struct {
	keep  Hashes
	edge  forest
	size  int64
	fresh []tlog.Hash
}

// NewTree goes on with a tree of size leaves, whose right edge it reads from
// hashes. With nil for hashes it begins with an empty tree and keeps the right
// edge only: enough for roots, not for proofs.
func NewTree(hashes Hashes, size int64) (*Tree, error) {
	t := &Tree{keep: hashes, size: size}
	if size == 0 {
		return t, nil
	}
	if hashes == nil || size < 0 {
		return nil, fmt.Errorf("ledger: a tree of %d leaves needs its hashes", size)
	}
	var indexes []int64
	for at, level := int64(0), 62; level >= 0; level-- {
		if size&(1<<level) != 0 {
			t.edge = append(t.edge, node{level: level, n: at >> level})
			indexes = append(indexes, tlog.StoredHashIndex(level, at>>level))
			at += 1 << level
		}
	}
	have, err := hashes.ReadHashes(indexes)
	if err != nil {
		return nil, fmt.Errorf("ledger: reading the right edge of a tree of %d leaves: %w", size, err)
	}
	if len(have) != len(indexes) {
		return nil, fmt.Errorf("ledger: asked for %d hashes, got %d", len(indexes), len(have))
	}
	for i := range have {
		t.edge[i].hash = have[i]
	}
	return t, nil
}

// Append adds leaves by their hashes (tlog.RecordHash of an entry's line). They
// are kept before the tree has them: after an error it is as it was.
func (t *Tree) Append(leaves ...tlog.Hash) error {
	edge, size := t.edge, t.size
	if t.keep != nil {
		edge = append(forest(nil), edge...)
	}
	t.fresh = t.fresh[:0]
	for _, h := range leaves {
		if t.keep != nil {
			// Each subtree that the leaf completes is stored right after it.
			t.fresh = append(t.fresh, h)
			for x, i := (node{n: size, hash: h}), len(edge)-1; i >= 0 && edge[i].level == x.level; i-- {
				x = node{x.level + 1, x.n >> 1, tlog.NodeHash(edge[i].hash, x.hash)}
				t.fresh = append(t.fresh, x.hash)
			}
		}
		edge = edge.push(node{n: size, hash: h})
		size++
	}
	if t.keep != nil {
		if err := t.keep.AppendHashes(tlog.StoredHashCount(t.size), t.fresh); err != nil {
			return fmt.Errorf("ledger: keeping the hashes of %d leaves: %w", len(leaves), err)
		}
	}
	t.edge, t.size = edge, size
	return nil
}

// Size is how many leaves it has.
func (t *Tree) Size() int64 { return t.size }

// Root is its root.
func (t *Tree) Root() tlog.Hash { return t.edge.root() }

// MemHashes keeps hashes in memory. The zero value holds none.
type MemHashes struct {
	mu  sync.RWMutex
	all []tlog.Hash
}

// AppendHashes keeps hashes from index at on.
func (m *MemHashes) AppendHashes(at int64, hashes []tlog.Hash) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at < 0 || at > int64(len(m.all)) {
		return fmt.Errorf("ledger: hashes at %d, where %d are kept", at, len(m.all))
	}
	for i, h := range hashes {
		if j := at + int64(i); j < int64(len(m.all)) && m.all[j] != h {
			return fmt.Errorf("ledger: hash %d is kept already, and another: the tree would fork", j)
		}
	}
	if end := int64(len(m.all)) - at; end < int64(len(hashes)) {
		m.all = append(m.all, hashes[end:]...)
	}
	return nil
}

// ReadHashes reads hashes by index.
func (m *MemHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x < 0 || x >= int64(len(m.all)) {
			return nil, fmt.Errorf("ledger: hash %d is not kept: there are %d", x, len(m.all))
		}
		out[i] = m.all[x]
	}
	return out, nil
}
