#!/bin/bash
# notify.sh -- what a service manager hears of the daemons (sd_notify(3)): ready not before it is so,
# alive for as long as the loop turns, stopping when told to.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../e2e/site.sh"
work=$(mktemp -d /tmp/sp-notify-XXXXXX)
heard=$work/heard
listener=
trap 'rc=$?; [ -z "$listener" ] || kill "$listener" || true; site_stop; rm -rf "$work"; exit $rc' EXIT

site_new "$work/run"

# the manager's socket: every datagram becomes a line, its lines joined by "|"
python3 -u - "$work/socket" >"$heard" <<'EOF2' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True:
    print(s.recv(4096).decode().replace("\n", "|"))
EOF2
listener=$!
await 10 "the listener" test -S "$work/socket"
export NOTIFY_SOCKET=$work/socket WATCHDOG_USEC=200000

said() { grep -c -- "$1" "$heard" || true; }
at_least() { [ "$(said "$1")" -ge "$2" ]; }

# a worker lives without ledgerd, but is not ready
start bastion fetcherd
await 10 "fetcherd's pulse" at_least '^WATCHDOG=1$' 3
[ "$(said READY)" = 0 ] || die "fetcherd is ready without ledgerd: $(cat "$heard")"
kill -STOP "$(pid_of bastion fetcherd)"
: >"$heard"

start bastion ledgerd
await 10 "ledgerd to be ready" at_least '^READY=1|STATUS=sallyport/bastion/gate: log of ' 1
await 10 "ledgerd's pulse" at_least '^WATCHDOG=1$' 3
B jobs >/dev/null || die "ledgerd said that it is ready, and does not answer"
kill -CONT "$(pid_of bastion fetcherd)"
await 20 "fetcherd to be ready" at_least '^READY=1|STATUS=version .*welcomed by ledgerd$' 1

stop bastion ledgerd
await 10 "ledgerd's farewell" at_least '^STOPPING=1$' 1
await 20 "fetcherd to miss ledgerd" at_least '^STATUS=version .*without a connection to ledgerd$' 1
[ "$(said READY)" = 2 ] || die "ready is said once a daemon: $(cat "$heard")"
stop bastion fetcherd
await 10 "fetcherd's farewell" at_least '^STOPPING=1$' 2

# registryd without a bus is ready when it serves
start upstream registryd
await 10 "registryd to be ready" at_least '^READY=1|STATUS=version .*standalone$' 1
curl -sf "http://127.0.0.1:$P_HUB/api/models/fixture/qwen2-tiny/revision/main" >/dev/null ||
	die "registryd said that it is ready, and does not serve"
