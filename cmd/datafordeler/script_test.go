package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"datafordeler/broker/keys"
	"datafordeler/consumers/examples/kindergarten"
	receiver "datafordeler/consumers/examples/webhook"
	"datafordeler/providers/synthetic"
)

// The scripts call the command as its users do, in a process of its own, so that
// exit codes, signals and locks count.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"datafordeler": main, "kindergarten": func() {
		open := func() (*sql.DB, error) { return sql.Open("sqlite", os.Args[4]) }
		if err := kindergarten.Run(context.Background(), os.Stdout, open, os.Args[1], os.Args[2], os.Args[3], os.Args[5]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}, "webhook-receiver": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := receiver.Main(ctx, os.Args[1:])
		stop()
		os.Exit(code)
	}})
}

// TestScripts: each file of testdata/script is one errand.
//
//	code N COMMAND…        runs a command and wants its exit code
//	ids FILE N [SEED]      writes synthetic identity numbers, one a line
//	person FILE PEOPLE I   writes the number of the demonstration's person I
//	noperson PATH…         wants no valid identity number in a file or below a directory
//	hasperson PATH…        wants one, so that noperson is known to see
//	await URL STATUS TEXT  asks until the answer has this status and matches the text
//	ask STATUS URL TOKEN [BODY]   asks with the token in a file, or posts the file BODY; see answer
//	subject FILE BODY      puts the number in FILE in place of ID in BODY
//	vkey STATUS FILE       takes the ledger's key from what audit status printed
//	records N FILE [BAD]   writes synthetic income records, one JSON a line
//	term                   sends SIGTERM to what runs in the background
//	giant FILE BYTES       writes one JSON line of so many bytes
//	logkey NAME            makes a log's keys, log.key and log.vkey
//	submit ADDR KEY OLD SIZE STATUS   sends a log's head to a witness
//	expand FILE…           puts the environment's values for $NAME in files
//	keystore FILE MONTHS   makes a keystore as it was made so many months ago
//	spoil FILE             changes a byte in the middle
//	singles DATA           writes single decisions into the log of a data directory
//	setvar FILE NAME RE    sets NAME to what the first group of RE matches in FILE
//	setid                  sets ID to the "id" in what the last command printed
//	setdigest              sets DIGEST to the first "digest" in it
//
// THISMONTH and LASTMONTH are periods, and YEARAGO the one twelve months back.
// DEMO is the demonstration's registry; ADDR, API, ADDR2 and ADDR3 are free addresses
// on loopback.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			demo, err := filepath.Abs("../../deploy/demo")
			if err != nil {
				return err
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			env.Setenv("DEMO", demo)
			first := time.Now().UTC().AddDate(0, 0, 1-time.Now().UTC().Day())
			env.Setenv("THISMONTH", first.Format("2006-01"))
			env.Setenv("LASTMONTH", first.AddDate(0, -1, 0).Format("2006-01"))
			env.Setenv("YEARAGO", first.AddDate(-1, 0, 0).Format("2006-01"))
			env.Setenv("ADDR", l.Addr().String())
			for _, name := range []string{"API", "ADDR2", "ADDR3"} {
				more, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				defer more.Close() // when all are known, so that they differ
				env.Setenv(name, more.Addr().String())
			}
			return l.Close()
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Getuid() == 0, nil
			}
			return false, fmt.Errorf("no condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":      scriptCode,
			"ids":       scriptIDs,
			"person":    scriptPerson,
			"noperson":  func(ts *testscript.TestScript, _ bool, paths []string) { scriptPersons(ts, paths, false) },
			"hasperson": func(ts *testscript.TestScript, _ bool, paths []string) { scriptPersons(ts, paths, true) },
			"await":     scriptAwait,
			"ask":       scriptAsk,
			"subject": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.ReplaceAll(ts.ReadFile(args[1]), `"ID"`, strconv.Quote(strings.TrimSpace(ts.ReadFile(args[0]))))), 0o600))
			},
			"vkey": func(ts *testscript.TestScript, _ bool, args []string) {
				m := regexp.MustCompile(`"key": ?"([^"]+)"`).FindStringSubmatch(ts.ReadFile(args[0]))
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(m[1]), 0o600))
			},
			"records":  scriptRecords,
			"expand":   scriptExpand,
			"keystore": scriptKeystore,
			"giant":    scriptGiant,
			"spoil":    scriptSpoil,
			"setid":    scriptSetID,
			"setdigest": func(ts *testscript.TestScript, _ bool, _ []string) {
				m := regexp.MustCompile(`"digest": "([0-9a-f]{32})"`).FindStringSubmatch(ts.ReadFile("stdout"))
				if m == nil {
					ts.Fatalf("the last command printed no digest")
				}
				ts.Setenv("DIGEST", m[1])
			},
			"setvar": func(ts *testscript.TestScript, _ bool, args []string) {
				if len(args) != 3 {
					ts.Fatalf("usage: setvar FILE NAME REGEXP")
				}
				m := regexp.MustCompile(args[2]).FindStringSubmatch(ts.ReadFile(args[0]))
				if m == nil {
					ts.Fatalf("%s has nothing like %s", args[0], args[2])
				}
				ts.Setenv(args[1], m[1])
			},
			"logkey":  scriptLogKey,
			"submit":  scriptSubmit,
			"singles": scriptSingles,
			"term": func(ts *testscript.TestScript, _ bool, _ []string) {
				for _, c := range ts.BackgroundCmds() {
					ts.Check(c.Process.Signal(syscall.SIGTERM))
				}
			},
		},
	})
}

