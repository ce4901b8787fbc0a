package synthetic

import (
	"fmt"
	"iter"
	"strconv"
	"time"
)

// Config says which population, and which month of it.
type Config struct {
	People int    // 0 to MaxPeople; 3,000,000 is about what the real month holds
	Seed   uint64 // the same seed gives the same people and the same records
	Month  string // the month that income is reported for, YYYY-MM; empty is 2026-10
	// GiantBytes is the least size of the payload that Invalid makes for Giant;
	// 0 is 900,000, which Kafka's default message limit still lets through.
	GiantBytes int
}

const (
	defaultMonth = "2026-10"
	defaultGiant = 900_000
)

// Validate tells what New would not accept.
func (c Config) Validate() error {
	if c.People < 0 || c.People > MaxPeople {
		return fmt.Errorf("synthetic: %d people: give 0 to %d, which is how many distinct identity numbers there are", c.People, MaxPeople)
	}
	if c.GiantBytes < 0 {
		return fmt.Errorf("synthetic: giant record of %d bytes: give a size above 0, or 0 for %d", c.GiantBytes, defaultGiant)
	}
	if c.Month != "" {
		// Parse alone would take 2026-1 too.
		if t, err := time.Parse("2006-01", c.Month); err != nil || t.Format("2006-01") != c.Month || t.Year() < 2026 || t.Year() > 2099 {
			return fmt.Errorf("synthetic: month %q: give a month from 2026-01 to 2099-12 as YYYY-MM", c.Month)
		}
	}
	return nil
}

// Generator makes the records of one population and month. It holds no state
// that changes: any number of goroutines may share it.
type Generator struct {
	people     int
	seed       uint64
	month      string
	start      time.Time // the month's first instant, UTC
	next       time.Time // the next month's
	stride     uint64    // person i has identity slot (offset + i·stride) mod MaxPeople
	offset     uint64
	shielded   int // this person is protected whatever the dice say
	giantBytes int
	taxYear    string // the year whose property valuation is in force
	incomeID   string // what the ids of income events begin with
	propertyID string
}

// New returns the generator of a population. It panics if c.Validate refuses c:
// what a user typed is to be validated first.
func New(c Config) *Generator {
	if err := c.Validate(); err != nil {
		panic(err)
	}
	if c.Month == "" {
		c.Month = defaultMonth
	}
	if c.GiantBytes == 0 {
		c.GiantBytes = defaultGiant
	}
	start, _ := time.Parse("2006-01", c.Month)
	r := stream(c.Seed, streamPerson, -1)
	n := uint64(MaxPeople)
	// A stride near n divided by the golden ratio spreads even a small
	// population evenly over birth dates; without a common factor with n it
	// visits every slot once.
	stride := n*618/1000 + uint64(r.below(1000))
	for gcd(stride, n) != 1 {
		stride++
	}
	taxYear := strconv.Itoa(start.Year() - 1)
	return &Generator{
		people: c.People, seed: c.Seed, month: c.Month, start: start, next: start.AddDate(0, 1, 0),
		stride: stride, offset: uint64(r.below(MaxPeople)),
		shielded: r.below(100), giantBytes: c.GiantBytes,
		taxYear: taxYear, incomeID: "inc-" + c.Month + "-", propertyID: "prop-" + taxYear + "-",
	}
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Person is one synthetic inhabitant.
type Person struct {
	ID           string // national identity number or D-number, month + 80
	Municipality string // where they live; four digits
	Protected    bool   // their address is graded: about 2 in 1,000, and one of the first hundred
	OwnsProperty bool   // about 40 in 100; then Property has a record of theirs
	BirthYear    int
	Foreign      bool // works here without living here for good: has a D-number
}

// person is a Person before anything is allocated for it.
type person struct {
	id        identity
	home      int // index in country.all
	birthYear int
	protected bool
	owner     bool
	foreign   bool
}

func (g *Generator) person(i int) (p person) {
	if i < 0 || i >= MaxPeople {
		panic(fmt.Sprintf("synthetic: person %d: the population goes from 0 to %d", i, MaxPeople-1))
	}
	r := stream(g.seed, streamPerson, i)
	p.home = country.draw(&r)
	p.protected = r.below(1000) < 2
	p.owner = r.chance(40)
	p.foreign = r.chance(4)
	if i == g.shielded {
		// A population of a hundred is to show both kinds of shielding.
		p.protected, p.owner = true, true
	}
	slot := (g.offset + uint64(i)*g.stride) % uint64(MaxPeople)
	id, born := identityAt(int(slot), p.foreign)
	p.id, p.birthYear = id, born.Year()
	return p
}

// Person returns person i, in [0, MaxPeople): not only those that People counts,
// so that a stream may go on when the month is through.
func (g *Generator) Person(i int) Person {
	p := g.person(i)
	return Person{
		ID: string(p.id[:]), Municipality: country.all[p.home].Number,
		Protected: p.protected, OwnsProperty: p.owner,
		BirthYear: p.birthYear, Foreign: p.foreign,
	}
}

// People yields the population in order.
func (g *Generator) People() iter.Seq2[int, Person] {
	return func(yield func(int, Person) bool) {
		for i := range g.people {
			if !yield(i, g.Person(i)) {
				return
			}
		}
	}
}

// Month returns the month that income is reported for, as YYYY-MM.
func (g *Generator) Month() string { return g.month }

// The two datasets as their records name them. None of these is called; they are
// names.
const (
	IncomeSource = "https://skatteetaten.no/aordningen"
	IncomeType   = "no.skatteetaten.aordningen.inntekt.v1"
	IncomeSchema = "https://skatteetaten.no/aordningen/inntekt/1"

	PropertySource = "https://skatteetaten.no/eiendomsskatt"
	PropertyType   = "no.skatteetaten.formuesgrunnlag.eiendomsskatt.v1"
	PropertySchema = "https://skatteetaten.no/eiendomsskatt/formuesgrunnlag/1"
)

// Event is a CloudEvent 1.0 with a JSON payload. It has no subject attribute:
// attributes end up in logs, and the subject is a person. The subject is in Key
// and in Data.
type Event struct {
	ID         string // deterministic, and with no run of digits that could pass for a person
	Source     string
	Type       string
	DataSchema string // $id of the JSON Schema that Data is written to
	Time       time.Time

	// Extension attributes, each by its name in lower case.
	Municipality string // whom the record concerns lives here; for property, it lies here
	Protected    bool   // the person's address is graded
	Supersedes   string // ID of the event that this one corrects
	Retracts     string // ID of the event that this one takes back
	Provisional  bool   // the payer has said that a final report will follow

	Key  []byte // the subject's identity number, to partition by; empty if the record names none
	Data []byte
}

// Extensions yields, in a fixed order and in CloudEvents' string form, the
// extension attributes that are the datasets' own: municipality and protected.
// Supersedes, Retracts and Provisional are the broker's vocabulary, for which
// publishers have fields of their own.
func (e *Event) Extensions() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if yield("municipality", e.Municipality) {
			yield("protected", strconv.FormatBool(e.Protected))
		}
	}
}

