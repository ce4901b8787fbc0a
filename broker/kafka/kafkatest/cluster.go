// Package kafkatest runs real Apache Kafka for tests: one Java process per
// node, KRaft combined mode, on free loopback ports and a temporary directory.
//
// [Shared] is what most tests want: one node for the whole package, with a
// topic prefix of the test's own. Its TestMain must call [Main]. [Start] is for
// tests that kill nodes.
//
// Kafka's jars are found in .cache/kafka at the top of the module, where
// `make kafka` puts them. Where they or Java are missing the test fails and
// says so; DATAFORDELER_NO_KAFKA=1 skips instead.
package kafkatest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Options are how a cluster is to be. The zero value is one node.
type Options struct {
	// Nodes is the number of nodes, 1 or 3; each is broker and controller.
	Nodes int
	// Login adds a listener on which clients log in by SCRAM-SHA-512, and an
	// authorizer: who logs in may do what access lists allow (User:NAME), and who
	// comes by the plain listener everything. See [Cluster.Logins].
	Login bool
	// Properties are added to each node's server.properties and win.
	Properties map[string]string
	// Secure adds a listener with TLS and SCRAM-SHA-512, and access lists; see
	// [Cluster.Clients]. Who comes to the ordinary listener is a super user.
	Secure bool
}

// Cluster is a running Apache Kafka.
type Cluster struct {
	nodes []*node
	dir   string
	ca    *authority // of a secure cluster
	owned bool       // the directory is ours to remove
}

type node struct {
	id      int
	broker  string // host:port for clients
	login   string // host:port for clients that log in; empty where there is none
	secure  string // host:port for clients with TLS and a login; "" where there is none
	dir     string
	config  string
	logPath string
	java    java
	cmd     *exec.Cmd
	exited  chan struct{} // closed when cmd has ended
}

// java is how to run a class of Kafka's.
type java struct{ binary, classpath string }

// startLimit bounds how long a node may take until it answers. It usually takes
// two to four seconds.
const startLimit = 2 * time.Minute

// Start runs a cluster until the test ends. It returns when every node answers.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	j := locate(t)
	c, err := start(j, t.TempDir(), o)
	if err != nil {
		t.Fatalf("start Apache Kafka: %v", err)
	}
	t.Cleanup(func() {
		c.Stop()
		if t.Failed() {
			t.Log(c.Logs())
		}
	})
	return c
}

func start(j java, dir string, o Options) (*Cluster, error) {
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	// Free ports are found by binding and letting go, so somebody else may take
	// one in between: then all is tried again with others.
	var err error
	for attempt := range 3 {
		c := &Cluster{dir: filepath.Join(dir, strconv.Itoa(attempt))}
		if err = c.launch(j, o); err == nil {
			return c, nil
		}
		logs := c.Logs()
		c.Stop()
		if !strings.Contains(logs, "Address already in use") {
			return nil, fmt.Errorf("%w\n%s", err, logs)
		}
	}
	return nil, err
}

// clusterID is any 16 bytes in URL-safe base 64.
const clusterID = "ZGF0YWZvcmRlbGVyLTAwMQ"

func (c *Cluster) launch(j java, o Options) error {
	ports, err := freePorts(4 * o.Nodes)
	if err != nil {
		return err
	}
	if o.Secure {
		if c.ca, err = newAuthority(); err != nil {
			return err
		}
	}
	var voters []string
	for i := range o.Nodes {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[o.Nodes+i]))
	}
	for i := range o.Nodes {
		n := &node{id: i + 1, java: j, broker: "127.0.0.1:" + strconv.Itoa(ports[i]),
			dir: filepath.Join(c.dir, "node"+strconv.Itoa(i+1))}
		if o.Login {
			n.login = "127.0.0.1:" + strconv.Itoa(ports[2*o.Nodes+i])
		}
		n.config = filepath.Join(n.dir, "server.properties")
		n.logPath = filepath.Join(n.dir, "server.log")
		if o.Secure {
			n.secure = "127.0.0.1:" + strconv.Itoa(ports[3*o.Nodes+i])
		}
		if err := n.format(voters, ports[o.Nodes+i], o, c.ca); err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if err := n.ready(len(c.nodes)); err != nil {
			return err
		}
	}
	return nil
}

