package inwords

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"datafordeler/broker"
	"datafordeler/broker/registry"
)

// Languages are those that it is said in: bokmål, nynorsk, English.
var Languages = []string{"nb", "nn", "en"}

// Input is what a description is made of.
type Input struct {
	State     *registry.State
	Agreement broker.AgreementID
	At        time.Time // as of when: what is in force, and due for review
	Policy    Policy
	// Frozen are the subscriptions that a freeze stops.
	Frozen map[broker.SubscriptionID]bool
}

// Policy is what the policy in force says. The zero value is that none is.
type Policy struct {
	Digest  string
	Reasons []Reason // all that a decision can name, in order of precedence
	Answers []Answer
}

// Reason is one for denial.
type Reason struct {
	Code  broker.Reason
	Cites []string
	// Message and Remedy by language.
	Message, Remedy map[string]string
	Stands          Standing
}

// Standing is whether the agreement by itself settles that a reason can come.
type Standing string

// The standings.
const (
	Unsettled Standing = ""      // it is not known
	Met       Standing = "met"   // it never comes while the agreement stands as it does
	Unmet     Standing = "unmet" // it always comes
	Depends   Standing = "open"  // it depends on the record, the time, or the subject
)

// Answer is what the policy answered now on a record that is otherwise in order.
type Answer struct {
	Situation Situation
	Permit    bool
	Reasons   []broker.Reason
	Bases     []broker.LegalBasisID // that carry the permit
	Fault     string                // why nothing was answered
}

// Situation is what an answer is on.
type Situation string

// The situations.
const (
	Neither Situation = "neither" // no case, no consent
	Case    Situation = "case"    // an open case only
	Consent Situation = "consent" // a consent only
	Both    Situation = "both"
)

// Situations are all of them.
var Situations = []Situation{Neither, Case, Consent, Both}

// Description is an agreement in words.
type Description struct {
	Agreement broker.AgreementID `json:"agreement"`
	Language  string             `json:"language"`
	At        time.Time          `json:"at"`
	Revision  broker.Revision    `json:"revision"`
	Policy    string             `json:"policy,omitempty"` // its digest
	Title     string             `json:"title"`
	Sections  []Section          `json:"sections"`
}

// Section is what is said of one thing.
type Section struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Lines []Line `json:"lines"`
}

// Line is a paragraph, or an item of the list under the paragraph before it.
type Line struct {
	Text string `json:"text"`
	Item bool   `json:"item,omitempty"`
	// About names what it is on: a field, a legal basis, a reason; "" is the agreement.
	About string `json:"about,omitempty"`
}

// Agreement describes one in a language; nil where there is no such agreement.
func Agreement(in *Input, language string) (*Description, error) {
	at := slices.Index(Languages, language)
	if at < 0 {
		return nil, fmt.Errorf("language %q: want nb, nn or en", language)
	}
	terms := in.State.AgreementTerms(in.Agreement)
	if terms == nil {
		return nil, nil
	}
	w := &writer{language: at, code: language, in: in, st: in.State, t: terms, a: &terms.Agreement, d: &Description{
		Agreement: in.Agreement, Language: language, At: in.At.UTC(), Revision: in.State.Revision(), Policy: in.Policy.Digest,
	}}
	w.build()
	return w.d, nil
}

// width is where lines are broken, in letters.
const width = 96

// Text writes it as plain text.
func (d *Description) Text(out io.Writer) error {
	var b strings.Builder
	b.WriteString(d.Title + "\n" + strings.Repeat("=", utf8.RuneCountInString(d.Title)) + "\n")
	for i := range d.Sections {
		s := &d.Sections[i]
		b.WriteString("\n" + s.Title + "\n")
		for _, l := range s.Lines {
			first, rest := "  ", "  "
			if l.Item {
				first, rest = "  - ", "    "
			}
			wrap(&b, l.Text, first, rest)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func wrap(b *strings.Builder, text, first, rest string) {
	line, n := first, utf8.RuneCountInString(first)
	begun := false
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\n' }) {
		k := utf8.RuneCountInString(word)
		if begun && n+1+k > width {
			b.WriteString(line + "\n")
			line, n, begun = rest, utf8.RuneCountInString(rest), false
		}
		if begun {
			line, n = line+" ", n+1
		}
		line, n, begun = line+word, n+k, true
	}
	b.WriteString(line + "\n")
}

// writer says one thing after another.
type writer struct {
	language int
	code     string
	in       *Input
	st       *registry.State
	t        *broker.Terms
	a        *broker.Agreement
	d        *Description
}

// phrase is a sentence, or a part of one, in each language. Its arguments come in one order.
type phrase [3]string

func (w *writer) f(p phrase, args ...any) string {
	if len(args) == 0 {
		return p[w.language]
	}
	return fmt.Sprintf(p[w.language], args...)
}

func (w *writer) section(id string, title phrase) {
	w.d.Sections = append(w.d.Sections, Section{ID: id, Title: w.f(title), Lines: []Line{}})
}

func (w *writer) put(l Line) {
	s := &w.d.Sections[len(w.d.Sections)-1]
	s.Lines = append(s.Lines, l)
}

func (w *writer) say(p phrase, args ...any) { w.put(Line{Text: w.f(p, args...)}) }

func (w *writer) item(about string, text ...string) {
	w.put(Line{Text: strings.Join(text, " "), Item: true, About: about})
}
