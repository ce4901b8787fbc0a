package audit

import (
	"datafordeler/broker"
	"datafordeler/broker/store"
)

// Scope is what an asker may be told. The zero value may be told nothing: make one
// with Everything or PartyTo.
type Scope struct {
	all      bool
	party    broker.OrgNumber
	supplier broker.OrgNumber
}

// Everything is an auditor's, and the operator's command line.
func Everything() Scope { return Scope{all: true} }

// PartyTo is an organisation's: the decisions in which it is provider, consumer or
// supplier. Where a supplier asks on its behalf, only those that go by that supplier.
func PartyTo(org, supplier broker.OrgNumber) Scope { return Scope{party: org, supplier: supplier} }

// narrow bounds a query to what may be told; false: to nothing. Every question that
// is answered from the read model passes here or through sees.
func (s Scope) narrow(q *store.Query) bool {
	switch {
	case s.all:
		return true
	case s.party == "":
		return false
	case s.supplier != "" && q.Supplier != "" && q.Supplier != s.supplier:
		return false
	case q.Party != "" && q.Party != s.party:
		return false
	}
	q.Party = s.party
	if s.supplier != "" {
		q.Supplier = s.supplier
	}
	return true
}

// sees reports whether the asker is party to it.
func (s Scope) sees(provider, consumer, supplier broker.OrgNumber) bool {
	if s.all {
		return true
	}
	return s.party != "" && (provider == s.party || consumer == s.party || supplier == s.party) && (s.supplier == "" || supplier == s.supplier)
}

// Sees reports whether the asker is party to an agreement.
func (s Scope) Sees(a *broker.Agreement) bool { return s.sees(a.Provider, a.Consumer, a.Supplier) }

// owns reports whether the asker may see all of a dataset's records accounted for:
// that is its owner's, and tells how many records there are for everybody.
func (s Scope) owns(owner broker.OrgNumber) bool {
	return s.all || s.party != "" && s.party == owner && s.supplier == ""
}
