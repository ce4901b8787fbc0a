package providers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// MetadataKey is the Watermill metadata that becomes Event.Key.
const MetadataKey = "key"

// Watermill makes the publisher part of a Watermill router, outbox or
// forwarder. Its topic is the dataset, or the full name of its source topic; no
// other is taken.
//
// A message's UUID becomes the event's id (empty: derived from the content),
// its payload the data, the metadata MetadataKey the key, and metadata that
// begin with "ce_" CloudEvents attributes: ce_type, ce_time, ce_supersedes and
// so on, as in Kafka's headers. Other metadata stay behind. Publishing waits at
// most as long as the context of the first message lets it.
//
// Closing it closes the publisher.
func (p *Publisher) Watermill() message.Publisher { return watermillPublisher{p} }

type watermillPublisher struct{ p *Publisher }

// Publish returns nil when all messages are durable.
func (w watermillPublisher) Publish(topic string, messages ...*message.Message) error {
	if topic != string(w.p.cfg.Dataset) && topic != w.p.topic {
		return fmt.Errorf("%w: this publisher writes to dataset %q, not to %q; make one for each dataset", ErrUnknownDataset, w.p.cfg.Dataset, topic)
	}
	ctx := context.Background()
	events := make([]Event, len(messages))
	for i, m := range messages {
		if i == 0 {
			ctx = m.Context()
		}
		var err error
		if events[i], err = EventOf(m); err != nil {
			return &Error{Refused: true, Total: len(messages), Failures: []Failure{{Index: i, ID: m.UUID, Err: err}}}
		}
	}
	return w.p.Publish(ctx, events...)
}

// Close closes the publisher.
func (w watermillPublisher) Close() error { return w.p.Close() }

// EventOf is a Watermill message as an event; see Publisher.Watermill.
func EventOf(m *message.Message) (Event, error) {
	e := Event{ID: m.UUID, Data: m.Payload, Key: m.Metadata[MetadataKey]}
	for name, value := range m.Metadata {
		name, ok := strings.CutPrefix(name, "ce_")
		if !ok {
			continue
		}
		switch name {
		case "specversion":
			if value != "1.0" {
				return Event{}, errors.New(`metadata ce_specversion is not "1.0"`)
			}
		case "id":
			if e.ID != "" && e.ID != value {
				return Event{}, errors.New("metadata ce_id is not the message's UUID")
			}
			e.ID = value
		case "source":
			e.Source = value
		case "type":
			e.Type = value
		case "time":
			t, err := time.Parse(time.RFC3339, value)
			if err != nil {
				return Event{}, errors.New("metadata ce_time does not follow RFC 3339")
			}
			e.Time = t
		case "dataschema":
			e.DataSchema = value
		case AttributeSupersedes:
			e.Supersedes = value
		case AttributeRetracts:
			e.Retracts = value
		case AttributeProvisional:
			if value != "true" && value != "false" {
				return Event{}, errors.New("metadata ce_provisional is neither true nor false")
			}
			e.Provisional = value == "true"
		case AttributeTraceparent:
			e.Traceparent = value
		default:
			if e.Extensions == nil {
				e.Extensions = map[string]string{}
			}
			e.Extensions[name] = value
		}
	}
	return e, nil
}
