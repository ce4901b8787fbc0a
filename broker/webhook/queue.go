package webhook

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/web"
)

// lane is what keeps its order: a dataset's subject, as a keyed hash.
type lane [16]byte

// item is a delivery that was read and is not through.
type item struct {
	Offset  int64             // in the topic of deliveries
	ID      broker.DeliveryID // which is the message's id
	Lane    lane
	Tries   int       // that failed
	Due     time.Time // no attempt before it
	First   time.Time // when the first attempt failed
	Last    string    // why the last did
	replay  bool
	ordered time.Time     // the replay was
	body    *web.Delivery // nil: to be read again
	flying  bool
	index   int // in the heap; -1: not there
	removed bool
}

// queue says which delivery of a mailbox may be sent next. The first of each lane
// stands in a heap by when it is due; the others wait behind it. It knows no clock
// and belongs to one goroutine.
type queue struct {
	lanes map[lane][]*item
	heads heads
	n     int
	bytes int // of bodies
}

func newQueue() *queue { return &queue{lanes: map[lane][]*item{}} }

// add puts a delivery last in its lane.
func (q *queue) add(it *item) {
	it.index = -1
	q.n++
	if it.body != nil {
		q.bytes += len(it.body.Value)
	}
	q.lanes[it.Lane] = append(q.lanes[it.Lane], it)
	if len(q.lanes[it.Lane]) == 1 {
		heap.Push(&q.heads, it)
	}
}

// take is the next to be sent now; nil where none may be. It is under way until done
// or failed says what came of it.
func (q *queue) take(now time.Time) *item {
	if len(q.heads) == 0 || q.heads[0].Due.After(now) {
		return nil
	}
	it := heap.Pop(&q.heads).(*item)
	it.flying = true
	return it
}

// due is when take may have one; ok is false where only an answer can bring it.
func (q *queue) due() (at time.Time, ok bool) {
	if len(q.heads) == 0 {
		return time.Time{}, false
	}
	return q.heads[0].Due, true
}

// done lets the next of the lane come.
func (q *queue) done(it *item) { q.remove(it) }

// failed puts it back, to be sent again at a time, before all others of its lane.
func (q *queue) failed(it *item, due time.Time) {
	it.flying, it.Due = false, due
	q.drop(it)
	heap.Push(&q.heads, it)
}

// hasten makes all due: what held them up is over.
func (q *queue) hasten(now time.Time) {
	for _, it := range q.heads {
		if it.Due.After(now) {
			it.Due = now
		}
	}
	heap.Init(&q.heads)
}

// remove takes a delivery out, wherever it stands.
func (q *queue) remove(it *item) {
	if it.removed {
		return
	}
	it.removed = true
	q.drop(it)
	q.n--
	all := q.lanes[it.Lane]
	i := slices.Index(all, it)
	if it.index >= 0 {
		heap.Remove(&q.heads, it.index)
	}
	if all = slices.Delete(all, i, i+1); len(all) == 0 {
		delete(q.lanes, it.Lane)
		return
	}
	q.lanes[it.Lane] = all
	if i == 0 {
		heap.Push(&q.heads, all[0])
	}
}

// drop lets go of the body.
func (q *queue) drop(it *item) {
	if it.body != nil {
		q.bytes -= len(it.body.Value)
		it.body = nil
	}
}

// items are all, by where they stand in the log.
func (q *queue) items() []*item {
	all := make([]*item, 0, q.n)
	for _, l := range q.lanes {
		all = append(all, l...)
	}
	slices.SortFunc(all, func(a, b *item) int { return cmp.Compare(a.Offset, b.Offset) })
	return all
}

// heads is a heap by due time, then by place in the log.
type heads []*item

func (h heads) Len() int { return len(h) }

func (h heads) Less(i, j int) bool {
	return cmp.Or(h[i].Due.Compare(h[j].Due), cmp.Compare(h[i].Offset, h[j].Offset)) < 0
}

func (h heads) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push and Pop are container/heap's.
func (h *heads) Push(x any) {
	it := x.(*item)
	it.index = len(*h)
	*h = append(*h, it)
}

func (h *heads) Pop() any {
	old := *h
	it := old[len(old)-1]
	it.index = -1
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return it
}
