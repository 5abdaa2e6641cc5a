#!/bin/bash
# ledgerd.sh -- ledgerd alone, with sallyctl: what operators ask, a full disk, a second ledgerd, and
# kill -9 in the middle of a burst of requests. No worker runs, so every job waits for its first step.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-ledgerd.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"
start bastion ledgerd
await 10 "ledgerd" B jobs

refused() { # CODE WORD COMMAND…: sallyctl exits with CODE and its message holds WORD
	local code=$1 word=$2 rc=0 out
	shift 2
	out=$(B "$@" 2>&1) || rc=$?
	[ $rc = "$code" ] || die "sallyctl $* exits with $rc, not $code: $out"
	[[ $out == *"$word"* ]] || die "sallyctl $* does not say «$word»: $out"
}
submit() { B submit "hf:org/name@${1:-main}" --profile fixture --json | jq -er '.job // empty'; }
entries() { B log show --json | jq '.entries | length'; }

# what operators ask
job=$(submit)
[ "$(B job "$job" --json | jq -r '.state + " " + .step + " " + .step_state + " " + .name')" = \
	"SUBMITTED fetch offered org/name-AWQ" ] || die "a new job is something else: $(B job "$job")"
[ "$(B log show "$job" --json | jq -r '.entries[0].actor.uid')" = "$(id -u)" ] ||
	die "the entry does not name the uid: $(B log show "$job" --json)"
refused 1 "SUBMITTED" reject "$job"
refused 1 "SUBMITTED" retry "$job"
B cancel "${job:0:8}" >/dev/null
job_is bastion "$job" CANCELLED || die "the job was not cancelled"
n=$(entries)
B cancel "$job" >/dev/null
[ "$(entries)" = "$n" ] || die "a repeated cancel is a second entry"
refused 1 "CANCELLED" retry "$job"
refused 2 "add @TAG" submit github:owner/repo --profile fixture
refused 1 "no job" job 00000000
refused 2 "names no job" job 123
refused 1 "profiles here: fixture" submit hf:org/name --profile other

# who waits for a change gets it at once
job=$(submit)
B watch "$job" >"$RUN/watched" 2>&1 &
watcher=$!
await 5 "the watcher" grep -q SUBMITTED "$RUN/watched"
B cancel "$job" >/dev/null
await 5 "the end of the watch" eval '! kill -0 $watcher'
wait $watcher || true
grep -q CANCELLED "$RUN/watched" || die "the watcher did not see the end: $(cat "$RUN/watched")"

# a checkpoint is not put off by who only asks
for _ in 1 2 3 4 5; do python3 "$TREE/tests/integration/flood.py" "$RUN"; done

# one database, one ledgerd
out=$(ledgerd --root "$RUN/bastion" -f 2>&1) && die "a second ledgerd runs"
[[ $out == *"in use"* ]] || die "the second ledgerd says: $out"
B jobs >/dev/null || die "the first ledgerd did not survive the second"

# a full disk: said, not half done; and when there is room again, all goes on
before=$(entries)
prlimit --pid "$(pid_of bastion ledgerd)" --fsize=4096:unlimited
rc=0
out=$(B submit hf:org/name --profile fixture 2>&1) || rc=$?
[ $rc = 1 ] && [[ $out == *ledger.db* ]] || die "submit on a full disk exits with $rc: $out"
grep -q "was committed" "$RUN/log/bastion-ledgerd.log" || die "ledgerd's log does not tell of the full disk"
[ "$(entries)" = "$before" ] || die "the log grew on a full disk"
prlimit --pid "$(pid_of bastion ledgerd)" --fsize=unlimited:unlimited
job=$(submit)
[ "$(entries)" = $((before + 1)) ] || die "after the full disk: $(entries) entries, not $((before + 1))"
B log verify >/dev/null

# kill -9 in the middle of a burst: what was answered is there, and the log is whole
for i in $(seq 1 40); do submit "burst$i" >>"$RUN/answered" 2>/dev/null || true; done &
burst=$!
await 20 "some answers" eval '[ "$(wc -l <"$RUN/answered" 2>/dev/null || echo 0)" -ge 5 ]'
stop bastion ledgerd KILL
start bastion ledgerd
wait $burst || true
await 10 "ledgerd after its death" B jobs
B jobs --json | jq -r '.jobs[].job' | sort >"$RUN/there"
while read -r id; do
	grep -qx "$id" "$RUN/there" || die "job $id was answered for and is gone"
done <"$RUN/answered"
B log verify >/dev/null
[ "$(B log show --json | jq '[.entries[] | select(.event == "start")] | length')" = 2 ] ||
	die "the log does not tell of both starts"

# a lease that cannot be taken back holds up no other: both are lost with their worker, and the
# database refuses to hear it of the first
python3 -c 'import socket, sys, time
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
kept = []
while True:
    kept.append(s.accept())' "$P_HUB" &
echo $! >"$RUN/upstream-silent.pid"
first=$(submit first) second=$(submit second)
B jobs --json | jq -r '.jobs[].job' | grep -vx -e "$first" -e "$second" | while read -r id; do B cancel "$id"; done >/dev/null
start bastion fetcherd
await 20 "both jobs to be leased" eval 'job_is bastion "$first" FETCHING && job_is bastion "$second" FETCHING'
stop bastion fetcherd KILL
stop bastion ledgerd
sql() { python3 -c 'import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute(sys.argv[2])
db.commit()
db.close()' "$(site_database bastion)" "$1"; }
sql "CREATE TRIGGER stuck BEFORE UPDATE ON attempt WHEN OLD.job = '$first' BEGIN
	SELECT RAISE(ABORT, 'the test refuses it'); END"
start bastion ledgerd
offered() { [ "$(B job "$1" --json | jq -r .step_state)" = offered ]; }
await 20 "the second lease to be taken back" offered "$second"
grep -q "job=$first .*not taken back.*the test refuses it" "$RUN/log/bastion-ledgerd.log" ||
	die "ledgerd does not tell of the lease that it cannot take back"
! offered "$first" || die "the first lease was taken back"
stop bastion ledgerd
sql "DROP TRIGGER stuck"
start bastion ledgerd
await 20 "the first lease to be taken back" offered "$first"

# the exported log says the same
B log export "$RUN/exported" >/dev/null
B log verify "$RUN/exported" >/dev/null
echo "ledgerd: $(entries) entries; operators, full disk, second ledgerd and kill -9 went as they should"
