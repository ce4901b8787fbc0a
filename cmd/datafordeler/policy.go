package main

import (
	"context"
	"flag"
)

func policyCommand() command {
	return command{
		name:    "policy",
		summary: "activate a policy, see what it would change, replay past decisions",
		help: `Usage: datafordeler policy activate --actor NAME [--dir DIR] [--yes | --dry-run] [--replay-last N|DURATION]
                                    [--no-replay REASON] [--wait 30s]
       datafordeler policy replay [--from T] [--to T] [--policy DIR] [--registry FILE…] [filters] [--json]
       datafordeler policy list [--json]
       datafordeler policy show [--digest D] [--out DIR] [--lang nb|nn|en] [--json]
       datafordeler policy explain [--subscription ID] [--json]
       datafordeler policy describe AGREEMENT [--lang nb|nn|en] [--json]
       datafordeler policy check-tables [-f DIR|FILE …] [--dir DIR] [--table ID] [--agreement ID] [--failed] [--json]
       datafordeler policy approve-table ID --digest D --by FUNCTION --actor NAME [--wait 30s]
       datafordeler policy access [--json]

activate writes the policy's bytes to control, as the one that all instances
decide by from that revision on. Without --dir it is the policy that this
version carries. It must compile under the restricted capabilities and pass its
own tests. Then the latest decisions are computed with it, those of the last hour
and at most 100,000 records, and what would have been answered otherwise is shown
before anything is written.
  --replay-last X    more or less of that: a number of records, or a time such as 24h
  --no-replay WHY    do without; the reason stands beside the actor in the registry's log
  --yes              do not ask; where there is no terminal to ask on, differences need it
  --dry-run          show, and write nothing
replay computes past decisions again from the log. Each by the policy and registry
of its own time must come out as recorded; what does not is named. With a candidate
it shows instead what would have been answered otherwise, by consumer,
subscription and reason. Decisions of the kinds backfill, lookup and door are among
them, and named; lookups on what does not lie in the log are counted as not checked.
  --from T, --to T   the decisions of a time, such as 2026-01-31 or 2026-01-31T12:00:00Z
  --policy DIR       a candidate policy, as activate takes it
  --registry FILE    candidate agreements and more, as registry apply takes them, put on
                     top of the registry as it was at each decision; may be repeated
  --dataset D, --subscription S
  --every N          one batch in N only, for a quick look
  --sample N         name N places of each difference and fault (3)
  --fail-on-difference   exit with 1 where a candidate differs
list shows every policy that was ever active: its digest, when, and by whom.
show prints a policy's digest and every reason that it may give: its code, what it
rests on, what it says and what to do about it. It is the active one, or with
--digest one that was; a part of the digest that fits one only will do. --out
writes its modules to a directory.
explain lists every subscription, and whether its records are decided by the
compiled form of the policy or, and then why, by full evaluation: the same
answers, a thousand times slower. With --subscription it shows what is left of
each requirement once the agreement is known: always, never, or open, and then
what is asked of a record. A letter in brackets is one and the same case or
consent throughout an alternative.
describe says in plain words what an agreement permits, to whom, when and why, on which
conditions, who answers for it, and what denies: from the registry and from what the
active policy answers.
check-tables asks the policy what comes out of every situation in the truth tables,
and prints each with what was wanted and what came. A table that is signed off
holds: no policy, and no agreement that it concerns, is put in force while a row
fails, whoever tries and from where.
  -f X           tables, agreements and more, as registry apply takes them, put on top of
                 what is registered: what would come out if they were applied
  --dir DIR      a candidate policy, as activate takes it; else the active one
  --failed       only rows that did not come out as wanted
approve-table signs a table off, by the digest that check-tables shows: that content
holds from then on, until another of the same table is signed off.
access shows the rules of who may use the HTTP API for what, and their digest. They
are built into this version, and are no part of the policy that decides on records:
who may knock is for whoever runs the program, what may be shared is for the log.
` + placeHelp + `
Examples:
  datafordeler policy activate --actor "kari at digdir" --config broker.yaml
  datafordeler policy replay --from 2026-01-01 --to 2026-02-01 --config broker.yaml
  datafordeler policy replay --from 2026-01-31 --policy policy/next --config broker.yaml
  datafordeler policy show --lang en --data data
  datafordeler policy describe oslo-sosialhjelp --lang en --data data
  datafordeler policy check-tables -f law --data data
  datafordeler policy explain --config broker.yaml
  datafordeler policy explain --subscription oslo-sosialhjelp --data data

Exit codes: 0 done, 1 a decision came out otherwise than recorded, nothing could be
computed again, no such policy or subscription, not agreed to, or a row of a truth
table failed; 2 flags, or a policy that does not compile or pass its tests.
`,
		run: func(ctx context.Context, std stdio, args []string) error {
			if len(args) == 0 {
				return usagef("what? activate, replay, list, show, explain, describe, check-tables, approve-table or access")
			}
			switch args[0] {
			case "activate":
				return policyActivate(ctx, std, args[1:])
			case "replay":
				return policyReplay(ctx, std, args[1:])
			case "list":
				return policyList(ctx, std, args[1:])
			case "show":
				return policyShow(ctx, std, args[1:])
			case "explain":
				return policyExplain(ctx, std, args[1:])
			case "describe":
				return policyDescribe(ctx, std, args[1:])
			case "check-tables":
				return policyCheckTables(ctx, std, args[1:])
			case "approve-table":
				return policyApproveTable(ctx, std, args[1:])
			case "access":
				return policyAccess(std, args[1:])
			case "-h", "--help":
				return flag.ErrHelp
			}
			return usagef("no verb%s: activate, replay, list, show, explain, describe, check-tables, approve-table or access", quoted(args[0]))
		},
	}
}
