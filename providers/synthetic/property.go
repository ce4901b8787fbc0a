package synthetic

import "time"

// How often property lies elsewhere than its owner lives: cabins and heritage.
const elsewherePercent = 22

var (
	streets = [...]string{"Storgata", "Kirkeveien", "Skoleveien", "Industriveien", "Bjørkeveien", "Furuveien",
		"Ringveien", "Nygata", "Strandgata", "Granveien", "Øvre Åsvei", "Myrveien", "Fjordgata", "Lyngveien", "Stasjonsveien", "Kløverstien"}
	districts = [...]string{"Sentrum", "Nordre", "Søndre", "Vestsida", "Østbygda", "Åsen", "Neset", "Elvebakken", "Moen", "Vika"}
	// The last has what JSON must escape: farm names do come with a part in quotes.
	farms       = [...]string{"Haugen", "Solbakken", "Nordgård", "Bakke", "Lia", "Sørli", "Øygarden", "Moen", "Vik", `Lunde \"Øvre\"`}
	houses      = [...]string{"enebolig", "enebolig", "enebolig", "tomannsbolig", "rekkehus", "leilighet", "leilighet"}
	provenances = [...]string{"SKATTLEGGINGSPERIODE_3112", "OPPDATERT_MATRIKKEL"}
)

// Property appends the valuation of person i's property to dst: what the
// municipality where it lies needs for property tax. The owner is the subject. It
// is the zero Event, with nothing appended, if Person(i).OwnsProperty is false.
// Event.Data and Event.Key alias what was appended.
//
// Streets, post codes and land-register numbers are drawn, not looked up.
func (g *Generator) Property(dst []byte, i int) Event {
	p := g.person(i)
	if !p.owner {
		return Event{}
	}
	r := stream(g.seed, streamProperty, i)
	place := p.home
	cabin := false
	if r.chance(elsewherePercent) {
		place, cabin = country.draw(&r), r.chance(80)
	}
	published := g.next.Add(time.Duration(r.below(28*24*60*60)) * time.Second)

	b := append(dst, `{"skattleggingsperiode":`...)
	b = append(b, g.taxYear...)
	b = append(b, `,"eiendomsidentifikator":{"skatteetatensEiendomsidentifikator":"`...)
	b = appendInt(b, 1_000_000+i)
	b = append(b, `","eksternIdentifikator":"`...)
	b = appendInt(b, r.between(100_000_000, 999_999_999))
	b = append(b, `"},"eier":{"personidentifikator":"`...)
	subject := len(b)
	b = append(b, p.id[:]...)
	b = append(b, `","eierandel":{"teller":1,"nevner":`...)
	b = appendInt(b, 1+r.below(2))
	b = append(b, `}},"formuesopplysninger":`...)
	b = appendValuation(b, &r, cabin)
	b = append(b, `,"adresseopplysninger":[`...)
	// Each is said twice, as of the tax year's end and as now registered, here
	// always the same: so both are drawn from one state.
	address, land := rng{r.next()}, rng{r.next()}
	b = appendAddress(b, address, place, 0)
	b = append(b, ',')
	b = appendAddress(b, address, place, 1)
	b = append(b, `],"eiendomsopplysninger":[`...)
	b = appendLand(b, land, place, 0)
	b = append(b, ',')
	b = appendLand(b, land, place, 1)
	b = append(b, "]}"...)

	return Event{
		ID:     g.eventID(g.propertyID, streamPropertyID, i, ""),
		Source: PropertySource, Type: PropertyType, DataSchema: PropertySchema,
		Time:         published,
		Municipality: country.all[place].Number,
		Protected:    p.protected,
		Key:          b[subject : subject+len(p.id) : subject+len(p.id)],
		Data:         b[len(dst):len(b):len(b)],
	}
}

