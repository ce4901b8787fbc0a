package audit

import (
	"maps"
	"slices"

	"datafordeler/broker"
)

// Languages are those that decisions are explained in.
var Languages = slices.Sorted(maps.Keys(explainWords))

// words are what is said in one language; the formats' arguments are in one order.
type words struct {
	permitted, denied, record, why, cites, remedy, basis, basisCited, assessed string
	agreement, controllers, supplier, cost, fields, shielded, policy           string
	proven, awaits, cosigned, id, none, open                                   string
	contacts, processor, justified                                             string
	merged, deleted                                                            string // a party
	derived, together                                                          string
	nothing, noRecord, elsewhere, backfill, lookup, door, doorAgain            string
	notified, corrected, retracted                                             string // of a notice
	untold, notice, duty, toldAfter                                            string // of one after the data was denied
	sides                                                                      map[broker.Side]string
	status                                                                     map[broker.AgreementStatus]string
}

var explainWords = map[string]*words{
	"nb": {
		permitted: "UTLEVERT til %s (%s) %s", denied: "IKKE UTLEVERT til %s (%s) %s",
		record: "Opplysningen: %s (%s, partisjon %d, posisjon %d), fra %s (%s)",
		why:    "Grunn: %s [%s]", cites: "Gjelder: %s", remedy: "Hva kan gjøres: %s",
		basis: "Hjemmel: %s (%s; GDPR %s)", basisCited: "Hjemmel i avtalen: %s (%s; GDPR %s)", assessed: "Vurdert av %s %s; ny vurdering: %s",
		merged: "%s ble slått sammen med %s %s: avtalen regnes som avsluttet, og den som overtok, trenger en egen.", deleted: "%s ble slettet fra enhetsregisteret %s: avtalen regnes som avsluttet.",
		agreement: "Avtale: %s, %s; formål %s; gjelder %s", controllers: "Behandlingsansvarlige: %s (gir), %s (mottar)",
		justified: "Hvorfor det bes om samtykke: %s", contacts: "Spørsmål: %s (gir), %s (mottar)", processor: "Databehandler for %s: %s, %s (%s), i %s",
		supplier: "Leverandør på vegne av mottakeren: %s (%s)", cost: "Kostnadsdekning: %s; betaler: %s",
		fields: "Utleverte felter: %d, etter rettighetspakke %s versjon %d", shielded: "Skjermet: opplysninger om bosted er tatt bort.",
		derived:  "%s: avledet av %s, etter regelen %s",
		together: "Det ble spurt om flere sammen (en husholdning), denne som nummer %d; svaret gjelder alle sammen. De andre står under forespørsler som begynner med %s.",
		policy:   "Regelverk: %s, revisjon %d av registeret",
		proven:   "Bevis: post %d i loggen %s, under det signerte hodet over %d poster", awaits: "Bevis: post %d i loggen %s venter på signert hode; det nyeste dekker %d poster",
		cosigned: "Medsignert av %s", id: "Beslutning: %s", none: "ikke oppgitt", open: "videre",
		nothing:   "BESVART, INGENTING FUNNET: %s (%s) %s",
		noRecord:  "Opplysningen: ingen ble funnet eller hentet i %s (%s), fra %s (%s)",
		elsewhere: "Opplysningen: %s (%s), hos %s (%s); den ligger ikke i loggen",
		backfill:  "Slag: etterlevering (backfill). Opplysningen var publisert før; den ble vurdert etterpå, fordi en sak eller et samtykke kom til eller abonnementet skulle begynne tidligere.",
		lookup:    "Slag: oppslag (lookup). Mottakeren spurte om dette, med forespørsel %s, og fikk dette svaret.",
		door:      "Slag: dør (door). Holdt tilbake ved døren siden %s: utleveringen var tillatt da opplysningen kom, men ikke lenger da den skulle hentes.",
		doorAgain: "Holdt tilbake %d ganger, sist %s.",
		notified:  "VARSLET, UTEN OPPLYSNINGER: %s (%s) %s",
		corrected: "Varsel: mottakeren fikk vite at en opplysning ble rettet, uten innholdet; slik sier avtalen det om rettelser. Ingen felter ble utlevert.",
		retracted: "Varsel: mottakeren fikk vite at en opplysning ble trukket tilbake, uten innholdet; slik sier avtalen det om rettelser. Ingen felter ble utlevert.",
		untold:    "IKKE VARSLET: %s (%s) %s",
		notice:    "Slag: varsel (notice). En opplysning ble rettet eller trukket tilbake. Selve opplysningen ble nektet i en beslutning for seg; dette er svaret på om mottakeren, som hadde fått den tidligere, skal få vite det.",
		duty:      "Plikt: den som har fått personopplysninger utlevert, skal varsles når de rettes eller slettes (GDPR artikkel 19). Den gjelder også etter at retten til å få dem er slutt.",
		toldAfter: "Varsel: mottakeren fikk vite hvilken leveranse som ble rettet eller trukket tilbake, uten innholdet. Ingen felter ble utlevert.",
		sides:     map[broker.Side]string{broker.Disclosure: "utlevering", broker.Collection: "innhenting", broker.Confidentiality: "unntak fra taushetsplikt"},
		status:    map[broker.AgreementStatus]string{broker.Proposed: "foreslått", broker.Accepted: "godtatt", broker.Active: "i kraft", broker.Suspended: "stanset", broker.Ended: "avsluttet"},
	},
	"nn": {
		permitted: "UTLEVERT til %s (%s) %s", denied: "IKKJE UTLEVERT til %s (%s) %s",
		record: "Opplysninga: %s (%s, partisjon %d, posisjon %d), frå %s (%s)",
		why:    "Grunn: %s [%s]", cites: "Gjeld: %s", remedy: "Kva kan gjerast: %s",
		basis: "Heimel: %s (%s; GDPR %s)", basisCited: "Heimel i avtalen: %s (%s; GDPR %s)", assessed: "Vurdert av %s %s; ny vurdering: %s",
		merged: "%s vart slått saman med %s %s: avtalen er rekna som avslutta, og den som tok over, treng ein eigen.", deleted: "%s vart sletta frå einingsregisteret %s: avtalen er rekna som avslutta.",
		agreement: "Avtale: %s, %s; føremål %s; gjeld %s", controllers: "Behandlingsansvarlege: %s (gjev), %s (tek imot)",
		justified: "Kvifor det blir bede om samtykke: %s", contacts: "Spørsmål: %s (gjev), %s (tek imot)", processor: "Databehandlar for %s: %s, %s (%s), i %s",
		supplier: "Leverandør på vegner av mottakaren: %s (%s)", cost: "Kostnadsdekning: %s; betaler: %s",
		fields: "Utleverte felt: %d, etter rettspakke %s versjon %d", shielded: "Skjerma: opplysningar om bustad er tekne bort.",
		derived:  "%s: utleidd av %s, etter regelen %s",
		together: "Det vart spurt om fleire saman (ein hushald), denne som nummer %d; svaret gjeld alle saman. Dei andre står under førespurnader som byrjar med %s.",
		policy:   "Regelverk: %s, revisjon %d av registeret",
		proven:   "Prov: post %d i loggen %s, under det signerte hovudet over %d postar", awaits: "Prov: post %d i loggen %s ventar på signert hovud; det nyaste dekkjer %d postar",
		cosigned: "Medsignert av %s", id: "Avgjerd: %s", none: "ikkje oppgjeve", open: "vidare",
		nothing:   "SVART PÅ, INGENTING FUNNE: %s (%s) %s",
		noRecord:  "Opplysninga: inga vart funnen eller henta i %s (%s), frå %s (%s)",
		elsewhere: "Opplysninga: %s (%s), hos %s (%s); ho ligg ikkje i loggen",
		backfill:  "Slag: etterlevering (backfill). Opplysninga var publisert før; ho vart vurdert etterpå, fordi ei sak eller eit samtykke kom til eller abonnementet skulle byrje tidlegare.",
		lookup:    "Slag: oppslag (lookup). Mottakaren spurde om dette, med førespurnad %s, og fekk dette svaret.",
		door:      "Slag: dør (door). Halde tilbake ved døra sidan %s: utleveringa var tillaten då opplysninga kom, men ikkje lenger då ho skulle hentast.",
		doorAgain: "Halde tilbake %d gonger, sist %s.",
		notified:  "VARSLA, UTAN OPPLYSNINGAR: %s (%s) %s",
		corrected: "Varsel: mottakaren fekk vite at ei opplysning vart retta, utan innhaldet; slik seier avtalen det om rettingar. Ingen felt vart utleverte.",
		retracted: "Varsel: mottakaren fekk vite at ei opplysning vart trekt tilbake, utan innhaldet; slik seier avtalen det om rettingar. Ingen felt vart utleverte.",
		untold:    "IKKJE VARSLA: %s (%s) %s",
		notice:    "Slag: varsel (notice). Ei opplysning vart retta eller trekt tilbake. Sjølve opplysninga vart nekta i ei avgjerd for seg; dette er svaret på om mottakaren, som hadde fått ho før, skal få vite det.",
		duty:      "Plikt: den som har fått personopplysningar utleverte, skal varslast når dei blir retta eller sletta (GDPR artikkel 19). Ho gjeld òg etter at retten til å få dei er slutt.",
		toldAfter: "Varsel: mottakaren fekk vite kva leveranse som vart retta eller trekt tilbake, utan innhaldet. Ingen felt vart utleverte.",
		sides:     map[broker.Side]string{broker.Disclosure: "utlevering", broker.Collection: "innhenting", broker.Confidentiality: "unntak frå teieplikt"},
		status:    map[broker.AgreementStatus]string{broker.Proposed: "føreslått", broker.Accepted: "godteken", broker.Active: "i kraft", broker.Suspended: "stansa", broker.Ended: "avslutta"},
	},
	"en": {
		permitted: "DELIVERED to %s (%s) %s", denied: "NOT DELIVERED to %s (%s) %s",
		record: "The record: %s (%s, partition %d, offset %d), from %s (%s)",
		why:    "Reason: %s [%s]", cites: "Concerns: %s", remedy: "What can be done: %s",
		basis: "Legal basis: %s (%s; GDPR %s)", basisCited: "Legal basis of the agreement: %s (%s; GDPR %s)", assessed: "Assessed by %s %s; to be reviewed: %s",
		merged: "%s was merged into %s on %s: the agreement counts as ended, and whoever took over needs one of its own.", deleted: "%s was deleted from its register on %s: the agreement counts as ended.",
		agreement: "Agreement: %s, %s; purpose %s; valid %s", controllers: "Controllers: %s (gives), %s (receives)",
		justified: "Why consent is asked for: %s", contacts: "Questions: %s (gives), %s (receives)", processor: "Processor for %s: %s, %s (%s), in %s",
		supplier: "Supplier on the consumer's behalf: %s (%s)", cost: "Cost cover: %s; paid by: %s",
		fields: "Fields delivered: %d, by rights package %s version %d", shielded: "Shielded: what tells where the person lives was taken out.",
		derived:  "%s: derived from %s, by the rule %s",
		together: "Several were asked about together (a household), this one as number %d; the answer is on all of them. The others stand under requests that begin with %s.",
		policy:   "Policy: %s, revision %d of the registry",
		proven:   "Proof: entry %d of the ledger %s, under its signed head of %d entries", awaits: "Proof: entry %d of the ledger %s awaits a signed head; the newest covers %d entries",
		cosigned: "Cosigned by %s", id: "Decision: %s", none: "not stated", open: "open",
		nothing:   "ANSWERED, NOTHING FOUND: %s (%s) %s",
		noRecord:  "The record: none was found or fetched in %s (%s), from %s (%s)",
		elsewhere: "The record: %s (%s), at %s (%s); it does not lie in the log",
		backfill:  "Kind: backfill. The record had been published before; it was decided on afterwards, because a case or a consent came, or the subscription was to begin earlier.",
		lookup:    "Kind: lookup. The consumer asked for this, with request %s, and got this answer.",
		door:      "Kind: door. Withheld at the door since %s: the delivery was permitted when the record came, and was not any more when it was to be fetched.",
		doorAgain: "Withheld %d times, the last at %s.",
		notified:  "TOLD, WITHOUT DATA: %s (%s) %s",
		corrected: "Notice: the consumer was told that a record was corrected, without data; so says the agreement of corrections. No field was delivered.",
		retracted: "Notice: the consumer was told that a record was retracted, without data; so says the agreement of corrections. No field was delivered.",
		untold:    "NOT TOLD: %s (%s) %s",
		notice:    "Kind: notice. A record was corrected or retracted. Its data was denied in a decision of its own; this one is on whether the consumer, who had been delivered it before, is told.",
		duty:      "Duty: who was given personal data is told when it is rectified or erased (GDPR article 19). It stands after the right to the data has ended.",
		toldAfter: "Notice: the consumer was told which delivery was corrected or retracted, without data. No field was delivered.",
		sides:     map[broker.Side]string{broker.Disclosure: "disclosure", broker.Collection: "collection", broker.Confidentiality: "confidentiality lifted"},
		status:    map[broker.AgreementStatus]string{broker.Proposed: "proposed", broker.Accepted: "accepted", broker.Active: "in force", broker.Suspended: "suspended", broker.Ended: "ended"},
	},
}
