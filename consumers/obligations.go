package consumers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"datafordeler/broker"
)

// Obligations tells of withdrawn consents, and takes receipts for what was done about
// them. It is used by one goroutine; make one for each.
type Obligations struct {
	// Agreement is the only one that Next asks about; a supplier must name it. "" is all
	// that the caller is party to.
	Agreement broker.AgreementID

	cfg   LookupConfig
	base  string
	token string
}

// NewObligations makes it, of what lookups are made of. It asks nothing yet. A client
// of the caller's must bear the wait of Next.
func NewObligations(c LookupConfig) (*Obligations, error) {
	if c.HTTP == nil {
		c.HTTP = &http.Client{Timeout: 90 * time.Second} // Next may wait for a minute
	}
	l, err := NewLookups(c)
	if err != nil {
		return nil, err
	}
	return &Obligations{cfg: l.cfg, base: strings.TrimSuffix(c.URL, "/")}, nil
}

// Obligation is what the withdrawal of a consent lays on whoever received by it.
type Obligation struct {
	Agreement broker.AgreementID    `json:"agreement"`
	Consent   broker.ConsentID      `json:"consent"`
	External  string                `json:"external,omitempty"` // its id where it was given, such as Altinn
	Dataset   broker.DatasetID      `json:"dataset"`
	Purpose   broker.Purpose        `json:"purpose"`
	Do        broker.WithdrawalDuty `json:"do"`
	ELI       string                `json:"eli,omitempty"` // the act by which it is kept
	Paragraph string                `json:"paragraph,omitempty"`
	Since     time.Time             `json:"since"`
	Due       time.Time             `json:"due"`
	Status    string                `json:"status"`   // open, overdue or receipted
	Revision  broker.Revision       `json:"revision"` // of the withdrawal: its place
}

// Received is a decision by which something came that an obligation is about: the
// delivery's or the answer's, which has both ids.
type Received struct {
	Decision broker.DecisionID `json:"decision"`
	Delivery broker.DeliveryID `json:"delivery,omitzero"` // zero for what a lookup answered
	At       time.Time         `json:"time"`
}

// Receipt says what was done. Deeds are deleted, nothing-held, stopped, kept and
// consented; what they mean stands with the endpoint.
type Receipt struct {
	Did       string `json:"did"`
	ELI       string `json:"eli,omitempty"` // the act by which it is kept, where the agreement cites none
	Paragraph string `json:"paragraph,omitempty"`
	Note      string `json:"note,omitempty"` // no person's number: it stands for ever
}

// Next returns the obligations that came after a place, which is 0 for the beginning,
// and the place to go on from: keep it when they are dealt with. Where there is none
// yet it waits, up to a minute.
func (o *Obligations) Next(ctx context.Context, after broker.Revision, wait time.Duration) (all []Obligation, next broker.Revision, err error) {
	q := url.Values{"after": {strconv.FormatInt(int64(after), 10)}, "wait": {strconv.Itoa(int(min(max(wait, 0), time.Minute) / time.Second))}}
	if o.Agreement != "" {
		q.Set("agreement", string(o.Agreement))
	}
	var page struct {
		Obligations []Obligation    `json:"obligations"`
		Next        broker.Revision `json:"next"`
	}
	if err := o.ask(ctx, http.MethodGet, "/obligations?"+q.Encode(), nil, &page); err != nil {
		return nil, after, err
	}
	if page.Next < after {
		return nil, after, errors.New("consumers: the broker's obligations go backwards")
	}
	return page.Obligations, page.Next, nil
}

// Received finds what there is to delete, keep or use no more: all that came under an
// obligation's agreement on whoever withdrew. destroyed are months in which it cannot
// be found by this way any more.
func (o *Obligations) Received(ctx context.Context, agreement broker.AgreementID, consent broker.ConsentID) (all []Received, destroyed []string, err error) {
	for cursor := ""; ; {
		var page struct {
			Decisions []struct {
				Decision string    `json:"id"`
				Delivery string    `json:"delivery"`
				At       time.Time `json:"time"`
			} `json:"decisions"`
			Next      string   `json:"next"`
			Destroyed []string `json:"destroyed"`
		}
		path := obligationPath(agreement, consent) + "/decisions?limit=1000"
		if cursor != "" {
			path += "&cursor=" + url.QueryEscape(cursor)
		}
		if err := o.ask(ctx, http.MethodGet, path, nil, &page); err != nil {
			return nil, nil, err
		}
		for _, d := range page.Decisions {
			r := Received{At: d.At}
			if r.Decision, err = broker.ParseDigest(d.Decision); err != nil {
				return nil, nil, errors.New("consumers: the answer is none that this version knows")
			}
			if d.Delivery != "" {
				if r.Delivery, err = broker.ParseDigest(d.Delivery); err != nil {
					return nil, nil, errors.New("consumers: the answer is none that this version knows")
				}
			}
			all = append(all, r)
		}
		if cursor = page.Next; cursor == "" {
			return all, page.Destroyed, nil
		}
	}
}

// Give gives a receipt. The same again changes nothing.
func (o *Obligations) Give(ctx context.Context, agreement broker.AgreementID, consent broker.ConsentID, r Receipt) (Obligation, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return Obligation{}, err
	}
	var out Obligation
	return out, o.ask(ctx, http.MethodPost, obligationPath(agreement, consent)+"/receipt", body, &out)
}

func obligationPath(a broker.AgreementID, c broker.ConsentID) string {
	return "/agreements/" + url.PathEscape(string(a)) + "/obligations/" + url.PathEscape(string(c))
}

// ask asks until it is answered or refused. To ask twice does nothing twice.
func (o *Obligations) ask(ctx context.Context, method, path string, body []byte, into any) error {
	renewed := false
	for try := 1; ; try++ {
		err := o.once(ctx, method, path, body, into)
		var said *LookupError
		pause := time.Duration(1<<try) * 50 * time.Millisecond
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case errors.As(err, &said) && said.Status == http.StatusUnauthorized && !renewed:
			o.token, renewed = "", true
			continue
		case errors.As(err, &said) && (said.Status == http.StatusTooManyRequests || said.Status >= http.StatusInternalServerError):
			pause = max(pause, said.After)
		case errors.As(err, &said):
			return err
		}
		if try == lookupTries || pause > lookupPause {
			return err
		}
		wait := time.NewTimer(pause + rand.N(pause/2))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		}
	}
}

func (o *Obligations) once(ctx context.Context, method, path string, body []byte, into any) error {
	if o.token == "" {
		var err error
		if o.token, err = o.cfg.Token(ctx); err != nil {
			return fmt.Errorf("getting a token: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, o.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+o.token)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := o.cfg.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, lookupBytes+1))
	if err != nil {
		return fmt.Errorf("the answer was lost on its way: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return refusal(resp, answer)
	}
	if len(answer) > lookupBytes || json.Unmarshal(answer, into) != nil {
		return errors.New("consumers: the answer is none that this version knows")
	}
	return nil
}
