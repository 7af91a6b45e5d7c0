package stream

import "bytes"

// AppendStandalone appends one element of a Batch as it must look where no
// stream header is around it (RFC 7395 §3.3.3, XEP-0206 §3): a stanza declares
// the content namespace, an element with the prefix "stream" declares that.
// Anything else declares its namespace already.
func AppendStandalone(dst, element []byte, content string) []byte {
	end := bytes.IndexAny(element, " />")
	if end < 1 {
		return append(dst, element...)
	}
	name := element[1:end]
	dst = append(dst, element[:end]...)
	switch string(name) {
	case "message", "presence", "iq":
		dst = append(dst, " xmlns='"...)
		dst = append(dst, content...)
		dst = append(dst, '\'')
	default:
		if bytes.HasPrefix(name, []byte("stream:")) {
			dst = append(dst, " xmlns:stream='"+NSStream+"'"...)
		}
	}
	return append(dst, element[end:]...)
}
