package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"datafordeler/broker/access"
	"datafordeler/broker/flow/evidence"
	"datafordeler/broker/kafka"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

const configDoc = "../../docs/configuration.md"

// configSources is where the structs of the configuration are declared, by the
// import path of their package.
var configSources = map[string]string{
	"datafordeler/cmd/datafordeler":   "config.go",
	"datafordeler/broker/kafka":       "../../broker/kafka/config.go",
	"datafordeler/broker/intake":      "../../broker/intake/intake.go",
	"datafordeler/broker/flow":        "../../broker/flow/config.go",
	"datafordeler/broker/web":         "../../broker/web/config.go",
	"datafordeler/broker/access":      "../../broker/access/config.go",
	"datafordeler/broker/webhook":     "../../broker/webhook/config.go",
	"datafordeler/broker/flow/lookup": "../../broker/flow/lookup/provider.go",

	"datafordeler/broker/flow/evidence": "../../broker/flow/evidence/config.go",
}

// TestConfigurationDoc makes docs/configuration.md from the structs, so that a
// setting is explained in one place. It fails where the file is another.
func TestConfigurationDoc(t *testing.T) {
	got := writeConfigDoc(t)
	if *update {
		if err := os.WriteFile(configDoc, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(configDoc)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/configuration.md is not what the structs say: go generate ./cmd/datafordeler")
	}
}

// clusterConfig is the example for Apache Kafka.
func clusterConfig() Config {
	c := defaultConfig()
	c.Engine, c.Listen = kafka.EngineKafka, ""
	c.Brokers = []string{"kafka-1.example:9093", "kafka-2.example:9093", "kafka-3.example:9093"}
	c.Prefix, c.Replication, c.SourcePartitions, c.DeliveryBuckets = "deling.", 3, 24, 32
	c.Ledger.Origin, c.Ledger.Need = "deling.example.no/ledger", 1
	c.Ledger.Witnesses = []evidence.Witness{{Key: "witness.digdir.example+8b1fd3a4+BKq1…", URL: "https://witness.digdir.example"}}
	c.SASL = kafka.SASL{Mechanism: kafka.ScramSHA512, Username: "datafordeler", PasswordFile: "/etc/datafordeler/kafka.password"}
	c.TLS = kafka.TLS{CAFile: "/etc/datafordeler/kafka-ca.pem"}
	c.Keystore.Path = "/var/lib/datafordeler/keys"
	c.HTTP.Listen = "0.0.0.0:8080"
	c.Access.Issuers = []access.Issuer{
		{Kind: access.Maskinporten, URL: "https://maskinporten.no/", DelegationSources: []string{"https://altinn.no/"}},
		{Kind: access.IDPorten, URL: "https://idporten.no", Audiences: []string{"client-id-at-id-porten"}},
	}
	c.Log.Format = "json"
	return c
}

func writeConfigDoc(t *testing.T) []byte {
	var b bytes.Buffer
	b.WriteString(`# Configuration

One YAML file for every command: ` + "`datafordeler serve --config FILE`" + `. A key that is
left out has its default; a key that is unknown, or a value that cannot be, is an
error that names it. ` + "`datafordeler config --config FILE`" + ` checks a file and prints what
it comes to. Durations are written like 10s, 5m or 2160h (90 days).
The environment variable ` + "`DATAFORDELER_SLOT`" + ` overrides ` + "`flow.slot`" + `, so that all
instances can share one file.

This page is made from the program's own structs: ` + "`go generate ./cmd/datafordeler`" + `.

## Settings

`)
	docs := fieldDocs(t)
	document(t, &b, docs, reflect.ValueOf(defaultConfig()), "")
	embedded := defaultConfig()
	embedded.Data = "data"
	for _, example := range []struct {
		title, intro string
		c            Config
	}{
		{"Example: the embedded engine", "All settings at their defaults. One process, one data directory; for trying out,\ndevelopment and small use on one machine.", embedded},
		{"Example: Apache Kafka", "Three Kafka nodes with TLS and a SCRAM login. Each instance has a copy of the same\nkeystore, and a slot of its own from `DATAFORDELER_SLOT`.", clusterConfig()},
	} {
		if err := example.c.Validate(); err != nil {
			t.Errorf("%s: %v", example.title, err)
		}
		fmt.Fprintf(&b, "## %s\n\n%s\n\n```yaml\n", example.title, example.intro)
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(2)
		if err := enc.Encode(example.c); err != nil {
			t.Fatal(err)
		}
		b.WriteString("```\n\n")
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}

// describe writes one entry for each setting: first those that stand by
// themselves, then the groups, each under its heading.
func document(t *testing.T, b *bytes.Buffer, docs map[string]string, v reflect.Value, path string) {
	describeSome(t, b, docs, v, path, false)
	describeSome(t, b, docs, v, path, true)
}

func describeSome(t *testing.T, b *bytes.Buffer, docs map[string]string, v reflect.Value, path string, groups bool) {
	typ := v.Type()
	for i := range typ.NumField() {
		f := typ.Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		group := f.Type.Kind() == reflect.Struct
		switch {
		case key == "-":
		case options == "inline":
			describeSome(t, b, docs, v.Field(i), path, groups)
		case key == "":
			t.Errorf("%s.%s has no yaml tag", typ, f.Name)
		case group == groups:
			full := strings.TrimPrefix(path+"."+key, ".")
			doc := inWords(docs[typ.PkgPath()+"."+typ.Name()+"."+f.Name], typ, f.Name, key)
			if doc == "" {
				t.Errorf("%s.%s has no doc comment", typ, f.Name)
			}
			if group {
				fmt.Fprintf(b, "### `%s`\n\n%s\n\n", full, doc)
				document(t, b, docs, v.Field(i), full)
			} else {
				fmt.Fprintf(b, "- **`%s`** (%s%s)\n  %s\n\n", full, kindWord(f.Type), defaultWord(v.Field(i)), strings.ReplaceAll(doc, "\n", "\n  "))
				if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct {
					document(t, b, docs, reflect.New(f.Type.Elem()).Elem(), full+"[]")
				}
			}
		}
	}
}

func kindWord(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Bool:
		return "true or false"
	}
	return "number"
}

func defaultWord(v reflect.Value) string {
	if v.Kind() == reflect.Slice || v.IsZero() && v.Kind() != reflect.Int {
		return ""
	}
	return fmt.Sprintf(", default `%v`", v.Interface())
}

var seeGo = regexp.MustCompile(`;? see \[[^\]]+\]`)

// inWords turns a doc comment's Go names into the keys that the file has.
func inWords(doc string, typ reflect.Type, field, key string) string {
	doc = seeGo.ReplaceAllString(strings.TrimSpace(doc), "")
	for i := range typ.NumField() {
		f := typ.Field(i)
		k, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		humps := strings.IndexFunc(f.Name[1:], unicode.IsUpper) >= 0
		if k != "" && (humps || f.Name == "Enabled") {
			doc = regexp.MustCompile(`\b`+f.Name+`\b`).ReplaceAllString(doc, "`"+k+"`")
		}
	}
	doc = strings.NewReplacer("<", "\\<", ">", "\\>").Replace(doc)
	if rest, ok := strings.CutPrefix(doc, field+" "); ok {
		doc = "`" + key + "` " + rest
	}
	return doc
}

// fieldDocs reads the doc comments: "package.Struct.Field" to text. A field
// without one shares that of the field above.
func fieldDocs(t *testing.T) map[string]string {
	docs := map[string]string{}
	for pkg, file := range configSources {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			s, ok := spec.Type.(*ast.StructType)
			if !ok {
				return false
			}
			above := ""
			for _, f := range s.Fields.List {
				if text := f.Doc.Text(); text != "" {
					above = text
				}
				for _, name := range f.Names {
					docs[pkg+"."+spec.Name.Name+"."+name.Name] = above
				}
			}
			return false
		})
	}
	return docs
}
