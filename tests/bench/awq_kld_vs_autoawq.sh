#!/bin/bash
# awq_kld_vs_autoawq.sh -- what quantizing costs: KL divergence per token from the bf16 model, on the
# 300 texts of heldout.jsonl, of what awq+ writes (128 texts of calibration.jsonl) and, measured in the
# same way, of the best of three others: AutoAWQ 0.2.9 on the same texts in fp16 and in fp32
# (AUTOAWQ_DTYPES chooses; minutes each), and plain rounding to nearest. At most 0.6 of it is wanted.
# For both trained fixtures. Ours by AutoAWQ's steps, method awq, is told beside it.
set -euo pipefail
shopt -s inherit_errexit
python=$(sh tests/peers/venv.sh autoawq)/bin/python
texts=tests/fixtures/calibration.jsonl

divergence() { # FIXTURE CANDIDATE: nats a token, and told
	local kld
	kld=$("$BIN/sp-bench-kld" "tests/fixtures/$1" "$2" tests/fixtures/heldout.jsonl | jq -er .kld)
	echo "$(basename "$2"): $kld nats a token from the model" >&2
	echo "$kld"
}
ours() { # FIXTURE METHOD
	"$BIN/sp-bench-quantize" "$2" 128 128 0 "tests/fixtures/$1" "$BENCH_DIR/work" "$BENCH_DIR/$1-$2" \
		"$texts" >"$BENCH_DIR/report.json"
	rm -rf "$BENCH_DIR/work"
	divergence "$1" "$BENCH_DIR/$1-$2"
}
rival() { # OUT COMMAND…: what it wrote into OUT
	"$python" tests/bench/lib/autoawq.py "${@:2}" "$1" >"$BENCH_DIR/autoawq.log" 2>&1 ||
		{ tail -n 5 "$BENCH_DIR/autoawq.log" >&2; return 1; }
}

figure() { # NAME FIXTURE
	local model=tests/fixtures/$2 out=$BENCH_DIR/$2-rounded best rival="round to nearest" kld plus dtype
	rival "$out" round "$model"
	best=$(divergence "$2" "$out")
	for dtype in ${AUTOAWQ_DTYPES:-float16 float32}; do
		out=$BENCH_DIR/$2-autoawq-$dtype
		rival "$out" run "$model" "$texts" 128 "$dtype"
		kld=$(divergence "$2" "$out")
		if awk "BEGIN { exit !($kld < $best) }"; then best=$kld rival="AutoAWQ 0.2.9, $dtype"; fi
	done
	ours "$2" awq >/dev/null
	plus=$(ours "$2" awq+)
	# the same bits each time: there is nothing to repeat; 1 / 0.6
	printf '{"name":"%s","unit":"nat","better":"lower","target":1.667,"rival":"%s","ours":[%s],"rival_values":[%s]}\n' \
		"$1" "$rival" "$plus" "$best"
}

figure awq_kld_vs_autoawq model
figure awq_kld_vs_autoawq_llama llama
