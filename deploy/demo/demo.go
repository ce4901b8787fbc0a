// Package demo carries the demonstration registry in the binary.
package demo

import "embed"

// Files are the declarations, and the schemas and truth tables that they name.
//
//go:embed *.yaml schemas/*.json tables/*.csv
var Files embed.FS
