package providers_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"datafordeler/providers"
)

func TestReadNDJSON(t *testing.T) {
	in := "\xef\xbb\xbf" + `{"beloep":1}
{"specversion":"1.0","id":"e-1","source":"urn:x","type":"t","time":"2026-11-05T12:00:00+01:00","subject":"17","dataschema":"urn:s","datacontenttype":"application/json","provisional":true,"kommune":"0301","nr":7,"data":{"a": 1}}

{"wrapped":{"specversion":"1.0"}}
  "just text"  
{"specversion":"1.0","id":"e-2","type":"t","partitionkey":"p","subject":"s","retracts":"e-1","data_base64":"eyJhIjoxfQ=="}`
	var got []providers.Event
	for e, err := range providers.ReadNDJSON(strings.NewReader(in)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if len(got) != 5 {
		t.Fatalf("%d events", len(got))
	}
	if string(got[0].Data) != `{"beloep":1}` || got[0].ID != "" {
		t.Errorf("%+v", got[0])
	}
	if e := got[1]; e.ID != "e-1" || e.Source != "urn:x" || e.Type != "t" || e.Time.UTC().Hour() != 11 || e.Key != "17" || e.DataSchema != "urn:s" ||
		!e.Provisional || e.Extensions["kommune"] != "0301" || e.Extensions["nr"] != "7" || len(e.Extensions) != 2 || string(e.Data) != `{"a": 1}` {
		t.Errorf("%+v", e)
	}
	if string(got[2].Data) != `{"wrapped":{"specversion":"1.0"}}` || string(got[3].Data) != `"just text"` {
		t.Errorf("%q %q", got[2].Data, got[3].Data)
	}
	if e := got[4]; e.Key != "p" || e.Retracts != "e-1" || string(e.Data) != `{"a":1}` {
		t.Errorf("%+v", e)
	}
}

func TestReadNDJSONNamesLinesNotContent(t *testing.T) {
	const person = "01890012345"
	ce := `{"specversion":"1.0","id":"1","type":"t",`
	lines := []string{
		`{"a":` + person, ce + `"data":1,"data":` + person + `}`, ce + `"time":"` + person + `","data":1}`, ce + `"` + person + `":1,"data":1}`,
		ce + `"x":{"` + person + `":1},"data":1}`, ce + `"x":` + person + `0,"data":1}`, ce + `"x":1.5,"data":1}`, `{"specversion":"0.3","data":1}`,
		ce + `"datacontenttype":"text/xml","data":"` + person + `"}`, ce + `"data_base64":"` + person + `!"}`, ce + `"provisional":"` + person + `","data":1}`,
		ce + `"data":null}`, ce + `"x":1}`, ce + `"data":1} ` + person, ce + `"data":1,"data_base64":"MQ=="}`,
		`"` + strings.Repeat(person, providers.MaxLine/len(person)+1) + `"`,
	}
	n := 0
	for _, err := range providers.ReadNDJSON(strings.NewReader(strings.Join(lines, "\n") + "\n{}\n")) {
		n++
		if n > len(lines) {
			if err != nil {
				t.Errorf("the good line: %v", err)
			}
			continue
		}
		var le *providers.LineError
		if !errors.As(err, &le) || le.Line != n || strings.Contains(err.Error(), person) {
			t.Errorf("line %d: %v", n, err)
		}
	}
	if n != len(lines)+1 {
		t.Errorf("%d lines, want %d", n, len(lines)+1)
	}
}

func TestReadNDJSONReaderFails(t *testing.T) {
	var errs []error
	for _, err := range providers.ReadNDJSON(io.MultiReader(strings.NewReader("{}\n{}\n"), iotest.ErrReader(io.ErrUnexpectedEOF))) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) != 1 || !errors.Is(errs[0], io.ErrUnexpectedEOF) || !strings.Contains(errs[0].Error(), "line 3") {
		t.Errorf("%v", errs)
	}
	for range providers.ReadNDJSON(strings.NewReader("{}\n{}\n")) {
		break // stopping early is allowed
	}
}

func FuzzReadNDJSON(f *testing.F) {
	for _, s := range []string{`{"a":1}`, "\n\n1\n", `{"specversion":"1.0","id":"x","data":{}}`, `{"specversion":"1.0","data_base64":"MQ=="}`, "{\"specversion\":\"1.0\",\n", "\xef\xbb\xbf[]\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		lines, n := strings.Count(string(in), "\n")+1, 0
		for e, err := range providers.ReadNDJSON(strings.NewReader(string(in))) {
			n++
			var le *providers.LineError
			switch {
			case err == nil && !json.Valid(e.Data) && e.ID == "" && e.Type == "" && e.Source == "":
				t.Errorf("a bare payload that is not JSON: %q", e.Data)
			case err != nil && (!errors.As(err, &le) || le.Line < 1 || le.Line > lines):
				t.Errorf("error %v", err)
			}
		}
		if n > lines {
			t.Errorf("%d events from %d lines", n, lines)
		}
	})
}
