// Package hashing says what a cache is derived from: it scans the inputs of a
// root, digests them with BLAKE3, and encodes them as the build manifest whose
// hash is the key of a generation.
//
// # What is promised
//
// A Scan that returns without an error read every input as it was at some
// moment during the scan, each by itself: none was caught between two states,
// and none was digested under a stat identity that a later change could leave
// as it is. Two scans of an unchanged tree return the same, in the same order.
//
// A scan follows no symbolic link below the root, does not leave the root's
// file system, opens nothing but directories and regular files, and cannot be
// led astray by somebody who swaps one for another while it runs: it goes from
// directory descriptor to directory descriptor, never by an absolute path. It
// leaves out what not everybody who can enter the root can read; a digest that
// everybody reads would tell of it.
//
// A manifest has one encoding. Whatever decodes, encodes to the same bytes.
//
// # What is not promised
//
// The inputs need not all have existed at one moment: the refresher scans
// again after it built. A store through a mapping after the first moves no
// time, so neither an identity nor a second look at it shows such an edit.
// Identities on a network file system carry the server's clock; one that lags
// ours by more than the granularity (see Scan) hides a change in the same tick
// of it. Of permissions only the mode bits count: access control lists are not
// looked at. What was left out is looked at again by the next scan, but no
// identity tells a reader of a change to it.
//
// All that this package returns stays as it is, and is the caller's to keep; an
// encoded Inventory only to read.
package hashing
