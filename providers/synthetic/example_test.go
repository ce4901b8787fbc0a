package synthetic_test

import (
	"fmt"

	"datafordeler/providers/synthetic"
)

// A month of income in one buffer. What is kept past the next record is to be
// copied.
func Example() {
	g := synthetic.New(synthetic.Config{People: 3, Seed: 1, Month: "2026-10"})
	buf := make([]byte, 0, 4096)
	for i, person := range g.People() {
		event := g.Income(buf, i)
		fmt.Println(event.ID, event.Municipality, len(event.Data), string(event.Key) == person.ID)
	}
	// Output:
	// inc-2026-10-rstdmjmjhvkrhgbh 3418 582 true
	// inc-2026-10-vvckcttjrpcqthdt 3907 786 true
	// inc-2026-10-sshhhvgtfkdvtccm 4205 665 true
}

// What a provider gets wrong.
func ExampleGenerator_Invalid() {
	g := synthetic.New(synthetic.Config{People: 100, Seed: 1})
	for _, fault := range synthetic.Faults() {
		event := g.Invalid(fault, 0)
		fmt.Printf("%s: %d bytes\n", fault, len(event.Data))
	}
	// Output:
	// malformed JSON: 436 bytes
	// negative amount: 583 bytes
	// wrong type: 584 bytes
	// unknown member: 622 bytes
	// missing subject: 547 bytes
	// two subjects: 1339 bytes
	// unknown schema version: 582 bytes
	// nested too deeply: 2583 bytes
	// duplicate member: 618 bytes
	// giant record: 900422 bytes
}
