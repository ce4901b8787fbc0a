package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"datafordeler/broker/kafka"
)

// Delete deletes topics, those that are there.
func Delete(ctx context.Context, engine *kafka.Engine, names ...string) error {
	adm, err := engine.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	rs, err := adm.DeleteTopics(ctx, names...)
	if err != nil {
		return err
	}
	for _, r := range rs {
		if r.Err != nil && !errors.Is(r.Err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("deleting topic %s: %w", r.Topic, r.Err)
		}
	}
	return nil
}

// Clean deletes the topics and the groups whose names begin with prefix, which
// must not be empty.
func Clean(ctx context.Context, engine *kafka.Engine, prefix string) error {
	if prefix == "" {
		panic("bench: nothing to clean by")
	}
	adm, err := engine.Admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	groups, err := adm.ListGroups(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, g := range groups.Groups() {
		if strings.HasPrefix(g, prefix) {
			names = append(names, g)
		}
	}
	if len(names) > 0 {
		if _, err := adm.DeleteGroups(ctx, names...); err != nil {
			return err
		}
	}
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		return err
	}
	names = nil
	for _, t := range topics.Names() {
		if strings.HasPrefix(t, prefix) {
			names = append(names, t)
		}
	}
	if len(names) == 0 {
		return nil
	}
	rs, err := adm.DeleteTopics(ctx, names...)
	if err != nil {
		return err
	}
	return rs.Error()
}
