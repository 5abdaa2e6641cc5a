#!/bin/bash
# faults.sh -- disks that are full or read-only, with real daemons: the job says which disk and why,
# goes on by itself when there is room again, or after `retry`; nothing half-fetched can be seen;
# ledgerd refuses what it cannot commit, and goes on when it can.
#
# The disks are small tmpfs in a mount namespace of this script's own.
# limit: 600
set -euo pipefail

if [ -z "${FAULTS_NAMESPACE:-}" ]; then
	namespace=(unshare --mount --map-root-user)
	[ "$(id -u)" = 0 ] && namespace=(unshare --mount)
	if ! "${namespace[@]}" mount -t tmpfs none /mnt 2>/dev/null; then
		echo "[  SKIPPED ] 1 test(s), listed below:"
		echo "[  SKIPPED ] faults.sh: NOTHING OF FULL AND READ-ONLY DISKS IS TESTED: neither root" \
			"nor a user namespace may mount a tmpfs here"
		exit 0
	fi
	FAULTS_NAMESPACE=1 exec "${namespace[@]}" "$0"
fi
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-faults.XXXXXX)
disks=()
leave() {
	local rc=$?
	site_stop
	for d in "${disks[@]}"; do umount "$d" || true; done
	[ $rc = 0 ] && rm -rf "$RUN"
	exit $rc
}
trap leave EXIT

# disk DIR OPTIONS: a small disk of its own there
disk() {
	mkdir -p "$1"
	mount -t tmpfs -o "$2" none "$1"
	disks+=("$1")
}
fill() { dd if=/dev/zero of="$1/filler" bs=4096 status=none 2>/dev/null || true; }
empty() { rm -f "$1/filler"; }
reason() { B job "$1" --json | jq -r .reason; }
events() { B log show "$1" --json | jq -r --arg e "$2" '[.entries[] | select(.event == $e)] | length'; }
failed_again() { [ "$(events "$1" again)" -ge 1 ]; }
ended() { [ "$(job_state bastion "$1")" = FAILED ]; }
submit() { B submit hf:fixture/qwen2-tiny --profile fixture --json | jq -er .job; }
# what a fetch that ended badly left: whole blobs under their digests, and nothing that names more
sound() {
	local f n=0
	while read -r f; do
		n=$((n + 1))
		[ "$(sha256sum <"$f" | cut -d' ' -f1)" = "$(basename "$(dirname "$f")")$(basename "$f")" ] ||
			die "$f is not the blob of its name"
		[ "$(head -c 17 "$f")" != "sallyport-tree/1" ] || die "$f: a tree can be seen, though not all of it came"
	done < <(find "$store/sha256" -type f)
	echo "$n" >"$RUN/blobs"
}

site_new "$RUN"
var=$RUN/bastion/var/lib/sallyport
store=$var/store/fetcherd
# room for the 256 directories of a store, and some files; the bytes would fit
disk "$store" size=64m,nr_inodes=263
disk "$var/state/ledgerd" size=2m
start upstream registryd
start bastion ledgerd
await 20 "ledgerd" B jobs
start bastion fetcherd
await 20 "the upstream hub" curl -sf "http://127.0.0.1:$P_HUB/api/models/fixture/qwen2-tiny/revision/main"

# --- the store is full in the middle of a fetch; once there is room, the job goes on by itself
job=$(submit)
await 60 "an attempt that finds the disk full" failed_again "$job"
B log show "$job" --json | jq -r '.entries[] | select(.event == "again") | .reason' >"$RUN/why"
grep -q "$store" "$RUN/why" && grep -q "No space left on device" "$RUN/why" ||
	die "the log does not say which disk is full: $(cat "$RUN/why")"
sound
mount -o remount,nr_inodes=10000 "$store"
await_state bastion "$job" FETCHED 60

# --- a store that stays read-only: the job fails, says why, and a retry goes on
rm -rf "$store"/sha256/*/*
mount -o remount,ro "$store"
job=$(submit)
await 90 "a job that cannot be written" ended "$job"
[[ $(reason "$job") == *"$store"*"Read-only file system"* ]] ||
	die "the job does not say that the store is read-only: $(reason "$job")"
mount -o remount,rw "$store"
sound
B retry "$job" >/dev/null
await_state bastion "$job" FETCHED 60

# --- a store that is too small for the model
rm -rf "$store"/sha256/*/* "$store"/tmp/*
mount -o remount,size=3m "$store"
job=$(submit)
await 90 "a job that does not fit" ended "$job"
[[ $(reason "$job") == *"$store"* || $(reason "$job") == *space* ]] ||
	die "the job does not say that there is no room: $(reason "$job")"
sound
mount -o remount,size=64m "$store"
B retry "$job" >/dev/null
await_state bastion "$job" FETCHED 60

# --- the database's disk is full: no request is half-done, and all goes on when there is room
stop bastion fetcherd
waiting=$(submit)
fill "$var/state/ledgerd"
refused=0
for i in $(seq 50); do # a transaction may still fit the pages that the WAL has
	status=0
	B submit hf:fixture/qwen2-tiny --profile fixture --json >"$RUN/full.json" 2>"$RUN/said" || status=$?
	[ $status = 0 ] || { refused=1; break; }
done
[ $refused = 1 ] || die "ledgerd accepts jobs on a full disk"
[ $status = 1 ] || die "a submit on a full disk ends with status $status, not 1"
jq -e '.error.code == "no-space" and (.error.message | test("ledger.db.*(full|space)"))' "$RUN/full.json" >/dev/null ||
	die "what is said of a full disk: $(cat "$RUN/full.json" "$RUN/said")"
before=$(B jobs --all --json | jq '.jobs | length')
# a worker that takes a step now is not believed before that can be committed
start bastion fetcherd
await 20 "ledgerd, which cannot give the lease" grep -q "ledger.db.*full\|ledger.db.*space" "$RUN/log/bastion-ledgerd.log"
[ "$(job_state bastion "$waiting")" = SUBMITTED ] || die "a transition went on a full disk"
[ "$(B jobs --all --json | jq '.jobs | length')" = "$before" ] || die "a refused job is in the table"
empty "$var/state/ledgerd"
await_state bastion "$waiting" FETCHED 60
job=$(submit)
await_state bastion "$job" FETCHED 60

# --- started on a full disk, ledgerd says so; with room again it starts, and nothing is lost
B jobs --all --json | jq -S '[.jobs[] | {job, state}] | sort' >"$RUN/before"
stop bastion ledgerd
fill "$var/state/ledgerd"
"$BIN/ledgerd" --root "$RUN/bastion" -f >"$RUN/log/full-ledgerd.log" 2>&1 &
echo $! >"$RUN/bastion-ledgerd.pid"
told() { grep -q "ledger.db.*full\|ledger.db.*space\|No space left" "$RUN/log/full-ledgerd.log"; }
await 20 "ledgerd's word on its full disk" told
empty "$var/state/ledgerd"
stop bastion ledgerd
start bastion ledgerd
await 20 "ledgerd after its disk was full" B jobs
B jobs --all --json | jq -S '[.jobs[] | {job, state}] | sort' >"$RUN/after"
cmp "$RUN/before" "$RUN/after" || die "jobs were lost on a full disk"
job=$(submit)
await_state bastion "$job" FETCHED 60
B log verify >/dev/null
echo "faults: full and read-only stores, a full database; $(B jobs --all --json | jq '.jobs | length') jobs, the log verifies"
