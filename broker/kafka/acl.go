package kafka

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ACL is one leave in Kafka's access lists. Only leaves are managed here: what an
// operator denies stays denied.
type ACL struct {
	Principal string // User:<name>
	Host      string // "*", or an address
	Resource  kmsg.ACLResourceType
	Pattern   kmsg.ACLResourcePatternType
	Name      string
	Operation kmsg.ACLOperation
}

// String is how a plan shows it.
func (a ACL) String() string {
	name := a.Name
	if a.Pattern == kmsg.ACLResourcePatternTypePrefixed {
		name += "…"
	}
	s := fmt.Sprintf("%s may %s %s %s", a.Principal, a.Operation, a.Resource, name)
	if a.Host != anyHost {
		s += " from " + a.Host
	}
	return s
}

// Command is the argument list by which Apache Kafka's own tool adds it.
func (a ACL) Command() string {
	resource, name := "--"+strings.ToLower(a.Resource.String()), " "+a.Name
	switch a.Resource {
	case kmsg.ACLResourceTypeCluster:
		name = ""
	case kmsg.ACLResourceTypeTransactionalId:
		resource = "--transactional-id"
	}
	return fmt.Sprintf("kafka-acls.sh --add --allow-principal %s --operation %s %s%s --resource-pattern-type %s",
		a.Principal, operationNames[a.Operation], resource, name, strings.ToLower(a.Pattern.String()))
}

// operationNames are as Kafka's tool wants them.
var operationNames = map[kmsg.ACLOperation]string{
	kmsg.ACLOperationRead: "Read", kmsg.ACLOperationWrite: "Write", kmsg.ACLOperationCreate: "Create", kmsg.ACLOperationAlter: "Alter",
	kmsg.ACLOperationDescribe: "Describe", kmsg.ACLOperationDescribeConfigs: "DescribeConfigs", kmsg.ACLOperationAlterConfigs: "AlterConfigs",
}

const (
	anyHost     = "*"
	userKind    = "User:"
	clusterName = "kafka-cluster" // Kafka's only name for itself
)

func compareACL(a, b ACL) int {
	return cmp.Or(cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Pattern, b.Pattern), cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Host, b.Host))
}

// Grant is a login that stands, and what for: one dataset to publish to, or one
// mailbox to receive in.
type Grant struct {
	Credential       string // as the registry names it
	Dataset, Mailbox string
}

// User is a credential's name with Kafka. The prefix stands before it, so that
// several brokers on one cluster leave each other's alone.
func (t Topics) User(credential string) string { return t.Prefix + credential }

var credentialName = regexp.MustCompile(`^df-[0-9]{9}-[a-z0-9]{16}$`)

// Credential is the inverse of User; ok is false for the name of anybody who did
// not get it from this broker. As all such names are equally long behind the
// prefix, none is of two brokers.
func (t Topics) Credential(user string) (credential string, ok bool) {
	credential, ok = strings.CutPrefix(user, t.Prefix)
	return credential, ok && credentialName.MatchString(credential)
}

// Groups is what the names of consumer groups begin with that may read a mailbox,
// or what was refused of a dataset. No mailbox or dataset has a dot in its name, so
// none's groups are another's.
func (g Grant) Groups(t Topics) string {
	if g.Mailbox != "" {
		return t.Mailbox(g.Mailbox) + "."
	}
	return t.Rejected(g.Dataset) + "."
}

// Topic is what the grant is for: the mailbox's own, or the dataset's source.
func (g Grant) Topic(t Topics) string {
	if g.Mailbox != "" {
		return t.Mailbox(g.Mailbox)
	}
	return t.Source(g.Dataset)
}

// ACLs are all leaves that the grants come to, in order:
//
//   - for a mailbox: read it, in groups of its own;
//   - for a dataset: write its source, and read what was refused of it, in groups
//     of its own.
//
// Describe goes with both, as Kafka has it. Nobody gets a cluster-wide leave, a
// transactional id, or a pattern that two mailboxes or datasets share.
func (t Topics) ACLs(grants []Grant) []ACL {
	var out []ACL
	for _, g := range grants {
		add := func(resource kmsg.ACLResourceType, pattern kmsg.ACLResourcePatternType, name string, ops ...kmsg.ACLOperation) {
			for _, op := range ops {
				out = append(out, ACL{userKind + t.User(g.Credential), anyHost, resource, pattern, name, op})
			}
		}
		if g.Mailbox != "" {
			add(kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeLiteral, t.Mailbox(g.Mailbox), kmsg.ACLOperationRead, kmsg.ACLOperationDescribe)
		} else {
			add(kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeLiteral, t.Source(g.Dataset), kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe)
			add(kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeLiteral, t.Rejected(g.Dataset), kmsg.ACLOperationRead, kmsg.ACLOperationDescribe)
		}
		add(kmsg.ACLResourceTypeGroup, kmsg.ACLResourcePatternTypePrefixed, g.Groups(t), kmsg.ACLOperationRead)
	}
	slices.SortFunc(out, compareACL)
	return slices.Compact(out)
}

