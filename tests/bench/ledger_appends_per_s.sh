#!/bin/bash
# ledger_appends_per_s.sh -- durable appends a second with 64 writers, beside plain SQLite.
#
# Each writer waits for its entry to be committed before it brings the next, so batches of 64 form
# as in a busy ledgerd: packed, checked, hashed, inserted, committed, and under a checkpoint. The
# rival inserts as many bytes in as large batches under the same pragmas. The target, 0.8 of the
# rival's rate, is for disks that take milliseconds to sync: on one that takes none, 20,000/s do.
set -euo pipefail
"$BIN/sp-bench-ledger" appends "$BENCH_DIR" "$BENCH_RUNS"
