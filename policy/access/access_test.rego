package access_test

import data.access

# A request that has everything in order, for the action and relation.
fine(action, relation) := {
	"action": action,
	"kind": "organisation",
	"scope": true,
	"relation": relation,
	"via": "self",
	"auditor": false,
	"operator": false,
}

test_anybody_may_see_themselves if {
	access.permit with input as object.union(fine("self.read", "unnamed"), {"kind": "citizen", "scope": false, "via": "undelegated"})
}

test_the_catalogue_is_for_organisations if {
	access.permit with input as fine("catalogue.read", "unnamed")
	not access.permit with input as object.union(fine("catalogue.read", "unnamed"), {"kind": "citizen"})
}

test_a_provider_publishes_to_its_own_dataset if {
	some action in {"records.publish", "rejections.read"}
	access.permit with input as fine(action, "owner")
	not access.permit with input as fine(action, "other")
	not access.permit with input as fine(action, "unnamed")
	not access.permit with input as object.union(fine(action, "owner"), {"via": "delegated"})
	not access.permit with input as object.union(fine(action, "owner"), {"scope": false})
	not access.permit with input as object.union(fine(action, "owner"), {"kind": "citizen"})
}

test_a_mailbox_is_its_receivers if {
	access.permit with input as fine("mailbox.receive", "receiver")
	access.permit with input as object.union(fine("mailbox.receive", "receiver"), {"via": "delegated"})
	not access.permit with input as object.union(fine("mailbox.receive", "receiver"), {"via": "undelegated"})
	not access.permit with input as object.union(fine("mailbox.receive", "receiver"), {"scope": false})
	not access.permit with input as object.union(fine("mailbox.receive", "receiver"), {"kind": "citizen"})
	not access.permit with input as fine("mailbox.receive", "other")
	not access.permit with input as object.union(fine("mailbox.receive", "other"), {"auditor": true, "operator": true})
}

test_a_consumer_looks_up_under_its_agreement if {
	access.permit with input as fine("subject.lookup", "consumer")
	not access.permit with input as fine("subject.lookup", "receiver")
	not access.permit with input as object.union(fine("subject.lookup", "consumer"), {"via": "undelegated"})
}

test_a_party_sees_its_own_decisions if {
	access.permit with input as fine("decisions.read", "party")
	not access.permit with input as fine("decisions.read", "other")
	not access.permit with input as object.union(fine("decisions.read", "unnamed"), {"auditor": true})
}

test_what_is_a_partys_own_it_stops_by_its_own_hands if {
	every own in [["dataset.freeze", "owner"], ["delegation.withdraw", "owner"], ["deviation.answer", "owner"], ["agreement.suspend", "party"], ["agreement.step", "party"]] {
		access.permit with input as fine(own[0], own[1])
		not access.permit with input as fine(own[0], "other")
		not access.permit with input as object.union(fine(own[0], own[1]), {"via": "delegated"})
		not access.permit with input as object.union(fine(own[0], own[1]), {"scope": false})
	}
}

test_an_organisation_offers_and_brings_consents_for_itself if {
	every action in ["agreement.offer", "consents.bring"] {
		access.permit with input as fine(action, "unnamed")
		not access.permit with input as object.union(fine(action, "unnamed"), {"via": "undelegated"})
		not access.permit with input as object.union(fine(action, "unnamed"), {"via": "delegated"})
		not access.permit with input as object.union(fine(action, "unnamed"), {"scope": false})
		not access.permit with input as object.union(fine(action, "unnamed"), {"kind": "citizen"})
	}
}

test_a_supplier_acts_for_its_consumer if {
	every own in [["cases.manage", "consumer"], ["deviation.report", "consumer"], ["obligation.receipt", "consumer"], ["mailbox.stop", "receiver"]] {
		access.permit with input as object.union(fine(own[0], own[1]), {"via": "delegated"})
		not access.permit with input as object.union(fine(own[0], own[1]), {"via": "undelegated"})
		not access.permit with input as fine(own[0], "other")
	}
}

test_consents_are_the_citizens if {
	every action in {"consents.own", "disclosures.own"} {
		access.permit with input as object.union(fine(action, "other"), {"kind": "citizen", "scope": false})
		not access.permit with input as object.union(fine(action, "unnamed"), {"operator": true, "auditor": true})
	}
}

test_an_auditor_sees_all if {
	some action in {"decisions.audit", "decisions.subject"}
	access.permit with input as object.union(fine(action, "unnamed"), {"auditor": true})
	not access.permit with input as object.union(fine(action, "party"), {"operator": true})
	not access.permit with input as object.union(fine(action, "unnamed"), {"auditor": true, "via": "delegated"})
	not access.permit with input as object.union(fine(action, "unnamed"), {"auditor": true, "scope": false})
}

test_an_operator_operates if {
	access.permit with input as object.union(fine("broker.operate", "unnamed"), {"operator": true})
	not access.permit with input as object.union(fine("broker.operate", "unnamed"), {"auditor": true})
	not access.permit with input as object.union(fine("broker.operate", "unnamed"), {"operator": true, "via": "undelegated"})
}

test_what_is_unknown_refuses if {
	not access.permit with input as {}
	not access.permit with input as object.union(fine("records.burn", "owner"), {"auditor": true, "operator": true})
}
