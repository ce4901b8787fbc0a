package synthetic

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A change of this hash changes every demo, benchmark and recorded figure. It is
// to be meant.
const golden = "d860df902740ab447ec3b300f2d839236ff215d9c7ab4a2bb1a961329c845232"

func digest(g *Generator) string {
	h := sha256.New()
	add := func(e Event) {
		fmt.Fprintf(h, "%s\n%s\n", e.Key, e.AppendStructured(nil))
	}
	for i, p := range g.People() {
		fmt.Fprintf(h, "%d %+v\n", i, p)
		add(g.Income(nil, i))
		if p.OwnsProperty {
			add(g.Property(nil, i))
		}
	}
	for _, f := range Faults() {
		add(g.Invalid(f, 7))
	}
	add(g.SameIDOtherContent(7))
	add(g.Correction(7))
	add(g.Retraction(7))
	return hex.EncodeToString(h.Sum(nil))
}

func TestGolden(t *testing.T) {
	got := digest(New(Config{People: 1000, Seed: 1, Month: "2026-10"}))
	if got != golden {
		t.Errorf("the records of 1,000 people, seed 1, hash to\n%s; recorded is\n%s", got, golden)
	}
	if other := digest(New(Config{People: 1000, Seed: 2, Month: "2026-10"})); other == got {
		t.Error("seeds 1 and 2 give the same records")
	}
}

// Any index first, any goroutine, any buffer: the record is the same.
func TestRecordDependsOnIndexOnly(t *testing.T) {
	g := New(Config{People: 2000, Seed: 42})
	want := make([][]byte, 2000)
	for i := range want {
		e := g.Income(nil, i)
		want[i] = e.AppendStructured(nil)
	}
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			buf := make([]byte, 0, 4096)
			for n := range 2000 {
				i := (n*7 + worker*501) % 2000
				e := g.Income(append(buf[:0], "kept"...), i)
				if got := e.AppendStructured(nil); !bytes.Equal(got, want[i]) {
					t.Errorf("person %d: %s; alone it was %s", i, got, want[i])
					return
				}
				if string(e.Key) != g.Person(i).ID {
					t.Errorf("person %d: the key is not the person's number", i)
					return
				}
			}
		})
	}
	wg.Wait()
}

// What stays with a person stays over the months; the record does not.
func TestMonths(t *testing.T) {
	october, november := New(Config{Seed: 3, Month: "2026-10"}), New(Config{Seed: 3, Month: "2026-11"})
	differ := 0
	for i := range 200 {
		if october.Person(i) != november.Person(i) {
			t.Fatalf("person %d is another in November", i)
		}
		a, b := october.Income(nil, i), november.Income(nil, i)
		if a.ID == b.ID {
			t.Fatalf("person %d: October and November have event id %s", i, a.ID)
		}
		if !bytes.Contains(b.Data, []byte(`"kalendermaaned":"2026-11"`)) || b.Time.Before(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)) {
			t.Fatalf("person %d: not November's record: %s", i, b.Data)
		}
		if !bytes.Equal(bytes.ReplaceAll(a.Data, []byte("2026-10"), []byte("2026-11")), b.Data) {
			differ++
		}
	}
	if differ < 50 {
		t.Errorf("only %d of 200 incomes vary from month to month", differ)
	}
}

func TestPopulation(t *testing.T) {
	const people = 200_000
	g := New(Config{People: people, Seed: 9})
	seen := make(map[string]int, people)
	at := map[string]int{}
	var protected, owners, foreign int
	for i, p := range g.People() {
		if !IsSynthetic(p.ID) {
			t.Fatalf("person %d: %s is not a synthetic identity number", i, p.ID)
		}
		if j, ok := seen[p.ID]; ok {
			t.Fatalf("persons %d and %d share %s", i, j, p.ID)
		}
		seen[p.ID] = i
		at[p.Municipality]++
		if p.Protected {
			protected++
		}
		if p.OwnsProperty {
			owners++
		}
		if p.Foreign != (p.ID[0] >= '4') {
			t.Fatalf("person %d: %s, foreign %v", i, p.ID, p.Foreign)
		}
		if p.Foreign {
			foreign++
		}
	}
	share := func(what string, n int, low, high float64) {
		if s := float64(n) / people; s < low || s > high {
			t.Errorf("%s: %.4f of the population, want %.4f to %.4f", what, s, low, high)
		}
	}
	share("protected", protected, 0.0015, 0.0025)
	share("owners", owners, 0.38, 0.42)
	share("foreign", foreign, 0.03, 0.05)
	total := 0
	for _, m := range Municipalities() {
		total += m.Inhabitants
	}
	for _, m := range Municipalities() {
		want := float64(m.Inhabitants) / float64(total) * people
		// Five standard deviations and a little: with a fixed seed this cannot flicker.
		if got := float64(at[m.Number]); (got-want)*(got-want) > 25*want+25 {
			t.Errorf("%s %s: %.0f people live there, want about %.0f", m.Number, m.Name, got, want)
		}
	}
	if got := len(slices.Collect(maps.Values(at))); got < 350 {
		t.Errorf("people live in %d municipalities of 357", got)
	}
}

