#!/bin/bash
# run.sh SECONDS B TARGET... -- each fuzz target: first what crashed once (regressions/NAME), then
# SECONDS of fuzzing from the seeds and what earlier runs found ($B/fuzz-corpus/NAME, kept), one
# target a processor. Fails when one fails; the input that did it is kept in $B/fuzz-crashes.
set -euo pipefail

seconds=$1 B=$2
shift 2
cd "$(dirname "$0")/../.."
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
crashes=$B/fuzz-crashes logs=$B/fuzz-logs
rm -rf "$logs"
mkdir -p "$crashes" "$logs"

# what a parser of at most 64 KiB of input may take: a gigabyte, and ten seconds for one input
limits=(-rss_limit_mb=1024 -malloc_limit_mb=512 -timeout=10)

run_one() {
	local target=$1 name status=0 old said
	name=$(basename "$target")
	old=(tests/fuzz/regressions/"$name"/*)
	if [ -e "${old[0]}" ]; then
		"$target" "${limits[@]}" -artifact_prefix="$crashes/$name-" "${old[@]}" \
			>"$logs/$name" 2>&1 || status=$?
	fi
	if [ "$status" -eq 0 ]; then
		"$target" "${limits[@]}" -max_total_time="$seconds" -max_len=65536 \
			-print_final_stats=1 -artifact_prefix="$crashes/$name-" \
			"$B/fuzz-corpus/$name" "$B/fuzz-corpus/$name.seeds" \
			>>"$logs/$name" 2>&1 || status=$?
	fi
	if [ "$status" -eq 0 ]; then
		printf '  ok      fuzz/%-14s %9s inputs, %5s edges\n' "$name" \
			"$(sed -n 's/^stat::number_of_executed_units: *//p' "$logs/$name")" \
			"$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$logs/$name" | tail -n 1)"
		touch "$logs/$name.held"
		return
	fi
	# one printf, so that the outputs of parallel targets do not mix
	said=$(grep -vE '^#[0-9]+|NEW_FUNC' "$logs/$name" | cut -c -300 | tail -n 40 | sed 's/^/    | /')
	printf '  FAILED  fuzz/%s: status %s; its output (%s):\n%s\n%s\n' "$name" "$status" \
		"$logs/$name" "$said" \
		"  again: $target INPUT, where INPUT is $(sed -n 's/.*Test unit written to //p' \
			"$logs/$name" | tail -n 1); keep it in tests/fuzz/regressions/$name"
}

running=0
for target in "$@"; do
	run_one "$target" &
	running=$((running + 1))
	if [ "$running" -ge "$(nproc)" ]; then
		wait -n || true
		running=$((running - 1))
	fi
done
wait

held=$(find "$logs" -name '*.held' | wc -l)
echo "fuzz: $held of $# targets held for $seconds s each"
[ "$held" -eq $# ]
