package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker/ledger"
)

// scriptLogKey writes a log's keys to log.key and log.vkey.
func scriptLogKey(ts *testscript.TestScript, _ bool, args []string) {
	skey, vkey, err := ledger.GenerateKey(args[0], ledger.LogKey)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("log.key"), []byte(skey), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("log.vkey"), []byte("# the ledger\n"+vkey+"\n"), 0o600))
}

// scriptSubmit sends the head of a log of SIZE leaves to a witness that has OLD.
func scriptSubmit(ts *testscript.TestScript, _ bool, args []string) {
	addr, skey := args[0], ts.ReadFile(args[1])
	old, err := strconv.ParseInt(args[2], 10, 64)
	ts.Check(err)
	size, err := strconv.ParseInt(args[3], 10, 64)
	ts.Check(err)
	s, err := note.NewSigner(skey)
	ts.Check(err)
	var hashes []tlog.Hash
	read := tlog.HashReaderFunc(func(at []int64) (h []tlog.Hash, _ error) {
		for _, i := range at {
			h = append(h, hashes[i])
		}
		return h, nil
	})
	for i := range size {
		h, err := tlog.StoredHashes(i, []byte(fmt.Sprint("leaf ", i)), read)
		ts.Check(err)
		hashes = append(hashes, h...)
	}
	root, err := tlog.TreeHash(size, read)
	ts.Check(err)
	msg, err := ledger.SignCheckpoint(ledger.Checkpoint{Origin: s.Name(), Size: size, Root: root}, s)
	ts.Check(err)
	body := fmt.Sprintf("old %d\n", old)
	if 0 < old && old < size {
		proof, err := tlog.ProveTree(size, old, read)
		ts.Check(err)
		for _, h := range proof {
			body += base64.StdEncoding.EncodeToString(h[:]) + "\n"
		}
	}
	resp, err := http.Post("http://"+addr+"/add-checkpoint", "text/plain", bytes.NewReader([]byte(body+"\n"+string(msg))))
	ts.Check(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if strconv.Itoa(resp.StatusCode) != args[4] || resp.StatusCode == 200 && !strings.HasPrefix(string(b), "— witness.digdir.example ") {
		ts.Fatalf("%d %s", resp.StatusCode, b)
	}
}
