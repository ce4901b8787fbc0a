package lookup

import (
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// plainly hashes without a key.
type plainly struct{}

func (plainly) Event(broker.DatasetID, string, string) (h broker.EventHash) { return h }

func (plainly) Subject(kind broker.SubjectKind, id string) (k broker.SubjectKey) {
	sum := sha256.Sum256([]byte(string(kind) + " " + id))
	copy(k[:], sum[:])
	return k
}

// Whoever took a subject over is asked about first, near and far; and a provider only of
// whom there is an identifier.
func TestWhom(t *testing.T) {
	const first, second, third = "311131133", "311031031", "311101102"
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		kind     broker.SubjectKind
		follow   bool
		endpoint bool
		want     []string // "?": one whose identifier is not known
	}{
		{broker.OrganisationSubject, true, false, []string{third, second, first}},
		{broker.OrganisationSubject, true, true, []string{third, second, first}},
		{broker.OrganisationSubject, false, false, []string{first}},
		{broker.PropertySubject, true, false, []string{"?", "?", first}},
		{broker.PropertySubject, true, true, []string{first}},
		{broker.PropertySubject, false, true, []string{first}},
	} {
		ds := broker.Dataset{ID: "d", Title: "D", Owner: "974761076", Purpose: "tilsyn", AccessRights: broker.NonPublic, Schemas: []broker.Schema{{Version: "1", Document: []byte(`{}`)}},
			Current: "1", Subject: broker.SubjectRule{Kind: c.kind, Pointer: "/o", Follow: c.follow}, Attributes: []broker.Attribute{}}
		if c.endpoint {
			ds.Endpoint = &broker.Endpoint{URL: "https://register.example/oppslag"}
		}
		key := func(id string) broker.SubjectKey { return plainly{}.Subject(c.kind, id) }
		st := registry.New()
		changes := []registry.Change{}
		for _, v := range []any{broker.Organisation{Number: ds.Owner, Name: "Skatteetaten"}, ds} {
			var put registry.Change
			var err error
			switch v := v.(type) {
			case broker.Organisation:
				put, err = registry.Put(v)
			case broker.Dataset:
				put, err = registry.Put(v)
			}
			if err != nil {
				t.Fatal(err)
			}
			changes = append(changes, put)
		}
		for _, pair := range [][2]string{{first, second}, {second, third}} {
			changes = append(changes, registry.SucceedSubject(registry.SubjectSuccession{Subject: key(pair[0]), Successor: key(pair[1])}))
			if c.kind == broker.OrganisationSubject {
				changes = append(changes, registry.EndUnit(registry.UnitEnd{Organisation: broker.OrgNumber(pair[0]), On: now, Successor: broker.OrgNumber(pair[1])}))
			}
		}
		for _, change := range changes {
			events, err := st.Link(now, "test", change)
			if err != nil {
				t.Fatal(err)
			}
			if accepted, err := st.Fold(events[0]); err != nil || !accepted {
				t.Fatalf("%s: %v %v", change.Type, accepted, err)
			}
		}
		s := &Service{Options: Options{View: func(f func(*registry.State)) { f(st) }, Hasher: plainly{}}}
		var got []string
		for i, w := range s.whom(&ds, key(first), first) {
			if w.id != "" && w.key != key(w.id) || w.id == "" && w.key != key([]string{third, second, first}[i]) {
				t.Errorf("%+v: %q is another", c, w.id)
			}
			if w.id == "" {
				w.id = "?"
			}
			got = append(got, w.id)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: asked about %v", c, got)
		}
	}
}
