#!/bin/bash
# quantize_hostile.sh -- models, tokenizers and calibration texts that will not do are refused before
# the first layer, by a message that names file and tensor; want of memory or disk ends a run, keeps
# what was done, and the next one goes on with it.
set -euo pipefail

if [ -z "${HOSTILE_NAMESPACE:-}" ]; then # for a disk of its own
	namespace=(unshare --mount --map-root-user)
	[ "$(id -u)" = 0 ] && namespace=(unshare --mount)
	if "${namespace[@]}" mount -t tmpfs none /mnt 2>/dev/null; then
		HOSTILE_NAMESPACE=1 exec "${namespace[@]}" "$0"
	fi
	HOSTILE_NAMESPACE=0
fi
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-hostile.XXXXXX)
disk=
leave() {
	local rc=$?
	[ -f "$RUN/ports" ] && site_stop
	[ -z "$disk" ] || umount "$disk" || true
	[ $rc = 0 ] && rm -rf "$RUN"
	exit $rc
}
trap leave EXIT
mkdir -p "$RUN/log"
cd "$RUN"
model=$TREE/tests/fixtures/model
texts=$TREE/tests/fixtures/calibration.jsonl

# spoil NAME HOW…: a copy of the fixture with something wrong
spoil() { python3 "$TREE/tests/integration/spoil.py" "$model" "$@"; }

cases=0
# refused NAME WANT [OPTIONS…]: the model NAME is refused with all the words of WANT (one a line), and
# no layer was begun
refused() {
	local name=$1 want=$2 status=0 word
	shift 2
	sallyctl quantize "$name" out --calibration "$texts" --samples 16 "$@" >said 2>&1 || status=$?
	[ $status = 1 ] || die "$name: status $status: $(cat said)"
	while read -r word; do
		grep -qF -- "$word" said || die "$name: not a word of «$word»: $(cat said)"
	done <<<"$want"
	grep -q "of 4 layers" said && die "$name: layers were begun: $(cat said)"
	[ ! -e out ] && [ ! -e out.quantize-work ] || die "$name: something is left"
	cases=$((cases + 1))
	[ "$name" = "$model" ] || rm -rf "$name"
}
down=model.layers.3.mlp.down_proj.weight

spoil truncated truncate 1000
refused truncated $'model.safetensors\n'
spoil short-header header-beyond
refused short-header $'model.safetensors\nheader length'
spoil overlap overlap
refused overlap $'model.safetensors\noverlaps another tensor'
spoil hole hole
refused hole $'model.safetensors\nhole'
spoil dtype dtype $down I16
refused dtype "tensor $down is I16"
spoil shape config '{"intermediate_size": 512}'
refused shape $'tensor model.layers.0.mlp\nis not of shape [512, 256]'
spoil missing drop $down
refused missing "tensor $down is missing"
spoil extra add model.layers.4.mlp.up_proj.weight
refused extra "tensor model.layers.4.mlp.up_proj.weight is not one that config.json calls for"
spoil nan value $down 70001 c07f
refused nan "model.safetensors: tensor $down: value 70001 is nan"
spoil inf value model.embed_tokens.weight 5 80ff
refused inf "model.safetensors: tensor model.embed_tokens.weight: value 5 is -inf"
spoil large value model.norm.weight 0 8047
refused large "model.safetensors: tensor model.norm.weight: value 0 is 65536: fp16"
spoil odd resize 160
refused odd $'mlp.down_proj takes 160 values\ngroup size 128'
# … or quantized in smaller groups, or without those layers, as was asked for; and it says so
plan() { # plan NAME WANT OPTIONS…
	local name=$1 want=$2
	shift 2
	sallyctl quantize "$name" planned --calibration "$texts" --samples 16 "$@" --json >said || die "$name $*: $(cat said)"
	jq -e ".report.plan | $want" said >/dev/null || die "$name $*: $(jq -c .report.plan said)"
	rm -rf planned
}
spoil odd resize 160
plan odd '.group_size == 32 and (.modules_to_not_convert | length == 0)' --fallback smaller
plan odd '.group_size == 128 and (.modules_to_not_convert | any(contains("down_proj")))' --fallback leave
plan "$model" '.symmetric and (.modules_to_not_convert == ["layers.1.mlp"])' --symmetric --skip layers.1.mlp
rm -rf odd
spoil arch config '{"architectures": ["BertForMaskedLM"], "model_type": "bert"}'
refused arch "Bert"
spoil twice config '{"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}'
refused twice quantization_config
spoil shards index
refused shards model-00002-of-00002.safetensors
spoil unigram tokenizer '{"model": {"type": "Unigram", "vocab": []}}'
refused unigram $'tokenizer.json\nmodel.type'
spoil pretok tokenizer '{"pre_tokenizer": {"type": "Sorcery"}}'
refused pretok $'tokenizer.json\npre_tokenizer'
spoil notokenizer remove tokenizer.json
refused notokenizer tokenizer.json
spoil noconfig remove config.json
refused noconfig $'config.json\na model is a directory with'
spoil badconfig write config.json '{"architectures": ['
refused badconfig config.json
spoil link link
refused link $'symbolic link\ncp -rL'
# what would be in the way of files that are written last
for name in README.md quantization-report.json model-00001-of-00009.safetensors; do
	cp -r "$model" inway && rm -f "inway/$name" && mkdir "inway/$name" && echo >"inway/$name/x"
	refused inway "inway/$name is a directory"
