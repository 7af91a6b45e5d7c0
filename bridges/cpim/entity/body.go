package entity

import (
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"strconv"
	"strings"
)

// Decode undoes the Content-Transfer-Encoding of the body (RFC 2045 §6). The
// result has at most limit octets. The error is an *Error.
func (e *Entity) Decode(limit int) (string, error) {
	switch coding := e.Get("Content-Transfer-Encoding"); {
	case coding == "", strings.EqualFold(coding, "7bit"), strings.EqualFold(coding, "8bit"), strings.EqualFold(coding, "binary"):
		if len(e.Body) > limit {
			return "", tooLarge("body of too many octets")
		}
		return e.Body, nil
	case strings.EqualFold(coding, "base64"):
		return decodeBase64(e.Body, limit)
	case strings.EqualFold(coding, "quoted-printable"):
		out, err := io.ReadAll(io.LimitReader(quotedprintable.NewReader(strings.NewReader(e.Body)), int64(limit)+1))
		if err != nil {
			return "", &Error{Reason: "body is not quoted-printable", Err: err}
		}
		if len(out) > limit {
			return "", tooLarge("body of too many octets")
		}
		return string(out), nil
	}
	return "", refuse("unknown Content-Transfer-Encoding")
}

func decodeBase64(s string, limit int) (string, error) {
	// RFC 2045 §6.8: line breaks are not part of the data. A missing pad at the
	// end costs nobody anything.
	s = strings.Map(func(r rune) rune {
		if r == '\r' || r == '\n' || r == ' ' || r == '\t' {
			return -1
		}
		return r
	}, s)
	s = strings.TrimRight(s, "=")
	if base64.RawStdEncoding.DecodedLen(len(s)) > limit {
		return "", tooLarge("body of too many octets")
	}
	out, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return "", &Error{Reason: "body is not base64", Err: err}
	}
	return string(out), nil
}

// Parts splits the body of a multipart (RFC 2046 §5.1.1). The parts share its
// memory and have not been looked into; nested multiparts are split by another
// call. Multiparts have no transfer encoding (§5). The error is an *Error.
func (e *Entity) Parts(lenient bool) ([]*Entity, error) {
	m := e.ContentType()
	boundary, ok := m.Param("boundary")
	if !strings.HasPrefix(m.Name, "multipart/") || !ok || boundary == "" || len(boundary) > 70 || strings.HasSuffix(boundary, " ") {
		return nil, refuse("multipart without a valid boundary")
	}
	var parts []*Entity
	start := -1 // of the open part in Body
	body := e.Body
	for at := 0; at <= len(body); {
		i := delimiter(body, at, boundary)
		if i < 0 {
			if lenient && start >= 0 { // cut off: the last part ends where the text does
				i = len(body)
			} else {
				return nil, refuse("multipart without end")
			}
		}
		if start >= 0 {
			end := i
			if i < len(body) {
				// The line end before a delimiter belongs to the delimiter.
				end = max(strings.LastIndexByte(body[:i], '\n'), start)
				if end > start && body[end-1] == '\r' {
					end--
				}
			}
			if len(parts) == MaxParts {
				return nil, tooLarge("too many parts")
			}
			text := body[start:end]
			p := new(Entity)
			if !strings.Contains(text, "\n") || text[0] == '\n' || strings.HasPrefix(text, "\r\n") {
				// RFC 2046 §5.1: a part may have no header at all.
				p.source, p.Body = text, strings.TrimPrefix(strings.TrimPrefix(text, "\r"), "\n")
			} else if err := p.Read(text, lenient); err != nil {
				return nil, err
			}
			parts = append(parts, p)
		}
		if i == len(body) {
			return parts, nil
		}
		line := i + 2 + len(boundary)
		if strings.HasPrefix(body[line:], "--") {
			if len(parts) == 0 {
				return nil, refuse("multipart without parts")
			}
			return parts, nil
		}
		next := strings.IndexByte(body[line:], '\n')
		if next < 0 {
			return nil, refuse("multipart without end")
		}
		start = line + next + 1
		at = start
	}
	return nil, refuse("multipart without end")
}

// delimiter returns where the next delimiter line begins at or behind at, -1 if
// there is none.
func delimiter(body string, at int, boundary string) int {
	for at < len(body) {
		i := strings.Index(body[at:], "--"+boundary)
		if i < 0 {
			return -1
		}
		i += at
		after := strings.TrimPrefix(body[i+2+len(boundary):], "--")
		if end := strings.IndexByte(after, '\n'); end >= 0 {
			after = after[:end]
		}
		if (i == 0 || body[i-1] == '\n') && trim(strings.TrimSuffix(after, "\r")) == "" {
			return i
		}
		at = i + 1
	}
	return -1
}

// Multipart returns a multipart of the given subtype. The boundary occurs in no
// part. The error is an *Error: a part cannot be written.
func Multipart(subtype string, parts ...*Entity) (*Entity, error) {
	texts := make([]string, len(parts))
	for i, p := range parts {
		b, err := p.AppendTo(nil)
		if err != nil {
			return nil, err
		}
		texts[i] = string(b)
	}
	boundary := ""
	for n := 0; boundary == ""; n++ {
		boundary = "part-" + strconv.Itoa(n)
		for _, t := range texts {
			if strings.Contains(t, "--"+boundary) {
				boundary = ""
				break
			}
		}
	}
	var b strings.Builder
	for _, t := range texts {
		b.WriteString("--" + boundary + "\r\n" + t + "\r\n")
	}
	b.WriteString("--" + boundary + "--\r\n")
	return New("multipart/"+subtype+"; boundary="+boundary, b.String()), nil
}
