package main

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"datafordeler/broker/flow/webhooks"
	"datafordeler/broker/webhook"
)

// addWebhooks adds what owners do with their endpoints to the API, and sends what is
// for the mailboxes that are this instance's turn.
func (d *doors) addWebhooks() (more []prometheus.Collector, end func(), err error) {
	n := d.node
	spec := n.cfg.WebhooksSpec()
	spec.Partitions = d.log.tail.Partitions() // a mailbox lies in the same of both
	log, err := webhooks.Open(n.life, webhooks.Options{
		Engine: n.engine, Spec: spec, Group: n.cfg.Flow.Group, Session: n.cfg.Flow.SessionTimeout, Log: n.log,
	})
	if err != nil {
		return nil, nil, err
	}
	sender := webhook.New(webhook.Options{
		Config: n.cfg.Webhooks, Log: n.log, Control: n.control, Journal: log, Keys: n.ring,
		Door: &doorkeeper{d.broker.Doorkeeper()}, Deliveries: d.log,
	})
	d.server.RegisterWebhooks(sender)
	ctx, stop := context.WithCancel(n.life)
	var running sync.WaitGroup
	running.Go(func() {
		if err := sender.Run(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("webhooks are not sent any more by this instance", "err", err)
		}
	})
	running.Go(func() {
		for ctx.Err() == nil {
			if err := log.Run(ctx, sender); err != nil && ctx.Err() == nil {
				n.log.Error("webhooks are not sent by this instance for now; trying again", "err", err)
				select {
				case <-time.After(10 * time.Second):
				case <-ctx.Done():
				}
			}
		}
	})
	return sender.Collectors(), func() {
		stop()
		running.Wait()
		log.Close()
	}, nil
}
