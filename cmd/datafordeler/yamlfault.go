package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	yamlUnknown = regexp.MustCompile(`^line (\d+): field (\S+) not found in type \S+$`)
	yamlType    = regexp.MustCompile("^line (\\d+): cannot unmarshal \\S+ (`.*` )?into (\\S+)$")
)

// explainYAML turns the decoder's error into lines that name line and key, and
// say what to write there, in the file's words and not in Go's.
func explainYAML(file []byte, err error) string {
	var types *yaml.TypeError
	if !errors.As(err, &types) {
		return strings.TrimPrefix(err.Error(), "yaml: ") + "; this is not YAML: mend the line"
	}
	var root yaml.Node
	_ = yaml.Unmarshal(file, &root) // it has been read once
	faults := make([]string, len(types.Errors))
	for i, text := range types.Errors {
		faults[i] = text
		if m := yamlUnknown.FindStringSubmatch(text); m != nil {
			faults[i] = fmt.Sprintf("line %s: unknown key %q", m[1], m[2])
		} else if m := yamlType.FindStringSubmatch(text); m != nil {
			line, _ := strconv.Atoi(m[1])
			faults[i] = fmt.Sprintf("line %d: %s: want %s", line, strings.TrimSpace(keyAt(&root, line, "")+" "+m[2]), wanted(m[3]))
		}
	}
	return strings.Join(faults, "\n")
}

// keyAt is the path of the innermost key whose value stands on a line.
func keyAt(n *yaml.Node, line int, path string) string {
	found := ""
	for i, c := range n.Content {
		switch n.Kind {
		case yaml.DocumentNode:
			return keyAt(c, line, "")
		case yaml.SequenceNode:
			if s := keyAt(c, line, path); s != "" {
				found = s
			}
		case yaml.MappingNode:
			if i%2 == 1 {
				continue
			}
			key, value := strings.TrimPrefix(path+"."+c.Value, "."), n.Content[i+1]
			if value.Line == line {
				found = key
			}
			if s := keyAt(value, line, key); s != "" {
				found = s
			}
		}
	}
	return found
}

// wanted says in words what a Go type takes.
func wanted(typ string) string {
	switch typ {
	case "time.Duration":
		return "a duration, such as 10s, 5m or 2160h"
	case "int", "int16", "int32", "int64":
		return "a whole number"
	case "bool":
		return "true or false"
	case "string":
		return "one text"
	case "[]string":
		return "a list, such as [\"kafka-1:9092\"]"
	}
	return "keys and their values below it"
}
