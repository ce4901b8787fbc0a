package audit

import (
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
	"datafordeler/broker/store"
)

// What was delivered and not agreed is a fault, and nothing else is.
func TestCompareFields(t *testing.T) {
	pack := &broker.RightsPackage{ID: "p", Version: 1, Fields: []broker.Pointer{"/a", "/b", "/c"}, Shielding: &broker.Shielding{Remove: []broker.Pointer{"/b"}}}
	deriving := &broker.RightsPackage{ID: "p", Version: 1, Fields: []broker.Pointer{"/a"}, Shielding: pack.Shielding, Derivations: []broker.Derivation{
		{V: 1, Target: "/svar", Title: "Svar", Op: broker.Sum, Value: "/b", Below: "1"}, {V: 1, Target: "/antall", Title: "Antall", Rows: "/c", Op: broker.Count}}}
	for _, c := range []struct {
		name     string
		pack     *broker.RightsPackage
		agreed   bool
		fields   []broker.Pointer
		shielded bool
		permits  int64
		faults   int
	}{
		{"all", pack, true, []broker.Pointer{"/a", "/b"}, false, 2, 0},
		{"below one", pack, true, []broker.Pointer{"/a/x"}, false, 2, 0},
		{"like one", pack, true, []broker.Pointer{"/ab"}, false, 2, 1},
		{"another", pack, true, []broker.Pointer{"/a", "/d"}, false, 2, 1},
		{"shielded", pack, true, []broker.Pointer{"/skjermet", "/a"}, true, 2, 0},
		{"not shielded", pack, true, []broker.Pointer{"/skjermet", "/a"}, false, 2, 1},
		{"shielded too little", pack, true, []broker.Pointer{"/skjermet", "/a", "/b"}, true, 2, 1},
		{"shielded without a rule", &broker.RightsPackage{Fields: pack.Fields}, true, []broker.Pointer{"/skjermet", "/a"}, true, 2, 1},
		{"derived", deriving, true, []broker.Pointer{"/a", "/svar"}, false, 2, 0},
		{"derived, and its input too", deriving, true, []broker.Pointer{"/a", "/b", "/svar"}, false, 2, 1},
		{"derived by nobody", pack, true, []broker.Pointer{"/a", "/svar"}, false, 2, 1},
		{"shielded, and derived from what was taken away", deriving, true, []broker.Pointer{"/skjermet", "/a", "/svar"}, true, 2, 1},
		{"shielded, and derived from other things", deriving, true, []broker.Pointer{"/skjermet", "/a", "/antall"}, true, 2, 0},
		{"another version", pack, false, []broker.Pointer{"/a"}, false, 2, 1},
		{"no package", nil, false, []broker.Pointer{"/a"}, false, 2, 3},
		{"some are not known", pack, true, []broker.Pointer{"/a"}, false, 3, 1},
	} {
		d := &store.Delivered{Agreement: "x", Package: broker.PackageRef{ID: "p", Version: 1}, Permits: c.permits,
			Sets: []store.FieldSet{{Fields: c.fields, Shielded: c.shielded, Count: 2}}}
		if r := compareFields(d, c.pack, c.agreed); len(r.Faults) != c.faults {
			t.Errorf("%s: %d faults %q, want %d", c.name, len(r.Faults), r.Faults, c.faults)
		}
	}
}

// What ends within the time is listed with what rests on it; what nobody uses and
// is long over is not.
func TestExpiring(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	st := registry.New()
	put := func(things ...any) {
		t.Helper()
		for _, x := range things {
			c, err := registry.Put(x)
			if err != nil {
				t.Fatal(err)
			}
			events, err := st.Link(now, "test", c)
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := st.Fold(events[0]); err != nil || !ok {
				t.Fatalf("%T: %v, %v", x, ok, err)
			}
		}
	}
	old := broker.Interval{From: now.AddDate(-2, 0, 0), To: now.AddDate(-1, 0, 0)}
	put(broker.LegalBasis{ID: "unused", Valid: old}, broker.LegalBasis{ID: "soon", Valid: broker.Interval{From: old.From, To: now.AddDate(0, 0, 10)}},
		broker.LegalBasis{ID: "late", Valid: broker.Interval{From: old.From, To: now.AddDate(0, 0, 100)}, Assessed: broker.Assessment{By: "DPO", Review: now.AddDate(0, 0, -3)}})
	got := expiring(st, Everything(), now, 90)
	if len(got) != 2 || got[0].ID != "late" || got[0].What != "review" || got[0].Days != -3 || got[0].By != "DPO" || got[1].ID != "soon" || got[1].Days != 10 {
		t.Errorf("%+v", got)
	}
}
