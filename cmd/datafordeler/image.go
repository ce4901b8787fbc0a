package main

import (
	"path/filepath"

	"datafordeler/broker/kafka"
)

// imagePath is where the registry's image is; "" where there is none.
func (c Config) imagePath() string {
	if path := c.beside(c.Registry.Image, "registry.image"); path != "off" {
		return path
	}
	return ""
}

// keepImage writes images of the registry until stop is called.
func (n *node) keepImage() (stop func()) {
	path := n.cfg.imagePath()
	if path == "" {
		return func() {}
	}
	return n.control.KeepImage(path)
}

// beside is the path of a file of this instance's: the one that is set, or one beside the
// data directory that is meant.
func (c Config) beside(set, name string) string {
	switch {
	case set != "":
		return set
	case c.Engine == kafka.EngineKafka:
		return "datafordeler." + name
	}
	dir := filepath.Clean(c.Data)
	if base := filepath.Base(dir); base == "." || base == ".." {
		if full, err := filepath.Abs(dir); err == nil {
			dir = full
		}
	}
	return dir + "." + name
}
