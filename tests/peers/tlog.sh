#!/bin/bash
# tlog.sh -- an exported log through the implementations of others: Go's sumdb/note and sumdb/tlog
# (tests/peers/tlog), and tessera's fsck. Both have to refuse it after any one byte was changed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../e2e/site.sh"
jobs=${JOBS:-600}
tools=$(sh "$here/tlog/build.sh")
RUN=$(mktemp -d /tmp/sp-tlog.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"
start bastion ledgerd
await 10 "ledgerd" B jobs

log=$RUN/exported
run_jobs() { # FROM TO: two entries each
	local i
	for ((i = $1; i <= $2; i++)); do
		B cancel "$(B submit "hf:org/name$i" --profile fixture --json | jq -er .job)" >/dev/null
	done
}
# the checkpoint of an earlier export is one that the later log has to continue
run_jobs 1 150
B log export "$RUN/earlier" >/dev/null
run_jobs 151 "$jobs"
B log export "$log" >/dev/null
vkey=$(B log checkpoint --json | jq -er .vkey)
printf '%s' "$vkey" >"$RUN/vkey"
size=$(sed -n 2p "$log/checkpoint")
[ "$size" -gt $((2 * jobs)) ] || die "a log of $size entries, not of more than $((2 * jobs))"

proofs=()
for seq in 0 1 255 256 257 $((size / 2)) $((size - 1)); do
	B log prove "$seq" --json >"$RUN/proof-$seq"
	proofs+=(-proof "$RUN/proof-$seq")
done

tlog() { "$tools/tlog" "${@:2}" "$1" "$vkey"; }
# fsck exits with 0 whatever it found. It hangs when one of fewer workers than tiles gives up.
fsck() {
	timeout 60 "$tools/fsck" -ui=false -N 256 -public_key "$RUN/vkey" -storage_url "file://$1" \
		>"$RUN/fsck.log" 2>&1 || return 1
	grep -q "Successfully fsck'd log with size $size " "$RUN/fsck.log"
}

tlog "$log" "${proofs[@]}" -older "$RUN/earlier/checkpoint"
fsck "$log" || die "fsck refuses the log: $(cut -c-500 "$RUN/fsck.log")"
echo "tessera's fsck: $(sed -n "s/.*\(Successfully.*\)/\1/p" "$RUN/fsck.log")"

flip() { # FILE OFFSET: one bit of one byte
	python3 - "$@" <<-'PY'
	import sys
	with open(sys.argv[1], "r+b") as f:
	    f.seek(int(sys.argv[2]))
	    byte = f.read(1)
	    f.seek(int(sys.argv[2]))
	    f.write(bytes([byte[0] ^ 1]))
	PY
}
refused() { # FILE OFFSET
	rm -rf "$RUN/altered"
	cp -r "$log" "$RUN/altered"
	flip "$RUN/altered/$1" "$2"
	! tlog "$RUN/altered" >/dev/null 2>&1 || die "tlog accepts a log with byte $2 of $1 changed"
	! fsck "$RUN/altered" || die "fsck accepts a log with byte $2 of $1 changed"
}
partial=$(cd "$log" && find tile/0 tile/1 tile/entries -path '*.p/*')
[ "$(wc -w <<<"$partial")" = 3 ] || die "the log has other partial tiles than expected: $partial"
count=0
for place in "checkpoint 3" "checkpoint 30" "checkpoint $(($(stat -c %s "$log/checkpoint") - 5))" \
	"tile/0/000 0" "tile/0/003 8191" "tile/entries/000 40" "tile/entries/003 0"; do
	refused ${place% *} "${place#* }"
	count=$((count + 1))
done
for file in $partial; do
	refused "$file" 20
	count=$((count + 1))
done
jq '.seq = 254' "$RUN/proof-255" >"$RUN/proof-bad"
! tlog "$log" -proof "$RUN/proof-bad" >/dev/null 2>&1 || die "tlog accepts the proof of another entry"
vkey=${vkey/gate/gage}
! tlog "$log" >/dev/null 2>&1 || die "tlog accepts another log's key"
echo "$count altered logs, each refused by both"
