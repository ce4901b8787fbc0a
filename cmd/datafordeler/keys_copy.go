package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"datafordeler/broker/kafka"
	"datafordeler/broker/keys"
)

// maxKeystore is far above what fifty years of months take, in bytes.
const maxKeystore = 16 << 20

func keysBackup(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("keys backup")
	where := placeFlags(fs)
	out := fs.String("out", "", "")
	beside := fs.Bool("beside", false, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if *out == "" {
		return usagef("--out is missing: a file, or - for standard output")
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	file, s := n.keystore(), n.standing()
	if err := n.fitForCopy(*out, file, *beside, std); err != nil {
		return err
	}
	i, err := keys.Inspect(file)
	if err != nil {
		return err
	}
	if s.registered != "" {
		if why := s.misfit(file, i); why != "" {
			return fmt.Errorf("%s is not worth keeping a copy of: %s", file, why)
		}
	}
	b, err := file.Read()
	if err != nil {
		return err
	}
	scratch := &keys.Bytes{Name: file.String(), Data: b}
	if _, err := keys.Destroy(scratch, s.periods()...); err != nil {
		return err
	}
	if *out == "-" {
		if _, err := std.out.Write(scratch.Data); err != nil {
			return err
		}
		backupNote(std.err, "what was written", file, i, s)
		return nil
	}
	if err := writeCopy(*out, scratch.Data, i.Check); err != nil {
		return err
	}
	backupNote(std.out, *out, file, i, s)
	return nil
}

// fitForCopy says why a copy may not stand there.
func (n *node) fitForCopy(out string, file keys.File, beside bool, std stdio) error {
	if out == "-" {
		if f, ok := std.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return usagef("--out -: the keys would stand on the screen: pipe them into a program that encrypts")
		}
		return nil
	}
	if n.cfg.Engine == kafka.EngineEmbedded && insideDir(n.cfg.Data, out) {
		return usagef("--out %s lies inside the data directory %s: who has the data must not have the keys; name a file elsewhere, best on another machine", out, n.cfg.Data)
	}
	if _, err := os.Lstat(out); err == nil {
		return usagef("--out %s exists, and nothing is written over: name a new file", out)
	}
	dir, err1 := os.Stat(filepath.Dir(out))
	own, err2 := os.Stat(filepath.Dir(string(file)))
	if err1 != nil {
		return usageError{fmt.Errorf("--out: %w", err1)}
	}
	if err2 == nil && os.SameFile(dir, own) && !beside {
		return usagef("--out %s stands beside the keystore: what takes the one takes the other; name a file elsewhere, or say --beside", out)
	}
	return nil
}

// writeCopy writes a new file and reads it back.
func writeCopy(path string, b []byte, check string) (err error) {
	h, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(path)
		}
	}()
	_, err = h.Write(b)
	err = errors.Join(err, h.Sync(), h.Close())
	if err != nil {
		return err
	}
	back, err := keys.Inspect(keys.File(path))
	if err == nil && back.Check != check {
		err = errors.New("what was written reads back as something else")
	}
	if err != nil {
		return fmt.Errorf("the copy was removed again: %w (a file system without permissions: write with --out - into a program that encrypts)", err)
	}
	return nil
}

// backupNote is what goes with a backup: whoever finds it must know what it is.
func backupNote(w io.Writer, name string, file keys.File, i keys.Info, s standing) {
	first, last := i.Covers()
	fmt.Fprintf(w, `BACKUP NOTE: keep it with the copy, on paper too
  what      %s: a copy of the keystore %s, fingerprint %s,
            months %s to %s, written %s
  without   no case and no consent that is registered is found again, repeats are taken
            for new, and no pseudonym in any decision can be looked up. Nothing else can
            make these keys again. Proofs still verify.
  with      whoever holds it and the log can tell whose every decision was, by trying all
            numbers. Only those may hold it who may hold both; keep it encrypted, under two
            persons' control, apart from the data and from the data's backups.
  destroyed months must be destroyed in this copy as well, by whoever holds it: %s
            After every datafordeler keys destroy, make a new copy and destroy this one.
  check     datafordeler keys check FILE, once a year, and after every change
`, name, file, i.Check, first, last, time.Now().UTC().Format(time.DateOnly), orNone(joined(s.periods())))
}

