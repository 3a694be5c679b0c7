// Package syscache reads data that is slow to derive from a shared install:
// derived once, when the install changes, for every user of it.
//
//	r, err := syscache.Open("/opt/sage", "star-imports", nil)
//	if err != nil {
//		return derive() // err: missing, stale, corrupt, untrusted, too new
//	}
//	defer r.Close()
//	value, err := r.Get([]byte("sage.rings.all"))
//
// What is promised, by number; code and tests cite the numbers:
//
//   - I1 A reader sees a whole generation or none, whenever whoever is killed.
//   - I2 What its witnesses contradict is never believed; what was marked
//     stale by a refresh or an invalidate, not until the next publish.
//   - I3 Readers never write, lock or set a time: a root may be read-only.
//   - I4 Readers need no privilege, and can neither delay nor break a refresh.
//   - I5 A published inode is never modified: only added, or removed.
//   - I6 One rename publishes; all that it makes visible is durable before.
//   - I7 What is corrupt, truncated, untrusted or too new is a miss with a
//     reason: never a panic, a wrong value, or a false "row key not found".
//   - I8 The refreshers' lock only saves work; without it the rest holds.
//   - I9 The same inputs and recipe, and a deterministic builder, give the
//     same bytes: no time, host, inode or machine path is in a generation.
//   - I10 A failed refresh loses nothing, tells why, and leaves no litter.
//   - I11 The refresher's umask, environment and terminal change nothing.
//
// Not promised: an edit that no witness shows; a second store through a shared
// mapping of an input, which moves no time; that other clients of a network
// file system see a publish at once; protection from who may write the install.
//
// To refresh, import package refresh. This one imports the standard library
// and golang.org/x/sys only: every process of every user pays for it.
package syscache
