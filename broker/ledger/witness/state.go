package witness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"datafordeler/broker/ledger"
)

// Store keeps a witness's state for it.
//
// Save is durable once it returns nil: no crash of the process or the machine
// gives the state before. After an error the old state stands, or the new one,
// whole. One witness at a time holds a Store; nobody else writes it. Evidence
// keeps one proof of a log's misbehaviour; the same name again changes nothing.
type Store interface {
	Load() ([]byte, error)
	Save([]byte) error
	Evidence(name string, b []byte) error
	// String says where, for messages.
	String() string
}

const stateVersion = 1

// state is what a witness remembers: JSON with its version first. Whoever loses
// it, or takes an older copy of it, could cosign a second history; so a witness
// without its state does not start.
type state struct {
	Version int `json:"version"`
	// Witness is the public key that cosigned the heads.
	Witness string `json:"witness"`
	// Heads are in the order of their origins, each once.
	Heads []head `json:"heads"`
}

// head is the last checkpoint of one log that was, or may have been, cosigned.
type head struct {
	// Time is when, in seconds since 1970.
	Time int64 `json:"time"`
	// Note is the checkpoint with the log's signatures.
	Note string `json:"note"`

	checkpoint ledger.Checkpoint
}

// NewState is the state of a witness that has cosigned nothing yet. It is made
// once, with the witness's key.
func NewState(vkey string) ([]byte, error) {
	v, err := ledger.ParseVerifier(vkey)
	if err != nil {
		return nil, err
	}
	if ledger.KindOf(v) != ledger.WitnessKey {
		return nil, fmt.Errorf("%s is not a witness's key", v.Name())
	}
	return state{Version: stateVersion, Witness: vkey}.encode()
}

func (s state) encode() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", " ")
	return append(b, '\n'), err
}

// decodeState reads the state of the witness with the key vkey.
func decodeState(b []byte, vkey string) (map[string]head, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var s state
	if err := dec.Decode(&s); err != nil {
		return nil, fmt.Errorf("not a witness's state, or cut short: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the state")
	}
	switch {
	case s.Version != stateVersion:
		return nil, fmt.Errorf("format version %d is not one that this program reads (%d)", s.Version, stateVersion)
	case s.Witness != vkey:
		return nil, fmt.Errorf("this is the state of the witness %s, not of %s", s.Witness, vkey)
	}
	heads := make(map[string]head, len(s.Heads))
	for i, h := range s.Heads {
		split := strings.LastIndex(h.Note, "\n\n")
		if split < 0 {
			return nil, fmt.Errorf("head %d is no signed checkpoint", i)
		}
		c, err := ledger.ParseCheckpoint(h.Note[:split+1])
		if err != nil {
			return nil, fmt.Errorf("head %d: %w", i, err)
		}
		if _, again := heads[c.Origin]; again || h.Time <= 0 {
			return nil, fmt.Errorf("head %d: %s stands twice, or without a time", i, c.Origin)
		}
		h.checkpoint = c
		heads[c.Origin] = h
	}
	return heads, nil
}

func encodeHeads(vkey string, heads map[string]head) ([]byte, error) {
	s := state{Version: stateVersion, Witness: vkey}
	for _, h := range heads {
		s.Heads = append(s.Heads, h)
	}
	slices.SortFunc(s.Heads, func(a, b head) int { return strings.Compare(a.checkpoint.Origin, b.checkpoint.Origin) })
	return s.encode()
}

// since is when the head was cosigned first.
func (h head) since() time.Time { return time.Unix(h.Time, 0) }
