package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"time"
)

// newFlags is a flag set that leaves messages to run. The flags package's own
// "--help" becomes flag.ErrHelp, which prints the command's help.
func newFlags(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}

var (
	unknownFlag = regexp.MustCompile(`(?s)^flag provided but not defined: -(.*)$`)
	flagName    = regexp.MustCompile(`^[a-z][a-z-]*$`)
	bareFlag    = regexp.MustCompile(`^flag needs an argument: -(.*)$`)
	wrongFlag   = regexp.MustCompile(`(?s)^invalid (?:boolean )?value (".*") for (?:flag )?-([^:]*): (.*)$`)
)

// flagText says what package flag says of a flag as the help writes it: with two dashes,
// and with what the flag takes.
func flagText(set *flag.FlagSet, err error) error {
	if m := unknownFlag.FindStringSubmatch(err.Error()); m != nil {
		if !flagName.MatchString(m[1]) { // it may be somebody's number
			return errors.New("there is no such flag here")
		}
		return fmt.Errorf("there is no flag --%s here", m[1])
	}
	if m := bareFlag.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("--%s wants a value after it", m[1])
	}
	m := wrongFlag.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	why := m[3]
	if f := set.Lookup(m[2]); f != nil {
		if g, ok := f.Value.(flag.Getter); ok {
			switch g.Get().(type) {
			case time.Duration:
				why = "want a duration such as 30s or 24h"
			case bool:
				why = "want true or false, or no value"
			case int, int64, uint, uint64:
				why = "want a whole number"
			case float64:
				why = "want a number"
			}
		}
	}
	return fmt.Errorf("--%s: %s: %s", m[2], m[1], why)
}

// parse reads flags and holds the number of arguments to [min, max].
func parse(fs *flag.FlagSet, args []string, min, max int) error {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError{flagText(fs, err)}
	}
	if n := fs.NArg(); n < min {
		return usagef("too few arguments: %d where at least %d are needed", n, min)
	} else if n > max {
		return usagef("too many arguments: %d where at most %d are taken", n, max) // not which: it may be somebody's number
	}
	return nil
}

// counted is a number of things: "1 fault", "2 faults".
func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// dataThere refuses a data directory that nobody made: its name may be misspelt.
func dataThere(dir string) error {
	_, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return usagef("--data: there is no directory %s; name one that demo or serve keeps its data in, or make a new one: mkdir %[1]s", dir)
	}
	if err != nil {
		return usagef("--data: %w", err)
	}
	return nil
}
