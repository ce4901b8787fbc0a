# METADATA
# title: Legal basis (hjemmel)
# description: |
#   Sharing has up to three sides, and each of them needs a legal basis: the provider
#   may disclose, the consumer may collect, and the duty of confidentiality is lifted,
#   the last unless the dataset is public. One basis may serve several sides.
#
#   First, bases must cover all sides: dataset, purpose and recipient. Then one
#   alternative among them must be in force, reach the period that the record is
#   about, and have what it needs besides: an open case, a consent. The requirements
#   ask for these one step further at a time, and a reason names the step that no
#   alternative came past. A step takes the later ones for granted.
# scope: package
package sharing.legalbasis

# METADATA
# title: Some legal basis
# scope: document
# custom:
#   cites:
#   - GDPR article 6(1)
#   - GDPR article 6(3)
#   message:
#     nb: Ingen hjemmel i avtalen dekker dette datasettet for dette formålet og denne mottakeren.
#     nn: Ingen heimel i avtalen dekkjer dette datasettet for dette føremålet og denne mottakaren.
#     en: No legal basis in the agreement covers this dataset for this purpose and this recipient.
#   remedy:
#     nb: Finn hjemmelen for å utlevere og for å innhente, få den vurdert, og før den opp i avtalen.
#     nn: Finn heimelen for å utlevere og for å hente inn, få han vurdert, og før han opp i avtalen.
#     en: Find the basis for disclosing and for collecting, have it assessed, and list it in the agreement.
cleared.no_legal_basis if covering.disclosure

cleared.no_legal_basis if covering.collection

# METADATA
# title: The provider may disclose
# scope: document
# custom:
#   cites:
#   - GDPR article 6(3)
#   - GDPR article 5(1)(b)
#   message:
#     nb: Ingen hjemmel i avtalen lar tilbyderen utlevere dette datasettet for dette formålet til denne mottakeren.
#     nn: Ingen heimel i avtalen lèt tilbydaren utlevere dette datasettet for dette føremålet til denne mottakaren.
#     en: No legal basis in the agreement lets the provider disclose this dataset for this purpose to this recipient.
#   remedy:
#     nb: Tilbyderen må peke på hjemmelen for å utlevere og føre den opp i avtalen.
#     nn: Tilbydaren må peike på heimelen for å utlevere og føre han opp i avtalen.
#     en: The provider must identify the basis for disclosing and list it in the agreement.
cleared.no_disclosure_basis if covering.disclosure

# METADATA
# title: The consumer may collect
# scope: document
# custom:
#   cites:
#   - GDPR article 6(1)
#   - GDPR article 6(3)
#   message:
#     nb: Ingen hjemmel i avtalen lar konsumenten innhente dette datasettet for dette formålet.
#     nn: Ingen heimel i avtalen lèt konsumenten hente inn dette datasettet for dette føremålet.
#     en: No legal basis in the agreement lets the consumer collect this dataset for this purpose.
#   remedy:
#     nb: Konsumenten må peke på hjemmelen for å innhente og føre den opp i avtalen.
#     nn: Konsumenten må peike på heimelen for å hente inn og føre han opp i avtalen.
#     en: The consumer must identify the basis for collecting and list it in the agreement.
cleared.no_collection_basis if covering.collection

# METADATA
# title: The duty of confidentiality is lifted
# scope: document
# custom:
#   cites:
#   - forvaltningsloven § 13
#   - forvaltningsloven § 13 b
#   message:
#     nb: Datasettet er ikke offentlig, og ingen hjemmel i avtalen opphever taushetsplikten overfor mottakeren.
#     nn: Datasettet er ikkje offentleg, og ingen heimel i avtalen opphevar teieplikta overfor mottakaren.
#     en: The dataset is not public, and no legal basis in the agreement lifts the duty of confidentiality towards the recipient.
#   remedy:
#     nb: Finn bestemmelsen eller samtykket som gir unntak fra taushetsplikten, og før det opp i avtalen.
#     nn: Finn føresegna eller samtykket som gir unntak frå teieplikta, og før det opp i avtalen.
#     en: Find the provision or the consent that makes an exception from confidentiality, and list it in the agreement.
cleared.confidentiality_not_lifted if covering.confidentiality

cleared.confidentiality_not_lifted if public

# METADATA
# title: The legal bases are in force
# scope: document
# custom:
#   cites:
#   - GDPR article 6(3)
#   - The legal basis, its interval
#   message:
#     nb: Hjemmelen har ikke trådt i kraft, eller den gjelder ikke lenger.
#     nn: Heimelen har ikkje teke til å gjelde, eller han gjeld ikkje lenger.
#     en: The legal basis is not yet in force, or no longer.
#   remedy:
#     nb: Vent til hjemmelen trer i kraft, eller før opp den som gjelder nå.
#     nn: Vent til heimelen tek til å gjelde, eller før opp den som gjeld no.
#     en: Wait until the legal basis enters into force, or list the one that applies now.
cleared.basis_not_in_force if served({"period", "case", "consent"})

