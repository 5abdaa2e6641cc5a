#!/bin/bash
# demo.sh -- the whole path on one machine: make demo
#
# A model goes from an upstream hub over a lossy one-way wire to an admitted Deployment; then the same
# model with sabotaged weights is blocked, and a release with one flipped byte is quarantined. Exits
# 0 only if all of that was seen. Everything lies below ./run (RUN=DIR moves it) and stays there.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/site.sh"
RUN=${RUN:-$TREE/run}
trap 'rc=$?; site_stop; exit $rc' EXIT
trap 'exit 1' INT TERM

step() { printf '\n== %s\n' "$*"; }
say() { printf '   %s\n' "$*"; }
json() { jq -er "$1"; }
ms() { date +%s%3N; }
mib() { awk -v b="$1" 'BEGIN { printf "%.2f MiB", b / 1048576 }'; }
since() { awk -v a="$1" -v b="$(ms)" 'BEGIN { printf "%.1f s", (b - a) / 1000 }'; }

# log_states SIDE JOB: its states in the audit log, in order
log_states() { S "$1" log show "$2" --json | json '[.entries[] | select(.to != "") | .to] | unique_by(.) | join(" ")'; }
# lease_given SIDE JOB STEP: how many leases of that step the log knows
lease_given() { S "$1" log show "$2" --json | jq --arg s "$3" '[.entries[] | select(.event == "lease" and .step == $s)] | length'; }

submit() { B submit hf:fixture/qwen2-tiny --profile fixture --json | json .job; }

begin=$(ms)
step "Two sides below ${RUN#"$TREE"/}: keys, trust, configuration; eight daemons a path, 1 % loss on the wire"
site_new "$RUN"
for d in ledgerd fetcherd quantd validatord diode-txd; do "$d" --root "$RUN/bastion" -n >/dev/null; done
for d in ledgerd diode-rxd registryd admissiond; do "$d" --root "$RUN/enclave" -n >/dev/null; done
site_start

step "1. fetch -> AWQ -> gates (bastion)"
t=$(ms)
job=$(submit)
say "job $job: hf:fixture/qwen2-tiny, profile fixture"
await_state bastion "$job" AWAITING_APPROVAL 300
say "AWAITING_APPROVAL after $(since "$t")"
view=$(B job "$job" --json)
artifact() { jq -er --arg r "$1" --arg f "$2" '[.artifacts[] | select(.role == $r)][0][$f]' <<<"$view"; }
source_bytes=$(artifact source bytes)
candidate_bytes=$(artifact candidate bytes)
tree=$(artifact candidate digest)
say "size: $(mib "$source_bytes") bf16 -> $(mib "$candidate_bytes") AWQ 4 bit (method awq+)"
[ "$candidate_bytes" -lt "$source_bytes" ] || die "the quantized model is not smaller"
B job "$job" | sed 's/^/   /'

step "2. approval by an operator's own key, release, the wire"
t=$(ms)
approve "$job" | sed 's/^/   /'
await_state bastion "$job" SENT 60
await_state enclave "$job" REGISTERED 60
say "REGISTERED in the enclave after $(since "$t")"
name=$(jq -er .name <<<"$view")
models=$(E models --json)
[ "$(jq -r --arg n "$name" '[.models[] | select(.name == $n)][0].tree' <<<"$models")" = "$tree" ] ||
	die "the registered tree is not the one that was validated: $models"
received=$(E job "$job" --json)
detail() { jq -er --arg k "$1" '[.details[] | select(.key == $k)][0].value' <<<"$received"; }
repaired=$(detail repaired_symbols)
kill -TERM "$(cat "$RUN/wire-relay.pid")"
await 5 "the wire's statistics" test -s "$RUN/wire.json"
dropped=$(json .dropped <"$RUN/wire.json")
say "datagrams dropped by the wire: $dropped of $(json '.dropped + .forwarded' <"$RUN/wire.json"); symbols repaired: $repaired"
[ "$dropped" -gt 0 ] || die "the wire dropped nothing: the repair was not put to the test"
[ "$repaired" -gt 0 ] || die "the receiver repaired nothing"
rm -f "$RUN/wire.json"
wire 0.01

