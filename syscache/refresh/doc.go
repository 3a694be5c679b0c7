// Package refresh builds and publishes the caches of a shared install: what
// package hooks and post-install steps run. Programs that only read import
// package syscache.
//
// A refresh scans the inputs, and only where the key that follows from them
// changed does it build. It works on a copy that nobody sees and publishes by
// renaming one pointer file (I6). On any error the state is the old one or,
// where the inputs changed, the old one marked stale (I10); what was left half
// done is swept by the next refresh.
//
// When Refresh returns without an error the new generation is durable: files,
// directories and the pointer have been synced, in this order.
//
// The caches of an install are declared in its configuration, or by a program
// that knows how to build its own: LoadOptions.Caches. Such a program refreshes
// them by their names and leaves the others alone; examples/plugins is one.
//
// The package changes files only through a disk, and only publish.go renames
// and syncs. It does not change the process: umask, directory and credentials
// stay, and a root that refreshes somebody else's install must first call
// BecomeOwner, or is refused.
package refresh
