package jsondoc

// A reader that knows what to expect, as a schema tells it, can write the tape
// as it goes: Begin, nodes of its own, Keep. What it finds is then for it to
// answer for: the tape has to be the one that Parse makes, and what Parse would
// refuse must not be kept.

// Begin empties the document for such data, and is the tape's memory, to be
// written from the first node on. It may be empty, and be replaced by more.
func (d *Doc) Begin(data []byte) []Node {
	d.data, d.members = data, 0
	d.names.reset()
	d.nodes = d.nodes[:0]
	return d.nodes[:cap(d.nodes)]
}

// Keep makes nodes the tape.
func (d *Doc) Keep(nodes []Node) { d.nodes = nodes }

// NamedBy says that the reader with this number, of this process's, sets the nodes'
// Member from here on, until the document is another.
func (d *Doc) NamedBy(reader uint64) { d.members = reader }

// ParseValue reads one value as Parse does and appends it to the tape that was
// kept: the value at byte i, after white space if any. At most maxDepth objects
// and arrays may be nested in it, itself counted. Of name the fields NameStart,
// NameEnd, NameEscaped and Member become the value's; the name itself has been read,
// and has no escapes. end is behind the value and the white space after it. ok
// is false where Parse would refuse the data.
func (d *Doc) ParseValue(i, maxDepth int, name Node) (end int, ok bool) {
	end, err := d.parse(i, maxDepth, name)
	return end, err == nil
}