step "3. admission"
expect_review good "$name" true | sed 's/^/   /'
expect_review unknown "someone/else-7B" false | sed 's/^/   /'

step "4. the files, from the registry's store, verified once more"
E pull "$name" "$RUN/pulled" | sed 's/^/   /'
E verify "$RUN/pulled" | sed 's/^/   /'
say "mean squared error of each layer's output, rounded to nearest -> as quantized:"
jq -er '.layers | to_entries[] | .value as $v | [.key, $v.attn_before, $v.attn_error, $v.mlp_before, $v.mlp_error] | @tsv' \
	"$RUN/pulled/quantization-report.json" |
	awk '{ printf "     layer %d  attention %.2g -> %.2g  MLP %.2g -> %.2g\n", $1, $2, $3, $4, $5 }'
jq -e '.settings.method == "awq+" and ([.layers[] | .attn_error < .attn_before and .mlp_error < .mlp_before] | all)' \
	"$RUN/pulled/quantization-report.json" >/dev/null || die "a layer is worse than plain rounding would make it"
kld=$(sp-bench-kld "$TREE/tests/fixtures/model" "$RUN/pulled" "$TREE/tests/fixtures/heldout.jsonl")
say "KL divergence from bf16 on held-out text: $(jq -r '.kld * 100000 | round / 100000' <<<"$kld") nat a token; \
the same first choice at $(jq -r '10000 * .same_top / .tokens | round / 100' <<<"$kld") % of $(json .tokens <<<"$kld") tokens"
jq -e '.kld < 0.004' <<<"$kld" >/dev/null || die "the quantized model is too far from its source: $kld"

step "5. chain of custody"
E chain "$name@1" | sed 's/^/   /'

step "6. sabotaged weights: a quantizer that packs its nibbles in the wrong order and signs with quantd's own key"
stop bastion quantd
start bastion quantd quantd-sabotaged
t=$(ms)
bad=$(submit)
await_state bastion "$bad" BLOCKED 300
leases=$(lease_given bastion "$bad" package)
[ "$leases" = 0 ] || die "a package lease was given to a blocked job"
[ "$(lease_given bastion "$bad" validate)" -gt 0 ] || die "the log shows no validate lease: the count above proves nothing"
say "BLOCKED after $(since "$t"); package leases in the log: $leases"
say "$(B job "$bad" --json | json .reason)"
stop bastion quantd
start bastion quantd

step "7. one flipped byte in a release, sent by somebody who holds the link key"
forged=$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')
store=$RUN/bastion/var/lib/sallyport/store/diode-txd/sha256
blob() { echo "$store/${1:0:2}/${1:2}"; }
release=$(B job "$job" --json | jq -er '[.artifacts[] | select(.role == "release")][0].digest')
files=("$(blob "$release")" "$(blob "$tree")")
while read -r _ size digest _; do
	[ "$size" = 0 ] || files+=("$(blob "$digest")")
done < <(tail -n +2 "$(blob "$tree")" | sort -u -k3,3)
sp-e2e forge "$RUN/bastion/etc/sallyport/keys/diode-txd/link.key" "127.0.0.1:$P_WIRE" "$forged" 4000 "${files[@]}"
await 30 "the forged transfer in the enclave" E job "$forged"
await_state enclave "$forged" QUARANTINED 60
say "QUARANTINED: $(E job "$forged" --json | json .reason)"
[ "$(E models --json | jq '.models | length')" = 1 ] || die "the forged release shows among the models"

step "8. both audit logs, recomputed from their entries"
B log verify | sed 's/^/   bastion: /'
E log verify | sed 's/^/   enclave: /'
[ "$(E log show --json | jq '[.entries[] | select(.event == "admission")] | length')" -ge 2 ] ||
	die "the enclave's log lacks the admission decisions"

step "Done in $(since "$begin")"
