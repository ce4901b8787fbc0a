package synthetic

import "time"

// code is one kind of income with the JSON around its amount: everything before
// the number, and everything after it up to where the kind's own object may be
// added to.
type code struct{ before, after string }

// The kinds of advantage.
const (
	cash    = "kontantytelse"
	inKind  = "naturalytelse"
	expense = "utgiftsgodtgjoerelse"
)

// What the income is: pay, a public benefit, or a pension.
const (
	pay     = "loennsinntekt"
	benefit = "ytelseFraOffentlige"
	pension = "pensjonEllerTrygd"
)

// newCode: contribution tells whether the employer owes contributions on it,
// withheld whether tax is withheld from it.
func newCode(advantage string, contribution, withheld bool, kind, description string) code {
	b := func(v bool) string {
		if v {
			return "true"
		}
		return "false"
	}
	return code{
		before: `{"fordel":"` + advantage + `","utloeserArbeidsgiveravgift":` + b(contribution) +
			`,"inngaarIGrunnlagForTrekk":` + b(withheld) + `,"beloep":`,
		after: `,"` + kind + `":{"beskrivelse":"` + description + `"`,
	}
}

// A selection of a-ordningen's descriptions, enough for the variety that a month
// shows. deploy/demo/schemas/income-1.json lists the same.
var (
	fixedPay    = newCode(cash, true, true, pay, "fastloenn")
	hourlyPay   = newCode(cash, true, true, pay, "timeloenn")
	holidayPay  = newCode(cash, true, true, pay, "feriepenger")
	overtime    = newCode(cash, true, true, pay, "overtidsgodtgjoerelse")
	fixedExtra  = newCode(cash, true, true, pay, "fastTillegg")
	shiftExtra  = newCode(cash, true, true, pay, "uregelmessigeTilleggKnyttetTilArbeidetTid")
	publicHol   = newCode(cash, true, true, pay, "helligdagstillegg")
	bonus       = newCode(cash, true, true, pay, "bonus")
	board       = newCode(cash, true, true, pay, "styrehonorarOgGodtgjoerelseVerv")
	car         = newCode(inKind, true, true, pay, "bil")
	telephone   = newCode(inKind, true, true, pay, "elektroniskKommunikasjon")
	insurance   = newCode(inKind, true, true, pay, "skattepliktigDelForsikringer")
	loan        = newCode(inKind, true, true, pay, "rentefordelLaan")
	mileage     = newCode(expense, false, false, pay, "kilometergodtgjoerelseBil")
	mealTravel  = newCode(expense, false, false, pay, "reiseKostMedOvernattingPaaHotell")
	mealLate    = newCode(expense, false, false, pay, "overtidsmat")
	dirty       = newCode(expense, true, true, pay, "smusstillegg")
	jobless     = newCode(cash, false, true, benefit, "dagpengerVedArbeidsloeshet")
	sick        = newCode(cash, false, true, benefit, "sykepenger")
	parental    = newCode(cash, false, true, benefit, "foreldrepenger")
	assessment  = newCode(cash, false, true, benefit, "arbeidsavklaringspenger")
	qualifying  = newCode(cash, false, true, benefit, "kvalifiseringsstoenad")
	introducing = newCode(cash, false, true, benefit, "introduksjonsstoenad")
	oldAge      = newCode(cash, false, true, pension, "alderspensjon")
	earlyRetire = newCode(cash, false, true, pension, "avtalefestetPensjon")
	disability  = newCode(cash, false, true, pension, "ufoeretrygd")
)

// The state agency that pays benefits and pensions, as a synthetic organisation.
const agencySlot = 0

// employers: how many enterprises pay the population.
const employers = 60_000

// incomeWriter builds one record. Amounts are whole kroner.
type incomeWriter struct {
	b      []byte
	month  rng
	adjust int // added to the first amount: what tells a correction from what it corrects
	items  int
}

