// Package demo carries the demonstration registry in the binary.
package demo

import "embed"

// Files are the declarations and the schemas that they name.
//
//go:embed *.yaml schemas/*.json
var Files embed.FS
