package consumers

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const together = `{"answers":[{"subscription":"s","agreement":"a","dataset":"d","outcome":"answered","answer":{"below":true},"request":"000102030405060708090a0b0c0d0e00",
	"subjects":[{"place":1,"decision":"000102030405060708090a0b0c0d0e0f"},{"place":2,"decision":"000102030405060708090a0b0c0d0e0e"}]},
	{"subscription":"s2","outcome":"refused","subjects":[{"place":2,"decision":"000102030405060708090a0b0c0d0e0d","reasons":[{"code":"no_open_case","remedy":{"en":"Open one."}}]}]},
	{"subscription":"s3","outcome":"unanswered","request":"000102030405060708090a0b0c0d0e00"}]}`

// Several are asked about in the body and nowhere else; what does not fit its outcome is
// no answer.
func TestTogether(t *testing.T) {
	answer := together
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Subject  string
			Subjects []string
			Bundle   []LookupQuestion
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Subject != "" || len(in.Subjects) != 2 || r.URL.RawQuery != "" {
			t.Error(in, err, r.URL)
		}
		_, _ = w.Write([]byte(answer))
	}))
	defer server.Close()
	l, err := NewLookups(LookupConfig{URL: server.URL, Token: func(context.Context) (string, error) { return "t", nil }})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() ([]TogetherAnswer, error) {
		return l.Together(t.Context(), []string{"01815012345", "01815012346"}, LookupQuestion{Subscription: "s"}, LookupQuestion{Subscription: "s2"}, LookupQuestion{Subscription: "s3"})
	}
	a, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	if a[0].Outcome != LookupAnswered || string(a[0].Answer) != `{"below":true}` || len(a[0].Subjects) != 2 || a[0].Subjects[1].Decision.IsZero() || a[0].Request.IsZero() ||
		a[1].Outcome != LookupRefused || a[1].Subjects[0].Place != 2 || a[1].Subjects[0].Reasons[0].Remedy["en"] == "" || a[2].Outcome != LookupUnanswered || a[2].Answer != nil {
		t.Errorf("%+v", a)
	}
	for _, spoil := range [][2]string{
		{`"answered"`, `"perhaps"`}, {`"answered"`, `"unanswered"`}, {`,"answer":{"below":true}`, ``}, {`{"below":true}`, `true`}, {`"place":2,"decision":"000102030405060708090a0b0c0d0e0e"`, `"place":3,"decision":"000102030405060708090a0b0c0d0e0e"`},
		{`,{"place":2,"decision":"000102030405060708090a0b0c0d0e0e"}`, ``}, {`"decision":"000102030405060708090a0b0c0d0e0f"`, `"decision":"x"`}, {`0d0e00`, `0d0e`},
	} {
		if answer = strings.Replace(together, spoil[0], spoil[1], 1); answer == together {
			t.Fatal(spoil)
		}
		if a, err := ask(); err == nil || strings.Contains(err.Error(), "0181501234") {
			t.Errorf("%v: %+v, %v", spoil, a, err)
		}
	}
	// Of one subject by itself there are no such answers.
	answer = together
	if _, err := readAnswers([]byte(together)); err == nil {
		t.Error("an answer on several was taken for one on one")
	}
}

func FuzzReadTogether(f *testing.F) {
	f.Add([]byte(together), 2)
	f.Add([]byte(`{"answers":[{}]}`), 0)
	f.Fuzz(func(t *testing.T, b []byte, subjects int) {
		as, err := readTogether(b, subjects)
		for i := range as {
			if err == nil && (as[i].Outcome == "" || as[i].Outcome == LookupAnswered != (as[i].Answer != nil)) {
				t.Fatalf("%+v", as[i])
			}
		}
	})
}
