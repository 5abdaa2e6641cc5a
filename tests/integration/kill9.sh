#!/bin/bash
# kill9.sh -- a daemon that dies while it holds a lease loses no job: quantd and ledgerd while a model
# is quantized, diode-rxd while a release is on the wire. Each is killed with SIGKILL while its lease is
# RUNNING, as the log and the job say, and started again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-kill9.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT

site_new "$RUN"
# slow enough that the receiver can be caught in the middle; the second pass brings other parity
sed -i 's/rate_mbit_s = 200;/rate_mbit_s = 8; passes = 2; pass_pause_ms = 200;/' \
	"$RUN/bastion/etc/sallyport/sallyport.conf"
site_start

running() { # SIDE JOB STEP: its lease is running and has got somewhere
	S "$1" job "$2" --json | jq -e --arg s "$3" '.step == $s and .step_state == "running" and .done > 0'
}

job=$(B submit hf:fixture/qwen2-tiny --profile fixture --json | jq -er .job)

await 60 "quantd at work" running bastion "$job" quantize
stop bastion quantd KILL
start bastion quantd
await 60 "quantd at work again" running bastion "$job" quantize

stop bastion ledgerd KILL
start bastion ledgerd
await 20 "ledgerd after its death" B jobs

await_state bastion "$job" AWAITING_APPROVAL 120
[ "$(B log show "$job" --json | jq '[.entries[] | select(.event == "lost" and .step == "quantize")] | length')" -ge 1 ] ||
	die "the log does not say that a quantize lease was lost: nothing was put to the test"

approve "$job" >/dev/null
await 60 "diode-rxd in the middle of the transfer" running enclave "$job" receive
stop enclave diode-rxd KILL
start enclave diode-rxd
await_state enclave "$job" REGISTERED 120
await_state bastion "$job" SENT 60
[ "$(E log show "$job" --json | jq '[.entries[] | select(.event == "lost" and .step == "receive")] | length')" -ge 1 ] ||
	die "the log does not say that a receive lease was lost: nothing was put to the test"

B log verify >/dev/null
E log verify >/dev/null
echo "kill9: quantd, ledgerd and diode-rxd died while their lease was running; job $job is REGISTERED"
