package policy

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// compiled is what Compile found: a program, or why there is none.
type compiled struct {
	program *program
	shape   *shape
	exact   bool // the shape is these terms' own
	why     string
}

// Compile makes the compiled form of p: the policy is evaluated partially, once,
// with all of the terms known, and what is left becomes a predicate over the
// facts. From then on Decide uses it. It may run beside any number of decisions.
//
// An error says why p stays with full evaluation, and is remembered; one of the
// context alone is not, and Compile may be called again.
func (p *Prepared) Compile(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.compiled.Load()
	if c == nil {
		var err error
		if c, err = p.compile(ctx); err != nil {
			return p.wrap(err)
		}
		p.compiled.Store(c)
	}
	if c.program == nil {
		return p.wrap(fmt.Errorf("stays with full evaluation: %s", c.why))
	}
	return nil
}

// compile fails only when ctx is done.
func (p *Prepared) compile(ctx context.Context) (c *compiled, err error) {
	defer func() {
		if r := recover(); r != nil { // a mistake here or in OPA costs speed, no more
			c, err = &compiled{why: fmt.Sprintf("the compiler failed: %v", r)}, nil
		}
	}()
	a := p.engine.analysis()
	if a.why != "" {
		return &compiled{why: a.why}, nil
	}
	s := a.shape(p.terms)
	sh, err := p.engine.shape(ctx, a, s, p)
	var ordered errOrdered
	if errors.As(err, &ordered) {
		s = &shaper{a: a, exact: true}
		s.read(p.terms)
		sh, err = p.engine.shape(ctx, a, s, p)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return &compiled{why: err.Error()}, nil
	case sh.why != "":
		return &compiled{why: s.restore(sh.why)}, nil
	}
	program, err := link(a, sh, s, p.terms)
	if err != nil {
		return &compiled{why: err.Error()}, nil
	}
	return p.engine.programs.one(&compiled{program: program, shape: sh, exact: s.exact}), nil
}

// programs are what is left of one policy, each kept once. Most subscriptions under
// the same bases are left the same, and what they share stays in the processor's
// caches from one record to the next, as a program for each does not.
type programs struct {
	mu   sync.Mutex
	kept map[string]*compiled // by all that it says; guarded by mu
}

// maxPrograms bounds them, as maxShapes does shapes.
const maxPrograms = 20_000

// one gives the form that is kept of those that say what c says, or c with that
// one's program.
func (s *programs) one(c *compiled) *compiled {
	p := c.program
	// Codes and chains are the policy's. What is formatted has no pointers.
	key := fmt.Sprintf("%d %#v %#v %#v %x %x %#v %x %#v %q",
		p.words, p.tests, p.cases, p.consents, p.settled, p.all, p.open, p.carried, p.carrying, p.cited)
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.kept[key]; have != nil {
		if have.shape == c.shape {
			return have
		}
		c.program = have.program // in other words the same
		return c
	}
	if s.kept == nil || len(s.kept) >= maxPrograms {
		s.kept = map[string]*compiled{}
	}
	s.kept[key] = c
	return c
}

// shapes are what is left of one policy, by the shape of terms. It is safe for any
// number of goroutines; one shape is evaluated by one of them.
type shapes struct {
	mu    sync.Mutex
	byKey map[string]*shapeEntry
}

type shapeEntry struct {
	mu      sync.Mutex
	shape   *shape
	ordered errOrdered
}

// maxShapes bounds what is kept. Beyond it everything is forgotten: it can be
// found again.
const maxShapes = 20_000

func (e *Engine) shape(ctx context.Context, a *analysis, s *shaper, p *Prepared) (*shape, error) {
	e.shapes.mu.Lock()
	entry := e.shapes.byKey[string(s.key)]
	if entry == nil {
		if len(e.shapes.byKey) >= maxShapes || e.shapes.byKey == nil {
			e.shapes.byKey = map[string]*shapeEntry{}
		}
		entry = &shapeEntry{}
		e.shapes.byKey[string(s.key)] = entry
	}
	e.shapes.mu.Unlock()

	entry.mu.Lock()
	defer entry.mu.Unlock()
	if entry.shape != nil {
		return entry.shape, nil
	}
	if entry.ordered != "" {
		return nil, entry.ordered
	}
	sh, err := e.residues(ctx, a, s, p.terms)
	var ordered errOrdered
	if errors.As(err, &ordered) {
		entry.ordered = ordered
	}
	if err != nil {
		return nil, err
	}
	entry.shape = sh
	return sh, nil
}
