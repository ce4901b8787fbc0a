package torture_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Kafka's request keys that the proxy knows.
const (
	keyOffsetCommit    = 8
	keyEndTxn          = 26
	keyTxnOffsetCommit = 28
)

// trap is a request to be caught: the first of its key after it was set. All
// of the instance's connections stand still from then on.
type trap struct {
	key    int16
	answer bool // let the request reach Kafka, and keep its answer back
	sprung chan struct{}
}

// proxy stands between one instance and Kafka. In all of Kafka's answers it
// puts its own port for the node's, so that all of the instance's connections
// come this way.
type proxy struct {
	t        *testing.T
	listen   net.Listener
	target   string
	from, to []byte // the node's address in Kafka's encoding, and the proxy's

	mu     sync.Mutex
	trap   *trap
	gate   *sync.Cond
	frozen bool
	closed bool
	conns  map[net.Conn]bool
}

// newProxy stands before the node at an address.
func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, listen: l, target: target, from: encoded(t, target), to: encoded(t, l.Addr().String()), conns: map[net.Conn]bool{}}
	p.gate = sync.NewCond(&p.mu)
	t.Cleanup(p.close)
	go p.accept()
	return p
}

func (p *proxy) address() string { return p.listen.Addr().String() }

// encoded is an address as it stands in an answer: host, then port in four
// bytes. All are of one length, so that frames keep theirs.
func encoded(t *testing.T, address string) []byte {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return binary.BigEndian.AppendUint32([]byte(host), uint32(n))
}

func (p *proxy) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed, p.frozen = true, false
	p.listen.Close()
	for c := range p.conns {
		c.Close()
	}
	p.gate.Broadcast()
}

func (p *proxy) accept() {
	for {
		client, err := p.listen.Accept()
		if err != nil {
			return
		}
		go p.connection(client)
	}
}

func (p *proxy) connection(client net.Conn) {
	defer client.Close()
	p.pass() // a connection made while all stand still waits, too
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, client)
		delete(p.conns, server)
	}()
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		_ = p.copy(client, server, false) // a broken connection is the client's to notice
		client.Close()
	}()
	_ = p.copy(server, client, true)
	server.Close()
	<-answers
}

// copy passes frames on: four bytes of size, then for a request its key.
func (p *proxy) copy(to io.Writer, from io.Reader, requests bool) error {
	head := make([]byte, 4)
	for {
		if _, err := io.ReadFull(from, head); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint32(head))
		if n > 256<<20 {
			return errors.New("not a Kafka frame")
		}
		frame := make([]byte, 4+n)
		copy(frame, head)
		if _, err := io.ReadFull(from, frame[4:]); err != nil {
			return err
		}
		if requests && n >= 2 {
			key := int16(binary.BigEndian.Uint16(frame[4:]))
			if caught := p.caught(key); caught != nil && caught.answer {
				if _, err := to.Write(frame); err != nil {
					return err
				}
				close(caught.sprung)
				continue
			} else if caught != nil {
				close(caught.sprung)
			}
		}
		p.pass()
		if !requests {
			frame = bytes.ReplaceAll(frame, p.from, p.to)
		}
		if _, err := to.Write(frame); err != nil {
			return err
		}
	}
}

// caught springs the trap, if this is the request that it is for.
func (p *proxy) caught(key int16) *trap {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trap == nil || p.trap.key != key || p.frozen {
		return nil
	}
	caught := p.trap
	p.trap, p.frozen = nil, true
	return caught
}

// pass waits until nothing stands still.
func (p *proxy) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.frozen && !p.closed {
		p.gate.Wait()
	}
}

// set arms a trap and gives what closes when it has sprung.
func (p *proxy) set(key int16, answer bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap = &trap{key: key, answer: answer, sprung: make(chan struct{})}
	return p.trap.sprung
}

// thaw lets everything go on: what was held back arrives now, late.
func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = false
	p.gate.Broadcast()
}
