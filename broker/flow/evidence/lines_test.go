package evidence

import (
	"bytes"
	"crypto/sha256"
	"reflect"
	"slices"
	"testing"
	"time"

	"datafordeler/broker"
	"datafordeler/broker/deliver"
	"datafordeler/broker/ledger"
)

// Every field of a header changes the head's line, or is listed here with why not:
// a field that is added to the one must come to the other.
func TestEvidenceForgetsNoField(t *testing.T) {
	elsewhere := map[string]string{
		"Subscriptions": "each decision names its subscription and agreement; whether the agreement has a ceiling is the registry's",
		"Outcomes":      "each decision has its outcome",
	}
	base := deliver.BatchHeader{Kind: "stream", First: 5, Last: 9, Time: time.Unix(1_800_000_000, 0)}
	line := func(h deliver.BatchHeader) string {
		head := headOf(&h)
		return string(ledger.AppendHead(nil, &head))
	}
	plain := line(base)
	changes := func(name string, v reflect.Value, h *deliver.BatchHeader) {
		switch x := v.Addr().Interface().(type) {
		case *broker.Digest:
			x[3] = 7
		case *time.Time:
			*x = x.Add(time.Nanosecond)
		case *map[broker.AgreementID]int64:
			*x = map[broker.AgreementID]int64{"a": 1}
		case *[]int64:
			*x = []int64{1}
		default:
			switch v.Kind() {
			case reflect.String:
				v.SetString("other")
			case reflect.Int, reflect.Int32, reflect.Int64:
				v.SetInt(v.Int() + 1)
			case reflect.Uint64:
				v.SetUint(v.Uint() + 1)
			default:
				t.Fatalf("%s: the test does not know how to change a %s", name, v.Type())
			}
		}
		if line(*h) == plain {
			t.Errorf("%s is no part of the head's line", name)
		}
	}
	for f := range reflect.TypeFor[deliver.BatchHeader]().Fields() {
		if elsewhere[f.Name] != "" {
			continue
		}
		if f.Type == reflect.TypeFor[deliver.Limits]() {
			for l := range f.Type.Fields() {
				h := base
				changes(l.Name, reflect.ValueOf(&h).Elem().FieldByIndex(f.Index).FieldByIndex(l.Index), &h)
			}
			continue
		}
		h := base
		changes(f.Name, reflect.ValueOf(&h).Elem().FieldByIndex(f.Index), &h)
	}
}

// What was decoded from a batch is what its lines say.
func TestEvidenceOfBatch(t *testing.T) {
	permit := &broker.Outcome{Permit: true, Bases: []broker.LegalBasisID{"lov-1"}}
	deny := &broker.Outcome{Reasons: []broker.Reason{"no_open_case"}}
	terms := func(id string) *broker.Terms {
		return &broker.Terms{Subscription: broker.Subscription{ID: broker.SubscriptionID(id)},
			Agreement: broker.Agreement{ID: "agreement", Package: broker.PackageRef{ID: "p", Version: 2}, Cost: broker.Cost{Ceiling: 9}}}
	}
	var batch deliver.Batch
	batch.Reset(deliver.BatchHeader{Kind: "stream", Dataset: "inntekt", TopicID: broker.Digest{1}, Partition: 3, First: 100, Time: time.Unix(1_800_000_000, 5),
		Revision: 17, Policy: "sha256:00", Period: "2026-11", Usage: map[broker.AgreementID]int64{"agreement": 3},
		Limits: deliver.Limits{RecordBytes: 1, Depth: 2, Window: 3, WindowMillis: 4, DeliveryBytes: 5}})
	batch.Add(deliver.Row{Offset: 100, Event: broker.Digest{2}, Subject: broker.Digest{3}}, []deliver.Decision{
		{Terms: terms("a"), Outcome: permit, Fields: []broker.Pointer{"/x"}, Shielded: true}, {Terms: terms("b"), Outcome: deny}})
	batch.Reject(101)
	batch.Reject(104)
	batch.Repeat(105)
	batch.Add(deliver.Row{Offset: 106}, nil)
	value := slices.Clone(batch.Finish(110)[0])

	var lines [][]byte
	var b ledger.Builder
	entry, err := Lines(&b, ledger.Place{Partition: 1, Offset: 9}, value, func(line []byte) error {
		lines = append(lines, bytes.Clone(line))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []broker.Decision
	header, err := deliver.Decode(value, func(d *broker.Decision) error { want = append(want, *d); return nil })
	if err != nil {
		t.Fatal(err)
	}
	head, err := ledger.ParseHead(lines[0])
	if err != nil || !reflect.DeepEqual(head, headOf(&header)) || !slices.Equal(head.RejectedAt, []int64{101, 104}) {
		t.Errorf("head %+v, %v", head, err)
	}
	var rows ledger.Rows
	for i, line := range lines {
		rows.Add(line)
		if i == 0 {
			continue
		}
		if d, err := ledger.ParseDecision(line); err != nil || !reflect.DeepEqual(d, want[i-1]) {
			t.Errorf("line %d: %+v, %v\nwant %+v", i, d, err, want[i-1])
		}
	}
	x := entry.Batch
	if entry.Rows != rows.Root() || entry.Lines != 3 || x.Decisions != 2 || x.Permits != 1 || x.Sum != sha256.Sum256(value) || x.At != (ledger.Place{Partition: 1, Offset: 9}) {
		t.Errorf("entry %+v", entry)
	}
	parsed, err := ledger.ParseEntry(ledger.AppendEntry(nil, &entry))
	if err != nil || !reflect.DeepEqual(parsed, entry) {
		t.Errorf("%+v, %v", parsed, err)
	}
	if _, err := Lines(&b, ledger.Place{}, value[:len(value)-1], nil); err == nil {
		t.Error("half a batch gave an entry")
	}
}
