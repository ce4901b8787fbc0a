package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"datafordeler/broker"
	"datafordeler/providers/poller"
)

// A register of legal entities of the test's own: a list of updates, in the form of HAL.
type unitRegister struct {
	mu      sync.Mutex
	updates []string // by oppdateringsid, 10 apart
	broken  int      // answers that fail first
}

func (r *unitRegister) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken > 0 {
		r.broken--
		http.Error(w, "no", http.StatusServiceUnavailable)
		return
	}
	from, _ := strconv.Atoi(q.URL.Query().Get("oppdateringsid"))
	size, _ := strconv.Atoi(q.URL.Query().Get("size"))
	first := min((from+9)/10-1, len(r.updates))
	page := r.updates[max(0, first):min(max(0, first)+size, len(r.updates))]
	if len(page) == 0 {
		fmt.Fprint(w, `{"_links":{},"page":{"size":0,"totalElements":0}}`)
		return
	}
	fmt.Fprintf(w, `{"_embedded":{"oppdaterteEnheter":[%s]},"page":{"totalElements":%d}}`, strings.Join(page, ","), len(page))
}

func (r *unitRegister) happens(number, what string) {
	r.happened("2026-11-20T05:06:07.123Z", number, what)
}

func (r *unitRegister) happened(at, number, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.updates = append(r.updates, fmt.Sprintf(`{"oppdateringsid":%d,"dato":%q,"organisasjonsnummer":%q,"endringstype":%q}`, 10*(len(r.updates)+1), at, number, what))
}

