package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// memoryResult is what bench memory --json prints.
type memoryResult struct {
	Series        []memoryPoint `json:"series"`
	RecordBytes   int64         `json:"record_bytes"`
	Subscriptions int           `json:"subscriptions"`
	Fanout        int           `json:"fanout"`
	ConsentShare  float64       `json:"consent_share"`
	machine
	Seconds float64 `json:"seconds"`
}

// memoryPoint is what the process holds after so many records, in bytes.
type memoryPoint struct {
	Records int64 `json:"records"`
	// Heap is what is reachable, after a collection.
	Heap uint64 `json:"heap_bytes"`
	// RSS is what the kernel counts; 0 where it does not say.
	RSS uint64 `json:"rss_bytes"`
}

func benchMemory(ctx context.Context, std stdio, args []string) error {
	fs := newFlags("bench memory")
	var f benchFlags
	f.declare(fs, 1_000_000)
	every := fs.Int("every", 100_000, "")
	fs.IntVar(&f.window, "window", 0, "")
	if err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	if *every < 1 {
		return usagef("every: %d is not a number of records", *every)
	}
	begun := time.Now()
	r, err := f.open(ctx, std)
	if err != nil {
		return err
	}
	defer r.close()
	b, stop := r.governed(ctx, "memory")
	defer r.progress.watch(func() string {
		return fmt.Sprintf("decided %s of %s records", thousands(b.Records()), thousands(int64(f.scenario.Records)))
	})()
	res := memoryResult{Subscriptions: f.scenario.Subscriptions, Fanout: f.scenario.Fanout, ConsentShare: f.scenario.ConsentShare, machine: r.machine()}
	// Each line as it is known: a long run that is ended has told what it saw.
	fmt.Fprintf(r.out, "%12s %10s %10s\n", "records", "heap, MB", "RSS, MB")
	for from := 0; from < f.scenario.Records && err == nil; from += *every {
		to := min(from+*every, f.scenario.Records)
		if err = r.publish(ctx, from, to); err == nil {
			err = r.await(ctx, b, int64(to), func(int64) {})
		}
		if err == nil {
			p := measureMemory(int64(to))
			res.Series = append(res.Series, p)
			r.progress.end()
			fmt.Fprintf(r.out, "%12s %10.1f %10.1f\n", thousands(p.Records), float64(p.Heap)/1e6, float64(p.RSS)/1e6)
		}
	}
	if stopErr := stop(); err == nil || stopErr != nil {
		err = stopErr
	}
	if err == nil {
		err = r.whole(b.Totals())
	}
	if err != nil {
		return err
	}
	res.RecordBytes = r.bytes / int64(f.scenario.Records)
	res.Seconds = time.Since(begun).Seconds()
	r.progress.end()
	if f.json {
		return json.NewEncoder(std.out).Encode(res)
	}
	_, err = fmt.Fprintf(std.out, "%s engine, %s subscriptions, fan-out %d, records of %d bytes, %.0f s\n",
		res.Engine, thousands(int64(res.Subscriptions)), res.Fanout, res.RecordBytes, res.Seconds)
	return err
}

func measureMemory(records int64) memoryPoint {
	// Twice: what a sync.Pool holds outlives one collection.
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	p := memoryPoint{Records: records, Heap: m.HeapAlloc}
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		for line := range strings.Lines(string(b)) {
			var kb uint64
			if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
				p.RSS = kb << 10
			}
		}
	}
	return p
}
