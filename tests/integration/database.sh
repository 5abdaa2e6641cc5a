#!/bin/bash
# database.sh -- a ledgerd's database from outside: `sallyctl log verify --database` reads it, changes
# nothing, waits for no daemon, and finds what was altered; ledgerd does not start with such a one.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-database.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"
start bastion ledgerd
await 10 "ledgerd" B jobs
for i in 1 2 3; do B submit "hf:org/name@$i" --profile fixture --json | jq -er .job; done >"$RUN/jobs"
B cancel "$(head -1 "$RUN/jobs")" --reason "one that ended" >/dev/null
db=$(site_database bastion)

verify() { B log verify --database "$db" --json; }

rc=0 out=$(verify 2>&1) || rc=$?
[ $rc = 1 ] && [[ $out == *"in use"* ]] || die "the database of a running ledgerd: exit $rc: $out"
B jobs >/dev/null || die "ledgerd did not survive the look at its database"

# killed: what it had committed lies in the WAL, and counts
stop bastion ledgerd KILL
[ -s "$db-wal" ] || die "no WAL was left: nothing is put to the test"
before=$(sha256sum "$db" "$db-wal")
verify | jq -e '.entries == 5 and .jobs == 3 and .steps == 2 and .verified' >/dev/null || die "$(verify)"
[ "$(sha256sum "$db" "$db-wal")" = "$before" ] || die "the look changed the database"

# stopped as it should be: all is in one file, nothing appears beside it
start bastion ledgerd
await 10 "ledgerd after its death" B jobs
stop bastion ledgerd
rm -f "$db-shm"
verify | jq -e '.entries == 6 and .uncovered == 0' >/dev/null || die "$(verify)"
[ "$(ls "$(dirname "$db")")" = ledger.db ] || die "the look left files: $(ls "$(dirname "$db")")"
rc=0 out=$(B log verify --database "$RUN/none" 2>&1) || rc=$?
[ $rc = 1 ] && [[ $out == *"$RUN/none"* ]] || die "no database: exit $rc: $out"
cp "$db" "$RUN/good"

# an export that dies in front of any of its files is refused, and the next one completes it
start bastion ledgerd
await 10 "ledgerd" B jobs
size=$(B log checkpoint --json | jq -er .size)
killed_export() { # STRACE-OPTION…
	local rc=0
	{ strace -qq -o "$RUN/trace" "$@" sallyctl --root "$RUN/bastion" log export "$RUN/exported" || rc=$?; } \
		>/dev/null 2>&1
	[ $rc = 137 ]
}
for file in "tile/entries/000.p/$size" "tile/0/000.p/$size" checkpoint; do
	# the checkpoint is the one file that is renamed into its place
	[ "$file" = checkpoint ] && at=(-e trace=rename -e inject=rename:signal=KILL) ||
		at=(-P "$RUN/exported/$file" -e trace=openat -e inject=openat:signal=KILL)
	killed_export "${at[@]}" || die "the export was not killed at $file"
	rc=0 out=$(B log verify "$RUN/exported" 2>&1) || rc=$?
	[ $rc = 1 ] && [[ $out == *checkpoint* ]] || die "half an export, up to $file: exit $rc: $out"
done
printf torn >"$RUN/exported/tile/0/000.p/$size"
B log export "$RUN/exported" >/dev/null
B log verify "$RUN/exported" >/dev/null || die "the export after three that died is not whole"
# one that grows: as long as the new one is not whole, the old one is
B submit hf:org/name@4 --profile fixture >/dev/null
killed_export -P "$RUN/exported/tile/0/000.p/$((size + 1))" -e trace=openat -e inject=openat:signal=KILL ||
	die "the second export was not killed"
B log verify "$RUN/exported" --json | jq -e --argjson n "$size" '.size == $n' >/dev/null ||
	die "the old export does not verify while a new one is not whole"
