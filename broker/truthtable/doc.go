// Package truthtable reads truth tables: CSV in which a lawyer says what must come
// out of which situation. A row is a situation; what it leaves empty is as the
// agreement has it. The package knows no policy: package truthtable/check asks it.
//
//	situation,at,case,consent,expect,reason
//	"open case",2026-10-15,open,,permit,
//	"closed case",2026-10-15,closed,,deny,no_open_case
//
// Headers and answers are codes, or their Norwegian words (situasjon, tidspunkt,
// sak: åpen). A column attribute:<name> sets an attribute of the record, as the
// dataset names it.
package truthtable
