package kindergarten

import (
	"database/sql"
	"fmt"
	"testing"

	_ "modernc.org/sqlite"

	"datafordeler/broker"
	"datafordeler/consumers"
)

// Incomes come, are corrected and taken back; a repeat counts once.
func TestFeeFollowsIncomes(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	s, err := Open(t.Context(), db, "kommunen")
	if err != nil {
		t.Fatal(err)
	}
	handler := s.store.Handler(s.take)
	deliver := func(id byte, kind broker.RecordKind, of byte, person, month string, amount int) {
		t.Helper()
		d := consumers.Delivery{ID: broker.Digest{id}, Kind: kind, Data: fmt.Appendf(nil,
			`{"oppgaveInntektsmottaker":[{"kalendermaaned":%q,"inntektsmottaker":{"personidentifikator":%q},"inntekt":[{"beloep":%d}]}]}`, month, person, amount)}
		if of != 0 {
			d.Of = broker.Digest{of}
		}
		if err := handler(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want string, household ...string) {
		t.Helper()
		fee, known, err := s.Fee(t.Context(), household)
		if got := fmt.Sprint(fee, known); err != nil || got != want {
			t.Errorf("%s %v, want %s", got, err, want)
		}
	}
	expect("0 false", "a", "b")
	deliver(1, broker.Original, 0, "a", "2026-01", 20_000)
	deliver(1, broker.Original, 0, "a", "2026-01", 20_000) // a repeat
	expect("500 true", "a", "b")
	deliver(2, broker.Original, 0, "b", "2026-01", 10_000)
	expect("1200 true", "a", "b")
	deliver(3, broker.Correction, 2, "b", "2026-01", 30_000)
	expect("2000 true", "a", "b")
	deliver(4, broker.Retraction, 3, "b", "2026-01", 30_000)
	expect("500 true", "a", "b")
	notice := consumers.Delivery{ID: broker.Digest{5}, Kind: broker.Correction, Of: broker.Digest{1}, Notice: true, Data: []byte("null")}
	if err := handler(t.Context(), notice); err != nil {
		t.Fatal(err)
	}
	expect("0 false", "a", "b")
	if err := handler(t.Context(), consumers.Delivery{ID: broker.Digest{9}, Data: []byte(`{"oppgaveInntektsmottaker":7}`)}); err == nil {
		t.Error("another form was taken")
	}
}
