//go:build linux

// Reader is a program that reads a cache:
//
//	reader open ROOT CACHE_DIR CACHE       prints how many nanoseconds Open takes
//	reader get ROOT CACHE_DIR CACHE KEY N  Open, Get and Close, N times
//	reader hold ROOT CACHE_DIR CACHE       reads all rows, says so, and ends with its stdin
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/syscache/syscache/syscache"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "reader:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 4 {
		return errors.New("usage: see its source")
	}
	verb, open := args[0], func() (*syscache.Reader, error) {
		return syscache.Open(args[1], args[3], &syscache.ReadOptions{CacheDirs: args[2:3]})
	}
	switch {
	case verb == "open":
		start := time.Now()
		r, err := open()
		if err != nil {
			return err
		}
		fmt.Println(time.Since(start).Nanoseconds())
		return r.Close()
	case verb == "get" && len(args) == 6:
		n, err := strconv.Atoi(args[5])
		for range n {
			err = errors.Join(err, get(open, args[4]))
		}
		return err
	case verb == "hold":
		return hold(open)
	}
	return errors.New("usage: see its source")
}

func get(open func() (*syscache.Reader, error), key string) error {
	r, err := open()
	if err != nil {
		return err
	}
	_, err = r.Get([]byte(key))
	return errors.Join(err, r.Close())
}

// hold looks up every row, so that all of the table is mapped and touched.
func hold(open func() (*syscache.Reader, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	for row, err := range r.Scan(nil) {
		if err == nil {
			_, err = r.Get(row.Key)
		}
		if err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
