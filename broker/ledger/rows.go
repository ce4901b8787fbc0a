package ledger

import (
	"crypto/sha256"

	"golang.org/x/mod/sumdb/tlog"
)

// Rows is the Merkle tree of RFC 6962 over lines, in one pass and with memory for
// one hash a level. The zero value is the tree of nothing.
type Rows struct {
	forest forest
	size   int64
	buf    []byte
}

// Reset begins anew.
func (r *Rows) Reset() { r.forest, r.size = r.forest[:0], 0 }

// Add appends a line.
func (r *Rows) Add(line []byte) {
	r.buf = append(append(r.buf[:0], 0), line...)
	r.forest = r.forest.push(node{n: r.size, hash: sha256.Sum256(r.buf)})
	r.size++
}

// Size is how many lines were added.
func (r *Rows) Size() int64 { return r.size }

// Root is the tree's root.
func (r *Rows) Root() tlog.Hash { return r.forest.root() }

// node is the n-th perfect subtree of 2^level leaves.
type node struct {
	level int
	n     int64
	hash  tlog.Hash
}

// forest are neighbouring perfect subtrees, as few as there can be.
type forest []node

// push adds the subtree that follows, and joins what makes a larger one. Those of
// a range that begins anywhere can be pushed on those of the range before it.
func (f forest) push(x node) forest {
	for len(f) > 0 && x.n&1 == 1 && f[len(f)-1].level == x.level && f[len(f)-1].n == x.n-1 {
		x = node{x.level + 1, x.n >> 1, tlog.NodeHash(f[len(f)-1].hash, x.hash)}
		f = f[:len(f)-1]
	}
	return append(f, x)
}

// root is that of the tree whose leaves the forest has all of.
func (f forest) root() tlog.Hash {
	if len(f) == 0 {
		return sha256.Sum256(nil) // RFC 6962 section 2.1
	}
	h := f[len(f)-1].hash
	for i := len(f) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f[i].hash, h)
	}
	return h
}
