#!/bin/sh
# build.sh [--path]: prints the directory that holds tlog (main.go) and tessera's fsck, building both
# on first use. --path builds nothing: both are there when it holds the file .ready. Everything is
# pinned: our modules in go.sum, fsck's by its version in the checksum database.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
hash=$(cat "$here"/main.go "$here"/go.mod "$here"/go.sum "$here/build.sh" | sha256sum | cut -c1-10)
peers=${SALLYPORT_CACHE:-$HOME/.cache/sallyport}/peers
dir=$peers/tlog-$hash
if [ "${1:-}" != --path ] && [ ! -f "$dir/.ready" ]; then
    mkdir -p "$peers"
    trap 'rc=$?; [ $rc = 0 ] || echo "build.sh: tlog could not be built" >&2; exit $rc' EXIT
    # no condition around it: within one, a command that fails does not end it
    (
        exec 9>"$dir.lock"; flock 9
        [ -f "$dir/.ready" ] && exit 0         # another run built it while we waited
        mkdir -p "$dir"
        export GOFLAGS=-trimpath GOBIN="$dir"
        (cd "$here" && go build -mod=readonly -o "$dir/tlog" .)
        go install github.com/transparency-dev/tessera/cmd/fsck@v1.0.4
        touch "$dir/.ready"
    ) >&2
fi
echo "$dir"
