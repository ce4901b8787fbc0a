package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"datafordeler/broker/registry"
	"datafordeler/policy"
)

func versionCommand() command {
	return command{
		name:    "version",
		summary: "which version this is, and what it reads and writes",
		help: `Usage: datafordeler version [--json]

Prints the program's version and the commit that it was built of, where the build knew
them; the Go release; the digest of the policy that comes with it, which decisions name
when it is active; and the versions of the registry's events and images.

Examples:
  datafordeler version
  datafordeler version --json
`,
		run: func(_ context.Context, std stdio, args []string) error {
			fs := newFlags("version")
			asJSON := fs.Bool("json", false, "")
			if err := parse(fs, args, 0, 0); err != nil {
				return err
			}
			v := builtAs()
			if *asJSON {
				return printJSON(std.out, v, true)
			}
			fmt.Fprintf(std.out, "datafordeler %s\n", v.Version)
			if v.Commit != "" {
				fmt.Fprintf(std.out, "commit   %s\n", v.Commit)
			}
			fmt.Fprintf(std.out, "go       %s\npolicy   %s\nregistry events %d, images %d\n", v.Go, v.Policy, v.Events, v.Images)
			return nil
		},
	}
}

// built is what datafordeler version --json prints.
type built struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"` // with -dirty where the tree held more
	Go      string `json:"go"`
	Policy  string `json:"policy"` // of the policy that is built in
	Events  int    `json:"events"` // the latest version of control events that is read, and the one written
	Images  int    `json:"images"` // of the registry's image
}

func builtAs() built {
	v := built{Version: version(), Go: runtime.Version(), Policy: policy.Embedded().Digest(), Events: registry.Version, Images: registry.ImageVersion}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.Commit = s.Value + v.Commit
		case s.Key == "vcs.modified" && s.Value == "true":
			v.Commit += "-dirty"
		}
	}
	return v
}
