#!/bin/bash
# fetch_vs_hub.sh -- 20 files, 2 GiB, from registryd over loopback into the store, verified, synced and
# signed for, against huggingface_hub.snapshot_download of the same model, which checks sizes alone and
# syncs nothing.
set -euo pipefail
TREE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$TREE/tests/bench/lib/fetch.sh"
RUN=$BENCH_DIR/site
trap 'rc=$?; site_stop; exit $rc' EXIT
python=$(sh "$TREE/tests/peers/venv.sh" hf)/bin/python

fetch_site
for i in $(seq -w 1 20); do
	random_file "$RUN/upstream/models/bench/model-$i-of-20.safetensors" $((${FETCH_MIB:-2048} / 20))
done
fetch_start

snapshot() { # prints the seconds it took, without the time that Python takes to start
	rm -rf "$BENCH_DIR/hf"
	sync
	env -i PATH=/usr/bin:/bin HOME="$BENCH_DIR/hf" HF_HOME="$BENCH_DIR/hf" \
		HF_ENDPOINT="http://127.0.0.1:$P_HUB" HF_HUB_DISABLE_PROGRESS_BARS=1 "$python" - <<-'EOF2'
	import time
	from huggingface_hub import snapshot_download
	began = time.monotonic()
	snapshot_download("bench/model")
	print(time.monotonic() - began)
	EOF2
	rm -rf "$BENCH_DIR/hf"
}

version=$("$python" -c 'import huggingface_hub; print(huggingface_hub.__version__)')
ours=() rival=()
for ((i = 0; i < BENCH_RUNS; i++)); do
	fetch_clear
	value=$(fetch_once)
	ours+=("$value")
	fetch_clear
	value=$(snapshot)
	rival+=("$value")
done
TARGET=2 figure fetch_vs_hub s "huggingface_hub $version" "${ours[@]}" -- "${rival[@]}"
