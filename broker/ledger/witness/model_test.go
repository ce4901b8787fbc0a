package witness

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"datafordeler/broker/ledger"
)

// powerless is a disk that keeps only what was synced: of everything else a
// crash keeps, loses or truncates what it likes. It can fail, or the machine
// stop, before or after any call takes effect.
type powerless struct {
	// names and files are what a running program sees; the durable ones what a
	// crash cannot take.
	names, durable map[string]int
	files          map[int]*content
	next           int

	// left counts calls down to the one at which fault happens.
	left  int
	fault fault
}

type content struct{ seen, durable []byte }

type fault int

const (
	none        fault = iota
	failsUndone       // an error, and nothing happened
	failsDone         // an error, and it happened
	stopsBefore       // the machine stops
	stopsAfter        // it happened, and the machine stops
)

// stop is the machine stopping in the middle of a call.
type stop struct{}

var errDisk = errors.New("the disk fails")

func newPowerless() *powerless {
	return &powerless{names: map[string]int{}, durable: map[string]int{}, files: map[int]*content{}}
}

func (d *powerless) do(effect func()) error {
	f := none
	if d.fault != none {
		if d.left--; d.left < 0 {
			f, d.fault = d.fault, none
		}
	}
	switch f {
	case failsUndone:
		return errDisk
	case stopsBefore:
		panic(stop{})
	}
	effect()
	switch f {
	case failsDone:
		return errDisk
	case stopsAfter:
		panic(stop{})
	}
	return nil
}

func (d *powerless) read(path string) ([]byte, error) {
	id, ok := d.names[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(d.files[id].seen), nil
}

func (d *powerless) write(path string, b []byte) error {
	return d.do(func() {
		id, ok := d.names[path]
		if !ok {
			d.next++
			id = d.next
			d.names[path], d.files[id] = id, &content{}
		}
		d.files[id].seen = slices.Clone(b)
	})
}

func (d *powerless) sync(path string) error {
	return d.do(func() {
		if id, ok := d.names[path]; ok {
			d.files[id].durable = slices.Clone(d.files[id].seen)
		} else if path == filepath.Dir(statePathOfModel) {
			d.durable = maps.Clone(d.names)
		}
	})
}

func (d *powerless) rename(from, to string) error {
	return d.do(func() {
		d.names[to] = d.names[from]
		delete(d.names, from)
	})
}

// crash loses what it may lose.
func (d *powerless) crash(t *rapid.T) {
	for _, id := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[id]
		switch rapid.IntRange(0, 2).Draw(t, "content") {
		case 0: // what was written reached the disk
		case 1:
			f.seen = f.durable
		case 2:
			if !slices.Equal(f.seen, f.durable) {
				f.seen = f.seen[:len(f.seen)/2]
			}
		}
		f.seen = slices.Clone(f.seen)
		f.durable = slices.Clone(f.seen)
	}
	if rapid.Bool().Draw(t, "names lost") {
		d.names = maps.Clone(d.durable)
	}
	d.durable = maps.Clone(d.names)
	d.fault = none
}

const statePathOfModel = "/var/witness/state"

// released is a cosignature that left the witness.
type released struct {
	checkpoint ledger.Checkpoint
	at         time.Time
}

// model is a witness, logs that lie, and a disk that forgets.
type model struct {
	key  string
	disk *powerless
	w    *Witness
	now  time.Time
	logs []testLog
	// trees are the histories that each log tells.
	trees    [][]*tree
	requests [][]byte
	of       []int // the tree and log of each request, for replays
	gone     [][]released
}

func (m *model) start(t *rapid.T) {
	f := &File{path: statePathOfModel, disk: m.disk}
	c := Config{Key: m.key, Store: f, Now: func() time.Time { return m.now }}
	for _, l := range m.logs {
		c.Logs = append(c.Logs, l.log())
	}
	w, err := New(c)
	if err != nil {
		t.Fatalf("the witness does not start on what a crash left: %v", err)
	}
	m.w = w
}

