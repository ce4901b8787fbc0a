package registry

import (
	"fmt"
	"strings"

	"datafordeler/broker"
)

// refuseVisibility says what an agreement may not hide from the citizen; nil is nothing.
func refuseVisibility(v *broker.Visibility) string {
	if v == nil {
		return ""
	}
	switch {
	case v.Days < 1 || v.Days > broker.MaxVisibilityDays:
		return fmt.Sprintf("visibility: %d days; want 1 to %d", v.Days, broker.MaxVisibilityDays)
	case v.ELI == "" || strings.TrimSpace(v.Paragraph) == "":
		return "visibility: what a citizen learns later they learn later by a law: cite it in eli and paragraph"
	}
	if r := checkLaw(v.ELI, v.Paragraph); r != "" {
		return "visibility: " + r
	}
	return ""
}

// visibility: what is hidden for a while is hidden by a law.
func (w *world) visibility(a at, v *broker.Visibility) {
	if r := refuseVisibility(v); r != "" {
		what, remedy, _ := strings.Cut(strings.TrimPrefix(r, "visibility: "), ": ")
		if remedy == "" {
			remedy = "see docs/decisions/0035-delayed-visibility.md"
		}
		w.at(a, "visibility", what, remedy)
	}
}
