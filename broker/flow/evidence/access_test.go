package evidence

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"datafordeler/broker/kafka"
	"datafordeler/broker/kafka/kafkatest"
)

// On Apache Kafka with access lists, what docs/guides/audit-the-ledger.md lists is
// enough to sequence the ledger, and who lacks one of the two that are the
// ledger's own is told which.
func TestAccessLists(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Start(t, kafkatest.Options{Login: true})
	cfg := kafka.Defaults()
	cfg.Engine, cfg.Brokers, cfg.SourcePartitions, cfg.Data = kafka.EngineKafka, cluster.Brokers(), 2, ""
	r := rigOn(t, cfg) // the super user, who makes topics and decides
	r.event()
	adm := kadm.NewClient(r.client)

	const user, password = "sequencer", "correct horse"
	if _, err := adm.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: user, Mechanism: kadm.ScramSha512, Iterations: 4096, Password: password}}); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	allow := func(b *kadm.ACLBuilder, ops ...kadm.ACLOperation) {
		t.Helper()
		results, err := adm.CreateACLs(t.Context(), b.Allow("User:"+user).AllowHosts("*").Operations(ops...).ResourcePatternType(kadm.ACLPatternLiteral))
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range results {
			if one.Err != nil {
				t.Fatal(one.Err)
			}
		}
	}
	allow(kadm.NewACLs().Topics(r.topics.Ledger(), r.topics.Checkpoints()), kadm.OpRead, kadm.OpWrite, kadm.OpDescribe)
	allow(kadm.NewACLs().Topics(r.topics.Decisions(), r.topics.Control()), kadm.OpRead, kadm.OpDescribe)
	allow(kadm.NewACLs().Topics(r.topics.Source("d")), kadm.OpDescribe)

	// From here the rig's instances log in.
	r.cfg.Brokers, r.cfg.SASL = cluster.Logins(), kafka.SASL{Mechanism: kafka.ScramSHA512, Username: user, PasswordFile: secret}
	super := r.engine
	engine, err := kafka.Open(t.Context(), r.cfg, r.log, kafka.Own)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	r.engine = engine
	i := r.start()
	r.engine = super

	r.says("cannot stand by to sequence the ledger")
	allow(kadm.NewACLs().Groups("test-ledger"), kadm.OpRead, kadm.OpDescribe)
	r.says("transactional id test-ledger: this user may not write under it")
	allow(kadm.NewACLs().TransactionalIDs("test-ledger"), kadm.OpWrite, kadm.OpDescribe)
	for p := range int32(2) {
		r.covered(i.ledger, p, r.decide(p, 5))
	}
	r.event()
	r.covered(i.ledger, 0, r.decide(0, 5))
	i.stop()
	if report, err := r.verify(); err != nil || report.Records != 15 {
		t.Error(fmt.Sprint(report), err)
	}
}
