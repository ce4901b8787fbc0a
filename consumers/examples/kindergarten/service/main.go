// Command service runs the example once: it receives, and prints what each household
// of a file pays.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"

	_ "modernc.org/sqlite"

	"datafordeler/consumers/examples/kindergarten"
)

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: service URL TOKENFILE MAILBOX DATABASE HOUSEHOLDS")
		os.Exit(2)
	}
	open := func() (*sql.DB, error) { return sql.Open("sqlite", os.Args[4]) }
	if err := kindergarten.Run(context.Background(), os.Stdout, open, os.Args[1], os.Args[2], os.Args[3], os.Args[5]); err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}