done
cp -r "$model" card && head -c 16777217 /dev/zero >card/README.md
refused card README.md
refused "$model" "1200 texts were asked for" --samples 1200 --sequence 64
refused "$model" $'less than one block\ntake more texts' --samples 1
echo '{"text": 1}' >bad.jsonl
refused "$model" $'line 1\ntext' --calibration bad.jsonl
[ $cases = 28 ] || die "$cases cases, not 28"

# --- places that will not do are found before the first layer, too; DIR itself may be a link
cp -r "$model" there
mkdir beside
ln -s there link
misplaced() { # WANT DIR OUT OPTIONS…
	local want=$1 status=0
	shift
	sallyctl quantize --calibration "$texts" --samples 16 "$@" >said 2>&1 || status=$?
	[ $status = 1 ] && grep -qF -- "$want" said || die "$*: status $status, not «$want»: $(cat said)"
	grep -q "of 4 layers" said && die "$*: layers were begun: $(cat said)"
	diff -r "$model" there || die "$*: something is left in the model"
}
misplaced "there/out lies within" there there/out
misplaced "link/new/out lies within" "$PWD/there" link/new/out
misplaced "beside/../there/out lies within" there beside/../there/out
misplaced "there is the model itself" link there
misplaced "--report beside is a directory" there out --report beside
misplaced "--report nothere/report.json cannot be written" there out --report nothere/report.json
misplaced "--calibration nothere.jsonl" there out --calibration nothere.jsonl
sallyctl quantize link beside/link-out --calibration "$texts" --samples 16 --json >said || die "DIR is a link: $(cat said)"
rm -rf there beside link

# --- want of memory: what was done is kept
quantize=(sallyctl quantize "$model" made --calibration "$texts" --samples 64 --threads 1)
done_layers() { find made.quantize-work -name 'layer-*.safetensors' | wc -l; }
some_layers() { [ "$(done_layers)" -ge 1 ]; }
"${quantize[@]}" >/dev/null 2>run.log &
pid=$!
await 120 "a layer" some_layers
kill -9 $pid 2>/dev/null || die "it ended before it could be killed"
wait $pid 2>/dev/null || true
layers=$(done_layers)
status=0
# room for the program, its libraries and the model, but not for what the layers give
(ulimit -v 110000 && "${quantize[@]}" >/dev/null 2>said) || status=$?
[ $status = 1 ] && grep -q "out of memory.*are kept in made.quantize-work" said || die "without memory: status $status: $(cat said)"
[ "$(done_layers)" = "$layers" ] && [ ! -e made ] || die "without memory: $(done_layers) layers are left of $layers"

if [ "$HOSTILE_NAMESPACE" = 0 ]; then
	echo "[  SKIPPED ] 1 test(s), listed below:"
	echo "[  SKIPPED ] quantize_hostile.sh: full disks: nobody may mount a tmpfs here"
	exit 0
fi

# --- a full disk, in a step of quantd: the attempt fails, keeps its layers, and the next goes on
site_new "$RUN/site"
sed 's/samples = 128/samples = 16/' "$TREE/tests/e2e/fixture.conf" \
	>"$RUN/bastion/etc/sallyport/profiles.d/fixture.conf"
disk=$RUN/bastion/var/lib/sallyport/store/quantd
mkdir -p "$disk"
mount -t tmpfs -o size=1m none "$disk"
start upstream registryd
start bastion ledgerd
await 10 "ledgerd" B jobs
start bastion fetcherd
start bastion quantd
job=$(B submit hf:fixture/qwen2-tiny --profile fixture --json | jq -er .job)
again() { [ "$(B log show "$job" --json | jq '[.entries[] | select(.event == "again")] | length')" -ge 1 ]; }
await 120 "an attempt that finds the disk full" again
B log show "$job" --json | jq -r '.entries[] | select(.event == "again") | .reason' | grep -q "No space left" ||
	die "the log does not say that the disk is full"
work=$RUN/bastion/var/lib/sallyport/state/quantd/work
[ "$(find "$work" -name 'layer-*.safetensors' | wc -l)" = 4 ] || die "layers were lost: $(find "$work")"
mount -o remount,size=64m "$disk"
candidate() { B job "$job" --json | jq -e '[.artifacts[] | select(.role == "candidate")] | length == 1'; }
await 120 "the quantized tree" candidate
echo "quantize_hostile: $cases kinds of input are refused before the first layer; memory and disk that were short cost no layer"
