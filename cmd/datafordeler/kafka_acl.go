package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/registry"
)

// kafkaAccess keeps Kafka's access lists, and the logins beside them, in step with
// the registry. Every instance does, and every command that changes the registry:
// what one has done the others find done.
type kafkaAccess struct {
	control *flow.Control
	topics  kafka.Topics
	lists   *kafka.AccessLists
	log     *slog.Logger
	now     func() time.Time
	must    bool // clients.acl: required

	passing sync.Mutex // held by the one that looks and applies
}

// newKafkaAccess is nil where the lists are not this broker's to keep: on the
// embedded engine, and with clients.acl: off.
func (n *node) newKafkaAccess() (*kafkaAccess, error) {
	if n.cfg.Engine != kafka.EngineKafka || n.cfg.Clients.ACL == kafka.ACLOff {
		return nil, nil
	}
	lists, err := n.engine.AccessLists(n.cfg.Topics())
	if err != nil {
		return nil, err
	}
	return &kafkaAccess{control: n.control, topics: n.cfg.Topics(), lists: lists, log: n.log, now: time.Now,
		must: n.cfg.Clients.ACL == kafka.ACLRequired}, nil
}

func (k *kafkaAccess) close() {
	if k != nil {
		k.lists.Close()
	}
}

// entitled is what a registry comes to: who may what, whose logins are kept, and
// which are over without anybody having said so.
type entitled struct {
	grants []kafka.Grant
	kept   []string
	over   []registry.KafkaAccess
	next   time.Time // when the clock alone changes it
}

func entitledBy(all []registry.KafkaAccess, at time.Time) entitled {
	var e entitled
	for _, a := range all {
		switch a.Standing {
		case registry.Stands:
			e.grants = append(e.grants, kafka.Grant{Credential: a.ID, Dataset: string(a.Dataset), Mailbox: string(a.Mailbox)})
			e.kept = append(e.kept, a.ID)
		case registry.Held:
			e.kept = append(e.kept, a.ID)
		case registry.Over:
			if a.Ends.IsZero() || at.Before(a.Ends) {
				e.over = append(e.over, a)
			}
		}
	}
	return e
}

// entitled is what the registry says now, and the revision that it rests on.
func (k *kafkaAccess) entitled() (e entitled, rev broker.Revision) {
	k.control.View(func(st *registry.State) { e, rev = entitledNow(st, k.now()), st.KafkaRevision() })
	return e, rev
}

func entitledNow(st *registry.State, now time.Time) entitled {
	now = notBefore(st, now)
	all, next := st.KafkaAccess(now)
	e := entitledBy(all, now)
	e.next = next
	return e
}

// notBefore is the clock, or the registry's where that is ahead: a clock that is
// behind does not bring back what was taken.
func notBefore(st *registry.State, now time.Time) time.Time {
	if at := st.At(); now.Before(at) {
		return at
	}
	return now
}

// keep makes the lists say what the registry does, and returns when they bind. It
// looks first, and asks for the newest registry after: so whatever it finds was
// made of a registry no newer than the one that it goes by.
func (k *kafkaAccess) keep(ctx context.Context) (done kafka.Diff, next time.Time, err error) {
	k.passing.Lock()
	defer k.passing.Unlock()
	for {
		found, err := k.lists.Look(ctx)
		if err != nil {
			return done, next, err
		}
		if _, err := k.control.Latest(ctx); err != nil {
			return done, next, err
		}
		e, rev := k.entitled()
		d := k.topics.Difference(found, e.grants, e.kept)
		// The lists first: what is over is not to wait for a note of it.
		if err := k.lists.Apply(ctx, d); err != nil {
			return done, next, err
		}
		done.Remove, done.Forget, done.Add = append(done.Remove, d.Remove...), append(done.Forget, d.Forget...), append(done.Add, d.Add...)
		if err := k.end(ctx, e.over); err != nil {
			return done, next, err
		}
		// Another instance may have gone by an older registry meanwhile, and this
		// one by what is old by now.
		if now, at := k.entitled(); at == rev && len(e.over) == 0 && slices.Equal(now.grants, e.grants) {
			return done, now.next, nil
		}
	}
}

