# METADATA
# title: May this caller do this?
# description: |
#   One question for one request at a door of the broker. What is known of the
#   token, the registry and the resource comes as a few words of closed sets; the
#   answer is `permit`, and what is undefined refuses.
#
#   The program decides the same in Go (broker/access/decide.go). A request is let
#   in only when both permit; where they differ it is refused, logged and counted.
#
#   These rules are built into the program. They are no part of the policy that
#   decides on records (package sharing), nor of its digest: they say who may knock,
#   not what may be shared.
# scope: package
package access

# METADATA
# title: The answer
# entrypoint: true
default permit := false

# Anybody whose token counts may see what the broker sees of them.
permit if input.action == "self.read"

# What there is to ask for is no secret among organisations.
permit if {
	organisation
	input.action == "catalogue.read"
}

# What is a party's own, a dataset or a delegation that it gave, it acts on by its own
# hands: no delegation that the registry knows of lets a supplier publish.
permit if {
	organisation
	input.scope
	input.action in {"records.publish", "rejections.read", "dataset.freeze", "delegation.withdraw", "deviation.answer"}
	input.relation == "owner"
	input.via == "self"
}

permit if {
	organisation
	input.scope
	entitled
	own_or_delegated
}

entitled if {
	input.action in {"mailbox.receive", "mailbox.stop"}
	input.relation == "receiver"
}

entitled if {
	input.action in {"subject.lookup", "cases.manage", "deviation.report", "obligation.receipt"}
	input.relation == "consumer"
}

entitled if {
	input.action == "decisions.read"
	input.relation == "party"
}

# Either party stops what they have agreed on, and takes its own steps towards it.
permit if {
	organisation
	input.scope
	input.action in {"agreement.suspend", "agreement.step"}
	input.relation == "party"
	input.via == "self"
}

# Whoever needs something says so, and offers and accepts terms, for itself; and brings
# the proof of what was consented to, which is for the door to check.
permit if {
	organisation
	input.scope
	input.action in {"agreement.offer", "consents.bring"}
	input.via == "self"
}

# A citizen's consents are the citizen's, and so is what was told of them. Which those are is for the door to find by
# who is logged in.
permit if {
	input.kind == "citizen"
	input.action in {"consents.own", "disclosures.own"}
}

# An auditor asks of everything, and answers for it itself.
permit if {
	organisation
	input.scope
	input.action in {"decisions.audit", "decisions.subject"}
	input.auditor
	input.via == "self"
}

permit if {
	organisation
	input.scope
	input.action == "broker.operate"
	input.operator
	input.via == "self"
}

organisation if input.kind == "organisation"

own_or_delegated if input.via in {"self", "delegated"}
