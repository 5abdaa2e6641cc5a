#!/bin/bash
# run.sh [PEER...] -- the real clients against what we serve and write: make peers
#
#   hf      huggingface_hub and hf of today download the fixture, a data set and the quantized model,
#           unmodified, with only HF_ENDPOINT set; transformers loads the fixture offline from their
#           cache and gives the logits that lib/engine is tested against; datasets reads the data set;
#           tokenizers gives 275,000 texts the ids that lib/model gives them, 11 kinds of tokenizer.json
#   hf03x   the same downloads by huggingface_hub 0.36, and the tokenizer by the transformers of then
#   autoawq AutoAWQ 0.2.9 quantizes two models in fp32; from the inputs that its linear layers had, lib/awq
#           must choose its ratios and, where it does, the bits of its channel scales and 99.9 % of its codes;
#           once more with the square roots of MKL, where 98 % suffice (tests/vectors/make_autoawq_f32.py). It
#           reads what our quantizer writes: with the weights that it makes of the codes, transformers gives
#           our engine's logits, of mixtures of experts, too (vLLM's CPU build has no AWQ experts)
#   tlog    Go's sumdb/tlog and tessera's fsck verify an exported audit log
#   vllm    vLLM (CPU build) downloads the quantized model, loads it offline, and answers a prompt;
#           with what our quantizer writes, it continues prompts with the tokens that our engine chooses;
#           made a directory of compressed-tensors by that package's AutoAWQConverter, and loaded by
#           transformers, it gives our engine's logits
#
# Each has an environment, made once and kept in a cache (venv.sh, tlog/build.sh; SALLYPORT_CACHE).
# One that is not there yet is built when its tools are, there is room for it, and PEERS_BUILD_S
# seconds (1500) suffice for all. The last line names the peers that were not run, and why. Peers
# that were named but not run, and any that disagrees, make the run fail.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../e2e/site.sh"
cache=${SALLYPORT_CACHE:-$HOME/.cache/sallyport}/peers
build_until=$((SECONDS + ${PEERS_BUILD_S:-1500}))
all=(hf03x autoawq hf tlog vllm) # those that are built soonest first
declare -A room_mib=([hf03x]=600 [autoawq]=7000 [hf]=8000 [tlog]=2500 [vllm]=9000)
declare -A env_of=() why_not=()
held=() failed=()

# --- environments --------------------------------------------------------------------------------

lacks_tools() { # PEER: what it cannot be built without
	if [ "$1" = tlog ]; then
		command -v go >/dev/null || echo "Go is not installed"
	else
		/usr/bin/python3 -c 'import venv, ensurepip' 2>/dev/null ||
			python3 -c 'import venv, ensurepip' 2>/dev/null || echo "python3-venv is not installed"
	fi
}

# prepare PEER: env_of it, or why_not
prepare() {
	local peer=$1 maker=$here/venv.sh path why free left=$((build_until - SECONDS))
	[ "$peer" != tlog ] || maker=$here/tlog/build.sh
	path=$(sh "$maker" --path "$peer")
	if [ -f "$path/.ready" ]; then
		env_of[$peer]=$path
		return
	fi
	mkdir -p "$cache"
	why=$(lacks_tools "$peer")
	free=$(df --output=avail -BM "$cache" | tail -n 1 | tr -dc 0-9)
	if [ -z "$why" ] && [ "$free" -lt "${room_mib[$peer]}" ]; then
		why="would have to be built, which takes ${room_mib[$peer]} MiB in $cache; $free are free"
	elif [ -z "$why" ] && [ "$left" -le 0 ]; then
		why="would have to be built, and PEERS_BUILD_S is used up"
	fi
	if [ -n "$why" ]; then
		why_not[$peer]=$why
		return
	fi
	echo "== $peer: built once, into $path"
	if timeout -k 10 "$left" sh "$maker" "$peer" >"$RUN/build.log" 2>&1; then
		env_of[$peer]=$path
	elif [ $SECONDS -ge $build_until ]; then
		why_not[$peer]="was not built within PEERS_BUILD_S"
	else
		tail -n 20 "$RUN/build.log" | cut -c -300
		why_not[$peer]="could not be built: $( (grep -m 1 ^ERROR "$RUN/build.log" ||
			grep -v "could not be built$" "$RUN/build.log" | tail -n 1) | cut -c -200)"
	fi
	[ -f "$path/.ready" ] || rm -rf "$path"
}

# --- what each of them does ----------------------------------------------------------------------

# clean HOME VARIABLE=… PROGRAM…: nothing of our environment; what it says beside its result is shown
# when it fails
clean() {
	local home=$1 status=0
	shift
	env -i PATH=/usr/bin:/bin HOME="$RUN/home-$home" "$@" 2>"$RUN/said" || status=$?
	[ $status = 0 ] || tail -n 40 "$RUN/said" >&2
	return $status
}

