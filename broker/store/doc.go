// Package store is the read model: every decision of the log in tables, so that
// who, what, when and why can be asked. It keeps nothing of its own. Whatever is
// in it was computed from the topic of decisions, and can be thrown away and
// computed again to the same content (Digest says whether it is the same).
//
// It runs on SQLite or on PostgreSQL, with the same tables and the same answers.
//
// One Apply is one database transaction: the rows, what finds them, and how far
// the log was read. So whatever is killed when, no decision is lost or stands
// twice.
//
// How it is laid out:
//
//   - batch: one row for each record of the decisions topic, with its counts, also
//     when nothing was decided in it. Coverage reads these alone.
//   - single: what a batch of single decisions (backfill, lookup, door) has of each
//     source, for these lie scattered. Every one is kept, also where a delivery was
//     withheld again under the id that it had before.
//   - record: one row for each source record that was in some scope, numbered as
//     they came; its decisions are a list of numbers of answers.
//   - answer, outcome, agreement, source, name: dictionaries, held in memory too.
//     A filter on anything but a record, a subject or an id is first turned into
//     the set of answers that it allows.
//   - block, block_index: for at most 16,384 records in a row, which answers occur
//     and which record has which. A search goes from block to block in the order
//     of time, and opens only those where an answer of its set occurs.
//   - key_run, key_page: where an event, a subject, a decision or a delivery is
//     found. Keys are hashes, so they fall anywhere; they are written in sorted
//     runs that are merged sixteen at a time, never inserted one by one.
//
// If you look for
//   - what one transaction writes: apply.go;
//   - how a search walks: search.go, and block.go for what it reads;
//   - how ids and subjects are found: keys.go;
//   - what the tables are: schema.go;
//   - what is different between the databases: sqlite.go, postgres.go.
//
// Rows hold pseudonyms and keyed hashes only, never an identity number.
package store