B log export "$RUN/exported" >/dev/null
B log verify "$RUN/exported" --json | jq -e --argjson n "$((size + 1))" '.size == $n' >/dev/null ||
	die "the grown export does not verify"
stop bastion ledgerd
rm -f "$db-wal" "$db-shm"
cp "$RUN/good" "$db"

# altered SQL WORD: the statement's change is found, and the message holds WORD
altered() {
	local rc=0 out
	python3 -c 'import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.executescript(sys.argv[2])
db.commit()
assert db.total_changes == 1, db.total_changes
db.close()' "$db" "$1"
	out=$(verify 2>&1) || rc=$?
	[[ $rc == [13] && $out == *"$2"* ]] || die "«$1» is not found: exit $rc: $out"
	rc=0 out=$(timeout 20 ledgerd --root "$RUN/bastion" -f 2>&1) || rc=$?
	[ $rc = 1 ] && [[ $out == *"$2"* && $out == *"put back"* ]] ||
		die "ledgerd with «$1»: exit $rc: $out"
	rm -f "$db-wal" "$db-shm"
	cp "$RUN/good" "$db"
}
ended=$(head -1 "$RUN/jobs") alive=$(tail -1 "$RUN/jobs")
altered "UPDATE job SET state = 'BLOCKED' WHERE id = '$ended'" "$ended"
altered "UPDATE job SET source = 'hf:org/other' WHERE id = '$alive'" "source"
altered "UPDATE job SET policy = x'7b7d' WHERE id = '$alive'" "policy"
altered "UPDATE job SET name = 'org/other' WHERE id = '$alive'" "name"
altered "UPDATE job SET submitter = 4711 WHERE id = '$alive'" "submitter"
altered "UPDATE job SET candidate = x'00' WHERE id = '$alive'" "candidate"
altered "UPDATE attempt SET attempt = 2 WHERE job = '$alive'" "attempt"
altered "UPDATE attempt SET step = 'send' WHERE job = '$alive'" "step"
altered "UPDATE attempt SET state = 'lost' WHERE job = '$alive'" "$alive"
altered "DELETE FROM attempt WHERE job = '$alive'" "$alive"
altered "INSERT INTO attestation VALUES('$alive', 0, 'fetch', x'7b7d')" "attestations"
altered "INSERT INTO approval VALUES('$alive', 0, '00', 'eve', x'7b7d')" "approvals"
altered "DROP TRIGGER entry_no_update; UPDATE entry SET leaf = zeroblob(32) WHERE seq = 2" "entry 2"
altered "DROP TRIGGER entry_no_update; UPDATE entry SET body = CAST(body || x'00' AS BLOB) WHERE seq = 3" "entry 3"
altered "DROP TRIGGER entry_no_delete; DELETE FROM entry WHERE seq = 5" "cut"
altered "UPDATE checkpoint SET note = CAST(replace(CAST(note AS TEXT), '— ', '— x') AS BLOB)" "checkpoint"
altered "UPDATE checkpoint SET size = size + 1" "checkpoint"
altered "DROP TRIGGER checkpoint_no_delete; DELETE FROM checkpoint" "checkpoint was removed"

# a log key that the trust document does not know signs nothing
B key new log --name ledgerd@bastion --out "$RUN/other.key" >/dev/null
mv "$RUN/bastion/etc/sallyport/keys/ledgerd/log.key" "$RUN/log.key"
cp -p "$RUN/other.key" "$RUN/bastion/etc/sallyport/keys/ledgerd/log.key"
rc=0 out=$(timeout 20 ledgerd --root "$RUN/bastion" -f 2>&1) || rc=$?
[ $rc = 1 ] && [[ $out == *"log key"*"trust"* ]] || die "ledgerd with an unknown log key: exit $rc: $out"
verify >/dev/null
echo "database: read from outside after kill -9 and after a stop; 18 alterations found by sallyctl and ledgerd"
