package main

import (
	"math"
	"slices"
	"testing"
)

// Points that the formula made give the formula back, whatever its coefficients.
func TestSizingFindsTheFormula(t *testing.T) {
	for _, want := range [][4]float64{{1, 1, 1, 1}, {3, 0.5, 7, 0.25}, {0, 2, 0, 5}, {100, 0, 1, 0}} {
		s := sizing{coefficient: want}
		var points []sizingPoint
		for _, size := range []int64{760, 3_000, 9_000} {
			for _, fanout := range []int{1, 3, 10} {
				p := sizingPoint{Fanout: fanout, RecordBytes: size}
				p.Micros = s.micros(p)
				points = append(points, p)
			}
		}
		got := fitSizing(points)
		for i := range want {
			if math.Abs(got.coefficient[i]-want[i]) > 1e-6 {
				t.Errorf("%v came back as %v", want, got.coefficient)
			}
		}
	}
}

func TestPercentile(t *testing.T) {
	var all []int64
	for i := range int64(200) {
		all = append(all, (i+1)*1e6)
	}
	slices.Sort(all)
	for p, want := range map[float64]float64{0.5: 100, 0.95: 190, 0.99: 198, 1: 200, 0: 1} {
		if got := percentile(all, p); got != want {
			t.Errorf("%v: %v, want %v", p, got, want)
		}
	}
	if percentile(nil, 0.5) != 0 {
		t.Error("of nothing")
	}
}
