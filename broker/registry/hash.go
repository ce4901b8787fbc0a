package registry

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"datafordeler/broker"
)

// Hash is over the whole content, in an order that does not depend on maps: two
// states that folded the same log have the same one.
func (s *State) Hash() broker.Digest {
	type heldLease struct {
		Agreement broker.AgreementID
		Topic     broker.Digest
		Partition int32
		Amount    int64
	}
	type ended struct {
		broker.Case
		Ended bool
	}
	var cases []ended
	for i := range s.subjects.cases.rows.len() {
		cases = append(cases, ended{s.subjects.caseAt(uint32(i)), s.subjects.cases.rows.at(uint32(i)).group&caseEnded != 0})
	}
	slices.SortFunc(cases, func(a, b ended) int {
		return cmp.Or(cmp.Compare(a.Subscription, b.Subscription), cmp.Compare(a.ID, b.ID))
	})
	var held []heldLease
	for a, l := range s.leased {
		for k, n := range l.by {
			held = append(held, heldLease{a, k.topic, k.partition, n})
		}
	}
	slices.SortFunc(held, func(a, b heldLease) int {
		return cmp.Or(cmp.Compare(a.Agreement, b.Agreement), bytes.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
	})
	var used []broker.PackageRef
	for ref := range s.used {
		used = append(used, ref)
	}
	slices.SortFunc(used, func(a, b broker.PackageRef) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Version, b.Version))
	})
	consents := make(map[broker.ConsentID]broker.Consent, s.subjects.consents.rows.len())
	for i := range s.subjects.consents.rows.len() {
		c := s.subjects.consent(uint32(i))
		consents[c.ID] = c
	}
	h := sha256.New()
	enc := json.NewEncoder(h) // maps with text keys are written in order
	parts := []any{
		s.revision, s.structure, s.head,
		s.Organisations(), s.Datasets(), s.Bases(), s.Packages(), s.Mailboxes(), s.Agreements(), s.Subscriptions(), s.Delegations(),
		used, s.receivesFor, s.withdrawn, held, cases, consents, s.policy, s.policies, s.keystore,
	}
	if s.ledger != (Ledger{}) { // what was hashed before there were ledgers keeps its hash
		parts = append(parts, s.ledger)
	}
	if len(s.keystores) > 1 {
		parts = append(parts, s.keystores)
	}
	if len(s.roles) > 0 {
		parts = append(parts, s.Roles())
	}
	if len(s.destroyed) > 0 {
		parts = append(parts, s.destroyed)
	}
	if len(s.credentials) > 0 {
		parts = append(parts, s.credentials)
	}
	if len(s.webhooks) > 0 {
		parts = append(parts, s.webhooks)
	}
	if len(s.frozen) > 0 {
		parts = append(parts, s.Freezes())
	}
	if len(s.protected.grades) > 0 || s.protected.synced != nil {
		parts = append(parts, s.protected.hashed())
	}
	if len(s.units.ended) > 0 || len(s.units.after) > 0 || s.units.synced != nil {
		parts = append(parts, s.units.hashed())
	}
	if len(s.deviations) > 0 {
		parts = append(parts, s.Deviations())
	}
	if s.obligations.rows.len() > 0 {
		parts = append(parts, slices.Collect(s.ObligationsAfter(0)))
	}
	if len(s.foreign.ended) > 0 || len(s.foreign.feeds) > 0 {
		parts = append(parts, s.foreign.hashed(&s.subjects.times))
	}
	if len(s.assessments) > 0 {
		parts = append(parts, s.LegalAssessments())
	}
	if len(s.tables) > 0 {
		parts = append(parts, s.TruthTables(), s.approved)
	}
	for _, m := range []any{s.needs, s.cosigned, s.closed, s.frameworks, s.invited, s.acceded, s.lifecycles, s.approvals} {
		if reflect.ValueOf(m).Len() > 0 {
			parts = append(parts, m)
		}
	}
	for _, part := range parts {
		if err := enc.Encode(part); err != nil {
			panic(fmt.Sprintf("registry: %v", err)) // all of it came from JSON
		}
	}
	return broker.Digest(h.Sum(nil)[:16])
}

// equal compares two declared things as they would be written.
func equal(a, b any) bool {
	x, err := json.Marshal(a)
	if err != nil {
		return false
	}
	y, err := json.Marshal(b)
	return err == nil && bytes.Equal(x, y)
}
