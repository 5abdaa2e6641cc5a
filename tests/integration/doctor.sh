#!/bin/bash
# doctor.sh -- sallyctl doctor on an installation that is well, and after each of a few faults.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-doctor.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"
doctor() { S "$1" doctor --json 2>/dev/null >"$RUN/doctor.json"; }
# found LEVEL CHECK WORD: it is among the last findings, with advice when it is no "ok"
found() {
	jq -e --arg l "$1" --arg c "$2" --arg w "$3" 'any(.findings[]; .level == $l and .check == $c
		and (.seen | contains($w)) and ($l == "ok" or .do))' "$RUN/doctor.json" >/dev/null ||
		die "no $1 about $2 that says «$3»: $(jq -c '.findings[]' "$RUN/doctor.json")"
}
errors() { jq -r '[.findings[] | select(.level == "error") | .check] | unique | join(" ")' "$RUN/doctor.json"; }

# nothing runs: that is a finding, and all else is still looked at
rc=0
doctor bastion || rc=$?
[ $rc = 1 ] || die "with ledgerd down doctor exits with $rc"
found error ledgerd "not running"
found ok configuration "bastion"
found ok keys "11"
found warning profiles "no default.conf"
[[ $(errors) =~ ^ledgerd( sandbox)?$ ]] || die "with ledgerd down, errors about: $(errors)"

# all of the enclave runs: no error
start enclave ledgerd
await 10 "ledgerd" E jobs
found_all() { doctor enclave; }
for d in diode-rxd registryd admissiond; do start enclave $d; done
await 20 "an enclave without errors" found_all
found ok workers "registryd@enclave"
found ok ledgerd "sallyport/enclave/vault"
found ok certificate "tls.crt"
E doctor | grep -q "^0 errors, " || die "the text differs: $(E doctor)"

# faults
stop enclave admissiond
etc=$RUN/enclave/etc/sallyport
chmod 0440 "$etc/keys/registryd/registry.key"
rm "$etc/keys/diode-rxd/link.key"
sallyctl key new bus --name diode-rxd@enclave --out "$RUN/other.key" >/dev/null
cat "$RUN/other.key" >"$RUN/bus.key" && chmod 0400 "$RUN/bus.key"
mv -f "$RUN/bus.key" "$etc/keys/diode-rxd/bus.key"
chmod 0777 "$etc/trust"
sed -i 's/listen = "127.0.0.1:'"$P_REGISTRY"'"/listen = "0.0.0.0:'"$P_REGISTRY"'"/' "$etc/sallyport.conf"
gone() { doctor enclave || true; found error workers admissiond; }
await 20 "the end of admissiond to be noticed" eval '(gone)'
found error keys "registry.key has the mode 0440"
found error keys "link.key: No such file"
found error keys "names this bus key"
found error directories "trust has the mode 0777"
found warning network "0.0.0.0"
sed -i 's/registryd: {/registryd: { lisen = "x";/' "$etc/sallyport.conf"
doctor enclave && die "a broken configuration is no error"
found error configuration "lisen"
sed -i 's/ lisen = "x";//' "$etc/sallyport.conf"

# a stranger is told what he may not see
if [ "$(id -u)" = 0 ]; then
	chmod 0711 "$RUN" "$RUN/bastion"
	doctor_of_nobody() {
		setpriv --reuid=65534 --regid=65534 --clear-groups \
			"$(command -v sallyctl)" --root "$RUN/bastion" doctor --json 2>/dev/null >"$RUN/doctor.json"
	}
	chmod 0700 "$RUN/bastion/etc/sallyport/keys/ledgerd"
	doctor_of_nobody || true
	found warning "not seen" "keys/ledgerd/log.key"
	start bastion ledgerd
	await 10 "ledgerd" B jobs
	doctor_of_nobody || true
	found error ledgerd "may not be used by you: operators are in the group"
fi
echo "doctor: faults are found, and said what to do about"
