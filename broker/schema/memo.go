package schema

// memo keeps answers by node and value, in open addressing. Only tangled
// schemas fill it.
type memo struct {
	cells []memoCell
	used  int
}

type memoCell struct {
	value uint64
	node  uint32
	// state is 0 for an empty cell, else 1 for no and 2 for yes.
	state uint8
}

// keptMemo is the largest memo, in cells, that is kept for the next document.
const keptMemo = 1 << 14

func (m *memo) reset() {
	if m.used == 0 {
		return
	}
	m.used = 0
	if len(m.cells) > keptMemo {
		m.cells = nil
	} else {
		clear(m.cells)
	}
}

func (m *memo) cell(node uint32, value uint64) *memoCell {
	mask := uint64(len(m.cells) - 1)
	h := (value*0x9E3779B97F4A7C15 ^ uint64(node)) * 0xD1342543DE82EF95
	for at := h >> 32; ; at++ {
		if c := &m.cells[at&mask]; c.state == 0 || c.value == value && c.node == node {
			return c
		}
	}
}

func (m *memo) get(node uint32, value uint64) (answer, ok bool) {
	if m.used == 0 {
		return false, false
	}
	c := m.cell(node, value)
	return c.state == 2, c.state != 0
}

func (m *memo) put(node uint32, value uint64, answer bool) {
	if 2*m.used >= len(m.cells) {
		old := m.cells
		m.cells = make([]memoCell, max(1024, 2*len(old)))
		for _, c := range old {
			if c.state != 0 {
				*m.cell(c.node, c.value) = c
			}
		}
	}
	c := m.cell(node, value)
	if c.state == 0 {
		m.used++
	}
	*c = memoCell{value, node, 1}
	if answer {
		c.state = 2
	}
}
