package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
)

// httpHeader is what the load client needs of a response's head.
type httpHeader struct {
	status  int
	length  int // -1: not given
	chunked bool
}

// readHTTPHeader reads a status line and the header fields (RFC 9112 §4, §5).
func readHTTPHeader(br *bufio.Reader) (httpHeader, error) {
	h := httpHeader{length: -1}
	for first := true; ; first = false {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return h, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first {
			fields := bytes.Fields(line)
			if len(fields) < 2 {
				return h, fmt.Errorf("not a status line: %q", line)
			}
			if h.status, err = strconv.Atoi(string(fields[1])); err != nil {
				return h, fmt.Errorf("not a status line: %q", line)
			}
			continue
		}
		if len(line) == 0 {
			return h, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			if h.length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return h, fmt.Errorf("bad Content-Length: %q", value)
			}
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			h.chunked = bytes.EqualFold(bytes.TrimSpace(value), []byte("chunked"))
		}
	}
}

// readHTTPResponse reads one response and appends its body to dst.
func readHTTPResponse(br *bufio.Reader, dst []byte) (status int, body []byte, err error) {
	h, err := readHTTPHeader(br)
	if err != nil {
		return 0, dst, err
	}
	if !h.chunked {
		if h.length < 0 && (h.status == 204 || h.status < 200) {
			h.length = 0
		}
		if h.length < 0 {
			return h.status, dst, fmt.Errorf("status %d with a body of unknown length", h.status)
		}
		dst, err = readN(br, dst, h.length)
		return h.status, dst, err
	}
	for { // RFC 9112 §7.1
		line, err := br.ReadSlice('\n')
		if err != nil {
			return h.status, dst, err
		}
		hex, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(";"))
		size, err := strconv.ParseUint(string(hex), 16, 31)
		if err != nil {
			return h.status, dst, fmt.Errorf("bad chunk size: %q", line)
		}
		if dst, err = readN(br, dst, int(size)); err != nil {
			return h.status, dst, err
		}
		if _, err := br.Discard(2); err != nil { // the CRLF after the chunk or the last one
			return h.status, dst, err
		}
		if size == 0 {
			return h.status, dst, nil
		}
	}
}

func readN(br *bufio.Reader, dst []byte, n int) ([]byte, error) {
	at := len(dst)
	if cap(dst)-at < n {
		dst = append(dst, make([]byte, n)...)
	}
	dst = dst[:at+n]
	_, err := io.ReadFull(br, dst[at:])
	return dst, err
}
