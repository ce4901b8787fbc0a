// A-ordningen publishes income records the way a payroll register would: each change
// and its event are written in one transaction of the register's own database, and a
// forwarder publishes from there, over HTTP, with tokens from Maskinporten.
//
//	a-ordningen -broker https://datafordeler.example -issuer https://maskinporten.no/ \
//	    -client … -kid … -key client.pem -db register.db < reports.ndjson
//
// Each line of the input is a report, {"norskident", "maaned", "beloep"}. A second
// report for the same person and month corrects the first; an amount of null takes it
// back. The program ends when all of it is with the broker.
package main

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"time"

	_ "modernc.org/sqlite"

	"datafordeler/providers"
	"datafordeler/providers/outbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "a-ordningen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out, logs io.Writer) error {
	fs := flag.NewFlagSet("a-ordningen", flag.ContinueOnError)
	broker := fs.String("broker", "http://127.0.0.1:8080", "the broker's HTTP API")
	issuer := fs.String("issuer", "http://127.0.0.1:8765/maskinporten/", "Maskinporten")
	client := fs.String("client", "974761076-payroll", "the client's id")
	kid := fs.String("kid", "", "the name under which its key is registered")
	keyFile := fs.String("key", "", "its RSA key, PEM (PKCS #8)")
	database := fs.String("db", "register.db", "the register, SQLite")
	if err := fs.Parse(args); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(logs, nil))
	key, err := readKey(*keyFile)
	if err != nil {
		return err
	}
	maskinporten := &providers.Maskinporten{
		Issuer: *issuer, ClientID: *client, KeyID: *kid, Key: key, Scopes: []string{"datafordeler:publish"},
	}
	publisher, err := providers.New(providers.Config{
		URL: *broker, Token: maskinporten.Token, Dataset: "inntekt",
		Source: "urn:example:a-ordningen", Type: "no.example.inntekt.v1", Subject: "/norskident", Log: log,
	})
	if err != nil {
		return err
	}
	defer publisher.Close()
	r, err := openRegister(ctx, *database, publisher)
	if err != nil {
		return err
	}
	defer r.db.Close()

	// In a program that goes on, Forwarder.Run stands here, in a goroutine of its own.
	reports := json.NewDecoder(in)
	for n := 1; ; n++ {
		var report report
		if err := reports.Decode(&report); err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("report %d is not right", n) // what it says belongs in no log
		}
		if err := r.take(ctx, report); err != nil {
			return fmt.Errorf("report %d: %w", n, err)
		}
	}
	if err := r.forward(ctx, log); err != nil {
		return err
	}
	aside, err := r.box.Aside(ctx, r.db, 100)
	if err != nil {
		return err
	}
	st := publisher.Stats()
	fmt.Fprintf(out, "%d events published, %d set aside\n", st.Published, len(aside))
	for _, a := range aside {
		fmt.Fprintf(out, "set aside: %s\n", a.Reason)
	}
	return nil
}

// readKey reads the client's key.
func readKey(file string) (*rsa.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("-key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("-key: the file is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("-key: %w", err)
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("-key: not an RSA key")
	}
	return rsaKey, nil
}

// report is what an employer sends in.
type report struct {
	Norskident string   `json:"norskident"`
	Maaned     string   `json:"maaned"`
	Beloep     *float64 `json:"beloep"` // null takes the report back
}

// register is the register's own database, and the outbox in it.
type register struct {
	db        *sql.DB
	box       *outbox.Box
	publisher *providers.Publisher
}

func openRegister(ctx context.Context, file string, p *providers.Publisher) (*register, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	box, err := outbox.New(outbox.SQLite, p, "")
	if err != nil {
		return nil, err
	}
	// What stands for a person and month, and the id of the event that said so.
	_, err = db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS income
		(norskident TEXT, maaned TEXT, beloep REAL, event TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (norskident, maaned))`)
	if err := errors.Join(err, box.Create(ctx, db)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &register{db, box, p}, nil
}

// take writes a report and its event in one transaction: both, or neither.
func (r *register) take(ctx context.Context, in report) (err error) {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	var earlier string
	var before sql.NullFloat64
	var version int
	err = tx.QueryRowContext(ctx, "SELECT event, beloep, version FROM income WHERE norskident = ?1 AND maaned = ?2", in.Norskident, in.Maaned).Scan(&earlier, &before, &version)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	payload := map[string]any{"norskident": in.Norskident, "maaned": in.Maaned, "beloep": in.Beloep}
	e := providers.Event{Time: time.Now()}
	switch {
	case in.Beloep == nil && !before.Valid:
		return errors.New("there is no report to take back")
	case in.Beloep == nil:
		payload["beloep"] = before.Float64 // a retraction carries what it takes back
		e.Retracts = earlier
	case before.Valid:
		e.Supersedes = earlier
	}
	if e.Data, err = json.Marshal(payload); err != nil {
		return err
	}
	if e.ID, err = r.publisher.ID(e); err != nil {
		return err
	}
	if err := r.box.Add(ctx, tx, e); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO income (norskident, maaned, beloep, event, version) VALUES (?1, ?2, ?3, ?4, ?5)",
		in.Norskident, in.Maaned, in.Beloep, e.ID, version+1); err != nil {
		return err
	}
	return tx.Commit()
}

// forward publishes until nothing is left in the outbox.
func (r *register) forward(ctx context.Context, log *slog.Logger) error {
	ctx, done := context.WithCancel(ctx)
	defer done()
	ended := make(chan error, 1)
	go func() { ended <- r.box.Forwarder(r.db, outbox.Options{Poll: 50 * time.Millisecond, Log: log}).Run(ctx) }()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case err := <-ended:
			tick.Stop()
			return errors.Join(err, errors.New("interrupted; what is left goes out the next time"))
		case <-tick.C:
		}
		if n, _, err := r.box.Waiting(ctx, r.db); err != nil || n == 0 {
			tick.Stop()
			done()
			return errors.Join(err, <-ended)
		}
	}
}
