package torture_test

import (
	"encoding/json"
	"time"
)

// evident waits until all that was decided is under a signed head, reads the
// ledger back as an auditor does, and holds it to what the audit counted.
func (r *rig) evident(a *audit) {
	r.t.Helper()
	var status struct {
		Entries, Covered int64
		Wait             float64 `json:"wait_seconds"`
	}
	ask := func(into any, verb string) {
		r.t.Helper()
		if out := r.run("", "audit", verb, "--json"); json.Unmarshal([]byte(out), into) != nil {
			r.t.Fatalf("audit %s: %s", verb, out)
		}
	}
	if !until(time.Minute, func() bool { ask(&status, "status"); return status.Wait == 0 && status.Covered == status.Entries }) {
		for _, i := range r.instances {
			if !i.wanted {
				r.t.Logf("slot %d:\n%s", i.slot, i.tail())
			}
		}
		r.t.Fatalf("not all decisions are under a signed head: %+v", status)
	}
	var v struct {
		OK                                     bool
		Where                                  string
		Entries, Decisions, Permits            int64
		Records, Repeated, Rejected, Uncovered int64
		Unentered                              int64
		OutOfScope                             int64 `json:"out_of_scope"`
		Heads                                  int64
		Overlaps, Skips                        int
		Seconds                                float64
	}
	ask(&v, "verify")
	c := &a.counts
	r.t.Logf("the ledger: %+v", v)
	if !v.OK || v.Uncovered != 0 || v.Unentered != 0 || v.Skips != 0 {
		r.t.Errorf("the ledger does not verify: %+v", v)
	}
	if v.Overlaps > 0 && !a.lenient {
		r.t.Errorf("%d batches overlap", v.Overlaps)
	}
	if v.Decisions != c.decisions || v.Permits != c.permitted || v.Records != c.records || v.Repeated != c.repeated || v.Rejected != c.rejected || v.OutOfScope != c.outOfScope {
		r.t.Errorf("the ledger has %+v, and the decisions %+v", v, *c)
	}
}
