package catalogue

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"datafordeler/broker"
	"datafordeler/broker/derive"
	"datafordeler/broker/registry"
)

// Names are what topics are called.
type Names interface {
	Source(dataset string) string
	Rejected(dataset string) string
	Mailbox(id string) string
}

// AsyncOptions say what goes into the description.
type AsyncOptions struct {
	Names Names
	// Servers are Kafka's addresses, host:port; none leaves them out.
	Servers []string
	// Secure says that they want TLS and SCRAM.
	Secure bool
	// Version is the program's.
	Version string
	// For is whose description it is: its own datasets and mailboxes. Empty is all
	// of them.
	For broker.OrgNumber
}

// The parts of AsyncAPI 3.1 that are written here
// (https://www.asyncapi.com/docs/reference/specification/v3.1.0).
type (
	asyncDocument struct {
		AsyncAPI           string                    `json:"asyncapi"`
		Info               asyncInfo                 `json:"info"`
		DefaultContentType string                    `json:"defaultContentType"`
		Servers            map[string]asyncServer    `json:"servers,omitempty"`
		Channels           map[string]asyncChannel   `json:"channels"`
		Operations         map[string]asyncOperation `json:"operations"`
		Components         *asyncComponents          `json:"components,omitempty"`
	}
	asyncInfo struct {
		Title       string `json:"title"`
		Version     string `json:"version"`
		Description string `json:"description"`
	}
	asyncServer struct {
		Host     string     `json:"host"`
		Protocol string     `json:"protocol"`
		Security []asyncRef `json:"security,omitempty"`
	}
	asyncRef struct {
		Ref string `json:"$ref"`
	}
	asyncChannel struct {
		Address     string                  `json:"address"`
		Title       string                  `json:"title,omitempty"`
		Description string                  `json:"description,omitempty"`
		Messages    map[string]asyncMessage `json:"messages"`
		Bindings    *asyncBindings          `json:"bindings,omitempty"`
	}
	asyncBindings struct {
		Kafka asyncKafka `json:"kafka"`
	}
	asyncKafka struct {
		Key        any `json:"key,omitempty"`
		Partitions int `json:"partitions,omitempty"`
	}
	asyncMessage struct {
		Name        string         `json:"name"`
		Title       string         `json:"title"`
		Summary     string         `json:"summary,omitempty"`
		ContentType string         `json:"contentType"`
		Headers     any            `json:"headers"`
		Payload     any            `json:"payload"`
		Bindings    *asyncBindings `json:"bindings,omitempty"`
		// Fields and Concepts are the project's own: which fields are agreed, and
		// what each means.
		Fields   []broker.Pointer          `json:"x-fields,omitempty"`
		Concepts map[broker.Pointer]string `json:"x-concepts,omitempty"`
	}
	asyncOperation struct {
		Action   string     `json:"action"`
		Channel  asyncRef   `json:"channel"`
		Summary  string     `json:"summary"`
		Messages []asyncRef `json:"messages,omitempty"`
	}
	asyncComponents struct {
		SecuritySchemes map[string]any `json:"securitySchemes"`
	}
	multiFormat struct {
		Format string          `json:"schemaFormat"`
		Schema json.RawMessage `json:"schema"`
	}
	property struct {
		Type        string   `json:"type,omitempty"`
		Description string   `json:"description,omitempty"`
		Const       string   `json:"const,omitempty"`
		Enum        []string `json:"enum,omitempty"`
		Format      string   `json:"format,omitempty"`
	}
	object struct {
		Type        string              `json:"type"`
		Description string              `json:"description,omitempty"`
		Required    []string            `json:"required,omitempty"`
		Properties  map[string]property `json:"properties,omitempty"`
	}
)

