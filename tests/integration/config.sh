#!/bin/bash
# config.sh -- every daemon refuses a bad configuration with file, line and key, and says what it knows.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-config.XXXXXX)
trap 'rm -rf "$RUN"' EXIT
site_new "$RUN"

# refuses SIDE DAEMON LINE WORD…: the configuration with LINE (line 2) is refused, naming each WORD
refuses() {
	local side=$1 daemon=$2 line=$3 conf=$RUN/bad.conf word out rc=0
	shift 3
	{ echo "side = \"$side\";"; echo "$line"; } >"$conf"
	out=$("$daemon" --root "$RUN/$side" -c "$conf" -n 2>&1) || rc=$?
	[ $rc -ne 0 ] || die "$daemon accepts: $line"
	[ $rc -lt 126 ] || die "$daemon died of: $line ($out)"
	for word in "$conf" "$@"; do
		[[ $out == *"$word"* ]] || die "$daemon on «$line» does not name «$word»: $out"
	done
}

for d in bastion/ledgerd bastion/fetcherd bastion/quantd bastion/validatord bastion/diode-txd \
	enclave/ledgerd enclave/diode-rxd enclave/registryd enclave/admissiond; do
	side=${d%/*} daemon=${d#*/}
	"$daemon" --root "$RUN/$side" -n >/dev/null 2>&1 || die "$daemon refuses a good configuration"
	refuses "$side" "$daemon" 'fetcherd: { endpont = "x"; };' :2 fetcherd.endpont fetcherd.endpoint
	refuses "$side" "$daemon" 'ledgerd: { lease_ms = "long"; };' :2 ledgerd.lease_ms
	refuses "$side" "$daemon" 'ledgerd: { lease_ms = 1; };' :2 ledgerd.lease_ms 200
	refuses "$side" "$daemon" 'ledgerd: { lease_ms = 1000' syntax
done
refuses bastion diode-txd 'diode-txd: { rate_mbit_s = 10; };' diode-txd.destination
refuses enclave diode-rxd 'diode-rxd: { rcvbuf_mib = 1; };' diode-rxd.listen

# a profile is configuration too
sed -i 's/max_drop_pp = 3.0/max_dorp_pp = 3.0/' "$RUN/bastion/etc/sallyport/profiles.d/fixture.conf"
out=$(ledgerd --root "$RUN/bastion" -n 2>&1) && die "ledgerd accepts a profile with an unknown key"
[[ $out == *fixture.conf* && $out == *max_dorp_pp* ]] || die "the profile's error does not say where: $out"
echo "config: nine daemons name file, line and key"
