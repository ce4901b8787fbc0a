package registry

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"datafordeler/broker"
)

// LegalAssessment finds an assessment in the library; nil if there is none.
func (s *State) LegalAssessment(id broker.AssessmentID) *broker.LegalAssessment {
	return s.assessments[id]
}

// LegalAssessments lists the library.
func (s *State) LegalAssessments() []*broker.LegalAssessment { return sorted(s.assessments) }

// refuseRests: what an assessment rests on is in the library.
func (s *State) refuseRests(a *broker.Assessment) string {
	for _, id := range a.RestsOn {
		if s.assessments[id] == nil {
			return unknown("assessment", id)
		}
	}
	return ""
}

func (w *world) legalAssessment(v *broker.LegalAssessment) {
	a := w.of(KindAssessment, string(v.ID))
	w.name(a, "id", string(v.ID))
	for _, text := range []struct{ path, value string }{{"title", v.Title}, {"question", v.Question}, {"conclusion", v.Conclusion}, {"by", v.By}} {
		if strings.TrimSpace(text.value) == "" {
			w.at(a, text.path, "an assessment says its "+text.path, "")
		}
		w.noPerson(a, text.path, text.value)
	}
	if v.At.IsZero() {
		w.at(a, "at", "an assessment says when it was made", "give at")
	}
	if !v.Review.IsZero() && v.Review.Before(v.At) {
		w.at(a, "review", "the assessment is to be reviewed before it was made", "correct at or review")
	}
	if len(v.Sources) == 0 {
		w.at(a, "sources", "an assessment names no source", "name the law, preparatory works or practice that it reads")
	}
	for i, s := range v.Sources {
		path := "sources/" + strconv.Itoa(i)
		if s.Title == "" {
			w.at(a, path+"/title", "a source has a title", "")
		}
		w.noPerson(a, path, s.Title, s.Paragraph)
		w.eli(a, path+"/eli", s.ELI)
	}
}

// eli holds an identifier to its shape; "" is none.
func (w *world) eli(a at, path, eli string) {
	if eli == "" {
		return
	}
	if !isELI(eli) {
		w.at(a, path, fmt.Sprintf("%q is not a European Legislation Identifier", eli), "want such as https://lovdata.no/eli/lov/2012/06/22/43")
	}
}

// isELI reports whether it may be a European Legislation Identifier; "" is none.
func isELI(eli string) bool {
	u, err := url.Parse(eli)
	return eli == "" || err == nil && u.Scheme == "https" && strings.Contains(u.Path, "/eli/")
}

// restsOn holds an assessment to what the library has.
func (w *world) restsOn(a at, path string, s *broker.Assessment) {
	for i, id := range s.RestsOn {
		if w.assessments[id] == nil {
			w.at(a, path+"/restsOn/"+strconv.Itoa(i), fmt.Sprintf("assessment %q is not declared", string(id)), "declare it with kind: assessment, or correct the name")
		}
	}
}
