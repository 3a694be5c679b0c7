//go:build linux

// Importos does nothing. It is the floor of a Go program's start.
package main

import _ "os"

func main() {}
