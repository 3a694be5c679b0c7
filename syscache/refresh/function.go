package refresh

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
)

// runFunction runs c's function and emits the rows that it emits.
func runFunction(ctx context.Context, c *Cache, in Inputs, emit func(builtRow) error) error {
	stack, err := callBuilder(ctx, emit, func(emit rowFunc) error { return c.builder()(ctx, in, emit) })
	if err != nil {
		return &BuildError{c.Name, err, stack}
	}
	return nil
}

// A rowFunc is what a function emits rows by.
type rowFunc = func(key, value []byte) error

// callBuilder calls a function that builds. Its error is that of the function
// or, if it had none, why a row was not taken.
func callBuilder(ctx context.Context, emit func(builtRow) error, f func(emit rowFunc) error) (stack string, err error) {
	e := &emitter{ctx: ctx, emit: emit}
	stack, err = call(func() error { return f(e.row) })
	if refused := e.end(); err == nil {
		err = refused
	}
	return stack, err
}

// call calls f. A panic is an error, with the stack: a package hook that dies
// of it would leave packages half installed, and a program that runs for long
// our staging and its token.
func call(f func() error) (stack string, err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case error:
			stack, err = panicStack(), fmt.Errorf("panic: %w", v)
		default:
			stack, err = panicStack(), fmt.Errorf("panic: %v", v)
		}
	}()
	return "", f()
}

// panicStack returns the stack from the call of panic outwards.
func panicStack() string {
	stack := strings.TrimSpace(string(debug.Stack()))
	if at := strings.Index(stack, "\npanic("); at >= 0 {
		stack = stack[at+1:]
	}
	return stack
}

// An emitter takes the rows of a function, from any of its goroutines, and
// remembers the first that was not taken: a function that does not look at
// emit's error must not publish a table with a hole.
type emitter struct {
	ctx  context.Context
	emit func(builtRow) error

	mu   sync.Mutex
	line uint64
	err  error // no further row is taken
}

var errEnded = errors.New("a row was emitted after the function had returned")

func (e *emitter) row(key, value []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = e.ctx.Err()
	}
	if e.err == nil {
		e.line++
		e.err = e.emit(builtRow{key: key, value: value, line: e.line})
	}
	return e.err
}

// end ends the taking of rows and returns why they are not complete, or nil.
func (e *emitter) end() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.err
	if err == nil {
		err = e.ctx.Err()
	}
	e.err = errEnded
	return err
}
