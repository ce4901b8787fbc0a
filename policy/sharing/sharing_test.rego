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
		"frozen",
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

test_what_keeps_data_back_and_not_that_it_was_wrong if {
	every code in sharing.told_despite { code in sharing.precedence }
	left := {code | some code in sharing.precedence} - sharing.told_despite
	left == {
		"frozen",
		"subscription_suspended",
		"mailbox_suspended",
		"mailbox_not_receivers",
		"provider_not_owner",
		"package_not_for_dataset",
		"provider_controller_missing",
		"consumer_controller_missing",
		"supplier_not_delegated",
		"delegation_not_in_force",
	}
}

# A case that has ended, under an agreement that has ended too: the data is denied, and
# nothing of that stands in the way of a notice.
test_the_end_is_told_of if {
	decision := sharing.decision with input as sample.in_order
		with input.record.kind as "retraction"
		with input.agreement.status as "ended"
		with input.bases as [sample.per_case]
	decision.allow == false
	every reason in decision.reasons { reason in sharing.told_despite }
}

# A supplier whose delegation is over is not told, whatever else has ended.
test_a_supplier_without_delegation_is_not_told if {
	decision := sharing.decision with input as sample.in_order
		with input.record.kind as "retraction"
		with input.agreement.status as "ended"
		with input.agreement.supplier as "313876144"
		with input.delegations as []
	some reason in decision.reasons
	not reason in sharing.told_despite
}
