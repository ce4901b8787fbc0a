package sharing.legalbasis_test

import data.sharing.legalbasis
import data.sharing.sample

# The steps in their order; the first that is not cleared is the one that is told.
steps := [
	"no_legal_basis", "no_disclosure_basis", "no_collection_basis", "confidentiality_not_lifted", "basis_not_in_force",
	"record_outside_period", "no_open_case", "consent_missing", "consent_expired", "consent_withdrawn",
]

default told := "nothing"

told := [code | some code in steps; not legalbasis.cleared[code]][0]

carried(bases) if {
	told == "nothing"
	legalbasis.carrying == bases
}

denied(code) if {
	told == code
	legalbasis.carrying == []
}

changed(basis, change) := object.union(basis, change)

test_statute if carried(["statute"]) with input as sample.in_order

test_no_basis if denied("no_legal_basis") with input as sample.in_order with input.bases as []

test_cited if {
	legalbasis.cited == ["statute", "by-consent"] with input as sample.in_order
		with input.bases as [sample.statute, sample.by_consent]
}

test_not_covering if {
	every change in [{"datasets": []}, {"purposes": ["x"]}, {"recipients": ["x"]}, {"type": "x"}, {"id": "unlisted"}, {"sides": []}] {
		denied("no_legal_basis") with input as sample.in_order with input.bases as [changed(sample.statute, change)]
	}
}

test_recipient_by_number if {
	carried(["statute"]) with input as sample.in_order with input.bases as [changed(sample.statute, {"recipients": ["c"]})]
}

test_types_of_another_organisation if {
	denied("no_legal_basis") with input as sample.in_order with input.consumer.number as "x"
}

test_one_side_missing if {
	every side, code in {
		"disclosure": "no_disclosure_basis",
		"collection": "no_collection_basis",
		"confidentiality": "confidentiality_not_lifted",
	} {
		sides := [s | some s in sample.statute.sides; s != side]
		denied(code) with input as sample.in_order with input.bases as [changed(sample.statute, {"sides": sides})]
	}
}

test_public if {
	carried(["statute"]) with input as sample.in_order
		with input.dataset.accessRights as "PUBLIC"
		with input.bases as [changed(sample.statute, {"sides": ["disclosure", "collection"]})]
}

test_two_statutes_together if {
	carried(["statute", "per-case"]) with input as sample.in_order
		with input.bases as [
			changed(sample.statute, {"sides": ["disclosure", "confidentiality"]}),
			changed(sample.per_case, {"sides": ["collection"]}),
		]
		with input.cases as [sample.valid]
}

for_sides(sides) := changed(sample.statute, {"sides": sides})

# Which sets of bases are alternatives, by what each basis is for.
test_alternatives if {
	every case in [
		{"bases": [], "are": set()},
		{"bases": [["disclosure", "collection"]], "are": set()},
		{"bases": [three, three, ["collection"]], "are": {{0}, {1}}},
		{"bases": [["disclosure"], ["collection"], ["confidentiality"], ["collection"]], "are": {{0, 1, 2}, {0, 2, 3}}},
		{"bases": [["disclosure"], ["collection", "confidentiality"], ["collection"], three], "are": {{0, 1}, {3}}},
		{"bases": [["disclosure", "collection"], ["collection", "confidentiality"], ["collection"]], "are": {{0, 1}}},
		{"bases": [["disclosure", "disclosure"], ["x", "collection"], ["confidentiality", "x"]], "are": {{0, 1, 2}}},
	] {
		bases := [for_sides(sides) | some sides in case.bases]
		legalbasis.alternatives == case.are with input as sample.in_order with input.bases as bases
	}
}

test_alternatives_public if {
	every case in [
		{"bases": [["disclosure", "collection"], three], "are": {{0}, {1}}},
		{"bases": [["disclosure"], ["collection"], ["confidentiality"]], "are": {{0, 1}}},
		{"bases": [["disclosure", "confidentiality"], ["collection"], ["confidentiality"]], "are": {{0, 1}}},
	] {
		bases := [for_sides(sides) | some sides in case.bases]
		legalbasis.alternatives == case.are with input as sample.in_order
			with input.dataset.accessRights as "PUBLIC"
			with input.bases as bases
	}
}

