package main

import (
	"context"
	"errors"
	"io"

	"golang.org/x/mod/sumdb/note"

	"datafordeler/broker/audit"
	"datafordeler/broker/flow/evidence"
	"datafordeler/broker/ledger"
	"datafordeler/broker/store"
)

// registerAudit opens the auditor's endpoints: the questions, where there is a read
// model, and the ledger, where the instance has one.
func (d *doors) registerAudit(ctx context.Context, b *book) error {
	if b == nil {
		return nil
	}
	d.server.RegisterLedger(&ledgerDoor{d.node, b})
	o, err := d.node.readOptions()
	if err != nil {
		return nil // it is turned off
	}
	if d.read, err = store.Open(ctx, o.DSN); err != nil {
		return err
	}
	desk := &audit.Desk{Store: d.read, Control: d.node.control, Ledger: &ledgerDoor{d.node, b}, Subjects: d.node, Embedded: d.node.engine.Embedded()}
	d.server.RegisterAudit(desk)
	d.server.RegisterDeviations(d.orders, desk)
	d.server.RegisterObligations(d.orders, desk)
	return nil
}

// ledgerDoor reads a running instance's ledger for broker/web.
type ledgerDoor struct {
	node *node
	book *book
}

// Head is the newest head that counts.
func (l *ledgerDoor) Head() []byte {
	if h := l.book.ledger.Head(); h.Size > 0 {
		return h.Note
	}
	return nil
}

// Prove finds what the read model found, in the ledger.
func (l *ledgerDoor) Prove(ctx context.Context, h *store.Hit) (*audit.Proven, error) {
	p, err := l.node.proven(ctx, l.book.policy, true, evidence.Wanted{ID: h.Decision.ID, At: &ledger.Place{Partition: h.Place.Partition, Offset: h.Place.Offset}})
	if errors.Is(err, evidence.ErrNotDecided) {
		err = audit.ErrNotYet
	}
	return p, err
}

func (l *ledgerDoor) source(ctx context.Context) (*evidence.Source, error) {
	return evidence.OpenSource(ctx, l.node.engine, l.node.cfg.Topics())
}

// Entries hands on entries and their lines.
func (l *ledgerDoor) Entries(ctx context.Context, from, to int64, entry, line func([]byte) error) error {
	s, err := l.source(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Skip(from); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return err
	}
	return evidence.ExportEntries(s, to-from, entry, line)
}

// Heads hands on heads of some sizes.
func (l *ledgerDoor) Heads(ctx context.Context, from, to int64, each func([]byte) error) error {
	s, err := l.source(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		msg, err := s.Checkpoint()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		// What cannot be read is handed on too: the one who verifies names it.
		var size int64 = from
		if n, err := note.Open(msg, note.VerifierList()); err != nil {
			if u, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
				n = u.Note
			}
			if n != nil {
				if c, err := ledger.ParseCheckpoint(n.Text); err == nil {
					size = c.Size
				}
			}
		}
		if size < from || size > to {
			continue
		}
		if err := each(msg); err != nil {
			return err
		}
	}
}
