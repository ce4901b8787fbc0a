package main

import (
	"runtime/debug"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker/access"
	"datafordeler/broker/flow"
	"datafordeler/broker/store"
	"datafordeler/broker/web"
	"datafordeler/policy"
)

// doors are the endpoints of a running instance. Each party's stand in a file of
// their own, api_*.go, which hands broker/web what it may ask of the broker.
type doors struct {
	node   *node
	broker *flow.Broker
	server *web.Server        // nil where api.listen is ""
	guard  *access.Gatekeeper // likewise
	log    *deliveries        // what feeds and webhooks hand over; likewise
	orders *commandAPI        // what changes the registry; likewise
	read   *store.Store       // the read model that questions are asked of; nil where there is none

	more []prometheus.Collector
	ends []func() // when the server has closed
}

// newDoors makes the HTTP API of an instance; open starts it. Without a book there
// is nothing to read of the ledger.
func (n *node) newDoors(b *flow.Broker, book *book, lists *kafkaAccess) (*doors, error) {
	d := &doors{node: n, broker: b}
	if n.cfg.API.Listen == "" {
		return d, nil
	}
	rules, err := policy.NewAccessChecker()
	if err != nil {
		return nil, err
	}
	if d.guard, err = access.New(n.cfg.Access, access.Options{View: n.control.View, Checker: rules, Log: n.log}); err != nil {
		return nil, usageError{err}
	}
	d.server = web.New(web.Options{Config: n.cfg.API, Guard: d.guard, Log: n.log, Version: version(), View: n.control.View})
	d.server.RegisterTopics(n.describeTopics)
	d.server.RegisterDescriptions(&describer{control: n.control})
	d.server.RegisterKafkaCredentials(&kafkaCredentials{lists, n.cfg.Config})
	for _, add := range []func() ([]prometheus.Collector, func(), error){d.addFeeds, d.addWebhooks, d.addPublishing, d.addLookups,
		func() ([]prometheus.Collector, func(), error) { return d.addCommands(lists) }} {
		more, end, err := add()
		if err != nil {
			d.close()
			return nil, err
		}
		d.more, d.ends = append(d.more, more...), append(d.ends, end)
	}
	d.ends = append(d.ends, d.addRejections())
	if err := d.registerAudit(n.life, book); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *doors) collectors() []prometheus.Collector {
	if d.server == nil {
		return nil
	}
	return slices.Concat(d.server.Collectors(), d.guard.Collectors(), d.more)
}

func (d *doors) open() error {
	if d.server == nil {
		return nil
	}
	if err := d.server.Start(); err != nil {
		return err
	}
	d.node.log.Info("the HTTP API is open", "address", d.server.Addr())
	return nil
}

func (d *doors) close() {
	if d.server == nil {
		return
	}
	if err := d.server.Close(); err != nil {
		d.node.log.Warn("closing the HTTP API", "err", err)
	}
	for _, end := range slices.Backward(d.ends) { // the last first: webhooks read what feeds opened
		end()
	}
	d.guard.Close()
	if d.read != nil {
		if err := d.read.Close(); err != nil {
			d.node.log.Warn("closing the read model", "err", err)
		}
	}
}

// version is the program's own, as the build names it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
