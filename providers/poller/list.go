package poller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"datafordeler/providers"
)

// HTTPList reads a list of events over HTTP, in the form
// {"hendelser": [{"sekvensnummer": 1, …}, …]}.
type HTTPList struct {
	// URL is that of the list, without the parameters below.
	URL string
	// FromParam and CountParam are the names of the parameters for the first number,
	// that one included, and for how many; default fraSekvensnummer and antall.
	FromParam, CountParam string
	// Entries and Number are the names of the members that hold the entries, and in
	// an entry its number; default hendelser and sekvensnummer.
	Entries, Number string
	// Token gives an access token; nil for none.
	Token providers.TokenSource
	// Header is sent along, such as for a correlation id.
	Header http.Header
	// Client makes the requests. Nil: one that gives up after 30 s.
	Client *http.Client
}

// Most bytes of a page.
const largestPage = 64 << 20

// Page is for Config.List.
func (l HTTPList) Page(ctx context.Context, from int64, limit int) ([]Entry, error) {
	named := func(name, or string) string {
		if name == "" {
			return or
		}
		return name
	}
	u, err := url.Parse(l.URL)
	if err != nil {
		return nil, errors.New("the list's URL is none")
	}
	q := u.Query()
	q.Set(named(l.FromParam, "fraSekvensnummer"), strconv.FormatInt(from, 10))
	q.Set(named(l.CountParam, "antall"), strconv.Itoa(limit))
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range l.Header {
		req.Header[k] = v
	}
	req.Header.Set("Accept", "application/json")
	if l.Token != nil {
		token, err := l.Token(ctx)
		if err != nil {
			return nil, fmt.Errorf("no token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := l.Client
	if client == nil {
		client = &http.Client{Timeout: 30 * time.Second}
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, largestPage+1))
	if err != nil {
		return nil, err
	}
	if len(body) > largestPage {
		return nil, fmt.Errorf("a page has more than %d bytes; ask for fewer entries", largestPage)
	}
	return parsePage(body, named(l.Entries, "hendelser"), named(l.Number, "sekvensnummer"))
}

// parsePage reads {"<entries>": [{"<number>": n, …}]}. Its errors hold no values.
func parsePage(body []byte, entries, number string) ([]Entry, error) {
	var page map[string]json.RawMessage
	if json.Unmarshal(body, &page) != nil {
		return nil, errors.New("the page is not a JSON object")
	}
	var list []json.RawMessage
	if raw, ok := page[entries]; !ok || json.Unmarshal(raw, &list) != nil {
		return nil, fmt.Errorf("the page has no list %q", entries)
	}
	out := make([]Entry, len(list))
	for i, raw := range list {
		var one map[string]json.RawMessage
		if json.Unmarshal(raw, &one) != nil {
			return nil, fmt.Errorf("entry %d of the page is not an object", i)
		}
		seq, err := strconv.ParseInt(string(bytes.TrimSpace(one[number])), 10, 64)
		if err != nil || seq < 1 {
			return nil, fmt.Errorf("entry %d of the page has no %q, an integer above 0", i, number)
		}
		// In one form, so that another page's spaces make no other entry of it.
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			return nil, fmt.Errorf("entry %d of the page is not JSON", i)
		}
		out[i] = Entry{seq, compact.Bytes()}
	}
	return out, nil
}

// File is a Store in a file. It is replaced as a whole, so that it is there in full
// whenever the program ends.
type File string

// Load reads the file; where there is none it is the zero checkpoint.
func (f File) Load(context.Context) (c Checkpoint, err error) {
	b, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(b, &c); err != nil || c.Seq < 1 {
		return Checkpoint{}, fmt.Errorf("%s is no checkpoint; mend it: {\"sequence\": n}", string(f))
	}
	return c, nil
}

// Save writes the file, and syncs it and its directory.
func (f File) Save(_ context.Context, c Checkpoint) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(string(f)), filepath.Base(string(f))+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // does nothing where it was renamed
	_, err = tmp.Write(append(b, '\n'))
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), string(f)); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(string(f)))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
