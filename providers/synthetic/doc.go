// Package synthetic makes public-sector records that look like the real thing
// and concern nobody: a population spread over Norway's 357 municipalities, its
// monthly income records as a-ordningen reports them, and the valuation of its
// property for municipal property tax. The demo, the benchmarks and the tests
// publish from it.
//
// Everything is a pure function of (seed, index) — and, for income, of the
// month — so a population of millions costs no memory, may be read from any
// index by any number of goroutines, and is the same on every machine: only
// integer arithmetic is used.
//
// No identity number can belong to a person. Each has 80 added to the month
// before the check digits are computed, the scheme of the tax administration's
// test population, which the National Population Register never issues. Employers
// have organisation numbers that begin with 3, vehicle plates a letter that
// Norwegian plates do not use. What is real is what is public: the names,
// organisation numbers and inhabitants of municipalities.
package synthetic
