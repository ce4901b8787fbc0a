// Package derive works answers out of a record, by the derivations of a rights
// package: the household's income is in the middle band; there were two employers
// in March; the limit was not met. It is pure: the same record and rules give the
// same bytes, now and when a decision is computed again in ten years.
//
// It is no stage of its own. The registry holds rules to their tests with it before
// it takes them, and minimise lets the answers leave; so it stands below both, on
// broker and broker/jsondoc alone.
//
// # The language, version 1
//
// What is written here never changes. Another meaning is another V.
//
// Rows. The pointer is followed from the record's root by member names, and goes on
// in every element of an array, on the way and at its end; what it ends at is a row.
// A member that is missing, or null, leads to no rows. Null as an element of an
// array, or a text, number or truth value where the pointer wants a member, is of a
// wrong type. More than 10,000 rows are too many.
//
// Within a row, a pointer leads through objects to one value. A missing member, and
// null, are absent; anything else on the way than an object is of a wrong type.
//
// Conditions are asked of each row in their order, until one does not hold. In and
// notIn take a text, or a truth value as "true" and "false"; atLeast and below take
// a number; from and before take a year, month or date, at least as exact as they
// are themselves, and compare as much of it as they name. Another kind of value is
// of a wrong type. Absent says what a row without the field does.
//
// Numbers are JSON numbers, or texts that are a decimal without an exponent. They
// have at most 18 digits before the point and 9 behind it, after any exponent and
// without needless zeros; others are of a wrong type. All arithmetic is exact, and
// nothing is rounded.
//
// Op count counts rows. Sum, min and max take each row's number. Distinct counts
// different values: texts as text, numbers as numbers, truth values. Latest takes
// the value of the row whose By is the latest; all rows' By must be equally exact,
// and two rows of the latest date must have the same value.
//
// The answer is JSON, in one spelling. A count is a whole number. Another number is
// a text with its digits, without needless zeros, since most readers of JSON numbers
// round: "1250.5". A limit (below, atMost, atLeast, above) is true or false, bands
// a text. Op latest may give a text or a truth value, where no limit is asked.
//
// Fails closed. Where something is of a wrong type, absent without leave, too much,
// or not there at all, there is an [Error] and no answer, and then nothing of the
// record is delivered.
package derive