// AsyncAPI describes, as JSON, the topics that the broker reads from providers and
// writes to consumers: all of them, or those of one organisation. The same state
// gives the same bytes.
func AsyncAPI(st *registry.State, o AsyncOptions) ([]byte, error) {
	doc := asyncDocument{
		AsyncAPI: "3.1.0",
		Info: asyncInfo{
			Title: "Datafordeler", Version: o.Version,
			Description: fmt.Sprintf("Topics at revision %d of the registry. The broker receives what providers publish, and sends what consumers may have. "+
				"Read committed records only (isolation.level=read_committed).", st.Revision()),
		},
		DefaultContentType: "application/json",
		Channels:           map[string]asyncChannel{}, Operations: map[string]asyncOperation{},
	}
	doc.servers(o)
	for _, d := range st.Datasets() {
		if o.For == "" || d.Owner == o.For {
			doc.dataset(d, o.Names)
		}
	}
	for _, m := range st.Mailboxes() {
		if m.Channel == broker.KafkaChannel && (o.For == "" || m.Organisation == o.For) {
			doc.mailbox(st, m, o.Names)
		}
	}
	return json.MarshalIndent(doc, "", "  ")
}

func (doc *asyncDocument) servers(o AsyncOptions) {
	for i, host := range o.Servers {
		if doc.Servers == nil {
			doc.Servers = map[string]asyncServer{}
		}
		s := asyncServer{Host: host, Protocol: "kafka"}
		if o.Secure {
			s.Protocol = "kafka-secure"
			s.Security = []asyncRef{{"#/components/securitySchemes/scram"}}
			doc.Components = &asyncComponents{SecuritySchemes: map[string]any{
				"scram": map[string]string{"type": "scramSha512", "description": "a name and a password that a client issues to itself by the HTTP API"},
			}}
		}
		doc.Servers[fmt.Sprintf("kafka%d", i+1)] = s
	}
}

// key is what a thing is called in the document: letters, digits, dots, dashes and
// underscores (AsyncAPI 3.1, fixed fields of components).
func key(kind, id string) string { return kind + "." + id }

// pointer refers to a part of the document (RFC 6901).
func pointer(tokens ...string) asyncRef {
	var b strings.Builder
	b.WriteByte('#')
	for _, t := range tokens {
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(t))
	}
	return asyncRef{b.String()}
}

func (doc *asyncDocument) dataset(d *broker.Dataset, names Names) {
	id := key("source", string(d.ID))
	c := asyncChannel{
		Address: names.Source(string(d.ID)), Title: d.Title,
		Description: "What the provider " + string(d.Owner) + " publishes. CloudEvents 1.0, in Kafka's binary mode or structured.",
		Messages:    map[string]asyncMessage{},
		Bindings:    &asyncBindings{asyncKafka{Partitions: int(d.Partitions)}},
	}
	op := asyncOperation{Action: "receive", Channel: pointer("channels", id), Summary: "Records of " + d.Title}
	versions := slices.Clone(d.Schemas)
	slices.SortFunc(versions, func(a, b broker.Schema) int { return strings.Compare(a.Version, b.Version) })
	for _, s := range versions {
		name := key("record", s.Version)
		headers := sourceHeaders()
		summary := "A record by schema version " + s.Version
		if s.URI != "" {
			headers.Properties["ce_dataschema"] = property{Type: "string", Const: s.URI, Description: "names this version of the schema"}
		}
		if s.Version == d.Current {
			summary += ", which holds where a record names none"
		} else {
			headers.Required = append(headers.Required, "ce_dataschema")
		}
		c.Messages[name] = asyncMessage{
			Name: name, Title: d.Title, Summary: summary, ContentType: "application/json",
			Headers: headers, Payload: multiFormat{schemaFormat(s.Document), s.Document}, Concepts: d.Concepts,
			Bindings: &asyncBindings{asyncKafka{Key: property{Type: "string", Description: keyOf(d)}}},
		}
		op.Messages = append(op.Messages, pointer("channels", id, "messages", name))
	}
	doc.Channels[id], doc.Operations["receive."+string(d.ID)] = c, op

	id = key("rejected", string(d.ID))
	doc.Channels[id] = asyncChannel{
		Address: names.Rejected(string(d.ID)), Title: d.Title + ": what was not accepted",
		Description: "For the provider " + string(d.Owner) + ": which record, and why. It holds no value of the payload.",
		Messages: map[string]asyncMessage{"rejection": {
			Name: "rejection", Title: "A record that was not accepted", ContentType: "application/json",
			Headers: object{Type: "object", Properties: map[string]property{
				"ce_id":     {Type: "string", Description: "the record's id, as the provider wrote it"},
				"ce_source": {Type: "string", Description: "the record's source, as the provider wrote it"},
			}},
			Payload: object{Type: "object", Required: []string{"v", "reason", "dataset", "partition", "offset", "at"}, Properties: map[string]property{
				"v":         {Type: "integer", Description: "the format, 1"},
				"reason":    {Type: "string", Description: "why, as a stable code"},
				"dataset":   {Type: "string"},
				"partition": {Type: "integer"},
				"offset":    {Type: "integer", Description: "where the record stands in the dataset's topic"},
				"detail":    {Type: "string", Description: "why, in words"},
				"pointer":   {Type: "string", Format: "json-pointer", Description: "where in the payload"},
				"at":        {Type: "string", Format: "date-time"},
			}},
		}},
		Bindings: &asyncBindings{asyncKafka{Partitions: 1}},
	}
	doc.Operations["send.rejected."+string(d.ID)] = asyncOperation{
		Action: "send", Channel: pointer("channels", id), Summary: "What was not accepted of " + d.Title,
		Messages: []asyncRef{pointer("channels", id, "messages", "rejection")},
	}
}

