#!/bin/bash
# fetch_vs_curl.sh -- one file of 1 GiB from registryd over loopback into the store, verified, synced
# and signed for, against curl, sha256sum and sync one after the other on the same file and disk.
set -euo pipefail
TREE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$TREE/tests/bench/lib/fetch.sh"
RUN=$BENCH_DIR/site
trap 'rc=$?; site_stop; exit $rc' EXIT

fetch_site
random_file "$RUN/upstream/models/bench/model.safetensors" "${FETCH_MIB:-1024}"
fetch_start

by_hand() { # prints the seconds it took
	local from to file=$BENCH_DIR/by-hand
	rm -f "$file"
	sync
	from=$(date +%s.%N)
	curl -sf -o "$file" "http://127.0.0.1:$P_HUB/bench/model/resolve/main/model.safetensors"
	sha256sum "$file" >/dev/null
	sync "$file"
	to=$(date +%s.%N)
	rm -f "$file"
	echo "$to - $from" | bc -l 2>/dev/null || python3 -c "print($to - $from)"
}

ours=() rival=()
for ((i = 0; i < BENCH_RUNS; i++)); do
	fetch_clear
	value=$(fetch_once)
	ours+=("$value")
	fetch_clear
	value=$(by_hand)
	rival+=("$value")
done
figure fetch_vs_curl s "curl + sha256sum + sync" "${ours[@]}" -- "${rival[@]}"
