package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ErrNoAccessLists is a Kafka that lets everybody do everything: it has no
// authorizer, or it is the embedded engine.
var ErrNoAccessLists = errors.New("this Kafka has no access lists: whoever reaches it may read and write everything")

// AccessLists are a cluster's, and its logins. Several may work on them at once:
// what is there already is not made again, and what is gone is not missed.
type AccessLists struct {
	engine *Engine
	topics Topics
	client *kgo.Client
	adm    *kadm.Client
}

// AccessLists connects to the cluster. The caller closes it.
func (e *Engine) AccessLists(topics Topics) (*AccessLists, error) {
	client, err := e.NewClient()
	if err != nil {
		return nil, err
	}
	return &AccessLists{engine: e, topics: topics, client: client, adm: kadm.NewClient(client)}, nil
}

// Close closes the connection.
func (a *AccessLists) Close() { a.client.Close() }

// Look is what there is of this broker's. Without an authorizer it is
// [ErrNoAccessLists].
func (a *AccessLists) Look(ctx context.Context) (Found, error) {
	if a.engine.Embedded() {
		return Found{}, ErrNoAccessLists
	}
	acls, err := a.describe(ctx, a.client)
	if err != nil {
		return Found{}, err
	}
	users, err := a.users(ctx)
	return Found{ACLs: acls, Users: users}, err
}

// describe asks one broker, or any.
func (a *AccessLists) describe(ctx context.Context, of kmsg.Requestor) ([]ACL, error) {
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	req.Operation, req.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAllow
	resp, err := req.RequestWith(ctx, of)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if errors.Is(err, kerr.SecurityDisabled) {
		return nil, ErrNoAccessLists
	}
	if err != nil {
		return nil, fmt.Errorf("reading Kafka's access lists: %w", explainAccess(err))
	}
	var out []ACL
	for _, r := range resp.Resources {
		for _, x := range r.ACLs {
			user, isUser := strings.CutPrefix(x.Principal, userKind)
			if _, ours := a.topics.Credential(user); isUser && ours {
				out = append(out, ACL{x.Principal, x.Host, r.ResourceType, r.ResourcePatternType, r.ResourceName, x.Operation})
			}
		}
	}
	slices.SortFunc(out, compareACL)
	return out, nil
}

// perRequest bounds one change to the lists; Kafka's controller takes each whole.
const perRequest = 500

// Apply makes the difference: what is taken goes first, and is gone from every
// broker that is up before anything is given. When it returns without an error, all
// of it binds.
func (a *AccessLists) Apply(ctx context.Context, d Diff) error {
	for some := range slices.Chunk(d.Remove, perRequest) {
		if err := a.remove(ctx, some); err != nil {
			return err
		}
	}
	if err := a.everywhere(ctx, d.Remove, false); err != nil {
		return err
	}
	if err := a.forget(ctx, d.Forget); err != nil {
		return err
	}
	if err := a.Add(ctx, d.Add); err != nil {
		return err
	}
	return a.everywhere(ctx, d.Add, true)
}

func (a *AccessLists) remove(ctx context.Context, acls []ACL) error {
	req := kmsg.NewPtrDeleteACLsRequest()
	for _, x := range acls {
		f := kmsg.NewDeleteACLsRequestFilter()
		f.ResourceType, f.ResourcePatternType, f.ResourceName = x.Resource, x.Pattern, &x.Name
		f.Principal, f.Host, f.Operation, f.PermissionType = &x.Principal, &x.Host, x.Operation, kmsg.ACLPermissionTypeAllow
		req.Filters = append(req.Filters, f)
	}
	resp, err := req.RequestWith(ctx, a.client)
	if err != nil {
		return fmt.Errorf("removing from Kafka's access lists: %w", explainAccess(err))
	}
	for i, r := range resp.Results {
		err := kerr.ErrorForCode(r.ErrorCode)
		for _, m := range r.MatchingACLs {
			err = errors.Join(err, kerr.ErrorForCode(m.ErrorCode))
		}
		if err != nil {
			return fmt.Errorf("removing from Kafka's access lists that %v: %w", acls[i], explainAccess(err))
		}
	}
	return nil
}

// Add gives leaves, those of [Config.BrokerACLs] too. They bind a moment after it
// returns.
func (a *AccessLists) Add(ctx context.Context, acls []ACL) error {
	for some := range slices.Chunk(acls, perRequest) {
		req := kmsg.NewPtrCreateACLsRequest()
		for _, x := range some {
			c := kmsg.NewCreateACLsRequestCreation()
			c.ResourceType, c.ResourcePatternType, c.ResourceName = x.Resource, x.Pattern, x.Name
			c.Principal, c.Host, c.Operation, c.PermissionType = x.Principal, x.Host, x.Operation, kmsg.ACLPermissionTypeAllow
			req.Creations = append(req.Creations, c)
		}
		resp, err := req.RequestWith(ctx, a.client)
		if err != nil {
			return fmt.Errorf("adding to Kafka's access lists: %w", explainAccess(err))
		}
		for i, r := range resp.Results {
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
				return fmt.Errorf("adding to Kafka's access lists that %v: %w", some[i], explainAccess(err))
			}
		}
	}
	return nil
}

// everywhereLimit bounds how long a broker that is up may go by old lists.
const everywhereLimit = 15 * time.Second

// everywhere waits until each broker that is up has, or no longer has, the leaves.
// The controller answers a change before the brokers have heard of it.
func (a *AccessLists) everywhere(ctx context.Context, acls []ACL, there bool) error {
	if len(acls) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, everywhereLimit)
	defer cancel()
	for {
		behind, err := a.behind(ctx, acls, there)
		if err == nil && len(behind) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("brokers %v have not heard of it", behind)
			}
			return fmt.Errorf("waiting for a change of Kafka's access lists to bind: %w; what is already in them is kept in step again and again", err)
		case <-time.After(5 * time.Millisecond): // Kafka has no call that waits
		}
	}
}

func (a *AccessLists) behind(ctx context.Context, acls []ACL, there bool) (ids []int32, err error) {
	m, err := a.adm.BrokerMetadata(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range m.Brokers.NodeIDs() {
		have, err := a.describe(ctx, a.client.Broker(int(id)))
		if err != nil {
			return nil, fmt.Errorf("broker %d: %w", id, err)
		}
		set := make(map[ACL]bool, len(have))
		for _, x := range have {
			set[x] = true
		}
		if slices.ContainsFunc(acls, func(x ACL) bool { return set[x] != there }) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// explainAccess says what to do where the broker itself may not.
func explainAccess(err error) error {
	if errors.Is(err, kerr.ClusterAuthorizationFailed) {
		return fmt.Errorf("%w: the broker's own user needs Describe and Alter on the cluster; see datafordeler kafka acl --own", err)
	}
	return err
}