func (m *model) submit(t *rapid.T, log int, history *tree, body []byte) {
	line, err := func() (line []byte, err error) {
		defer func() {
			switch p := recover(); p.(type) {
			case nil:
			case stop:
				m.disk.crash(t)
				m.start(t)
				line, err = nil, errors.New("crashed")
			default:
				panic(p)
			}
		}()
		return m.w.AddCheckpoint(body)
	}()
	m.requests, m.of = append(m.requests, body), append(m.of, log)
	if err != nil {
		return
	}
	r, err := parseRequest(body)
	if err != nil {
		t.Fatal(err)
	}
	// The policy's own reading, not the witness's, says what was cosigned.
	l := m.logs[log]
	v, err := ledger.ParseVerifier(m.w.VKey())
	if err != nil {
		t.Fatal(err)
	}
	p := &ledger.Policy{Origin: l.origin, Log: l.key, Witnesses: []note.Verifier{v}, Need: 1}
	msg, err := p.Merge(r.note, line)
	if err != nil {
		t.Fatal(err)
	}
	c, by, err := p.OpenWitnessed(msg)
	if err != nil {
		t.Fatal(err)
	}
	if history == nil { // a replay: the history is whichever has this root
		i := slices.IndexFunc(m.trees[log], func(h *tree) bool { return c.Size <= h.size() && h.root(c.Size) == c.Root })
		history = m.trees[log][i]
	}
	for _, e := range m.gone[log] {
		switch {
		case e.checkpoint.Size > c.Size:
			t.Fatalf("size %d was cosigned after size %d", c.Size, e.checkpoint.Size)
		case history.root(e.checkpoint.Size) != e.checkpoint.Root:
			t.Fatalf("size %d was cosigned and does not continue size %d, which was too", c.Size, e.checkpoint.Size)
		case by[0].Time.Before(e.at) && e.checkpoint.Size < c.Size:
			t.Fatalf("size %d is dated %v, and size %d was %v", c.Size, by[0].Time, e.checkpoint.Size, e.at)
		}
	}
	// Of cosignatures of one head, only the first one's time outlives a crash.
	if !slices.ContainsFunc(m.gone[log], func(e released) bool { return e.checkpoint == c }) {
		m.gone[log] = append(m.gone[log], released{c, by[0].Time})
	}
}

// Whatever logs, disk, power and clock do: what left the witness is one history
// of each log, ever larger.
func TestNeverTwoHistories(t *testing.T) {
	logs := []testLog{newLog("a.example"), newLog("b.example")}
	key, _ := newKey("witness.example")
	var cosigned, kinds int
	rapid.Check(t, func(t *rapid.T) {
		m := &model{key: key, disk: newPowerless(), now: time.Unix(1_800_000_000, 0), logs: logs, gone: make([][]released, len(logs))}
		first := &File{path: statePathOfModel, disk: m.disk}
		if err := first.Save(must(NewState(must(ledger.VKey(key))))); err != nil {
			t.Fatal(err)
		}
		for range logs {
			m.trees = append(m.trees, []*tree{grown(3)})
		}
		m.start(t)
		leaf := 0
		submit := func(t *rapid.T) {
			log := rapid.IntRange(0, len(logs)-1).Draw(t, "log")
			h := rapid.SampledFrom(m.trees[log]).Draw(t, "tree")
			have := m.w.Seen()[log].Size
			n := rapid.Int64Range(0, h.size()).Draw(t, "size")
			if rapid.Bool().Draw(t, "forward") {
				n = h.size()
			}
			old := have
			if rapid.IntRange(0, 5).Draw(t, "wrong old") == 5 {
				old = rapid.Int64Range(0, n).Draw(t, "old")
			}
			proof := h.proof(n, min(old, n))
			if rapid.IntRange(0, 5).Draw(t, "no proof") == 5 {
				proof = nil
			}
			m.submit(t, log, h, appendRequest(nil, request{old, proof, logs[log].checkpoint(h, n)}))
		}
		t.Repeat(map[string]func(*rapid.T){
			"submit": submit, "submit more": submit, "submit often": submit, // most of what happens
			"grow": func(t *rapid.T) {
				log := rapid.IntRange(0, len(logs)-1).Draw(t, "log")
				h := rapid.SampledFrom(m.trees[log]).Draw(t, "tree")
				for range rapid.IntRange(1, 5).Draw(t, "leaves") {
					leaf++
					h.add(fmt.Sprint("grown ", leaf))
				}
			},
			"fork": func(t *rapid.T) {
				log := rapid.IntRange(0, len(logs)-1).Draw(t, "log")
				h := rapid.SampledFrom(m.trees[log]).Draw(t, "tree")
				leaf++
				m.trees[log] = append(m.trees[log], h.fork(rapid.Int64Range(0, h.size()).Draw(t, "from"), fmt.Sprint("fork", leaf)))
			},
			"replay": func(t *rapid.T) {
				if len(m.requests) == 0 {
					t.Skip("nothing yet")
				}
				i := rapid.IntRange(0, len(m.requests)-1).Draw(t, "request")
				m.submit(t, m.of[i], nil, m.requests[i])
			},
			"fault": func(t *rapid.T) {
				m.disk.left = rapid.IntRange(0, 6).Draw(t, "left")
				m.disk.fault = fault(rapid.IntRange(int(failsUndone), int(stopsAfter)).Draw(t, "fault"))
			},
			"crash": func(t *rapid.T) {
				m.disk.crash(t)
				m.start(t)
			},
			"clock": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(-5, 20).Draw(t, "seconds")) * time.Second)
			},
		})
		for _, g := range m.gone {
			cosigned += len(g)
		}
		kinds++
	})
	if cosigned < kinds { // or the model says nothing
		t.Errorf("%d heads cosigned in %d runs", cosigned, kinds)
	}
	t.Logf("%d heads cosigned in %d runs", cosigned, kinds)
}
