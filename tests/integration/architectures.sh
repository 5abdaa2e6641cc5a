#!/bin/bash
# architectures.sh -- a tiny model of every architecture goes through fetch, quantization and a gate.
#
# The models are random (tests/fixtures/arch): they guess, so the one right word of a gate is that it
# cannot decide. What counts is that it asked both, and that each answered every question. Their
# hidden sizes need groups of 32.
# limit: 400
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/site.sh"
RUN=$(mktemp -d /tmp/sp-architectures.XXXXXX)
trap 'rc=$?; site_stop; [ $rc = 0 ] && rm -rf "$RUN"; exit $rc' EXIT
site_new "$RUN"

locals= models=()
for dir in "$TREE"/tests/fixtures/arch/*/; do
	name=$(basename "$dir")
	models+=("$name")
	cp -r "$dir" "$RUN/upstream/models/$name"
	python3 "$TREE/tests/integration/byte_tokenizer.py" "$RUN/upstream/models/$name"
	locals+="    m${#models[@]}: { name = \"tiny/$name\"; dir = \"/models/$name\"; };"$'\n'
done
[ ${#models[@]} -ge 8 ] || die "tests/fixtures/arch has ${#models[@]} models"
cat >"$RUN/upstream/etc/sallyport/sallyport.conf" <<CONF
side = "bastion";
registryd: {
  listen = "127.0.0.1:$P_HUB"; standalone = true;
  local: {
    fixture: { name = "fixture/qwen2-tiny"; dir = "/models/qwen2-tiny"; };
$locals  };
};
CONF
share=$RUN/bastion/usr/share/sallyport
mkdir -p "$share"/few/{dev,test}
head -n 20 "$share/mmlu/test/opposites_test.csv" >"$share/few/test/opposites_test.csv"
cp "$share/mmlu/dev/opposites_dev.csv" "$share/few/dev/"
cat >"$RUN/bastion/etc/sallyport/profiles.d/tiny.conf" <<'CONF'
approvals = 1;
quantize: { group_size = 32; calibration = "/usr/share/sallyport/calibration.jsonl"; samples = 16; sequence = 256; };
mmlu: { dataset = "/usr/share/sallyport/few"; shots = 0; max_drop_pp = 99.0; };
CONF
start upstream registryd
start bastion ledgerd
await 10 "ledgerd" B jobs
for d in fetcherd quantd validatord; do start bastion $d; done
await 10 "the upstream hub" curl -sf "http://127.0.0.1:$P_HUB/api/models/tiny/qwen2/revision/main"

store=$RUN/bastion/var/lib/sallyport/store/validatord/sha256
declare -A jobs
for name in "${models[@]}"; do
	jobs[$name]=$(B submit "hf:tiny/$name" --profile tiny --json | jq -er .job)
done
blocked() { job_is bastion "$1" BLOCKED; }
for name in "${models[@]}"; do
	job=${jobs[$name]}
	await 120 "$name at the gate" blocked "$job"
	[[ $(B job "$job" --json | jq -r .reason) == INCONCLUSIVE:*guessing* ]] ||
		die "$name: $(B job "$job" --json | jq -r .reason)"
	report=$(B job "$job" --json | jq -er '[.artifacts[] | select(.role == "report" and .store == "validatord")][0].digest')
	jq -e '.mmlu | .n == 20 and .baseline_nonfinite == 0 and .candidate_nonfinite == 0 and
		(.subjects[0] | (.baseline | test("^[ABCD]{20}$")) and (.candidate | test("^[ABCD]{20}$")))' \
		"$store/${report:0:2}/${report:2}" >/dev/null || die "$name: the gate's report: $(cat "$store/${report:0:2}/${report:2}")"
	# every expert has its count of calibration tokens, and a router that stays fp16
	losses=$(B job "$job" --json | jq -er '[.artifacts[] | select(.role == "report" and .store == "quantd")][0].digest')
	losses=$RUN/bastion/var/lib/sallyport/store/quantd/sha256/${losses:0:2}/${losses:2}
	experts=$(jq '.num_experts // .num_local_experts // 0' "$TREE/tests/fixtures/arch/$name/config.json")
	jq -e --argjson n "$experts" 'if $n == 0 then all(.layers[]; has("experts") | not) else
		([.layers[] | select(has("experts")) | .experts] | length >= 1 and
			all(.[]; length == $n and (map(.tokens) | add) > 0)) and
		any(.plan.modules_to_not_convert[]; endswith(".gate")) end' "$losses" >/dev/null ||
		die "$name: the quantizer's report: $(head -c 2000 "$losses")"
done
echo "architectures: ${models[*]}"