// BrokerACLs are all leaves that an instance needs, as user, whose instances share
// group. Who makes them is a super user; the instances' own user need not be one.
//
// Alter on the cluster is for other parties' access lists and logins, and for the
// ends of transactions that Kafka lost. Whoever has it can give itself more: it is
// the one leave that makes the broker's login as precious as a super user's.
func (c Config) BrokerACLs(user, group string) []ACL {
	t := c.Topics()
	var out []ACL
	add := func(resource kmsg.ACLResourceType, pattern kmsg.ACLResourcePatternType, name string, ops ...kmsg.ACLOperation) {
		for _, op := range ops {
			out = append(out, ACL{userKind + user, anyHost, resource, pattern, name, op})
		}
	}
	// Topics are made, and their settings kept, by whichever instance comes first.
	keep := []kmsg.ACLOperation{kmsg.ACLOperationCreate, kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationAlterConfigs}
	work := append(keep, kmsg.ACLOperationRead, kmsg.ACLOperationWrite)
	for _, name := range []string{t.Control(), t.Deliveries(), t.Decisions(), t.Ledger(), t.Checkpoints(), t.Webhooks()} {
		add(kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeLiteral, name, work...)
	}
	for _, root := range []string{sourceRoot, rejectedRoot, mailboxRoot} {
		add(kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypePrefixed, t.Prefix+root, work...)
	}
	// What is left of transactions is looked for where Kafka keeps them.
	add(kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeLiteral, transactionsTopic, kmsg.ACLOperationRead, kmsg.ACLOperationDescribe)
	add(kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeLiteral, offsetsTopic, kmsg.ACLOperationRead, kmsg.ACLOperationDescribe)
	for _, g := range []string{group, group + "-ledger", group + "-webhooks"} {
		add(kmsg.ACLResourceTypeGroup, kmsg.ACLResourcePatternTypeLiteral, g, kmsg.ACLOperationRead, kmsg.ACLOperationDescribe)
	}
	for _, id := range []string{group + "-", "datafordeler-control-"} {
		add(kmsg.ACLResourceTypeTransactionalId, kmsg.ACLResourcePatternTypePrefixed, id, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe)
	}
	add(kmsg.ACLResourceTypeCluster, kmsg.ACLResourcePatternTypeLiteral, clusterName, kmsg.ACLOperationDescribe, kmsg.ACLOperationAlter)
	slices.SortFunc(out, compareACL)
	return slices.Compact(out)
}

// Found is what a cluster has of what this broker manages.
type Found struct {
	ACLs  []ACL
	Users []string // that have a SCRAM secret
}

// Diff is what there is to do, removals first.
type Diff struct {
	Remove []ACL
	Forget []string // users whose secret goes
	Add    []ACL
}

// Empty reports that there is nothing to do.
func (d Diff) Empty() bool { return len(d.Remove)+len(d.Forget)+len(d.Add) == 0 }

// String is a plan, one line each.
func (d Diff) String() string {
	var b strings.Builder
	for _, a := range d.Remove {
		fmt.Fprintf(&b, "kafka access: remove  %v\n", a)
	}
	for _, u := range d.Forget {
		fmt.Fprintf(&b, "kafka access: remove  the login of %s%s\n", userKind, u)
	}
	for _, a := range d.Add {
		fmt.Fprintf(&b, "kafka access: add     %v\n", a)
	}
	return b.String()
}

// Difference is from what was found to what the grants come to. kept are the
// credentials whose secrets stay, those of the grants or more. What is of others
// is not in it, whatever was found.
func (t Topics) Difference(f Found, grants []Grant, kept []string) Diff {
	want := map[ACL]bool{}
	for _, a := range t.ACLs(grants) {
		want[a] = true
	}
	have := map[ACL]bool{}
	var d Diff
	for _, a := range f.ACLs {
		user, _ := strings.CutPrefix(a.Principal, userKind)
		if _, ours := t.Credential(user); !ours || have[a] {
			continue
		}
		have[a] = true
		if !want[a] {
			d.Remove = append(d.Remove, a)
		}
	}
	for a := range want {
		if !have[a] {
			d.Add = append(d.Add, a)
		}
	}
	for _, u := range f.Users {
		if c, ours := t.Credential(u); ours && !slices.Contains(kept, c) {
			d.Forget = append(d.Forget, u)
		}
	}
	slices.SortFunc(d.Remove, compareACL)
	slices.SortFunc(d.Add, compareACL)
	slices.Sort(d.Forget)
	return d
}
