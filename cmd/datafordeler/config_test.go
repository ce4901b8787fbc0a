package main

import (
	"os"
	"path/filepath"
	"testing"

	"datafordeler/broker/kafka"
)

// TestKeystorePath: what the configuration leaves out is beside the data, never in it.
func TestKeystorePath(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ engine, data, path, want string }{
		{data: "data", want: "data.keys"},
		{data: "data/", want: "data.keys"},
		{data: "/var/lib/data//", want: "/var/lib/data.keys"},
		{data: ".", want: here + ".keys"},
		{data: "./", want: here + ".keys"},
		{data: "..", want: filepath.Dir(here) + ".keys"},
		{data: "data", path: "elsewhere", want: "elsewhere"},
		{engine: "kafka", data: "data", want: "datafordeler.keys"},
		{engine: "kafka", path: "elsewhere", want: "elsewhere"},
	} {
		cfg := dataConfig(c.data)
		if c.engine == "kafka" {
			cfg.Engine = kafka.EngineKafka
		}
		cfg.Keystore.Path = c.path
		if got := cfg.keystorePath(); got != c.want {
			t.Errorf("%s, data %q, path %q: %s, want %s", cfg.Engine, c.data, c.path, got, c.want)
		}
		if got := cfg.keystorePath(); c.path == "" && c.engine == "" && within(c.data, got) {
			t.Errorf("%s lies inside %q", got, c.data)
		}
	}
}
