//go:build unix

package main

import (
	"errors"
	"fmt"
	"testing"
)

// TestVisible: nothing that others named or wrote moves the cursor of whoever
// reads of it.
func TestVisible(t *testing.T) {
	for s, want := range map[string]string{
		"plain, ünïcode\tand a tab": "plain, ünïcode\tand a tab",
		"\x1b]0;title\a":            `\x1b]0;title\a`,
		"two\nlines\r":              `two\nlines\r`,
		"\xff\u009b\u202e\ufffd":    "\\xff\\u009b\\u202e\ufffd",
	} {
		if got := visible(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

// TestJoined: what is told line by line is what was joined, not what has a line
// break in a name.
func TestJoined(t *testing.T) {
	one, two := errors.New("a\nb"), errors.New("c")
	for err, want := range map[error]int{
		one:                              0,
		errors.Join(one, two):            2,
		toldError{errors.Join(one, two)}: 2,
		fmt.Errorf("%w: %w", one, two):   0,
		fmt.Errorf("x: %w", errors.Join(one, two)): 0,
	} {
		if got := len(joined(err)); got != want {
			t.Errorf("%q: %d, want %d", err, got, want)
		}
	}
}
