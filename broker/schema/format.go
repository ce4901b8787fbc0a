package schema

import (
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// format is one that a string is held to. The library's function is the
// judge; surely, where it is set, knows the plain cases without the string and
// the errors that the library makes. It only ever says yes: what it does not
// know, and so every no, comes from the library.
type format struct {
	surely func(text []byte) bool
	lib    func(v any) error
}

func (f *format) match(text []byte) bool {
	return f.surely != nil && f.surely(text) || f.lib(string(text)) == nil
}

// formats are those that the library judges by strings alone: any other value
// is of every format.
var formats = []string{
	"regex", "json-pointer", "relative-json-pointer", "uuid", "duration", "period", "ipv4", "ipv6", "hostname",
	"email", "date", "time", "date-time", "uri", "iri", "uri-reference", "iri-reference", "uri-template", "semver",
}

func newFormat(f *jsonschema.Format) (*format, bool) {
	out := &format{lib: f.Validate}
	switch f.Name {
	case "date":
		out.surely = plainDate
	case "time":
		out.surely = plainTime
	case "date-time":
		out.surely = plainDateTime
	case "uuid":
		out.surely = plainUUID
	case "hostname":
		out.surely = plainHostname
	case "email":
		out.surely = plainEmail
	case "uri", "iri", "uri-reference", "iri-reference":
		out.surely = plainURI
	case "ipv4":
		out.surely = plainIPv4
	}
	return out, slices.Contains(formats, f.Name)
}

// two reads two digits; −1 where they are not.
func two(b []byte) int {
	tens, ones := b[0]-'0', b[1]-'0'
	if tens > 9 || ones > 9 {
		return -1
	}
	return int(tens)*10 + int(ones)
}

// plainDate is a day of the years 1 to 9999, RFC 3339.
func plainDate(b []byte) bool {
	if len(b) != 10 || b[4] != '-' || b[7] != '-' {
		return false
	}
	century, years, month, day := two(b), two(b[2:]), two(b[5:]), two(b[8:])
	if century < 0 || years < 0 || century+years == 0 || month < 1 || month > 12 || day < 1 {
		return false
	}
	days := [...]int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
	if year := century*100 + years; month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		days = 29
	}
	return day <= days
}

// plainTime is a time without leap second, RFC 3339.
func plainTime(b []byte) bool {
	if len(b) < 9 || b[2] != ':' || b[5] != ':' {
		return false
	}
	h, m, s := two(b), two(b[3:]), two(b[6:])
	if h < 0 || h > 23 || m < 0 || m > 59 || s < 0 || s > 59 {
		return false
	}
	b = b[8:]
	if b[0] == '.' {
		i := 1
		for i < len(b) && b[i]-'0' < 10 {
			i++
		}
		if i == 1 {
			return false
		}
		b = b[i:]
	}
	switch {
	case len(b) == 1:
		return b[0] == 'Z' || b[0] == 'z'
	case len(b) == 6 && (b[0] == '+' || b[0] == '-') && b[3] == ':':
		h, m := two(b[1:]), two(b[4:])
		return h >= 0 && h <= 23 && m >= 0 && m <= 59
	}
	return false
}

func plainDateTime(b []byte) bool {
	return len(b) > 19 && (b[10] == 'T' || b[10] == 't') && plainDate(b[:10]) && plainTime(b[11:])
}

func plainUUID(b []byte) bool {
	if len(b) != 36 {
		return false
	}
	for i, c := range b {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if c-'0' > 9 && c|0x20-'a' > 5 {
				return false
			}
		}
	}
	return true
}

func alphanumeric(c byte) bool { return c-'0' < 10 || c|0x20-'a' < 26 }

// plainHostname is labels of letters, digits and hyphens inside, with dots
// between them.
func plainHostname(b []byte) bool {
	if len(b) == 0 || len(b) > 253 {
		return false
	}
	start := 0
	for i := 0; i <= len(b); i++ {
		switch {
		case i == len(b) || b[i] == '.':
			if i == start || i-start > 63 || b[start] == '-' || b[i-1] == '-' {
				return false
			}
			start = i + 1
		case b[i] != '-' && !alphanumeric(b[i]):
			return false
		}
	}
	return true
}

// plainEmail has a local part of letters, digits, _ + -, single dots between
// them, and a hostname.
func plainEmail(b []byte) bool {
	at := slices.Index(b, '@')
	if at < 1 || at > 64 || len(b) > 254 || b[0] == '.' || b[at-1] == '.' {
		return false
	}
	for i, c := range b[:at] {
		if !alphanumeric(c) && c != '_' && c != '+' && c != '-' && (c != '.' || b[i+1] == '.') {
			return false
		}
	}
	return plainHostname(b[at+1:])
}

// plainURI is http or https, a hostname, and a path of unreserved characters.
func plainURI(b []byte) bool {
	switch {
	case len(b) > 8 && string(b[:8]) == "https://":
		b = b[8:]
	case len(b) > 7 && string(b[:7]) == "http://":
		b = b[7:]
	default:
		return false
	}
	host := slices.Index(b, '/')
	if host < 0 {
		host = len(b)
	}
	for _, c := range b[host:] {
		if !alphanumeric(c) && c != '/' && c != '-' && c != '.' && c != '_' && c != '~' {
			return false
		}
	}
	return plainHostname(b[:host])
}

func plainIPv4(b []byte) bool {
	groups, digits, n := 1, 0, 0
	for _, c := range b {
		switch {
		case c == '.':
			if digits == 0 || groups == 4 {
				return false
			}
			groups, digits, n = groups+1, 0, 0
		case c-'0' > 9 || digits > 0 && n == 0: // a leading zero
			return false
		default:
			digits++
			if n = n*10 + int(c-'0'); n > 255 {
				return false
			}
		}
	}
	return groups == 4 && digits > 0
}
