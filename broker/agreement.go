package broker

import "time"

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
	Supplier OrgNumber      `json:"supplier,omitempty"`
	Dataset  DatasetID      `json:"dataset"`
	Package  PackageRef     `json:"package"`
	Purpose  Purpose        `json:"purpose"`
	Bases    []LegalBasisID `json:"bases"`
	// Justification is why a public authority asks for consent: between the two there is
	// seldom a free choice (GDPR recital 43). It is shown to whoever is asked.
	Justification string `json:"justification,omitempty"`
	// OnWithdrawal is what the receiver must do with what it has when a consent that it
	// has it by is withdrawn; nil is [DeleteOnWithdrawal].
	OnWithdrawal *OnWithdrawal `json:"onWithdrawal,omitempty"`
	// Visibility delays when the citizen sees what was decided under it; nil is at once.
	Visibility     *Visibility     `json:"visibility,omitempty"`
	Responsibility Responsibility  `json:"responsibility"`
	Cost           Cost            `json:"cost"`
	Corrections    Corrections     `json:"corrections"`
	Status         AgreementStatus `json:"status"`
	Valid          Interval        `json:"valid"`
	// Framework is the framework agreement acceded to, if any.
	Framework AgreementID `json:"framework,omitempty"`
	// RequiresTruthTable: it may not be put in force without a truth table that is
	// signed off; its dataset may say the same.
	RequiresTruthTable bool `json:"requiresTruthTable,omitempty"`
}

// OnWithdrawal is a duty that the withdrawal of a consent lays on whoever received
// by it: what to do, and to say within so many days that it is done.
type OnWithdrawal struct {
	Do WithdrawalDuty `json:"do"`
	// Days are from when the withdrawal is recorded; 0 is thirty. GDPR articles 12(3)
	// and 17(1) leave a month at the most.
	Days int `json:"days,omitempty"`
	// ELI and Paragraph cite the law by which it is kept; only where Do is KeepWithdrawn.
	ELI       string `json:"eli,omitempty"`
	Paragraph string `json:"paragraph,omitempty"`
}

// WithdrawalDuty is what to do. The set is closed.
type WithdrawalDuty string

// The duties.
const (
	// StopUsing: no longer used, and kept where it is. It is for what has done its work
	// before the withdrawal, which that does not undo (GDPR article 7(3)).
	StopUsing WithdrawalDuty = "stop"
	// DeleteWithdrawn: deleted (GDPR article 17(1)(b)).
	DeleteWithdrawn WithdrawalDuty = "delete"
	// KeepWithdrawn: kept, and used for nothing but what a law demands that it is kept
	// for (GDPR article 17(3)(b)).
	KeepWithdrawn WithdrawalDuty = "keep"
)

// WithdrawalDuties are all of them.
var WithdrawalDuties = []WithdrawalDuty{StopUsing, DeleteWithdrawn, KeepWithdrawn}

// MaxWithdrawalDays bounds OnWithdrawal.Days.
const MaxWithdrawalDays = 31

// DeleteOnWithdrawal is the duty of an agreement that names none.
var DeleteOnWithdrawal = OnWithdrawal{Do: DeleteWithdrawn, Days: 30}

// Duty is what a withdrawal lays on the receiver, with its defaults.
func (a *Agreement) Duty() OnWithdrawal {
	if a.OnWithdrawal == nil {
		return DeleteOnWithdrawal
	}
	d := *a.OnWithdrawal
	if d.Days == 0 {
		d.Days = DeleteOnWithdrawal.Days
	}
	return d
}

// Visibility is that a law lets the subject of a decision learn of it later than others
// (GDPR article 23; personopplysningsloven § 16). Auditors and parties see it at once.
type Visibility struct {
	// Days are from the decision on, 1 to [MaxVisibilityDays]: what is to stay hidden for
	// longer is for somebody to decide anew.
	Days int `json:"days"`
	// ELI and Paragraph cite the law.
	ELI       string `json:"eli"`
	Paragraph string `json:"paragraph"`
}

// MaxVisibilityDays bounds Visibility.Days: two years.
const MaxVisibilityDays = 731

// Visible is when the citizen sees what was decided under the agreement at a time.
func (a *Agreement) Visible(decided time.Time) time.Time {
	if a.Visibility == nil {
		return decided
	}
	return decided.AddDate(0, 0, a.Visibility.Days)
}

