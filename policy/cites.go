package policy

import "strings"

// Cited is a citation (ReasonInfo.Cites) in a language of Languages. The policy's
// METADATA has them in English, where they name a part of an agreement or an article
// of the GDPR; acts have the name that they are published by. What is not known
// here, such as a citation of a policy of one's own, stays as it was written.
func Cited(cite, language string) string {
	if language == "en" {
		return cite
	}
	column := 0
	if language == "nn" {
		column = 1
	}
	if words, ok := citedWords[cite]; ok {
		return words[column]
	}
	if article, ok := strings.CutPrefix(cite, "GDPR article "); ok {
		// "6(1)(a)" is cited as "6 nr. 1 bokstav a", "4(7)" as "4 nr. 7".
		number, rest, _ := strings.Cut(article, "(")
		out := [...]string{"personvernforordningen artikkel ", "personvernforordninga artikkel "}[column] + number
		for i, part := range strings.Split(strings.TrimSuffix(rest, ")"), ")(") {
			switch {
			case part == "":
			case i == 0:
				out += " nr. " + part
			default:
				out += " bokstav " + part
			}
		}
		return out
	}
	return cite
}

// citedWords are bokmål and nynorsk.
var citedWords = map[string][2]string{
	"The broker's freeze switch":                  {"Datafordelerens frysbryter", "Frysbrytaren til datafordelaren"},
	"The broker's limits":                         {"Datafordelerens grenser", "Grensene til datafordelaren"},
	"The agreement, its ceiling":                  {"Avtalens øvre ramme", "Den øvre ramma i avtalen"},
	"The agreement, its corrections":              {"Det avtalen sier om rettelser", "Det avtalen seier om rettingar"},
	"The agreement, its cost cover":               {"Avtalens kostnadsdekning", "Kostnadsdekninga i avtalen"},
	"The agreement, its interval":                 {"Avtalens varighet", "Kor lenge avtalen gjeld"},
	"The agreement, its mailbox":                  {"Avtalens postkasse", "Postkassa i avtalen"},
	"The agreement, its parties":                  {"Avtalens parter", "Partane i avtalen"},
	"The agreement, its provider and dataset":     {"Avtalens tilbyder og datasett", "Tilbydaren og datasettet i avtalen"},
	"The agreement, its responsibility":           {"Avtalens ansvarsfordeling", "Ansvarsfordelinga i avtalen"},
	"The agreement, its rights package":           {"Avtalens rettighetspakke", "Rettigheitspakka i avtalen"},
	"The agreement, its status":                   {"Avtalens status", "Statusen til avtalen"},
	"The agreement, its subscription":             {"Avtalens abonnement", "Abonnementet i avtalen"},
	"The agreement, its supplier":                 {"Avtalens leverandør", "Leverandøren i avtalen"},
	"The delegation, its interval":                {"Fullmaktens varighet", "Kor lenge fullmakta gjeld"},
	"The legal basis, its interval":               {"Hjemmelens gyldighetstid", "Kor lenge heimelen gjeld"},
	"The legal basis, its requirement of a case":  {"Hjemmelens krav om en sak", "Kravet i heimelen om ei sak"},
	"The legal basis, the period that it reaches": {"Perioden som hjemmelen gjelder for", "Perioden som heimelen gjeld for"},
}