// end records that credentials are over, for good: what they rested on is, and
// their logins go.
func (k *kafkaAccess) end(ctx context.Context, over []registry.KafkaAccess) error {
	if len(over) == 0 {
		return nil
	}
	_, err := k.control.Append(ctx, func(st *registry.State) ([]registry.Event, error) {
		now := notBefore(st, k.now())
		var changes []registry.Change
		for _, a := range entitledNow(st, now).over {
			changes = append(changes, registry.EndCredential(a.ID, now, a.Why))
		}
		return st.Link(now, "datafordeler", changes...)
	})
	return err
}

const (
	accessEvery = time.Minute     // where nothing changes, in case somebody else changed the lists
	accessAgain = 2 * time.Second // after an error
)

// begin finds out whether there are lists to keep. With clients.acl: required it is
// an error if there are none.
func (k *kafkaAccess) begin(ctx context.Context) error {
	if k == nil {
		return nil
	}
	_, _, err := k.keep(ctx)
	switch {
	case errors.Is(err, kafka.ErrNoAccessLists) && k.must:
		return fmt.Errorf("clients.acl is required: %w; give the cluster an authorizer, or write clients.acl: auto", err)
	case errors.Is(err, kafka.ErrNoAccessLists):
		k.log.Warn("Kafka is not protected: it has no access lists, so whoever reaches it can read and write every topic; issue no logins, and let nobody reach it but the broker")
	case err != nil && k.must:
		return fmt.Errorf("clients.acl is required: %w", err)
	case err != nil:
		k.log.Error("Kafka's access lists could not be brought in step with the registry; trying again", "err", err)
	}
	return nil
}

// run keeps the lists in step until ctx ends.
func (k *kafkaAccess) run(ctx context.Context) (ended func()) {
	if k == nil {
		return func() {}
	}
	var running sync.WaitGroup
	running.Go(func() { k.follow(ctx) })
	return running.Wait
}

func (k *kafkaAccess) follow(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		_, rev := k.entitled()
		done, next, err := k.keep(ctx)
		wait := accessEvery
		switch {
		case errors.Is(err, kafka.ErrNoAccessLists):
			err = nil // said when it began
		case err != nil && ctx.Err() == nil:
			wait = accessAgain
			if err.Error() != said {
				k.log.Error("Kafka's access lists are not in step with the registry; trying again", "err", err)
			}
		}
		if said = ""; err != nil {
			said = err.Error()
		}
		if !done.Empty() {
			k.log.Info("changed Kafka's access lists", "removed", len(done.Remove), "added", len(done.Add), "logins_removed", len(done.Forget))
		}
		if !next.IsZero() {
			wait = min(wait, max(0, next.Sub(k.now())))
		}
		if k.sleep(ctx, wait, rev) != nil {
			return
		}
	}
}

// sleep returns when it is time, or when the registry has changed since rev in what
// credentials are worth; its error is that there is nothing more to follow.
func (k *kafkaAccess) sleep(ctx context.Context, wait time.Duration, rev broker.Revision) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		changed := k.control.Changed()
		var at broker.Revision
		k.control.View(func(st *registry.State) { at = st.KafkaRevision() })
		if at != rev {
			return nil
		}
		if err := k.control.Err(); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// keepKafkaAccess is for a command that has changed the registry: it shows what it
