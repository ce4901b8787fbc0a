package store

import "strings"

// schemaVersion is the format of the tables. A change of the tables, or of what
// is packed into block_index and key_page, makes another.
const schemaVersion = 2

// tables are all tables, in the order in which they are dropped.
var tables = []string{
	"key_page", "key_run", "block_index", "block", "record", "single", "batch",
	"answer", "outcome", "agreement", "source", "name", "position", "state",
}

// definition is the tables' text. {id}, {int}, {blob} and {options} are the
// engine's.
const definition = `
CREATE TABLE state (
	id {id}, version {int} NOT NULL, generation TEXT NOT NULL,
	records {int} NOT NULL, batches {int} NOT NULL, runs {int} NOT NULL,
	names {int} NOT NULL, sources {int} NOT NULL, agreements {int} NOT NULL, outcomes {int} NOT NULL, answers {int} NOT NULL
) {options};

CREATE TABLE position (log_partition {id}, next {int} NOT NULL) {options};

CREATE TABLE name (id {id}, text TEXT NOT NULL) {options};

CREATE TABLE source (id {id}, kind {int} NOT NULL, dataset TEXT NOT NULL, topic {blob} NOT NULL, partition {int} NOT NULL) {options};

CREATE TABLE agreement (id {id}, name TEXT NOT NULL, consumer TEXT NOT NULL, provider TEXT NOT NULL, supplier TEXT NOT NULL) {options};

CREATE TABLE outcome (
	id {id}, permit {int} NOT NULL, shielded {int} NOT NULL, package TEXT NOT NULL, version {int} NOT NULL,
	reasons TEXT NOT NULL, bases TEXT NOT NULL, fields TEXT NOT NULL
) {options};

CREATE TABLE answer (id {id}, subscription TEXT NOT NULL, agreement {int} NOT NULL, outcome {int} NOT NULL) {options};

CREATE TABLE batch (
	id {id}, log_partition {int} NOT NULL, log_offset {int} NOT NULL, source {int} NOT NULL,
	first {int} NOT NULL, last {int} NOT NULL, time {int} NOT NULL, revision {int} NOT NULL, policy {int} NOT NULL, period {int} NOT NULL,
	records {int} NOT NULL, out_of_scope {int} NOT NULL, repeated {int} NOT NULL, rejected {int} NOT NULL,
	first_record {int} NOT NULL, in_scope {int} NOT NULL, permits {int} NOT NULL, denials {int} NOT NULL
) {options};
CREATE UNIQUE INDEX batch_log ON batch (log_partition, log_offset);
CREATE INDEX batch_source ON batch (source, first);

CREATE TABLE single (batch {int} NOT NULL, source {int} NOT NULL, permits {int} NOT NULL, denials {int} NOT NULL, PRIMARY KEY (source, batch)) {options};

CREATE TABLE record (
	id {id}, batch {int} NOT NULL, source_offset {int} NOT NULL, kind {int} NOT NULL,
	event {blob} NOT NULL, subject {blob}, answers TEXT NOT NULL, ids {blob}, source {int}, request {blob}
) {options};

CREATE TABLE block (first {id}, size {int} NOT NULL, decisions {int} NOT NULL, min_time {int} NOT NULL, max_time {int} NOT NULL) {options};
CREATE INDEX block_min ON block (min_time, first, max_time);
CREATE INDEX block_max ON block (max_time, first, min_time);

CREATE TABLE block_index (first {id}, answers {blob} NOT NULL, batches {blob} NOT NULL, rows {blob} NOT NULL) {options};

CREATE TABLE key_run (id {id}, first {int} NOT NULL, size {int} NOT NULL, keys {int} NOT NULL, bits {int} NOT NULL) {options};

CREATE TABLE key_page (id {id}, keys {blob} NOT NULL) {options};

{view}
`

// The view is for people at a database prompt; nothing here reads it.
const view = `
CREATE VIEW decision AS
SELECT b.time AS time_ns, s.kind, s.dataset, s.topic, s.partition, r.source_offset, r.event, r.subject, r.request, r.kind AS record_kind,
	w.subscription, g.name AS agreement, g.consumer, g.provider, g.supplier,
	o.permit, o.shielded, o.package, o.version, o.reasons, o.bases, o.fields,
	p.text AS policy, b.revision, e.text AS period, b.log_partition, b.log_offset
FROM record r
JOIN batch b ON b.id = r.batch
JOIN source s ON s.id = coalesce(r.source, b.source)
JOIN name p ON p.id = b.policy
JOIN name e ON e.id = b.period
`

const (
	sqliteView = view + `, json_each('[' || r.answers || ']') j
JOIN answer w ON w.id = j.value` + viewEnd
	postgresView = view + `CROSS JOIN LATERAL unnest(string_to_array(r.answers, ',')) AS j(value)
JOIN answer w ON w.id = j.value::bigint` + viewEnd
	viewEnd = `
JOIN agreement g ON g.id = w.agreement
JOIN outcome o ON o.id = w.outcome;
`
)

// schema is the statements that make the tables.
func schema(id, number, blob, options, view string) []string {
	text := strings.NewReplacer("{id}", id, "{int}", number, "{blob}", blob, " {options}", " "+options, "{view}", view).Replace(definition)
	var statements []string
	for s := range strings.SplitSeq(text, ";") {
		if s = strings.TrimSpace(s); s != "" {
			statements = append(statements, s)
		}
	}
	return statements
}
