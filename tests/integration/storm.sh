#!/bin/bash
# storm.sh -- twenty kill -9 of ledgerd and fetcherd while a data set is fetched; `make crash` has more.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/../e2e/crash.sh" 20 1
