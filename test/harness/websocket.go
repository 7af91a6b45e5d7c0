package harness

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// webSocketConn is the framing of RFC 7395.
type webSocketConn struct {
	ws     *websocket.Conn
	closed bool // we have sent our <close/>
}

func dialWebSocket(url string) (Conn, error) {
	d := websocket.Dialer{Subprotocols: []string{"xmpp"}, HandshakeTimeout: Patience}
	ws, res, err := d.Dial("ws"+strings.TrimPrefix(url, "http")+"/xmpp-websocket", nil)
	if err != nil {
		return nil, err
	}
	res.Body.Close()
	if ws.Subprotocol() != "xmpp" { // RFC 7395 §3.1
		ws.Close()
		return nil, errors.New("the subprotocol is not xmpp")
	}
	return &webSocketConn{ws: ws}, nil
}

func (c *webSocketConn) Open(to, lang string) error {
	if err := c.write("<open xmlns='" + NSFraming + "' to='" + escape(to) + "' version='1.0'" + langAttr(lang) + "/>"); err != nil {
		return err
	}
	n, err := c.read()
	if err != nil {
		return err
	}
	if !n.Is(NSFraming, "open") || n.Attr("version") != "1.0" || n.Attr("id") == "" { // RFC 7395 §3.4
		return fmt.Errorf("want <open/>, got %s", n)
	}
	return nil
}

func (c *webSocketConn) Send(element string) error { return c.write(standalone(element)) }

func (c *webSocketConn) SendRaw(octets string) error { return c.write(octets) }

func (c *webSocketConn) write(text string) error {
	return c.ws.WriteMessage(websocket.TextMessage, []byte(text))
}

func (c *webSocketConn) read() (*Node, error) {
	_ = c.ws.SetReadDeadline(time.Now().Add(Patience))
	kind, b, err := c.ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	if kind != websocket.TextMessage || len(b) == 0 || b[0] != '<' || bytes.HasPrefix(b, []byte("<?")) { // §3.2, §3.3.3
		return nil, fmt.Errorf("not a frame of RFC 7395: %q", b)
	}
	return parseDocument(bytes.NewReader(b))
}

func (c *webSocketConn) Receive() (*Node, error) {
	n, err := c.read()
	if err != nil || !n.Is(NSFraming, "close") {
		return n, err
	}
	// RFC 7395 §3.6: who closes the stream first closes the connection as well.
	if c.closed {
		bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		if err := c.ws.WriteControl(websocket.CloseMessage, bye, time.Now().Add(Patience)); err != nil {
			return nil, err
		}
	} else if err := c.Close(); err != nil {
		return nil, err
	}
	_, _, err = c.ws.ReadMessage()
	if ce := (*websocket.CloseError)(nil); !errors.As(err, &ce) || ce.Code == websocket.CloseAbnormalClosure {
		return nil, fmt.Errorf("after <close/>: %w", err)
	}
	return nil, ErrEnd
}

func (c *webSocketConn) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	return c.write("<close xmlns='" + NSFraming + "'/>")
}

func (c *webSocketConn) Drop() { c.ws.Close() }
