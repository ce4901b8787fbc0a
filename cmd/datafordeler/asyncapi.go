package main

import (
	"context"

	"datafordeler/broker"
	"datafordeler/broker/catalogue"
	"datafordeler/broker/registry"
)

func asyncapiCommand() command {
	return command{
		name:    "asyncapi",
		summary: "describe the Kafka topics and their messages, in AsyncAPI 3.1",
		help: `Usage: datafordeler asyncapi [--organisation ORGNR]

Prints, as JSON, the topics that providers publish on and that consumers receive
on, with the schema of each message, as the registry has them now. With
--organisation it is that organisation's own alone, which is also what
GET /asyncapi.json answers it.
` + placeHelp + `
Examples:
  datafordeler asyncapi --config broker.yaml > topics.json
  datafordeler asyncapi --data data --organisation 958935420 | jq '.channels | keys'
`,
		run: asyncapi,
	}
}

func asyncapi(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("asyncapi")
	where := placeFlags(fs)
	org := fs.String("organisation", "", "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	var of broker.OrgNumber
	if *org != "" {
		var err error
		if of, err = broker.ParseOrgNumber(*org); err != nil {
			return usagef("--organisation: %w", err)
		}
	}
	n, err := where.open(ctx, std, false)
	if err != nil {
		return err
	}
	defer n.close()
	doc, err := n.describeTopics(of)
	if err == nil {
		_, err = std.out.Write(append(doc, '\n'))
	}
	return err
}

// describeTopics is what an organisation's developers, or with none an operator,
// are told of the topics.
func (n *node) describeTopics(of broker.OrgNumber) (doc []byte, err error) {
	o := catalogue.AsyncOptions{
		Names: n.cfg.Topics(), Servers: n.engine.Brokers(), Version: version(), For: of,
		Secure: n.cfg.SASL.Mechanism != "",
	}
	if told := n.cfg.Clients.Brokers; len(told) > 0 {
		o.Servers, o.Secure = told, !n.cfg.Clients.PlainText
	}
	n.control.View(func(st *registry.State) { doc, err = catalogue.AsyncAPI(st, o) })
	return doc, err
}
