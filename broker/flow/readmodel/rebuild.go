package readmodel

import (
	"context"
	"errors"
	"fmt"
	"io"

	"datafordeler/broker/kafka"
	"datafordeler/broker/store"
)

// Content is what a read model holds.
type Content struct {
	Digest    string
	Decisions int64
}

// Rebuild empties the read model and fills it from the log as it stands now.
// progress is told how many places of the log were read, of how many. While an
// instance fills it, that fails with store.ErrClaimed and nothing is changed.
func Rebuild(ctx context.Context, o Options, progress func(done, total int64)) (c Content, err error) {
	claim, err := store.TakeClaim(ctx, o.DSN)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, claim.Release()) }()
	s, err := store.Recreate(ctx, o.DSN)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return fill(ctx, &o, s, nil, progress)
}

// Held is what the read model holds, and how far in the log. It may be being
// filled meanwhile: then what it holds is of the moment after next was read.
func Held(ctx context.Context, dsn string) (c Content, next map[int32]int64, err error) {
	s, err := store.Open(ctx, dsn)
	if err != nil {
		return c, nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if next, err = s.Position(ctx); err != nil {
		return c, nil, err
	}
	c.Digest, c.Decisions, err = s.Digest(ctx)
	return c, next, err
}

// Again makes a second read model, at o.DSN, of the same part of the log as
// another that stands at next, to compare the two.
func Again(ctx context.Context, o Options, next map[int32]int64, progress func(done, total int64)) (c Content, err error) {
	s, err := store.Recreate(ctx, o.DSN)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return fill(ctx, &o, s, next, progress)
}

// fill reads up to given ends, or to where the log ends now, and says what came
// of it. A partition that is not in ends is not read.
func fill(ctx context.Context, o *Options, s *store.Store, ends map[int32]int64, progress func(done, total int64)) (c Content, err error) {
	have, err := committed(ctx, o)
	if err != nil {
		return c, err
	}
	if ends == nil {
		ends = have
	}
	for p, end := range ends {
		if end > have[p] {
			return c, fmt.Errorf("%w: it has read partition %d of %s up to offset %d, and the topic ends at %d", ErrOtherLog, p, o.Topics.Decisions(), end, have[p])
		}
	}
	in, err := openFeed(ctx, o, s, ends)
	if err != nil {
		return c, err
	}
	defer in.close()
	var total int64
	begin := map[int32]int64{}
	for p, end := range ends {
		begin[p] = in.from[p]
		total += max(0, end-in.from[p])
	}
	for {
		if progress != nil {
			var done int64
			for p, end := range ends {
				done += max(0, min(in.read(p), end)-begin[p])
			}
			progress(done, total)
		}
		err := in.next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return c, err
		}
		if err := in.apply(ctx); err != nil {
			return c, err
		}
	}
	c.Digest, c.Decisions, err = s.Digest(ctx)
	return c, err
}

func committed(ctx context.Context, o *Options) (map[int32]int64, error) {
	adm, err := o.Engine.Admin()
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	ends, err := kafka.CommittedEnds(ctx, adm, o.Topics.Decisions())
	return ends[o.Topics.Decisions()], err
}

// Behind is how many records of decisions in the log are not in the read model, of
// partitions where it is few; exact is false where only the places between were
// counted, markers among them.
func Behind(ctx context.Context, o Options, s *store.Store) (records int64, exact bool, err error) {
	adm, err := o.Engine.Admin()
	if err != nil {
		return 0, false, err
	}
	defer adm.Close()
	topic := o.Topics.Decisions()
	from, err := startAt(ctx, adm, topic, s)
	if err != nil {
		return 0, false, err
	}
	ends, err := committed(ctx, &o)
	if err != nil {
		return 0, false, err
	}
	const few = 100
	var near []kafka.Span
	exact = true
	for p, end := range ends {
		switch gap := end - from[p]; {
		case gap <= 0:
		case gap > few:
			records, exact = records+gap, false
		default:
			near = append(near, kafka.Span{Topic: topic, Partition: p, From: from[p], To: end})
		}
	}
	reader, err := o.Engine.Reader(near)
	if err != nil {
		return 0, false, err
	}
	defer reader.Close()
	for {
		_, err := reader.Read(ctx)
		switch {
		case err == io.EOF:
			return records, exact, nil
		case err != nil:
			return 0, false, err
		}
		records++
	}
}
