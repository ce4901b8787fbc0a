package ledger

import (
	"encoding/base64"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// body is the example of tlog-checkpoint.
const body = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"

func TestCheckpointOfTheSpecification(t *testing.T) {
	c, err := ParseCheckpoint(body)
	if err != nil {
		t.Fatal(err)
	}
	if c.Origin != "example.com/behind-the-sofa" || c.Size != 20852163 || c.Text() != body || c.Check() != nil {
		t.Errorf("%+v, %q, %v", c, c.Text(), c.Check())
	}
	if extended, err := ParseCheckpoint(body + "an extension\n— another\n"); err != nil || extended != c {
		t.Errorf("with extension lines: %+v, %v", extended, err)
	}
}

func TestCheckpointsThatAreNone(t *testing.T) {
	const root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
	for name, text := range map[string]string{
		"empty":                "",
		"two lines":            "o\n1\n",
		"last line not ended":  "o\n1\n" + root,
		"no origin":            "\n1\n" + root + "\n",
		"leading zero":         "o\n01\n" + root + "\n",
		"sign":                 "o\n+1\n" + root + "\n",
		"negative":             "o\n-1\n" + root + "\n",
		"no size":              "o\n\n" + root + "\n",
		"space":                "o\n1 \n" + root + "\n",
		"hexadecimal":          "o\n0x1\n" + root + "\n",
		"size beyond 2^62":     "o\n4611686018427387905\n" + root + "\n",
		"size beyond 2^63":     "o\n9223372036854775808\n" + root + "\n",
		"short root":           "o\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2==\n",
		"other spelling":       "o\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n",
		"url alphabet":         "o\n1\nCsUYapGGPo4dkMgIAUqom_Xajj7h2fB2MPA3j2jxq2I=\n",
		"carriage return":      "o\r\n1\r\n" + root + "\r\n",
		"control character":    "o\x01\n1\n" + root + "\n",
		"no UTF-8":             "o\xff\n1\n" + root + "\n",
		"empty extension":      "o\n1\n" + root + "\n\n",
		"empty line in middle": "o\n1\n" + root + "\n\nx\n",
	} {
		if c, err := ParseCheckpoint(text); err == nil {
			t.Errorf("%s: read as %+v", name, c)
		}
	}
}

// A tree that large makes tlog.CheckTree run for ever: it must not come so far.
func TestTreesAreBounded(t *testing.T) {
	if c, err := ParseCheckpoint("o\n4611686018427387904\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"); err != nil || tlog.CheckTree(nil, c.Size, c.Root, 1, c.Root) == nil {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestSignCheckpointRefuses(t *testing.T) {
	skey, _, err := GenerateKey("log.example", LogKey)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	root := tlog.RecordHash(nil)
	for _, c := range []Checkpoint{
		{"", 1, root}, {"a\nb", 1, root}, {"a\x00", 1, root}, {"\xff", 1, root},
		{"log.example", -1, root}, {"log.example", MaxSize + 1, root}, {"log.example", 0, root},
	} {
		if msg, err := SignCheckpoint(c, s); err == nil {
			t.Errorf("signed %q", msg)
		}
	}
	if _, err := SignCheckpoint(Checkpoint{"log.example", 1, root}); err == nil {
		t.Error("signed by nobody")
	}
	if _, err := SignCheckpoint(Checkpoint{"log.example", 0, EmptyRoot}, s); err != nil {
		t.Errorf("the tree without leaves: %v", err)
	}
}

func TestEmptyRoot(t *testing.T) {
	if h, err := tlog.TreeHash(0, nil); err != nil || h != EmptyRoot {
		t.Errorf("%v, %v", h, err)
	}
}

func TestCheckpointRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Checkpoint{
			Origin: rapid.StringMatching(`[a-zæøå.]+(/[a-z0-9 +—]+)?`).Draw(t, "origin"),
			Size:   rapid.Int64Range(1, MaxSize).Draw(t, "size"),
			Root:   tlog.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "root")),
		}
		if got, err := ParseCheckpoint(c.Text()); err != nil || got != c || c.Check() != nil {
			t.Fatalf("%+v, %v, %v", got, err, c.Check())
		}
	})
}

// What is read says one thing only: written anew, without its extensions, it is
// the beginning of what was read.
func FuzzParseCheckpoint(f *testing.F) {
	f.Add(body)
	f.Add(body + "extension\n")
	f.Add("o\n0\n" + base64.StdEncoding.EncodeToString(EmptyRoot[:]) + "\n")
	f.Add("o\n00\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCheckpoint(text)
		if err != nil {
			return
		}
		if !strings.HasPrefix(text, c.Text()) || c.Size < 0 || c.Size > MaxSize {
			t.Errorf("%q was read as %+v", text, c)
		}
	})
}
