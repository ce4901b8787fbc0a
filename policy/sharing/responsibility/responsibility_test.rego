package sharing.responsibility_test

import data.sharing.responsibility
import data.sharing.sample

all_but(code) if {
	object.keys(responsibility.cleared) == codes - {code}
}

codes := {
	"agreement_not_active", "agreement_outside_interval", "subscription_suspended", "mailbox_suspended",
	"mailbox_not_receivers", "provider_not_owner", "package_not_for_dataset", "provider_controller_missing",
	"consumer_controller_missing", "supplier_not_delegated", "delegation_not_in_force", "corrections_not_agreed", "frozen",
}

test_in_order if all_but("nothing") with input as sample.in_order

test_frozen if {
	all_but("frozen") with input as sample.in_order with input.frozen as true
}

test_not_active if {
	all_but("agreement_not_active") with input as sample.in_order with input.agreement.status as "accepted"
}

test_not_begun if {
	all_but("agreement_outside_interval") with input as sample.in_order with input.agreement.valid as sample.to_come
}

test_over if {
	all_but("agreement_outside_interval") with input as sample.in_order with input.agreement.valid as sample.over
}

test_subscription_suspended if {
	all_but("subscription_suspended") with input as sample.in_order with input.subscription.suspended as true
}

test_subscription_on_another_agreement if {
	all_but("subscription_suspended") with input as sample.in_order with input.subscription.agreement as "b"
}

test_mailbox_suspended if {
	all_but("mailbox_suspended") with input as sample.in_order with input.mailbox.suspended as true
}

test_mailbox_of_a_stranger if {
	all_but("mailbox_not_receivers") with input as sample.in_order with input.mailbox.organisation as "x"
}

test_dataset_of_another if {
	all_but("provider_not_owner") with input as sample.in_order with input.dataset.owner as "x"
}

test_another_dataset if {
	all_but("provider_not_owner") with input as sample.in_order with input.dataset.id as "x"
}

test_package_for_another_dataset if {
	all_but("package_not_for_dataset") with input as sample.in_order with input.rightsPackage.dataset as "x"
}

test_another_package if {
	all_but("package_not_for_dataset") with input as sample.in_order with input.rightsPackage.id as "x"
}

test_another_version if {
	all_but("package_not_for_dataset") with input as sample.in_order with input.rightsPackage.version as 2
}

test_no_controller_at_the_provider if {
	all_but("provider_controller_missing") with input as sample.in_order
		with input.agreement.responsibility.providerController as ""
}

test_no_controller_at_the_consumer if {
	all_but("consumer_controller_missing") with input as sample.in_order
		with input.agreement.responsibility.consumerController as ""
}

by_supplier := object.union(sample.in_order, {
	"agreement": {"supplier": "s"},
	"mailbox": {"organisation": "s"},
	"delegations": [sample.delegation],
})

test_supplier if all_but("nothing") with input as by_supplier

test_supplier_with_the_consumers_mailbox if {
	all_but("mailbox_not_receivers") with input as by_supplier with input.mailbox.organisation as "c"
}

test_supplier_without_delegation if {
	every change in [{"from": "x"}, {"to": "x"}, {"datasets": []}] {
		not responsibility.cleared.supplier_not_delegated with input as by_supplier
			with input.delegations as [object.union(sample.delegation, change)]
	}
}

test_delegation_over if {
	every interval in [sample.over, sample.to_come] {
		all_but("delegation_not_in_force") with input as by_supplier
			with input.delegations as [object.union(sample.delegation, {"valid": interval})]
	}
}

test_one_delegation_in_force_is_enough if {
	all_but("nothing") with input as by_supplier
		with input.delegations as [object.union(sample.delegation, {"valid": {"from": 0, "to": 1}}), sample.delegation]
}

test_corrections_delivered if {
	every kind in ["correction", "retraction"] {
		all_but("nothing") with input as sample.in_order with input.record.kind as kind
	}
}

test_corrections_notified if {
	every kind in ["original", "correction", "retraction"] {
		all_but("nothing") with input as sample.in_order
			with input.record.kind as kind
			with input.agreement.corrections as "notify"
	}
}

test_corrections_refused if {
	every kind in ["correction", "retraction"] {
		all_but("corrections_not_agreed") with input as sample.in_order
			with input.record.kind as kind
			with input.agreement.corrections as "refuse"
	}
}

test_a_kind_of_record_that_nobody_knows if {
	all_but("corrections_not_agreed") with input as sample.in_order with input.record.kind as "unknown"
}