func appendValuation(b []byte, r *rng, cabin bool) []byte {
	area := r.between(28, 260)
	value := area * r.between(14_000, 78_000)
	kind, spec, house := "selveidBolig", "spesifikasjonForBolig", houses[r.below(len(houses))]
	if cabin {
		kind, spec, house = "selveidFritidseiendom", "spesifikasjonForFritidsbolig", "fritidsbolig"
	}
	b = append(b, `{"formuestype":"`...)
	b = append(b, kind...)
	b = append(b, `","`...)
	b = append(b, spec...)
	b = append(b, `":{"boligegenskaper":{"primaerromareal":`...)
	b = appendInt(b, area)
	b = append(b, `,"boligtype":"`...)
	b = append(b, house...)
	b = append(b, `","byggeaar":"`...)
	b = appendInt(b, r.between(1890, 2024))
	b = append(b, `"},"beliggenhetskode":"`...)
	b = appendInt(b, r.between(1, 3))
	b = append(b, `","beregnetMarkedsverdi":`...)
	b = appendInt(b, value)
	if r.chance(7) {
		// The owner has had it valued, and it was found to be worth less.
		b = append(b, `,"beregningstype":"dokumentertMarkedsverdi","grunnlagForBeregnetMarkedsverdi":{"boligverdi":`...)
		b = appendInt(b, value)
		b = append(b, `,"dokumentertMarkedsverdi":`...)
		b = appendInt(b, value/100*r.between(70, 99))
	} else {
		b = append(b, `,"beregningstype":"maskinellBeregning","grunnlagForBeregnetMarkedsverdi":{"boligverdi":`...)
		b = appendInt(b, value)
	}
	return append(b, "}}}"...)
}

func appendAddress(b []byte, r rng, place, provenance int) []byte {
	m := &country.all[place]
	b = append(b, `{"poststed":{"poststedsnavn":"`...)
	b = append(b, country.upper[place]...)
	b = append(b, `","postnummer":"`...)
	b = append(b, m.Number[:2]...) // counties and post codes do not in fact go together
	b = append(b, byte('0'+r.below(10)), byte('0'+r.below(10)))
	b = append(b, `"},"grunnkrets":{"grunnkretsnavn":"`...)
	b = append(b, districts[r.below(len(districts))]...)
	b = append(b, `","grunnkretsnummer":"`...)
	b = appendInt(b, r.between(1001, 9999))
	b = append(b, `"},"vegadresse":{"adressekode":"`...)
	b = appendInt(b, r.between(1, 9999))
	b = append(b, `","adressenavn":"`...)
	b = append(b, streets[r.below(len(streets))]...)
	b = append(b, `","adressenummer":{"husnummer":`...)
	b = appendInt(b, r.between(1, 180))
	if r.chance(20) {
		b = append(b, `,"husbokstav":"`...)
		b = append(b, byte('A'+r.below(6)), '"')
	}
	b = append(b, `}},"opplysningenesOpphav":"`...)
	b = append(b, provenances[provenance]...)
	return append(b, `"}`...)
}

func appendLand(b []byte, r rng, place, provenance int) []byte {
	number := country.all[place].Number
	b = append(b, `{"matrikkelnummer":{"kommunenummer":"`...)
	b = append(b, number...)
	b = append(b, `","gaardsnummer":`...)
	b = appendInt(b, r.between(1, 480))
	b = append(b, `,"bruksnummer":`...)
	b = appendInt(b, r.between(1, 900))
	b = append(b, `,"festenummer":0,"seksjonsnummer":`...)
	section := 0
	if r.chance(25) {
		section = r.between(1, 60)
	}
	b = appendInt(b, section)
	b = append(b, `},"kommunenummer":"`...)
	b = append(b, number...)
	b = append(b, '"')
	if r.chance(45) {
		b = append(b, `,"bruksnavn":"`...)
		b = append(b, farms[r.below(len(farms))]...)
		b = append(b, '"')
	}
	b = append(b, `,"etablertDato":"`...)
	b = appendInt(b, r.between(1950, 2024))
	b = append(b, '-')
	var two [2]byte
	put2(two[:], r.between(1, 12))
	b = append(b, two[:]...)
	b = append(b, '-')
	put2(two[:], r.between(1, 28))
	b = append(b, two[:]...)
	b = append(b, `","opplysningenesOpphav":"`...)
	b = append(b, provenances[provenance]...)
	return append(b, `"}`...)
}
