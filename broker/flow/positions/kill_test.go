package positions

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"datafordeler/broker/flow"
	"datafordeler/broker/kafka"
	"datafordeler/broker/keys"
)

// The victim is this test's program again: it follows until it is killed.
const (
	victimPath = "DATAFORDELER_POSITIONS_VICTIM"
	victimData = "DATAFORDELER_POSITIONS_DATA"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimPath) != "" {
		fmt.Println("error", victim())
		os.Exit(2)
	}
	os.Exit(m.Run())
}

// victim says a line each time that it has come further.
func victim() error {
	ctx := context.Background()
	cfg := kafka.Defaults()
	cfg.Data = os.Getenv(victimData)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	engine, err := kafka.Open(ctx, cfg, log, kafka.Attach)
	if err != nil {
		return err
	}
	control, err := flow.OpenControl(ctx, engine, cfg.Topics(), log)
	if err != nil {
		return err
	}
	f := New(Options{Path: os.Getenv(victimPath), Engine: engine, Topics: cfg.Topics(), Control: control, Hasher: keys.NewTest(1), Log: log})
	go f.Run(ctx)
	for told := int64(-1); ; {
		f.mu.Lock()
		sum, changed := int64(0), f.changed
		for _, at := range f.applied {
			sum += at
		}
		ready := f.applied != nil
		f.mu.Unlock()
		if ready && sum > told {
			told = sum
			fmt.Println(sum)
		}
		<-changed
	}
}

// One that fills and is killed, over and over, leaves what the log holds.
func TestKilled(t *testing.T) {
	r := newRig(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	step := func() {
		p, n := draw.Int32N(partitions), 1+draw.IntN(20)
		r.publish(p, r.months(n)[:n]...)
		r.decide(p, n, draw.IntN(20))
	}
	for range 4 {
		step()
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), victimPath+"="+r.opts.Path, victimData+"="+r.cfg.Data)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 1 + draw.IntN(3) {
			if !lines.Scan() {
				t.Fatal("the one that is to be killed ended by itself")
			}
			for range 1 + draw.IntN(3) { // while it fills
				step()
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
		}
		cmd.Wait()
	}
	f, _ := r.start(r.opts)
	r.same(f)
	if r.logged("made anew") > 0 || r.logged("level=ERROR") > 0 {
		t.Error(r.said.String())
	}
}
