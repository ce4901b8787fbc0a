package web

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"datafordeler/broker/access"
)

// What passes is 503 with when to come again, says whether a decision may stand, and
// tells nothing of why.
func TestHeldBack(t *testing.T) {
	for _, c := range []struct {
		stands bool
		says   string
	}{{false, "nothing is decided just now"}, {true, "a decision may stand in the log all the same"}} {
		s := testServer(t, nil)
		Register(s, huma.Operation{OperationID: "look", Method: "GET", Path: "/look"}, Rule{Action: access.ReadSelf},
			func(context.Context, *struct{}) (*struct{}, error) {
				return nil, &HeldBack{Why: errors.New("the disk is full"), Stands: c.stands}
			})
		r := httptest.NewRequest("GET", "/look", nil)
		r.Header.Set("Authorization", "Bearer oslo")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if body := w.Body.String(); w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(body, c.says) || strings.Contains(body, "disk") {
			t.Errorf("stands %v: %d %v %s", c.stands, w.Code, w.Header(), body)
		}
	}
}
