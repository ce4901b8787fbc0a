package truthtable

import (
	"slices"
	"strings"

	"datafordeler/broker"
)

// Column is what a column of a table is about, by its code.
type Column string

// The columns, in the order of the canonical form. Columns of a record's
// attributes come after them: attribute:<name>.
const (
	Situation   Column = "situation"   // what the row is called: one name for each row
	At          Column = "at"          // when: 2026-01-31, 2026-01-31 23:59 (Oslo), or RFC 3339
	Purpose     Column = "purpose"     // of the agreement, if it were this
	Recipient   Column = "recipient"   // an organisation number or type, if it received
	Supplier    Column = "supplier"    // an organisation number, or none
	Delegation  Column = "delegation"  // from the recipient to the supplier
	Status      Column = "status"      // of the agreement; active where it is not said
	About       Column = "about"       // the period that the record is about
	Record      Column = "record"      // original where it is not said
	Case        Column = "case"        // the recipient's on the subject; none where it is not said
	Consent     Column = "consent"     // the subject's; none where it is not said
	Protected   Column = "protected"   // whether the subject is a protected person
	Corrections Column = "corrections" // what the agreement does with them
	Cost        Column = "cost"        // the model of cost cover, or none
	Payer       Column = "payer"       // an organisation number, or none
	Ceiling     Column = "ceiling"     // left where it is not said
	Expect      Column = "expect"      // what must come out
	Reason      Column = "reason"      // exactly these reasons; of deny only
	Note        Column = "note"        // for people: the law, a case
)

// attribute begins the name of a column that sets an attribute of the record.
const attribute = "attribute:"

// Outcome is what comes out of a situation.
type Outcome string

// The outcomes.
const (
	Permit   Outcome = "permit"   // delivered, with all fields of the package
	Shielded Outcome = "shielded" // delivered, without what tells where a protected person lives
	Notify   Outcome = "notify"   // the recipient is told of the change, and gets no data
	Deny     Outcome = "deny"
	Outside  Outcome = "outside" // outside the package's filter: never considered at all
)

// Words of the closed columns.
const (
	None      = "none"
	Given     = "given"
	Withdrawn = "withdrawn"
	Expired   = "expired"
	Open      = "open"
	Closed    = "closed"
	Yes       = "yes"
	No        = "no"
	Left      = "left"
	Reached   = "reached"
)

// column is one column: how its header may be spelled, and its words with how each
// may be. A column without words is read by its own rule; see cell.
type column struct {
	code    Column
	aliases []string
	words   []word
}

type word struct {
	code    string
	aliases []string
}

func w(code string, aliases ...string) word { return word{code, aliases} }

var noneWord = w(None, "ingen", "inga", "nei")

var columns = []column{
	{Situation, []string{"situasjon"}, nil},
	{At, []string{"tidspunkt", "dato"}, nil},
	{Purpose, []string{"formål", "føremål"}, nil},
	{Recipient, []string{"mottaker", "mottakar"}, nil},
	{Supplier, []string{"leverandør"}, nil},
	{Delegation, []string{"fullmakt", "delegering"}, []word{w(Given, "gitt", "ja", "gjeve"), noneWord, w(Expired, "utløpt", "utgått"), w(Withdrawn, "trukket", "trekt")}},
	{Status, []string{"avtalestatus"}, []word{w(string(broker.Proposed), "foreslått", "føreslått"), w(string(broker.Accepted), "godtatt", "godteken"),
		w(string(broker.Active), "i kraft"), w(string(broker.Suspended), "stanset", "stansa"), w(string(broker.Ended), "avsluttet", "avslutta")}},
	{About, []string{"gjelder", "gjeld", "periode"}, nil},
	{Record, []string{"opplysning", "oppføring"}, []word{w("original", "ny"), w("correction", "rettelse", "retting"), w("retraction", "tilbaketrekking", "trukket tilbake")}},
	{Case, []string{"sak"}, []word{w(Open, "åpen", "open"), w(Closed, "lukket", "lukka", "avsluttet", "avslutta"), noneWord}},
	{Consent, []string{"samtykke"}, []word{w(Given, "gitt", "ja", "gjeve"), w(Withdrawn, "trukket", "trekt"), w(Expired, "utløpt", "utgått"), noneWord}},
	{Protected, []string{"skjermet", "skjerma", "adressebeskyttet"}, []word{w(Yes, "ja"), w(No, "nei")}},
	{Corrections, []string{"rettelser", "rettingar"}, []word{w(string(broker.DeliverCorrections), "leveres", "leverast"), w(string(broker.NotifyCorrections), "varsles", "varslast"), w(string(broker.RefuseCorrections), "avvises", "avvisast")}},
	{Cost, []string{"kostnad", "kostnadsdekning"}, []word{w(string(broker.Free), "gratis"), w(string(broker.PerRecord), "per opplysning"), w(string(broker.PerInhab), "per innbygger", "per innbyggjar"),
		w(string(broker.YearlyBand), "årsbånd"), w(string(broker.PoolShare), "andel"), w(string(broker.JoiningFee), "tilknytning"), noneWord}},
	{Payer, []string{"betaler", "betalar"}, nil},
	{Ceiling, []string{"tak"}, []word{w(Left, "ikke nådd", "ikkje nådd"), w(Reached, "nådd")}},
	{Expect, []string{"forventet", "venta", "utfall"}, []word{w(string(Permit), "tillatt", "tillate"), w(string(Shielded), "skjermet", "skjerma"), w(string(Notify), "varsel"),
		w(string(Deny), "nektet", "nekta", "avslag"), w(string(Outside), "utenfor", "utanfor")}},
	{Reason, []string{"grunn", "grunner"}, nil},
	{Note, []string{"merknad"}, nil},
}

// find is the column that a header names; ok is false for none.
func find(header string) (c *column, ok bool) {
	h := strings.ToLower(strings.TrimSpace(header))
	for i := range columns {
		if c := &columns[i]; h == string(c.code) || slices.Contains(c.aliases, h) {
			return c, true
		}
	}
	for _, prefix := range []string{attribute, "attributt:"} {
		// An attribute's name is as the dataset spells it.
		if len(h) > len(prefix) && strings.HasPrefix(h, prefix) {
			return &column{code: attribute + Column(strings.TrimSpace(strings.TrimSpace(header)[len(prefix):]))}, true
		}
	}
	return nil, false
}

// read is the canonical word for a cell of a closed column.
func (c *column) read(cell string) (string, bool) {
	v := strings.ToLower(cell)
	for i := range c.words {
		if x := &c.words[i]; v == x.code || slices.Contains(x.aliases, v) {
			return x.code, true
		}
	}
	return "", false
}

func (c *column) wanted() string {
	var out []string
	for i := range c.words {
		out = append(out, c.words[i].code)
	}
	return "want " + strings.Join(out, ", ")
}
