#!/bin/sh
# deps.sh present|install PACKAGE... -- whether Debian packages are there, and installing them.
#
# present: says nothing when all are there, else goes on as install does.
# install: root gets what is missing by apt-get; another user is told what to run, status 1.
set -eu

mode=$1
shift

if ! command -v dpkg-query >/dev/null; then
	echo "deps: this is no Debian: install what these packages hold: $*" >&2
	# a build may still find everything: let it try and say itself what it lacks
	[ "$mode" = present ] && exit 0
	exit 1
fi

missing=
# one query for all: this runs in front of every make
have=$(dpkg-query -W -f='${db:Status-Status}/${Package}\n' "$@" 2>/dev/null || true)
for package in "$@"; do
	case "
$have
" in
	*"
installed/$package
"*) ;;
	*) missing="$missing $package" ;;
	esac
done

if [ -z "$missing" ]; then
	[ "$mode" = present ] || echo "deps: all $# packages are installed"
	exit 0
fi

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" -ne 0 ]; then
	echo "deps: packages are missing; run as root: $install" >&2
	exit 1
fi

export DEBIAN_FRONTEND=noninteractive
echo "deps: $install"
# the lists of a fresh machine are empty, those of an old one stale: fetched only then
# shellcheck disable=SC2086
if ! $install -qq </dev/null >/dev/null 2>&1; then
	apt-get update -qq </dev/null
	$install -qq </dev/null >/dev/null
fi
