package inwords

import "datafordeler/broker"

// The sentences on law, conditions, answers and derivations.
var (
	pWhy     = phrase{"Hjemlene: hvorfor det er lov", "Heimlane: kvifor det er lov", "The legal bases: why it is permitted"}
	pNoBases = phrase{"Avtalen nevner ingen hjemmel, så ingenting kan utleveres.", "Avtalen nemner ingen heimel, så ingenting kan bli utlevert.", "The agreement names no legal basis, so nothing may be delivered."}
	pBases   = phrase{
		"Det trengs hjemmel for å gi, hjemmel for å innhente, og unntak fra taushetsplikten der opplysningene ikke er offentlige. Avtalen bygger på:",
		"Det trengst heimel for å gje, heimel for å hente inn, og unntak frå teieplikta der opplysningane ikkje er offentlege. Avtalen byggjer på:",
		"There must be a basis for giving, a basis for collecting, and an exception from confidentiality where the information is not public. The agreement rests on:",
	}
	pStatute   = phrase{"lov eller forskrift", "lov eller forskrift", "statute or regulation"}
	pByConsent = phrase{"samtykke", "samtykke", "consent"}
	pBasis     = phrase{"%s: «%s» (%s%s; %s).", "%s: «%s» (%s%s; %s).", "%s: “%s” (%s%s; %s)."}
	pELI       = phrase{"(Kilde: %s)", "(Kjelde: %s)", "(Source: %s)"}
	pSides     = phrase{"Den gir rett til %s.", "Han gjev rett til %s.", "It permits %s."}
	pSide      = map[broker.Side]phrase{
		broker.Disclosure:      {"å gi opplysningene", "å gje opplysningane", "giving the information"},
		broker.Collection:      {"å innhente dem", "å hente dei inn", "collecting it"},
		broker.Confidentiality: {"å gjøre unntak fra taushetsplikten", "å gjere unntak frå teieplikta", "an exception from confidentiality"},
	}
	pReach = phrase{
		"Den gjelder datasettene %s, formålene %s og mottakerne %s.",
		"Han gjeld datasetta %s, føremåla %s og mottakarane %s.",
		"It covers the datasets %s, the purposes %s and the recipients %s.",
	}
	pBasisValid = phrase{"Den gjelder %s.", "Han gjeld %s.", "It is in force %s."}
	pAssessed   = phrase{"Vurdert av %s.", "Vurdert av %s.", "Assessed by %s."}
	pAssessedAt = phrase{"Vurdert av %s %s.", "Vurdert av %s %s.", "Assessed by %s, %s."}
	pReview     = phrase{"Skal vurderes på nytt innen %s.", "Skal vurderast på nytt innan %s.", "To be reviewed by %s."}
	pOverdue    = phrase{"Skulle vært vurdert på nytt innen %s, og det er ikke gjort.", "Skulle vore vurdert på nytt innan %s, og det er ikkje gjort.", "Was to be reviewed by %s, and has not been."}
	pNote       = phrase{"Merknad: %s", "Merknad: %s", "Note: %s"}
	pRests      = phrase{"Bygger på vurderingen %s.", "Byggjer på vurderinga %s.", "Rests on the assessment %s."}

	pLibrary    = phrase{"Juridiske vurderinger det bygger på", "Juridiske vurderingar det byggjer på", "Legal assessments it rests on"}
	pAssessment = phrase{"%s: «%s». Spørsmål: %s Svar: %s", "%s: «%s». Spørsmål: %s Svar: %s", "%s: “%s”. Question: %s Answer: %s"}
	pSources    = phrase{"Kilder: %s.", "Kjelder: %s.", "Sources: %s."}

	pConditions    = phrase{"Vilkår", "Vilkår", "Conditions"}
	pCondValid     = phrase{"Avtalen er i kraft og gjelder på tidspunktet.", "Avtalen er i kraft og gjeld på tidspunktet.", "The agreement is in force at the time."}
	pCondCase      = phrase{"%s krever at mottakeren har en åpen sak om den opplysningen gjelder.", "%s krev at mottakaren har ei open sak om den opplysninga gjeld.", "%s requires that the recipient has an open case on the subject."}
	pCondConsent   = phrase{"%s krever at den opplysningen gjelder, har samtykket til at denne mottakeren får den for dette formålet. Samtykket kan trekkes når som helst.", "%s krev at den opplysninga gjeld, har samtykt til at denne mottakaren får ho for dette føremålet. Samtykket kan trekkjast når som helst.", "%s requires that the subject has consented to this recipient having it for this purpose. The consent can be withdrawn at any time."}
	pCondResource  = phrase{"Samtykket gis i Altinn (ressurs %s).", "Samtykket blir gjeve i Altinn (ressurs %s).", "The consent is given in Altinn (resource %s)."}
	pCondBounded   = phrase{"Det teller bare når det er gitt for %s.", "Det tel berre når det er gjeve for %s.", "It counts only where it was given for %s."}
	pCondAnyValue  = phrase{"hvilken verdi som helst", "kva verdi som helst", "any value"}
	pCondJustified = phrase{"Hvorfor en offentlig mottaker ber om samtykke: %s", "Kvifor ein offentleg mottakar ber om samtykke: %s", "Why a public authority asks for consent: %s"}
	pMerged        = phrase{"MERK: %s ble slått sammen med %s %s. Avtalen regnes som avsluttet; den som overtok, trenger en egen, med eget grunnlag.", "MERK: %s vart slått saman med %s %s. Avtalen er rekna som avslutta; den som tok over, treng ein eigen, med eige grunnlag.", "NOTE: %s was merged into %s on %s. The agreement counts as ended; whoever took over needs one of its own, by a basis of its own."}
	pDeleted       = phrase{"MERK: %s ble slettet fra enhetsregisteret %s. Avtalen regnes som avsluttet.", "MERK: %s vart sletta frå einingsregisteret %s. Avtalen er rekna som avslutta.", "NOTE: %s was deleted from the register of legal entities on %s. The agreement counts as ended."}
	pVisibleLater  = phrase{"Den det gjelder ser selv hva som er avgjort etter avtalen %s etterpå, fordi %s %s lar det vente. Tilsyn og parter ser det med en gang.", "Den det gjeld, ser sjølv kva som er avgjort etter avtalen %s etterpå, fordi %s %s lèt det vente. Tilsyn og partar ser det med ein gong.", "The person concerned sees what was decided under the agreement %s later, because %s %s lets it wait. Auditors and parties see it at once."}
	pOneDay        = phrase{"en dag", "ein dag", "a day"}
	pSomeDays      = phrase{"%d dager", "%d dagar", "%d days"}
	pWithdrawStop  = phrase{"Trekkes samtykket, slutter mottakeren å bruke det som er mottatt, og kvitterer innen %s.", "Blir samtykket trekt, sluttar mottakaren å bruke det som er motteke, og kvitterer innan %s.", "When the consent is withdrawn, the recipient stops using what was received, and gives a receipt within %s."}
	pWithdrawDrop  = phrase{"Trekkes samtykket, sletter mottakeren det som er mottatt, og kvitterer innen %s.", "Blir samtykket trekt, slettar mottakaren det som er motteke, og kvitterer innan %s.", "When the consent is withdrawn, the recipient deletes what was received, and gives a receipt within %s."}
	pWithdrawKeep  = phrase{"Trekkes samtykket, beholder mottakeren det som er mottatt bare fordi %s %s krever det, og kvitterer innen %s.", "Blir samtykket trekt, tek mottakaren vare på det som er motteke berre fordi %s %s krev det, og kvitterer innan %s.", "When the consent is withdrawn, the recipient keeps what was received only because %s %s demands it, and gives a receipt within %s."}
	pCondAbout     = phrase{"%s gjelder bare opplysninger der %s er %s.", "%s gjeld berre opplysningar der %s er %s.", "%s reaches only records whose %s is %s."}
	pCondBetween   = phrase{"fra %s til og med %s", "frå %s til og med %s", "from %s through %s"}
	pCondAtLeast   = phrase{"%s eller senere", "%s eller seinare", "%s or later"}
	pCondAtMost    = phrase{"%s eller tidligere", "%s eller tidlegare", "%s or earlier"}
	pCondNothing   = phrase{"hva som helst", "kva som helst", "anything"}
	pCondCeiling   = phrase{"Taket på %s leveranser er ikke nådd.", "Taket på %s leveransar er ikkje nådd.", "The ceiling of %s deliveries is not reached."}
	pCondSupplier  = phrase{"Mottakerens fullmakt til leverandøren gjelder på tidspunktet.", "Fullmakta frå mottakaren til leverandøren gjeld på tidspunktet.", "The recipient's delegation to the supplier is in force at the time."}

	pShielding  = phrase{"Adressebeskyttede", "Adresseverna", "Protected persons"}
	pNoShield   = phrase{"Rettighetspakken skjermer ingenting.", "Rettspakka skjermar ingenting.", "The rights package shields nothing."}
	pShieldFrom = phrase{"Verdien av %s slås opp i folkeregisterets opplysninger om vern når det avgjøres; er de ikke kjent, regnes ingen som uten vern.", "Verdien av %s blir slegen opp i opplysningane om vern frå folkeregisteret når det blir avgjort; er dei ikkje kjende, er ingen rekna som utan vern.", "The value of %s is looked up in what the population register says of protection when it is decided; while that is not known, nobody counts as unprotected."}
	pShieldWhen = phrase{"Opplysningen skjermes når %s er %s.", "Opplysninga blir skjerma når %s er %s.", "The record is shielded when %s is %s."}
	pShieldNot  = phrase{"Opplysningen skjermes når %s er noe annet enn %s, også når det ikke er oppgitt.", "Opplysninga blir skjerma når %s er noko anna enn %s, òg når det ikkje er oppgjeve.", "The record is shielded when %s is anything but %s, also when it is not stated."}
	pShieldBody = phrase{"Da utleveres ikke noe av innholdet.", "Då blir ikkje noko av innhaldet utlevert.", "Then nothing of its content is delivered."}
	pShieldCut  = phrase{"Da får mottakeren vite at opplysningen er skjermet, og dette fjernes (antall felter: %d):", "Då får mottakaren vite at opplysninga er skjerma, og dette blir fjerna (talet på felt: %d):", "Then the recipient is told that the record is shielded, and this is taken out (number of fields: %d):"}

	pTables    = phrase{"Sannhetstabeller", "Sanningstabellar", "Truth tables"}
	pNoTables  = phrase{"Ingen sannhetstabell er registrert for avtalen.", "Ingen sanningstabell er registrert for avtalen.", "No truth table is registered for the agreement."}
	pTable     = phrase{"%s: «%s», %d situasjoner.", "%s: «%s», %d situasjonar.", "%s: “%s”, %d situations."}
	pSigned    = phrase{"Godkjent av %s %s. Avtalen og reglene kan ikke settes i kraft hvis de svarer noe annet.", "Godkjend av %s %s. Avtalen og reglane kan ikkje setjast i kraft om dei svarar noko anna.", "Signed off by %s, %s. The agreement and the rules cannot be put in force if they answer otherwise."}
	pChanged   = phrase{"Den er endret siden. Det er det godkjente som gjelder.", "Han er endra sidan. Det er det godkjende som gjeld.", "It has been changed since. What was signed off is what holds."}
	pNotSigned = phrase{"Den er ikke godkjent og binder ingenting.", "Han er ikkje godkjend og bind ingenting.", "It is not signed off and binds nothing."}
	pMustTable = phrase{"Avtalen kan ikke settes i kraft uten en godkjent sannhetstabell.", "Avtalen kan ikkje setjast i kraft utan ein godkjend sanningstabell.", "The agreement cannot be put in force without a truth table that is signed off."}

	pNow        = phrase{"Slik svarer reglene nå", "Slik svarar reglane no", "What the rules answer now"}
	pNoPolicy   = phrase{"Ingen regler er satt i kraft, så ingenting utleveres.", "Ingen reglar er sette i kraft, så ingenting blir utlevert.", "No policy is in force, so nothing is delivered."}
	pAsked      = phrase{"Reglene (%s) er spurt om en opplysning som ellers er i orden, %s:", "Reglane (%s) er spurde om ei opplysning som elles er i orden, %s:", "The policy (%s) was asked about a record that is otherwise in order, %s:"}
	pSituations = map[Situation]phrase{
		Neither: {"Uten sak og uten samtykke:", "Utan sak og utan samtykke:", "With no case and no consent:"},
		Case:    {"Med åpen sak, uten samtykke:", "Med open sak, utan samtykke:", "With an open case and no consent:"},
		Consent: {"Med samtykke, uten sak:", "Med samtykke, utan sak:", "With a consent and no case:"},
		Both:    {"Med åpen sak og samtykke:", "Med open sak og samtykke:", "With an open case and a consent:"},
	}
	pAlways   = phrase{"Enten det finnes sak og samtykke eller ikke:", "Anten det finst sak og samtykke eller ikkje:", "Whether or not there is a case or a consent:"}
	pPermit   = phrase{"den utleveres, etter %s.", "ho blir utlevert, etter %s.", "it is delivered, by %s."}
	pDeny     = phrase{"den utleveres ikke: %s", "ho blir ikkje utlevert: %s", "it is not delivered: %s"}
	pUnjudged = phrase{"reglene kunne ikke svare: %s", "reglane kunne ikkje svare: %s", "the rules could not answer: %s"}

	pDenies    = phrase{"Når det ikke utleveres", "Når det ikkje blir utlevert", "When it is not delivered"}
	pUnmet     = phrase{"Slik avtalen står, holdes alt tilbake fordi:", "Slik avtalen står, blir alt halde tilbake fordi:", "As the agreement stands, everything is withheld because:"}
	pDepends   = phrase{"Dette avhenger av opplysningen, tidspunktet og den det gjelder. Den holdes tilbake hvis:", "Dette kjem an på opplysninga, tidspunktet og den det gjeld. Ho blir halden tilbake om:", "This depends on the record, the time and the subject. It is withheld if:"}
	pMet       = phrase{"Dette er i orden så lenge avtalen står slik, og ville ellers holdt opplysningen tilbake:", "Dette er i orden så lenge avtalen står slik, og ville elles ha halde opplysninga tilbake:", "This is in order while the agreement stands so, and would withhold the record otherwise:"}
	pUnsettled = phrase{"Opplysningen holdes tilbake hvis:", "Opplysninga blir halden tilbake om:", "The record is withheld if:"}
	pCites     = phrase{"(Gjelder: %s.)", "(Gjeld: %s.)", "(Concerns: %s.)"}
	pRemedy    = phrase{"Hva kan gjøres: %s", "Kva kan gjerast: %s", "What can be done: %s"}
	pEveryDeny = phrase{"Hver gang noe holdes tilbake, blir det skrevet hvorfor.", "Kvar gong noko blir halde tilbake, blir det skrive kvifor.", "Whenever something is withheld, it is recorded why."}

	// Derivations.
	pDerived = phrase{"«%s» (%s): %s%s%s.", "«%s» (%s): %s%s%s.", "“%s” (%s): %s%s%s."}
	pOps     = map[broker.DerivationOp]phrase{
		broker.Sum:      {"summen av %s", "summen av %s", "the sum of %s"},
		broker.Count:    {"antallet %s", "talet på %s", "how many there are of %s"},
		broker.Min:      {"den minste %s", "den minste %s", "the least %s"},
		broker.Max:      {"den største %s", "den største %s", "the greatest %s"},
		broker.Distinct: {"hvor mange ulike %s", "kor mange ulike %s", "how many different %s"},
		broker.Latest:   {"den siste %s", "den siste %s", "the latest %s"},
	}
	pBy        = phrase{" etter %s", " etter %s", " by %s"}
	pRows      = phrase{" i %s", " i %s", " in %s"}
	pWhere     = phrase{", der %s", ", der %s", ", where %s"}
	pIn        = phrase{"%s er %s", "%s er %s", "%s is %s"}
	pNotIn     = phrase{"%s ikke er %s", "%s ikkje er %s", "%s is not %s"}
	pAtLeast   = phrase{"%s er minst %s", "%s er minst %s", "%s is at least %s"}
	pBelow     = phrase{"%s er under %s", "%s er under %s", "%s is below %s"}
	pDateFrom  = phrase{"%s er %s eller senere", "%s er %s eller seinare", "%s is %s or later"}
	pDateTo    = phrase{"%s er før %s", "%s er før %s", "%s is before %s"}
	pSkips     = phrase{" (mangler det, teller ikke raden)", " (manglar det, tel ikkje rada)", " (without it the row does not count)"}
	pHolds     = phrase{" (mangler det, teller raden med)", " (manglar det, tel rada med)", " (without it the row counts)"}
	pFails     = phrase{" (mangler det, gis det ikke svar)", " (manglar det, blir det ikkje gjeve svar)", " (without it there is no answer)"}
	pEmpty     = phrase{"; er det ingen, regnes %s", "; er det ingen, blir %s rekna", "; where there are none, %s counts"}
	pYesBelow  = phrase{"; svaret er ja når det er under %s, ellers nei", "; svaret er ja når det er under %s, elles nei", "; the answer is yes when that is below %s, otherwise no"}
	pYesAtMost = phrase{"; svaret er ja når det er høyst %s, ellers nei", "; svaret er ja når det er høgst %s, elles nei", "; the answer is yes when that is at most %s, otherwise no"}
	pYesAtLst  = phrase{"; svaret er ja når det er minst %s, ellers nei", "; svaret er ja når det er minst %s, elles nei", "; the answer is yes when that is at least %s, otherwise no"}
	pYesAbove  = phrase{"; svaret er ja når det er over %s, ellers nei", "; svaret er ja når det er over %s, elles nei", "; the answer is yes when that is above %s, otherwise no"}
	pBands     = phrase{"; svaret er %s", "; svaret er %s", "; the answer is %s"}
	pBand      = phrase{"%s under %s", "%s under %s", "%s below %s"}
	pBandLast  = phrase{"ellers %s", "elles %s", "otherwise %s"}
	pRecord    = phrase{"opplysningen", "opplysninga", "the record"}
)
