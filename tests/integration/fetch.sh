#!/bin/bash
# fetch.sh -- fetches through a proxy that wants credentials, plain and by CONNECT to an https hub:
# killed in the middle and gone on with, two jobs of one model at the same time, wrong credentials.
# limit: 240
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-fetch.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"
conf=$RUN/bastion/etc/sallyport/sallyport.conf
size=$((48 << 20)) parallel=2

mkdir -p "$RUN/upstream/models/"{large,tls}
head -c $size /dev/urandom >"$RUN/upstream/models/large/model.safetensors"
head -c 9000000 /dev/urandom >"$RUN/upstream/models/tls/model.safetensors"
cat >"$RUN/upstream/etc/sallyport/sallyport.conf" <<CONF
side = "bastion";
registryd: { listen = "127.0.0.1:$P_HUB"; standalone = true; local: {
  large: { name = "org/large"; dir = "/models/large"; }; tls: { name = "org/tls"; dir = "/models/tls"; }; }; };
CONF

background() { # NAME COMMAND…: killed with the site
	local name=$1
	shift
	"$@" 2>>"$RUN/log/$name.log" &
	echo $! >"$RUN/$name.pid"
}
touch "$RUN/proxy.log"
background proxy python3 "$here/fetch.py" proxy "$RUN/proxy.port" "$RUN/proxy.log" "anna:s3cret"
background tls python3 "$here/fetch.py" tls "$RUN/tls.port" "$RUN/enclave/etc/sallyport/tls/tls.crt" \
	"$RUN/enclave/etc/sallyport/tls/tls.key" "127.0.0.1:$P_HUB"
await 10 "the proxy" test -s "$RUN/proxy.port"
await 10 "TLS in front of the hub" test -s "$RUN/tls.port"

(umask 077 && echo "anna:s3cret" >"$RUN/bastion/etc/sallyport/proxy-auth")
configure() { # ENDPOINT MORE…
	sed -i '/^fetcherd:/d' "$conf"
	echo "fetcherd: { endpoint = \"$1\"; proxy = \"http://127.0.0.1:$(cat "$RUN/proxy.port")\";
		proxy_auth_file = \"/etc/sallyport/proxy-auth\"; parallel = $parallel; ${*:2} };" | tr '\n' ' ' >>"$conf"
	echo >>"$conf"
}
passed() { awk '$1 == "bytes" { n = $2 } END { print n + 0 }' "$RUN/proxy.log"; }
submit() { B submit "hf:org/$1" --profile fixture --json | jq -er .job; }

configure "http://127.0.0.1:$P_HUB" "rate_mbit_s = 200;"
start upstream registryd
start bastion ledgerd
await 20 "ledgerd" B jobs
await 30 "the hub" curl -sf "http://127.0.0.1:$P_HUB/api/models/org/large/revision/main"
start bastion fetcherd

# killed while bytes come; its child dies with it
job=$(submit large) other=$(submit large)
kills=0
for at in 6 20; do
	await 60 "$at MiB" eval '[ "$(passed)" -gt $((at << 20)) ]'
	stop bastion fetcherd KILL
	kills=$((kills + 1))
	start bastion fetcherd
done
await_state bastion "$job" FETCHED 90
await_state bastion "$other" FETCHED 30
most=$((size + kills * parallel * (8 << 20) + (2 << 20)))
[ "$(passed)" -ge $size ] || die "the proxy has passed $(passed) bytes only: something went past it"
[ "$(passed)" -le $most ] || die "$kills kills: $(passed) bytes came for $size"
tree=$(B job "$job" --json | jq -er '.artifacts[] | select(.role == "source") | .digest')
[ "$tree" = "$(B job "$other" --json | jq -er '.artifacts[] | select(.role == "source") | .digest')" ] ||
	die "two jobs of one model have two trees"
digest=$(sha256sum "$RUN/upstream/models/large/model.safetensors" | cut -d' ' -f1)
[ "$(sha256sum "$RUN/bastion/var/lib/sallyport/store/fetcherd/sha256/${digest:0:2}/${digest:2}" | cut -d' ' -f1)" = \
	"$digest" ] || die "the store's bytes are others"
ls "$RUN"/bastion/var/lib/sallyport/store/fetcherd/tmp/part-* >/dev/null 2>&1 && die "a part was left behind"

# https through the proxy: a tunnel, and no credentials of the one for the other
stop bastion fetcherd
configure "https://localhost:$(cat "$RUN/tls.port")" 'ca_file = "/etc/sallyport/ca.crt";'
cp "$RUN/enclave/etc/sallyport/tls/tls.crt" "$RUN/bastion/etc/sallyport/ca.crt"
start bastion fetcherd
await_state bastion "$(submit tls)" FETCHED 60
grep -q "^CONNECT localhost:$(cat "$RUN/tls.port")$" "$RUN/proxy.log" || die "nothing went by CONNECT"
grep -q refused "$RUN/proxy.log" && die "the proxy was asked without credentials"

# wrong credentials are the operator's to change
stop bastion fetcherd
(umask 077 && echo "anna:guess" >"$RUN/bastion/etc/sallyport/proxy-auth")
start bastion fetcherd
bad=$(submit tls)
await_state bastion "$bad" FAILED 60
B job "$bad" --json | jq -er .reason | grep -q proxy_auth_file || die "the reason is: $(B job "$bad" --json | jq -r .reason)"
B log verify >/dev/null
echo "fetch: $kills kills cost $(($(passed) - size - 9000000)) bytes; job $job is FETCHED"