// open begins an item with its amount; whoever called may add members to the
// kind's object, and calls end.
func (w *incomeWriter) open(c *code, amount int) {
	if w.items > 0 {
		w.b = append(w.b, ',')
	}
	w.items++
	amount += w.adjust
	w.adjust = 0
	w.b = append(w.b, c.before...)
	w.b = appendInt(w.b, amount)
	w.b = append(w.b, c.after...)
}

func (w *incomeWriter) end() { w.b = append(w.b, "}}"...) }

func (w *incomeWriter) item(c *code, amount int) { w.open(c, amount); w.end() }

// count writes an item with a number of hours, days or kilometres.
func (w *incomeWriter) count(c *code, amount, number int) {
	w.open(c, amount)
	w.b = append(w.b, `,"antall":`...)
	w.b = appendInt(w.b, number)
	w.end()
}

// Income appends person i's income record for the month to dst. Event.Data and
// Event.Key alias what was appended, so both last until dst is written over.
func (g *Generator) Income(dst []byte, i int) Event { return g.income(dst, i, 0) }

// income is Income with kroner added to the record's first amount.
func (g *Generator) income(dst []byte, i, adjust int) Event {
	p := g.person(i)
	w := incomeWriter{b: dst, month: stream(g.seed, streamMonth+g.monthNumber()<<8, i), adjust: adjust}
	// Reports are due on the 5th of the month after.
	seconds := w.month.below(5 * 24 * 60 * 60)
	provisional := w.month.chance(10)
	subject := g.writeIncome(&w, &p, i)
	return Event{
		ID:     g.eventID(g.incomeID, streamIncomeID, i, ""),
		Source: IncomeSource, Type: IncomeType, DataSchema: IncomeSchema,
		Time:         g.next.Add(time.Duration(seconds) * time.Second),
		Municipality: country.all[p.home].Number,
		Protected:    p.protected,
		Provisional:  provisional,
		Key:          w.b[subject : subject+len(p.id) : subject+len(p.id)],
		Data:         w.b[len(dst):len(w.b):len(w.b)],
	}
}

// monthNumber counts months, so that each has a stream of its own.
func (g *Generator) monthNumber() uint64 {
	return uint64(g.start.Year()*12 + int(g.start.Month()))
}

// writeIncome returns where in w.b the identity number stands.
func (g *Generator) writeIncome(w *incomeWriter, p *person, i int) (subject int) {
	work := stream(g.seed, streamWork, i)
	age := g.start.Year() - p.birthYear
	payer := 1 + work.below(employers)
	if n := work.below(employers); n < payer {
		payer = 1 + n // the lesser of two draws: some employers are larger than others
	}
	livesOn := occupation(&work, age, p.foreign)
	if livesOn == onPension || livesOn == onDisability || livesOn == onBenefit {
		payer = agencySlot
	}

	// An enterprise reports for its local units; the unit's number is its own.
	enterprise, unit := orgNumberAt(2*payer), orgNumberAt(2*payer+1)
	w.b = append(w.b, `{"oppgaveInntektsmottaker":[{"opplysningspliktigId":"`...)
	w.b = append(w.b, enterprise[:]...)
	w.b = append(w.b, `","virksomhetId":"`...)
	w.b = append(w.b, unit[:]...)
	w.b = append(w.b, `","kalendermaaned":"`...)
	w.b = append(w.b, g.month...)
	w.b = append(w.b, `","inntektsmottaker":{"personidentifikator":"`...)
	subject = len(w.b)
	w.b = append(w.b, p.id[:]...)
	w.b = append(w.b, `"},"inntekt":[`...)

	// taxable leaves out a correction's adjustment: tax follows next month.
	var taxable int
	switch livesOn {
	case onPension:
		taxable = w.pension(&work, age)
	case onDisability:
		taxable = w.disability(&work)
	case onBenefit:
		taxable = w.benefit(&work)
	case onHours:
		taxable = w.hours(&work, p.foreign)
	case onSalary:
		taxable = w.salary(&work, g.start.Month())
	}
	w.b = append(w.b, ']')

	if percent := min(10+taxable/3500, 44); taxable > 9000 {
		w.b = append(w.b, `,"forskuddstrekk":[{"beloep":`...)
		w.b = appendInt(w.b, taxable*percent/100)
		w.b = append(w.b, "}]"...)
	}
	// Half of employees are organised. The fee tells that they are: a special
	// category of personal data that few who ask for income may have.
	if (livesOn == onHours || livesOn == onSalary) && work.chance(50) {
		w.b = append(w.b, `,"fradrag":[{"beskrivelse":"fagforeningskontingent","beloep":`...)
		w.b = appendInt(w.b, min(taxable/100, 680))
		w.b = append(w.b, "}]"...)
	}
	w.b = append(w.b, "}]}"...)
	return subject
}

