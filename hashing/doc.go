// Package hashing derives the key of a generation from an install: it scans
// the inputs, digests them with BLAKE3, and encodes the build manifest whose
// hash the key is.
//
// A manifest has one encoding, and the decoder takes no other. A scan sees
// each input as it was at one moment during the scan, follows no symbolic
// link, never blocks on what is no regular file, never leaves the root's file
// system, and reads nothing that the users of the install could not.
//
// A digest is taken from the inventory, without reading the file, only where
// the file's stat identity is the recorded one and had settled when it was
// recorded: a change within one tick of the file system's clock moves no time
// (git's "racy" problem). What is not noticed: a store through a shared
// mapping after the first, which moves no time either.
package hashing
