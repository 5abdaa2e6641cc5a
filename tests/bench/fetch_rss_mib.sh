#!/bin/bash
# fetch_rss_mib.sh -- the most memory that fetcherd and its child hold while one large file is fetched:
# the sum of their VmHWM, as the kernel counts it.
set -euo pipefail
TREE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$TREE/tests/bench/lib/fetch.sh"
RUN=$BENCH_DIR/site
trap 'rc=$?; site_stop; exit $rc' EXIT

fetch_site
random_file "$RUN/upstream/models/bench/model.safetensors" "${FETCH_MIB:-2048}"
fetch_start

hwm_kib() { sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$1/status" 2>/dev/null || true; }

peak() { # prints MiB
	local daemon child most=0 kib job state deadline=$((SECONDS + 300))
	daemon=$(pid_of bastion fetcherd)
	job=$(B submit hf:bench/model --profile fixture --json | jq -er .job)
	while state=$(job_state bastion "$job") && [ "$state" != FETCHED ]; do
		case $state in
		SUBMITTED | FETCHING) ;;
		*) die "the fetch ended as $state: $(B job "$job")" ;;
		esac
		[ $SECONDS -lt $deadline ] || die "the fetch is $state after 300 s"
		# the child's peak is gone with it, so it is read while it lives
		for child in $(cat "/proc/$daemon/task/"*/children 2>/dev/null); do
			kib=$(hwm_kib "$child")
			[ "${kib:-0}" -le "$most" ] || most=$kib
		done
	done
	[ "$most" -gt 0 ] || die "the child was never seen"
	B cancel "$job" >&2
	python3 -c "print(($most + $(hwm_kib "$daemon")) / 1024)"
}

ours=()
for ((i = 0; i < BENCH_RUNS; i++)); do
	fetch_clear
	value=$(peak)
	ours+=("$value")
done
python3 - "${ours[@]}" <<-'EOF2'
	import json, sys
	print(json.dumps({"name": "fetch_rss_mib", "unit": "MiB", "better": "lower",
	                  "ours": [float(v) for v in sys.argv[1:]], "limit": 64}))
EOF2