func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // held until all are found, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// format writes the node's configuration and its storage.
func (n *node) format(voters []string, controller int, o Options, ca *authority) error {
	copies := strconv.Itoa(min(3, o.Nodes))
	p := map[string]string{
		"process.roles":                                               "broker,controller",
		"node.id":                                                     strconv.Itoa(n.id),
		"controller.quorum.voters":                                    strings.Join(voters, ","),
		"controller.listener.names":                                   "CONTROLLER",
		"listeners":                                                   fmt.Sprintf("PLAINTEXT://%s,CONTROLLER://127.0.0.1:%d", n.broker, controller),
		"advertised.listeners":                                        "PLAINTEXT://" + n.broker,
		"listener.security.protocol.map":                              "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs":                                                    filepath.Join(n.dir, "data"),
		"auto.create.topics.enable":                                   "false",
		"default.replication.factor":                                  copies,
		"offsets.topic.replication.factor":                            copies,
		"offsets.topic.num.partitions":                                "4",
		"transaction.state.log.num.partitions":                        "4",
		"transaction.state.log.replication.factor":                    copies,
		"transaction.state.log.min.isr":                               "1",
		"share.coordinator.state.topic.num.partitions":                "1",
		"share.coordinator.state.topic.replication.factor":            copies,
		"transaction.abort.timed.out.transaction.cleanup.interval.ms": "100",
		"group.initial.rebalance.delay.ms":                            "0",
		"group.min.session.timeout.ms":                                "1000",
		"group.consumer.min.session.timeout.ms":                       "1000",
		"group.consumer.min.heartbeat.interval.ms":                    "100",
		"broker.session.timeout.ms":                                   "3000",
		"broker.heartbeat.interval.ms":                                "500",
		"num.network.threads":                                         "2",
		"num.io.threads":                                              "2",
		"background.threads":                                          "2",
		"num.recovery.threads.per.data.dir":                           "1",
		"log.cleaner.dedupe.buffer.size":                              "8388608",
		"log.cleaner.enable":                                          "true",
		"log.index.size.max.bytes":                                    "1048576",
		"controlled.shutdown.enable":                                  "true",
	}
	if n.login != "" {
		p["listeners"] += ",LOGIN://" + n.login
		p["advertised.listeners"] += ",LOGIN://" + n.login
		p["listener.security.protocol.map"] += ",LOGIN:SASL_PLAINTEXT"
		p["listener.name.login.sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
		p["listener.name.login.scram-sha-512.sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
		p["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
		p["super.users"] = "User:ANONYMOUS"
	}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	logs := log4j
	if o.Secure {
		logs += log4jAccess
		if err := n.secured(p, ca); err != nil {
			return err
		}
	}
	for k, v := range o.Properties {
		p[k] = v
	}
	var b strings.Builder
	for k, v := range p {
		fmt.Fprintf(&b, "%s=%s\n", k, v)
	}
	if err := os.WriteFile(n.config, []byte(b.String()), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(n.dir, "log4j2.yaml"), []byte(logs), 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	out, err := n.command(ctx, "kafka.tools.StorageTool", "format", "-t", clusterID, "-c", n.config).CombinedOutput()
	if err != nil {
		return fmt.Errorf("format the storage of node %d: %w\n%s", n.id, err, out)
	}
	return nil
}

const log4j = `Configuration:
  Properties:
    Property: {name: pattern, value: "%d{HH:mm:ss.SSS} %-5p %c{1} %m%n"}
  Appenders:
    Console: {name: STDOUT, PatternLayout: {pattern: "${pattern}"}}
  Loggers:
    Root: {level: WARN, AppenderRef: [{ref: STDOUT}]}
    Logger:
      - {name: kafka.server.KafkaRaftServer, level: INFO}
`

// command is a bounded Java process. It dies with this process on Linux, even
// if this process is killed.
func (n *node) command(ctx context.Context, class string, args ...string) *exec.Cmd {
	jvm := []string{
		"-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-XX:ActiveProcessorCount=2", "-Djava.awt.headless=true", "-Djava.io.tmpdir=" + n.dir,
		"-Dlog4j2.configurationFile=" + filepath.Join(n.dir, "log4j2.yaml"),
		"-cp", n.java.classpath, class,
	}
	cmd := exec.CommandContext(ctx, n.java.binary, append(jvm, args...)...)
	cmd.Dir = n.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + n.dir, "LANG=C.UTF-8"}
	dieWithParent(cmd)
	return cmd
}

func (n *node) start() error {
	log, err := os.OpenFile(n.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	n.cmd = n.command(context.Background(), "kafka.Kafka", n.config)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.exited = make(chan struct{})
	started := make(chan error)
	go func(cmd *exec.Cmd, exited chan struct{}) {
		// The kernel's parent-death signal follows the thread that started the
		// process, so that thread is kept until the process has ended.
		runtime.LockOSThread() // never unlocked: the thread goes when this function returns
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended shows in its log
		}
		close(exited)
	}(n.cmd, n.exited)
	return <-started
}

// ready asks the node until it reports itself and its cluster: as many brokers
// as there are nodes, and a controller.
func (n *node) ready(nodes int) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.broker), kgo.DisableClientMetrics(),
		kgo.RequestRetries(0), kgo.DialTimeout(time.Second))
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		req := kmsg.NewPtrMetadataRequest()
		req.Topics = []kmsg.MetadataRequestTopic{}
		resp, err := req.RequestWith(ctx, cl.SeedBrokers()[0])
		if err == nil && len(resp.Brokers) >= nodes && resp.ControllerID > 0 {
			return nil
		}
		select {
		case <-n.exited:
			return fmt.Errorf("node %d ended: %v", n.id, n.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("node %d gave no answer within %v (last: %v)", n.id, startLimit, err)
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// Brokers are the addresses of all nodes, killed ones included.
func (c *Cluster) Brokers() []string {
	var out []string
	for _, n := range c.nodes {
		out = append(out, n.broker)
	}
	return out
}

// Logins are the addresses of all nodes for clients that log in.
func (c *Cluster) Logins() []string {
	var out []string
	for _, n := range c.nodes {
		out = append(out, n.login)
	}
	return out
}

// Kill ends a node (counted from 0) at once, as a power cut would.
func (c *Cluster) Kill(i int) {
	n := c.nodes[i]
	_ = n.cmd.Process.Kill() // it may have ended already
	<-n.exited
}

// Restart starts a node (counted from 0) that ended, on its old directory and
// ports, and returns when it answers.
func (c *Cluster) Restart(t testing.TB, i int) {
	t.Helper()
	n := c.nodes[i]
	<-n.exited
	if err := n.start(); err != nil {
		t.Fatalf("restart node %d of Apache Kafka: %v", i, err)
	}
	if err := n.ready(1); err != nil {
		t.Fatalf("restart node %d of Apache Kafka: %v\n%s", i, err, c.Logs())
	}
}

// Stop ends every node. The data is of a test, so it does not wait for an
// orderly shutdown.
func (c *Cluster) Stop() {
	for _, n := range c.nodes {
		if n.cmd != nil && n.cmd.Process != nil {
			_ = n.cmd.Process.Kill() // it may have ended already
			<-n.exited
		}
	}
	if c.owned {
		_ = os.RemoveAll(c.dir) // a temporary directory
	}
}

// Logs is the end of each node's log.
func (c *Cluster) Logs() string {
	const most = 16 << 10
	var b strings.Builder
	for _, n := range c.nodes {
		log, err := os.ReadFile(n.logPath)
		if err != nil {
			log = []byte(err.Error())
		}
		if len(log) > most {
			log = append([]byte("…"), log[len(log)-most:]...)
		}
		fmt.Fprintf(&b, "--- log of Apache Kafka node %d\n%s\n", n.id, log)
	}
	return b.String()
}

var shared struct {
	once    sync.Once
	cluster *Cluster
	err     error
	uses    atomic.Int64
}

// Shared is a one-node cluster that all tests of the package use, and a topic
// prefix that no other test has. The package's TestMain must call [Main], which
// ends it.
func Shared(t testing.TB) (c *Cluster, prefix string) {
	t.Helper()
	j := locate(t)
	shared.once.Do(func() {
		dir, err := os.MkdirTemp("", "datafordeler-kafka-")
		if err != nil {
			shared.err = err
			return
		}
		shared.cluster, shared.err = start(j, dir, Options{})
		if shared.err == nil {
			shared.cluster.dir, shared.cluster.owned = dir, true
		} else {
			_ = os.RemoveAll(dir) // the logs are in the error
		}
	})
	if shared.err != nil {
		t.Fatalf("start Apache Kafka: %v", shared.err)
	}
	return shared.cluster, fmt.Sprintf("t%d.", shared.uses.Add(1))
}

// Main runs the tests and ends the cluster that [Shared] started. Call it as
// os.Exit(kafkatest.Main(m)).
func Main(m *testing.M) int {
	code := m.Run()
	if c := shared.cluster; c != nil {
		if code != 0 {
			fmt.Println(c.Logs())
		}
		c.Stop()
	}
	return code
}
