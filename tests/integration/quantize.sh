#!/bin/bash
# quantize.sh -- the same bytes, whatever happens: the quantizer run twice, with another number of
# threads, killed at five random moments and resumed, and as a step of quantd that is killed, too, all
# give one tree; `reproduce` says so, and says what differs where a quantizer was sabotaged.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-quantize.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"
cd "$RUN"

model=$TREE/tests/fixtures/model
options=(--name fixture/qwen2-tiny --calibration "$TREE/tests/fixtures/calibration.jsonl" --samples 16)
quantize() { # OUT OPTIONS…: prints the tree's digest
	local out=$1
	shift
	sallyctl quantize "$model" "$out" "${options[@]}" "$@" --json | jq -er .tree
}

one=$(quantize one --threads 1 --report report.json)
[ "$(quantize two --threads 2)" = "$one" ] || die "another number of threads gives another tree"
cmp -s report.json one/quantization-report.json || die "--report is not the tree's report"
jq -e '.format == "sallyport-quantization/1" and (.layers | length == 4) and .calibration.texts == 16' \
	report.json >/dev/null || die "the report: $(head -c 300 report.json)"
diff -r one two >/dev/null || die "two runs differ"
for file in "$model"/{tokenizer.json,chat_template.jinja,generation_config.json}; do
	cmp -s "$file" "one/$(basename "$file")" || die "$(basename "$file") was changed"
done
python3 - one/quantization-losses.svg <<-'EOF' || die "the picture: $(head -c 300 one/quantization-losses.svg)"
	import sys, xml.etree.ElementTree as xml
	texts = [e.text for e in xml.parse(sys.argv[1]).iter("{http://www.w3.org/2000/svg}title")]
	wanted = [f"layer {i}, {part}{how}: " for i in range(4) for part in ("attention", "MLP")
	          for how in ("", ", rounded to nearest")]
	sys.exit(any(sum(text.startswith(title) for text in texts) != 1 for title in wanted))
EOF
grep -q "^base_model: fixture/qwen2-tiny$" one/README.md || die "the model card names no base model"
[ ! -e one.quantize-work ] || die "work is left beside a finished tree"

# --- what is there already is not touched
status=0
sallyctl quantize "$model" one "${options[@]}" 2>said || status=$?
[ $status = 1 ] && grep -q "not empty" said || die "OUT that is not empty: status $status, $(cat said)"

# --- killed: at most the layer in hand is lost, and nothing half-done can be seen
seen() { grep -oE "[0-9]+ of 4 layers" "$1" | tail -n 1 | cut -d' ' -f1; }
reached() { grep -q "$1 of 4 layers" run.log; }
before=0
for at in $(shuf -i 0-3 -n 4 | cat - <(shuf -i 0-3 -n 1) | sort -n); do
	sallyctl quantize "$model" killed "${options[@]}" >out.log 2>run.log &
	pid=$!
	await 120 "layer $at" reached "$at"
	sleep "0.0$((RANDOM % 10))" # somewhere in the layer behind it
	kill -9 $pid 2>/dev/null || die "it ended before it could be killed: $(cat run.log)"
	wait $pid 2>/dev/null || true
	first=$(grep -oE "[0-9]+ of 4 layers$" run.log | head -n 1 | cut -d' ' -f1)
	[ "$first" -ge "$before" ] || die "$before layers were done, but it went on behind $first"
	before=$(seen run.log)
	[ ! -e killed ] || die "a tree that is not whole can be seen"
done
[ "$(quantize killed)" = "$one" ] || die "a run that was killed five times gives another tree"
[ ! -e killed.quantize-work ] || die "work is left beside a finished tree"

# --- the same by daemons, with quantd killed in the middle of its step
sed 's/samples = 128/samples = 16/' "$TREE/tests/e2e/fixture.conf" \
	>"$RUN/bastion/etc/sallyport/profiles.d/fixture.conf"
start upstream registryd
start bastion ledgerd
await 10 "ledgerd" B jobs
start bastion fetcherd
start bastion quantd
layer() { [ "$(B job "$1" --json | jq -r .done)" -ge "$2" ] && B job "$1" --json | jq -re '.phase | startswith("layer")'; }
artifact() { B job "$1" --json | jq -er --arg r "$2" '[.artifacts[] | select(.role == $r)][0].digest'; }
submit() { B submit hf:fixture/qwen2-tiny --profile fixture --json | jq -er .job; }
job=$(submit)
await 120 "a layer of quantd's" layer "$job" 1
stop bastion quantd KILL
start bastion quantd
await 240 "the quantized tree" artifact "$job" candidate
[ "$(artifact "$job" candidate)" = "$one" ] || die "quantd's tree $(artifact "$job" candidate) is not $one"

# --- reproduced, and a tree that is not what its attestation says
B reproduce "$job" --json >said || die "reproduce: $(cat said)"
jq -e --arg t "$one" '.equal and .tree == $t and .made == $t' said >/dev/null || die "reproduce: $(cat said)"
[ ! -e "reproduce-${job:0:8}" ] || die "reproduce left its work"

stop bastion quantd
start bastion quantd quantd-sabotaged
bad=$(submit)
await 240 "a sabotaged tree" artifact "$bad" candidate
status=0
B reproduce "$bad" --work again >said 2>err || status=$?
[ $status = 3 ] || die "a tree of other code: reproduce ends with $status: $(cat said err)"
grep -q "differs *model.safetensors" said || die "reproduce does not name the file: $(cat said err)"
[ "$(grep -c "differs" said)" = 1 ] || die "reproduce names more than the weights: $(cat said)"
echo "quantize: one tree $one by two runs, one and two threads, five kills, quantd; sabotage is found by reproduce"
