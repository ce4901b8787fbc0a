# METADATA
# title: May this record be shared?
# description: |
#   One question for one record and one subscription. The answer is `decision`,
#   the only entry point.
#
#   Each requirement is one positive rule, `cleared.<code>`, in one of the three
#   packages below this one. Its name is the code of the reason for denial, and
#   the rule says what clears that reason away. A record may be shared when every
#   requirement is cleared. What is undefined clears nothing, so it denies.
#
#   A requirement never negates what is known only with the record (time, record,
#   cases, consents, usage). That keeps the whole policy a question of which
#   requirements hold, and each of them a plain conjunction of comparisons once
#   the agreement is known.
# scope: package
package sharing

import data.sharing.costs
import data.sharing.legalbasis
import data.sharing.responsibility

# METADATA
# title: Order of precedence, and what is asked after what
# description: |
#   The requirements in order of precedence: read from top to bottom, each of them
#   once. The chains are independent of one another. Within a chain a step is asked
#   only when all that stands in the steps before it is cleared, so that nobody is
#   told that a consent is missing where no law would let it count.
chains := [
	[[
		"frozen",
		"agreement_not_active",
		"agreement_outside_interval",
		"subscription_suspended",
		"mailbox_suspended",
		"mailbox_not_receivers",
		"provider_not_owner",
		"package_not_for_dataset",
	]],
	[
		["no_legal_basis"],
		["no_disclosure_basis", "no_collection_basis", "confidentiality_not_lifted"],
		["basis_not_in_force"],
		["record_outside_period"],
		["no_open_case"],
		["consent_missing"],
		["consent_expired"],
		["consent_withdrawn"],
	],
	[["provider_controller_missing", "consumer_controller_missing"]],
	[["supplier_not_delegated"], ["delegation_not_in_force"]],
	[["corrections_not_agreed"]],
	[["cost_not_agreed"], ["payer_missing"]],
	[["ceiling_reached"]],
]

# METADATA
# title: What keeps data back, and not that it was wrong
# description: |
#   GDPR article 19: who was given personal data is told when it is rectified or erased.
#   That duty outlives the right to the data. So a correction or retraction whose data is
#   denied is still told of, without data, to who was delivered what it changes, where
#   all the reasons for the denial are among these. They say that the right to the data
#   has ended, or does not reach this record. The others say that nobody may be
#   reached there, or that the parties are not who they were: a mailbox or subscription
#   that is stopped or frozen, a mailbox that is not the receiver's, a supplier without delegation,
#   another owner. A requirement that is not named here stands in the way.
# scope: rule
told_despite := {
	"agreement_not_active",
	"agreement_outside_interval",
	"no_legal_basis",
	"no_disclosure_basis",
	"no_collection_basis",
	"confidentiality_not_lifted",
	"basis_not_in_force",
	"record_outside_period",
	"no_open_case",
	"consent_missing",
	"consent_expired",
	"consent_withdrawn",
	"corrections_not_agreed",
	"cost_not_agreed",
	"payer_missing",
	"ceiling_reached",
}

precedence := [code | code := chains[_][_][_]]

cleared := ({code | some code in precedence; responsibility.cleared[code]} | {code | some code in precedence; legalbasis.cleared[code]}) | {code | some code in precedence; costs.cleared[code]}

default allow := false

allow if {
	every code in precedence { cleared[code] }
	count(legalbasis.carrying) > 0
}

# Of each chain, what is not cleared in the first step where something is not.
reasons := [code |
	some chain in chains
	failing := [step | some step in chain; some code in step; not cleared[code]]
	some code in failing[0]
	not cleared[code]
]

# METADATA
# title: The decision
# description: |
#   allow; the reasons for denial in order of precedence; and the legal bases: those
#   that carry the permit, or on denial all that the agreement was judged on.
# entrypoint: true
decision := {"allow": true, "reasons": [], "bases": legalbasis.carrying} if allow

decision := {"allow": false, "reasons": reasons, "bases": legalbasis.cited} if not allow
