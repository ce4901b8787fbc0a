package broker

// AgreementStatus is where an agreement is in its life.
type AgreementStatus string

// The life of an agreement.
const (
	Proposed  AgreementStatus = "proposed"
	Accepted  AgreementStatus = "accepted"
	Active    AgreementStatus = "active"
	Suspended AgreementStatus = "suspended"
	Ended     AgreementStatus = "ended"
)

// Agreement is an avtale between a provider and a consumer on one dataset.
type Agreement struct {
	ID       AgreementID `json:"id"`
	Provider OrgNumber   `json:"provider"`
	Consumer OrgNumber   `json:"consumer"`
	// Supplier receives for the consumer; needs a delegation.
	Supplier       OrgNumber       `json:"supplier,omitempty"`
	Dataset        DatasetID       `json:"dataset"`
	Package        PackageRef      `json:"package"`
	Purpose        Purpose         `json:"purpose"`
	Bases          []LegalBasisID  `json:"bases"`
	Responsibility Responsibility  `json:"responsibility"`
	Cost           Cost            `json:"cost"`
	Corrections    Corrections     `json:"corrections"`
	Status         AgreementStatus `json:"status"`
	Valid          Interval        `json:"valid"`
	// Framework is the framework agreement acceded to, if any.
	Framework AgreementID `json:"framework,omitempty"`
}

// Responsibility (ansvar): the controller on each side (GDPR article 4(7)).
type Responsibility struct {
	ProviderController OrgNumber `json:"providerController,omitempty"`
	ConsumerController OrgNumber `json:"consumerController,omitempty"`
}

// CostModel is how a delivery is paid for.
type CostModel string

// The cost models; "" means that cover is not agreed.
const (
	Free       CostModel = "free"
	PerRecord  CostModel = "per-record"
	PerInhab   CostModel = "per-inhabitant"
	YearlyBand CostModel = "yearly-band"
	PoolShare  CostModel = "pool-share"
	JoiningFee CostModel = "joining-fee"
)

// Cost is kostnadsdekning: the model, who pays, and how much at the most.
type Cost struct {
	Model CostModel `json:"model,omitempty"`
	Payer OrgNumber `json:"payer,omitempty"`
	// Ceiling is the number of deliveries in the agreement's life; 0 = none.
	Ceiling int64 `json:"ceiling,omitempty"`
}

// Corrections is what an agreement does with corrected and retracted records.
type Corrections string

// The two ways.
const (
	DeliverCorrections Corrections = "deliver"
	RefuseCorrections  Corrections = "refuse"
)

// Subscription is an abonnement: an agreement put to use.
type Subscription struct {
	ID        SubscriptionID `json:"id"`
	Agreement AgreementID    `json:"agreement"`
	Mailbox   MailboxID      `json:"mailbox"`
	Scope     Scope          `json:"scope"`
	// Suspended records are denied, visibly.
	Suspended bool `json:"suspended,omitempty"`
}

// ScopeKind is how a subscription says which records concern it.
type ScopeKind string

// The kinds of scope.
const (
	ScopeAll       ScopeKind = "all"       // all that the package's filter allows
	ScopeAttribute ScopeKind = "attribute" // an attribute equals one of the values
	ScopeListed    ScopeKind = "listed"    // subjects ever listed by a case or consent of this subscription
)

// Scope says which records concern a subscription. Status and intervals never
// count here: they are for policy to deny, visibly.
type Scope struct {
	Kind      ScopeKind `json:"kind"`
	Attribute string    `json:"attribute,omitempty"`
	Values    []string  `json:"values,omitempty"`
}

// Channel is how a mailbox hands over.
type Channel string

// The channels.
const (
	Feed         Channel = "feed"
	Webhook      Channel = "webhook"
	KafkaChannel Channel = "kafka"
)

// Mailbox is a postkasse: where one client of one organisation receives.
type Mailbox struct {
	ID           MailboxID `json:"id"`
	Organisation OrgNumber `json:"organisation"`
	Client       string    `json:"client"`
	Channel      Channel   `json:"channel"`
	Partitions   int32     `json:"partitions,omitempty"` // channel kafka: 1 to 4, default 1
	Suspended    bool      `json:"suspended,omitempty"`
	// RetentionDays is how long deliveries stand in it, in days, where that is
	// less than its datasets allow; 0 = as they allow. Channel kafka: deliveries
	// of the other channels share a topic.
	RetentionDays int32 `json:"retentionDays,omitempty"`
}

// Terms are a subscription with everything that it rests on, resolved at one
// revision. They are read-only and shared; a change makes new ones.
type Terms struct {
	Subscription Subscription
	Mailbox      Mailbox
	Agreement    Agreement
	Dataset      *Dataset
	Package      *RightsPackage
	Bases        []LegalBasis // in the agreement's order
	Consumer     Organisation
	Delegations  []Delegation // from the consumer to the agreement's supplier
}

// Receiver is who gets the deliveries: the supplier where there is one.
func (a *Agreement) Receiver() OrgNumber {
	if a.Supplier != "" {
		return a.Supplier
	}
	return a.Consumer
}

// Bucket is the partition of the deliveries topic that holds a mailbox:
// FNV-1a of its name, modulo n.
func Bucket(m MailboxID, n int32) int32 {
	h := uint32(2166136261)
	for i := range len(m) {
		h = (h ^ uint32(m[i])) * 16777619
	}
	return int32(h % uint32(n))
}
