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
	sides                                                                      map[broker.Side]string
	status                                                                     map[broker.AgreementStatus]string
}

var explainWords = map[string]*words{
	"nb": {
		permitted: "UTLEVERT til %s (%s) %s", denied: "IKKE UTLEVERT til %s (%s) %s",
		record: "Opplysningen: %s (%s, partisjon %d, posisjon %d), fra %s (%s)",
		why:    "Grunn: %s [%s]", cites: "Gjelder: %s", remedy: "Hva kan gjøres: %s",
		basis: "Hjemmel: %s (%s; GDPR %s)", basisCited: "Hjemmel i avtalen: %s (%s; GDPR %s)", assessed: "Vurdert av %s %s; ny vurdering: %s",
		agreement: "Avtale: %s, %s; formål %s; gjelder %s", controllers: "Behandlingsansvarlige: %s (gir), %s (mottar)",
		supplier: "Leverandør på vegne av mottakeren: %s (%s)", cost: "Kostnadsdekning: %s; betaler: %s",
		fields: "Utleverte felter: %d, etter rettighetspakke %s versjon %d", shielded: "Skjermet: opplysninger om bosted er tatt bort.",
		policy: "Regelverk: %s, revisjon %d av registeret",
		proven: "Bevis: post %d i loggen %s, under det signerte hodet over %d poster", awaits: "Bevis: post %d i loggen %s venter på signert hode; det nyeste dekker %d poster",
		cosigned: "Medsignert av %s", id: "Beslutning: %s", none: "ikke oppgitt", open: "videre",
		sides:  map[broker.Side]string{broker.Disclosure: "utlevering", broker.Collection: "innhenting", broker.Confidentiality: "unntak fra taushetsplikt"},
		status: map[broker.AgreementStatus]string{broker.Proposed: "foreslått", broker.Accepted: "godtatt", broker.Active: "i kraft", broker.Suspended: "stanset", broker.Ended: "avsluttet"},
	},
	"nn": {
		permitted: "UTLEVERT til %s (%s) %s", denied: "IKKJE UTLEVERT til %s (%s) %s",
		record: "Opplysninga: %s (%s, partisjon %d, posisjon %d), frå %s (%s)",
		why:    "Grunn: %s [%s]", cites: "Gjeld: %s", remedy: "Kva kan gjerast: %s",
		basis: "Heimel: %s (%s; GDPR %s)", basisCited: "Heimel i avtalen: %s (%s; GDPR %s)", assessed: "Vurdert av %s %s; ny vurdering: %s",
		agreement: "Avtale: %s, %s; føremål %s; gjeld %s", controllers: "Behandlingsansvarlege: %s (gjev), %s (tek imot)",
		supplier: "Leverandør på vegner av mottakaren: %s (%s)", cost: "Kostnadsdekning: %s; betaler: %s",
		fields: "Utleverte felt: %d, etter rettspakke %s versjon %d", shielded: "Skjerma: opplysningar om bustad er tekne bort.",
		policy: "Regelverk: %s, revisjon %d av registeret",
		proven: "Prov: post %d i loggen %s, under det signerte hovudet over %d postar", awaits: "Prov: post %d i loggen %s ventar på signert hovud; det nyaste dekkjer %d postar",
		cosigned: "Medsignert av %s", id: "Avgjerd: %s", none: "ikkje oppgjeve", open: "vidare",
		sides:  map[broker.Side]string{broker.Disclosure: "utlevering", broker.Collection: "innhenting", broker.Confidentiality: "unntak frå teieplikt"},
		status: map[broker.AgreementStatus]string{broker.Proposed: "føreslått", broker.Accepted: "godteken", broker.Active: "i kraft", broker.Suspended: "stansa", broker.Ended: "avslutta"},
	},
	"en": {
		permitted: "DELIVERED to %s (%s) %s", denied: "NOT DELIVERED to %s (%s) %s",
		record: "The record: %s (%s, partition %d, offset %d), from %s (%s)",
		why:    "Reason: %s [%s]", cites: "Concerns: %s", remedy: "What can be done: %s",
		basis: "Legal basis: %s (%s; GDPR %s)", basisCited: "Legal basis of the agreement: %s (%s; GDPR %s)", assessed: "Assessed by %s %s; to be reviewed: %s",
		agreement: "Agreement: %s, %s; purpose %s; valid %s", controllers: "Controllers: %s (gives), %s (receives)",
		supplier: "Supplier on the consumer's behalf: %s (%s)", cost: "Cost cover: %s; paid by: %s",
		fields: "Fields delivered: %d, by rights package %s version %d", shielded: "Shielded: what tells where the person lives was taken out.",
		policy: "Policy: %s, revision %d of the registry",
		proven: "Proof: entry %d of the ledger %s, under its signed head of %d entries", awaits: "Proof: entry %d of the ledger %s awaits a signed head; the newest covers %d entries",
		cosigned: "Cosigned by %s", id: "Decision: %s", none: "not stated", open: "open",
		sides:  map[broker.Side]string{broker.Disclosure: "disclosure", broker.Collection: "collection", broker.Confidentiality: "confidentiality lifted"},
		status: map[broker.AgreementStatus]string{broker.Proposed: "proposed", broker.Accepted: "accepted", broker.Active: "in force", broker.Suspended: "suspended", broker.Ended: "ended"},
	},
}
