package proof

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"datafordeler/broker"
	"datafordeler/broker/ledger"
	"datafordeler/consumers"
)

const origin = "log.example/ledger"

// signed is a ledger of one batch with a permit and a denial, and a proof of each.
func signed(t *testing.T) (keys *ledger.Policy, permit, denial broker.Decision, proofs [2][]byte) {
	t.Helper()
	secret, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err = Keys(origin, []string{public}, 0); err != nil {
		t.Fatal(err)
	}
	h := ledger.Head{Kind: "stream", Dataset: "inntekt", TopicID: broker.Digest{1}, Records: 1,
		Limits: ledger.Limits{RecordBytes: 1, Depth: 1, Window: 1, WindowMillis: 1, DeliveryBytes: 1}, Period: "2026-11", Policy: "sha256:9c", Revision: 1, Time: time.Unix(1e9, 0).UTC()}
	d := broker.Decision{Kind: broker.StreamDecision, Position: broker.Position{Dataset: h.Dataset, TopicID: h.TopicID}, Event: broker.Digest{2}, Subject: broker.Digest{3},
		Agreement: "barnehage", Package: broker.PackageRef{ID: "barnehage", Version: 1}}
	permit, denial = d, d
	permit.Subscription, denial.Subscription = "asker", "bodo"
	permit.Outcome, permit.Fields = broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"barnehageloven"}}, []broker.Pointer{"/beloep"}
	permit.Delivery = broker.NewDeliveryID(d.Event, "asker")
	denial.Outcome = broker.Outcome{Reasons: []broker.Reason{"no_open_case"}}
	var b ledger.Builder
	lines := [][]byte{bytes.Clone(b.Begin(&h, ledger.Place{}, sha256.Sum256(nil)))}
	for _, x := range []*broker.Decision{&permit, &denial} {
		x.ID = broker.NewDecisionID(x.Kind, h.TopicID, 0, 0, x.Subscription)
		lines = append(lines, bytes.Clone(b.Add(x)))
	}
	e := b.End()
	entry := ledger.AppendEntry(nil, &e)
	tree := tlog.HashReaderFunc(func([]int64) ([]tlog.Hash, error) { return nil, nil })
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, err := note.Sign(&note.Note{Text: ledger.Checkpoint{Origin: origin, Size: 1, Root: tlog.RecordHash(entry)}.Text()}, signer)
	if err != nil {
		t.Fatal(err)
	}
	for i := range proofs {
		p, err := ledger.BuildProof(keys, int64(i+1), func(yield func([]byte, error) bool) {
			for _, l := range lines {
				if !yield(l, nil) {
					return
				}
			}
		}, entry, 0, tree, checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		if proofs[i], err = p.Append(nil); err != nil {
			t.Fatal(err)
		}
	}
	return keys, permit, denial, proofs
}

func TestVerify(t *testing.T) {
	keys, permit, denial, proofs := signed(t)
	good := consumers.Delivery{ID: permit.Delivery, Decision: permit.ID, Subscription: permit.Subscription, Agreement: permit.Agreement, Dataset: "inntekt"}
	if _, err := Verify(&good, proofs[0], keys); err != nil {
		t.Fatalf("an honest delivery: %v", err)
	}
	others, _, _, _ := signed(t)
	for what, c := range map[string]struct {
		edit  func(*consumers.Delivery)
		proof []byte
		keys  *ledger.Policy
	}{
		"another decision":     {func(d *consumers.Delivery) { d.Decision[0]++ }, proofs[0], keys},
		"another delivery":     {func(d *consumers.Delivery) { d.ID[0]++ }, proofs[0], keys},
		"another subscription": {func(d *consumers.Delivery) { d.Subscription = "x" }, proofs[0], keys},
		"another agreement":    {func(d *consumers.Delivery) { d.Agreement = "x" }, proofs[0], keys},
		"another dataset":      {func(d *consumers.Delivery) { d.Dataset = "x" }, proofs[0], keys},
		"another kind":         {func(d *consumers.Delivery) { d.Kind = broker.Correction }, proofs[0], keys},
		"a denial":             {func(d *consumers.Delivery) { d.Decision, d.Subscription = denial.ID, denial.Subscription }, proofs[1], keys},
		"another's keys":       {func(*consumers.Delivery) {}, proofs[0], others},
		"a changed proof":      {func(*consumers.Delivery) {}, bytes.Replace(proofs[0], []byte("barnehageloven"), []byte("barnehagelovex"), 1), keys},
		"no proof":             {func(*consumers.Delivery) {}, []byte("{}"), keys},
	} {
		d := good
		c.edit(&d)
		if _, err := Verify(&d, c.proof, c.keys); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

// Who checks proofs builds no policy engine and no database.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for _, unwanted := range []string{"github.com/open-policy-agent/", "modernc.org/", "github.com/jackc/", "datafordeler/policy", "datafordeler/broker/flow", "datafordeler/broker/store"} {
			if strings.HasPrefix(dep, unwanted) {
				t.Errorf("imports %s", dep)
			}
		}
	}
}
