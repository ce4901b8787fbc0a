// Package kindergarten is an example of a municipal service: what parents pay for a
// kindergarten place follows from their household's income. It receives incomes over
// HTTP, keeps them in its own database, and decides by bands that the municipality
// sets. Households and bands are made up; so is the rule that all months count alike.
package kindergarten

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"datafordeler/broker"
	"datafordeler/consumers"
)

// Band is a fee for households whose income in a year is below a limit.
type Band struct {
	Below int64 // kroner a year; 0 is no limit
	Fee   int64 // kroner a month
}

// Bands are an example's, from the lowest.
var Bands = []Band{{250_000, 500}, {450_000, 1_200}, {0, 2_000}}

// FeeOf is what a household with such an income pays.
func FeeOf(bands []Band, income int64) (int64, error) {
	for _, b := range bands {
		if b.Below == 0 || income < b.Below {
			return b.Fee, nil
		}
	}
	return 0, fmt.Errorf("no band holds the income: the last must have no limit")
}

// Service keeps incomes, and decides fees by them.
type Service struct {
	db    *sql.DB
	store *consumers.SQL
}

// Open makes the service's table where it is missing. db is SQLite or PostgreSQL.
func Open(ctx context.Context, db *sql.DB, m broker.MailboxID) (*Service, error) {
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS income
		(delivery TEXT NOT NULL, person TEXT NOT NULL, month TEXT NOT NULL, amount BIGINT NOT NULL)`); err != nil {
		return nil, err
	}
	store, err := consumers.OpenSQL(ctx, db, m)
	return &Service{db, store}, err
}

// record is what the service reads of a delivery: no more than it is given.
type record struct {
	Reports []struct {
		Month     string `json:"kalendermaaned"`
		Recipient struct {
			Person string `json:"personidentifikator"`
		} `json:"inntektsmottaker"`
		Incomes []struct {
			Amount json.Number `json:"beloep"`
		} `json:"inntekt"`
	} `json:"oppgaveInntektsmottaker"`
}

// take does in one transaction what a delivery calls for.
func (s *Service) take(ctx context.Context, tx *sql.Tx, d consumers.Delivery) error {
	if d.Kind != broker.Original { // what it corrects or takes back no longer counts
		if _, err := tx.ExecContext(ctx, `DELETE FROM income WHERE delivery = $1`, d.Of.String()); err != nil || d.Kind == broker.Retraction {
			return err
		}
	}
	if d.Notice { // it was corrected, and the agreement gives no data of that: nothing is known until it is asked for
		return nil
	}
	var r record
	if err := json.Unmarshal(d.Data, &r); err != nil {
		return fmt.Errorf("delivery %s has another form than was agreed", d.ID) // its content stays out of logs
	}
	for _, report := range r.Reports {
		for _, income := range report.Incomes {
			amount, err := income.Amount.Int64()
			if err != nil {
				return fmt.Errorf("delivery %s: an amount is not whole kroner", d.ID)
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO income VALUES ($1, $2, $3, $4)`, d.ID.String(), report.Recipient.Person, report.Month, amount); err != nil {
				return err
			}
		}
	}
	return nil
}

// Receive takes what is in the mailbox. The configuration says how to reach it.
func (s *Service) Receive(ctx context.Context, config consumers.Config) error {
	config.Checkpoints = s.store
	r, err := consumers.New(config)
	if err != nil {
		return err
	}
	return r.Receive(ctx, s.store.Handler(s.take))
}

// Fee is what a household pays a month: what its members earned in the months that
// are known, taken for a whole year. known is false where nothing is.
func (s *Service) Fee(ctx context.Context, household []string) (fee int64, known bool, err error) {
	var income int64
	for _, person := range household {
		var sum, months sql.NullInt64
		err := s.db.QueryRowContext(ctx, `SELECT SUM(amount), COUNT(DISTINCT month) FROM income WHERE person = $1`, person).Scan(&sum, &months)
		if err != nil {
			return 0, false, err
		}
		if months.Int64 > 0 {
			known = true
			income += sum.Int64 * 12 / months.Int64
		}
	}
	if !known {
		return 0, false, nil
	}
	fee, err = FeeOf(Bands, income)
	return fee, true, err
}

// Run receives all there is, and writes one line a household: its number in the
// file, and its fee. open opens the service's database.
func Run(ctx context.Context, out io.Writer, open func() (*sql.DB, error), url, tokenFile, mailbox, households string) error {
	db, err := open()
	if err != nil {
		return err
	}
	defer db.Close()
	s, err := Open(ctx, db, broker.MailboxID(mailbox))
	if err != nil {
		return err
	}
	err = s.Receive(ctx, consumers.Config{
		URL: url, Mailbox: broker.MailboxID(mailbox), Attempts: 3, Patience: 30 * time.Second,
		Token: func(context.Context) (string, error) {
			b, err := os.ReadFile(tokenFile)
			return strings.TrimSpace(string(b)), err
		},
	})
	if err != nil {
		return err
	}
	f, err := os.Open(households)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		fee, known, err := s.Fee(ctx, strings.Fields(lines.Text()))
		switch {
		case err != nil:
			return err
		case known:
			fmt.Fprintf(out, "household %d: %d kroner a month\n", n, fee)
		default:
			fmt.Fprintf(out, "household %d: no income is known; ask the household\n", n)
		}
	}
	return lines.Err()
}
