package web

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkPublish is the door's own cost of an event, by form: reading, judging,
// answering. Kafka takes no time here, and there is no network.
func BenchmarkPublish(b *testing.B) {
	write := func(_ context.Context, _ SourceEvent, done func(int32, int64, error)) { done(0, 0, nil) }
	s, _ := publishing(b, write)
	const events = 500
	var lines, batch []string
	for i := range events {
		e := strings.Replace(event(fmt.Sprint("e", i), ""), person, fmt.Sprintf("159100%05d", i), 1)
		lines, batch = append(lines, e), append(batch, e)
	}
	for _, c := range []struct {
		media, body string
		events      int
	}{
		{mediaEvent, lines[0], 1},
		{mediaBatch, "[" + strings.Join(batch, ",") + "]", events},
		{mediaNDJSON, strings.Join(lines, "\n"), events},
	} {
		b.Run(c.media, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("POST", "/datasets/inntekt/events", strings.NewReader(c.body))
				r.Header.Set("Authorization", "Bearer tax")
				r.Header.Set("Content-Type", c.media)
				w := httptest.NewRecorder()
				s.Handler().ServeHTTP(w, r)
				if w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
			b.ReportMetric(float64(b.N*c.events)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
