#!/bin/bash
# cancel.sh -- a job that is cancelled while its step runs leaves nothing behind: no lease, in the
# job table, in ledgerd or in the worker, whose slot takes the next job's step.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-cancel.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"
# slow enough that a fetch can be caught in the middle
sed -i 's/fetcherd: {/fetcherd: { rate_mbit_s = 4;/' "$RUN/bastion/etc/sallyport/sallyport.conf"
start upstream registryd
start bastion ledgerd
await 10 "ledgerd" B jobs
start bastion fetcherd
start bastion quantd

running() { # JOB STEP
	B job "$1" --json | jq -e --arg s "$2" '.step == $s and .step_state == "running" and .done > 0'
}
# cancelled JOB STEP: while the step runs; then ledgerd and the worker know of no lease
cancelled() {
	await 120 "the step $2 of job $1" running "$1" "$2"
	B cancel "$1" --reason "cancelled in $2" >/dev/null
	B job "$1" --json | jq -e '.state == "CANCELLED" and .step_state == "lost" and .phase == ""' >/dev/null ||
		die "after its cancel: $(B job "$1" --json)"
	[ "$(B jobs --json | jq '.jobs | length')" = 0 ] || die "something is under way: $(B jobs)"
	B log show "$1" --json | jq -e --arg s "$2" '.entries[-1] | .event == "cancel" and .step == $s and .lease != ""' \
		>/dev/null || die "the log does not say which lease the cancel ended: $(B log show "$1" --json)"
}
submit() { B submit hf:fixture/qwen2-tiny --profile fixture --json | jq -er .job; }

first=$(submit)
cancelled "$first" fetch
second=$(submit)
cancelled "$second" quantize
# quantd has one slot: that it runs the next job's step shows that it gave up the last one's
third=$(submit)
cancelled "$third" quantize
for job in "$first" "$second" "$third"; do
	rc=0 out=$(B retry "$job" 2>&1) || rc=$?
	[ $rc = 1 ] && [[ $out == *CANCELLED* ]] || die "retry of a cancelled job: exit $rc: $out"
done
site_stop
B log verify --database "$(site_database bastion)" --json | jq -e '.steps == 0 and .jobs == 3' >/dev/null ||
	die "leases were left: $(B log verify --database "$(site_database bastion)")"
echo "cancel: jobs cancelled while fetcherd and quantd worked on them left no lease"
