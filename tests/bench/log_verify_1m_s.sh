#!/bin/bash
# log_verify_1m_s.sh -- `sallyctl log verify DIR` of an exported log with 1,000,000 entries: tiles,
# leaf hashes, root, signature, and the replay of every job. What export, ledgerd's start and the
# look at the database take is told beside it.
set -euo pipefail
. tests/e2e/site.sh
trap 'rc=$?; site_stop; exit $rc' EXIT
site_new "$BENCH_DIR/site" >&2
state=$RUN/bastion/var/lib/sallyport/state/ledgerd
mkdir -p "$state"
sp-bench-ledger fill "$state/ledger.db" "$RUN/bastion/etc/sallyport/keys/ledgerd/log.key" \
	sallyport/bastion/gate "${BENCH_FULL:-76924}" 0

took_s=
timed() { # COMMAND…: took_s
	local began=$EPOCHREALTIME
	"$@" >/dev/null
	took_s=$(printf '%d' $(((${EPOCHREALTIME/[.,]/} - ${began/[.,]/}))))
	took_s=$((took_s / 1000000)).$(printf '%06d' $((took_s % 1000000)))
}
timed B log verify --database "$state/ledger.db"
echo "log verify --database: $took_s s" >&2
start bastion ledgerd
timed await 300 "ledgerd" B jobs
echo "start of ledgerd: $took_s s, $(awk '/VmRSS/ { print int($2 / 1024) }' \
	"/proc/$(pid_of bastion ledgerd)/status") MiB" >&2
timed B log export "$RUN/exported"
echo "log export: $took_s s" >&2
stop bastion ledgerd
runs=()
for _ in $(seq "$BENCH_RUNS"); do
	timed B log verify "$RUN/exported"
	runs+=("$took_s")
done
printf '{"name":"log_verify_1m_s","unit":"s","better":"lower","limit":3,"ours":[%s]}\n' \
	"$(IFS=,; echo "${runs[*]}")"
