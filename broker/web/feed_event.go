package web

import (
	"bytes"
	"encoding/json"
	"strings"
)

// appendEvent writes a delivery as a CloudEvent in JSON on one line (CloudEvents
// 1.0, JSON format): its attributes in the order of their headers, then its data.
// Headers that are no attribute are the broker's own and stay here.
func appendEvent(dst []byte, d *Delivery) []byte {
	dst = append(dst, '{')
	for i := range d.Headers {
		h := &d.Headers[i]
		name, ok := strings.CutPrefix(h.Key, "ce_")
		switch {
		case h.Key == "content-type":
			name = "datacontenttype"
		case !ok:
			continue
		}
		dst = append(dst, '"')
		dst = append(dst, name...)
		dst = append(dst, '"', ':')
		switch name {
		case "provisional", "notice", "denied", "backfill": // they stand where they are so
			if string(h.Value) == "true" {
				dst = append(dst, "true,"...)
				continue
			}
		}
		text, _ := json.Marshal(string(h.Value)) // a string always can be
		dst = append(dst, text...)
		dst = append(dst, ',')
	}
	dst = append(dst, `"data":`...)
	if !bytes.ContainsAny(d.Value, "\r\n") {
		return append(append(dst, d.Value...), '}')
	}
	var line bytes.Buffer
	if json.Compact(&line, d.Value) != nil {
		line.Reset()
		line.WriteString("null")
	}
	return append(append(dst, line.Bytes()...), '}')
}
