package policy

import (
	"cmp"
	"encoding/binary"
	"maps"
	"sync"
	"sync/atomic"

	"datafordeler/broker"
)

// outcomes are the answers that one program has given. It is safe for any number of
// goroutines, and reading takes no lock.
type outcomes struct {
	denials atomic.Pointer[map[uint64]*broker.Outcome] // by what is cleared
	permits atomic.Pointer[map[uint64]*broker.Outcome] // by which bases hold
	mu      sync.Mutex                                 // held while one is added
}

// maxOutcomes bounds what is kept. A policy's answers for one subscription are a
// few; equal ones beyond the bound are told apart by their pointers, no more.
const maxOutcomes = 512

// answers are all that one policy has given, each kept once, so that equal ones
// are one pointer, whichever way they were found.
type answers struct {
	mu   sync.Mutex
	text map[string]*broker.Outcome // by what they say; guarded by mu
}

// maxAnswers bounds them. Beyond it everything is forgotten: those that are made
// anew are equal, behind other pointers.
const maxAnswers = 20_000

// find is the kept answer, or nil.
func (s *outcomes) find(cleared, holding, all uint64) *broker.Outcome {
	table, key := &s.denials, cleared
	if cleared == all {
		table, key = &s.permits, holding
	}
	if m := table.Load(); m != nil {
		return (*m)[key]
	}
	return nil
}

// keep remembers an answer for a program, and gives the one that is kept.
func (s *outcomes) keep(cleared, holding, all uint64, o *broker.Outcome) *broker.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	table, key := &s.denials, cleared
	if cleared == all {
		table, key = &s.permits, holding
	}
	next := map[uint64]*broker.Outcome{}
	if m := table.Load(); m != nil {
		if have := (*m)[key]; have != nil || len(*m) >= maxOutcomes {
			return cmp.Or(have, o)
		}
		next = maps.Clone(*m)
	}
	next[key] = o
	table.Store(&next)
	return o
}

// same gives the kept answer that says what o says.
func (s *answers) same(o *broker.Outcome) *broker.Outcome {
	var a [256]byte
	key := append(a[:0], 0)
	if o.Permit {
		key[0] = 1
	}
	key = binary.AppendUvarint(key, uint64(len(o.Reasons)))
	for _, r := range o.Reasons {
		key = text(key, string(r))
	}
	for _, b := range o.Bases {
		key = text(key, string(b))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.text[string(key)]; have != nil {
		return have
	}
	if s.text == nil || len(s.text) >= maxAnswers {
		s.text = map[string]*broker.Outcome{}
	}
	s.text[string(key)] = o
	return o
}