// AppendStructured appends the event in CloudEvents' JSON format, on one line. It
// copies Data as it stands: data that is not JSON gives a line that is not JSON.
func (e *Event) AppendStructured(dst []byte) []byte {
	dst = append(dst, `{"specversion":"1.0","id":"`...)
	dst = append(dst, e.ID...)
	dst = append(dst, `","source":"`...)
	dst = append(dst, e.Source...)
	dst = append(dst, `","type":"`...)
	dst = append(dst, e.Type...)
	dst = append(dst, `","time":"`...)
	dst = e.Time.AppendFormat(dst, time.RFC3339)
	dst = append(dst, `","datacontenttype":"application/json","dataschema":"`...)
	dst = append(dst, e.DataSchema...)
	dst = append(dst, '"')
	dst = append(dst, `,"municipality":"`...)
	dst = append(dst, e.Municipality...)
	dst = append(dst, `","protected":`...)
	dst = strconv.AppendBool(dst, e.Protected)
	if e.Provisional {
		dst = append(dst, `,"provisional":true`...)
	}
	if e.Supersedes != "" {
		dst = append(append(append(dst, `,"supersedes":"`...), e.Supersedes...), '"')
	}
	if e.Retracts != "" {
		dst = append(append(append(dst, `,"retracts":"`...), e.Retracts...), '"')
	}
	dst = append(dst, `,"data":`...)
	dst = append(dst, e.Data...)
	return append(dst, '}')
}

// letters spell the hexadecimal digits of an event's id: a run of digits could by
// accident be a valid identity number, and those who search a log for such would
// find one in a million.
const letters = "bcdfghjkmnpqrstv"

// eventID is prefix, hash, suffix. The hash is of seed and index: unique within a
// population, and other than in another population.
func (g *Generator) eventID(prefix string, stream uint64, i int, suffix string) string {
	var buf [48]byte
	b := append(buf[:0], prefix...)
	for h, n := key(g.seed, stream, i), 0; n < 16; n++ {
		b = append(b, letters[h>>60])
		h <<= 4
	}
	return string(append(b, suffix...))
}

func appendInt(b []byte, n int) []byte { return strconv.AppendInt(b, int64(n), 10) }