// keyOf says what orders a dataset's records.
func keyOf(d *broker.Dataset) string {
	if d.Subject.Kind == broker.NoSubject {
		return "any; records with the same key keep their order"
	}
	return "one for each subject: records with the same key keep their order"
}

func (doc *asyncDocument) mailbox(st *registry.State, m *broker.Mailbox, names Names) {
	id := key("mailbox", string(m.ID))
	c := asyncChannel{
		Address: names.Mailbox(string(m.ID)), Title: "Mailbox " + string(m.ID),
		Description: "Deliveries to " + string(m.Organisation) + ". CloudEvents 1.0, in Kafka's binary mode.",
		Messages:    map[string]asyncMessage{},
		Bindings:    &asyncBindings{asyncKafka{Partitions: int(max(1, m.Partitions))}},
	}
	op := asyncOperation{Action: "send", Channel: pointer("channels", id), Summary: "Deliveries to mailbox " + string(m.ID)}
	for _, sub := range st.Subscriptions() {
		if sub.Mailbox != m.ID {
			continue
		}
		t := st.Terms(sub.ID)
		if t == nil || t.Package == nil || t.Dataset == nil {
			continue // nothing is delivered under it
		}
		name := key("delivery", string(sub.ID))
		c.Messages[name] = asyncMessage{
			Name: name, Title: t.Dataset.Title, ContentType: "application/json",
			Summary: fmt.Sprintf("Records of %s under agreement %s, reduced to the fields of rights package %s/%d", t.Dataset.ID, t.Agreement.ID, t.Package.ID, t.Package.Version),
			Headers: deliveryHeaders(t),
			Payload: payload(t.Package),
			Fields:  t.Package.Fields, Concepts: meanings(t.Dataset, t.Package.Fields),
		}
		op.Messages = append(op.Messages, pointer("channels", id, "messages", name))
	}
	doc.Channels[id], doc.Operations["send.mailbox."+string(m.ID)] = c, op
}

// payload is what is delivered under a package.
func payload(p *broker.RightsPackage) object {
	o := object{Type: "object", Description: "The provider's payload, reduced to x-fields. Of a protected person some may be left out, and \"skjermet\": true is set."}
	for i := range p.Derivations {
		d := &p.Derivations[i]
		if o.Properties == nil {
			o.Properties = map[string]property{}
			o.Description += " The properties below are no part of the provider's payload: they are derived from it."
		}
		kind, names := derive.Answer(d)
		o.Properties[strings.TrimPrefix(string(d.Target), "/")] = property{Type: kind, Enum: names, Description: d.Title + ": " + derive.Rule(d)}
	}
	return o
}

