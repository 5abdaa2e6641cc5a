#!/bin/bash
# bus.sh -- ledgerd's bus, with the real daemons: a worker on another host, over TCP; and whoever has no
# business there or breaks its rules, over TCP and beside it: refused, logged, and ledgerd lives.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-bus.XXXXXX)
strangers=()
trap 'rc=$?; kill "${strangers[@]}" 2>/dev/null || true; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"
read -r P_BUS < <(sp-e2e ports 1)
sed -i -e "1i bus: { tcp = \"127.0.0.1:$P_BUS\"; };" -e 's/lease_ms = 3000;/lease_ms = 6000; attempts = 2;/' \
	"$RUN/bastion/etc/sallyport/sallyport.conf"
log=$RUN/log/bastion-ledgerd.log

# another host: its own root, with the same trust, fetcherd's keys, and the store that both mount
far=$RUN/far
mkdir -p "$far/etc/sallyport/keys" "$far/var/lib/sallyport"
cp -rp "$RUN/bastion/etc/sallyport/trust" "$far/etc/sallyport/"
cp -rp "$RUN/bastion/etc/sallyport/keys/fetcherd" "$far/etc/sallyport/keys/"
mkdir -p "$RUN/bastion/var/lib/sallyport/store"
ln -s "$RUN/bastion/var/lib/sallyport/store" "$far/var/lib/sallyport/store"
cat >"$far/etc/sallyport/sallyport.conf" <<CONF
side = "bastion";
bus: { connect = "127.0.0.1:$P_BUS"; };
fetcherd: { endpoint = "http://127.0.0.1:$P_HUB"; };
CONF

start upstream registryd
# as a service manager does it
ulimit -Sn 100
start bastion ledgerd
ulimit -Sn 1024
await 20 "ledgerd" B jobs
await 20 "the upstream hub" curl -sf "http://127.0.0.1:$P_HUB/api/models/fixture/qwen2-tiny/revision/main"

# said WORD: since the last look, ledgerd's log has a line with it; and ledgerd lives
seen=0
said() { tail -n +$((seen + 1)) "$log" | grep -q -- "$1"; }
expect_said() {
	await 20 "ledgerd to log «$1»" said "$1"
	seen=$(wc -l <"$log")
	kill -0 "$(pid_of bastion ledgerd)" || die "ledgerd is dead after «$1»"
}
keys=$RUN/bastion/etc/sallyport/keys
# stranger ANSWER KEY SERVICE STEP WHAT [TO]
stranger() {
	local want=$1 out
	shift
	out=$(sp-stranger "${5:-tcp://127.0.0.1:$P_BUS}" "$keys/ledgerd/bus.key.pub" "$1" "$2" "$3" "$4")
	[ "$out" = "$want" ] || die "a stranger ($*) hears «$out», not «$want»"
}

# who may not come in
sallyctl key new bus --name nobody --out "$RUN/nobody.key" >/dev/null
stranger "turned away" "$RUN/nobody.key" quantd quantize greet
expect_said "its key is not among the workers"
stranger "turned away" "$keys/ledgerd/bus.key" quantd quantize greet
expect_said "that key is the bus's own"
stranger "turned away" - quantd quantize greet
expect_said "failed its handshake"
for garbage in 'GET / HTTP/1.0\r\n\r\n' '\x16\x03\x01\x02\x00' 'SSH-2.0-x\r\n'; do
	printf "$garbage" 2>/dev/null >"/dev/tcp/127.0.0.1/$P_BUS" || true # cut off in the middle
done

# who is known, and breaks the rules
stranger welcome "$keys/quantd/bus.key" quantd quantize version
expect_said "from worker quantd@bastion dropped: .*version 2, not 1"
stranger welcome "$keys/quantd/bus.key" quantd quantize malformed
expect_said "from worker quantd@bastion dropped: "
stranger welcome "$keys/quantd/bus.key" quantd quantize frames
expect_said "from worker quantd@bastion dropped: it has more than one frame"
stranger welcome "$keys/quantd/bus.key" quantd quantize oversize
expect_said "from worker quantd@bastion dropped: .*1048577 bytes"
stranger "cut off" "$keys/quantd/bus.key" quantd quantize huge
# welcomed as the peer that it is, but it gets no work of another's
stranger welcome "$keys/quantd/bus.key" fetcherd fetch greet
expect_said "quantd@bastion is quantd in the trust document, not fetcherd"

# a worker that takes a step and never answers: the lease is lost, offered again, and the job ends
sp-stranger "tcp://127.0.0.1:$P_BUS" "$keys/ledgerd/bus.key.pub" "$keys/fetcherd/bus.key" \
	fetcherd fetch mute &
strangers+=($!)
job=$(B submit hf:fixture/qwen2-tiny --profile fixture --json | jq -er .job)
await_state bastion "$job" FAILED 120
[ "$(B log show "$job" --json | jq '[.entries[] | select(.event == "lease")] | length')" = 2 ] ||
	die "a mute worker was not given the step twice: $(B log show "$job")"
seen=$(wc -l <"$log")

# the real one, with the same key: told to wait, and takes over when the other has gone
"fetcherd" --root "$far" -f >>"$RUN/log/far-fetcherd.log" 2>&1 &
echo $! >"$RUN/far-fetcherd.pid"
expect_said "a second process with the key of fetcherd@bastion"
await 20 "fetcherd to be told" grep -q "another process has the key of fetcherd@bastion" \
	"$RUN/log/far-fetcherd.log"
kill "${strangers[0]}"
wait "${strangers[0]}" 2>/dev/null || true
strangers=()

# and it works, on a host without ledgerd's sockets
job=$(B submit hf:fixture/qwen2-tiny --profile fixture --json | jq -er .job)
await_state bastion "$job" FETCHED 120
[ ! -e "$far/run" ] || die "the other host has a socket of ledgerd's"
B log show "$job" --json | jq -e '[.entries[] | select(.event == "done" and .actor.name == "fetcherd@bastion")] | length == 1' \
	>/dev/null || die "the log does not name the worker: $(B log show "$job")"
# now the stranger is the second
stranger "refused exists" "$keys/fetcherd/bus.key" fetcherd fetch greet
expect_said "a second process with the key of fetcherd@bastion"

# an operator who may not
if [ "$(id -u)" = 0 ]; then
	chmod 0755 "$RUN"
	rc=0
	out=$(setpriv --reuid 65534 --regid 65534 --clear-groups "$BIN/sallyctl" --root "$RUN/bastion" jobs 2>&1) || rc=$?
	[ $rc -ne 0 ] && [[ $out == *operators.sock* ]] || die "a stranger among the operators: $rc, $out"
else
	echo "bus: NOTE: not root, so no other user tried the operators' socket"
fi
# more strangers that say nothing than files can be open by default: nobody else is shut out
crowd=()
for ((i = 0; i < 200; i++)); do
	exec {fd}<>"/dev/tcp/127.0.0.1/$P_BUS"
	crowd+=("$fd")
done
ledgerd_files() { [ "$(ls "/proc/$(pid_of bastion ledgerd)/fd" | wc -l)" -gt 200 ]; }
await 20 "ledgerd to have them all" ledgerd_files
B jobs >/dev/null
for fd in "${crowd[@]}"; do exec {fd}>&-; done

B log verify >/dev/null
echo "bus: strangers, broken rules and a mute worker were refused or outlived; fetcherd worked over TCP"