func TestUnitsFollowTheRegister(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens an embedded engine")
	}
	data := filepath.Join(t.TempDir(), "data")
	register := &unitRegister{}
	server := httptest.NewServer(register)
	defer server.Close()
	command := func(in string, args ...string) (code int, out string) {
		t.Helper()
		var b bytes.Buffer
		code = run(context.Background(), stdio{strings.NewReader(in), &b, &b}, append(args, "--data", data))
		return code, b.String()
	}
	if code, out := command("", "demo", "--once", "--people", "20"); code != 0 {
		t.Fatal(out)
	}
	follow := func(more ...string) (int, string) {
		t.Helper()
		return command("", append([]string{"units", "follow", "--source", "enhetsregisteret", "--list", server.URL + "/oppdateringer/enheter", "--actor", "drift", "--once"}, more...)...)
	}
	type status struct {
		Followed *struct{ Sequence int64 }
		Ended    int
		Parties  []struct {
			Organisation, Successor broker.OrgNumber
			Agreements              []broker.AgreementID
		}
	}
	read := func() (s status) {
		t.Helper()
		code, out := command("", "units", "status", "--json")
		if code != 0 || json.Unmarshal([]byte(out), &s) != nil {
			t.Fatal(out)
		}
		return s
	}
	const oslo, bank, new = "958935420", "310149942", "964338531"
	if code, out := follow(); code != exitUsage || !strings.Contains(out, "say --from N") {
		t.Errorf("%d %s", code, out)
	}
	register.happens(oslo, "Endring")
	register.happens(bank, "Sletting")
	register.happens("974760673", "Fjernet") // nobody that is declared
	register.happens(new, "Ny")
	if code, out := follow("--from", "1"); code != 0 || !strings.Contains(out, "to update 40") {
		t.Fatalf("%d %s", code, out)
	}
	if s := read(); s.Followed.Sequence != 40 || s.Ended != 2 || len(s.Parties) != 1 || s.Parties[0].Organisation != bank || len(s.Parties[0].Agreements) == 0 {
		t.Fatalf("%+v", s)
	}
	if _, out := command("", "policy", "describe", "testbanken-boliglaan", "--lang", "en"); !strings.Contains(out, "was deleted from the register of legal entities on") {
		t.Errorf("%s", out)
	}
	// Again there is nothing new, and a type that is not known stops it.
	if code, out := follow(); code != 0 || !strings.Contains(out, "to update 40") {
		t.Fatalf("%d %s", code, out)
	}
	register.happens(bank, "Ny") // restored
	register.happens(oslo, "Omdannet")
	if code, out := follow(); code == 0 || !strings.Contains(out, "Omdannet") || !strings.Contains(out, "not known") {
		t.Errorf("%d %s", code, out)
	}
	register.mu.Lock()
	register.updates = register.updates[:len(register.updates)-1]
	register.broken = 1
	register.mu.Unlock()
	if code, out := follow(); code == 0 || !strings.Contains(out, "503") {
		t.Errorf("%d %s", code, out)
	}
	if code, out := follow(); code != 0 || !strings.Contains(out, "to update 50") {
		t.Fatalf("%d %s", code, out)
	}
	if s := read(); len(s.Parties) != 0 || s.Ended != 1 {
		t.Errorf("%+v", s)
	}
	// Who took over is told by people.
	if code, out := command(oslo+" merged 2026-11-21 "+new+"\n", "units", "import", "--actor", "drift", "--dry-run"); code != 0 || !strings.Contains(out, "agreement oslo-sosialhjelp has a party that is no more") || !strings.Contains(out, "nothing was written") {
		t.Errorf("%d %s", code, out)
	}
	if code, out := command(oslo+" merged 2026-11-21 "+new+"\n", "units", "import", "--actor", "drift"); code != 0 || !strings.Contains(out, "1 in the list, 2 changes") {
		t.Errorf("%d %s", code, out)
	}
	if code, out := command(oslo+" merged 2026-11-21 "+new+"\n", "units", "import", "--actor", "drift"); code != 0 || !strings.Contains(out, "1 in the list, 0 changes") {
		t.Errorf("%d %s", code, out)
	}
	if _, out := command("", "units", "status"); !strings.Contains(out, "merged into "+new+" on 2026-11-21") || !strings.Contains(out, "agreement oslo-sosialhjelp counts as ended") {
		t.Errorf("%s", out)
	}
	if code, out := command(new+" merged 2026-11-21 "+oslo+"\n", "units", "import", "--actor", "drift"); code == 0 || !strings.Contains(out, "one of the two is wrong") {
		t.Errorf("%d %s", code, out)
	}
	// That it was new once, long before, is no news of it since.
	register.happened("1995-02-19T05:06:07.123Z", oslo, "Ny")
	if code, out := follow(); code != 0 || !strings.Contains(out, "to update 60") {
		t.Fatalf("%d %s", code, out)
	}
	if s := read(); len(s.Parties) != 1 || s.Parties[0].Organisation != oslo || s.Parties[0].Successor != new {
		t.Errorf("%+v", s)
	}
	// It was a mistake: neither is it no more, nor does anything that concerns it concern another.
	if code, out := command(oslo+" restored\n", "units", "import", "--actor", "drift"); code != 0 || !strings.Contains(out, "1 in the list, 2 changes") {
		t.Errorf("%d %s", code, out)
	}
	if code, out := command(oslo+" restored\n", "units", "import", "--actor", "drift"); code != 0 || !strings.Contains(out, "1 in the list, 0 changes") {
		t.Errorf("%d %s", code, out)
	}
	if code, out := command("0301-1/2 merged 2026-11-21 0301-1/3\n", "units", "import", "--kind", "property", "--actor", "drift"); code != 0 || !strings.Contains(out, "1 changes") {
		t.Errorf("%d %s", code, out)
	}
	if code, out := command("0301-1/2 restored\n", "units", "import", "--kind", "property", "--actor", "drift"); code != 0 || !strings.Contains(out, "1 changes") {
		t.Errorf("%d %s", code, out)
	}
	if code, out := command("0301-1/2 deleted 2026-11-01\n", "units", "import", "--kind", "property", "--actor", "drift"); code != exitUsage || !strings.Contains(out, "merged or restored") {
		t.Errorf("%d %s", code, out)
	}
	for in, want := range map[string]string{
		"123 deleted 2026-11-01\n":                  "line 1: want a number",
		oslo + "\n":                                 "line 1: want a number",
		"\n" + oslo + " deleted\n":                  "line 2: want deleted DATE",
		oslo + " deleted 2999-01-01\n":              "a day that has come",
		oslo + " deleted 1/11\n":                    "the day as 2026-11-01",
		oslo + " deleted 2026-11-01 x\n":            "want deleted DATE",
		oslo + " merged 2026-11-01\n":               "want merged DATE SUCCESSOR",
		oslo + " merged 2026-11-01 12\n":            "want merged DATE SUCCESSOR",
		oslo + " restored 2026-11-01\n":             "nothing after restored",
		oslo + " bankrupt 2026-11-01\n":             "deleted, merged or restored",
		oslo + " restored\n" + oslo + " restored\n": "each number once",
	} {
		if code, out := command(in, "units", "import", "--actor", "drift"); code != exitUsage || !strings.Contains(out, want) {
			t.Errorf("%q: %d %s", in, code, out)
		}
	}
	for want, args := range map[string][]string{
		"--actor is missing":  {"units", "import"},
		"--kind: want":        {"units", "import", "--actor", "x", "--kind", "person"},
		"--list: want":        {"units", "follow", "--source", "x", "--actor", "x"},
		"travels by https":    {"units", "follow", "--source", "x", "--actor", "x", "--list", "http://register.example/"},
		"counted from 1":      {"units", "follow", "--source", "x", "--actor", "x", "--list", server.URL, "--from", "-1"},
		"want a time above 0": {"units", "follow", "--source", "x", "--actor", "x", "--list", server.URL, "--interval", "0s"},
		"--source is missing": {"units", "follow", "--actor", "x", "--list", server.URL},
		"--token-file":        {"units", "follow", "--source", "x", "--actor", "x", "--list", server.URL, "--token-file", filepath.Join(data, "none")},
	} {
		if code, out := command("", args...); code != exitUsage || !strings.Contains(out, want) {
			t.Errorf("%v: %d %s", args, code, out)
		}
	}
}

