package store

import (
	"errors"
	"path/filepath"
	"testing"
)

// One holds the claim, in this process and others; it is free again when given up.
func TestClaim(t *testing.T) {
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "folder", "read.db")
	first, err := TakeClaim(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TakeClaim(t.Context(), dsn); !errors.Is(err, ErrClaimed) {
		t.Errorf("taken twice: %v", err)
	}
	if other, err := TakeClaim(t.Context(), dsn+"2"); err != nil {
		t.Errorf("another read model's: %v", err)
	} else if err := errors.Join(other.Check(t.Context()), other.Release()); err != nil {
		t.Error(err)
	}
	if err := first.Release(); err != nil {
		t.Error(err)
	}
	again, err := TakeClaim(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
}