# METADATA
# title: The record is about a period that the legal bases reach
# scope: document
# custom:
#   cites:
#   - GDPR article 5(1)(c)
#   - The legal basis, the period that it reaches
#   message:
#     nb: Oppføringen gjelder en periode som hjemmelen ikke omfatter.
#     nn: Oppføringa gjeld ein periode som heimelen ikkje omfattar.
#     en: The record is about a period that the legal basis does not reach.
#   remedy:
#     nb: Vurder om en annen hjemmel omfatter perioden. Ellers skal opplysningen ikke deles.
#     nn: Vurder om ein annan heimel omfattar perioden. Elles skal opplysninga ikkje delast.
#     en: Consider whether another legal basis reaches the period. Otherwise the record is not to be shared.
cleared.record_outside_period if not "period" in needed

cleared.record_outside_period if {
	"period" in needed
	served({"case", "consent"})
}

# METADATA
# title: An open case where the legal basis requires one
# scope: document
# custom:
#   cites:
#   - GDPR article 5(1)(c)
#   - forvaltningsloven § 13 b
#   - The legal basis, its requirement of a case
#   message:
#     nb: Hjemmelen krever en åpen sak om den opplysningen gjelder, og mottakeren har ingen.
#     nn: Heimelen krev ei open sak om den opplysninga gjeld, og mottakaren har inga.
#     en: The legal basis requires an open case on the subject, and the recipient has none.
#   remedy:
#     nb: Registrer saken når den er opprettet. Uten sak skal opplysningen ikke deles.
#     nn: Registrer saka når ho er oppretta. Utan sak skal opplysninga ikkje delast.
#     en: Register the case once it is opened. Without one the record is not to be shared.
cleared.no_open_case if not "case" in needed

cleared.no_open_case if {
	"case" in needed
	served({"consent"})
}

cleared.no_open_case if {
	"case" in needed
	open_case
	served({"case", "consent"})
}

# METADATA
# title: A consent is given
# scope: document
# custom:
#   cites:
#   - GDPR article 6(1)(a)
#   - GDPR article 7(1)
#   message:
#     nb: Den opplysningen gjelder, har ikke samtykket til at denne mottakeren får den for dette formålet.
#     nn: Den opplysninga gjeld, har ikkje samtykt til at denne mottakaren får henne for dette føremålet.
#     en: The subject has not consented to this recipient having it for this purpose.
#   remedy:
#     nb: Be om samtykke. Det er frivillig, og uten det skal opplysningen ikke deles.
#     nn: Be om samtykke. Det er frivillig, og utan det skal opplysninga ikkje delast.
#     en: Ask for consent. It is voluntary, and without it the record is not to be shared.
cleared.consent_missing if served_without_consent

cleared.consent_missing if {
	served_with_consent
	some consent in input.consents
	given(consent)
}

# METADATA
# title: The consent has not expired
# scope: document
# custom:
#   cites:
#   - GDPR article 6(1)(a)
#   - GDPR article 7
#   message:
#     nb: Samtykket er utløpt.
#     nn: Samtykket er utgått.
#     en: The consent has expired.
#   remedy:
#     nb: Be om et nytt samtykke hvis opplysningen fortsatt trengs.
#     nn: Be om eit nytt samtykke dersom opplysninga framleis trengst.
#     en: Ask for a new consent if the record is still needed.
cleared.consent_expired if served_without_consent

cleared.consent_expired if {
	served_with_consent
	some consent in input.consents
	given(consent)
	input.time < consent.valid.to
}

# A withdrawal is told before an expiry: it is what the subject chose.
cleared.consent_expired if {
	served_with_consent
	some consent in input.consents
	given(consent)
	consent.withdrawn <= input.time
}

# METADATA
# title: The consent is not withdrawn
# scope: document
# custom:
#   cites:
#   - GDPR article 7(3)
#   message:
#     nb: Samtykket er trukket tilbake.
#     nn: Samtykket er trekt tilbake.
#     en: The consent is withdrawn.
#   remedy:
#     nb: Respekter tilbaketrekkingen. Bare den det gjelder, kan gi et nytt samtykke.
#     nn: Respekter tilbaketrekkinga. Berre den det gjeld, kan gi eit nytt samtykke.
#     en: Respect the withdrawal. Only the subject can give a new consent.
cleared.consent_withdrawn if served_without_consent

cleared.consent_withdrawn if {
	served_with_consent
	some consent in input.consents
	stands(consent)
}

# METADATA
# title: The legal bases that carry a permit
# description: |
#   Every basis of every alternative that holds with what is at hand, in the
#   agreement's order.
carrying := [basis.id | some i, basis in input.bases; i in holding]

holding contains i if {
	some alternative in alternatives
	every j in alternative {
		reaches(input.bases[j], {"case", "consent"})
		case_met(input.bases[j])
		consent_met(input.bases[j])
	}
	some i in alternative
}

# METADATA
# title: The legal bases that a denial was judged on
# description: All that the agreement lists, whether or not they cover anything.
cited := [basis.id | some basis in input.bases]

