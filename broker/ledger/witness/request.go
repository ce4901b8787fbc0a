package witness

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker/ledger"
)

const (
	// maxProof is how many hashes a request may hold (tlog-witness,
	// add-checkpoint).
	maxProof = 63
	// maxRequest bounds a request's bytes: a proof, and a checkpoint with the 16
	// signatures that must at least be taken, of up to 5 kB each (signed-note).
	maxRequest = 128 << 10
	// sizeType is the content type of a 409 that tells the witness's size.
	sizeType = "text/x.tlog.size"
)

// request is the body of add-checkpoint.
type request struct {
	old   int64
	proof tlog.TreeProof
	// note is the signed checkpoint as it came.
	note []byte
}

// appendRequest writes the body of add-checkpoint.
func appendRequest(b []byte, r request) []byte {
	b = fmt.Appendf(b, "old %d\n", r.old)
	for _, h := range r.proof {
		b = base64.StdEncoding.AppendEncode(b, h[:])
		b = append(b, '\n')
	}
	b = append(b, '\n')
	return append(b, r.note...)
}

// parseRequest reads the body of add-checkpoint. What it takes, appendRequest
// writes in the same bytes. The note is not looked at.
func parseRequest(b []byte) (request, error) {
	head, signed, found := bytes.Cut(b, []byte("\n\n"))
	if !found {
		return request{}, errors.New("no empty line before the checkpoint")
	}
	lines := strings.Split(string(head), "\n")
	size, found := strings.CutPrefix(lines[0], "old ")
	if !found {
		return request{}, errors.New("the first line is not of the form: old SIZE")
	}
	r := request{note: signed}
	var err error
	if r.old, err = ledger.ParseSize(size); err != nil {
		return request{}, fmt.Errorf("the old size: %w", err)
	}
	if len(lines)-1 > maxProof {
		return request{}, fmt.Errorf("%d lines of proof; at most %d", len(lines)-1, maxProof)
	}
	for i, line := range lines[1:] {
		h, err := ledger.ParseHash(line)
		if err != nil {
			return request{}, fmt.Errorf("proof, line %d: %w", i+1, err)
		}
		r.proof = append(r.proof, h)
	}
	return r, nil
}
