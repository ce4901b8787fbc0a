package broker

// NeedID names a need (behov).
type NeedID string

// Need is a behov: what an organisation would use, and for what, whether or not the
// law lets it yet. Others co-sign it.
type Need struct {
	ID           NeedID    `json:"id"`
	Organisation OrgNumber `json:"organisation"`
	// Dataset is what is wanted, or Concept (a URI) where it is not known who has it.
	Dataset DatasetID `json:"dataset,omitempty"`
	Concept string    `json:"concept,omitempty"`
	Purpose Purpose   `json:"purpose"`
	Fields  []Pointer `json:"fields,omitempty"`
	Why     string    `json:"why"`
	Sector  string    `json:"sector"` // such as "oppvekst"
}

// Cosignature says that another organisation has a need too.
type Cosignature struct {
	Need         NeedID    `json:"need"`
	Organisation OrgNumber `json:"organisation"`
	By           string    `json:"by"` // a function, not a person's name
}

// NeedClosure ends a need: it is met, or is no more.
type NeedClosure struct {
	Need NeedID `json:"need"`
	By   string `json:"by"` // a function, not a person's name
	Why  string `json:"why"`
}
