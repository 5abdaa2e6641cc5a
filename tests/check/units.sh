#!/bin/sh
# units.sh -- the units of systemd/ as `make install` lays them out: systemd understands them, each
# daemon has its user and directories, and none is exposed more than it may be.
#
# Everything is looked at below a scratch directory, with --root or --offline: no manager need run.
set -eu

cd "$(dirname "$0")/../.."
if ! command -v systemd-analyze >/dev/null; then
	echo "units: no systemd-analyze here (package systemd): not checked"
	exit 0
fi
root=$(mktemp -d /tmp/sp-units-XXXXXX)
trap 'rm -rf "$root"' EXIT
fail() { echo "units: $*" >&2; exit 1; }

prefix=/opt/sallyport
make -s --no-print-directory B="$root/build" DESTDIR="$root" PREFIX=$prefix install-units
units=$root$prefix/lib/systemd/system
conf=$root$prefix/lib

# verify wants the programs to be there: stand-ins below the scratch directory are
daemons=
for unit in "$units"/*.service; do
	daemon=${unit##*/sallyport-}
	daemon=${daemon%.service}
	daemons="$daemons $daemon"
	[ -d "daemons/$daemon" ] || fail "$unit: there is no daemon $daemon"
	grep -q "^ExecStart=$prefix/sbin/$daemon\$" "$unit" || fail "$unit: starts something else"
	! grep -n '@[A-Z]' "$unit" || fail "$unit: something is not filled in"
	sed -i "s|^ExecStart=$prefix/sbin|ExecStart=$root/bin|" "$unit"
	install -D -m 0755 /dev/null "$root/bin/$daemon"
done
for dir in daemons/*d; do
	[ -f "$units/sallyport-${dir##*/}.service" ] || fail "$dir has no unit"
done
said=$(SYSTEMD_UNIT_PATH="$units:" systemd-analyze verify --man=no "$units"/*.target "$units"/*.service 2>&1) ||
	fail "systemd-analyze verify: $said"
[ -z "$said" ] || fail "systemd-analyze verify: $said"

# exposure in tenths, as systemd-analyze security counts it
for daemon in $daemons; do
	unit=$units/sallyport-$daemon.service
	case $daemon in quantd | validatord) most=40 ;; *) most=25 ;; esac
	said=$(systemd-analyze security --offline=yes --threshold=$most "$unit" 2>&1) ||
		fail "$unit is exposed more than $most tenths: $said"
	echo "$said" | sed -n 's/^→ Overall exposure level for \(.*\): \([0-9.]*\) .*/units: \1 \2/p' |
		grep . || fail "$unit: systemd-analyze security says no figure: $said"
	case $daemon in
	fetcherd) ;;
	*) ! grep -q '^IPAddressAllow=any' "$unit" || fail "$unit may reach the internet" ;;
	esac
done

# without these calls the children's confinement (lib/bus/confine.h) would be a warning in the log
for unit in "$units"/*.service; do
	for call in landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp; do
		grep -q "^SystemCallFilter=.*\b$call\b" "$unit" || fail "$unit: $call is not allowed"
	done
done

# users and directories: what the units name is made; only root can give directories away
[ "$(id -u)" -eq 0 ] || exit 0
mkdir "$root/etc"
said=$(systemd-sysusers --root="$root" "$conf/sysusers.d/sallyport.conf" 2>&1) ||
	fail "sysusers.d/sallyport.conf: $said"
systemd-tmpfiles --root="$root" --create "$conf/tmpfiles.d/sallyport.conf" ||
	fail "tmpfiles.d/sallyport.conf: systemd-tmpfiles refuses it"
for daemon in $daemons; do
	unit=$units/sallyport-$daemon.service
	grep -q "^User=sallyport-$daemon\$" "$unit" || fail "$unit: runs as somebody else"
	uid=$(awk -F: -v u="sallyport-$daemon" '$1 == u { print $3 }' "$root/etc/passwd")
	[ -n "$uid" ] || fail "sysusers.d/sallyport.conf makes no user sallyport-$daemon"
	for path in $(sed -n 's/^ReadWritePaths=//p' "$unit"); do
		[ -d "$root$path" ] || fail "$unit: tmpfiles.d/sallyport.conf does not make $path"
		[ "$(stat -c %u "$root$path")" = "$uid" ] ||
			fail "$path does not belong to sallyport-$daemon"
	done
	[ "$(stat -c %u:%a "$root/etc/sallyport/keys/$daemon")" = 0:700 ] ||
		fail "keys of $daemon: not root's alone"
	grep -q "^LoadCredential=bus.key:/etc/sallyport/keys/$daemon/bus.key\$" "$unit" ||
		fail "$unit: no credential bus.key"
	! sed -n 's/^LoadCredential=\([^:]*\):\(.*\)/\1 \2/p' "$unit" |
		grep -v "^\([a-z]*\.key\) /etc/sallyport/keys/$daemon/\1\$" ||
		fail "$unit: a credential of another name than its file's, or another daemon's"
	[ "$(stat -c %a "$root/var/lib/sallyport/state/$daemon")" = 700 ] || fail "state of $daemon: not 0700"
done
