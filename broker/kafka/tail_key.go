package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A topic that many keys share (mailboxes in the buckets of `deliveries`) is read by
// one key at a time. Without an index each who waits wakes at every arrival for
// somebody else, and each who comes back passes over all that others got meanwhile:
// a thousand who wait make a thousand wake-ups of a record (BenchmarkTailKeys).
//
// So a tail with TailOptions.KeyHeader remembers which offsets are whose, for all that it
// has followed, as far back as TailOptions.Offsets goes; and it wakes those whose
// record it is. The index is of this process: what was written before it began to
// follow is passed over as before, once, by who reads from there.

// keyIn finds a record's key in a header; a record without it has the key "".
func keyIn(header string) func(*kgo.Record) string {
	if header == "" {
		return nil
	}
	return func(r *kgo.Record) string {
		for i := range r.Headers {
			if r.Headers[i].Key == header {
				return string(r.Headers[i].Value)
			}
		}
		return ""
	}
}

// tailIndex are the offsets of each key from an offset on, in two generations: when
// the newer one is full, the older one goes. So it is bounded, and letting go costs
// nothing. Its owner is the partition's lock.
type tailIndex struct {
	from, turn int64 // the first offset that is indexed; and the first of now
	old, now   map[string][]int64
	count      int // offsets in now
	most       int // offsets in a generation
}

func newTailIndex(from int64, most int) *tailIndex {
	return &tailIndex{from: from, turn: from, now: map[string][]int64{}, most: max(1, most)}
}

func (x *tailIndex) add(key string, offset int64) {
	if x.count == x.most {
		x.old, x.from = x.now, x.turn
		x.now, x.turn, x.count = map[string][]int64{}, offset, 0
	}
	x.now[key] = append(x.now[key], offset)
	x.count++
}

// next is a key's first offset at or after one that is not before x.from; ok is
// false where there is none yet.
func (x *tailIndex) next(key string, at int64) (offset int64, ok bool) {
	for _, gen := range [...]map[string][]int64{x.old, x.now} {
		offsets := gen[key]
		if i, _ := slices.BinarySearch(offsets, at); i < len(offsets) {
			return offsets[i], true
		}
	}
	return 0, false
}

// tailWait is where those wait who want a key's next record.
type tailWait struct {
	came chan struct{} // closed when it is there
	many int
}

// arrived notes a record that a partition now holds, and wakes who waits for it. The
// lock is held.
func (p *tailPart) arrived(key string, offset int64) {
	p.index.add(key, offset)
	if w := p.waiting[key]; w != nil {
		close(w.came)
		delete(p.waiting, key)
	}
}

// await is what to wait for; leave, under the lock, when it is over. The lock is held.
func (p *tailPart) await(key string) *tailWait {
	w := p.waiting[key]
	if w == nil {
		w = &tailWait{came: make(chan struct{})}
		p.waiting[key] = w
	}
	w.many++
	return w
}

func (p *tailPart) leave(key string, w *tailWait) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.many--; w.many == 0 && p.waiting[key] == w {
		delete(p.waiting, key)
	}
}

const (
	keyBatch = 500    // records that are read from Kafka at a time, at the most
	keyLeast = 50     // and at the least
	keyScan  = 20_000 // records of others that one call passes over
	keyNear  = 1000   // offsets ahead from which it is quicker to go there than to read on
)

// ReadKey returns committed records of one key from an offset on, at most so many,
// and of about so many bytes of values, but at least one if there is one; and next,
// the offset to read on from, which moves over others' records. more is that a bound
// ended it: there may be more at once. It waits so long for the first, and is woken
// by no other key's. The tail must have been opened with TailOptions.KeyHeader. Errors are
// those of [Tail.Read]; where some records were found before one, it comes next time.
func (t *Tail) ReadKey(ctx context.Context, partition int32, key string, from int64, most, bytes int, wait time.Duration) (records []*kgo.Record, next int64, more bool, err error) {
	if t.key == nil {
		return nil, from, false, errors.New("the tail has no keys: a mistake in the program")
	}
	if partition < 0 || int(partition) >= len(t.parts) {
		return nil, from, false, fmt.Errorf("topic %s has no partition %d", t.topic, partition)
	}
	if most < 1 {
		return nil, from, false, fmt.Errorf("reading at most %d records", most)
	}
	next = from
	take := func(r *kgo.Record) bool {
		if len(records) >= most || len(records) > 0 && bytes < len(r.Value) {
			return false
		}
		records = append(records, r)
		bytes -= len(r.Value)
		next = r.Offset + 1
		return true
	}
	var enough <-chan time.Time
	p := &t.parts[partition]
	asked := false
	for scanned := 0; ; {
		p.mu.Lock()
		if p.err != nil {
			err := p.err
			p.mu.Unlock()
			if len(records) > 0 {
				return records, next, true, nil
			}
			return nil, next, false, err
		}
		if next >= p.index.from && next < p.high {
			// Over others' to the key's own, or to the end.
			own, ok := p.index.next(key, next)
			if !ok {
				next = p.high
			} else if own >= p.low || own-next >= keyNear {
				next = own
			}
		}
		if p.low <= next && next < p.high {
			// Memory may go further back than the index.
			for _, r := range p.from(next, int(max(0, min(p.index.from, p.high)-next))) {
				if r.Offset >= p.index.from {
					break
				}
				if t.key(r) == key && !take(r) {
					p.mu.Unlock()
					return records, r.Offset, true, nil
				}
			}
			for next = max(next, p.index.from); ; {
				own, ok := p.index.next(key, next)
				if !ok {
					next = p.high
					break
				}
				if !take(p.at(own)) {
					p.mu.Unlock()
					return records, own, true, nil
				}
			}
		}
		low, high := p.low, p.high
		var w *tailWait
		if next >= low && len(records) == 0 && wait > 0 {
			w = p.await(key)
		}
		p.mu.Unlock()
		if next < low {
			if scanned >= keyScan {
				return records, next, true, nil
			}
			// As many as are wanted, where that is likely: who reads on then finds the reader
			// where it stands.
			found, at, err := t.behind(ctx, partition, next, low, max(keyLeast, min(most-len(records), keyBatch)))
			if err != nil {
				if len(records) > 0 && ctx.Err() == nil {
					return records, next, true, nil
				}
				return nil, next, false, err
			}
			for _, r := range found {
				if t.key(r) == key && !take(r) {
					return records, r.Offset, true, nil
				}
			}
			next = at
			scanned += len(found)
			continue
		}
		if w == nil {
			if next > high && !asked {
				err = t.within(ctx, partition, next)
			}
			return records, next, false, err
		}
		if next > high && !asked {
			// Somebody saw more than this tail has yet; or it never was.
			asked = true
			if err := t.within(ctx, partition, next); err != nil {
				p.leave(key, w)
				return nil, next, false, err
			}
		}
		if enough == nil {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			enough = timer.C
		}
		select {
		case <-w.came:
		case <-enough:
			wait = 0 // one last look, which moves next over what others got
		case <-ctx.Done():
			p.leave(key, w)
			return nil, next, false, ctx.Err()
		}
		p.leave(key, w)
	}
}

// at is the record that memory holds at an offset. The lock is held, and it is there.
func (p *tailPart) at(offset int64) *kgo.Record {
	i, _ := slices.BinarySearchFunc(p.records, offset, recordAt)
	return p.records[i]
}
