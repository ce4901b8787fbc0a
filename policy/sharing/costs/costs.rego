# METADATA
# title: Cost coverage (kostnadsdekning)
# description: How a delivery is paid for, by whom, and how much at the most.
# scope: package
package sharing.costs

# METADATA
# title: Cost cover is agreed
# scope: document
# custom:
#   cites:
#   - The agreement, its cost cover
#   message:
#     nb: Avtalen sier ikke hvordan kostnadene dekkes.
#     nn: Avtalen seier ikkje korleis kostnadene blir dekte.
#     en: The agreement does not say how the costs are covered.
#   remedy:
#     nb: Avtal en modell for kostnadsdekning. Også gratis må være avtalt.
#     nn: Avtal ein modell for kostnadsdekning. Også gratis må vere avtalt.
#     en: Agree on a model of cost cover. Free of charge has to be agreed too.
cleared["cost_not_agreed"] if input.agreement.cost.model in models

models := {"free", "per-record", "per-inhabitant", "yearly-band", "pool-share", "joining-fee"}

# METADATA
# title: The payer is named
# scope: document
# custom:
#   cites:
#   - The agreement, its cost cover
#   message:
#     nb: Avtalen sier ikke hvem som betaler.
#     nn: Avtalen seier ikkje kven som betaler.
#     en: The agreement does not say who pays.
#   remedy:
#     nb: Før opp betaleren i avtalen, eller avtal at leveransen er gratis.
#     nn: Før opp betalaren i avtalen, eller avtal at leveransen er gratis.
#     en: Name the payer in the agreement, or agree that delivery is free of charge.
cleared["payer_missing"] if {
	input.agreement.cost.model == "free"
	input.agreement.cost.payer == ""
}

cleared["payer_missing"] if input.agreement.cost.payer != ""

# METADATA
# title: The ceiling is not reached
# scope: document
# custom:
#   cites:
#   - The agreement, its ceiling
#   message:
#     nb: Avtalens tak for antall leveranser er nådd.
#     nn: Taket i avtalen for talet på leveransar er nådd.
#     en: The agreement's ceiling on deliveries is reached.
#   remedy:
#     nb: Avtal et høyere tak, eller en ny avtale.
#     nn: Avtal eit høgare tak, eller ein ny avtale.
#     en: Agree on a higher ceiling, or make a new agreement.
cleared["ceiling_reached"] if input.agreement.cost.ceiling == 0

cleared["ceiling_reached"] if {
	input.agreement.cost.ceiling > 0
	input.usage.delivered < input.usage.granted
}