// What a person mainly lives on.
const (
	onSalary = iota
	onHours
	onBenefit
	onDisability
	onPension
)

func occupation(work *rng, age int, foreign bool) int {
	roll := work.below(100)
	switch {
	case foreign:
		return onHours
	case age >= 67 && roll < 92, age >= 62 && roll < 25:
		return onPension
	case age < 20 && roll < 85:
		return onHours
	case age >= 35 && roll < 10:
		return onDisability
	case roll < 17:
		return onBenefit
	case roll < 42:
		return onHours
	}
	return onSalary
}

func (w *incomeWriter) salary(work *rng, month time.Month) (taxable int) {
	m := &w.month
	monthly := 29_000 + work.below(36_000) + work.below(24_000)
	if work.chance(6) {
		monthly += work.below(90_000)
	}
	w.item(&fixedPay, monthly)
	taxable = monthly
	if work.chance(38) {
		extra := work.between(10, 90) * 100
		w.item(&fixedExtra, extra)
		taxable += extra
	}
	if m.chance(40) {
		taxable += w.overtime(monthly / 150)
	}
	if month == time.June && m.chance(96) || m.chance(2) {
		holiday := monthly * 12 * 102 / 1000
		w.item(&holidayPay, holiday)
		taxable += holiday
	}
	if work.chance(72) {
		w.item(&telephone, 366)
		taxable += 366
	}
	if work.chance(85) {
		premium := work.between(60, 420)
		w.item(&insurance, premium)
		taxable += premium
	}
	if work.chance(8) {
		taxable += w.car(work)
	}
	if work.chance(5) {
		interest := work.between(80, 1900)
		w.item(&loan, interest)
		taxable += interest
	}
	if m.chance(20) {
		km := m.between(12, 900)
		w.count(&mileage, km*7/2, km)
	}
	if m.chance(8) {
		days := m.between(1, 9)
		w.count(&mealTravel, days*634, days)
	}
	if m.chance(14) {
		days := m.between(1, 8)
		w.count(&mealLate, days*200, days)
	}
	if m.chance(4) {
		amount := m.between(5, 120) * 1000
		w.item(&bonus, amount)
		taxable += amount
	}
	if m.chance(2) {
		fee := m.between(10, 300) * 100
		w.item(&board, fee)
		taxable += fee
	}
	return taxable
}

func (w *incomeWriter) hours(work *rng, foreign bool) (taxable int) {
	m := &w.month
	rate := work.between(175, 390)
	number := m.between(12, 150)
	taxable = rate * number
	w.open(&hourlyPay, taxable)
	w.b = append(w.b, `,"antall":`...)
	w.b = appendInt(w.b, number)
	if foreign {
		w.b = append(w.b, `,"spesifikasjon":{"skattemessigBosattILand":"`...)
		w.b = append(w.b, countries[work.below(len(countries))]...)
		w.b = append(w.b, `"}`...)
	}
	w.end()
	if m.chance(72) {
		extra := m.between(2, 60) * 90
		w.count(&shiftExtra, extra, extra/90)
		taxable += extra
	}
	if m.chance(36) {
		taxable += w.overtime(rate)
	}
	if m.chance(15) {
		hours := m.between(4, 16)
		w.count(&publicHol, rate*hours, hours)
		taxable += rate * hours
	}
	if m.chance(9) {
		holiday := m.between(8, 400) * 100
		w.item(&holidayPay, holiday)
		taxable += holiday
	}
	if work.chance(15) {
		extra := m.between(3, 29) * 100
		w.item(&dirty, extra)
		taxable += extra
	}
	if m.chance(25) {
		days := m.between(1, 8)
		w.count(&mealLate, days*200, days)
	}
	if m.chance(14) {
		km := m.between(12, 600)
		w.count(&mileage, km*7/2, km)
	}
	return taxable
}

