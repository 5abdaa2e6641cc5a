#!/bin/bash
# gc.sh -- `sallyctl gc` with real daemons: what nothing names goes (orphans, what a killed step and
# a killed writer left), what a job or a registration names stays, a daemon killed in the middle of
# its sweep does it anew, a busy one is left alone, and jobs run as before.
# limit: 600
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-gc.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT

store() { echo "$RUN/$1/var/lib/sallyport/store/$2/sha256"; } # SIDE DAEMON
state() { echo "$RUN/$1/var/lib/sallyport/state/$2"; }
blobs() { find "$(store "$1" "$2")" -type f | sort; }
# plant SIDE DAEMON TEXT: a blob that nothing names
plant() {
	local digest
	digest=$(printf %s "$3" | sha256sum | cut -d' ' -f1)
	printf %s "$3" >"$(store "$1" "$2")/${digest:0:2}/${digest:2}"
}
# of DAEMON FIELD: from a collection's JSON on stdin
of() { jq -r --arg d "$1" ".daemons[] | select(.name == \$d) | .$2"; }
running() { B job "$1" --json | jq -e --arg s "$2" '.step == $s and .step_state == "running" and .done > 0'; }
all_done() { S "$1" gc --dry-run --json >"$RUN/probe.json"; }

site_new "$RUN"
# how good the model is, is no matter here: little calibration, one gate, a margin that any candidate keeps
sed 's/samples = .*/samples = 8;/; s/sequence = .*/sequence = 128;/; /^humaneval/d; s/max_drop_pp = .*;/max_drop_pp = 40.0; };/' \
	"$TREE/tests/e2e/fixture.conf" >"$RUN/bastion/etc/sallyport/profiles.d/quick.conf"
echo 'fetch: { max_files = 9; };' >"$RUN/bastion/etc/sallyport/profiles.d/data.conf"
mkdir -p "$RUN/upstream/models/questions"
echo '{"question": "6 x 7", "answer": 42}' >"$RUN/upstream/models/questions/test.jsonl"
sed -i 's|  local: {|&\n    questions: { name = "fixture/questions"; dir = "/models/questions"; kind = "dataset"; };|' \
	"$RUN/upstream/etc/sallyport/sallyport.conf"
site_start

data_set() { # a job that is over in a moment
	local job
	job=$(B submit hf-dataset:fixture/questions --profile data --json | jq -er .job)
	await_state bastion "$job" FETCHED 60
}

first=$(B submit hf:fixture/qwen2-tiny --profile quick --json | jq -er .job)
await_state bastion "$first" AWAITING_APPROVAL 240
data_set
# what awaits approval is named
B gc >/dev/null
approve "$first" >/dev/null
await_state enclave "$first" REGISTERED 120
await_state bastion "$first" SENT 60

