package event

import (
	"bytes"
	"sync"
	"sync/atomic"

	"trivium/bridges/cpim"
)

// frame is an event as it goes over a stream.
type frame struct {
	mapper *cpim.Mapper // what has made it
	octets []byte
}

// frames holds one frame for each format: what is encoded for one stream serves
// all others.
type frames struct {
	mu   sync.Mutex // one encodes
	json atomic.Pointer[frame]
	xml  atomic.Pointer[frame]
	cpim atomic.Pointer[frame]
}

func (fs *frames) of(f Format) *atomic.Pointer[frame] {
	switch f {
	case XML:
		return &fs.xml
	case CPIM:
		return &fs.cpim
	}
	return &fs.json
}

// frame returns the octets of an event for a stream. They must not be changed.
func (e *entry) frame(enc *Encoder, f Format) ([]byte, error) {
	p := e.frames.of(f)
	if fr := p.Load(); fr != nil && fr.mapper == enc.Mapper {
		return fr.octets, nil
	}
	e.frames.mu.Lock()
	defer e.frames.mu.Unlock()
	if fr := p.Load(); fr != nil && fr.mapper == enc.Mapper {
		return fr.octets, nil
	}
	_, body, err := enc.Encode(e.Event, f)
	if err != nil {
		return nil, err
	}
	octets := appendFrame(make([]byte, 0, len(body)+len(e.Type)+64), e.ID(), string(e.Type), body)
	p.Store(&frame{enc.Mapper, octets})
	return octets, nil
}

// appendFrame appends one event of a stream: WHATWG HTML §9.2.5, "Parsing an event
// stream". id and name hold no line ends. Lines of data end in CR, LF or CR LF,
// and the reader gets LF for each of them.
func appendFrame(dst []byte, id, name string, data []byte) []byte {
	if id != "" {
		dst = append(append(append(dst, "id: "...), id...), '\n')
	}
	dst = append(append(append(dst, "event: "...), name...), '\n')
	for {
		line, end := data, bytes.IndexAny(data, "\r\n")
		if end >= 0 {
			line = data[:end]
		}
		dst = append(append(append(dst, "data: "...), line...), '\n')
		if end < 0 {
			return append(dst, '\n')
		}
		if bytes.HasPrefix(data[end:], []byte("\r\n")) {
			end++
		}
		data = data[end+1:]
	}
}
