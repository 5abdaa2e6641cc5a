#!/bin/bash
# crash.sh [KILLS [SEED]] -- a storm of kill -9 over ledgerd and fetcherd: make crash
#
# What must hold is said in storm.py. SEED is drawn when none is given, and printed.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/site.sh"
RUN=$(mktemp -d /tmp/sp-crash.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN" || echo "what is left: $RUN" >&2; exit $rc' EXIT

site_new "$RUN"
echo 'fetch: { max_files = 1000; };' >"$RUN/bastion/etc/sallyport/profiles.d/storm.conf"
python3 "$TREE/tests/e2e/storm.py" "$RUN" "${1:-1000}" "${2:-$((RANDOM * 32768 + RANDOM))}"
