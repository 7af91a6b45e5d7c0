package config

import (
	"fmt"
	"strings"
)

// A Problem is one thing that is wrong with a configuration.
type Problem struct {
	File    string // or "environment"
	Line    int    // from 1; 0 if the problem is of no one line
	Column  int    // from 1, in characters
	Key     string // as in listeners[0].address, or the variable's name
	Message string // what is wrong, and what would be right
	Excerpt string // the lines of the file around it, or empty
}

// Error returns "file:line:column: key: message".
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is everything that is wrong with a configuration, in the order of the
// file. It is the error of Load and Parse.
type Problems []*Problem

// Error returns all problems with their excerpts, for people.
func (ps Problems) Error() string {
	var b strings.Builder
	for i, p := range ps {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.Error())
		if p.Excerpt != "" {
			b.WriteByte('\n')
			b.WriteString(p.Excerpt)
		}
	}
	return b.String()
}

// Unwrap lets errors.As find each problem.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// excerpt shows a line of the source with the one before and after it, and a
// mark under the column.
func excerpt(source string, line, column int) string {
	lines := strings.Split(source, "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	var b strings.Builder
	for n := max(1, line-1); n <= min(len(lines), line+1); n++ {
		text := strings.ReplaceAll(strings.TrimRight(lines[n-1], "\r"), "\t", " ")
		if n != line && strings.TrimSpace(text) == "" {
			continue
		}
		mark := ' '
		if n == line {
			mark = '>'
		}
		fmt.Fprintf(&b, "%c%5d | %s\n", mark, n, text)
		if n == line {
			fmt.Fprintf(&b, "       | %s^\n", strings.Repeat(" ", max(0, column-1)))
		}
	}
	return strings.TrimRight(b.String(), "\n")
}