three := ["disclosure", "collection", "confidentiality"]

test_a_superfluous_statute_does_not_carry if {
	carried(["statute"]) with input as sample.in_order
		with input.bases as [sample.statute, changed(sample.per_case, {"sides": ["collection"]})]
		with input.cases as [sample.valid]
}

test_not_in_force if {
	every interval in [sample.over, sample.to_come] {
		denied("basis_not_in_force") with input as sample.in_order
			with input.bases as [changed(sample.statute, {"valid": interval})]
	}
}

about(from, to) := [changed(sample.statute, {"about": {"attribute": "period", "from": from, "to": to}})]

test_period_reached if {
	every bounds in [["2026-09", "2026-09"], ["", ""], ["", "2026-12"], ["2026-01", ""]] {
		carried(["statute"]) with input as sample.in_order with input.bases as about(bounds[0], bounds[1])
	}
}

test_period_not_reached if {
	every bounds in [["2026-10", ""], ["", "2026-08"]] {
		denied("record_outside_period") with input as sample.in_order with input.bases as about(bounds[0], bounds[1])
	}
}

test_period_unknown if {
	every attributes in [{}, {"period": ""}] {
		denied("record_outside_period") with input as sample.in_order
			with input.bases as about("", "")
			with input.record.attributes as attributes
	}
}

test_no_case if {
	every cases in [[], [sample.over], [sample.to_come]] {
		denied("no_open_case") with input as sample.in_order
			with input.bases as [sample.per_case]
			with input.cases as cases
	}
}

test_open_case if {
	carried(["per-case"]) with input as sample.in_order
		with input.bases as [sample.per_case]
		with input.cases as [sample.over, sample.valid]
}

consenting(change) := changed(sample.in_order, {"bases": [sample.by_consent], "consents": [changed(sample.consent, change)]})

test_consent if carried(["by-consent"]) with input as consenting({})

test_no_consent if denied("consent_missing") with input as consenting({}) with input.consents as []

test_consent_to_something_else if {
	every change in [{"consumer": "x"}, {"dataset": "x"}, {"purpose": "x"}, {"valid": sample.to_come}] {
		denied("consent_missing") with input as consenting(change)
	}
}

test_consent_expired if denied("consent_expired") with input as consenting({"valid": sample.over})

test_consent_withdrawn if denied("consent_withdrawn") with input as consenting({"withdrawn": 100})

test_withdrawn_before_it_expired if {
	denied("consent_withdrawn") with input as consenting({"withdrawn": 60, "valid": sample.over})
}

test_withdrawn_consents_do_not_add_up if {
	denied("consent_withdrawn") with input as changed(consenting({}), {"consents": [
		changed(sample.consent, {"withdrawn": 60}),
		changed(sample.consent, {"valid": sample.over}),
	]})
}

test_case_and_consent_together if {
	both := changed(consenting({}), {"bases": [sample.per_case_and_consent]})
	denied("no_open_case") with input as both
	carried(["both"]) with input as both with input.cases as [sample.valid]
	denied("consent_missing") with input as both with input.cases as [sample.valid] with input.consents as []
}

test_case_or_consent if {
	either := changed(sample.in_order, {"bases": [sample.per_case, sample.by_consent]})
	denied("consent_missing") with input as either
	carried(["per-case"]) with input as either with input.cases as [sample.valid]
	carried(["by-consent"]) with input as either with input.consents as [sample.consent]
	carried(["per-case", "by-consent"]) with input as either
		with input.cases as [sample.valid]
		with input.consents as [sample.consent]
}

test_statute_or_consent if {
	carried(["statute"]) with input as sample.in_order with input.bases as [sample.by_consent, sample.statute]
}
