package positions

import (
	"context"
	"errors"
	"fmt"
)

// Latest returns when all that was decided and committed before the call, by
// whichever instance, is in the index. When ctx ends first, the error says why the
// index is not being filled, if that is known.
func (f *Follower) Latest(ctx context.Context) error {
	ends, err := f.latest.Ask(ctx)
	if err != nil {
		return err
	}
	for {
		f.mu.Lock()
		behind, err, changed := int64(0), f.err, f.changed
		for p, end := range ends {
			behind += max(0, end-f.applied[p])
		}
		open := f.applied != nil
		f.mu.Unlock()
		if open && behind == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the index of positions is %d places of the log behind: %w", behind, ctx.Err()), err)
		}
	}
}
