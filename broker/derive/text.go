package derive

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// plain reports whether a text is short and has nothing that does not show.
func plain(s string) bool {
	return s != "" && len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// quoted writes a JSON string in its one spelling: the shortest escapes that JSON
// asks for, all else as UTF-8.
func quoted[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		c := s[i]
		if e := strings.IndexByte("\"\\\b\f\n\r\t", c); e >= 0 {
			dst = append(dst, '\\', `"\bfnrt`[e])
		} else if c < ' ' {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// isDate reports whether a text is a year, a month or a day of the Gregorian
// calendar, in ISO 8601's extended format. Such order as text does, as far as both
// go. Year 0000 is none.
func isDate(s []byte) bool {
	two := func(i int) int {
		if s[i] < '0' || s[i] > '9' || s[i+1] < '0' || s[i+1] > '9' {
			return -1
		}
		return int(s[i]-'0')*10 + int(s[i+1]-'0')
	}
	if len(s) != 4 && len(s) != 7 && len(s) != 10 {
		return false
	}
	century, rest := two(0), two(2)
	if century < 0 || rest < 0 || century+rest == 0 {
		return false
	}
	if len(s) == 4 {
		return true
	}
	month := two(5)
	if s[4] != '-' || month < 1 || month > 12 {
		return false
	}
	if len(s) == 7 {
		return true
	}
	day, days := two(8), 31
	switch year := century*100 + rest; month {
	case 4, 6, 9, 11:
		days = 30
	case 2:
		days = 28
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			days = 29
		}
	}
	return s[7] == '-' && day >= 1 && day <= days
}
