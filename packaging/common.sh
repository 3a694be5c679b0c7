# Sourced by deb/build and rpm/build: what a package of the command is made of.
# Each of these can be given in the environment:
#   VERSION            default: the one in cmd/syscache/main.go
#   GOARCH             default: this machine's
#   PROGRAMS           a directory that programs has filled; default: built here
#   SOURCE_DATE_EPOCH  default: the last commit's time. With it the same source
#                      gives the same bytes.

set -eu
export LC_ALL=C TZ=UTC

top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

: "${VERSION:=$(sed -n 's/^var version = "\(.*\)"$/\1/p' "$top/cmd/syscache/main.go")}"
: "${GOARCH:=$(go env GOARCH)}"
: "${SOURCE_DATE_EPOCH:=$(git -C "$top" log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH

if [ -z "${PROGRAMS:-}" ]; then
    PROGRAMS=$work/programs
    VERSION=$VERSION GOARCH=$GOARCH "$top/packaging/programs" "$PROGRAMS"
fi
