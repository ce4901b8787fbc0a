package providers

import (
	"context"
	"testing"
)

// The example of RFC 7677, section 3.
func TestSCRAMExample(t *testing.T) {
	m := scramMechanism{SASL{Mechanism: "scram-sha-256", Username: "user", Password: func() (string, error) { return "pencil", nil }}}
	s, first, err := m.start("rOprNGfwEbeRWgbNEkqO")
	if err != nil || string(first) != "n,,n=user,r=rOprNGfwEbeRWgbNEkqO" {
		t.Fatal(string(first), err)
	}
	ctx := context.Background()
	_, last, err := s.Next(ctx, []byte("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"))
	if want := "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="; err != nil || string(last) != want {
		t.Fatal(string(last), err)
	}
	if done, _, err := s.Next(ctx, []byte("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")); !done || err != nil {
		t.Fatal(done, err)
	}
	s, _, _ = m.start("rOprNGfwEbeRWgbNEkqO")
	s.Next(ctx, []byte("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"))
	if done, _, err := s.Next(ctx, []byte("v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")); done || err == nil {
		t.Error("a server that does not know the password was believed")
	}
	for _, bad := range []string{"", "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=999999999", "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "e=no"} {
		s, _, _ := m.start("rOprNGfwEbeRWgbNEkqO")
		if _, _, err := s.Next(ctx, []byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
