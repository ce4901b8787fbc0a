# What the tests start from: an agreement under which everything is in order, by
# one statute. Time is 100; intervals run from 50 to 150.
package sharing.sample

valid := {"from": 50, "to": 150}

over := {"from": 0, "to": 100}

to_come := {"from": 101, "to": 150}

statute := {
	"id": "statute", "type": "lov", "sides": ["disclosure", "collection", "confidentiality"],
	"eli": "", "paragraph": "", "gdpr": "A6-1-e",
	"datasets": ["income"], "purposes": ["assistance"], "recipients": ["kommune"],
	"requiresCase": false, "valid": valid, "review": 150, "about": null,
}

per_case := object.union(statute, {"id": "per-case", "requiresCase": true})

by_consent := object.union(statute, {"id": "by-consent", "type": "samtykke"})

per_case_and_consent := object.union(per_case, {"id": "both", "type": "samtykke"})

consent := {"consumer": "c", "dataset": "income", "purpose": "assistance", "valid": valid, "withdrawn": 150}

delegation := {"id": "d", "from": "c", "to": "s", "datasets": ["income"], "valid": valid}

in_order := {
	"agreement": {
		"id": "a", "provider": "p", "consumer": "c", "supplier": "",
		"dataset": "income", "rightsPackage": {"id": "package", "version": 1},
		"purpose": "assistance", "bases": ["statute", "per-case", "by-consent", "both"],
		"responsibility": {"providerController": "p", "consumerController": "c"},
		"cost": {"model": "free", "payer": "", "ceiling": 0},
		"corrections": "deliver", "status": "active", "valid": valid, "framework": "",
	},
	"subscription": {"id": "s", "agreement": "a", "mailbox": "m", "suspended": false},
	"mailbox": {"id": "m", "organisation": "c", "channel": "feed", "suspended": false},
	"dataset": {"id": "income", "owner": "p", "purpose": "tax", "accessRights": "NON_PUBLIC", "subject": "person"},
	"rightsPackage": {"id": "package", "version": 1, "dataset": "income", "fields": ["/amount"]},
	"bases": [statute],
	"consumer": {"number": "c", "types": ["kommune"]},
	"delegations": [],
	"frozen": false,
	"time": 100,
	"record": {"kind": "original", "attributes": {"period": "2026-09"}},
	"cases": [],
	"consents": [],
}
