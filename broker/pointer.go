package broker

import (
	"fmt"
	"strings"
)

// Pointer is a JSON Pointer (RFC 6901) whose tokens name object members.
// Where it meets an array it goes on in every element, so
// "/inntekt/beloep" is the amount of each income in the list.
type Pointer string

// Tokens splits and unescapes the pointer; "" is the whole document, no tokens.
func (p Pointer) Tokens() ([]string, error) {
	if p == "" {
		return nil, nil
	}
	if p[0] != '/' {
		return nil, fmt.Errorf("JSON Pointer %q: want it to begin with '/'", string(p))
	}
	tokens := strings.Split(string(p[1:]), "/")
	for i, t := range tokens {
		for j := 0; j < len(t); j++ {
			if t[j] == '~' && (j+1 == len(t) || (t[j+1] != '0' && t[j+1] != '1')) {
				return nil, fmt.Errorf("JSON Pointer %q: '~' is written ~0 and '/' is written ~1 (RFC 6901)", string(p))
			}
		}
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(t, "~1", "/"), "~0", "~")
	}
	return tokens, nil
}

// Covers reports whether q is p or lies below it.
func (p Pointer) Covers(q Pointer) bool {
	return p == q || strings.HasPrefix(string(q), string(p)+"/")
}
