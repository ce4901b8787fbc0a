package audit

import (
	"strings"
	"testing"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
)

// A notice is said to be one, in each language; a delivery is not.
func TestNoticeIsExplained(t *testing.T) {
	text := func(kind broker.RecordKind, lang string, fields ...broker.Pointer) string {
		t.Helper()
		d := &broker.Decision{RecordKind: kind, Fields: fields, Outcome: broker.Outcome{Permit: true}, Package: broker.PackageRef{ID: "p", Version: 1}}
		x := &Explanation{decision: d, state: registry.New(), Terms: &broker.Agreement{ID: "a"}, Consumer: Party{Number: "958935420", Name: "Kommunen"}}
		var b strings.Builder
		if err := x.Text(&b, lang); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for lang, want := range map[string][3]string{
		"nb": {"VARSLET, UTEN OPPLYSNINGER: Kommunen (958935420) ", "\nVarsel: mottakeren fikk vite at en opplysning ble rettet, uten innholdet; ", "\nVarsel: mottakeren fikk vite at en opplysning ble trukket tilbake, uten innholdet; "},
		"nn": {"VARSLA, UTAN OPPLYSNINGAR: Kommunen (958935420) ", "\nVarsel: mottakaren fekk vite at ei opplysning vart retta, utan innhaldet; ", "\nVarsel: mottakaren fekk vite at ei opplysning vart trekt tilbake, utan innhaldet; "},
		"en": {"TOLD, WITHOUT DATA: Kommunen (958935420) ", "\nNotice: the consumer was told that a record was corrected, without data; ", "\nNotice: the consumer was told that a record was retracted, without data; "},
	} {
		for i, kind := range []broker.RecordKind{broker.Correction, broker.Retraction} {
			if got := text(kind, lang); !strings.HasPrefix(got, want[0]) || !strings.Contains(got, want[1+i]) || strings.Contains(got, ": 0, ") {
				t.Errorf("%s, %s:\n%s", lang, kind, got)
			}
			if got := text(kind, lang, "/a"); strings.HasPrefix(got, want[0]) || strings.Contains(got, want[1+i]) {
				t.Errorf("%s, %s with data:\n%s", lang, kind, got)
			}
		}
	}
}

// One that is told after its data was denied says so, and on what duty; one that is not
// told says that.
func TestNoticeAfterTheEndIsExplained(t *testing.T) {
	for lang, want := range map[string][3]string{
		"nb": {"VARSLET, UTEN OPPLYSNINGER: ", "GDPR artikkel 19", "IKKE VARSLET: "},
		"nn": {"VARSLA, UTAN OPPLYSNINGAR: ", "GDPR artikkel 19", "IKKJE VARSLA: "},
		"en": {"TOLD, WITHOUT DATA: ", "GDPR article 19", "NOT TOLD: "},
	} {
		for _, permit := range []bool{true, false} {
			d := &broker.Decision{Kind: broker.NoticeDecision, RecordKind: broker.Retraction, Outcome: broker.Outcome{Permit: permit}}
			if !permit {
				d.Outcome.Reasons = []broker.Reason{broker.ReasonDeliveryUnknown}
			}
			x := &Explanation{decision: d, state: registry.New(), Terms: &broker.Agreement{ID: "a"}}
			var b strings.Builder
			if err := x.Text(&b, lang); err != nil {
				t.Fatal(err)
			}
			head := want[0]
			if !permit {
				head = want[2]
			}
			if got := b.String(); !strings.HasPrefix(got, head) || strings.Count(got, want[1]) != 1 {
				t.Errorf("%s, permit %v:\n%s", lang, permit, got)
			}
			if !NewDecision(d).Notice == permit {
				t.Errorf("notice of %v", permit)
			}
		}
	}
}

// Notices are counted among the deliveries, are no fault, and no set of fields.
func TestNoticesAmongFields(t *testing.T) {
	d := &store.Delivered{Agreement: "x", Package: broker.PackageRef{ID: "p", Version: 1}, Permits: 5,
		Sets: []store.FieldSet{{Fields: []broker.Pointer{"/a"}, Count: 2}, {Count: 3, Kinds: store.Kinds{broker.BackfillDecision: 1}}}}
	r := compareFields(d, &broker.RightsPackage{Fields: []broker.Pointer{"/a"}}, true)
	if r.Notices != 3 || r.Deliveries != 5 || r.Backfills != 1 || r.Nothing != 0 || len(r.Faults) != 0 {
		t.Errorf("%+v", r)
	}
	for i, row := range r.Rows() {
		if len(row) != len(FieldsColumns) || row[len(row)-1] != []string{"0", "3"}[i] {
			t.Errorf("%q", row)
		}
	}
}
