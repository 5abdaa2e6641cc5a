#!/bin/bash
# awq_kld_vs_autoawq.sh -- KL divergence per token, on 300 held-out texts, of the fixture quantized by
# awq+ (128 texts of calibration.jsonl) from the fixture itself. The limit is 0.6 of what rounding to
# nearest costs, 0.00566; what AutoAWQ 0.2.9 wrote for the fixture on a CPU is at 0.00943. Ours by
# AutoAWQ's steps, method awq, is told beside it.
set -euo pipefail
measure() { # METHOD
	"$BIN/sp-bench-quantize" "$1" 128 128 0 tests/fixtures/model "$BENCH_DIR/$1-work" "$BENCH_DIR/$1" \
		tests/fixtures/calibration.jsonl >"$BENCH_DIR/$1.json"
	"$BIN/sp-bench-kld" tests/fixtures/model "$BENCH_DIR/$1" tests/fixtures/heldout.jsonl | jq -er .kld
}
echo "method awq: $(measure awq)" >&2
# the same bits each time: there is nothing to repeat
printf '{"name":"awq_kld_vs_autoawq","unit":"nat","better":"lower","limit":0.0034,"ours":[%s]}\n' "$(measure awq+)"