func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND…")
	}
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if args[0] != strconv.Itoa(got) {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

func scriptSpoil(ts *testscript.TestScript, _ bool, args []string) {
	file := ts.MkAbs(args[0])
	b, err := os.ReadFile(file)
	ts.Check(err)
	b[len(b)/2] ^= 1
	ts.Check(os.WriteFile(file, b, 0o600))
}

var idMember = regexp.MustCompile(`"id":"([^"]+)"`)

// scriptSetID sets ID to what the last command printed, or another name to what stands
// in a file.
func scriptSetID(ts *testscript.TestScript, _ bool, args []string) {
	from, name := "stdout", "ID"
	if len(args) == 2 {
		from, name = args[0], args[1]
	}
	m := idMember.FindStringSubmatch(ts.ReadFile(from))
	if m == nil {
		ts.Fatalf("%s holds no id", from)
	}
	ts.Setenv(name, m[1])
}

func scriptIDs(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	seed := uint64(1)
	if len(args) > 2 {
		seed, err = strconv.ParseUint(args[2], 10, 64)
		ts.Check(err)
	}
	r := rand.New(rand.NewPCG(seed, 0))
	var b strings.Builder
	for range n {
		b.WriteString(synthetic.NationalID(r) + "\n")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b.String()), 0o600))
}

func scriptPerson(ts *testscript.TestScript, _ bool, args []string) {
	people, err := strconv.Atoi(args[1])
	ts.Check(err)
	i, err := strconv.Atoi(args[2])
	ts.Check(err)
	for at, p := range synthetic.New(synthetic.Config{People: people, Seed: 1}).People() {
		if at == i {
			ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(p.ID+"\n"), 0o600))
		}
	}
}

func scriptRecords(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	gen := synthetic.New(synthetic.Config{People: n, Seed: 1})
	var b bytes.Buffer
	for i := range n {
		e := gen.Income(nil, i)
		// With a subject's municipality and protection beside the record, as
		// the dataset wants them: a CloudEvent in JSON.
		fmt.Fprintf(&b, `{"specversion":"1.0","id":"r-%d","source":"urn:test","type":"%s","time":"%s","datacontenttype":"application/json"`, i, e.Type, e.Time.Format(time.RFC3339))
		for k, v := range e.Extensions() {
			fmt.Fprintf(&b, `,%q:%q`, k, v)
		}
		fmt.Fprintf(&b, `,"data":%s}`+"\n", e.Data)
	}
	for _, bad := range args[2:] {
		b.WriteString(bad + "\n")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o600))
}

func scriptGiant(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	const frame = `{"a":""}`
	line := frame[:6] + strings.Repeat("x", n-len(frame)) + frame[6:] + "\n"
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(line), 0o600))
}