// Responsibility (ansvar): the controller on each side (GDPR article 4(7)), whom to
// ask there, and who processes the data for it where.
type Responsibility struct {
	ProviderController OrgNumber `json:"providerController,omitempty"`
	ConsumerController OrgNumber `json:"consumerController,omitempty"`
	// ProviderContact and ConsumerContact are where questions on this agreement go,
	// such as on wrong data; a function's address, not a person's. Empty: the
	// organisation's own contact.
	ProviderContact string `json:"providerContact,omitempty"`
	ConsumerContact string `json:"consumerContact,omitempty"`
	// Processors are those who process the data for one of the controllers.
	Processors []Processor `json:"processors,omitempty"`
	// Locations are the countries where the consumer itself processes the data, as
	// ISO 3166-1 alpha-2; none is not said.
	Locations []Country `json:"locations,omitempty"`
	// Transfer is what lets the data leave the European Economic Area for a country
	// among Locations; a processor has its own.
	Transfer Transfer `json:"transfer,omitempty"`
}

// Processor (databehandler) processes data on behalf of a controller (GDPR article 28).
type Processor struct {
	Organisation OrgNumber `json:"organisation"`
	// For is the controller that it processes for, one of the agreement's two.
	For OrgNumber `json:"for"`
	// Task is what it does, such as "operation of the case system".
	Task string `json:"task"`
	// Contract is the reference of the data processing agreement (article 28(3)).
	Contract  string    `json:"contract"`
	Locations []Country `json:"locations"`
	Transfer  Transfer  `json:"transfer,omitempty"`
}

// Country is an ISO 3166-1 alpha-2 code.
type Country string

// InEEA reports whether it is in the European Economic Area, as of 2026: the 27 states
// of the Union, Iceland, Liechtenstein and Norway.
func (c Country) InEEA() bool {
	switch c {
	case "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IS", "IT", "LI", "LT",
		"LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK":
		return true
	}
	return false
}

// Transfer is the ground for a transfer to a country outside the European Economic
// Area (GDPR chapter V). The set is closed.
type Transfer string

// The grounds; "" where nothing leaves the area.
const (
	Adequacy        Transfer = "adequacy"         // a decision by the Commission, article 45
	StandardClauses Transfer = "standard-clauses" // article 46(2)(c)
	BindingRules    Transfer = "binding-rules"    // article 47
	PublicBodies    Transfer = "public-bodies"    // a binding instrument between authorities, article 46(2)(a)
)

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

// The three ways. Under NotifyCorrections the consumer is told which delivery is
// corrected or retracted, and gets no data.
const (
	DeliverCorrections Corrections = "deliver"
	NotifyCorrections  Corrections = "notify"
	RefuseCorrections  Corrections = "refuse"
)

// Subscription is an abonnement: an agreement put to use.
type Subscription struct {
	ID        SubscriptionID `json:"id"`
	Agreement AgreementID    `json:"agreement"`
	// Mailbox is where records go as they come; "" for a subscription that only
	// looks up.
	Mailbox MailboxID `json:"mailbox,omitempty"`
	Scope   Scope     `json:"scope"`
	// Suspended records are denied, visibly.
	Suspended bool `json:"suspended,omitempty"`
	// Lookup lets its receiver ask for one subject at a time, when it needs to know.
	Lookup bool `json:"lookup,omitempty"`
	// Start is from when on a new subscription gets what was published before it
	// was declared, by the log's timestamps: a date, which begins at midnight in
	// Oslo, or RFC 3339. Zero: from its declaration on. It never changes.
	Start time.Time `json:"start,omitzero"`
	// CatchUp is how many of a subject's newest records a case or a consent that
	// comes later brings, of those published before it: 1 where it is not said, 0
	// for none, MaxCatchUp at the most.
	CatchUp *int `json:"catchUp,omitempty"`
}

// MaxCatchUp bounds Subscription.CatchUp.
const MaxCatchUp = 1_000

// CatchesUp is CatchUp with its default.
func (s *Subscription) CatchesUp() int {
	if s.CatchUp == nil {
		return 1
	}
	return *s.CatchUp
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
	// LookupChannel is that of a subscription without a mailbox: what is looked up is
	// in the answer. No mailbox declares it.
	LookupChannel Channel = "lookup"
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
	// Frozen is that the dataset, the mailbox, the consumer or the supplier is frozen.
	Frozen bool
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
