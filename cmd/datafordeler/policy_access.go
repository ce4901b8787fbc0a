package main

import (
	"fmt"
	"maps"
	"slices"

	"datafordeler/policy"
)

// policyAccess shows the policy that is not activated: who may knock at which door.
func policyAccess(std stdio, args []string) error {
	fs := newFlags("policy access")
	asJSON := fs.Bool("json", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	checker, err := policy.NewAccessChecker()
	if err != nil {
		return err
	}
	modules := policy.AccessBundle().Modules
	if *asJSON {
		return printJSON(std.out, struct {
			Digest  string            `json:"digest"`
			Modules map[string]string `json:"modules"`
		}{checker.Digest(), modules}, true)
	}
	fmt.Fprintf(std.out, "%s\n", checker.Digest())
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		fmt.Fprintf(std.out, "\n# %s\n%s", path, modules[path])
	}
	return nil
}
