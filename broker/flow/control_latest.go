package flow

import (
	"context"

	"datafordeler/broker"
)

// Latest returns when every control event that was acknowledged before the call,
// by whichever instance, has been folded here; and the revision then. A door asks
// it before it judges, so that it never goes by what was withdrawn already.
func (c *Control) Latest(ctx context.Context) (broker.Revision, error) {
	ends, err := c.ends.Ask(ctx)
	if err != nil {
		return 0, err
	}
	if err := c.await(ctx, func() bool { return c.next >= ends[0] }); err != nil {
		return 0, err
	}
	return c.Revision(), nil
}
