#!/bin/bash
# run.sh -- the real clients against what we serve and write: make peers
#
#   huggingface_hub   downloads the fixture from a plain registryd and the quantized model from the
#                     enclave's, unmodified, with only HF_ENDPOINT set
#   transformers      loads what it downloaded, and gives the logits that lib/engine is tested against
#   vLLM (CPU build)  loads the quantized model offline, and answers a prompt
#   Go's sumdb/tlog   and tessera's fsck verify an exported audit log (needs Go, else it is left out)
#
# Environments are built once into a cache (tests/peers/venv.sh), which needs Python and the network.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-peers.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
export RUN

hf=$(sh "$here/venv.sh" hf)/bin/python
vllm=$(sh "$here/venv.sh" vllm)/bin/python

echo "== the path, up to a registered model"
"$here/../e2e/demo.sh" >"$RUN.demo.log" 2>&1 || { cat "$RUN.demo.log"; exit 1; }
rm -f "$RUN.demo.log"

site_load "$RUN"
start upstream registryd
start enclave ledgerd
await 10 "ledgerd in the enclave" E jobs
start enclave registryd
await 10 "the upstream hub" curl -sf "http://127.0.0.1:$P_HUB/api/models/fixture/qwen2-tiny/revision/main"
await 10 "the enclave's registry" curl -sf "http://127.0.0.1:$P_REGISTRY/api/models/fixture/qwen2-tiny-AWQ/revision/main"

client() { # PORT ARGS…: nothing of the environment but the endpoint
	local port=$1
	shift
	env -i PATH=/usr/bin:/bin HOME="$RUN/home" HF_ENDPOINT="http://127.0.0.1:$port" "$@"
}

echo "== huggingface_hub and transformers"
client "$P_HUB" "$hf" "$here/hub_client.py" fixture/qwen2-tiny "$TREE/tests/fixtures/model"
client "$P_HUB" "$hf" "$here/logits.py" fixture/qwen2-tiny "$TREE/tests/vectors/logits.safetensors"
client "$P_REGISTRY" "$hf" "$here/hub_client.py" fixture/qwen2-tiny-AWQ "$RUN/pulled"

echo "== vLLM, offline, from the cache that huggingface_hub filled"
env -i PATH=/usr/bin:/bin HOME="$RUN/home" HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 \
	VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_NO_USAGE_STATS=1 \
	VLLM_LOGGING_LEVEL=ERROR "$vllm" "$here/vllm_answer.py" fixture/qwen2-tiny-AWQ
echo "== Go's tlog and tessera's fsck over an exported log"
"$here/tlog.sh"
echo "peers: all of it held"