func TestEachHundredHasOneProtectedOwner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := New(Config{People: 100, Seed: rapid.Uint64().Draw(t, "seed")})
		for _, p := range g.People() {
			if p.Protected && p.OwnsProperty {
				return
			}
		}
		t.Fatal("nobody of the first hundred is a protected owner of property")
	})
}

// All birthdays, and in the course of them all slots of a day: 11 and 150 have no
// common factor.
func TestIdentitySlots(t *testing.T) {
	const step = 11
	for _, foreign := range []bool{false, true} {
		for slot := 0; slot < MaxPeople; slot += step {
			id, born := identityAt(slot, foreign)
			if !IsSynthetic(string(id[:])) {
				t.Fatalf("slot %d: %s is not synthetic and valid", slot, id)
			}
			// A slot's number stays within its group of three, so no other slot has it.
			if group := slot % 3 * 3; int(id[8]-'0') < group || int(id[8]-'0') > group+2 {
				t.Fatalf("slot %d: %s took another slot's number", slot, id)
			}
			if born.Year()%100 != two(string(id[4:6])) || (born.Year() >= 2000) != (id[6] >= '5') {
				t.Fatalf("slot %d: %s for a birth in %d", slot, id, born.Year())
			}
		}
	}
}

func TestStrideReachesEverySlot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := New(Config{Seed: rapid.Uint64().Draw(t, "seed")})
		if d := gcd(g.stride, uint64(MaxPeople)); d != 1 || g.stride == 0 {
			t.Fatalf("stride %d shares %d with %d: identity numbers repeat", g.stride, d, MaxPeople)
		}
	})
}

var elevenDigits = regexp.MustCompile(`[0-9]{11,}`)

// In everything that is published, whatever looks like an identity number is
// synthetic, and none stands in an attribute.
func TestNobodyIsReal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := New(Config{People: 1000, Seed: rapid.Uint64().Draw(t, "seed")})
		i := rapid.IntRange(0, MaxPeople-1).Draw(t, "person")
		events := []Event{g.Income(nil, i), g.Property(nil, i), g.Repeat(i), g.SameIDOtherContent(i), g.Correction(i), g.Retraction(i)}
		for _, f := range Faults() {
			if f != Giant {
				events = append(events, g.Invalid(f, i))
			}
		}
		for _, e := range events {
			for _, number := range elevenDigits.FindAllString(string(e.Data), -1) {
				if !IsSynthetic(number) {
					t.Fatalf("%s: %s could be a person's", e.ID, number)
				}
			}
			attributes := []string{e.ID, e.Source, e.Type, e.DataSchema, e.Supersedes, e.Retracts}
			for _, value := range e.Extensions() {
				attributes = append(attributes, value)
			}
			for _, a := range attributes {
				if elevenDigits.MatchString(a) {
					t.Fatalf("attribute %q has digits that could be a person's", a)
				}
			}
			if len(e.Data) > 0 && e.Key != nil && !bytes.Contains(e.Data, e.Key) {
				t.Fatalf("%s: key %s is not the subject's", e.ID, e.Key)
			}
		}
	})
}

func TestEventIDsAreDistinct(t *testing.T) {
	seen := map[string]string{}
	for _, seed := range []uint64{0, 1, 2} {
		g := New(Config{People: 20_000, Seed: seed})
		for i, p := range g.People() {
			ids := []string{g.Income(nil, i).ID}
			if p.OwnsProperty {
				ids = append(ids, g.Property(nil, i).ID)
			}
			if i < 200 {
				ids = append(ids, g.Correction(i).ID, g.Retraction(i).ID)
				for _, f := range Faults() {
					if f != Giant {
						ids = append(ids, g.Invalid(f, i).ID)
					}
				}
			}
			for _, id := range ids {
				where := fmt.Sprintf("seed %d, person %d", seed, i)
				if was, ok := seen[id]; ok {
					t.Fatalf("%s: event id %s is also of %s", where, id, was)
				}
				seen[id] = where
			}
		}
	}
}

func TestAfterPublication(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := New(Config{Seed: rapid.Uint64().Draw(t, "seed")})
		i := rapid.IntRange(0, 100_000).Draw(t, "person")
		first, again := g.Income(nil, i), g.Repeat(i)
		if !bytes.Equal(first.AppendStructured(nil), again.AppendStructured(nil)) {
			t.Fatal("a repeat differs from the first")
		}
		other := g.SameIDOtherContent(i)
		if other.ID != first.ID || bytes.Equal(other.Data, first.Data) {
			t.Fatal("same id, other content: wants the same id and other content")
		}
		c := g.Correction(i)
		if c.ID == first.ID || c.Supersedes != first.ID || c.Retracts != "" || c.Provisional || bytes.Equal(c.Data, first.Data) || !c.Time.After(first.Time) {
			t.Fatalf("not a correction of %s: %+v", first.ID, c)
		}
		r := g.Retraction(i)
		if r.ID == first.ID || r.ID == c.ID || r.Retracts != first.ID || r.Supersedes != "" || r.Provisional || !bytes.Equal(r.Data, first.Data) || !r.Time.After(c.Time) {
			t.Fatalf("not a retraction of %s: %+v", first.ID, r)
		}
		for _, e := range []Event{other, c, r} {
			if !bytes.Equal(e.Key, first.Key) || e.Municipality != first.Municipality || e.Protected != first.Protected {
				t.Fatalf("%s would not follow %s", e.ID, first.ID)
			}
		}
	})
}

