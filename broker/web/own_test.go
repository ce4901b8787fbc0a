package web

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/access"
	"datafordeler/broker/registry"
)

// openCitizens is an office that a citizen comes to, and another one.
func openCitizens(t *testing.T, records int) *office {
	o := openOffice(t, records)
	g := o.guard.(*fakeGuard)
	g.callers["kari"] = access.Caller{Person: access.NewPerson(o.person)}
	g.callers["ola"] = access.Caller{Person: access.NewPerson("07820282307")}
	allow := g.allow
	g.allow = func(c access.Caller, a access.Action, r access.Resource) error {
		if a == access.OwnDisclosures && c.Organisation == "" {
			return nil
		}
		return allow(c, a, r)
	}
	return o
}

// hide lets what is decided under Oslo's agreement be seen so many days later; 0 is at once.
func (o *office) hide(t *testing.T, days int) {
	t.Helper()
	a := *o.books.state.Agreement("oslo-sosialhjelp")
	if a.Visibility = nil; days > 0 {
		a.Visibility = &broker.Visibility{Days: days, ELI: "https://lovdata.no/eli/lov/2018/06/15/38", Paragraph: "§ 16"}
	}
	c, err := registry.Put(a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.books.Append(t.Context(), func(st *registry.State) ([]registry.Event, error) {
		return st.Link(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), "test", c)
	}); err != nil {
		t.Fatal(err)
	}
}

// pages reads all pages of so many.
func (o *office) pages(t *testing.T, token string, limit int) (all []Disclosure, pages []DisclosuresPage) {
	t.Helper()
	for cursor := ""; ; {
		page := decode[DisclosuresPage](t, o.get(fmt.Sprintf("/me/disclosures?limit=%d&cursor=%s", limit, cursor), token), 200)
		all, pages = append(all, page.Disclosures...), append(pages, page)
		if cursor = page.Next; cursor == "" {
			return all, pages
		}
	}
}

// A citizen sees who got data on them, from whom, by which law, and who was refused; and
// nobody sees it in their place.
func TestOwnDisclosures(t *testing.T) {
	o := openCitizens(t, 30)
	all, _ := o.pages(t, "kari", 7)
	if len(all) != 60 {
		t.Fatalf("%d disclosures", len(all))
	}
	if !slices.IsSortedFunc(all, func(a, b Disclosure) int { return b.Time.Compare(a.Time) }) {
		t.Error("they are not the newest first")
	}
	permits := 0
	for _, d := range all {
		if d.Provider.Number != skatt || d.Provider.Name == "" || d.Consumer.Name == "" || d.DatasetTitle == "" || d.Purpose == "" {
			t.Fatalf("%+v", d)
		}
		if d.Outcome == "permit" {
			permits++
			if len(d.Fields) == 0 || len(d.Bases) == 0 || d.Bases[0].Title == "" || d.Bases[0].ELI == "" {
				t.Fatalf("%+v", d)
			}
		} else if len(d.Fields) > 0 || len(d.Bases) > 0 || len(d.Reasons) == 0 {
			t.Fatalf("%+v", d)
		}
	}
	if permits != 20 {
		t.Errorf("%d permits", permits)
	}
	if others, pages := o.pages(t, "ola", 10); len(others) > 0 || len(pages[0].Destroyed) != 1 {
		t.Errorf("another's: %+v", pages)
	}
	for _, token := range []string{"oslo", "digdir"} {
		if w := o.get("/me/disclosures", token); w.Code != 403 {
			t.Errorf("%s: %d %s", token, w.Code, w.Body)
		}
	}
	for path, status := range map[string]int{"/me/disclosures?cursor=x": 400, "/me/disclosures?limit=0": 422, "/me/disclosures?from=x": 422, "/me/disclosures?subject=" + o.person: 422} {
		if w := o.get(path, "kari"); w.Code != status {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	for accept, want := range map[string]string{"": "nb", "nn-NO, en;q=0.5": "nn", "en": "en", "sv": "nb"} {
		if page := decode[DisclosuresPage](t, o.get("/me/disclosures", "kari", "Accept-Language", accept), 200); page.Later != laterTexts[want] {
			t.Errorf("%q: %s", accept, page.Later)
		}
	}
	if strings.Contains(o.log.String(), o.person) {
		t.Error("the log holds a person's number")
	}
}

// What a law lets wait is not there before its time: no number, page, cursor or word
// tells of it. To auditors it is there at once.
func TestDisclosuresLater(t *testing.T) {
	for _, limit := range []int{1, 3, 7, 30, 100} {
		o := openCitizens(t, 30)
		plain, _ := o.pages(t, "kari", limit)
		wanted := slices.DeleteFunc(plain, func(d Disclosure) bool { return d.Agreement == "oslo-sosialhjelp" })
		o.hide(t, 3)
		got, pages := o.pages(t, "kari", limit)
		if len(got) != 30 || !slices.EqualFunc(got, wanted, func(a, b Disclosure) bool { return a.Decision == b.Decision }) {
			t.Fatalf("limit %d: %d are shown, not %d", limit, len(got), len(wanted))
		}
		for i, p := range pages {
			if len(p.Disclosures) < limit && i < len(pages)-1 || len(p.Disclosures) == 0 || p.Later != laterTexts["nb"] {
				t.Errorf("limit %d: page %d of %d has %d, which tells that something is hidden", limit, i, len(pages), len(p.Disclosures))
			}
		}
		if n := len(decode[DecisionsPage](t, o.get("/audit/decisions?limit=1000", "digdir"), 200).Decisions); n != 60 {
			t.Errorf("an auditor is told of %d", n)
		}
		// Its time comes: the office's clock stands at the decisions' day.
		o.hide(t, 0)
		if again, _ := o.pages(t, "kari", limit); len(again) != 60 {
			t.Errorf("limit %d: %d are shown when none is to wait", limit, len(again))
		}
	}
}

// Where all that there is waits, the answer is that of somebody on whom there is nothing.
func TestDisclosuresAllLater(t *testing.T) {
	o := openCitizens(t, 12)
	o.hide(t, 1)
	path := "/me/disclosures?from=2026-11-22&to=2026-11-22T10:30:00Z" // Oslo's alone
	if a, b := o.get(path, "kari").Body.String(), o.get(path, "ola").Body.String(); a != b {
		t.Errorf("%s\nis not what one is told on whom there is nothing:\n%s", a, b)
	}
}
