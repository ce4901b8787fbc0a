# METADATA
# title: Responsibility (ansvar)
# description: |
#   Who answers for what: the agreement and its parties, the controller on each
#   side, the supplier, and what is done with corrections.
# scope: package
package sharing.responsibility

# METADATA
# title: Nothing that it concerns is frozen
# scope: document
# custom:
#   cites:
#   - The broker's freeze switch
#   - GDPR article 32
#   message:
#     nb: Datasettet, mottakeren eller postkassen er frosset, og da deles ingenting.
#     nn: Datasettet, mottakaren eller postkassa er frose, og då blir ingenting delt.
#     en: The dataset, the receiver or the mailbox is frozen, so nothing is shared.
#   remedy:
#     nb: Den som frøs, kan oppheve det når grunnen er borte. Registeret sier hvem det var, og hvorfor.
#     nn: Den som fraus, kan oppheve det når grunnen er borte. Registeret seier kven det var, og kvifor.
#     en: Whoever froze it can lift that when the cause is gone. The registry says who it was, and why.
cleared["frozen"] if input.frozen == false

# METADATA
# title: The agreement is active
# scope: document
# custom:
#   cites:
#   - The agreement, its status
#   - GDPR article 5(2)
#   message:
#     nb: Avtalen er ikke aktiv.
#     nn: Avtalen er ikkje aktiv.
#     en: The agreement is not active.
#   remedy:
#     nb: Begge parter må godta avtalen og sette den i kraft, eller oppheve stansen av den. Er den avsluttet, må de inngå en ny.
#     nn: Begge partane må godta avtalen og setje han i kraft, eller oppheve stansen av han. Er han avslutta, må dei inngå ein ny.
#     en: Both parties must accept the agreement and put it into effect, or lift its suspension. If it has ended, they must make a new one.
cleared["agreement_not_active"] if input.agreement.status == "active"

# METADATA
# title: The agreement runs
# scope: document
# custom:
#   cites:
#   - The agreement, its interval
#   message:
#     nb: Avtalen har ikke begynt å løpe, eller den er utløpt.
#     nn: Avtalen har ikkje teke til å løpe, eller han er utgått.
#     en: The agreement has not begun, or it is over.
#   remedy:
#     nb: Vent til avtalen begynner, eller forleng den.
#     nn: Vent til avtalen tek til, eller forleng han.
#     en: Wait until the agreement begins, or extend it.
cleared["agreement_outside_interval"] if {
	input.agreement.valid.from <= input.time
	input.time < input.agreement.valid.to
}

# METADATA
# title: The subscription is not suspended
# scope: document
# custom:
#   cites:
#   - The agreement, its subscription
#   message:
#     nb: Abonnementet er stanset.
#     nn: Abonnementet er stansa.
#     en: The subscription is suspended.
#   remedy:
#     nb: Den som stanset abonnementet, kan åpne det igjen.
#     nn: Den som stansa abonnementet, kan opne det att.
#     en: Whoever suspended the subscription can resume it.
cleared["subscription_suspended"] if {
	input.subscription.suspended == false
	input.subscription.agreement == input.agreement.id
}

# METADATA
# title: The mailbox is not suspended
# scope: document
# custom:
#   cites:
#   - The agreement, its mailbox
#   message:
#     nb: Postkassen er stanset.
#     nn: Postkassa er stansa.
#     en: The mailbox is suspended.
#   remedy:
#     nb: Den som stanset postkassen, kan åpne den igjen.
#     nn: Den som stansa postkassa, kan opne henne att.
#     en: Whoever suspended the mailbox can resume it.
cleared["mailbox_suspended"] if input.mailbox.suspended == false

# METADATA
# title: The mailbox is the receiver's
# scope: document
# custom:
#   cites:
#   - The agreement, its parties
#   - GDPR article 5(1)(f)
#   - GDPR article 32
#   message:
#     nb: Postkassen tilhører en annen virksomhet enn den som avtalen gir rett til å motta.
#     nn: Postkassa høyrer til ei anna verksemd enn den som avtalen gir rett til å ta imot.
#     en: The mailbox belongs to another organisation than the one that the agreement lets receive.
#   remedy:
#     nb: Bruk en postkasse som tilhører konsumenten, eller leverandøren når avtalen har en.
#     nn: Bruk ei postkasse som høyrer til konsumenten, eller leverandøren når avtalen har ein.
#     en: Use a mailbox of the consumer, or of the supplier where the agreement has one.
cleared["mailbox_not_receivers"] if {
	input.agreement.supplier == ""
	input.mailbox.organisation == input.agreement.consumer
}

cleared["mailbox_not_receivers"] if {
	input.agreement.supplier != ""
	input.mailbox.organisation == input.agreement.supplier
}

# METADATA
# title: The provider owns the dataset
# scope: document
# custom:
#   cites:
#   - The agreement, its provider and dataset
#   - GDPR article 4(7)
#   - GDPR article 24
#   message:
#     nb: Avtalens tilbyder er ikke den som eier datasettet.
#     nn: Tilbydaren i avtalen er ikkje den som eig datasettet.
#     en: The agreement's provider is not the owner of the dataset.
#   remedy:
#     nb: Inngå avtalen med virksomheten som eier datasettet.
#     nn: Inngå avtalen med verksemda som eig datasettet.
#     en: Make the agreement with the organisation that owns the dataset.
cleared["provider_not_owner"] if {
	input.dataset.id == input.agreement.dataset
	input.dataset.owner == input.agreement.provider
}

