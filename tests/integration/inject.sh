#!/bin/bash
# inject.sh -- EIO, ENOSPC and kill -9 in the system calls with which ledgerd appends to its database.
# Every INJECT_STRIDE-th call is looked at (24); `make crash` takes every one.
# limit: 900
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-inject.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"
start bastion ledgerd
await 10 "ledgerd" B jobs
for i in 1 2 3; do B submit "hf:org/name@$i" --profile fixture >/dev/null; done
site_stop
cp -r "$(dirname "$(site_database bastion)")" "$RUN/seed"
python3 "$TREE/tests/integration/inject.py" "$RUN" "${INJECT_STRIDE:-24}"
