package sharing_test

import data.sharing
import data.sharing.sample

test_everything_in_order if {
	sharing.decision == {"allow": true, "reasons": [], "bases": ["statute"]} with input as sample.in_order
}

test_nothing_known if {
	decision := sharing.decision with input as {}
	decision.allow == false
	decision.bases == []
	decision.reasons == [
		"agreement_not_active",
		"agreement_outside_interval",
		"subscription_suspended",
		"mailbox_suspended",
		"mailbox_not_receivers",
		"provider_not_owner",
		"package_not_for_dataset",
		"no_legal_basis",
		"provider_controller_missing",
		"consumer_controller_missing",
		"supplier_not_delegated",
		"corrections_not_agreed",
		"cost_not_agreed",
		"ceiling_reached",
	]
}

test_reasons_in_order_of_precedence if {
	decision := sharing.decision with input as sample.in_order
		with input.mailbox.suspended as true
		with input.agreement.cost.model as ""
		with input.agreement.status as "ended"
		with input.bases as [sample.per_case]
	decision == {
		"allow": false,
		"reasons": ["agreement_not_active", "mailbox_suspended", "no_open_case", "cost_not_agreed"],
		"bases": ["per-case"],
	}
}

test_each_requirement_has_one_place if {
	count(sharing.precedence) == count({code | some code in sharing.precedence})
}