# METADATA
# title: The rights package is for the dataset
# scope: document
# custom:
#   cites:
#   - The agreement, its rights package
#   - GDPR article 5(1)(c)
#   message:
#     nb: Rettighetspakken gjelder ikke datasettet i avtalen.
#     nn: Rettigheitspakka gjeld ikkje datasettet i avtalen.
#     en: The rights package is not for the agreement's dataset.
#   remedy:
#     nb: Velg en rettighetspakke som er vurdert for dette datasettet.
#     nn: Vel ei rettigheitspakke som er vurdert for dette datasettet.
#     en: Choose a rights package that was assessed for this dataset.
cleared["package_not_for_dataset"] if {
	input.rightsPackage.id == input.agreement.rightsPackage.id
	input.rightsPackage.version == input.agreement.rightsPackage.version
	input.rightsPackage.dataset == input.agreement.dataset
}

# METADATA
# title: A controller on the provider's side
# scope: document
# custom:
#   cites:
#   - The agreement, its responsibility
#   - GDPR article 4(7)
#   - GDPR article 24
#   message:
#     nb: Avtalen sier ikke hvem som er behandlingsansvarlig hos tilbyderen.
#     nn: Avtalen seier ikkje kven som er behandlingsansvarleg hos tilbydaren.
#     en: The agreement does not say who is controller on the provider's side.
#   remedy:
#     nb: Før opp tilbyderens behandlingsansvarlige i avtalen.
#     nn: Før opp den behandlingsansvarlege hos tilbydaren i avtalen.
#     en: Name the provider's controller in the agreement.
cleared["provider_controller_missing"] if input.agreement.responsibility.providerController != ""

# METADATA
# title: A controller on the consumer's side
# scope: document
# custom:
#   cites:
#   - The agreement, its responsibility
#   - GDPR article 4(7)
#   - GDPR article 24
#   message:
#     nb: Avtalen sier ikke hvem som er behandlingsansvarlig hos konsumenten.
#     nn: Avtalen seier ikkje kven som er behandlingsansvarleg hos konsumenten.
#     en: The agreement does not say who is controller on the consumer's side.
#   remedy:
#     nb: Før opp konsumentens behandlingsansvarlige i avtalen.
#     nn: Før opp den behandlingsansvarlege hos konsumenten i avtalen.
#     en: Name the consumer's controller in the agreement.
cleared["consumer_controller_missing"] if input.agreement.responsibility.consumerController != ""

# METADATA
# title: The supplier acts by a recorded delegation
# scope: document
# custom:
#   cites:
#   - The agreement, its supplier
#   - GDPR article 28
#   message:
#     nb: Konsumenten har ikke gitt leverandøren fullmakt for dette datasettet.
#     nn: Konsumenten har ikkje gitt leverandøren fullmakt for dette datasettet.
#     en: The consumer has not delegated this dataset to the supplier.
#   remedy:
#     nb: Konsumenten må registrere en fullmakt til leverandøren for datasettet.
#     nn: Konsumenten må registrere ei fullmakt til leverandøren for datasettet.
#     en: The consumer must record a delegation of the dataset to the supplier.
cleared["supplier_not_delegated"] if input.agreement.supplier == ""

cleared["supplier_not_delegated"] if {
	some delegation in input.delegations
	delegates(delegation)
}

# METADATA
# title: The delegation is in force
# scope: document
# custom:
#   cites:
#   - The delegation, its interval
#   - GDPR article 28
#   message:
#     nb: Fullmakten til leverandøren har ikke begynt å gjelde, eller den er utløpt.
#     nn: Fullmakta til leverandøren har ikkje teke til å gjelde, eller ho er utgått.
#     en: The supplier's delegation has not begun, or it is over.
#   remedy:
#     nb: Konsumenten må fornye fullmakten, eller vente til den begynner å gjelde.
#     nn: Konsumenten må fornye fullmakta, eller vente til ho tek til å gjelde.
#     en: The consumer must renew the delegation, or wait until it begins.
cleared["delegation_not_in_force"] if input.agreement.supplier == ""

cleared["delegation_not_in_force"] if {
	some delegation in input.delegations
	delegates(delegation)
	delegation.valid.from <= input.time
	input.time < delegation.valid.to
}

delegates(delegation) if {
	input.agreement.supplier != ""
	delegation.from == input.agreement.consumer
	delegation.to == input.agreement.supplier
	input.agreement.dataset in delegation.datasets
}

# METADATA
# title: Corrections and retractions go where they are agreed
# scope: document
# custom:
#   cites:
#   - The agreement, its corrections
#   - GDPR article 5(1)(d)
#   - GDPR article 19
#   message:
#     nb: Oppføringen retter eller trekker tilbake en tidligere, og avtalen tar ikke imot slike.
#     nn: Oppføringa rettar eller trekkjer tilbake ei tidlegare, og avtalen tek ikkje imot slike.
#     en: The record corrects or retracts an earlier one, and the agreement does not take these.
#   remedy:
#     nb: Endre avtalen slik at rettelser og tilbaketrekkinger leveres.
#     nn: Endre avtalen slik at rettingar og tilbaketrekkingar blir leverte.
#     en: Change the agreement so that corrections and retractions are delivered.
cleared["corrections_not_agreed"] if input.record.kind == "original"

cleared["corrections_not_agreed"] if {
	input.agreement.corrections == "deliver"
	input.record.kind == "correction"
}

cleared["corrections_not_agreed"] if {
	input.agreement.corrections == "deliver"
	input.record.kind == "retraction"
}

# A notice carries no data: the broker leaves all fields out.
cleared["corrections_not_agreed"] if {
	input.agreement.corrections == "notify"
	input.record.kind == "correction"
}

cleared["corrections_not_agreed"] if {
	input.agreement.corrections == "notify"
	input.record.kind == "retraction"
}
