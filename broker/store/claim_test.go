package store

import (
	"errors"
	"path/filepath"
	"testing"

	"datafordeler/broker/store/pgtest"
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

// The tables are where the first schema on the path says, also where it is yet to
// be made and the others are there.
func TestFirstSchema(t *testing.T) {
	for path, want := range map[string]string{"a": "a", " A , public": "a", `"A b",public`: "A b", `"a""b"`: `a"b`} {
		if got := firstSchema(path); got != want {
			t.Errorf("of %s: %s, want %s", path, got, want)
		}
	}
	dsn := pgtest.Shared(t).DSN()
	s := open1(t, dsn+",public")
	apply1(t, s, newGen(1).batches(3)...)
	if next, err := open1(t, dsn).Position(t.Context()); err != nil || len(next) == 0 {
		t.Errorf("by the first alone: %v (%v)", next, err)
	}
}
