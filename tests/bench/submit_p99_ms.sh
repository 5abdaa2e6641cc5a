#!/bin/bash
# submit_p99_ms.sh -- a real ledgerd with 100,000 jobs in its table, and operators who submit more.
#
#   submit_p99_ms            round trip of `submit`, one operator after the other
#   ledger_checkpoint_p99_ms 64 operators at once: from sending to the published checkpoint that
#                            covers the entry
set -euo pipefail
. tests/e2e/site.sh
trap 'rc=$?; site_stop; exit $rc' EXIT
site_new "$BENCH_DIR/site" >&2
state=$RUN/bastion/var/lib/sallyport/state/ledgerd run=$RUN/bastion/run/sallyport
mkdir -p "$state"
sp-bench-ledger fill "$state/ledger.db" "$RUN/bastion/etc/sallyport/keys/ledgerd/log.key" \
	sallyport/bastion/gate "${BENCH_FULL:-10000}" "${BENCH_CANCELLED:-90000}"
began=$EPOCHREALTIME
start bastion ledgerd
await 120 "ledgerd" B jobs
echo "ledgerd with these jobs started in $(((${EPOCHREALTIME/[.,]/} - ${began/[.,]/}) / 1000)) ms" >&2

measure() { sp-bench-ledger submit "$run/operators.sock" "$run/snapshots.sock" "$1" "$2"; }
submits=() checkpoints=()
measure 1 100 >/dev/null 2>&1
for _ in $(seq "$BENCH_RUNS"); do
	read -r p99 _ < <(measure 1 500)
	submits+=("$p99")
	read -r _ p99 _ < <(measure 64 4000)
	checkpoints+=("$p99")
done

figure() { # NAME LIMIT VALUE…
	local name=$1 limit=$2
	shift 2
	printf '{"name":"%s","unit":"ms","better":"lower","limit":%s,"ours":[%s]}\n' "$name" "$limit" \
		"$(IFS=,; echo "$*")"
}
figure submit_p99_ms 10 "${submits[@]}"
figure ledger_checkpoint_p99_ms 50 "${checkpoints[@]}"