# METADATA
# title: The legal bases reach this far
# description: |
#   given is what is taken for granted of "period", "case" and "consent".
served(given) if {
	some alternative in alternatives
	every i in alternative { reaches(input.bases[i], given) }
}

served_without_consent if not "consent" in needed

served_without_consent if {
	"consent" in needed
	served(set())
}

served_without_consent if {
	"consent" in needed
	"case" in needed
	open_case
	served({"case"})
}

served_with_consent if {
	"consent" in needed
	served({"consent"})
}

served_with_consent if {
	"consent" in needed
	"case" in needed
	open_case
	served({"case", "consent"})
}

# ———— Settled by the agreement alone ————

# METADATA
# title: Alternatives
# description: |
#   Each is a set of bases (by their place in input.bases) that together cover all
#   sides, and none of which could be left out. One alternative is enough.
#
#   A set shows by itself whether it is one: each member must cover a side that no
#   other member does. So a basis for all sides stands alone; two make a pair when
#   together they cover all sides and neither does so alone; three have one side
#   each. Sets are not held against one another, nor are bases tried that cannot
#   belong together: an agreement may list many.
#
#   The rules that this one stands on are named once: partial evaluation walks through
#   every mention anew. A difference of sets would be shorter, but is also subtraction,
#   and agreements do not share their compiled form where a policy may subtract.
alternatives := union({alone, pairs, triples}) if {
	all := sides
	by := kinds
	alone := {{i} |
		some one, members in by
		all & one == all
		some i in members
	}
	pairs := {{i, j} |
		some one, firsts in by
		all & one != all
		some other, seconds in by
		all & other != all
		all & (one | other) == all
		some i in firsts
		some j in seconds
	}
	triples := {{i, j, k} |
		"confidentiality" in all
		some i in by[{"disclosure"}]
		some j in by[{"collection"}]
		some k in by[{"confidentiality"}]
	}
}

# What needs a legal basis.
sides := {"disclosure", "collection", "confidentiality"} if not public

sides := {"disclosure", "collection"} if public

# Bases, together with those that cover the same sides. Of that there are few kinds,
# however many the bases.
kinds[covered] contains i if {
	some i in covering_bases
	covered := {"disclosure", "collection", "confidentiality"} & {side | some side in input.bases[i].sides}
}

# The bases that cover each side; a side that none covers is not there.
covering[side] contains i if {
	some i in covering_bases
	some side in input.bases[i].sides
}

covering_bases := {i |
	some i, basis in input.bases
	basis.id in input.agreement.bases
	basis.type in {"lov", "samtykke"}
	input.agreement.dataset in basis.datasets
	input.agreement.purpose in basis.purposes
	count(recipients & {recipient | some recipient in basis.recipients}) > 0
}

# A recipient is named by its organisation number or by one of its types.
recipients contains input.agreement.consumer

recipients contains type if {
	input.consumer.number == input.agreement.consumer
	some type in input.consumer.types
}

public if {
	input.dataset.id == input.agreement.dataset
	input.dataset.accessRights == "PUBLIC"
}

# What some basis of an alternative needs of the record beside its time.
needed contains "period" if {
	some i in involved
	input.bases[i].about != null
}

needed contains "case" if {
	some i in involved
	input.bases[i].requiresCase == true
}

needed contains "consent" if {
	some i in involved
	input.bases[i].type == "samtykke"
}

involved := union(alternatives)

# ———— Depends on the record and its time ————

reaches(basis, given) if {
	basis.valid.from <= input.time
	input.time < basis.valid.to
	period_fits(basis, given)
	case_fits(basis, given)
	consent_fits(basis, given)
}

period_fits(basis, _) if basis.about == null

period_fits(basis, given) if {
	basis.about != null
	"period" in given
}

# Text such as "2026-10" orders as the periods do. An attribute that the record
# lacks is "", and is in no period, bounded or not.
period_fits(basis, given) if {
	basis.about != null
	not "period" in given
	value := input.record.attributes[basis.about.attribute]
	value != ""
	basis.about.from <= value
	not_after(value, basis.about.to)
}

not_after(_, "")

not_after(value, bound) if {
	bound != ""
	value <= bound
}

case_fits(basis, _) if basis.requiresCase == false

case_fits(basis, given) if {
	basis.requiresCase == true
	"case" in given
}

consent_fits(basis, _) if basis.type == "lov"

consent_fits(basis, given) if {
	basis.type == "samtykke"
	"consent" in given
}

case_met(basis) if basis.requiresCase == false

case_met(basis) if {
	basis.requiresCase == true
	open_case
}

consent_met(basis) if basis.type == "lov"

consent_met(basis) if {
	basis.type == "samtykke"
	some consent in input.consents
	stands(consent)
}

open_case if {
	some case in input.cases
	case.from <= input.time
	input.time < case.to
}

given(consent) if {
	consent.consumer == input.agreement.consumer
	consent.dataset == input.agreement.dataset
	consent.purpose == input.agreement.purpose
	consent.valid.from <= input.time
}

stands(consent) if {
	given(consent)
	input.time < consent.valid.to
	input.time < consent.withdrawn
}
