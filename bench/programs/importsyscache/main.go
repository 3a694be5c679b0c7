//go:build linux

// Importsyscache does nothing but start with package syscache in it.
package main

import _ "github.com/syscache/syscache/syscache"

func main() {}