// readCopy reads a file, or standard input. Its permissions are its holder's.
func readCopy(std stdio, name string) (*keys.Bytes, error) {
	in, shown := std.in, "standard input"
	if name != "-" {
		h, err := os.Open(name)
		if err != nil {
			return nil, usageError{err}
		}
		defer h.Close()
		in, shown = h, name
	}
	b, err := io.ReadAll(io.LimitReader(in, maxKeystore))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shown, err)
	}
	return &keys.Bytes{Name: shown, Data: b}, nil
}

func keysCheck(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("keys check")
	where := placeFlags(fs)
	asJSON := fs.Bool("json", false, "")
	if err := parseMixedDash(fs, args); err != nil {
		return err
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	c, err := readCopy(std, fs.Arg(0))
	if err != nil {
		return err
	}
	i, err := keys.Inspect(c)
	if err != nil {
		return err
	}
	s := n.standing()
	r := s.report(c, i, time.Now())
	if info, err := os.Stat(fs.Arg(0)); err == nil {
		if r.Mode = fmt.Sprintf("%04o", info.Mode().Perm()); info.Mode().Perm()&0o077 != 0 {
			r.Faults = append(r.Faults, fmt.Sprintf("its permissions are %s, so others than its owner may read it: run chmod 600, and ask whether the keys are still secret", r.Mode))
		}
	}
	if err := r.print(std, *asJSON); err != nil {
		return err
	}
	if !*asJSON {
		fmt.Fprintln(std.out, "it fits: this copy can be restored")
	}
	return nil
}

// parseMixedDash takes one word, which may be "-", before or after the flags.
func parseMixedDash(fs *flag.FlagSet, args []string) error {
	if len(args) > 0 && args[0] == "-" {
		args = append(args[1:len(args):len(args)], "-")
	}
	return parseMixed(fs, args, 1, 1)
}

func keysRestore(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("keys restore")
	where := placeFlags(fs)
	strip := fs.Bool("strip", false, "")
	replace := fs.Bool("replace", false, "")
	if err := parseMixedDash(fs, args); err != nil {
		return err
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	c, err := readCopy(std, fs.Arg(0))
	if err != nil {
		return err
	}
	i, err := keys.Inspect(c)
	if err != nil {
		return err
	}
	file, s := n.keystore(), n.standing()
	if why := s.misfit(c, i); why != "" {
		return fmt.Errorf("%s is not restored: %s", c, why)
	}
	if held := i.Holds(s.periods()); len(held) > 0 {
		if !*strip {
			return fmt.Errorf("%s is not restored: IT WOULD BRING BACK THE KEY OF %s, WHICH WAS DESTROYED: take a copy made since; "+
				"where there is none, --strip restores it without these keys", c, joined(held))
		}
		if _, err := keys.Destroy(c, held...); err != nil {
			return err
		}
		fmt.Fprintf(std.out, "left out the keys of %s. %s ITSELF STILL HOLDS THEM: destroy it, and make a new backup\n", joined(held), c)
	}
	switch there, err := keys.Inspect(file); {
	case isMissing(err):
		if err := file.Create(c.Data); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	case err == nil && there.Check == i.Check && len(there.Holds(s.periods())) == 0:
		fmt.Fprintf(std.out, "%s is there and fits: nothing to do\n", file)
		return nil
	case !*replace:
		what := "is damaged, or cannot be read"
		if err == nil {
			what = "stands there"
		}
		return errors.Join(err, fmt.Errorf("%s %s: move it away, or say --replace to put the copy over it", file, what))
	default:
		if err := file.Replace(c.Data); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if _, err := keys.Open(string(file)); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "restored %s, fingerprint %s as registered: start the instance again\n", file, i.Check)
	return nil
}