// What a register answers is a page, or an error that holds nothing of it.
func FuzzUnitPage(f *testing.F) {
	f.Add([]byte(`{"_embedded":{"oppdaterteEnheter":[{"oppdateringsid":7,"dato":"2026-11-20T05:06:07.123Z","organisasjonsnummer":"958935420","endringstype":"Sletting"}]}}`))
	f.Add([]byte(`{"page":{"totalElements":0}}`))
	f.Add([]byte(`{"_embedded":{"oppdaterteEnheter":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		page, err := readUnitPage(b)
		if err != nil && page != nil {
			t.Error("a page and an error")
		}
		for _, e := range page {
			if e.Seq < 1 {
				t.Error("an update without its number")
			}
			if got, err := unitEvent(context.Background(), poller.Entry{Seq: e.Seq, Raw: e.Raw}); err == nil && got != nil {
				if _, err := broker.ParseOrgNumber(got.Key); err != nil || got.Time.IsZero() && got.Type != string(unitRestored) {
					t.Errorf("%+v", got)
				}
			}
		}
	})
}

// A page without its list is empty only where it says so.
func TestUnitPage(t *testing.T) {
	for body, bad := range map[string]bool{
		`{"page":{"totalElements":0}}`: false, `{"page":{"totalElements":3}}`: true, `{}`: true, `[]`: true, ``: true, `{"_embedded":{}}`: true,
		`{"_embedded":{"oppdaterteEnheter":[{"oppdateringsid":0}]}}`: true, `{"_embedded":{"oppdaterteEnheter":[]}}`: false,
	} {
		if _, err := readUnitPage([]byte(body)); (err != nil) != bad {
			t.Errorf("%s: %v", body, err)
		}
	}
}
