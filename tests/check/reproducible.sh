#!/bin/bash
# reproducible.sh -- the same commit gives the same programs: HEAD is built twice, in directories with
# names of different length, in other time zones and locales, with another number of jobs; what was
# linked must have the same digests.
set -euo pipefail

cd "$(dirname "$0")/../.."
commit=$(git rev-parse HEAD)
work=$(mktemp -d /tmp/sp-reproducible.XXXXXX)
trap 'rm -rf "$work"' EXIT

# build DIR JOBS: the commit below DIR; the digests of what was linked in DIR.sums
build() {
	mkdir -p "$work/$1"
	git archive "$commit" | tar -x --touch -C "$work/$1"
	make -s -C "$work/$1" -j"$2" programs >"$work/log" 2>&1 || {
		tail -n 20 "$work/log"
		echo "check-reproducible: the build in $1 failed"
		exit 1
	}
	(cd "$work/$1/build/rel" && find bin -type f -print0 | sort -z | xargs -0 sha256sum) \
		>"$work/${1%%/*}.sums"
}

unset MAKEFLAGS MFLAGS
TZ=UTC LC_ALL=C build a "$(nproc)"
TZ=Pacific/Auckland LC_ALL=C.UTF-8 build b/a/directory/with/a/longer/name 1
if ! diff "$work/a.sums" "$work/b.sums"; then
	echo "check-reproducible: these programs differ between two builds of one commit"
	exit 1
fi
echo "check-reproducible: $(wc -l <"$work/a.sums") programs, the same twice"
