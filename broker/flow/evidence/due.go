package evidence

import (
	"fmt"
	"sync"
	"time"
)

// due keeps account of decisions that are to come under a head that counts.
type due struct {
	after time.Duration // for how long they may wait; 0 is for ever
	now   func() time.Time

	mu        sync.Mutex // guards all below
	uncounted []entered
	reached   map[int32]int64 // partition of decisions → offset after the last record under a head
	waiting   []decision      // in the order of time
}

// entered is a record of decisions that is in the tree, and under no head yet.
type entered struct {
	size      int64 // of the tree, with it
	partition int32
	offset    int64
}

// decision is a record of decisions that waits for its head.
type decision struct {
	partition int32
	offset    int64
	since     time.Time
}

func (d *due) entered(size int64, partition int32, offset int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.uncounted = append(d.uncounted, entered{size, partition, offset})
}

// counted notes that a head over size entries counts.
func (d *due) counted(size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reached == nil {
		d.reached = map[int32]int64{}
	}
	n := 0
	for ; n < len(d.uncounted) && d.uncounted[n].size <= size; n++ {
		e := &d.uncounted[n]
		d.reached[e.partition] = max(d.reached[e.partition], e.offset+1)
	}
	d.uncounted = d.uncounted[n:]
	d.settle()
}

// settle forgets the oldest decisions that wait no longer.
func (d *due) settle() {
	n := 0
	for n < len(d.waiting) && d.waiting[n].offset < d.reached[d.waiting[n].partition] {
		n++
	}
	d.waiting = d.waiting[n:]
}

// coarse is how close in time decisions of one partition are kept apart: 50 ms, or
// a hundredth of how long the oldest has waited, so that their number stays small
// however long they wait.
func (d *due) coarse(now time.Time) time.Duration {
	least := 50 * time.Millisecond
	if len(d.waiting) == 0 {
		return least
	}
	return max(least, now.Sub(d.waiting[0].since)/100)
}

func (d *due) decided(partition int32, offset int64) { d.decidedAt(partition, offset, d.now()) }

func (d *due) decidedAt(partition int32, offset int64, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if offset < d.reached[partition] {
		return
	}
	coarse := d.coarse(now)
	for i := len(d.waiting) - 1; i >= 0 && now.Sub(d.waiting[i].since) < coarse; i-- {
		if d.waiting[i].partition == partition {
			d.waiting[i].offset = max(d.waiting[i].offset, offset)
			return
		}
	}
	d.waiting = append(d.waiting, decision{partition, offset, now})
}

func (d *due) covered(partition int32) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reached[partition]
}

func (d *due) age() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle()
	if len(d.waiting) == 0 {
		return 0
	}
	return max(0, d.now().Sub(d.waiting[0].since))
}

// late says why deliveries must stop; broken is why the ledger is followed no
// further, if so.
func (d *due) late(broken error) error {
	if d.after == 0 {
		return nil
	}
	age := d.age()
	switch {
	case age <= d.after:
		return nil
	case broken != nil:
		return fmt.Errorf("for %v decisions have been under no signed head of the ledger, which is at fault: %w", age.Round(time.Second), broken)
	}
	return fmt.Errorf("for %v decisions have been under no signed head of the ledger that counts (ledger.stop_after is %v): "+
		"see that an instance sequences it, that the key fits, and that enough witnesses answer", age.Round(time.Second), d.after)
}
