package refresh

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/syscache/syscache/hashing"
	"github.com/syscache/syscache/internal/format"
)

// This file builds a table input by input: what a cache with each asks for.

// runEach has the builder build the inputs of todo, indices of in.Files, in as
// many runs at once as the cache allows. emit gets each row with the index of
// its input, one at a time. The first error ends all runs, and is returned.
func (st *staging) runEach(ctx context.Context, in Inputs, todo []int, emit func(r builtRow, input int) error) error {
	var mu sync.Mutex
	locked := func(r builtRow, input int) error {
		mu.Lock()
		defer mu.Unlock()
		return emit(r, input)
	}
	if st.c.BuildEach != nil {
		return st.callEach(ctx, in, todo, locked)
	}
	g, ctx := errgroup.WithContext(ctx)
	for i, batch := range deal(todo, max(1, st.c.Jobs)) {
		if err := st.disk.Mkdir(in.Out+"/"+strconv.Itoa(i), st.owner.privateDirMode()); err != nil {
			return stopped(g, err)
		}
		g.Go(func() error { return st.runBatch(ctx, in, i, batch, locked) })
	}
	return g.Wait()
}

// stopped waits for what runs, after an error that ends it.
func stopped(g *errgroup.Group, err error) error {
	g.Go(func() error { return err })
	return g.Wait()
}

// deal deals todo out to at most n batches, none of them empty. In turn: inputs
// that lie side by side are often alike, and those that take long, too.
func deal(todo []int, n int) [][]int {
	batches := make([][]int, min(n, len(todo)))
	for i, input := range todo {
		to := &batches[i%len(batches)]
		*to = append(*to, input)
	}
	return batches
}

// runBatch runs the command for the i-th batch of inputs.
func (st *staging) runBatch(ctx context.Context, in Inputs, i int, batch []int, emit func(r builtRow, input int) error) error {
	all := in.Files
	in.Files = make([]hashing.Input, 0, len(batch))
	given := make(map[string]int, len(batch))
	for _, input := range batch {
		in.Files = append(in.Files, all[input])
		given[all[input].Path] = input
	}
	in.Out += "/" + strconv.Itoa(i)
	list := st.dir + "/inputs-" + strconv.Itoa(i)
	return runCommand(ctx, st.disk, st.c, in, list, func(r builtRow) error {
		if r.from == nil {
			return &HintedError{fmt.Errorf(`line %d of its output: no "from"`, r.line), fromHint}
		}
		input, ok := given[string(r.from)]
		if !ok {
			return &HintedError{fmt.Errorf("line %d of its output: %s is none of the inputs that it was given", r.line, quote(r.from)), fromHint}
		}
		return emit(r, input)
	})
}

const fromHint = `each = true: print with each row the path of its input, as in $SYSCACHE_INPUTS: {"from": "...", "key": "...", "value": ...}`

// noTag is the error of a row that is tagged where nobody asked for it.
func noTag(r builtRow) error {
	return &HintedError{fmt.Errorf(`line %d of its output: "from" without each`, r.line), "say each = true in the configuration, or leave it out"}
}

// callEach calls the function for each input of todo.
func (st *staging) callEach(ctx context.Context, in Inputs, todo []int, emit func(r builtRow, input int) error) error {
	all := in.Files
	in.Files, in.Key = nil, hashing.Key{}
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(max(1, st.c.Jobs))
	for _, input := range todo {
		g.Go(func() error {
			if running.Err() != nil {
				return ctx.Err()
			}
			add := func(r builtRow) error { return emit(r, input) }
			stack, err := callBuilder(running, add, func(emit rowFunc) error { return st.c.BuildEach(running, in, all[input], emit) })
			if err != nil {
				return &BuildError{st.c.Name, fmt.Errorf("input %s: %w", format.Show(all[input].Path), err), stack}
			}
			return nil
		})
	}
	return g.Wait()
}

// shared tells of two rows with one key by their inputs.
func (e *duplicateError) shared(files []hashing.Input) error {
	first, second := format.Show(files[e.first].Path), format.Show(files[e.second].Path)
	if e.first == e.second {
		return fmt.Errorf("input %s has two rows with the key %s", first, e.key)
	}
	return fmt.Errorf("inputs %s and %s both have a row with the key %s", first, second, e.key)
}

// writeEach writes the table of n rows, and beside it which input each is from.
func (st *staging) writeEach(in Inputs, n int, rows iter.Seq2[mergedRow, error]) (uint64, error) {
	f, err := st.disk.Create(st.gen + "/" + format.Origins)
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	w.Write(make([]byte, format.OriginsHeaderSize))
	count, err := st.writeTable(in, n, func(yield func(mergedRow, error) bool) {
		var b []byte
		for r, err := range rows {
			if err == nil {
				b = format.AppendOrigin(b[:0], uint32(r.from))
				_, err = w.Write(b)
			}
			if !yield(r, err) {
				return
			}
		}
	})
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = writeAll(io.NewOffsetWriter(f, 0), format.OriginsHeader(uint32(count)))
	}
	if err != nil {
		f.Close()
		return 0, err
	}
	return count, st.finish(f, format.Origins, publicMode, format.OriginsHeaderSize+format.OriginSize*count)
}