func TestStructured(t *testing.T) {
	g := New(Config{Seed: 5})
	e := g.Correction(3)
	e.Provisional = true
	var got map[string]any
	if err := json.Unmarshal(e.AppendStructured(nil), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"specversion": "1.0", "id": e.ID, "source": IncomeSource, "type": IncomeType, "dataschema": IncomeSchema,
		"datacontenttype": "application/json", "municipality": e.Municipality, "protected": e.Protected,
		"supersedes": e.Supersedes, "provisional": true, "time": e.Time.Format(time.RFC3339),
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if len(got) != 12 {
		t.Errorf("%d members, want 12: %v", len(got), slices.Sorted(maps.Keys(got)))
	}
	for name, value := range e.Extensions() {
		if fmt.Sprint(got[name]) != value {
			t.Errorf("%s is %v, want %s", name, got[name], value)
		}
	}
	for name := range got {
		if !regexp.MustCompile(`^[a-z0-9]{1,20}$`).MatchString(name) {
			t.Errorf("%q is no name for a CloudEvents attribute", name)
		}
	}
}

func TestPropertyLiesWhereItSays(t *testing.T) {
	g := New(Config{People: 5000, Seed: 11})
	records, elsewhere := 0, 0
	for i, p := range g.People() {
		e := g.Property(nil, i)
		if !p.OwnsProperty {
			if e.ID != "" || e.Data != nil {
				t.Fatalf("person %d owns nothing, yet has %s", i, e.ID)
			}
			continue
		}
		var r struct {
			Eier                struct{ Personidentifikator string }
			Adresseopplysninger []struct {
				Vegadresse           any
				OpplysningenesOpphav string
				Poststed             struct{ Poststedsnavn string }
			}
			Eiendomsopplysninger []struct {
				Kommunenummer   string
				Matrikkelnummer struct{ Kommunenummer string }
			}
		}
		if err := json.Unmarshal(e.Data, &r); err != nil {
			t.Fatalf("person %d: %v in %s", i, err, e.Data)
		}
		if r.Eier.Personidentifikator != p.ID || string(e.Key) != p.ID || e.Protected != p.Protected {
			t.Fatalf("person %d: the record is another's", i)
		}
		if len(r.Adresseopplysninger) != 2 || fmt.Sprint(r.Adresseopplysninger[0].Vegadresse) != fmt.Sprint(r.Adresseopplysninger[1].Vegadresse) {
			t.Fatalf("person %d: the two sources disagree on the address: %s", i, e.Data)
		}
		for _, u := range r.Eiendomsopplysninger {
			if u.Kommunenummer != e.Municipality || u.Matrikkelnummer.Kommunenummer != e.Municipality {
				t.Fatalf("person %d: extension says %s, payload %s", i, e.Municipality, e.Data)
			}
		}
		records++
		if e.Municipality != p.Municipality {
			elsewhere++
		}
	}
	if elsewhere*100 < records*10 || elsewhere*100 > records*30 {
		t.Errorf("%d of %d properties lie in another municipality than their owner", elsewhere, records)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		config Config
		says   string
	}{
		{Config{People: -1}, "0 to"},
		{Config{People: MaxPeople + 1}, "distinct identity numbers"},
		{Config{GiantBytes: -1}, "size"},
		{Config{Month: "2026-13"}, "YYYY-MM"},
		{Config{Month: "2026-1"}, "YYYY-MM"},
		{Config{Month: "1999-12"}, "2026-01"},
		{Config{Month: "oktober"}, "YYYY-MM"},
		{Config{People: 10, Month: "2027-02"}, ""},
		{Config{}, ""},
	} {
		err := c.config.Validate()
		if c.says == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v; want it to say %q", c.config, err, c.says)
		}
	}
}

func BenchmarkIncome(b *testing.B) {
	g := New(Config{Seed: 1})
	buf := make([]byte, 0, 8192)
	var bytes int64
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e := g.Income(buf, i%1_000_000)
		bytes += int64(len(e.Data))
		i++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(bytes)/float64(b.N), "B/record")
}

func BenchmarkProperty(b *testing.B) {
	g := New(Config{Seed: 1})
	var owners []int
	for i := 0; len(owners) < 10_000; i++ {
		if g.Person(i).OwnsProperty {
			owners = append(owners, i)
		}
	}
	buf := make([]byte, 0, 8192)
	var bytes int64
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e := g.Property(buf, owners[i%len(owners)])
		bytes += int64(len(e.Data))
		i++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(bytes)/float64(b.N), "B/record")
}
