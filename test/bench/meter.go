package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// meter reads the cost of a process and all its descendants from the kernel.
type meter struct {
	root int
}

// pids lists the process and its living descendants.
func (m meter) pids() ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		pid, parent, ok := parseStat(text)
		if ok {
			children[parent] = append(children[parent], pid)
		}
	}
	pids := []int{m.root}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, children[pids[i]]...)
	}
	return pids, nil
}

// parseStat returns the pid and the parent of a /proc/<pid>/stat line. The
// second field, the name, may hold anything, so it is skipped to its last ')'.
func parseStat(text []byte) (pid, parent int, ok bool) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 1 || end < open {
		return 0, 0, false
	}
	fields := bytes.Fields(text[end+1:])
	if len(fields) < 2 {
		return 0, 0, false
	}
	pid, err1 := strconv.Atoi(string(bytes.TrimSpace(text[:open])))
	parent, err2 := strconv.Atoi(string(fields[1]))
	return pid, parent, err1 == nil && err2 == nil
}

// cpu returns the processor time used so far, user and system, by all threads,
// ended ones included. It is the sum that /proc/<pid>/stat shows as utime+stime,
// read from the process's own clock because stat counts in steps of 10 ms.
func (m meter) cpu() (time.Duration, error) {
	pids, err := m.pids()
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for i, pid := range pids {
		d, err := processClock(pid)
		if err != nil && i == 0 {
			return 0, fmt.Errorf("the server's process clock: %w", err)
		}
		sum += d
	}
	return sum, nil
}

// processClock reads CLOCK_PROCESS_CPUTIME of another process: see
// clock_getcpuclockid(3); the clock id is made of the inverted pid.
func processClock(pid int) (time.Duration, error) {
	const cpuclockSched = 2
	id := ^uintptr(pid)<<3 | cpuclockSched
	var ts syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		return 0, errno
	}
	return time.Duration(ts.Nano()), nil
}

// parseMachine returns the processor time of all cores together, busy and in all,
// from /proc/stat (proc(5)), which counts in steps of 10 ms.
func parseMachine(text []byte) (busy, total time.Duration, err error) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return 0, 0, fmt.Errorf("unexpected first line of /proc/stat: %.100q", line)
	}
	for i, field := range fields[1:9] { // user nice system idle iowait irq softirq steal
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, 0, err
		}
		d := time.Duration(n) * 10 * time.Millisecond
		total += d
		if i != 3 && i != 4 {
			busy += d
		}
	}
	return busy, total, nil
}

// pss returns the proportional set size in bytes.
func (m meter) pss() (int64, error) {
	pids, err := m.pids()
	if err != nil {
		return 0, err
	}
	var sum int64
	for i, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			if i == 0 {
				return 0, err
			}
			continue
		}
		n, err := parsePSS(text)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func parsePSS(text []byte) (int64, error) {
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte("Pss:")); ok {
			value = bytes.TrimSuffix(bytes.TrimSpace(value), []byte(" kB"))
			n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no Pss line in %.100q", text)
}

// settled waits until the server is quiet, at most limit, and returns its
// processor time then: work put off (a commit, a cleanup) is counted with what
// caused it.
func (m meter) settled(limit time.Duration) (time.Duration, error) {
	const step, quiet = 100 * time.Millisecond, 2 * time.Millisecond
	last, err := m.cpu()
	still := 0
	for deadline := time.Now().Add(limit); err == nil && still < 3 && time.Now().Before(deadline); {
		time.Sleep(step)
		var now time.Duration
		if now, err = m.cpu(); now-last < quiet {
			still++
		} else {
			still = 0
		}
		last = now
	}
	return last, err
}
