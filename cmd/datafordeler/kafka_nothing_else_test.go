package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"datafordeler/broker/web"
)

// nothingElse is all that a client might try with a login that is good.
func (s *secured) nothingElse(t *testing.T, b, a, p web.IssuedKafkaCredential) {
	ctx := s.ctx
	adm := func(l web.IssuedKafkaCredential) *kadm.Client { return kadm.NewClient(s.client(l)) }
	bergen, provider := adm(b), adm(p)
	const source, income = "p.source.eiendomsskatt", "p.source.inntekt"
	produce := func(l web.IssuedKafkaCredential, topic string, opts ...kgo.Opt) error {
		cl := s.client(l, append(opts, kgo.RecordRetries(0), kgo.RecordDeliveryTimeout(10*time.Second))...)
		return cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr()
	}
	// fetch reads with a position of its own, as a client that asks for no metadata.
	fetch := func(l web.IssuedKafkaCredential, topic string) error {
		get := kmsg.NewPtrFetchRequest()
		get.MaxBytes, get.Version = 1<<20, 11
		part := kmsg.NewFetchRequestTopicPartition()
		part.PartitionMaxBytes = 1 << 20
		get.Topics = []kmsg.FetchRequestTopic{{Topic: topic, Partitions: []kmsg.FetchRequestTopicPartition{part}}}
		r, err := s.client(l, kgo.MaxVersions(kversion.V2_6_0())).Broker(1).Request(ctx, get)
		if err != nil {
			return err
		}
		f := r.(*kmsg.FetchResponse).Topics[0].Partitions[0]
		if len(f.RecordBatches) > 0 {
			t.Errorf("%s reads %d bytes of %s", l.Username, len(f.RecordBatches), topic)
		}
		return kerr.ErrorForCode(f.ErrorCode)
	}
	join := func(l web.IssuedKafkaCredential, group string) error {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = group, "consumer", 10_000, 10_000
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		resp, err := req.RequestWith(ctx, s.client(l))
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(resp.ErrorCode); !errors.Is(err, kerr.MemberIDRequired) {
			return err
		}
		return nil
	}
	commit := func(l web.IssuedKafkaCredential, group, topic string) error {
		var o kadm.Offsets
		o.AddOffset(topic, 0, 0, -1)
		rs, err := adm(l).CommitOffsets(ctx, group, o)
		if err == nil {
			err = rs.Error()
		}
		return err
	}
	topicErr := func(rs interface{ Error() error }, err error) error {
		if err != nil {
			return err
		}
		return rs.Error()
	}
	// Its own is its own: else what is refused below proves nothing.
	for name, err := range map[string]error{
		"join a group of its own":   join(b, b.GroupPrefix+"x"),
		"commit in it":              commit(b, b.GroupPrefix+"x", b.Topic),
		"publish":                   produce(p, p.Topic),
		"join a group for refusals": join(p, p.GroupPrefix+"x"),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, topic := range []string{b.Topic, p.RejectedTopic} {
		l := b
		if topic != b.Topic {
			l = p
		}
		if rs, err := adm(l).ListStartOffsets(ctx, topic); topicErr(rs, err) != nil {
			t.Errorf("%s: %v", topic, topicErr(rs, err))
		}
	}
	refusals := []error{kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed}
	tries := []struct {
		name string
		try  func() error
	}{
		{"read another's mailbox", func() error { return fetch(b, a.Topic) }},
		{"learn another's offsets", func() error {
			rs, err := bergen.ListStartOffsets(ctx, a.Topic)
			return topicErr(rs, err)
		}},
		{"read the source", func() error { return fetch(b, source) }},
		{"read deliveries", func() error { return fetch(b, "p.deliveries") }},
		{"read decisions", func() error { return fetch(b, "p.decisions") }},
		{"read control", func() error { return fetch(b, "p.control") }},
		{"read the ledger", func() error { return fetch(b, "p.ledger") }},
		{"read what was refused of a provider", func() error { return fetch(b, p.RejectedTopic) }},
		{"read the groups' offsets", func() error { return fetch(b, "__consumer_offsets") }},
		{"read its own source back", func() error { return fetch(p, source) }},
		{"read a mailbox as a provider", func() error { return fetch(p, b.Topic) }},
		{"write to its own mailbox", func() error { return produce(b, b.Topic) }},
		{"write to another's mailbox", func() error { return produce(b, a.Topic) }},
		{"write to the source as a consumer", func() error { return produce(b, source) }},
		{"write to a source that the login is not for", func() error { return produce(p, income) }},
		{"write without idempotence", func() error { return produce(b, source, kgo.DisableIdempotentWrite()) }},
		{"write decisions", func() error { return produce(p, "p.decisions") }},
		{"write control", func() error { return produce(p, "p.control") }},
		{"begin a transaction", func() error { return begin(ctx, s.client(p, kgo.TransactionalID("mine"))) }},
		{"fence the broker", func() error { return begin(ctx, s.client(p, kgo.TransactionalID("datafordeler-0"))) }},
		{"fence the ledger", func() error { return begin(ctx, s.client(b, kgo.TransactionalID("datafordeler-ledger"))) }},
		{"join another's group", func() error { return join(b, a.GroupPrefix+"x") }},
		{"join a group of no prefix", func() error { return join(b, "x") }},
		{"join the broker's group", func() error { return join(b, "datafordeler") }},
		{"join the ledger's group", func() error { return join(p, "datafordeler-ledger") }},
		{"commit for another's group", func() error { return commit(b, a.GroupPrefix+"x", b.Topic) }},
		{"commit another's mailbox", func() error {
			err := commit(b, b.GroupPrefix+"x", a.Topic)
			if errors.Is(err, kerr.UnknownTopicOrPartition) { // so Kafka says it here
				err = kerr.TopicAuthorizationFailed
			}
			return err
		}},
		{"commit for the broker", func() error { return commit(p, "datafordeler", source) }},
		{"read the broker's offsets", func() error {
			rs, err := bergen.FetchOffsets(ctx, "datafordeler")
			return topicErr(rs, err)
		}},
		{"delete another's offsets", func() error {
			var set kadm.TopicsSet
			set.Add(a.Topic, 0)
			rs, err := bergen.DeleteOffsets(ctx, a.GroupPrefix+"x", set)
			return topicErr(rs, err)
		}},
		{"delete the broker's offsets", func() error {
			var set kadm.TopicsSet
			set.Add(source, 0)
			rs, err := provider.DeleteOffsets(ctx, "datafordeler", set)
			return topicErr(rs, err)
		}},
		{"delete a group", func() error {
			_, err := bergen.DeleteGroup(ctx, "datafordeler")
			return err
		}},
		{"describe the broker's group", func() error {
			rs, err := bergen.DescribeGroups(ctx, "datafordeler")
			return topicErr(rs, err)
		}},
		{"delete its own mailbox", func() error {
			rs, err := bergen.DeleteTopics(ctx, b.Topic)
			return topicErr(rs, err)
		}},
		{"delete another's mailbox", func() error {
			rs, err := bergen.DeleteTopics(ctx, a.Topic)
			return topicErr(rs, err)
		}},
		{"empty its own mailbox", func() error {
			var o kadm.Offsets
			o.AddOffset(b.Topic, 0, 1, -1)
			rs, err := bergen.DeleteRecords(ctx, o)
			return topicErr(rs, err)
		}},
		{"make a topic", func() error {
			rs, err := bergen.CreateTopics(ctx, 1, 1, nil, "p.mailbox.mine")
			return topicErr(rs, err)
		}},
		{"add partitions", func() error {
			rs, err := bergen.CreatePartitions(ctx, 1, b.Topic)
			return topicErr(rs, err)
		}},
		{"read settings of its mailbox", func() error {
			rs, err := bergen.DescribeTopicConfigs(ctx, b.Topic)
			return resourceErr(rs, err)
		}},
		{"read settings of another's", func() error {
			rs, err := bergen.DescribeTopicConfigs(ctx, a.Topic)
			return resourceErr(rs, err)
		}},
		{"read a broker's settings", func() error {
			rs, err := bergen.DescribeBrokerConfigs(ctx, 1)
			return resourceErr(rs, err)
		}},
		{"change retention", func() error {
			v := "1"
			rs, err := bergen.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &v}}, b.Topic)
			if err == nil {
				err = rs[0].Err
			}
			return err
		}},
		{"read the access lists", func() error {
			rs, err := bergen.DescribeACLs(ctx, kadm.NewACLs().AnyResource().Allow().AllowHosts().Deny().DenyHosts().Operations().ResourcePatternType(kmsg.ACLResourcePatternTypeAny))
			if err == nil {
				err = rs[0].Err
			}
			return err
		}},
		{"let itself in", func() error {
			rs, err := bergen.CreateACLs(ctx, kadm.NewACLs().Topics(a.Topic).ResourcePatternType(kmsg.ACLResourcePatternTypeLiteral).Operations(kmsg.ACLOperationRead).Allow("User:"+b.Username).AllowHosts("*"))
			if err == nil {
				err = rs[0].Err
			}
			return err
		}},
		{"give itself another's name", func() error {
			rs, err := bergen.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: a.Username, Mechanism: kadm.ScramSha512, Iterations: 4096, Password: "mine"}})
			return topicErr(rs, err)
		}},
		{"look at others' producers", func() error {
			var set kadm.TopicsSet
			set.Add(a.Topic, 0)
			rs, err := bergen.DescribeProducers(ctx, set)
			if err != nil {
				return err
			}
			rs.EachPartition(func(p kadm.DescribedProducersPartition) { err = p.Err })
			return err
		}},
	}
	for _, c := range tries {
		err := c.try()
		if !slices.ContainsFunc(refusals, func(r error) bool { return errors.Is(err, r) }) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// What there is besides is not to be seen.
	seen, err := bergen.ListTopics(ctx)
	if names := seen.Names(); err != nil || !slices.Equal(names, []string{b.Topic}) {
		t.Errorf("it sees topics %v %v", names, err)
	}
	groups, err := bergen.ListGroups(ctx)
	if err != nil {
		t.Error(err)
	}
	for _, g := range groups.Groups() {
		if !strings.HasPrefix(g, b.GroupPrefix) {
			t.Errorf("it sees group %s", g)
		}
	}
}

func begin(ctx context.Context, cl *kgo.Client) error {
	_, _, err := cl.ProducerID(ctx)
	return err
}

func resourceErr(rs kadm.ResourceConfigs, err error) error {
	if err == nil {
		err = rs[0].Err
	}
	return err
}