func scriptExpand(ts *testscript.TestScript, _ bool, files []string) {
	for _, f := range files {
		ts.Check(os.WriteFile(ts.MkAbs(f), []byte(os.Expand(ts.ReadFile(f), ts.Getenv)), 0o600))
	}
}

func scriptKeystore(ts *testscript.TestScript, _ bool, args []string) {
	months, err := strconv.Atoi(args[1])
	ts.Check(err)
	now := time.Now().UTC()
	_, err = keys.Create(ts.MkAbs(args[0]), now.AddDate(0, -months, 1-now.Day()))
	ts.Check(err)
}

func scriptPersons(ts *testscript.TestScript, paths []string, want bool) {
	found := 0
	for _, p := range paths {
		var where []string
		var err error
		switch p {
		case "stdout", "stderr":
			if n := persons([]byte(ts.ReadFile(p))); n > 0 {
				where = []string{p}
			}
		default:
			where, err = personsBelow(ts.MkAbs(p))
		}
		ts.Check(err)
		if !want && len(where) > 0 {
			ts.Fatalf("identity numbers in %v", where)
		}
		found += len(where)
	}
	if want && found == 0 {
		ts.Fatalf("no identity number in %v: the search does not work", paths)
	}
}

// personsBelow names the files that hold an identity number.
func personsBelow(path string) (where []string, err error) {
	err = filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(file)
		if err == nil && persons(b) > 0 || persons([]byte(file)) > 0 {
			where = append(where, file)
		}
		return err
	})
	return where, err
}

// persons counts the synthetic identity numbers in a text: runs of exactly
// eleven digits that validate, but for those inside a long hexadecimal word. A
// hash has such a run now and then.
func persons(b []byte) (n int) {
	for i := 0; i < len(b); {
		j := i
		for j < len(b) && b[j] >= '0' && b[j] <= '9' {
			j++
		}
		if j-i == 11 && synthetic.IsSynthetic(string(b[i:j])) && !inHash(b, i, j) {
			n++
		}
		i = j + 1
	}
	return n
}

// inHash reports whether b[i:j] is part of 24 hexadecimal digits or more.
func inHash(b []byte, i, j int) bool {
	hexadecimal := func(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }
	for i > 0 && hexadecimal(b[i-1]) {
		i--
	}
	for j < len(b) && hexadecimal(b[j]) {
		j++
	}
	return j-i >= 24
}

func TestPersons(t *testing.T) {
	id := synthetic.NationalID(rand.New(rand.NewPCG(1, 2)))
	for text, want := range map[string]int{
		id: 1, "id" + id + "x": 1, `{"a":"` + id + `"}`: 1, id + " " + id: 2, "1" + id: 0, "01010112345": 0, "": 0,
		"fbe0d9c9175d" + "a" + id + "bcdef": 0,
	} {
		if got := persons([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// scriptAwait asks another process again and again: there is no other way to
// learn that it is ready. The bound is generous; nothing is measured.
func scriptAwait(ts *testscript.TestScript, _ bool, args []string) {
	url, status, text := args[0], args[1], regexp.MustCompile(args[2])
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := "no answer"
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		ts.Check(err)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if last = fmt.Sprintf("%d %s", resp.StatusCode, b); err == nil && strconv.Itoa(resp.StatusCode) == status && text.Match(b) {
				ts.Check(os.WriteFile(ts.MkAbs("answer"), b, 0o600))
				return
			}
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%s did not answer %s with %s; last: %s", url, status, args[2], last)
		case <-tick.C:
		}
	}
}

func scriptAsk(ts *testscript.TestScript, _ bool, args []string) {
	method, body := http.MethodGet, ""
	if len(args) > 3 {
		method, body = http.MethodPost, ts.ReadFile(args[3])
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, args[1], strings.NewReader(body))
	ts.Check(err)
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(args[2])))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if strconv.Itoa(resp.StatusCode) != args[0] {
		ts.Fatalf("%d, want %s: %s", resp.StatusCode, args[0], b)
	}
	ts.Check(os.WriteFile(ts.MkAbs("answer"), b, 0o600))
}