// meanings are the concepts of the agreed fields alone.
func meanings(d *broker.Dataset, fields []broker.Pointer) map[broker.Pointer]string {
	out := map[broker.Pointer]string{}
	for p, concept := range d.Concepts {
		if slices.ContainsFunc(fields, func(f broker.Pointer) bool { return f.Covers(p) }) {
			out[p] = concept
		}
	}
	return out
}

func sourceHeaders() object {
	return object{Type: "object", Required: []string{"ce_specversion", "ce_id", "ce_source", "ce_type"}, Properties: map[string]property{
		"ce_specversion": {Type: "string", Const: "1.0"},
		"ce_id":          {Type: "string", Description: "unique with ce_source: the same again is a repeat, and is dropped"},
		"ce_source":      {Type: "string", Format: "uri-reference"},
		"ce_type":        {Type: "string"},
		"ce_time":        {Type: "string", Format: "date-time"},
		"ce_supersedes":  {Type: "string", Description: "the id of the event that this one corrects"},
		"ce_retracts":    {Type: "string", Description: "the id of the event that this one takes back"},
		"ce_provisional": {Type: "string", Enum: []string{"true", "false"}, Description: "whether it may still change"},
	}}
}

func deliveryHeaders(t *broker.Terms) object {
	return object{Type: "object", Required: []string{"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subscription", "ce_decision", "ce_recordkind"}, Properties: map[string]property{
		"ce_specversion":  {Type: "string", Const: "1.0"},
		"ce_id":           {Type: "string", Description: "the delivery's id: one that was seen before is a repeat"},
		"ce_source":       {Type: "string", Const: "urn:datafordeler:dataset:" + string(t.Dataset.ID)},
		"ce_type":         {Type: "string", Description: "the provider's"},
		"ce_time":         {Type: "string", Format: "date-time", Description: "the provider's"},
		"ce_mailbox":      {Type: "string", Const: string(t.Mailbox.ID)},
		"ce_subscription": {Type: "string", Const: string(t.Subscription.ID)},
		"ce_agreement":    {Type: "string", Const: string(t.Agreement.ID)},
		"ce_dataset":      {Type: "string", Const: string(t.Dataset.ID)},
		"ce_provider":     {Type: "string", Const: string(t.Dataset.Owner)},
		"ce_decision":     {Type: "string", Description: "the decision that permitted it: ask for its proof by this"},
		"ce_recordkind":   {Type: "string", Enum: []string{broker.Original.String(), broker.Correction.String(), broker.Retraction.String()}},
		"ce_of":           {Type: "string", Description: "the delivery that is corrected or taken back"},
		"ce_provisional":  {Type: "string", Enum: []string{"true", "false"}, Description: "whether it may still change"},
		"ce_backfill":     {Type: "string", Const: "true", Description: "stands where it was published before its subscription, case or consent came to be"},
		"ce_notice":       {Type: "string", Const: "true", Description: "stands where only that is told, that the delivery in ce_of was corrected or taken back: the value is null"},
		"ce_denied":       {Type: "string", Const: "true", Description: "stands on a notice that comes although the right to the data has ended"},
		"ce_traceparent":  {Type: "string", Description: "W3C Trace Context, the provider's"},
	}}
}

// schemaFormat names a JSON Schema's draft, as AsyncAPI asks.
func schemaFormat(document json.RawMessage) string {
	var head struct {
		Schema string `json:"$schema"`
	}
	_ = json.Unmarshal(document, &head) // a registered schema is JSON; true and false have no draft
	const format = "application/schema+json;version="
	for _, draft := range []string{"2019-09", "draft-07", "draft-06", "draft-04"} {
		if strings.Contains(head.Schema, draft) {
			return format + draft
		}
	}
	return format + "2020-12"
}
