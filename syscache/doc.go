// Package syscache reads data that is slow to derive from a shared install:
// derived once, when the install changes, for every user of it.
//
//	r, err := syscache.Open("/opt/sage", "star-imports", nil)
//	if err != nil {
//		return deriveItYourself(err) // missing, stale, corrupt, untrusted, too new
//	}
//	defer r.Close()
//	value, err := r.Get([]byte("sage.rings.all"))
//
// What is promised, by number; code and tests cite the numbers:
//
//   - I1 A reader sees a whole generation or none. No third possibility, at
//     any instant, under any kill.
//   - I2 A reader never believes a generation that its witnesses contradict,
//     nor, once a refresh or an invalidate has marked the cache stale, any
//     until the next publish.
//   - I3 Readers issue no call that writes, locks or sets a time. A read-only
//     root is a normal root.
//   - I4 Readers need no privilege, and none can delay or break a refresh.
//   - I5 A published inode is never modified: only added, or removed.
//   - I6 One rename of one pointer publishes; all that it names is durable
//     before.
//   - I7 What is corrupt, truncated, untrusted or too new is a miss with a
//     stated reason; never a panic, a wrong value, or a false "row key not
//     found".
//   - I8 The refreshers' lock only saves duplicate work; without it the rest
//     still holds.
//   - I9 The same inputs and recipe, and a deterministic builder, give the
//     same bytes. No time, host, inode or machine path is in a generation.
//   - I10 A failed refresh loses nothing, leaves its reason, and leaves
//     nothing that the next does not sweep.
//   - I11 The refresher's umask, PATH, TMPDIR, HOME, environment and terminal
//     change nothing that others see.
//
// What is not promised: an edit that no witness shows; stores through a shared
// mapping of an input after the first, which move no time; that other clients
// of a network file system see a publish at once; protection from those who
// may write the install itself.
//
// Programs that refresh, rather than read, import package refresh. This one
// imports the standard library and golang.org/x/sys only, because every
// process of every user pays for it.
package syscache