# --- a step that is killed, its job cancelled
second=$(B submit hf:fixture/qwen2-tiny --profile fixture --json | jq -er .job)
await 60 "quantd at work" running "$second" quantize
status=0
B gc --dry-run --json >"$RUN/busy.json" || status=$?
[ $status = 1 ] || die "a collection with a busy quantd ends with status $status, not 1"
[ "$(of quantd@bastion state <"$RUN/busy.json")" = busy ] || die "quantd is not said to be busy"
[ "$(of fetcherd@bastion state <"$RUN/busy.json")" = done ] || die "fetcherd waited for quantd"
stop bastion quantd KILL
B cancel "$second" >/dev/null
ls -d "$(state bastion quantd)"/work/*/layers >/dev/null || die "quantd left no work: nothing is put to the test"
: >"$(state bastion quantd)/seen.tmp-a1B2c3"
start bastion quantd
await 20 "all of the bastion idle" all_done bastion
await 20 "all of the enclave idle" all_done enclave
[ ! -e "$(state bastion quantd)/seen.tmp-a1B2c3" ] || die "quantd's start left what a killed writer left"

# --- a dry run removes nothing
for d in fetcherd quantd validatord diode-txd; do plant bastion $d "orphan of $d"; done
for d in diode-rxd registryd; do plant enclave $d "orphan of $d"; done
: >"$(state bastion validatord)/verdict.tmp-a1B2c3"
for side in bastion enclave; do
	find "$RUN/$side/var/lib/sallyport/store" "$RUN/$side/var/lib/sallyport/state" -type f | sort >"$RUN/before"
	size=$(S $side log checkpoint --json | jq .size)
	S $side gc --dry-run --json >"$RUN/dry-$side.json"
	find "$RUN/$side/var/lib/sallyport/store" "$RUN/$side/var/lib/sallyport/state" -type f | sort >"$RUN/after"
	cmp "$RUN/before" "$RUN/after" || die "a dry run changed something on the $side"
	[ "$(S $side log checkpoint --json | jq .size)" = "$size" ] || die "a dry run is in the log"
	jq -e 'all(.daemons[]; .removed >= 1 and .kept >= 1)' "$RUN/dry-$side.json" >/dev/null ||
		die "a dry run on the $side counts wrongly: $(cat "$RUN/dry-$side.json")"
done
[ "$(of quantd@bastion leftovers <"$RUN/dry-bastion.json")" = 1 ] || die "quantd's work is not counted"

# --- fetcherd is killed in the middle of its sweep: what is left is done by its next life
blobs bastion fetcherd >"$RUN/named"
sed -i "\|$(printf %s "orphan of fetcherd" | sha256sum | cut -c 3-64)|d" "$RUN/named"
python3 - "$(store bastion fetcherd)" <<-'PY'
	import hashlib, os, sys
	for i in range(20000):
	    text = b"litter %d" % i
	    name = hashlib.sha256(text).hexdigest()
	    with open(os.path.join(sys.argv[1], name[:2], name[2:]), "wb") as f:
	        f.write(text)
PY
litter() { blobs bastion fetcherd | wc -l; }
full=$(litter)
less() { [ "$(litter)" -lt "$full" ]; }
B gc --json >"$RUN/gc.json" &
gc=$!
await 60 "fetcherd's sweep" less
stop bastion fetcherd KILL
status=0
B gc --json >"$RUN/second.json" || status=$?
[ $status = 1 ] && [ "$(jq -r .error.code "$RUN/second.json")" = exists ] ||
	die "a second collection was begun beside the first: $(cat "$RUN/second.json")"
left=$(litter)
[ "$left" -gt "$(wc -l <"$RUN/named")" ] || die "fetcherd was done before it was killed: nothing was put to the test"
start bastion fetcherd
wait $gc || die "the collection failed: $(cat "$RUN/gc.json")"
blobs bastion fetcherd >"$RUN/after"
cmp "$RUN/named" "$RUN/after" || die "fetcherd's store is not what jobs name"
[ "$(of quantd@bastion leftovers <"$RUN/gc.json")" -ge 1 ] || die "quantd's work was not removed"
[ -z "$(ls "$(state bastion quantd)/work")" ] || die "quantd's work is still there"
[ ! -e "$(state bastion validatord)/verdict.tmp-a1B2c3" ] || die "what a killed writer left is still there"
E gc --json >"$RUN/gc-enclave.json"
for d in quantd validatord diode-txd; do ! grep -rqs "orphan of $d" "$(store bastion $d)" || die "$d kept its orphan"; done
for d in diode-rxd registryd; do ! grep -rqs "orphan of $d" "$(store enclave $d)" || die "$d kept its orphan"; done

# --- who did it, and how much, stands in the log
B log show --json | jq -e --slurpfile gc "$RUN/gc.json" '
	[.entries[] | select(.event == "gc" or .event == "collected")] as $e |
	($e | map(select(.event == "gc" and .actor.uid != null)) | length) == 2 and
	($e | map(select(.event == "collected")) | length) == 8' >/dev/null ||
	die "the log does not tell of the collection"

# --- a job runs as before
data_set

# --- what is no number of days is not taken for one
status=0
B gc --ended soon >/dev/null 2>&1 || status=$?
[ $status = 2 ] || die "--ended soon ends with status $status, not 2"
lost=$(B submit hf:fixture/absent --profile quick --json | jq -er .job)
await 60 "a job that fails" job_is bastion "$lost" FAILED

# --- evidence of what has ended may go when the operator says so; what is registered stays
B gc --ended 0 --json >"$RUN/ended.json"
jq -e 'all(.daemons[]; .kept == 0)' "$RUN/ended.json" >/dev/null ||
	die "--ended 0 kept something of jobs that have ended: $(cat "$RUN/ended.json")"
status=0
B retry "$lost" --json >"$RUN/retry.json" || status=$?
[ $status = 1 ] && jq -e '.error.message | test("submit it again")' "$RUN/retry.json" >/dev/null ||
	die "a job whose trees may be gone can be retried: $(cat "$RUN/retry.json")"
E gc --ended 0 --json >"$RUN/ended.json"
[ "$(of diode-rxd@enclave kept <"$RUN/ended.json")" = 0 ] || die "diode-rxd kept what registryd has"
[ "$(of registryd@enclave kept <"$RUN/ended.json")" -gt 0 ] || die "registryd gave up what is registered"
E pull fixture/qwen2-tiny-AWQ@1 "$RUN/one" >/dev/null
E verify "$RUN/one" >/dev/null
E chain fixture/qwen2-tiny-AWQ@1 >/dev/null

B log verify >/dev/null
E log verify >/dev/null
echo "gc: orphans and leftovers gone, $(wc -l <"$RUN/named") named blobs of fetcherd kept across a kill -9 at $left of $full"
