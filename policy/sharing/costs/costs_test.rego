package sharing.costs_test

import data.sharing.costs
import data.sharing.sample

codes := {"cost_not_agreed", "payer_missing", "ceiling_reached"}

test_in_order if {
	object.keys(costs.cleared) == codes with input as sample.in_order
}

test_each_model if {
	every model in ["free", "per-record", "per-inhabitant", "yearly-band", "pool-share", "joining-fee"] {
		costs.cleared.cost_not_agreed with input as sample.in_order with input.agreement.cost.model as model
	}
}

test_model_not_agreed if {
	not costs.cleared.cost_not_agreed with input as sample.in_order with input.agreement.cost.model as ""
}

test_model_unknown if {
	not costs.cleared.cost_not_agreed with input as sample.in_order with input.agreement.cost.model as "barter"
}

test_payer_missing if {
	not costs.cleared.payer_missing with input as sample.in_order with input.agreement.cost.model as "per-record"
}

test_payer_named if {
	costs.cleared.payer_missing with input as sample.in_order
		with input.agreement.cost.model as "per-record"
		with input.agreement.cost.payer as "c"
}

test_below_the_ceiling if {
	costs.cleared.ceiling_reached with input as sample.in_order
		with input.agreement.cost.ceiling as 10
		with input.usage as {"granted": 10, "delivered": 9}
}

test_at_the_ceiling if {
	not costs.cleared.ceiling_reached with input as sample.in_order
		with input.agreement.cost.ceiling as 10
		with input.usage as {"granted": 10, "delivered": 10}
}

test_a_ceiling_without_usage if {
	not costs.cleared.ceiling_reached with input as sample.in_order with input.agreement.cost.ceiling as 10
}

test_a_ceiling_below_zero if {
	not costs.cleared.ceiling_reached with input as sample.in_order
		with input.agreement.cost.ceiling as -1
		with input.usage as {"granted": 10, "delivered": 0}
}
