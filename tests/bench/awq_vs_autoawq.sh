#!/bin/bash
# awq_vs_autoawq.sh -- method awq against AutoAWQ 0.2.9 (PyPI, on the CPU, the faster of fp16 and
# fp32), same calibration ids, 128 texts: the fixture, and two layers of Qwen2.5-0.5B's shape. 30 is
# wanted. Ours is the whole program, reading and writing included; theirs is quantize() alone, run
# once for each dtype, since it takes minutes (AUTOAWQ_DTYPES chooses). awq_rss_mib is the most memory
# of ours at that shape: at most three layers' weights, the activations, and 200 MiB.
set -euo pipefail
python=$(sh tests/peers/venv.sh autoawq)/bin/python
texts=tests/fixtures/calibration.jsonl
"$python" tests/bench/lib/autoawq.py shape "$BENCH_DIR/shape" tests/fixtures/model >&2

measure() { # NAME MODEL
	local ours=() rival=() best='' dtype seconds i
	mib=0
	for ((i = 0; i < BENCH_RUNS; i++)); do
		rm -rf "$BENCH_DIR/work" "$BENCH_DIR/out"
		"$BIN/sp-bench-quantize" awq 128 128 0 "$2" "$BENCH_DIR/work" "$BENCH_DIR/out" "$texts" \
			2>"$BENCH_DIR/said" >"$BENCH_DIR/report.json"
		read -r seconds _ mib _ <"$BENCH_DIR/said"
		ours+=("$seconds")
	done
	for dtype in ${AUTOAWQ_DTYPES:-float16 float32}; do
		seconds=$("$python" tests/bench/lib/autoawq.py run "$2" "$texts" 128 "$dtype" 2>"$BENCH_DIR/autoawq.log" |
			tail -n 1) || { tail -n 5 "$BENCH_DIR/autoawq.log" >&2; exit 1; }
		echo "$1: AutoAWQ in $dtype: $seconds s" >&2
		if [ -z "$best" ] || awk "BEGIN { exit !($seconds < $best) }"; then best=$seconds; fi
	done
	for ((i = 0; i < BENCH_RUNS; i++)); do rival+=("$best"); done
	printf '{"name":"%s","unit":"s","better":"lower","target":30,"rival":"AutoAWQ 0.2.9, once","ours":[%s],' \
		"$1" "$(IFS=,; echo "${ours[*]}")"
	printf '"rival_values":[%s]}\n' "$(IFS=,; echo "${rival[*]}")"
}

measure awq_vs_autoawq tests/fixtures/model
measure awq_vs_autoawq_896 "$BENCH_DIR/shape"
tokens=$(($(jq -er .blocks "$BENCH_DIR/report.json") * 512))
# of a layer: q and o, k and v, gate, up and down; of a token: what the four groups take and the parts
# give, and the stream
layer=$((2 * 896 * 896 + 2 * 128 * 896 + 3 * 4864 * 896)) activations=$((tokens * (6 * 896 + 4864)))
printf '{"name":"awq_rss_mib","unit":"MiB","better":"lower","limit":%d,"ours":[%s]}\n' \
	$(((3 * layer + activations) * 4 / 1048576 + 200)) "$mib"
