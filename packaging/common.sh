# Sourced by deb/build and rpm/build: what a package of the command is made of.
# Each of these can be given in the environment:
#   VERSION            default: the one in cmd/syscache/main.go
#   GOARCH             default: this machine's
#   BINARY             default: built here
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

# Static, so that it runs in any chroot; -trimpath and an empty build id, so
# that where it was built does not show.
if [ -z "${BINARY:-}" ]; then
    BINARY=$work/syscache
    (cd "$top" && CGO_ENABLED=0 GOOS=linux GOARCH="$GOARCH" go build -trimpath -buildvcs=false \
        -ldflags "-s -w -buildid= -X main.version=$VERSION" -o "$BINARY" ./cmd/syscache)
fi
