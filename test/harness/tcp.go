package harness

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// tcpConn is the framing of RFC 6120 §4.
type tcpConn struct {
	net.Conn
	r *bufio.Reader
	d *xml.Decoder
	// ca is set while the stream is to be secured before anything else.
	ca *x509.CertPool
}

func dialTCP(addr string, ca *x509.CertPool) (Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &tcpConn{Conn: c, r: bufio.NewReader(c), ca: ca}, nil
}

func (c *tcpConn) Open(to, lang string) error {
	if err := c.header(to, lang); err != nil || c.ca == nil {
		return err
	}
	pool := c.ca
	c.ca = nil
	if _, err := c.Receive(); err != nil { // the features
		return err
	}
	if err := c.Send("<starttls xmlns='" + NSTLS + "'/>"); err != nil {
		return err
	}
	if n, err := c.Receive(); err != nil || !n.Is(NSTLS, "proceed") {
		return fmt.Errorf("starttls: %v %w", n, err)
	}
	c.Conn = tls.Client(c.Conn, &tls.Config{RootCAs: pool, ServerName: to})
	c.r = bufio.NewReader(c.Conn)
	return c.header(to, lang)
}

func (c *tcpConn) header(to, lang string) error {
	c.d = xml.NewDecoder(c.r) // reads single octets from a bufio.Reader, none too many
	err := c.Send("<?xml version='1.0'?><stream:stream xmlns='" + NSClient + "' xmlns:stream='" + NSStream +
		"' version='1.0' to='" + escape(to) + "'" + langAttr(lang) + ">")
	if err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(Patience))
	for {
		tok, err := c.d.Token()
		if err != nil {
			return err
		}
		if t, ok := tok.(xml.StartElement); ok {
			if n := nodeOf(t); !n.Is(NSStream, "stream") || n.Attr("version") != "1.0" || n.Attr("id") == "" {
				return fmt.Errorf("stream header: %s", n)
			}
			return nil
		}
	}
}

func (c *tcpConn) Send(element string) error { return c.SendRaw(element) }

func (c *tcpConn) SendRaw(text string) error {
	_, err := io.WriteString(c.Conn, text)
	return err
}

func (c *tcpConn) Receive() (*Node, error) {
	_ = c.SetReadDeadline(time.Now().Add(Patience))
	n, err := readNode(c.d)
	if errors.Is(err, errEnd) {
		// RFC 6120 §4.4: answer with our own end; then the server closes.
		_ = c.Close()
		if _, err := c.r.ReadByte(); err == nil {
			return nil, errors.New("octets after the end of the stream")
		} else if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			return nil, errors.New("the connection stays open after the end of the stream")
		}
		return nil, ErrEnd
	}
	return n, err
}

func (c *tcpConn) Close() error { return c.Send("</stream:stream>") }

func (c *tcpConn) Drop() { c.Conn.Close() }
