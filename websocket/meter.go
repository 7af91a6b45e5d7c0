package websocket

import (
	"encoding/binary"
	"errors"
	"time"

	gorilla "github.com/gorilla/websocket"
)

const (
	// fragmentsMax is of how many frames a message may consist. Frames may be empty,
	// so that the size limit alone does not end a message.
	fragmentsMax = 1000
	// controlsMax is how many control frames may come within controlsTime.
	controlsMax  = 1000
	controlsTime = 10 * time.Second
)

var (
	// errFragments and errControls say that a limit of RFC 6455 §10.4 was exceeded.
	errFragments = errors.New("websocket: too many fragments")
	errControls  = errors.New("websocket: too many control frames")
	// errCloseBody says that a close frame has a body of one octet.
	errCloseBody = errors.New("websocket: half a status code")
)

// Opcodes and bits of RFC 6455 §5.2.
const (
	opcodeBits  = 0x0f
	controlBit  = 0x08
	maskBit     = 0x80
	lengthBits  = 0x7f
	length16    = 126
	length64    = 127
	headerFixed = 2
	maskSize    = 4
)

// meter follows the frames of a peer, of which gorilla shows the messages only.
// It leaves to gorilla what is wrong with them otherwise.
type meter struct {
	payload   uint64 // octets to come of the frame
	header    [headerFixed + 8 + maskSize]byte
	have      uint8 // octets of header
	halfClose bool  // a close frame had one octet
	fragments uint16
	controls  uint16
	since     time.Time // controls are counted
	err       error     // the limit that was exceeded
}

// scan looks at the next octets of the connection. It returns how many of them
// are in front of the frame that exceeds a limit, which err tells from then on.
func (m *meter) scan(b []byte) int {
	for at := 0; at < len(b); {
		if m.payload > 0 {
			n := min(m.payload, uint64(len(b)-at))
			m.payload -= n
			at += int(n)
			continue
		}
		if m.have == 0 {
			if m.err = m.count(b[at]); m.err != nil {
				return at
			}
		}
		m.header[m.have] = b[at]
		m.have++
		at++
		m.frame()
	}
	return len(b)
}

// count counts a frame that begins with an octet.
func (m *meter) count(first byte) error {
	switch opcode := first & opcodeBits; {
	case opcode&controlBit != 0:
		if now := time.Now(); now.Sub(m.since) >= controlsTime {
			m.since, m.controls = now, 0
		}
		if m.controls == controlsMax {
			return errControls
		}
		m.controls++
	case opcode == 0: // a continuation
		if m.fragments == fragmentsMax {
			return errFragments
		}
		m.fragments++
	default:
		m.fragments = 1
	}
	return nil
}

// frame goes on to the payload when the header is complete.
func (m *meter) frame() {
	if m.have < headerFixed {
		return
	}
	size := uint64(m.header[1] & lengthBits)
	extended := uint8(0)
	switch size {
	case length16:
		extended = 2
	case length64:
		extended = 8
	}
	need := headerFixed + extended
	if m.header[1]&maskBit != 0 {
		need += maskSize
	}
	if m.have < need {
		return
	}
	switch extended {
	case 2:
		size = uint64(binary.BigEndian.Uint16(m.header[headerFixed:]))
	case 8:
		size = binary.BigEndian.Uint64(m.header[headerFixed:])
	}
	m.halfClose = m.header[0]&opcodeBits == gorilla.CloseMessage && size == 1
	m.payload, m.have = size, 0
}