// makes of Kafka's lists. What is removed binds when it returns.
func (n *node) keepKafkaAccess(ctx context.Context, out io.Writer) error {
	k, err := n.newKafkaAccess()
	if err != nil || k == nil {
		return err
	}
	defer k.close()
	ctx, cancel := context.WithTimeout(ctx, reach)
	defer cancel()
	d, _, err := k.keep(ctx)
	fmt.Fprint(out, d)
	if errors.Is(err, kafka.ErrNoAccessLists) && !k.must {
		fmt.Fprintf(out, "kafka access: %v\n", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("the registry is changed, but Kafka's access lists are not in step with it yet: %w; a running instance goes on trying, and so does: datafordeler kafka acl --apply", err)
	}
	return nil
}

// planKafkaAccess shows what a change of the registry would make of Kafka's lists.
func (n *node) planKafkaAccess(ctx context.Context, out io.Writer, all []registry.KafkaAccess) error {
	k, err := n.newKafkaAccess()
	if err != nil || k == nil {
		return err
	}
	defer k.close()
	ctx, cancel := context.WithTimeout(ctx, reach)
	defer cancel()
	found, err := k.lists.Look(ctx)
	if errors.Is(err, kafka.ErrNoAccessLists) {
		fmt.Fprintf(out, "kafka access: %v\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	e := entitledBy(all, k.now())
	fmt.Fprint(out, k.topics.Difference(found, e.grants, e.kept))
	return nil
}

func kafkaCommand() command {
	return command{
		name:    "kafka",
		summary: "Kafka's access lists: what they should say, and make them say it",
		help: `Usage: datafordeler kafka acl --config FILE [--apply]
       datafordeler kafka acl --config FILE --own USER [--apply]

acl shows how Kafka's access lists differ from what the registry says of the logins
that organisations issued to themselves; with --apply it makes the difference. A
running instance does so by itself, and so does registry apply.
With --own it is what the broker's instances need to work as USER, as commands of
Kafka's own tool; with --apply they are added, by the login that FILE names, which
must be a super user's.
Who may do what: docs/guides/kafka-access.md.

Examples:
  datafordeler kafka acl --config broker.yaml
  datafordeler kafka acl --config admin.yaml --own datafordeler --apply
`,
		run: kafkaACL,
	}
}

func kafkaACL(ctx context.Context, std stdio, args []string) error {
	if len(args) == 0 {
		return usagef("what? acl")
	}
	switch args[0] {
	case "acl":
	case "-h", "--help":
		return flag.ErrHelp
	default:
		return usagef("no verb%s: acl", quoted(args[0]))
	}
	fs := newFlags("kafka acl")
	file := fs.String("config", "", "")
	own := fs.String("own", "", "")
	apply := fs.Bool("apply", false, "")
	if err := parse(fs, args[1:], 0, 0); err != nil {
		return err
	}
	if *file == "" {
		return usagef("--config is missing: the embedded engine has no access lists")
	}
	cfg, err := loadConfig(*file)
	if err != nil {
		return err
	}
	if cfg.Engine != kafka.EngineKafka {
		return usagef("--config: engine is %s, which has no access lists", cfg.Engine)
	}
	log := commandLog(std.err, slog.LevelWarn)
	if *own != "" {
		return ownACL(ctx, std, cfg, log, *own, *apply)
	}
	n, err := openNode(ctx, cfg, log, kafka.Attach, false)
	if err != nil {
		return err
	}
	defer n.close()
	if cfg.Clients.ACL == kafka.ACLOff {
		return usagef("clients.acl is off: the access lists are not this broker's to keep")
	}
	if *apply {
		return n.keepKafkaAccess(ctx, std.out)
	}
	var all []registry.KafkaAccess
	n.control.View(func(st *registry.State) { all, _ = st.KafkaAccess(notBefore(st, time.Now())) })
	for _, a := range all {
		if a.Standing != registry.Stands {
			fmt.Fprintf(std.out, "kafka access: %s is %v: %s\n", a.ID, a.Standing, a.Why)
		}
	}
	return n.planKafkaAccess(ctx, std.out, all)
}

// ownACL is what the broker's own user needs.
func ownACL(ctx context.Context, std stdio, cfg Config, log *slog.Logger, user string, apply bool) error {
	acls := cfg.BrokerACLs(user, cfg.Flow.Group)
	if !apply {
		for _, a := range acls {
			fmt.Fprintln(std.out, a.Command())
		}
		return nil
	}
	engine, err := kafka.Open(ctx, cfg.Config, log, kafka.Attach)
	if err != nil {
		return err
	}
	defer engine.Close()
	lists, err := engine.AccessLists(cfg.Topics())
	if err != nil {
		return err
	}
	defer lists.Close()
	ctx, cancel := context.WithTimeout(ctx, reach)
	defer cancel()
	if err := lists.Add(ctx, acls); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%d entries for User:%s\n", len(acls), user)
	return nil
}