var countries = [...]string{"PL", "LT", "SE", "DK", "DE", "RO", "LV", "ES"}

func (w *incomeWriter) overtime(rate int) (taxable int) {
	hours := w.month.between(1, 30)
	taxable = rate * hours * 3 / 2
	w.count(&overtime, taxable, hours)
	return taxable
}

// car is a company car. Its plate begins with QO: neither letter is used on
// Norwegian plates.
func (w *incomeWriter) car(work *rng) (taxable int) {
	price := work.between(240, 890) * 1000
	taxable = price * 30 / 100 / 12
	km := w.month.between(200, 2600)
	plate := work.between(10_000, 99_999)
	w.open(&car, taxable)
	w.b = append(w.b, `,"tilleggsinformasjon":{"bilOgBaat":{"antallKilometer":`...)
	w.b = appendInt(w.b, km)
	w.b = append(w.b, `,"heravAntallKilometerMellomHjemOgArbeid":`...)
	w.b = appendInt(w.b, km*work.between(10, 90)/100)
	w.b = append(w.b, `,"listeprisForBil":`...)
	w.b = appendInt(w.b, price)
	w.b = append(w.b, `,"bilregistreringsnummer":"QO`...)
	w.b = appendInt(w.b, plate)
	w.b = append(w.b, `","erBilUtenforStandardregelen":`...)
	if work.chance(12) {
		w.b = append(w.b, "true}}"...)
	} else {
		w.b = append(w.b, "false}}"...)
	}
	w.end()
	return taxable
}

func (w *incomeWriter) benefit(work *rng) (taxable int) {
	amount := work.between(90, 340) * 100
	kinds := [...]*code{&jobless, &jobless, &sick, &sick, &sick, &parental, &parental, &assessment, &assessment, &assessment, &qualifying, &introducing}
	kind := kinds[work.below(len(kinds))]
	days := w.month.between(5, 23)
	w.open(kind, amount)
	w.b = append(w.b, `,"tilleggsinformasjon":{"antallDager":`...)
	w.b = appendInt(w.b, days)
	w.b = append(w.b, '}')
	w.end()
	taxable = amount
	if w.month.chance(35) {
		holiday := amount / 10
		w.item(&holidayPay, holiday)
		taxable += holiday
	}
	return taxable
}

func (w *incomeWriter) disability(work *rng) (taxable int) {
	percent := 20 + 5*work.below(17)
	amount := work.between(200, 330) * percent
	w.open(&disability, amount)
	w.b = append(w.b, `,"tilleggsinformasjon":{"pensjon":{"ufoeregrad":`...)
	w.b = appendInt(w.b, percent)
	w.b = append(w.b, "}}"...)
	w.end()
	return amount
}

func (w *incomeWriter) pension(work *rng, age int) (taxable int) {
	basic := work.between(9_500, 11_500)
	supplement := work.between(2_000, 19_000)
	percent := 100
	if age < 67 {
		percent = 20 * work.between(1, 5)
	}
	taxable = (basic + supplement) * percent / 100
	w.open(&oldAge, taxable)
	w.b = append(w.b, `,"tilleggsinformasjon":{"pensjon":{"grunnpensjonsbeloep":`...)
	w.b = appendInt(w.b, basic*percent/100)
	w.b = append(w.b, `,"tilleggspensjonsbeloep":`...)
	w.b = appendInt(w.b, taxable-basic*percent/100)
	w.b = append(w.b, `,"pensjonsgrad":`...)
	w.b = appendInt(w.b, percent)
	w.b = append(w.b, "}}"...)
	w.end()
	if work.chance(75) {
		early := work.between(12, 90) * 100
		w.item(&earlyRetire, early)
		taxable += early
	}
	return taxable
}
