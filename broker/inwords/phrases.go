package inwords

import "datafordeler/broker"

// The sentences, in bokmål, nynorsk and English.
var (
	pFrom    = phrase{"fra og med %s", "frå og med %s", "from %s"}
	pThrough = phrase{"til og med %s", "til og med %s", "through %s"}
	pUntil   = phrase{"til %s", "til %s", "until %s"}
	pNoEnd   = phrase{"uten sluttdato", "utan sluttdato", "without an end date"}
	pNotYet  = phrase{"Det har ikke begynt å gjelde.", "Det har ikkje byrja å gjelde.", "That is not yet in force."}
	pOver    = phrase{"Det gjelder ikke lenger.", "Det gjeld ikkje lenger.", "That is not in force any more."}
	pOr      = phrase{"eller", "eller", "or"}
	pAnd     = phrase{"og", "og", "and"}
	pNone    = phrase{"ingen", "ingen", "none"}
	pGDPR    = phrase{"personvernforordningen (GDPR)", "personvernforordninga (GDPR)", "GDPR"}
	pNotSaid = phrase{"ikke oppgitt", "ikkje oppgjeve", "not stated"}

	pTitle = phrase{"Avtale %s", "Avtale %s", "Agreement %s"}

	pShort   = phrase{"Kort sagt", "Kort sagt", "In short"}
	pSummary = phrase{
		"%s kan gi %s opplysninger fra «%s» (%s) til formålet «%s».",
		"%s kan gje %s opplysningar frå «%s» (%s) til føremålet «%s».",
		"%s may give %s information from “%s” (%s) for the purpose “%s”.",
	}
	pCollected = phrase{
		"Opplysningene ble samlet inn til formålet «%s».",
		"Opplysningane vart samla inn til føremålet «%s».",
		"The information was collected for the purpose “%s”.",
	}
	pOtherUse = phrase{
		"Opplysningene ble samlet inn til formålet «%s». Her brukes de til noe annet, og det må hjemlene nedenfor tillate.",
		"Opplysningane vart samla inn til føremålet «%s». Her blir dei brukte til noko anna, og det må heimlane nedanfor tillate.",
		"The information was collected for the purpose “%s”. Here it is used for something else, which the legal bases below must permit.",
	}
	pRights = map[broker.AccessRights]phrase{
		broker.Public:     {"Datasettet er offentlig.", "Datasettet er offentleg.", "The dataset is public."},
		broker.Restricted: {"Datasettet har begrenset tilgang.", "Datasettet har avgrensa tilgang.", "Access to the dataset is restricted."},
		broker.NonPublic:  {"Datasettet er ikke offentlig, så taushetsplikten må være opphevet overfor mottakeren.", "Datasettet er ikkje offentleg, så teieplikta må vere oppheva overfor mottakaren.", "The dataset is not public, so the duty of confidentiality must be lifted towards the recipient."},
	}
	pStatus = map[broker.AgreementStatus]phrase{
		broker.Proposed:  {"Avtalen er foreslått og gjelder ikke ennå. Ingenting utleveres.", "Avtalen er føreslått og gjeld ikkje enno. Ingenting blir utlevert.", "The agreement is proposed and not in force yet. Nothing is delivered."},
		broker.Accepted:  {"Avtalen er godtatt, men ikke satt i kraft. Ingenting utleveres.", "Avtalen er godteken, men ikkje sett i kraft. Ingenting blir utlevert.", "The agreement is accepted, but not put in force. Nothing is delivered."},
		broker.Active:    {"Avtalen er satt i kraft.", "Avtalen er sett i kraft.", "The agreement is in force."},
		broker.Suspended: {"Avtalen er stanset. Ingenting utleveres så lenge den er det.", "Avtalen er stansa. Ingenting blir utlevert så lenge han er det.", "The agreement is suspended. Nothing is delivered while it is."},
		broker.Ended:     {"Avtalen er avsluttet. Ingenting utleveres.", "Avtalen er avslutta. Ingenting blir utlevert.", "The agreement has ended. Nothing is delivered."},
	}
	pValid     = phrase{"Den gjelder %s.", "Han gjeld %s.", "It is valid %s."}
	pFramework = phrase{"Den følger rammeavtalen %s.", "Han følgjer rammeavtalen %s.", "It follows the framework agreement %s."}

	pWho        = phrase{"Hvem", "Kven", "Who"}
	pGives      = phrase{"Gir opplysningene: %s.", "Gjev opplysningane: %s.", "Gives the information: %s."}
	pGets       = phrase{"Mottar opplysningene: %s, som er %s.", "Tek imot opplysningane: %s, som er %s.", "Receives the information: %s, which is %s."}
	pGetsOnly   = phrase{"Mottar opplysningene: %s.", "Tek imot opplysningane: %s.", "Receives the information: %s."}
	pNoSupplier = phrase{"Ingen leverandør mottar på mottakerens vegne.", "Ingen leverandør tek imot på vegner av mottakaren.", "No supplier receives on the recipient's behalf."}
	pSupplier   = phrase{
		"Leverandøren %s mottar på mottakerens vegne, og bare så lenge mottakeren har gitt fullmakt til det:",
		"Leverandøren %s tek imot på vegner av mottakaren, og berre så lenge mottakaren har gjeve fullmakt til det:",
		"The supplier %s receives on the recipient's behalf, and only while the recipient has delegated that:",
	}
	pDelegation   = phrase{"Fullmakt %s, for %s, gjelder %s.", "Fullmakt %s, for %s, gjeld %s.", "Delegation %s, for %s, valid %s."}
	pNoDelegation = phrase{"Ingen slik fullmakt er registrert, så leverandøren får ingenting.", "Inga slik fullmakt er registrert, så leverandøren får ingenting.", "No such delegation is registered, so the supplier gets nothing."}

	pWhat   = phrase{"Hva som utleveres", "Kva som blir utlevert", "What is delivered"}
	pFields = phrase{
		"Bare det som rettighetspakken %s versjon %d («%s») nevner, utleveres (antall felter: %d):",
		"Berre det som rettspakka %s versjon %d («%s») nemner, blir utlevert (talet på felt: %d):",
		"Only what rights package %s version %d (“%s”) names is delivered (number of fields: %d):",
	}
	pField       = phrase{"%s (%s)", "%s (%s)", "%s (%s)"}
	pConcept     = phrase{"Begrepet er beskrevet på %s", "Omgrepet er skildra på %s", "The concept is described at %s"}
	pDerivations = phrase{
		"Disse svarene regnes ut av opplysningen. Det de regnes ut av, følger ikke med dem (antall svar: %d):",
		"Desse svara blir rekna ut av opplysninga. Det dei blir rekna ut av, følgjer ikkje med dei (talet på svar: %d):",
		"These answers are worked out of the record. What they are worked out of does not leave with them (number of answers: %d):",
	}
	pHousehold = phrase{
		"Rettighetspakken %s versjon %d («%s») svarer på spørsmål om flere samlet, fra %d til %d om gangen. Bare disse svarene utleveres:",
		"Rettspakka %s versjon %d («%s») svarar på spørsmål om fleire samla, frå %d til %d om gongen. Berre desse svara blir utleverte:",
		"Rights package %s version %d (“%s”) answers on several subjects together, from %d to %d at a time. Only these answers are delivered:",
	}
	pHouseEach = phrase{
		"De regnes ut av dette om hver enkelt, som ikke utleveres:",
		"Dei blir rekna ut av dette om kvar einskild, som ikkje blir utlevert:",
		"They are worked out of this on each subject, which is not delivered:",
	}
	pHouseSkips = phrase{"Den som det ikke finnes noen opplysning om, teller ikke med.", "Den som det ikkje finst noka opplysning om, tel ikkje med.", "A subject without a record does not count."}
	pHouseFails = phrase{"Finnes det ingen opplysning om en av dem, gis det ikke svar.", "Finst det inga opplysning om ein av dei, blir det ikkje gjeve svar.", "Where one of them has no record, there is no answer."}

	pPackageAssessed = phrase{"Omfanget er vurdert.", "Omfanget er vurdert.", "The extent has been assessed."}

	pRecords   = phrase{"Hvilke opplysninger det gjelder", "Kva opplysningar det gjeld", "Which records"}
	pFilterIn  = phrase{"Bare opplysninger der %s er %s.", "Berre opplysningar der %s er %s.", "Only records whose %s is %s."}
	pFilterOut = phrase{"Ikke opplysninger der %s er %s.", "Ikkje opplysningar der %s er %s.", "Not records whose %s is %s."}
	pNoFilter  = phrase{"Rettighetspakken holder ingen opplysninger utenfor.", "Rettspakka held ingen opplysningar utanfor.", "The rights package leaves no records out."}
	pNoSubs    = phrase{"Ingen abonnement bruker avtalen, så ingenting utleveres ennå.", "Ingen abonnement bruker avtalen, så ingenting blir utlevert enno.", "No subscription puts the agreement to use, so nothing is delivered yet."}
	pSubs      = phrase{"Avtalen tas i bruk slik:", "Avtalen blir teken i bruk slik:", "The agreement is put to use so:"}
	pSub       = phrase{"Abonnement %s:", "Abonnement %s:", "Subscription %s:"}
	pScopeAll  = phrase{"alle opplysninger i datasettet", "alle opplysningar i datasettet", "all records of the dataset"}
	pScopeAttr = phrase{"opplysninger der %s er %s", "opplysningar der %s er %s", "records whose %s is %s"}
	pScopeList = phrase{"bare om dem som mottakeren har registrert sak om, eller som har gitt samtykke", "berre om dei som mottakaren har registrert sak om, eller som har gjeve samtykke", "only on those on whom the recipient has registered a case, or who have given consent"}
	pChannels  = map[broker.Channel]phrase{
		broker.Feed:         {"mottakeren henter dem i postkassen %s", "mottakaren hentar dei i postkassa %s", "the recipient fetches them from the mailbox %s"},
		broker.Webhook:      {"de sendes til mottakerens adresse, postkassen %s", "dei blir sende til adressa til mottakaren, postkassa %s", "they are sent to the recipient's address, mailbox %s"},
		broker.KafkaChannel: {"mottakeren leser dem på Kafka, postkassen %s", "mottakaren les dei på Kafka, postkassa %s", "the recipient reads them on Kafka, mailbox %s"},
	}
	pLookup    = phrase{"mottakeren kan slå opp én om gangen", "mottakaren kan slå opp éin om gongen", "the recipient can look up one at a time"}
	pSuspended = phrase{"Det er stanset.", "Det er stansa.", "It is suspended."}
	pFrozen    = phrase{"Alt herfra er stanset inntil videre.", "Alt herfrå er stansa inntil vidare.", "All of this is frozen for now."}

	pCorrTitle   = phrase{"Når en opplysning rettes", "Når ei opplysning blir retta", "When a record is corrected"}
	pCorrections = map[broker.Corrections]phrase{
		broker.DeliverCorrections: {"Rettelser og tilbaketrekkinger leveres som andre opplysninger, på de samme vilkårene.", "Rettingar og tilbaketrekkingar blir leverte som andre opplysningar, på dei same vilkåra.", "Corrections and retractions are delivered as other records are, on the same conditions."},
		broker.NotifyCorrections:  {"Mottakeren får vite hvilken leveranse som er rettet eller trukket tilbake, men ikke innholdet.", "Mottakaren får vite kva leveranse som er retta eller trekt tilbake, men ikkje innhaldet.", "The recipient is told which delivery is corrected or retracted, and not what it says."},
		broker.RefuseCorrections:  {"Rettelser og tilbaketrekkinger leveres ikke.", "Rettingar og tilbaketrekkingar blir ikkje leverte.", "Corrections and retractions are not delivered."},
	}
	pCorrNone = phrase{"Avtalen sier ikke hva som skjer da, så rettelser leveres ikke.", "Avtalen seier ikkje kva som skjer då, så rettingar blir ikkje leverte.", "The agreement does not say what happens then, so corrections are not delivered."}
	pDuty     = phrase{
		"Den som har fått en opplysning, får likevel vite at den er rettet eller trukket tilbake når retten til innholdet er slutt (GDPR artikkel 19).",
		"Den som har fått ei opplysning, får likevel vite at ho er retta eller trekt tilbake når retten til innhaldet er slutt (GDPR artikkel 19).",
		"Who was given a record is told all the same that it is corrected or retracted, when the right to its content has ended (GDPR article 19).",
	}

	pCostTitle = phrase{"Hvem som betaler", "Kven som betaler", "Who pays"}
	pCosts     = map[broker.CostModel]phrase{
		broker.Free:       {"Utleveringen er gratis.", "Utleveringa er gratis.", "Delivery is free of charge."},
		broker.PerRecord:  {"Det betales for hver opplysning.", "Det blir betalt for kvar opplysning.", "Each record is paid for."},
		broker.PerInhab:   {"Det betales etter antall innbyggere.", "Det blir betalt etter talet på innbyggjarar.", "Payment is by the number of inhabitants."},
		broker.YearlyBand: {"Det betales et fast beløp i året etter omfang.", "Det blir betalt eit fast beløp i året etter omfang.", "A fixed amount is paid each year, by volume."},
		broker.PoolShare:  {"Det betales en andel av felles kostnader.", "Det blir betalt ein del av felles kostnader.", "A share of common costs is paid."},
		broker.JoiningFee: {"Det betales én gang, ved tilknytning.", "Det blir betalt éin gong, ved tilknyting.", "It is paid once, on joining."},
	}
	pCostNone  = phrase{"Avtalen sier ikke hvordan kostnadene dekkes.", "Avtalen seier ikkje korleis kostnadene blir dekte.", "The agreement does not say how costs are covered."}
	pPayer     = phrase{"Betaler: %s.", "Betalar: %s.", "Paid by: %s."}
	pCeiling   = phrase{"Taket er %s leveranser. Når det er nådd, leveres ikke mer.", "Taket er %s leveransar. Når det er nådd, blir ikkje meir levert.", "The ceiling is %s deliveries. When it is reached, no more is delivered."}
	pNoCeiling = phrase{"Det er ikke noe tak for antall leveranser.", "Det er ikkje noko tak for talet på leveransar.", "There is no ceiling on the number of deliveries."}

	pAnswer      = phrase{"Hvem som svarer for det", "Kven som svarer for det", "Who answers for it"}
	pController1 = phrase{"Behandlingsansvarlig for å gi opplysningene: %s.", "Behandlingsansvarleg for å gje opplysningane: %s.", "Controller for giving the information: %s."}
	pController2 = phrase{"Behandlingsansvarlig for å bruke dem: %s.", "Behandlingsansvarleg for å bruke dei: %s.", "Controller for using it: %s."}
	pContact     = phrase{"Spørsmål til %s: %s.", "Spørsmål til %s: %s.", "Questions to %s: %s."}
	pProcessor   = phrase{"Databehandler for %s: %s, som står for %s, etter databehandleravtale %s. Sted: %s.", "Databehandlar for %s: %s, som står for %s, etter databehandlaravtale %s. Stad: %s.", "Processor for %s: %s, which does %s, under the processing contract %s. Place: %s."}
	pLocations   = phrase{"Mottakeren behandler opplysningene i %s.", "Mottakaren behandlar opplysningane i %s.", "The recipient processes the information in %s."}
	pTransfer    = phrase{"Grunnlag for overføring ut av EØS: %s.", "Grunnlag for overføring ut av EØS: %s.", "Ground for transfer out of the EEA: %s."}
	pTransfers   = map[broker.Transfer]phrase{
		broker.Adequacy:        {"beslutning om tilstrekkelig beskyttelse (GDPR artikkel 45)", "avgjerd om tilstrekkeleg vern (GDPR artikkel 45)", "an adequacy decision (GDPR article 45)"},
		broker.StandardClauses: {"standardbestemmelser (GDPR artikkel 46 nr. 2 bokstav c)", "standardføresegner (GDPR artikkel 46 nr. 2 bokstav c)", "standard clauses (GDPR article 46(2)(c))"},
		broker.BindingRules:    {"bindende virksomhetsregler (GDPR artikkel 47)", "bindande verksemdsreglar (GDPR artikkel 47)", "binding corporate rules (GDPR article 47)"},
		broker.PublicBodies:    {"bindende ordning mellom myndigheter (GDPR artikkel 46 nr. 2 bokstav a)", "bindande ordning mellom styresmakter (GDPR artikkel 46 nr. 2 bokstav a)", "a binding instrument between authorities (GDPR article 46(2)(a))"},
	}
)
