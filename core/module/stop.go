package module

// OnStop adds what waits for work that a module does on goroutines of its own.
func (h *Host) OnStop(f func()) { h.stops = append(h.stops, f) }

// Stop waits for the modules' own goroutines, those registered last first. It is
// called when the last session has ended and before the store closes.
func (h *Host) Stop() {
	for i := len(h.stops) - 1; i >= 0; i-- {
		h.stops[i]()
	}
}
