#!/bin/bash
# kill9.sh -- each of the eight daemons dies by SIGKILL while its lease is RUNNING, as the job says, and
# is started again; admissiond, which has no leases, while it answers. One job goes the whole way
# through all of that.
# limit: 400
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-kill9.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT

site_new "$RUN"
sed -i "s/lease_ms = 3000/lease_ms = 1500/" "$RUN"/*/etc/sallyport/sallyport.conf
# slow enough that both ends of the wire can be caught in the middle; the second pass brings other parity
sed -i 's/rate_mbit_s = 200;/rate_mbit_s = 8; passes = 2; pass_pause_ms = 200;/' \
	"$RUN/bastion/etc/sallyport/sallyport.conf"
site_start

# start_slow SIDE DAEMON: on a slow disk, until it dies
start_slow() {
	stop "$1" "$2"
	LD_PRELOAD=$BIN/slow.so start "$1" "$2"
}

running() { # SIDE JOB STEP
	S "$1" job "$2" --json | jq -e --arg s "$3" '.step == $s and .step_state == "running"'
}

lost() { # SIDE STEP: how many of the job's leases of that step were lost
	S "$1" log show "$job" --json |
		jq --arg s "$2" '[.entries[] | select(.event == "lost" and .step == $s)] | length'
}

# dies SIDE DAEMON STEP: killed while it works on the step; the log knows it
dies() {
	await 120 "$2 at work" running "$1" "$job" "$3"
	stop "$1" "$2" KILL
	start "$1" "$2"
	await 60 "the loss of $2's lease in the log" eval "[ \$(lost $1 $3) -ge 1 ]"
	echo "kill9: $2 died while its lease of $3 was running"
}

start_slow bastion fetcherd
start_slow enclave registryd
job=$(B submit hf:fixture/qwen2-tiny --profile fixture --json | jq -er .job)

dies bastion fetcherd fetch
dies bastion quantd quantize

await 120 "quantd at work again" running bastion "$job" quantize
stop bastion ledgerd KILL
start bastion ledgerd
await 20 "ledgerd after its death" B jobs
echo "kill9: ledgerd died while a lease of quantize was running"

dies bastion validatord validate
await_state bastion "$job" AWAITING_APPROVAL 300
approve "$job" >/dev/null

dies bastion diode-txd send
dies enclave diode-rxd receive
dies enclave registryd register
await_state enclave "$job" REGISTERED 300
await_state bastion "$job" SENT 60

# answers N: asks N times at once and writes each answer to a file of its own
answers() {
	local i
	for i in $(seq "$1"); do
		review "storm-$i" fixture/qwen2-tiny-AWQ >"$RUN/answer-$i.json" 2>/dev/null &
		asked+=($!)
	done
}
admissions() { E log show --json | jq '[.entries[] | select(.event == "admission")] | length'; }
await 30 "an admission" expect_review good fixture/qwen2-tiny-AWQ true
asked=()
answers 40
await 30 "the first answers" eval '[ $(admissions) -ge 4 ]'
stop enclave admissiond KILL
wait "${asked[@]}" || true
start enclave admissiond
await 30 "an admission after admissiond's death" expect_review good fixture/qwen2-tiny-AWQ true
given=$(cat "$RUN"/answer-*.json | jq -s '[.[] | select(.response.allowed)] | length')
[ "$given" -le "$(admissions)" ] ||
	die "admissiond gave $given answers, the log has $(admissions) of them"
echo "kill9: admissiond died while it answered: $given of 40 answers were given, $(admissions) are in the log"

B log verify >/dev/null
E log verify >/dev/null
echo "kill9: job $job is REGISTERED, both logs verify"
