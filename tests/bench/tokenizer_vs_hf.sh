#!/bin/bash
# tokenizer_vs_hf.sh -- some 6 MB of prose, code and many scripts to ids, in documents of 40 lines, on
# one core, against the `tokenizers` package on the same text with the same tokenizer.json: a byte-level
# one as Qwen2's (tokenizer_vs_hf) and one of characters as Llama 2's, of 32,000 tokens each.
set -euo pipefail
TREE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=$(sh "$TREE/tests/peers/venv.sh" hf)/bin/python

env -i PATH=/usr/bin:/bin HOME="$BENCH_DIR" TOKENIZERS_PARALLELISM=false RAYON_NUM_THREADS=1 \
	PYTHONDONTWRITEBYTECODE=1 "$python" "$TREE/tests/bench/lib/tokenizer.py" "$BIN/sp-tokenize" "$TREE" \
	"$BENCH_DIR" "$BENCH_RUNS"