hub_client() { # PEER: all that a client of the hub does, on both sides
	local python=${env_of[$1]}/bin/python bastion=HF_ENDPOINT=http://127.0.0.1:$P_HUB
	clean "$1" "$bastion" "$python" "$here/hub_client.py" model fixture/qwen2-tiny "$TREE/tests/fixtures/model" \
		fixture/many
	clean "$1" "$bastion" "$python" "$here/hub_client.py" dataset fixture/mmlu "$TREE/tests/fixtures/mmlu"
	clean "$1" "HF_ENDPOINT=http://127.0.0.1:$P_REGISTRY" "$python" "$here/hub_client.py" model \
		fixture/qwen2-tiny-AWQ "$RUN/pulled"
	clean "$1" HF_HUB_OFFLINE=1 "$python" "$here/tokenizer.py" fixture/qwen2-tiny \
		"$TREE/tests/vectors/tokenizer.jsonl"
}

run_hf03x() { hub_client hf03x; }

run_hf() {
	local python=${env_of[hf]}/bin/python pairs=() model
	for model in "$TREE"/tests/fixtures/arch/*/; do
		pairs+=("${model%/}" "$TREE/tests/vectors/arch/$(basename "$model").safetensors")
	done
	hub_client hf
	clean hf TOKENIZERS_PARALLELISM=false "$python" "$here/tokenizer_ids.py" "$BIN/sp-tokenize" "$TREE"
	clean hf HF_HUB_OFFLINE=1 "$python" "$here/logits.py" fixture/qwen2-tiny \
		"$TREE/tests/vectors/logits.safetensors" "${pairs[@]}"
	clean hf "HF_ENDPOINT=http://127.0.0.1:$P_HUB" "$python" "$here/dataset.py" fixture/mmlu \
		"$TREE/tests/fixtures/mmlu"
}

# answered FIXTURE METHOD: quantizes it into $quantized/FIXTURE-METHOD; beside it, what our engine makes
# of the prompts with that, and with the fixture
fixtures=(model llama)
mixtures=(mixtral qwen3-moe qwen3-moe-raw)
prompts=24
steps=32
answered() {
	local dir=$quantized/$1-$2 from=$TREE/tests/fixtures/$1 group=128
	[ ! -f "$dir.answers" ] || return 0
	mkdir -p "$quantized"
	if [ -d "$TREE/tests/fixtures/arch/$1" ]; then # tiny, and without a tokenizer
		from=$quantized/$1 group=32
		cp -rT "$TREE/tests/fixtures/arch/$1" "$from"
		python3 "$TREE/tests/integration/byte_tokenizer.py" "$from"
	fi
	head -n $prompts "$TREE/tests/fixtures/heldout.jsonl" | jq -c '{text: .text[:160]}' >"$quantized/prompts"
	nice sallyctl quantize "$from" "$dir" --method "$2" --group-size $group --samples 32 --threads 1 \
		--calibration "$TREE/tests/fixtures/calibration.jsonl" >"$dir.log" 2>&1 || { cat "$dir.log" >&2; return 1; }
	sp-greedy "$from" "$quantized/prompts" $steps "$quantized/$1.answers"
	sp-greedy "$dir" "$quantized/prompts" $steps "$dir.answers"
}
compared() { # PEER FIXTURE METHOD VARIABLE=… PROGRAM…: what PEER makes of it beside that
	local peer=$1 fixture=$2 method=$3
	shift 3
	answered "$fixture" "$method"
	echo "$fixture, $method:"
	clean "$peer" "$@" "$quantized/$fixture-$method" "$quantized/prompts" "$quantized/$fixture-$method.answers" \
		"$quantized/$fixture.answers"
}

# sabotaged FIXTURE: a copy of what awq+ made of it that a peer must not take for the same, and its answers
sabotaged() {
	local dir=$quantized/$1-sabotaged
	answered "$1" awq+
	[ -f "$dir.answers" ] || python3 "$here/sabotage.py" "$quantized/$1-awq+" "$dir"
	[ -f "$dir.answers" ] || sp-greedy "$dir" "$quantized/prompts" $steps "$dir.answers"
}

# two programs whose threads spin starve each other
quiet=(nice env OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE)

run_vllm() {
	local python=${env_of[vllm]}/bin/python fixture
	local offline=("${quiet[@]}" HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 VLLM_CPU_KVCACHE_SPACE=1
		VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_NO_USAGE_STATS=1 VLLM_LOGGING_LEVEL=ERROR "$python")
	clean vllm "HF_ENDPOINT=http://127.0.0.1:$P_REGISTRY" "$python" -c \
		'from huggingface_hub import snapshot_download; snapshot_download("fixture/qwen2-tiny-AWQ")'
	clean vllm "${offline[@]}" "$here/vllm_answer.py" fixture/qwen2-tiny-AWQ
	for fixture in "${fixtures[@]}"; do
		compared vllm "$fixture" awq+ "${offline[@]}" "$here/vllm_greedy.py"
		compared vllm "$fixture" awq+ "${quiet[@]}" "$python" "$here/awq_logits.py" converter
		# by our engine's reading of the copy: one more start of vLLM would take minutes
		sabotaged "$fixture"
		clean vllm "$python" "$here/greedy_judge.py" "$quantized/$fixture-awq+.answers" \
			"$quantized/$fixture-sabotaged.answers" "$quantized/$fixture.answers"
	done
}

run_autoawq() {
	local fixture method roots dumped
	for roots in ieee mkl; do
		for fixture in "${fixtures[@]}"; do
			dumped=$RUN/autoawq/$fixture-$roots
			mkdir -p "$dumped"
			clean autoawq HF_HUB_OFFLINE=1 ROOTS=$roots "${quiet[@]}" "${env_of[autoawq]}/bin/python" \
				"$TREE/tests/vectors/make_autoawq_f32.py" "$fixture" 6 "$dumped"
			(cd "$TREE" && "$B/unit/awq_f32" "tests/fixtures/$fixture" "$dumped"/layer-*.safetensors)
		done
	done
	for fixture in "${mixtures[@]}" "${fixtures[@]}"; do
		for method in awq awq+; do
			compared autoawq "$fixture" $method "${quiet[@]}" "${env_of[autoawq]}/bin/python" "$here/awq_logits.py" \
				autoawq
		done
	done
	for fixture in "${fixtures[@]}"; do
		sabotaged "$fixture"
		if clean autoawq "${quiet[@]}" "${env_of[autoawq]}/bin/python" "$here/awq_logits.py" autoawq \
			"$quantized/$fixture-sabotaged" "$quantized/prompts" "$quantized/$fixture-awq+.answers" \
			"$quantized/$fixture.answers" >"$RUN/autoawq/said" 2>&1; then
			die "$fixture: a sabotaged copy passes: $(cat "$RUN/autoawq/said")"
		fi
		grep -q "read it differently: logits by" "$RUN/said" || die "$fixture, sabotaged: $(cat "$RUN/said")"
		echo "sabotage is seen: $(grep -o "AutoAWQ and our engine.*" "$RUN/said")"
	done
}

run_tlog() { "$here/tlog.sh"; }

# --- the sides that they meet --------------------------------------------------------------------

# The demo leaves both sides with a registered model; beside it a data set and a model of many files.
meet() {
	local i
	echo "== the path, up to a registered model"
	"$here/../e2e/demo.sh" >"$RUN.demo.log" 2>&1 || { cat "$RUN.demo.log"; exit 1; }
	rm -f "$RUN.demo.log"
	site_load "$RUN"
	cp -r "$TREE/tests/fixtures/mmlu" "$RUN/upstream/models/mmlu"
	mkdir "$RUN/upstream/models/many"
	for ((i = 0; i < 1100; i++)); do : >"$RUN/upstream/models/many/file-$i"; done
	sed -i 's|local: {|& mmlu: { name = "fixture/mmlu"; dir = "/models/mmlu"; kind = "dataset"; };\
		many: { name = "fixture/many"; dir = "/models/many"; };|' "$RUN/upstream/etc/sallyport/sallyport.conf"
	start upstream registryd
	start enclave ledgerd
	await 60 "ledgerd in the enclave" E jobs
	start enclave registryd
	await 60 "the upstream hub" curl -sf "http://127.0.0.1:$P_HUB/api/models/fixture/many"
	await 60 "the enclave's registry" curl -sf "http://127.0.0.1:$P_REGISTRY/api/models/fixture/qwen2-tiny-AWQ/revision/main"
}

peers=("$@")
[ $# -gt 0 ] || peers=("${all[@]}")
for peer in "${peers[@]}"; do
	[ -n "${room_mib[$peer]:-}" ] || { echo "peers: no peer is called $peer: ${all[*]}" >&2; exit 2; }
done
RUN=$(mktemp -d /tmp/sp-peers.XXXXXX)
quantized=$RUN.quantized # meet empties RUN
keep=1
trap 'rc=$?; site_stop; [ $keep = 1 ] || rm -rf "$RUN" "$quantized"; exit $rc' EXIT
trap 'exit 1' INT TERM
export RUN

for peer in "${peers[@]}"; do prepare "$peer"; done
for peer in "${peers[@]}"; do
	[ -n "${env_of[$peer]:-}" ] || continue
	[ "$peer" = tlog ] || [ "$peer" = autoawq ] || [ -n "${P_HUB:-}" ] || meet
	echo "== $peer"
	# its first failure ends it, and it alone: a condition around it would switch that off
	set +e
	(set -e; "run_$peer")
	status=$?
	set -e
	if [ $status = 0 ]; then held+=("$peer"); else failed+=("$peer"); fi
done

last="peers: held: ${held[*]:-none}"
[ ${#failed[@]} -eq 0 ] || last+="; FAILED: ${failed[*]}"
[ ${#why_not[@]} -eq 0 ] || last+="; not run:"
for peer in "${!why_not[@]}"; do last+=" $peer (${why_not[$peer]})"; done
echo "$last"
[ ${#failed[@]} -eq 0 ] || exit 1 # its files and logs stay
keep=0
[ $# -eq 0 ] || [ ${#why_not[@]} -eq 0 ]
